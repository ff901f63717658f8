// Group norm (instance norm: one channel a group) and local response norm: operators, autograd and
// direct functions. See activations.cpp for the parts of an operator.
//
// Sums are split by size alone and added up in a fixed order, so that no result depends on the number
// of threads.
#include "bindings/group_norms.h"

#include "bindings/cpu_tensors.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// f(task, sample, first row, last row) over chunks of each sample's pixels, in parallel. Rows are
// counted through all samples.
template <class F>
void for_pixels(const Grouped& l, int64_t chunks, F f) {
  const int64_t size = l.area * l.channels / chunks + 1;
  at::parallel_for(0, l.batch * chunks, GRAIN / size + 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t sample = task / chunks, chunk = task % chunks, start = sample * l.area;
      f(task, sample, start + l.area * chunk / chunks, start + l.area * (chunk + 1) / chunks);
    }
  });
}

int64_t chunks_of(const Grouped& l) {
  return std::clamp<int64_t>(l.area / 256, 1, 64);
}

// Rows middle, scale and offset for each sample; see kernels.h.
template <class R>
Tensor sample_rows(const Grouped& l, const Tensor& rstd, const double* mean, const R* w, const R* b) {
  const int64_t n = l.channels, planes = l.planes();
  const Tensor rows = at::empty({l.batch, 3, n}, rstd.options());
  const R* inverse = rstd.const_data_ptr<R>();
  R* to = rows.mutable_data_ptr<R>();
  for (int64_t sample = 0; sample < l.batch; ++sample, to += 3 * n)
    for (int64_t c = 0; c < n; ++c) {
      const int64_t group = sample * l.groups + c / planes;
      const R middle = static_cast<R>(mean[group]);
      const double scale = static_cast<double>(inverse[group]) * (w ? w[c] : R(1));
      to[c] = middle;
      to[n + c] = static_cast<R>(scale);
      to[2 * n + c] = static_cast<R>((b ? b[c] : R(0)) - (mean[group] - middle) * scale);
    }
  return rows;
}

// Channels last: moments of each channel and chunk, merged by group in their order (Chan, Golub &
// LeVeque 1979), then one affine map for each channel of each sample.
template <class R>
void pixel_groups(Type type, const GroupNorm& k, const Grouped& l, const Tensor& rstd) {
  const int64_t chunks = chunks_of(l), n = l.channels, planes = l.planes();
  const Tensor partial = at::empty({2, l.batch * chunks, n}, rstd.options().dtype(at::kDouble));
  double *means = doubles(partial), *squares = means + l.batch * chunks * n;
  for_pixels(l, chunks, [&](int64_t task, int64_t, int64_t first, int64_t last) {
    kernels().pixel_moments(type, k.x, k.stream, n, first, last, 0, n, means + task * n,
                            squares + task * n);
  });
  R* inverse = static_cast<R*>(k.rstd);
  for (int64_t group = 0; group < l.batch * l.groups; ++group) {
    const int64_t sample = group / l.groups, c0 = group % l.groups * planes;
    double count = 0, mean = 0, square = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const double rows =
          static_cast<double>(l.area * (chunk + 1) / chunks - l.area * chunk / chunks);
      for (int64_t c = c0; c < c0 + planes; ++c) {
        const int64_t at = (sample * chunks + chunk) * n + c;
        const double step = means[at] - mean, all = count + rows;
        mean += step * (rows / all);
        square += squares[at] + step * step * (count * rows / all);
        count = all;
      }
    }
    k.mean[group] = mean;
    k.variance[group] = square < 0 ? 0 : square / count;
    inverse[group] = static_cast<R>(1 / std::sqrt(k.variance[group] + k.eps));
  }
  const Tensor rows = sample_rows<R>(l, rstd, k.mean, static_cast<const R*>(k.w),
                                     static_cast<const R*>(k.b));
  kernels().pixel_order(type, raw(rows), 3 * l.batch, n);
  const R* coefficients = rows.const_data_ptr<R>();
  BatchNorm apply{};
  apply.channels = n;
  apply.x = k.x;
  apply.y = k.y;
  apply.stream = k.stream;
  for_pixels(l, chunks, [&](int64_t, int64_t sample, int64_t first, int64_t last) {
    kernels().pixel_apply(type, apply, coefficients + sample * 3 * n, first, last);
  });
}

GroupResult group_norm(const Tensor& input, int64_t groups, const OptionalTensor& weight,
                       const OptionalTensor& bias, double eps) {
  check_group(input, groups, weight, bias);
  const Type type = type_of("group_norm", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor x = laid_out(input);
  const Grouped l = grouped(x, groups);
  const OptionalTensor w = real(weight, statistics), b = real(bias, statistics);
  const Tensor y = at::empty_like(x);
  const Tensor mean = at::empty({l.batch, groups}, x.options().dtype(at::kDouble));
  const Tensor variance = at::empty_like(mean);
  const Tensor rstd = at::empty({l.batch, groups}, x.options().dtype(statistics));
  if (x.numel() == 0) {
    mean.zero_();
    variance.zero_();
    rstd.zero_();
    return {y, mean, rstd, variance};
  }
  const GroupNorm k{l.channels, groups, l.area, eps, pointer(x), pointer(w), pointer(b), raw(y),
                    doubles(mean), doubles(variance), raw(rstd), streams(y)};
  if (l.pixels)
    with_real(statistics, [&](auto zero) { pixel_groups<decltype(zero)>(type, k, l, rstd); });
  else
    at::parallel_for(0, l.batch * groups, GRAIN / (l.planes() * l.area) + 1,
                     [&](int64_t first, int64_t last) { kernels().group_norm(type, k, first, last); });
  return {y, mean, rstd, variance};
}

GroupResult group_norm_meta(const Tensor& input, int64_t groups, const OptionalTensor& weight,
                            const OptionalTensor& bias, double) {
  check_group(input, groups, weight, bias);
  const Tensor mean =
      at::empty_symint({input.sym_size(0), c10::SymInt(groups)}, input.options().dtype(at::kDouble));
  return {at::empty_like(laid_out(input)), mean,
          at::empty_symint({input.sym_size(0), c10::SymInt(groups)},
                           input.options().dtype(real_of(input))),
          at::empty_like(mean)};
}

template <class R>
void pixel_groups_backward(Type type, const GroupNormBackward& k, const Grouped& l,
                           const Tensor& rstd) {
  const int64_t chunks = chunks_of(l), n = l.channels, planes = l.planes();
  const R *inverse = rstd.const_data_ptr<R>(), *w = static_cast<const R*>(k.w);
  const Tensor forward = sample_rows<R>(l, rstd, k.mean, w, nullptr);
  kernels().pixel_order(type, raw(forward), 3 * l.batch, n);
  const R* coefficients = forward.const_data_ptr<R>();
  const Tensor partial = at::empty({2, l.batch * chunks, n}, rstd.options().dtype(at::kDouble));
  double *sums = doubles(partial), *products = sums + l.batch * chunks * n;
  BatchNormBackward pass{};
  pass.channels = n;
  pass.dy = k.dy;
  pass.x = k.x;
  pass.dx = k.dx;
  pass.stream = k.stream;
  for_pixels(l, chunks, [&](int64_t task, int64_t sample, int64_t first, int64_t last) {
    kernels().pixel_sums(type, pass, coefficients + sample * 3 * n, first, last, 0, n,
                         sums + task * n, products + task * n);
  });
  const Tensor rows = at::empty({l.batch, 3, n}, rstd.options());
  R* to = rows.mutable_data_ptr<R>();
  for (int64_t group = 0; group < l.batch * l.groups; ++group) {
    const int64_t sample = group / l.groups, c0 = group % l.groups * planes;
    const double rest = k.mean[group] - static_cast<R>(k.mean[group]), scale = inverse[group];
    double weighted[2] = {0, 0};
    for (int64_t c = c0; c < c0 + planes; ++c) {
      double totals[2] = {0, 0};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        totals[0] += sums[(sample * chunks + chunk) * n + c];
        totals[1] += products[(sample * chunks + chunk) * n + c];
      }
      totals[1] -= rest * totals[0];
      k.sum[sample * n + c] = totals[0];
      k.product[sample * n + c] = totals[1];
      const double weight = w ? w[c] : R(1);
      weighted[0] += weight * totals[0];
      weighted[1] += weight * totals[1];
    }
    const double count = static_cast<double>(planes * l.area);
    const double curve = -scale * scale * scale * weighted[1] / count;
    R* row = to + sample * 3 * n;
    for (int64_t c = c0; c < c0 + planes; ++c) {
      row[c] = static_cast<R>(scale * (w ? w[c] : R(1)));
      row[n + c] = static_cast<R>(curve);
      row[2 * n + c] = static_cast<R>(-scale * weighted[0] / count - curve * rest);
    }
  }
  kernels().pixel_order(type, to, 3 * l.batch, n);
  for_pixels(l, chunks, [&](int64_t, int64_t sample, int64_t first, int64_t last) {
    kernels().pixel_gradient(type, pass, coefficients + sample * 3 * n, to + sample * 3 * n, first,
                             last);
  });
}

// Weight and bias gradients are empty unless `need_parameters`.
GroupGradient group_norm_backward(const Tensor& grad, const Tensor& input, int64_t groups,
                                  const OptionalTensor& weight, const Tensor& mean,
                                  const Tensor& rstd, bool need_parameters) {
  check_group(input, groups, weight, std::nullopt);
  check_same_shape("group_norm", "the gradient", input, grad);
  const Type type = type_of("group_norm", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor x = laid_out(input), dy = in_order_of(x, grad);
  const Grouped l = grouped(x, groups);
  const OptionalTensor w = real(weight, statistics);
  const Tensor center = mean.contiguous(), inverse = rstd.contiguous();
  const Tensor dx = at::empty_like(x);
  const Tensor dw = at::empty({need_parameters ? l.channels : 0}, inverse.options());
  const Tensor db = at::empty_like(dw);
  const at::ScalarType kind = gradient_type(weight, input);
  if (x.numel() == 0) {
    dw.zero_();
    db.zero_();
    return {dx, as_type(dw, kind), as_type(db, kind)};
  }
  const Tensor sums = at::empty({2, l.batch, l.channels}, center.options());
  double *sum = doubles(sums), *product = sum + l.batch * l.channels;
  const GroupNormBackward k{l.channels, groups, l.area, pointer(dy), pointer(x), pointer(w),
                            center.const_data_ptr<double>(), pointer(inverse), raw(dx), sum,
                            product, streams(dx)};
  with_real(statistics, [&](auto zero) {
    using R = decltype(zero);
    if (l.pixels)
      pixel_groups_backward<R>(type, k, l, inverse);
    else
      at::parallel_for(
          0, l.batch * groups, GRAIN / (l.planes() * l.area) + 1,
          [&](int64_t first, int64_t last) { kernels().group_norm_backward(type, k, first, last); });
    if (!need_parameters) return;
    const R* scale = inverse.const_data_ptr<R>();
    R *to_w = dw.mutable_data_ptr<R>(), *to_b = db.mutable_data_ptr<R>();
    for (int64_t c = 0; c < l.channels; ++c) {
      double total_w = 0, total_b = 0;
      for (int64_t sample = 0; sample < l.batch; ++sample) {
        const int64_t plane = sample * l.channels + c;
        total_b += sum[plane];
        total_w += product[plane] * scale[sample * groups + c / l.planes()];
      }
      to_w[c] = static_cast<R>(total_w);
      to_b[c] = static_cast<R>(total_b);
    }
  });
  return {dx, as_type(dw, kind), as_type(db, kind)};
}

GroupGradient group_norm_backward_meta(const Tensor& grad, const Tensor& input, int64_t,
                                       const OptionalTensor& weight, const Tensor&, const Tensor&,
                                       bool need_parameters) {
  check_same_shape("group_norm", "the gradient", input, grad);
  const Tensor dw = at::empty_symint({need_parameters ? input.sym_size(1) : c10::SymInt(0)},
                                     input.options().dtype(gradient_type(weight, input)));
  return {at::empty_like(laid_out(input)), dw, at::empty_like(dw)};
}

struct Group : torch::autograd::Function<Group> {
  static GroupResult call(const Tensor& input, int64_t groups, const OptionalTensor& weight,
                          const OptionalTensor& bias, double eps) {
    static const auto op =
        typed_operator<GroupResult(const Tensor&, int64_t, const OptionalTensor&,
                                   const OptionalTensor&, double)>("benchbench::group_norm");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, groups, weight, bias, eps);
  }
  static variable_list forward(AutogradContext* context, const Tensor& input, int64_t groups,
                               const OptionalTensor& weight, const OptionalTensor& bias,
                               double eps) {
    auto [y, mean, rstd, variance] = call(input, groups, weight, bias, eps);
    context->save_for_backward({input, unwrap(weight), unwrap(bias), mean, rstd});
    context->saved_data["groups"] = groups;
    context->mark_non_differentiable({mean, rstd, variance});
    context->set_materialize_grads(false);  // or zeros would be made for the statistics
    return {y, mean, rstd, variance};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<GroupGradient(const Tensor&, const Tensor&, int64_t, const OptionalTensor&,
                                     const Tensor&, const Tensor&, bool)>(
            "benchbench::group_norm_backward");
    if (!grads[0].defined()) return {Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    const auto saved = context->get_saved_variables();
    const Tensor &weight = saved[1], &bias = saved[2];
    auto [dx, dw, db] = op.call(grads[0], saved[0], context->saved_data["groups"].toInt(),
                                given(weight), saved[3], saved[4], needed(weight) || needed(bias));
    return {dx, Tensor(), needed(weight) ? dw.to(weight.scalar_type()) : Tensor(),
            needed(bias) ? db.to(bias.scalar_type()) : Tensor(), Tensor()};
  }
};

GroupResult group_norm_autograd(const Tensor& input, int64_t groups, const OptionalTensor& weight,
                                const OptionalTensor& bias, double eps) {
  const OptionalTensor x(input);
  if (!wants_grad({&x, &weight, &bias})) return Group::call(input, groups, weight, bias, eps);
  auto r = Group::apply(input, groups, weight, bias, eps);
  return {r[0], r[1], r[2], r[3]};
}

// ---- local response norm ----

// Runs `kernel` over blocks of positions of each sample. `dy` may be undefined.
Tensor response(const Tensor& input, const Tensor& dy, int64_t size, double alpha, double beta,
                double k, decltype(Kernels::response_norm) kernel) {
  const Type type = type_of("response_norm", input);
  const Tensor x = input.contiguous(), to = at::empty_like(x);
  if (x.numel() == 0) return to;
  const int64_t channels = x.size(1), area = x.numel() / (x.size(0) * channels);
  const ResponseNorm norm{channels, area, size / 2, (size - 1) / 2, alpha / static_cast<double>(size),
                          beta, k, pointer(x), dy.defined() ? pointer(dy) : nullptr, raw(to)};
  constexpr int64_t BLOCK = 256;  // positions: whole strips of every instruction set
  const int64_t blocks = (area + BLOCK - 1) / BLOCK;
  const int64_t real_size = x.scalar_type() == at::kDouble ? 8 : 4;
  at::parallel_for(0, x.size(0) * blocks, GRAIN / (channels * std::min(BLOCK, area)) + 1,
                   [&](int64_t begin, int64_t end) {
                     const auto scratch = std::make_unique_for_overwrite<char[]>(
                         static_cast<size_t>(channels * RESPONSE_SCRATCH * real_size));
                     for (int64_t task = begin; task < end; ++task) {
                       const int64_t from = task % blocks * BLOCK;
                       kernel(type, norm, task / blocks, from, std::min(from + BLOCK, area),
                              scratch.get());
                     }
                   });
  return to;
}

// In the memory order of `input`, which the kernels do not work in.
Tensor ordered_as(const Tensor& input, const Tensor& result) {
  return is_pixels(input) && !input.is_contiguous() ? at::empty_like(input).copy_(result) : result;
}

Tensor response_norm(const Tensor& input, int64_t size, double alpha, double beta, double k) {
  check_response(input, size);
  return ordered_as(input,
                    response(input, Tensor(), size, alpha, beta, k, kernels().response_norm));
}

Tensor response_norm_backward(const Tensor& grad, const Tensor& input, int64_t size, double alpha,
                              double beta, double k) {
  check_response(input, size);
  check_same_shape("response_norm", "the gradient", input, grad);
  return ordered_as(input, response(input, grad.contiguous(), size, alpha, beta, k,
                                    kernels().response_norm_backward));
}

Tensor response_norm_meta(const Tensor& input, int64_t size, double, double, double) {
  check_response(input, size);
  return at::empty_like(laid_out(input));
}

Tensor response_norm_backward_meta(const Tensor& grad, const Tensor& input, int64_t size, double,
                                   double, double) {
  check_response(input, size);
  check_same_shape("response_norm", "the gradient", input, grad);
  return at::empty_like(laid_out(input));
}

struct Response : torch::autograd::Function<Response> {
  static Tensor call(const Tensor& input, int64_t size, double alpha, double beta, double k) {
    static const auto op = typed_operator<Tensor(const Tensor&, int64_t, double, double, double)>(
        "benchbench::response_norm");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, size, alpha, beta, k);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input, int64_t size, double alpha,
                        double beta, double k) {
    context->save_for_backward({input});
    context->saved_data["size"] = size;
    context->saved_data["alpha"] = alpha;
    context->saved_data["beta"] = beta;
    context->saved_data["k"] = k;
    return call(input, size, alpha, beta, k);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<Tensor(const Tensor&, const Tensor&, int64_t, double, double, double)>(
            "benchbench::response_norm_backward");
    auto& data = context->saved_data;
    return {op.call(grads[0], context->get_saved_variables()[0], data["size"].toInt(),
                    data["alpha"].toDouble(), data["beta"].toDouble(), data["k"].toDouble()),
            Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor response_norm_autograd(const Tensor& input, int64_t size, double alpha, double beta,
                              double k) {
  return at::GradMode::is_enabled() && input.requires_grad()
             ? Response::apply(input, size, alpha, beta, k)
             : Response::call(input, size, alpha, beta, k);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  m.def(
      "group_norm(Tensor input, int groups, Tensor? weight, Tensor? bias, float eps)"
      " -> (Tensor output, Tensor mean, Tensor rstd, Tensor variance)");
  m.def(
      "group_norm_backward(Tensor grad, Tensor input, int groups, Tensor? weight, Tensor mean,"
      " Tensor rstd, bool need_parameters) -> (Tensor, Tensor, Tensor)");
  m.def("response_norm(Tensor input, int size, float alpha, float beta, float k) -> Tensor");
  m.def(
      "response_norm_backward(Tensor grad, Tensor input, int size, float alpha, float beta, float k)"
      " -> Tensor");
}

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  m.impl("group_norm", &group_norm);
  m.impl("group_norm_backward", &group_norm_backward);
  m.impl("response_norm", &response_norm);
  m.impl("response_norm_backward", &response_norm_backward);
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  m.impl("group_norm", &group_norm_meta);
  m.impl("group_norm_backward", &group_norm_backward_meta);
  m.impl("response_norm", &response_norm_meta);
  m.impl("response_norm_backward", &response_norm_backward_meta);
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  m.impl("group_norm", &group_norm_autograd);
  m.impl("response_norm", &response_norm_autograd);
  // A second derivative does not exist here: it must raise, not be silently zero.
  m.impl("group_norm_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("response_norm_backward", torch::autograd::autogradNotImplementedFallback());
}

void bind_group_norms(pybind11::module_& m) {
  m.def("group_norm", &group_norm);
  m.def("response_norm", &response_norm);
}

}  // namespace benchbench
