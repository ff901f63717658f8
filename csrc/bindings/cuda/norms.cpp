// Layer norm, RMS norm and batch norm: the CUDA functions of the operators that bindings/norms.cpp and
// bindings/batch_norms.cpp declare.
#include "bindings/batch_norms.h"
#include "bindings/cuda/launching.h"
#include "bindings/norm_rows.h"

#include <torch/library.h>

namespace benchbench {
namespace {

RowResult norm_rows(const Tensor& input, const OptionalTensor& residual,
                    const OptionalTensor& weight, const OptionalTensor& bias, double eps, bool rms) {
  check_rows(input, residual, weight, bias);
  const Type type = type_of("norm_rows", input);
  const Tensor x = input.contiguous();
  const OptionalTensor r = whole(residual);
  const GivenParameter w(weight, x), b(bias, x);
  const int64_t columns = x.size(-1), rows = rows_of(x);
  const Tensor y = at::empty_like(x);
  const Tensor sum = r.has_value() ? at::empty_like(x) : at::empty({0}, x.options());
  const Tensor rstd = at::empty({rows}, x.options().dtype(real_of(x)));
  const Tensor mean = at::empty({rms ? 0 : rows}, x.options().dtype(at::kDouble));
  if (columns == 0) {
    mean.zero_();
    rstd.zero_();
    return {y, sum, mean, rstd};
  }
  const Here here(x);
  const Tensor between = workspace(x, cuda::row_workspace(type, rows, columns));
  check_launch("norm_rows",
               cuda::row_norm(type,
                              {rms, rows, columns, eps, pointer(x), pointer(r), w.p, b.p, raw(y),
                               raw_if(r.has_value(), sum), doubles(mean), raw(rstd)},
                              memory(between), here));
  return {y, sum, mean, rstd};
}

RowGradient norm_rows_backward(const Tensor& grad, const OptionalTensor& grad_sum,
                               const Tensor& input, const OptionalTensor& weight,
                               const Tensor& mean, const Tensor& rstd, bool rms, bool need_weight,
                               bool need_bias) {
  check_same_shape("norm_rows", "the gradient", input, grad);
  if (grad_sum.has_value()) check_same_shape("norm_rows", "the sum's gradient", input, *grad_sum);
  const Type type = type_of("norm_rows", input);
  const Tensor dy = grad.contiguous(), x = input.contiguous();
  const Tensor center = mean.contiguous(), scale = rstd.contiguous();
  const OptionalTensor ds = whole(grad_sum);
  const GivenParameter w(weight, x);
  const int64_t columns = x.size(-1), rows = rows_of(x);
  const Tensor dx = at::empty_like(x);
  const at::ScalarType kind = gradient_type(weight, x);
  const Tensor dw = at::empty({need_weight ? columns : 0}, x.options().dtype(kind));
  const Tensor db = at::empty({need_bias ? columns : 0}, dw.options());
  const Here here(x);
  const Tensor partial = at::empty(
      {need_weight || need_bias ? 2 : 0, cuda::gradient_partial_rows(rows, here), columns},
      x.options().dtype(real_of(x)));
  const Tensor between = workspace(x, cuda::row_workspace(type, rows, columns));
  check_launch("norm_rows",
               cuda::row_norm_backward(
                   type,
                   {rms, rows, columns, pointer(dy), pointer(x), pointer(ds), w.p,
                    rms ? nullptr : center.const_data_ptr<double>(), pointer(scale), raw(dx),
                    raw_if(need_weight, dw), raw_if(need_bias, db), kind == real_of(x)},
                   memory(partial), memory(between), here));
  return {dx, dw, db};
}

void check_uncut(double ceiling) {
  TORCH_CHECK(!(ceiling > 0), "benchbench::batch_norm: the kernels for CUDA cannot cut a ReLU at ",
              ceiling, "; use batch norm without ReLU and torch.nn.functional.hardtanh behind it");
}

BatchResult batch_norm(const Tensor& input, const OptionalTensor& residual,
                       const OptionalTensor& weight, const OptionalTensor& bias,
                       const OptionalTensor& running_mean, const OptionalTensor& running_var,
                       bool training, double eps, bool relu, double ceiling, bool) {
  check_batch(input, residual, weight, bias, running_mean, running_var, training);
  check_uncut(ceiling);
  const Type type = type_of("batch_norm", input);
  const Tensor x = laid_out(input);
  const Layout l = layout_of(x);
  TORCH_CHECK(!training || l.count() != 1 || l.channels == 0,
              "benchbench::batch_norm: training needs more than one value per channel, the input "
              "has shape ", input.sizes(), "; use evaluation for single values");
  const OptionalTensor r =
      residual.has_value() ? OptionalTensor(in_order_of(x, *residual)) : std::nullopt;
  const GivenParameter w(weight, x), b(bias, x);
  const GivenParameter m(training ? std::nullopt : running_mean, x);
  const GivenParameter v(training ? std::nullopt : running_var, x);
  const Tensor y = at::empty_like(x);
  const auto options = x.options().dtype(at::kDouble);
  const Tensor mean = at::empty({l.channels}, options), variance = at::empty_like(mean);
  const Tensor rstd = at::empty({l.channels}, x.options().dtype(real_of(x)));
  const Tensor passed = at::empty({0}, x.options().dtype(at::kByte));  // backward reads the output
  if (x.numel() == 0) {
    mean.zero_();
    variance.zero_();
    rstd.zero_();
    return {y, mean, rstd, variance, passed};
  }
  const cuda::BatchNormForward k{training,   relu,       {l.batch, l.channels, l.area},
                                 eps,        pointer(x), pointer(r),
                                 w.p,        b.p,        m.p,
                                 v.p,        raw(y),     doubles(mean),
                                 doubles(variance), raw(rstd)};
  const Here here(x);
  if (!l.pixels) {
    check_launch("batch_norm", cuda::plane_norm(type, k, here));
  } else {
    const Tensor between = workspace(x, training ? cuda::pixel_workspace(k.shape, here) : 0);
    check_launch("batch_norm", cuda::pixel_norm(type, k, memory(between), here));
  }
  return {y, mean, rstd, variance, passed};
}

BatchGradient batch_norm_backward(const Tensor& grad, const Tensor& input,
                                  const OptionalTensor& kept, const OptionalTensor& weight,
                                  const OptionalTensor& bias, const Tensor& mean,
                                  const Tensor& rstd, bool training, bool relu, bool need_residual,
                                  bool need_parameters, double ceiling) {
  check_same_shape("batch_norm", "the gradient", input, grad);
  check_uncut(ceiling);
  const Type type = type_of("batch_norm", input);
  const Tensor x = laid_out(input), dy = in_order_of(x, grad);
  const OptionalTensor y =
      kept.has_value() ? OptionalTensor(in_order_of(x, *kept)) : std::nullopt;
  const GivenParameter w(weight, x), b(bias, x);
  const Tensor center = mean.contiguous(), inverse = rstd.contiguous();
  const Layout l = layout_of(x);
  const Tensor dx = at::empty_like(x);
  const Tensor dr = need_residual ? at::empty_like(x) : at::empty({0}, x.options());
  const at::ScalarType kind = gradient_type(weight, x);
  const Tensor dw = at::empty({need_parameters ? l.channels : 0}, x.options().dtype(kind));
  const Tensor db = at::empty_like(dw);
  if (x.numel() == 0) {
    dw.zero_();
    db.zero_();
    return {dx, dr, dw, db};
  }
  const cuda::BatchNormGradient k{training,
                                  relu,
                                  {l.batch, l.channels, l.area},
                                  pointer(dy),
                                  pointer(x),
                                  pointer(y),
                                  w.p,
                                  b.p,
                                  center.const_data_ptr<double>(),
                                  pointer(inverse),
                                  raw(dx),
                                  raw_if(need_residual, dr),
                                  raw_if(need_parameters, dw),
                                  raw_if(need_parameters, db),
                                  kind == real_of(x)};
  const Here here(x);
  if (!l.pixels) {
    check_launch("batch_norm", cuda::plane_norm_backward(type, k, here));
  } else {
    const Tensor between = workspace(x, cuda::pixel_workspace(k.shape, here));
    check_launch("batch_norm", cuda::pixel_norm_backward(type, k, memory(between), here));
  }
  return {dx, dr, dw, db};
}

}  // namespace

TORCH_LIBRARY_IMPL(benchbench, BENCHBENCH_CUDA_KEY, m) {
  m.impl("norm_rows", &norm_rows);
  m.impl("norm_rows_backward", &norm_rows_backward);
  m.impl("batch_norm", &batch_norm);
  m.impl("batch_norm_backward", &batch_norm_backward);
}

}  // namespace benchbench
