// Activations, biased and gated activations, softmax: the CUDA functions of the operators that
// bindings/activations.cpp, curves.cpp and transformer.cpp declare.
#include "bindings/transformer.h"

#include <torch/library.h>

#include "bindings/cuda/launching.h"

namespace benchbench {
namespace {

template <Activation OP>
Tensor unary(const Tensor& input) {
  const Type type = type_of(name_of(OP), input);
  const Tensor x = dense(input);
  Tensor y = at::empty_like(x);
  const Here here(x);
  check_launch(name_of(OP), cuda::unary(OP, type, pointer(x), raw(y), x.numel(), here));
  return y;
}

template <Activation OP>
Tensor unary_backward(const Tensor& grad, const Tensor& kept) {
  check_same_shape(name_of(OP), "the gradient", kept, grad);
  const Type type = type_of(name_of(OP), kept);
  const Tensor k = dense(kept), dy = in_order_of(k, grad);
  Tensor dx = at::empty_like(k);
  const Here here(k);
  check_launch(name_of(OP),
               cuda::unary_backward(OP, type, pointer(dy), pointer(k), raw(dx), k.numel(), here));
  return dx;
}

Tensor curve(const Tensor& input, int64_t kind, double a, double b) {
  const Curve which = curve_of(kind);
  const Type type = type_of("curve", input);
  const Tensor x = dense(input);
  Tensor y = at::empty_like(x);
  const Here here(x);
  check_launch("curve", cuda::curve(which, type, a, b, pointer(x), raw(y), x.numel(), here));
  return y;
}

Tensor curve_backward(const Tensor& grad, const Tensor& input, int64_t kind, double a, double b) {
  const Curve which = curve_of(kind);
  check_same_shape("curve", "the gradient", input, grad);
  const Type type = type_of("curve", input);
  const Tensor x = dense(input), dy = in_order_of(x, grad);
  Tensor dx = at::empty_like(x);
  const Here here(x);
  check_launch("curve", cuda::curve_backward(which, type, a, b, pointer(dy), pointer(x), raw(dx),
                                             x.numel(), here));
  return dx;
}

int64_t rows_in(const Tensor& x) { return x.size(-1) ? x.numel() / x.size(-1) : 0; }

template <Activation OP>
Tensor bias(const Tensor& input, const Tensor& bias_) {
  check_bias(bias_name(OP), input, bias_);
  const Type type = type_of(bias_name(OP), input);
  const Tensor x = input.contiguous();
  const GivenParameter b(bias_, x);
  Tensor y = at::empty_like(x);
  const Here here(x);
  check_launch(bias_name(OP),
               cuda::bias(OP, type, pointer(x), b.p, raw(y), rows_in(x), x.size(-1), here));
  return y;
}

template <Activation OP>
std::tuple<Tensor, Tensor> bias_backward(const Tensor& grad, const Tensor& input,
                                         const Tensor& bias_) {
  check_bias(bias_name(OP), input, bias_);
  check_same_shape(bias_name(OP), "the gradient", input, grad);
  const Type type = type_of(bias_name(OP), input);
  const Tensor dy = grad.contiguous(), x = input.contiguous();
  const GivenParameter b(bias_, x);
  const Tensor dx = at::empty_like(x), db = at::empty(bias_.sizes(), b.kept.options());
  const int64_t rows = rows_in(x), columns = x.size(-1);
  const Here here(x);
  const Tensor partial = at::empty({cuda::bias_partial_rows(rows, here), columns},
                                   x.options().dtype(real_of(x)));
  check_launch(bias_name(OP), cuda::bias_backward(OP, type, pointer(dy), pointer(x), b.p, raw(dx),
                                                  raw(db), raw(partial), rows, columns, here));
  return {dx, db.to(bias_.scalar_type())};
}

Tensor prelu(const Tensor& input, const Tensor& weight) {
  check_prelu(input, weight);
  const Type type = type_of("prelu", input);
  const Tensor x = in_slope_order(input, weight);
  const GivenParameter w(weight, x);
  Tensor y = at::empty_like(x);
  const Slopes l = slopes_of(x, weight.numel());
  const Here here(x);
  check_launch("prelu", l.rows ? cuda::slope_rows(type, pointer(x), w.p, raw(y), l.batch * l.area,
                                                  l.channels, here)
                               : cuda::slopes(type, pointer(x), w.p, raw(y), l.batch, l.channels,
                                              l.area, here));
  return y;
}

std::tuple<Tensor, Tensor> prelu_backward(const Tensor& grad, const Tensor& input,
                                          const Tensor& weight) {
  check_prelu(input, weight);
  check_same_shape("prelu", "the gradient", input, grad);
  const Type type = type_of("prelu", input);
  const Tensor x = in_slope_order(input, weight), dy = in_order_of(x, grad);
  const GivenParameter w(weight, x);
  const Tensor dx = at::empty_like(x), dw = at::empty(weight.sizes(), w.kept.options());
  const Slopes l = slopes_of(x, weight.numel());
  const Here here(x);
  const int64_t rows = l.rows ? cuda::bias_partial_rows(l.batch * l.area, here)
                              : cuda::slopes_partial_rows(l.batch, l.area);
  const Tensor partial = at::empty({rows, l.channels}, x.options().dtype(real_of(x)));
  check_launch("prelu", l.rows ? cuda::slope_rows_backward(type, pointer(dy), pointer(x), w.p, raw(dx),
                                                           raw(dw), raw(partial), l.batch * l.area,
                                                           l.channels, here)
                               : cuda::slopes_backward(type, pointer(dy), pointer(x), w.p, raw(dx),
                                                       raw(dw), raw(partial), l.batch, l.channels,
                                                       l.area, here));
  return {dx, dw.to(weight.scalar_type())};
}

template <Activation OP>
Tensor gated(const Tensor& gate, const Tensor& up) {
  const Type type = type_of(gated_name(OP), gate);
  check_same_shape(gated_name(OP), "up", gate, up);
  const Tensor g = dense(gate), u = in_order_of(g, up);
  Tensor y = at::empty_like(g);
  const Here here(g);
  check_launch(gated_name(OP),
               cuda::gated(OP, type, pointer(g), pointer(u), raw(y), g.numel(), here));
  return y;
}

template <Activation OP>
std::tuple<Tensor, Tensor> gated_backward(const Tensor& grad, const Tensor& gate, const Tensor& up) {
  const Type type = type_of(gated_name(OP), gate);
  check_same_shape(gated_name(OP), "up", gate, up);
  check_same_shape(gated_name(OP), "the gradient", gate, grad);
  const Tensor g = dense(gate), u = in_order_of(g, up), dy = in_order_of(g, grad);
  Tensor dg = at::empty_like(g), du = at::empty_like(g);
  const Here here(g);
  check_launch(gated_name(OP), cuda::gated_backward(OP, type, pointer(dy), pointer(g), pointer(u),
                                                    raw(dg), raw(du), g.numel(), here));
  return {dg, du};
}

struct RowsOf {
  int64_t columns, count;
  explicit RowsOf(const Tensor& x)
      : columns(x.dim() ? x.size(-1) : 1), count(columns ? x.numel() / columns : 0) {}
};

// Softmax with or without scale and mask, under its name.
Tensor softmax_of(const char* name, bool logarithm, double scale, const cuda::RowMask& mask,
                  const Tensor& x) {
  const Type type = type_of(name, x);
  Tensor y = at::empty_like(x);
  const RowsOf rows(x);
  const Here here(x);
  const Tensor between = workspace(x, cuda::row_workspace(type, rows.count, rows.columns));
  check_launch(name, cuda::softmax(type, logarithm, scale, mask, pointer(x), raw(y), memory(between),
                                   rows.count, rows.columns, here));
  return y;
}

Tensor softmax_gradient(const char* name, bool logarithm, double scale, bool masked, const Tensor& grad,
                        const Tensor& output) {
  check_same_shape(name, "the gradient", output, grad);
  const Type type = type_of(name, output);
  const Tensor y = output.contiguous(), dy = grad.contiguous();
  Tensor dx = at::empty_like(y);
  const RowsOf rows(y);
  const Here here(y);
  const Tensor between = workspace(y, cuda::row_workspace(type, rows.count, rows.columns));
  check_launch(name, cuda::softmax_backward(type, logarithm, scale, masked, pointer(dy), pointer(y),
                                            raw(dx), memory(between), rows.count, rows.columns, here));
  return dx;
}

template <bool LOG>
Tensor softmax(const Tensor& input) {
  return softmax_of(LOG ? "log_softmax" : "softmax", LOG, 1, {}, input.contiguous());
}

template <bool LOG>
Tensor softmax_backward(const Tensor& grad, const Tensor& output) {
  return softmax_gradient(LOG ? "log_softmax" : "softmax", LOG, 1, false, grad, output);
}

Tensor masked_softmax(const Tensor& input, const OptionalTensor& mask, double scale, bool logarithm) {
  check_mask(input, mask);
  const Tensor x = input.contiguous();
  const MaskView view(mask, x);
  cuda::RowMask rows;
  if (mask.has_value()) {
    rows.kind = mask->scalar_type() == at::kBool             ? cuda::RowMask::keep
                : mask->scalar_type() == input.scalar_type() ? cuda::RowMask::add
                                                             : cuda::RowMask::add_real;
    rows.p = pointer(view.kept);
    for (int i = 0; i < 3; ++i) {
      rows.size[i] = view.size[i];
      rows.stride[i] = view.stride[i];
    }
  }
  return softmax_of("masked_softmax", logarithm, scale, rows, x);
}

Tensor masked_softmax_backward(const Tensor& grad, const Tensor& output, double scale, bool logarithm) {
  return softmax_gradient("masked_softmax", logarithm, scale, true, grad, output);
}

Tensor packed_gate(const Tensor& input, int64_t kind) {
  const Activation op = gate_of(kind);
  check_packed(input);
  const Type type = type_of("packed_gate", input);
  const Tensor x = input.contiguous();
  Tensor y = at::empty_symint(packed_sizes(x), x.options());
  const Here here(x);
  check_launch("packed_gate",
               cuda::packed(op, type, pointer(x), raw(y), packed_rows(x), x.size(-1) / 2, here));
  return y;
}

Tensor packed_gate_backward(const Tensor& grad, const Tensor& input, int64_t kind) {
  const Activation op = gate_of(kind);
  check_packed(input);
  check_packed_gradient(input, grad);
  const Type type = type_of("packed_gate", input);
  const Tensor x = input.contiguous(), dy = grad.contiguous();
  Tensor dx = at::empty_like(x);
  const Here here(x);
  check_launch("packed_gate", cuda::packed_backward(op, type, pointer(dy), pointer(x), raw(dx),
                                                    packed_rows(x), x.size(-1) / 2, here));
  return dx;
}

}  // namespace

TORCH_LIBRARY_IMPL(benchbench, BENCHBENCH_CUDA_KEY, m) {
  BB_FUNCTIONS(m.impl, "", )
  BB_FUNCTIONS(m.impl, "_backward", _backward)
  m.impl("curve", &curve);
  m.impl("curve_backward", &curve_backward);
  m.impl("prelu", &prelu);
  m.impl("prelu_backward", &prelu_backward);
  m.impl("masked_softmax", &masked_softmax);
  m.impl("masked_softmax_backward", &masked_softmax_backward);
  m.impl("packed_gate", &packed_gate);
  m.impl("packed_gate_backward", &packed_gate_backward);
}

}  // namespace benchbench
