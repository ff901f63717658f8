// What the activations' units for CPU and CUDA share: names, checks, the list of operators.
#pragma once

#include "bindings/common.h"

namespace benchbench {

constexpr const char* NAMES[] = {"relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"};
constexpr const char* BIAS_NAMES[] = {"bias_relu", "", "", "bias_gelu", "bias_gelu_tanh", "bias_silu"};
constexpr const char* GATED_NAMES[] = {"reglu", "", "", "geglu", "geglu_tanh", "swiglu"};

constexpr const char* name_of(Activation op) { return NAMES[static_cast<int>(op)]; }
constexpr const char* bias_name(Activation op) { return BIAS_NAMES[static_cast<int>(op)]; }
constexpr const char* gated_name(Activation op) { return GATED_NAMES[static_cast<int>(op)]; }

// What the backward needs: see csrc/cpu/kernels.h.
constexpr bool keeps_output(Activation op) {
  return op == Activation::relu || op == Activation::sigmoid || op == Activation::tanh;
}

inline void check_bias(const char* op, const Tensor& input, const Tensor& bias) {
  check_floating(op, input);
  TORCH_CHECK(input.dim() >= 1, "benchbench::", op,
              ": the input has no dimension for the bias to run along; give it one");
  check_parameter(op, "the bias", input, bias, input.sym_size(-1));
}

constexpr const char* CURVE_NAMES[] = {"softplus", "log_sigmoid", "elu",
                                       "mish",     "hardswish",   "leaky_relu"};
constexpr int64_t CURVES = sizeof CURVE_NAMES / sizeof CURVE_NAMES[0];

inline Curve curve_of(int64_t kind) {
  TORCH_CHECK(kind >= 0 && kind < CURVES, "benchbench::curve: there is no curve ", kind,
              "; it must be 0 to ", CURVES - 1, ", see CURVES of the library");
  return static_cast<Curve>(kind);
}

// ---- prelu ----
// Channels are the second dimension (the only one of a vector, as in torch). In memory a range with
// one slope is a plane, (batch, channels, area), or the slopes run along rows (channels last).

struct Slopes {
  bool rows;
  int64_t batch, channels, area;
};

inline Tensor in_slope_order(const Tensor& x, const Tensor& weight) {
  return weight.sym_numel() == 1 ? dense(x) : laid_out(x);
}

inline Slopes slopes_of(const Tensor& x, int64_t slopes) {
  const int64_t n = x.numel();
  if (slopes == 1 || x.dim() < 2) return {false, 1, 1, n};
  const int64_t channels = x.size(1), batch = x.size(0);
  const int64_t area = batch * channels ? n / (batch * channels) : 0;
  return {is_pixels(x), batch, channels, area};
}

inline void check_prelu(const Tensor& input, const Tensor& weight) {
  check_floating("prelu", input);
  const c10::SymInt channels = input.dim() >= 2 ? input.sym_size(1) : c10::SymInt(1);
  const c10::SymInt slopes = weight.sym_numel();
  TORCH_CHECK(weight.dim() <= 1 && (slopes == 1 || slopes == channels),
              "benchbench::prelu: the weight has shape ", weight.sym_sizes(),
              "; it must be one value, or one for each of the input's ", channels, " channels");
  check_parameter("prelu", "the weight", input, weight.dim() ? weight : weight.unsqueeze(0), slopes);
}

}  // namespace benchbench

// Every operator with its function; each(name, function) for those that end in SUFFIX.
#define BB_FUNCTIONS(each, END, SUFFIX)                                 \
  each("relu" END, &unary##SUFFIX<Activation::relu>);                   \
  each("sigmoid" END, &unary##SUFFIX<Activation::sigmoid>);             \
  each("tanh" END, &unary##SUFFIX<Activation::tanh>);                   \
  each("gelu" END, &unary##SUFFIX<Activation::gelu>);                   \
  each("gelu_tanh" END, &unary##SUFFIX<Activation::gelu_tanh>);         \
  each("silu" END, &unary##SUFFIX<Activation::silu>);                   \
  each("bias_relu" END, &bias##SUFFIX<Activation::relu>);               \
  each("bias_gelu" END, &bias##SUFFIX<Activation::gelu>);               \
  each("bias_gelu_tanh" END, &bias##SUFFIX<Activation::gelu_tanh>);     \
  each("bias_silu" END, &bias##SUFFIX<Activation::silu>);               \
  each("reglu" END, &gated##SUFFIX<Activation::relu>);                  \
  each("geglu" END, &gated##SUFFIX<Activation::gelu>);                  \
  each("geglu_tanh" END, &gated##SUFFIX<Activation::gelu_tanh>);        \
  each("swiglu" END, &gated##SUFFIX<Activation::silu>);                 \
  each("softmax" END, &softmax##SUFFIX<false>);                         \
  each("log_softmax" END, &softmax##SUFFIX<true>);

