// Batch norm, with a residual and ReLU: operator, autograd and direct function. See activations.cpp
// for the parts of an operator.
//
// The operator is functional: it returns the batch's mean and unbiased variance, and the caller moves
// running statistics with plain torch. A mutable argument (`Tensor(a!)?`) would need a
// functionalization of its own under an autograd function; this way fake tensors, opcheck and
// torch.compile have no special case. For plain tensors the caller has move_statistics(), since four
// operators of torch cost more than the batch norm of a small tensor.
//
// Sums over pixels are split by size alone and added up in a fixed order, so that no result depends on
// the number of threads.
#include "bindings/batch_norms.h"
#include "bindings/cpu_tensors.h"

#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows of pixels for one task: enough for the sums to be cheap beside them.
int64_t pixel_chunks(const Layout& l) {
  const int64_t chunks = l.count() / 256;
  return chunks < 1 ? 1 : (chunks > 64 ? 64 : chunks);
}

// f(chunk, first row, last row, first channel, last channel), in parallel.
template <class F>
void for_tiles(const Layout& l, int64_t chunks, F f) {
  constexpr int64_t wide = 256;  // channels
  const int64_t rows = l.count(), groups = (l.channels + wide - 1) / wide;
  const int64_t size = rows * l.channels / (chunks * groups) + 1;
  at::parallel_for(0, chunks * groups, GRAIN / size + 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t chunk = task / groups, c = task % groups * wide;
      f(chunk, rows * chunk / chunks, rows * (chunk + 1) / chunks, c,
        std::min(c + wide, l.channels));
    }
  });
}

// Mean and biased variance of each channel of pixels: moments of chunks, merged in their order
// (Chan, Golub & LeVeque 1979).
void pixel_statistics(Type type, const BatchNorm& k, const Layout& l, const Tensor& x) {
  const int64_t chunks = pixel_chunks(l), channels = l.channels;
  const Tensor partial = at::empty({2, chunks, channels}, x.options().dtype(at::kDouble));
  double *means = doubles(partial), *squares = means + chunks * channels;
  const auto kernel = kernels().pixel_moments;
  for_tiles(l, chunks, [&](int64_t chunk, int64_t first, int64_t last, int64_t c0, int64_t c1) {
    kernel(type, k.x, k.stream, channels, first, last, c0, c1, means + chunk * channels,
           squares + chunk * channels);
  });
  std::fill_n(k.mean, channels, 0.0);
  std::fill_n(k.variance, channels, 0.0);
  double count = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {  // all channels side by side: no chain of steps
    const double n = static_cast<double>(l.count() * (chunk + 1) / chunks -
                                         l.count() * chunk / chunks);
    const double *other = means + chunk * channels, *spread = squares + chunk * channels;
    const double share = n / (count + n), weight = count * share;
    for (int64_t c = 0; c < channels; ++c) {
      const double step = other[c] - k.mean[c];
      k.mean[c] += step * share;
      k.variance[c] += spread[c] + step * step * weight;
    }
    count += n;
  }
  for (int64_t c = 0; c < channels; ++c)
    k.variance[c] = k.variance[c] < 0 ? 0 : k.variance[c] / count;
}

// Rows middle, scale, offset of y = (x - middle) scale + offset; see kernels.h.
template <class R>
Tensor affine_rows(const Tensor& like, const double* mean, const R* rstd, const R* w, const R* b,
                   int64_t channels) {
  const Tensor rows = at::empty({3, channels}, like.options());
  R* to = rows.mutable_data_ptr<R>();
  for (int64_t c = 0; c < channels; ++c) {
    const R middle = static_cast<R>(mean[c]);
    const double scale = static_cast<double>(rstd[c]) * (w ? w[c] : R(1));
    to[c] = middle;
    to[channels + c] = static_cast<R>(scale);
    to[2 * channels + c] = static_cast<R>((b ? b[c] : R(0)) - (mean[c] - middle) * scale);
  }
  return rows;
}

void pixel_norm(Type type, const BatchNorm& k, const Layout& l, const Tensor& x,
                const Tensor& rstd) {
  if (k.training) pixel_statistics(type, k, l, x);
  with_real(rstd.scalar_type(), [&](auto zero) {
    using R = decltype(zero);
    R* inverse = static_cast<R*>(k.rstd);
    for (int64_t c = 0; c < l.channels; ++c) {
      if (!k.training) {
        k.mean[c] = static_cast<const R*>(k.running_mean)[c];
        k.variance[c] = static_cast<const R*>(k.running_var)[c];
      }
      inverse[c] = static_cast<R>(1 / std::sqrt(k.variance[c] + k.eps));
    }
    const Tensor coefficients =
        affine_rows<R>(rstd, k.mean, inverse, static_cast<const R*>(k.w),
                       static_cast<const R*>(k.b), l.channels);
    kernels().pixel_order(type, raw(coefficients), 3, l.channels);
    at::parallel_for(0, l.count(), GRAIN / l.channels + 1, [&](int64_t begin, int64_t end) {
      kernels().pixel_apply(type, k, pointer(coefficients), begin, end);
    });
  });
}

// Bytes of the bits that say what the ReLU let through of an x that is laid out.
template <class Int>
Int passed_size(const Tensor& x) {
  const auto size = [&](int64_t d) {
    if constexpr (std::is_same_v<Int, int64_t>)
      return x.size(d);
    else
      return x.sym_size(d);
  };
  Int area = 1;
  for (int64_t d = 2; d < x.dim(); ++d) area = area * size(d);
  const Int rows = is_pixels(x) ? area : size(1), columns = is_pixels(x) ? size(1) : area;
  return size(0) * rows * passed_bytes(columns);
}

BatchResult batch_norm(const Tensor& input, const OptionalTensor& residual,
                       const OptionalTensor& weight, const OptionalTensor& bias,
                       const OptionalTensor& running_mean, const OptionalTensor& running_var,
                       bool training, double eps, bool relu, double ceiling, bool keep) {
  check_batch(input, residual, weight, bias, running_mean, running_var, training);
  const Type type = type_of("batch_norm", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor x = laid_out(input);
  const Layout l = layout_of(x);
  const int64_t count = l.count();
  TORCH_CHECK(!training || count != 1 || l.channels == 0,
              "benchbench::batch_norm: training needs more than one value per channel, the input "
              "has shape ", input.sizes(), "; use evaluation for single values");
  const OptionalTensor r =
      residual.has_value() ? OptionalTensor(in_order_of(x, *residual)) : std::nullopt;
  const OptionalTensor w = real(weight, statistics), b = real(bias, statistics);
  const OptionalTensor m = training ? std::nullopt : real(running_mean, statistics);
  const OptionalTensor v = training ? std::nullopt : real(running_var, statistics);
  const Tensor y = new_like(x), rstd = new_tensor({l.channels}, statistics);
  const Tensor mean = new_tensor({l.channels}, at::kDouble), variance = new_like(mean);
  const bool keeps = keep && relu && r.has_value();
  const Tensor passed = new_tensor({keeps ? passed_size<int64_t>(x) : 0}, at::kByte);
  if (x.numel() == 0) {
    mean.zero_();
    variance.zero_();
    rstd.zero_();
    return {y, mean, rstd, variance, passed};
  }
  const BatchNorm k{training,   relu,       l.batch,    l.channels,    l.area,           eps,
                    pointer(x), pointer(r), pointer(w), pointer(b),    pointer(m),       pointer(v),
                    raw(y),     doubles(mean), doubles(variance), raw(rstd),     most_of(ceiling),
                    streams(y), keeps ? passed.mutable_data_ptr<uint8_t>() : nullptr};
  if (l.pixels)
    pixel_norm(type, k, l, x, rstd);
  else
    at::parallel_for(0, l.channels, GRAIN / count + 1, [&](int64_t first, int64_t last) {
      kernels().plane_norm(type, k, first, last);
    });
  // torch's running variance is the unbiased one.
  if (training && count > 1)
    for (int64_t c = 0; c < l.channels; ++c)
      k.variance[c] *= static_cast<double>(count) / static_cast<double>(count - 1);
  return {y, mean, rstd, variance, passed};
}

BatchResult batch_norm_meta(const Tensor& input, const OptionalTensor& residual,
                            const OptionalTensor& weight, const OptionalTensor& bias,
                            const OptionalTensor& running_mean, const OptionalTensor& running_var,
                            bool training, double, bool relu, double, bool keep) {
  check_batch(input, residual, weight, bias, running_mean, running_var, training);
  const Tensor y = at::empty_like(laid_out(input));
  const Tensor mean = at::empty_symint({input.sym_size(1)}, input.options().dtype(at::kDouble));
  const bool keeps = keep && relu && residual.has_value() && !input.is_cuda();
  return {y, mean, at::empty_symint({input.sym_size(1)}, input.options().dtype(real_of(input))),
          at::empty_like(mean),
          at::empty_symint({keeps ? passed_size<c10::SymInt>(y) : c10::SymInt(0)},
                           input.options().dtype(at::kByte))};
}

void pixel_norm_backward(Type type, const BatchNormBackward& k, const Layout& l, const Tensor& rstd,
                         const Tensor& mean) {
  with_real(rstd.scalar_type(), [&](auto zero) {
    using R = decltype(zero);
    const int64_t channels = l.channels;
    const R *inverse = static_cast<const R*>(k.rstd), *w = static_cast<const R*>(k.w);
    const Tensor forward =
        affine_rows<R>(rstd, k.mean, inverse, w, static_cast<const R*>(k.b), channels);
    kernels().pixel_order(type, raw(forward), 3, channels);
    const Tensor sums = at::zeros_like(mean.expand({2, channels}), at::MemoryFormat::Contiguous);
    double *sum = doubles(sums), *product = sum + channels;
    if (k.training || k.sums) {
      const int64_t chunks = pixel_chunks(l);
      const Tensor partial = at::empty({2, chunks, channels}, mean.options());
      double *s = doubles(partial), *p = s + chunks * channels;
      for_tiles(l, chunks, [&](int64_t chunk, int64_t first, int64_t last, int64_t c0, int64_t c1) {
        kernels().pixel_sums(type, k, pointer(forward), first, last, c0, c1, s + chunk * channels,
                             p + chunk * channels);
      });
      for (int64_t chunk = 0; chunk < chunks; ++chunk)
        for (int64_t c = 0; c < channels; ++c) {
          sum[c] += s[chunk * channels + c];
          product[c] += p[chunk * channels + c];
        }
    }
    const Tensor gradient = at::empty({3, channels}, rstd.options());
    R *a = gradient.mutable_data_ptr<R>(), *b = a + channels, *c0 = b + channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double rest = k.mean[c] - static_cast<R>(k.mean[c]), inv = inverse[c];
      const double slope = inv * (w ? w[c] : R(1)), m = static_cast<double>(l.count());
      const double cross = product[c] - rest * sum[c];  // sum of g (x - mean)
      const double curve = k.training ? -slope * inv * inv * cross / m : 0;
      a[c] = static_cast<R>(slope);
      b[c] = static_cast<R>(curve);
      c0[c] = static_cast<R>(k.training ? -slope * sum[c] / m - curve * rest : 0);
      if (k.sums) {
        static_cast<R*>(k.dw)[c] = static_cast<R>(cross * inv);
        static_cast<R*>(k.db)[c] = static_cast<R>(sum[c]);
      }
    }
    kernels().pixel_order(type, raw(gradient), 3, channels);
    at::parallel_for(0, l.count(), GRAIN / channels + 1, [&](int64_t begin, int64_t end) {
      kernels().pixel_gradient(type, k, pointer(forward), pointer(gradient), begin, end);
    });
  });
}

// `kept` is given when a residual was added before the ReLU, so that the input does not tell what it let
// through: the bits that forward kept, on CUDA its output. Weight and bias gradients are empty unless
// `need_parameters`.
BatchGradient batch_norm_backward(const Tensor& grad, const Tensor& input,
                                  const OptionalTensor& kept, const OptionalTensor& weight,
                                  const OptionalTensor& bias, const Tensor& mean,
                                  const Tensor& rstd, bool training, bool relu, bool need_residual,
                                  bool need_parameters, double ceiling) {
  check_same_shape("batch_norm", "the gradient", input, grad);
  const Type type = type_of("batch_norm", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor x = laid_out(input), dy = in_order_of(x, grad);
  const OptionalTensor w = real(weight, statistics), b = real(bias, statistics);
  const Tensor center = mean.contiguous(), inverse = rstd.contiguous();
  const Layout l = layout_of(x);
  const Tensor dx = at::empty_like(x);
  const Tensor dr = need_residual ? at::empty_like(x) : at::empty({0}, x.options());
  const Tensor dw = at::empty({need_parameters ? l.channels : 0}, inverse.options());
  const Tensor db = at::empty_like(dw);
  const at::ScalarType kind = gradient_type(weight, input);
  if (x.numel() == 0) {
    dw.zero_();
    db.zero_();
    return {dx, dr, as_type(dw, kind), as_type(db, kind)};
  }
  TORCH_CHECK(!kept.has_value() || (kept->scalar_type() == at::kByte && kept->is_contiguous() &&
                                    kept->numel() == passed_size<int64_t>(x)),
              "benchbench::batch_norm_backward: `kept` must be the bits that batch_norm(keep=True) "
              "returned for an input of this layout");
  const BatchNormBackward k{training,    relu,       need_parameters, l.batch,
                            l.channels,  l.area,     pointer(dy),     pointer(x),
                            kept.has_value() ? kept->const_data_ptr<uint8_t>() : nullptr,
                            pointer(w),  pointer(b), center.const_data_ptr<double>(),
                            pointer(inverse), raw(dx), raw_if(need_residual, dr),
                            raw_if(need_parameters, dw), raw_if(need_parameters, db),
                            most_of(ceiling), streams(dx)};
  if (l.pixels)
    pixel_norm_backward(type, k, l, inverse, center);
  else
    at::parallel_for(0, l.channels, GRAIN / l.count() + 1, [&](int64_t first, int64_t last) {
      kernels().plane_norm_backward(type, k, first, last);
    });
  return {dx, dr, as_type(dw, kind), as_type(db, kind)};
}

BatchGradient batch_norm_backward_meta(const Tensor& grad, const Tensor& input,
                                       const OptionalTensor&, const OptionalTensor& weight,
                                       const OptionalTensor&, const Tensor&, const Tensor&, bool,
                                       bool, bool need_residual, bool need_parameters, double) {
  check_same_shape("batch_norm", "the gradient", input, grad);
  const Tensor dx = at::empty_like(laid_out(input));
  const Tensor dw =
      at::empty_symint({need_parameters ? input.sym_size(1) : c10::SymInt(0)},
                       input.options().dtype(gradient_type(weight, input)));
  return {dx, need_residual ? at::empty_like(dx) : at::empty({0}, dx.options()), dw,
          at::empty_like(dw)};
}

struct Batch : torch::autograd::Function<Batch> {
  static BatchResult call(const Tensor& input, const OptionalTensor& residual,
                          const OptionalTensor& weight, const OptionalTensor& bias,
                          const OptionalTensor& running_mean, const OptionalTensor& running_var,
                          bool training, double eps, bool relu, double ceiling, bool keep) {
    static const auto op =
        typed_operator<BatchResult(const Tensor&, const OptionalTensor&, const OptionalTensor&,
                                   const OptionalTensor&, const OptionalTensor&,
                                   const OptionalTensor&, bool, double, bool, double, bool)>(
            "benchbench::batch_norm");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, residual, weight, bias, running_mean, running_var, training, eps, relu,
                   ceiling, keep);
  }
  static variable_list forward(AutogradContext* context, const Tensor& input,
                               const OptionalTensor& residual, const OptionalTensor& weight,
                               const OptionalTensor& bias, const OptionalTensor& running_mean,
                               const OptionalTensor& running_var, bool training, double eps,
                               bool relu, double ceiling) {
    auto [y, mean, rstd, variance, passed] = call(input, residual, weight, bias, running_mean,
                                                  running_var, training, eps, relu, ceiling, true);
    const Tensor& knows = passed.sym_numel() == 0 ? y : passed;  // what the ReLU let through
    const Tensor hidden = relu && residual.has_value() ? knows : Tensor();
    context->save_for_backward({input, hidden, unwrap(weight), unwrap(bias), mean, rstd});
    context->saved_data["training"] = training;
    context->saved_data["relu"] = relu;
    context->saved_data["ceiling"] = ceiling;
    context->saved_data["residual"] = residual.has_value() && residual->requires_grad();
    context->mark_non_differentiable({mean, rstd, variance, passed});
    context->set_materialize_grads(false);  // or zeros would be made for the statistics
    return {y, mean, rstd, variance, passed};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<BatchGradient(const Tensor&, const Tensor&, const OptionalTensor&,
                                     const OptionalTensor&, const OptionalTensor&, const Tensor&,
                                     const Tensor&, bool, bool, bool, bool, double)>(
            "benchbench::batch_norm_backward");
    if (!grads[0].defined()) return variable_list(10);
    const auto saved = context->get_saved_variables();
    const Tensor &weight = saved[2], &bias = saved[3];
    const bool relu = context->saved_data["relu"].toBool();
    const bool residual = context->saved_data["residual"].toBool();
    // Without a ReLU the residual's gradient is what arrives.
    auto [dx, dr, dw, db] =
        op.call(grads[0], saved[0], given(saved[1]), given(weight), given(bias), saved[4], saved[5],
                context->saved_data["training"].toBool(), relu, residual && relu,
                needed(weight) || needed(bias), context->saved_data["ceiling"].toDouble());
    return {dx,
            !residual ? Tensor() : relu ? dr : grads[0],
            needed(weight) ? dw.to(weight.scalar_type()) : Tensor(),
            needed(bias) ? db.to(bias.scalar_type()) : Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

BatchResult batch_norm_autograd(const Tensor& input, const OptionalTensor& residual,
                                const OptionalTensor& weight, const OptionalTensor& bias,
                                const OptionalTensor& running_mean,
                                const OptionalTensor& running_var, bool training, double eps,
                                bool relu, double ceiling, bool keep) {
  if (!wants_grad(input, {&residual, &weight, &bias}))
    return Batch::call(input, residual, weight, bias, running_mean, running_var, training, eps,
                       relu, ceiling, keep);
  auto r = Batch::apply(input, residual, weight, bias, running_mean, running_var, training, eps,
                        relu, ceiling);
  return {r[0], r[1], r[2], r[3], r[4]};
}

// Whether all that happens to x goes to the CPU's kernels: no mode, no transform, no wrapper.
bool is_plain(const Tensor& x) {
  const auto usual = c10::default_included_set | c10::autograd_dispatch_keyset |
                     c10::autocast_dispatch_keyset;
  const auto more = c10::impl::tls_local_dispatch_key_set().included_ - usual;
  const auto own = x.key_set() - usual;
  return more.empty() && own == c10::DispatchKeySet(c10::DispatchKey::CPU);
}

// running += momentum (found - running), as lerp_() does it, for both statistics of a batch; false, and
// nothing done, where one is not a plain real tensor.
bool move_statistics(const OptionalTensor& mean, const OptionalTensor& variance,
                     const Tensor& found_mean, const Tensor& found_variance, double momentum) {
  const auto fits = [&](const OptionalTensor& running) {
    if (!running.has_value()) return true;
    const bool real = running->scalar_type() == at::kFloat || running->scalar_type() == at::kDouble;
    return real && is_plain(*running) && running->is_contiguous() && !running->is_inference() &&
           running->numel() == found_mean.numel();
  };
  if (!is_plain(found_mean) || !is_plain(found_variance) || !fits(mean) || !fits(variance))
    return false;
  const auto move = [&](const OptionalTensor& running, const Tensor& found) {
    if (!running.has_value()) return;
    const double* to = found.const_data_ptr<double>();
    with_real(running->scalar_type(), [&](auto zero) {
      using R = decltype(zero);
      R* r = running->mutable_data_ptr<R>();
      const R share = static_cast<R>(momentum);
      for (int64_t c = 0; c < found.numel(); ++c) {
        const R end = static_cast<R>(to[c]), way = end - r[c];
        r[c] = std::abs(share) < R(0.5) ? r[c] + share * way : end - way * (R(1) - share);
      }
    });
    running->unsafeGetTensorImpl()->bump_version();
  };
  move(mean, found_mean);
  move(variance, found_variance);
  return true;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  m.def(
      "batch_norm(Tensor input, Tensor? residual, Tensor? weight, Tensor? bias,"
      " Tensor? running_mean, Tensor? running_var, bool training, float eps, bool relu,"
      " float ceiling, bool keep=False)"
      " -> (Tensor output, Tensor mean, Tensor rstd, Tensor variance, Tensor passed)");
  m.def(
      "batch_norm_backward(Tensor grad, Tensor input, Tensor? kept, Tensor? weight, Tensor? bias,"
      " Tensor mean, Tensor rstd, bool training, bool relu, bool need_residual,"
      " bool need_parameters, float ceiling) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  m.impl("batch_norm", &batch_norm);
  m.impl("batch_norm_backward", &batch_norm_backward);
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  m.impl("batch_norm", &batch_norm_meta);
  m.impl("batch_norm_backward", &batch_norm_backward_meta);
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  m.impl("batch_norm", &batch_norm_autograd);
  // A second derivative does not exist here: it must raise, not be silently zero.
  m.impl("batch_norm_backward", torch::autograd::autogradNotImplementedFallback());
}

void bind_batch_norms(pybind11::module_& m) {
  m.def("batch_norm", &batch_norm);
  m.def("move_statistics", &move_statistics,
        "Moves running statistics towards those of a batch; False where that needs torch.");
}

}  // namespace benchbench
