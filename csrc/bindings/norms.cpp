// Layer norm, RMS norm (with a residual) and batch norm (with a residual and ReLU): operators,
// autograd and direct functions. See activations.cpp for the parts of an operator.
//
// norm_rows serves layer norm, RMS norm and both with a residual. batch_norm is functional: it
// returns the batch's mean and unbiased variance, and the caller updates running statistics with
// plain torch, which tracing understands.
#include "bindings/common.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

OptionalTensor given(const Tensor& x) { return x.defined() ? OptionalTensor(x) : std::nullopt; }
Tensor unwrap(const OptionalTensor& x) { return x.has_value() ? *x : Tensor(); }
OptionalTensor up(const OptionalTensor& x) {
  return x.has_value() ? OptionalTensor(x->to(at::kFloat)) : std::nullopt;
}
OptionalTensor real(const OptionalTensor& x, at::ScalarType type) {
  return x.has_value() ? OptionalTensor(as_real(*x, type)) : std::nullopt;
}

// ---- rows ----

using RowResult = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // output, sum, mean, rstd
using RowGradient = std::tuple<Tensor, Tensor, Tensor>;        // input, weight, bias

void check_rows(const Tensor& input, const OptionalTensor& residual, const OptionalTensor& weight,
                const OptionalTensor& bias) {
  check_floating("norm_rows", input);
  TORCH_CHECK(input.dim() >= 1, "benchbench::norm_rows: the input has no dimension to normalise");
  if (residual.has_value()) check_same_shape("norm_rows", "the residual", input, *residual);
  check_parameter("norm_rows", "the weight", input, weight, input.sym_size(-1));
  check_parameter("norm_rows", "the bias", input, bias, input.sym_size(-1));
}

RowResult norm_rows(const Tensor& input, const OptionalTensor& residual,
                    const OptionalTensor& weight, const OptionalTensor& bias, double eps,
                    bool rms) {
  check_rows(input, residual, weight, bias);
  if (input.scalar_type() == at::kHalf) {
    auto [y, sum, mean, rstd] =
        norm_rows(input.to(at::kFloat), up(residual), up(weight), up(bias), eps, rms);
    return {y.to(at::kHalf), sum.to(at::kHalf), mean, rstd};
  }
  const Type type = type_of("norm_rows", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor x = input.contiguous();
  const OptionalTensor r = residual.has_value() ? OptionalTensor(residual->contiguous()) : residual;
  const OptionalTensor w = real(weight, statistics), b = real(bias, statistics);
  const int64_t columns = x.size(-1), rows = columns ? x.numel() / columns : 0;
  Tensor y = at::empty_like(x);
  Tensor sum = r.has_value() ? at::empty_like(x) : at::empty({0}, x.options());
  Tensor rstd = at::empty({rows}, x.options().dtype(statistics));
  Tensor mean = rms ? at::empty({0}, rstd.options()) : at::empty_like(rstd);
  const int64_t stride = columns * x.element_size(), one = rstd.element_size();
  const auto kernel = kernels().norm;
  const char *px = static_cast<const char*>(pointer(x)), *pr = static_cast<const char*>(pointer(r));
  char *py = static_cast<char*>(y.mutable_data_ptr()),
       *ps = static_cast<char*>(sum.mutable_data_ptr()),
       *pm = static_cast<char*>(mean.mutable_data_ptr()),
       *pi = static_cast<char*>(rstd.mutable_data_ptr());
  const void *pw = pointer(w), *pb = pointer(b);
  at::parallel_for(0, rows, GRAIN / (columns + 1) + 1, [=](int64_t begin, int64_t end) {
    const int64_t at = begin * stride;
    kernel(type, rms, px + at, pr ? pr + at : nullptr, pw, pb, eps, py + at, pr ? ps + at : nullptr,
           rms ? nullptr : pm + begin * one, pi + begin * one, end - begin, columns);
  });
  return {y, sum, mean, rstd};
}

RowResult norm_rows_meta(const Tensor& input, const OptionalTensor& residual,
                         const OptionalTensor& weight, const OptionalTensor& bias, double,
                         bool rms) {
  check_rows(input, residual, weight, bias);
  Tensor y = at::empty_like(input.contiguous());
  Tensor sum = residual.has_value() ? at::empty_like(y) : at::empty({0}, y.options());
  c10::SymInt rows = 1;
  for (int64_t d = 0; d + 1 < input.dim(); ++d) rows = rows * input.sym_size(d);
  Tensor rstd = at::empty_symint({rows}, y.options().dtype(real_of(input)));
  Tensor mean = rms ? at::empty({0}, rstd.options()) : at::empty_like(rstd);
  return {y, sum, mean, rstd};
}

// `input` is what was normalised (the sum, when there was a residual); `grad_sum` is what arrives at
// that sum from elsewhere. Weight and bias gradients are empty where not asked for.
RowGradient norm_rows_backward(const Tensor& grad, const OptionalTensor& grad_sum,
                               const Tensor& input, const OptionalTensor& weight,
                               const Tensor& mean, const Tensor& rstd, bool rms, bool need_weight,
                               bool need_bias) {
  check_same_shape("norm_rows", "the gradient", input, grad);
  if (input.scalar_type() == at::kHalf) {
    auto [dx, dw, db] = norm_rows_backward(grad.to(at::kFloat), up(grad_sum), input.to(at::kFloat),
                                           up(weight), mean, rstd, rms, need_weight, need_bias);
    return {dx.to(at::kHalf), dw, db};
  }
  const Type type = type_of("norm_rows", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor dy = grad.contiguous(), x = input.contiguous();
  const OptionalTensor ds = grad_sum.has_value() ? OptionalTensor(grad_sum->contiguous()) : grad_sum;
  const OptionalTensor w = real(weight, statistics);
  const int64_t columns = x.size(-1), rows = columns ? x.numel() / columns : 0;
  const int64_t chunks = row_chunks(rows);
  Tensor dx = at::empty_like(x);
  const auto options = x.options().dtype(statistics);
  Tensor dw = at::empty({need_weight ? chunks : 0, columns}, options);
  Tensor db = at::empty({need_bias ? chunks : 0, columns}, options);
  const int64_t stride = columns * x.element_size(), one = rstd.element_size();
  const auto kernel = kernels().norm_backward;
  const char *pd = static_cast<const char*>(pointer(dy)), *px = static_cast<const char*>(pointer(x)),
             *ps = static_cast<const char*>(pointer(ds)),
             *pm = static_cast<const char*>(pointer(mean)),
             *pi = static_cast<const char*>(pointer(rstd));
  char *pdx = static_cast<char*>(dx.mutable_data_ptr()),
       *pdw = static_cast<char*>(dw.mutable_data_ptr()),
       *pdb = static_cast<char*>(db.mutable_data_ptr());
  const void* pw = pointer(w);
  for_chunks(rows, chunks, columns, [=](int64_t chunk, int64_t begin, int64_t end) {
    const int64_t at = begin * stride, part = chunk * columns * one;
    kernel(type, rms, pd + at, px + at, pw, rms ? nullptr : pm + begin * one, pi + begin * one,
           ps ? ps + at : nullptr, pdx + at, need_weight ? pdw + part : nullptr,
           need_bias ? pdb + part : nullptr, end - begin, columns);
  });
  const auto total = [&](const Tensor& partial, bool needed) {
    return needed ? partial.sum(0) : at::empty({0}, options);
  };
  return {dx, total(dw, need_weight), total(db, need_bias)};
}

RowGradient norm_rows_backward_meta(const Tensor& grad, const OptionalTensor&, const Tensor& input,
                                    const OptionalTensor&, const Tensor&, const Tensor&, bool,
                                    bool need_weight, bool need_bias) {
  check_same_shape("norm_rows", "the gradient", input, grad);
  const auto options = input.options().dtype(real_of(input));
  const auto row = [&](bool needed) {
    return needed ? at::empty_symint({input.sym_size(-1)}, options) : at::empty({0}, options);
  };
  return {at::empty_like(input.contiguous()), row(need_weight), row(need_bias)};
}

struct Rows : torch::autograd::Function<Rows> {
  static RowResult call(const Tensor& input, const OptionalTensor& residual,
                        const OptionalTensor& weight, const OptionalTensor& bias, double eps,
                        bool rms) {
    static const auto op =
        typed_operator<RowResult(const Tensor&, const OptionalTensor&, const OptionalTensor&,
                                 const OptionalTensor&, double, bool)>("benchbench::norm_rows");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, residual, weight, bias, eps, rms);
  }
  static variable_list forward(AutogradContext* context, const Tensor& input,
                               const OptionalTensor& residual, const OptionalTensor& weight,
                               const OptionalTensor& bias, double eps, bool rms) {
    auto [y, sum, mean, rstd] = call(input, residual, weight, bias, eps, rms);
    context->save_for_backward(
        {residual.has_value() ? sum : input, unwrap(weight), unwrap(bias), mean, rstd});
    context->saved_data["rms"] = rms;
    context->saved_data["residual"] = residual.has_value();
    context->mark_non_differentiable({mean, rstd});
    context->set_materialize_grads(false);
    return {y, sum, mean, rstd};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<RowGradient(const Tensor&, const OptionalTensor&, const Tensor&,
                                   const OptionalTensor&, const Tensor&, const Tensor&, bool, bool,
                                   bool)>("benchbench::norm_rows_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const bool residual = context->saved_data["residual"].toBool();
    const OptionalTensor grad_sum = residual ? given(grads[1]) : std::nullopt;
    const Tensor grad = grads[0].defined() ? grads[0] : at::zeros_like(x);
    const bool need_weight = weight.defined() && weight.requires_grad();
    const bool need_bias = bias.defined() && bias.requires_grad();
    auto [dx, dw, db] = op.call(grad, grad_sum, x, given(weight), saved[3], saved[4],
                                context->saved_data["rms"].toBool(), need_weight, need_bias);
    return {dx,
            residual ? dx : Tensor(),
            need_weight ? dw.to(weight.scalar_type()) : Tensor(),
            need_bias ? db.to(bias.scalar_type()) : Tensor(),
            Tensor(),
            Tensor()};
  }
};

bool wants_grad(std::initializer_list<Tensor> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor& tensor : tensors)
    if (tensor.defined() && tensor.requires_grad()) return true;
  return false;
}

RowResult norm_rows_autograd(const Tensor& input, const OptionalTensor& residual,
                             const OptionalTensor& weight, const OptionalTensor& bias, double eps,
                             bool rms) {
  if (!wants_grad({input, unwrap(residual), unwrap(weight), unwrap(bias)}))
    return Rows::call(input, residual, weight, bias, eps, rms);
  auto r = Rows::apply(input, residual, weight, bias, eps, rms);
  return {r[0], r[1], r[2], r[3]};
}

// ---- batch norm ----

using BatchResult = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // output, mean, rstd, variance
using BatchGradient = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // input, residual, weight, bias

// Channels are the second dimension. In memory they are planes (N, C, area), or the last dimension
// of pixels (rows, C); anything else is made planes.
struct Layout {
  bool pixels;
  int64_t batch, channels, area;
};

bool is_pixels(const Tensor& x) {
  if (x.dim() == 2) return x.is_contiguous();
  if (x.dim() == 3) return x.transpose(1, 2).is_contiguous() && !x.is_contiguous();
  const auto format = x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::ChannelsLast3d;
  return (x.dim() == 4 || x.dim() == 5) && x.is_contiguous(format) && !x.is_contiguous();
}

Tensor laid_out(const Tensor& x) { return is_pixels(x) ? x : x.contiguous(); }

Layout layout_of(const Tensor& x) {
  const int64_t channels = x.size(1), batch = x.size(0);
  const int64_t area = channels && batch ? x.numel() / (batch * channels) : 0;
  return {is_pixels(x), batch, channels, area};
}

void check_batch(const Tensor& input, const OptionalTensor& residual, const OptionalTensor& weight,
                 const OptionalTensor& bias, const OptionalTensor& mean,
                 const OptionalTensor& variance, bool training) {
  check_floating("batch_norm", input);
  TORCH_CHECK(input.dim() >= 2 && input.dim() <= 5,
              "benchbench::batch_norm: the input has ", input.dim(),
              " dimensions; it must have 2 to 5, channels second");
  if (residual.has_value()) check_same_shape("batch_norm", "the residual", input, *residual);
  check_parameter("batch_norm", "the weight", input, weight, input.sym_size(1));
  check_parameter("batch_norm", "the bias", input, bias, input.sym_size(1));
  check_parameter("batch_norm", "the running mean", input, mean, input.sym_size(1));
  check_parameter("batch_norm", "the running variance", input, variance, input.sym_size(1));
  TORCH_CHECK(training || (mean.has_value() && variance.has_value()),
              "benchbench::batch_norm: evaluation needs running statistics; pass them, or use "
              "training=True to normalise with those of the batch");
}

// Mean and biased variance of each channel, in double.
std::tuple<Tensor, Tensor> moments(Type type, const Tensor& x, const Layout& l) {
  const auto options = x.options().dtype(at::kDouble);
  const auto& k = kernels();
  if (!l.pixels) {
    Tensor mean = at::empty({l.channels}, options), variance = at::empty({l.channels}, options);
    const void* px = pointer(x);
    double *pm = mean.mutable_data_ptr<double>(), *pv = variance.mutable_data_ptr<double>();
    at::parallel_for(0, l.channels, GRAIN / (l.batch * l.area + 1) + 1,
                     [&](int64_t first, int64_t last) {
                       k.plane_moments(type, px, pm, pv, l.batch, l.channels, l.area, first, last);
                     });
    return {mean, variance};
  }
  const int64_t rows = l.batch * l.area, chunks = row_chunks(rows);
  // The first pixel shifts all: near enough to the mean that squares do not cancel.
  const Tensor shift =
      x.as_strided({l.channels}, {1}).to(real_of(x)).contiguous();
  Tensor sums = at::empty({chunks, l.channels}, options), squares = at::empty_like(sums);
  const char* px = static_cast<const char*>(pointer(x));
  const void* ps = pointer(shift);
  double *p1 = sums.mutable_data_ptr<double>(), *p2 = squares.mutable_data_ptr<double>();
  const int64_t stride = l.channels * x.element_size();
  for_chunks(rows, chunks, l.channels, [&](int64_t chunk, int64_t begin, int64_t end) {
    k.pixel_moments(type, px + begin * stride, ps, p1 + chunk * l.channels, p2 + chunk * l.channels,
                    end - begin, l.channels);
  });
  const Tensor offset = sums.sum(0) / static_cast<double>(rows);
  const Tensor spread = squares.sum(0) / static_cast<double>(rows) - offset * offset;
  return {shift.to(at::kDouble) + offset, spread.clamp_min(0)};
}

BatchResult batch_norm(const Tensor& input, const OptionalTensor& residual,
                       const OptionalTensor& weight, const OptionalTensor& bias,
                       const OptionalTensor& running_mean, const OptionalTensor& running_var,
                       bool training, double eps, bool relu) {
  check_batch(input, residual, weight, bias, running_mean, running_var, training);
  if (input.scalar_type() == at::kHalf) {
    auto [y, mean, rstd, variance] =
        batch_norm(input.to(at::kFloat), up(residual), up(weight), up(bias), up(running_mean),
                   up(running_var), training, eps, relu);
    return {y.to(at::kHalf), mean, rstd, variance};
  }
  const Type type = type_of("batch_norm", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor x = laid_out(input);
  const Layout l = layout_of(x);
  const int64_t count = l.batch * l.area;
  TORCH_CHECK(!training || count != 1 || l.channels == 0,
              "benchbench::batch_norm: training needs more than one value per channel, the input "
              "has shape ", input.sizes(), "; use evaluation for single values");
  Tensor y = at::empty_like(x);
  Tensor mean, variance;
  if (training && count > 0) {
    std::tie(mean, variance) = moments(type, x, l);
  } else if (training) {
    mean = at::zeros({l.channels}, x.options().dtype(at::kDouble));
    variance = at::zeros_like(mean);
  } else {
    mean = running_mean->to(at::kDouble);
    variance = running_var->to(at::kDouble);
  }
  const Tensor inverse = at::rsqrt(variance + eps);
  const Tensor center = as_real(mean, statistics), rstd = as_real(inverse, statistics);
  const Tensor scale =
      weight.has_value() ? as_real(weight->to(at::kDouble) * inverse, statistics) : rstd;
  const Tensor offset = bias.has_value() ? as_real(*bias, statistics) : at::zeros_like(center);
  const OptionalTensor r =
      residual.has_value() ? OptionalTensor(in_order_of(x, *residual)) : std::nullopt;
  const auto& k = kernels();
  const char *px = static_cast<const char*>(pointer(x)), *pr = static_cast<const char*>(pointer(r));
  char* py = static_cast<char*>(y.mutable_data_ptr());
  const void *pc = pointer(center), *pa = pointer(scale), *pb = pointer(offset);
  if (l.pixels) {
    const int64_t stride = l.channels * x.element_size();
    at::parallel_for(0, count, GRAIN / (l.channels + 1) + 1, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * stride;
      k.pixel_apply(type, px + at, pr ? pr + at : nullptr, pc, pa, pb, relu, py + at, end - begin,
                    l.channels);
    });
  } else {
    at::parallel_for(0, l.channels, GRAIN / (count + 1) + 1, [&](int64_t first, int64_t last) {
      k.plane_apply(type, px, pr, pc, pa, pb, relu, py, l.batch, l.channels, l.area, first, last);
    });
  }
  // torch's running variance is the unbiased one.
  const double correction = count > 1 ? static_cast<double>(count) / static_cast<double>(count - 1) : 1.0;
  return {y, center.clone(), rstd.clone(), as_real(variance * correction, statistics).clone()};
}

BatchResult batch_norm_meta(const Tensor& input, const OptionalTensor& residual,
                            const OptionalTensor& weight, const OptionalTensor& bias,
                            const OptionalTensor& running_mean, const OptionalTensor& running_var,
                            bool training, double, bool) {
  check_batch(input, residual, weight, bias, running_mean, running_var, training);
  Tensor mean = at::empty_symint({input.sym_size(1)}, input.options().dtype(real_of(input)));
  return {at::empty_like(laid_out(input)), mean, at::empty_like(mean), at::empty_like(mean)};
}

// With g = dy where the ReLU let through (output > 0; no output: everywhere) and xhat = (x - mean)
// rstd: dw = sum g xhat, db = sum g, and in training dx = w rstd (g - db/m - xhat dw/m), in
// evaluation dx = w rstd g.
BatchGradient batch_norm_backward(const Tensor& grad, const Tensor& input,
                                  const OptionalTensor& output, const OptionalTensor& weight,
                                  const Tensor& mean, const Tensor& rstd, bool training,
                                  bool need_residual) {
  check_same_shape("batch_norm", "the gradient", input, grad);
  if (input.scalar_type() == at::kHalf) {
    auto [dx, dr, dw, db] = batch_norm_backward(grad.to(at::kFloat), input.to(at::kFloat),
                                                up(output), up(weight), mean, rstd, training,
                                                need_residual);
    return {dx.to(at::kHalf), dr.to(at::kHalf), dw, db};
  }
  const Type type = type_of("batch_norm", input);
  const at::ScalarType statistics = real_of(input);
  const Tensor x = laid_out(input), dy = in_order_of(x, grad);
  const OptionalTensor y =
      output.has_value() ? OptionalTensor(in_order_of(x, *output)) : std::nullopt;
  const Layout l = layout_of(x);
  const int64_t count = l.batch * l.area, stride = l.channels * x.element_size();
  Tensor dx = at::empty_like(x);
  Tensor dr = need_residual ? at::empty_like(x) : at::empty({0}, x.options());
  const auto& k = kernels();
  const char *pd = static_cast<const char*>(pointer(dy)), *px = static_cast<const char*>(pointer(x)),
             *py = static_cast<const char*>(pointer(y));
  const Tensor center = mean.contiguous();
  const void* pc = pointer(center);
  const auto options = x.options().dtype(at::kDouble);
  Tensor sum, product;
  if (l.pixels) {
    const int64_t chunks = row_chunks(count);
    Tensor sums = at::empty({chunks, l.channels}, options), products = at::empty_like(sums);
    double *p1 = sums.mutable_data_ptr<double>(), *p2 = products.mutable_data_ptr<double>();
    for_chunks(count, chunks, l.channels, [&](int64_t chunk, int64_t begin, int64_t end) {
      const int64_t at = begin * stride;
      k.pixel_sums(type, pd + at, px + at, py ? py + at : nullptr, pc, p1 + chunk * l.channels,
                   p2 + chunk * l.channels, end - begin, l.channels);
    });
    sum = sums.sum(0);
    product = products.sum(0);
  } else {
    sum = at::empty({l.channels}, options);
    product = at::empty_like(sum);
    double *p1 = sum.mutable_data_ptr<double>(), *p2 = product.mutable_data_ptr<double>();
    at::parallel_for(0, l.channels, GRAIN / (count + 1) + 1, [&](int64_t first, int64_t last) {
      k.plane_sums(type, pd, px, py, pc, p1, p2, l.batch, l.channels, l.area, first, last);
    });
  }
  const Tensor inverse = rstd.to(at::kDouble);
  const Tensor dw = product * inverse;
  const Tensor slope = weight.has_value() ? weight->to(at::kDouble) * inverse : inverse;
  const double m = static_cast<double>(count < 1 ? 1 : count);
  const Tensor a = as_real(slope, statistics);
  const Tensor b = training ? as_real(-slope * inverse * dw / m, statistics) : at::zeros_like(a);
  const Tensor c = training ? as_real(-slope * sum / m, statistics) : at::zeros_like(a);
  char *pdx = static_cast<char*>(dx.mutable_data_ptr()),
       *pdr = need_residual ? static_cast<char*>(dr.mutable_data_ptr()) : nullptr;
  const void *pa = pointer(a), *pb = pointer(b), *pz = pointer(c);
  if (l.pixels) {
    at::parallel_for(0, count, GRAIN / (l.channels + 1) + 1, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * stride;
      k.pixel_gradient(type, pd + at, px + at, py ? py + at : nullptr, pc, pa, pb, pz, pdx + at,
                       pdr ? pdr + at : nullptr, end - begin, l.channels);
    });
  } else {
    at::parallel_for(0, l.channels, GRAIN / (count + 1) + 1, [&](int64_t first, int64_t last) {
      k.plane_gradient(type, pd, px, py, pc, pa, pb, pz, pdx, pdr, l.batch, l.channels, l.area,
                       first, last);
    });
  }
  return {dx, dr, as_real(dw, statistics), as_real(sum, statistics)};
}

BatchGradient batch_norm_backward_meta(const Tensor& grad, const Tensor& input,
                                       const OptionalTensor&, const OptionalTensor&,
                                       const Tensor&, const Tensor&, bool, bool need_residual) {
  check_same_shape("batch_norm", "the gradient", input, grad);
  Tensor dx = at::empty_like(laid_out(input));
  Tensor dw = at::empty_symint({input.sym_size(1)}, input.options().dtype(real_of(input)));
  return {dx, need_residual ? at::empty_like(dx) : at::empty({0}, dx.options()), dw,
          at::empty_like(dw)};
}

struct Batch : torch::autograd::Function<Batch> {
  static BatchResult call(const Tensor& input, const OptionalTensor& residual,
                          const OptionalTensor& weight, const OptionalTensor& bias,
                          const OptionalTensor& running_mean, const OptionalTensor& running_var,
                          bool training, double eps, bool relu) {
    static const auto op =
        typed_operator<BatchResult(const Tensor&, const OptionalTensor&, const OptionalTensor&,
                                   const OptionalTensor&, const OptionalTensor&,
                                   const OptionalTensor&, bool, double, bool)>(
            "benchbench::batch_norm");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, residual, weight, bias, running_mean, running_var, training, eps, relu);
  }
  static variable_list forward(AutogradContext* context, const Tensor& input,
                               const OptionalTensor& residual, const OptionalTensor& weight,
                               const OptionalTensor& bias, const OptionalTensor& running_mean,
                               const OptionalTensor& running_var, bool training, double eps,
                               bool relu) {
    auto [y, mean, rstd, variance] =
        call(input, residual, weight, bias, running_mean, running_var, training, eps, relu);
    context->save_for_backward(
        {input, relu ? y : Tensor(), unwrap(weight), unwrap(bias), mean, rstd});
    context->saved_data["training"] = training;
    context->saved_data["residual"] = residual.has_value() && residual->requires_grad();
    context->mark_non_differentiable({mean, rstd, variance});
    return {y, mean, rstd, variance};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<BatchGradient(const Tensor&, const Tensor&, const OptionalTensor&,
                                     const OptionalTensor&, const Tensor&, const Tensor&, bool,
                                     bool)>("benchbench::batch_norm_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &weight = saved[2], &bias = saved[3];
    const bool residual = context->saved_data["residual"].toBool();
    auto [dx, dr, dw, db] = op.call(grads[0], saved[0], given(saved[1]), given(weight), saved[4],
                                    saved[5], context->saved_data["training"].toBool(), residual);
    const auto sized = [](const Tensor& gradient, const Tensor& parameter) {
      return parameter.defined() && parameter.requires_grad()
                 ? gradient.to(parameter.scalar_type())
                 : Tensor();
    };
    return {dx,       residual ? dr : Tensor(), sized(dw, weight), sized(db, bias), Tensor(),
            Tensor(), Tensor(),                 Tensor(),          Tensor()};
  }
};

BatchResult batch_norm_autograd(const Tensor& input, const OptionalTensor& residual,
                                const OptionalTensor& weight, const OptionalTensor& bias,
                                const OptionalTensor& running_mean,
                                const OptionalTensor& running_var, bool training, double eps,
                                bool relu) {
  if (!wants_grad({input, unwrap(residual), unwrap(weight), unwrap(bias)}))
    return Batch::call(input, residual, weight, bias, running_mean, running_var, training, eps,
                       relu);
  auto r = Batch::apply(input, residual, weight, bias, running_mean, running_var, training, eps,
                        relu);
  return {r[0], r[1], r[2], r[3]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  m.def(
      "norm_rows(Tensor input, Tensor? residual, Tensor? weight, Tensor? bias, float eps, bool rms)"
      " -> (Tensor output, Tensor sum, Tensor mean, Tensor rstd)");
  m.def(
      "norm_rows_backward(Tensor grad, Tensor? grad_sum, Tensor input, Tensor? weight, Tensor mean,"
      " Tensor rstd, bool rms, bool need_weight, bool need_bias) -> (Tensor, Tensor, Tensor)");
  m.def(
      "batch_norm(Tensor input, Tensor? residual, Tensor? weight, Tensor? bias,"
      " Tensor? running_mean, Tensor? running_var, bool training, float eps, bool relu)"
      " -> (Tensor output, Tensor mean, Tensor rstd, Tensor variance)");
  m.def(
      "batch_norm_backward(Tensor grad, Tensor input, Tensor? output, Tensor? weight, Tensor mean,"
      " Tensor rstd, bool training, bool need_residual) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  m.impl("norm_rows", &norm_rows);
  m.impl("norm_rows_backward", &norm_rows_backward);
  m.impl("batch_norm", &batch_norm);
  m.impl("batch_norm_backward", &batch_norm_backward);
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  m.impl("norm_rows", &norm_rows_meta);
  m.impl("norm_rows_backward", &norm_rows_backward_meta);
  m.impl("batch_norm", &batch_norm_meta);
  m.impl("batch_norm_backward", &batch_norm_backward_meta);
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  m.impl("norm_rows", &norm_rows_autograd);
  m.impl("batch_norm", &batch_norm_autograd);
  m.impl("norm_rows_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("batch_norm_backward", torch::autograd::autogradNotImplementedFallback());
}

void bind_norms(pybind11::module_& m) {
  m.def("norm_rows", &norm_rows);
  m.def("batch_norm", &batch_norm);
}

}  // namespace benchbench
