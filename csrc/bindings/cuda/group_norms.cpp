// Group norm (instance norm: one channel a group) and local response norm: the CUDA functions of the
// operators that bindings/group_norms.cpp declares.
#include "bindings/group_norms.h"

#include <torch/library.h>

#include "bindings/cuda/launching.h"

namespace benchbench {
namespace {

// As the kernels take it: planes, or pixels where the groups are narrow enough for them. Wider ones are
// made planes, and the results pixels again, which is a copy each.
struct GroupInput {
  Tensor x;       // laid out
  Tensor worked;  // what the kernels read
  cuda::GroupNormShape shape;
  bool pixels;
  GroupInput(const Tensor& input, int64_t groups) : x(laid_out(input)), worked(x) {
    const Grouped l = grouped(x, groups);
    shape = {l.batch, l.channels, groups, l.area};
    pixels = !x.is_contiguous() && cuda::group_pixels_fit(shape);
    if (!pixels) worked = x.contiguous();
  }
  // A result in the memory order of the input.
  Tensor ordered(const Tensor& result) const {
    return worked.is_same(x) ? result : at::empty_like(x).copy_(result);
  }
};

GroupResult group_norm(const Tensor& input, int64_t groups, const OptionalTensor& weight,
                       const OptionalTensor& bias, double eps) {
  check_group(input, groups, weight, bias);
  const Type type = type_of("group_norm", input);
  const GroupInput in(input, groups);
  const Tensor& x = in.worked;
  const GivenParameter w(weight, x), b(bias, x);
  const Tensor y = at::empty_like(x);
  const Tensor mean = at::empty({in.shape.batch, groups}, x.options().dtype(at::kDouble));
  const Tensor variance = at::empty_like(mean);
  const Tensor rstd = at::empty({in.shape.batch, groups}, x.options().dtype(real_of(x)));
  if (x.numel() == 0) {
    mean.zero_();
    variance.zero_();
    rstd.zero_();
    return {at::empty_like(in.x), mean, rstd, variance};
  }
  const cuda::GroupNormForward k{in.shape, eps,           pointer(x),        w.p,      b.p,
                                 raw(y),   doubles(mean), doubles(variance), raw(rstd)};
  const Here here(x);
  if (in.pixels) {
    check_launch("group_norm", cuda::group_pixels(type, k, here));
  } else {
    const Tensor between = workspace(x, cuda::group_workspace(type, in.shape));
    check_launch("group_norm", cuda::group_planes(type, k, memory(between), here));
  }
  return {in.ordered(y), mean, rstd, variance};
}

GroupGradient group_norm_backward(const Tensor& grad, const Tensor& input, int64_t groups,
                                  const OptionalTensor& weight, const Tensor& mean,
                                  const Tensor& rstd, bool need_parameters) {
  check_group(input, groups, weight, std::nullopt);
  check_same_shape("group_norm", "the gradient", input, grad);
  const Type type = type_of("group_norm", input);
  const GroupInput in(input, groups);
  const Tensor& x = in.worked;
  const Tensor dy = in_order_of(x, grad);
  const GivenParameter w(weight, x);
  const Tensor center = mean.contiguous(), inverse = rstd.contiguous();
  const at::ScalarType kind = gradient_type(weight, x);
  const Tensor dx = at::empty_like(x);
  const Tensor dw = at::empty({need_parameters ? in.shape.channels : 0}, x.options().dtype(kind));
  const Tensor db = at::empty_like(dw);
  if (x.numel() == 0) {
    dw.zero_();
    db.zero_();
    return {at::empty_like(in.x), dw, db};
  }
  const Here here(x);
  const int64_t rows =
      need_parameters ? cuda::group_partial_rows(type, in.shape, in.pixels, here) : 0;
  const Tensor partial =
      at::empty({2, rows, in.shape.channels}, x.options().dtype(real_of(x)));
  const cuda::GroupNormGradient k{in.shape,
                                  pointer(dy),
                                  pointer(x),
                                  w.p,
                                  center.const_data_ptr<double>(),
                                  pointer(inverse),
                                  raw(dx),
                                  raw_if(need_parameters, dw),
                                  raw_if(need_parameters, db),
                                  kind == real_of(x)};
  check_launch("group_norm",
               in.pixels ? cuda::group_pixels_backward(type, k, memory(partial), here)
                         : cuda::group_planes_backward(type, k, memory(partial), here));
  return {in.ordered(dx), dw, db};
}

// ---- local response norm ----

cuda::ResponseNormShape response_shape(const Tensor& x) {
  const int64_t each = x.size(0) * x.size(1);
  return {x.size(0), x.size(1), each ? x.numel() / each : 0, !x.is_contiguous()};
}

cuda::ResponseWindow window_of(int64_t size, double alpha, double beta, double k) {
  return {size / 2, (size - 1) / 2, alpha / static_cast<double>(size), beta, k};
}

Tensor response_norm(const Tensor& input, int64_t size, double alpha, double beta, double k) {
  check_response(input, size);
  const Type type = type_of("response_norm", input);
  const Tensor x = laid_out(input);
  Tensor y = at::empty_like(x);
  const Here here(x);
  check_launch("response_norm",
               cuda::response_norm(type, response_shape(x), window_of(size, alpha, beta, k), pointer(x),
                                   raw(y), here));
  return y;
}

Tensor response_norm_backward(const Tensor& grad, const Tensor& input, int64_t size, double alpha,
                              double beta, double k) {
  check_response(input, size);
  check_same_shape("response_norm", "the gradient", input, grad);
  const Type type = type_of("response_norm", input);
  const Tensor x = laid_out(input), dy = in_order_of(x, grad);
  Tensor dx = at::empty_like(x);
  const Here here(x);
  check_launch("response_norm",
               cuda::response_norm_backward(type, response_shape(x), window_of(size, alpha, beta, k),
                                            pointer(dy), pointer(x), raw(dx), here));
  return dx;
}

}  // namespace

TORCH_LIBRARY_IMPL(benchbench, BENCHBENCH_CUDA_KEY, m) {
  m.impl("group_norm", &group_norm);
  m.impl("group_norm_backward", &group_norm_backward);
  m.impl("response_norm", &response_norm);
  m.impl("response_norm_backward", &response_norm_backward);
}

}  // namespace benchbench
