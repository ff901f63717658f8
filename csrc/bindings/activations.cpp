// Activations, biased and gated activations, softmax: operators, autograd and direct functions.
//
// Each operator comes in four parts: the CPU function, a Meta function for tracing, an Autograd
// function that re-enters the dispatcher below autograd (so that tracing sees the operators, and the
// backward is one too), and a direct function of the Python module without any of it. Backwards are
// not differentiable: a second derivative raises.
#include "bindings/activations.h"
#include "bindings/cpu_tensors.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool wants_grad(std::initializer_list<const Tensor*> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor* tensor : tensors)
    if (tensor->defined() && tensor->requires_grad()) return true;
  return false;
}

template <class Signature>
auto operator_named(const char* name, const char* suffix = "") {
  return typed_operator<Signature>((std::string("benchbench::") + name + suffix).c_str());
}

struct Rows {
  int64_t count, columns, stride;  // stride in bytes
  explicit Rows(const Tensor& x)
      : count(0), columns(x.dim() ? x.size(-1) : 1), stride(columns * x.element_size()) {
    if (columns) count = x.numel() / columns;
  }
  // f(offset in bytes, rows)
  template <class F>
  void in_parallel(F f) const {
    at::parallel_for(0, count, GRAIN / (columns + 1) + 1, [=, this](int64_t begin, int64_t end) {
      f(begin * stride, end - begin);
    });
  }
};

// ---- alone ----

Tensor like(const Tensor& x) { return at::empty_like(dense(x)); }

template <Activation OP>
Tensor unary(const Tensor& input) {
  const Type type = type_of(name_of(OP), input);
  const Tensor x = dense(input);
  const Tensor y = new_like(x);
  const auto kernel = kernels().unary;
  const char* from = bytes(x);
  char* to = mutable_bytes(y);
  const bool stream = streams(y);
  over_elements(x, [=](int64_t at, int64_t n) { kernel(OP, type, from + at, to + at, n, stream); });
  return y;
}

template <Activation OP>
Tensor unary_backward(const Tensor& grad, const Tensor& kept) {
  check_same_shape(name_of(OP), "the gradient", kept, grad);
  const Type type = type_of(name_of(OP), kept);
  const Tensor k = dense(kept), dy = in_order_of(k, grad);
  const Tensor dx = new_like(k);
  const auto kernel = kernels().unary_backward;
  const char *g = bytes(dy), *from = bytes(k);
  char* to = mutable_bytes(dx);
  const bool stream = streams(dx);
  over_elements(k, [=](int64_t at, int64_t n) {
    kernel(OP, type, g + at, from + at, to + at, n, stream);
  });
  return dx;
}

template <Activation OP>
Tensor unary_meta(const Tensor& input) {
  check_floating(name_of(OP), input);
  return like(input);
}

template <Activation OP>
Tensor unary_backward_meta(const Tensor& grad, const Tensor& kept) {
  check_same_shape(name_of(OP), "the gradient", kept, grad);
  return like(kept);
}

template <Activation OP>
struct Unary : torch::autograd::Function<Unary<OP>> {
  static Tensor call(const Tensor& input) {
    static const auto op = operator_named<Tensor(const Tensor&)>(name_of(OP));
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input) {
    Tensor output = call(input);
    context->save_for_backward({keeps_output(OP) ? output : input});
    return output;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        operator_named<Tensor(const Tensor&, const Tensor&)>(name_of(OP), "_backward");
    return {op.call(grads[0], context->get_saved_variables()[0])};
  }
};

template <Activation OP>
Tensor unary_autograd(const Tensor& input) {
  return wants_grad({&input}) ? Unary<OP>::apply(input) : Unary<OP>::call(input);
}

// ---- with a bias along the last dimension ----

template <Activation OP>
Tensor bias(const Tensor& input, const Tensor& bias_) {
  check_bias(bias_name(OP), input, bias_);
  const Type type = type_of(bias_name(OP), input);
  const Tensor x = input.contiguous(), b = as_real(bias_, real_of(x));
  const Tensor y = new_like(x);
  const Rows rows(x);
  const auto kernel = kernels().bias;
  const char *from = bytes(x), *add = bytes(b);
  char* to = mutable_bytes(y);
  const bool stream = streams(y);
  rows.in_parallel([=](int64_t at, int64_t count) {
    kernel(OP, type, from + at, add, to + at, count, rows.columns, stream);
  });
  return y;
}

// Sums of the rows of `partial`, in double and in their order.
template <class Real>
void sum_rows(const Tensor& partial, const Tensor& total) {
  const int64_t rows = partial.size(0), columns = partial.size(1);
  const Real* from = static_cast<const Real*>(partial.const_data_ptr());
  Real* to = static_cast<Real*>(total.mutable_data_ptr());
  at::parallel_for(0, columns, GRAIN / rows + 1, [=](int64_t begin, int64_t end) {
    constexpr int64_t STRIP = 64;
    for (int64_t strip = begin; strip < end; strip += STRIP) {
      const int64_t width = std::min(STRIP, end - strip);
      double sums[STRIP] = {};
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < width; ++i) sums[i] += from[row * columns + strip + i];
      for (int64_t i = 0; i < width; ++i) to[strip + i] = static_cast<Real>(sums[i]);
    }
  });
}

template <Activation OP>
std::tuple<Tensor, Tensor> bias_backward(const Tensor& grad, const Tensor& input,
                                         const Tensor& bias_) {
  check_bias(bias_name(OP), input, bias_);
  check_same_shape(bias_name(OP), "the gradient", input, grad);
  const Type type = type_of(bias_name(OP), input);
  const Tensor dy = grad.contiguous(), x = input.contiguous(), b = as_real(bias_, real_of(x));
  const Tensor dx = new_like(x);
  const Rows rows(x);
  // Chunks by size alone, so that sums are the same with any number of threads, and small, so that
  // their rounding stays so: the partial sums are one part in two hundred of the traffic.
  const int64_t chunks = std::max<int64_t>(rows.count / 64, 1);
  const Tensor partial = new_tensor({chunks, rows.columns}, b.scalar_type());
  const int64_t partial_stride = rows.columns * partial.element_size();
  const auto kernel = kernels().bias_backward;
  const char *g = bytes(dy), *from = bytes(x), *add = bytes(b);
  char *to = mutable_bytes(dx), *sums = mutable_bytes(partial);
  const bool stream = streams(dx);
  for_chunks(rows.count, chunks, rows.columns, [=](int64_t chunk, int64_t begin, int64_t end) {
    const int64_t at = begin * rows.stride;
    kernel(OP, type, g + at, from + at, add, to + at, sums + chunk * partial_stride, end - begin,
           rows.columns, stream);
  });
  if (chunks == 1) return {dx, partial.view({rows.columns}).to(bias_.scalar_type())};
  const Tensor total = new_tensor({rows.columns}, b.scalar_type());
  if (b.scalar_type() == at::kDouble)
    sum_rows<double>(partial, total);
  else
    sum_rows<float>(partial, total);
  return {dx, total.to(bias_.scalar_type())};
}

template <Activation OP>
Tensor bias_meta(const Tensor& input, const Tensor& bias_) {
  check_bias(bias_name(OP), input, bias_);
  return at::empty_like(input.contiguous());
}

template <Activation OP>
std::tuple<Tensor, Tensor> bias_backward_meta(const Tensor& grad, const Tensor& input,
                                              const Tensor& bias_) {
  check_same_shape(bias_name(OP), "the gradient", input, grad);
  return {at::empty_like(input.contiguous()), at::empty_like(bias_.contiguous())};
}

template <Activation OP>
struct Bias : torch::autograd::Function<Bias<OP>> {
  static Tensor call(const Tensor& input, const Tensor& bias_) {
    static const auto op = operator_named<Tensor(const Tensor&, const Tensor&)>(bias_name(OP));
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, bias_);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& bias_) {
    context->save_for_backward({input, bias_});
    return call(input, bias_);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        operator_named<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&)>(
            bias_name(OP), "_backward");
    const auto saved = context->get_saved_variables();
    auto [dx, db] = op.call(grads[0], saved[0], saved[1]);
    return {dx, db};
  }
};

template <Activation OP>
Tensor bias_autograd(const Tensor& input, const Tensor& bias_) {
  return wants_grad({&input, &bias_}) ? Bias<OP>::apply(input, bias_) : Bias<OP>::call(input, bias_);
}

// ---- gated: f(gate) * up ----

template <Activation OP>
Tensor gated(const Tensor& gate, const Tensor& up) {
  const Type type = type_of(gated_name(OP), gate);
  check_same_shape(gated_name(OP), "up", gate, up);
  const Tensor g = dense(gate), u = in_order_of(g, up);
  const Tensor y = new_like(g);
  const auto kernel = kernels().gated;
  const char *pg = bytes(g), *pu = bytes(u);
  char* to = mutable_bytes(y);
  const bool stream = streams(y);
  over_elements(g, [=](int64_t at, int64_t n) {
    kernel(OP, type, pg + at, pu + at, to + at, n, stream);
  });
  return y;
}

template <Activation OP>
std::tuple<Tensor, Tensor> gated_backward(const Tensor& grad, const Tensor& gate, const Tensor& up) {
  const Type type = type_of(gated_name(OP), gate);
  check_same_shape(gated_name(OP), "up", gate, up);
  check_same_shape(gated_name(OP), "the gradient", gate, grad);
  const Tensor g = dense(gate), u = in_order_of(g, up), dy = in_order_of(g, grad);
  const Tensor dg = new_like(g), du = new_like(g);
  const auto kernel = kernels().gated_backward;
  const char *pd = bytes(dy), *pg = bytes(g), *pu = bytes(u);
  char *to_g = mutable_bytes(dg), *to_u = mutable_bytes(du);
  const bool stream = streams(dg);
  over_elements(g, [=](int64_t at, int64_t n) {
    kernel(OP, type, pd + at, pg + at, pu + at, to_g + at, to_u + at, n, stream);
  });
  return {dg, du};
}

template <Activation OP>
Tensor gated_meta(const Tensor& gate, const Tensor& up) {
  check_floating(gated_name(OP), gate);
  check_same_shape(gated_name(OP), "up", gate, up);
  return like(gate);
}

template <Activation OP>
std::tuple<Tensor, Tensor> gated_backward_meta(const Tensor& grad, const Tensor& gate,
                                               const Tensor& up) {
  check_same_shape(gated_name(OP), "the gradient", gate, grad);
  return {like(gate), like(gate)};
}

template <Activation OP>
struct Gated : torch::autograd::Function<Gated<OP>> {
  static Tensor call(const Tensor& gate, const Tensor& up) {
    static const auto op = operator_named<Tensor(const Tensor&, const Tensor&)>(gated_name(OP));
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(gate, up);
  }
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up) {
    context->save_for_backward({gate, up});
    return call(gate, up);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        operator_named<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&)>(
            gated_name(OP), "_backward");
    const auto saved = context->get_saved_variables();
    auto [dg, du] = op.call(grads[0], saved[0], saved[1]);
    return {dg, du};
  }
};

template <Activation OP>
Tensor gated_autograd(const Tensor& gate, const Tensor& up) {
  return wants_grad({&gate, &up}) ? Gated<OP>::apply(gate, up) : Gated<OP>::call(gate, up);
}

// ---- softmax over the last dimension, and its logarithm ----

constexpr const char* softmax_name(bool logarithm) { return logarithm ? "log_softmax" : "softmax"; }

template <bool LOG>
Tensor softmax(const Tensor& input) {
  const Type type = type_of(softmax_name(LOG), input);
  const Tensor x = input.contiguous();
  const Tensor y = new_like(x);
  const Rows rows(x);
  const auto kernel = kernels().softmax;
  const char* from = bytes(x);
  char* to = mutable_bytes(y);
  const bool stream = streams(y);
  rows.in_parallel([=](int64_t at, int64_t count) {
    kernel(type, LOG, from + at, to + at, count, rows.columns, stream);
  });
  return y;
}

template <bool LOG>
Tensor softmax_backward(const Tensor& grad, const Tensor& output) {
  check_same_shape(softmax_name(LOG), "the gradient", output, grad);
  const Type type = type_of(softmax_name(LOG), output);
  const Tensor dy = grad.contiguous(), y = output.contiguous();
  const Tensor dx = new_like(y);
  const Rows rows(y);
  const auto kernel = kernels().softmax_backward;
  const char *g = bytes(dy), *from = bytes(y);
  char* to = mutable_bytes(dx);
  const bool stream = streams(dx);
  rows.in_parallel([=](int64_t at, int64_t count) {
    kernel(type, LOG, g + at, from + at, to + at, count, rows.columns, stream);
  });
  return dx;
}

template <bool LOG>
Tensor softmax_meta(const Tensor& input) {
  check_floating(softmax_name(LOG), input);
  return at::empty_like(input.contiguous());
}

template <bool LOG>
Tensor softmax_backward_meta(const Tensor& grad, const Tensor& output) {
  check_same_shape(softmax_name(LOG), "the gradient", output, grad);
  return at::empty_like(output.contiguous());
}

template <bool LOG>
struct Softmax : torch::autograd::Function<Softmax<LOG>> {
  static Tensor call(const Tensor& input) {
    static const auto op = operator_named<Tensor(const Tensor&)>(softmax_name(LOG));
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input) {
    Tensor output = call(input);
    context->save_for_backward({output});
    return output;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        operator_named<Tensor(const Tensor&, const Tensor&)>(softmax_name(LOG), "_backward");
    return {op.call(grads[0], context->get_saved_variables()[0])};
  }
};

template <bool LOG>
Tensor softmax_autograd(const Tensor& input) {
  return wants_grad({&input}) ? Softmax<LOG>::apply(input) : Softmax<LOG>::call(input);
}

}  // namespace

#define BB_ONE(NAME, KEPT)                                             \
  m.def(#NAME "(Tensor input) -> Tensor");                             \
  m.def(#NAME "_backward(Tensor grad, Tensor " #KEPT ") -> Tensor");
#define BB_TWO(NAME, FIRST, SECOND)                                                       \
  m.def(#NAME "(Tensor " #FIRST ", Tensor " #SECOND ") -> Tensor");                       \
  m.def(#NAME "_backward(Tensor grad, Tensor " #FIRST ", Tensor " #SECOND                 \
              ") -> (Tensor, Tensor)");

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  BB_ONE(relu, output) BB_ONE(sigmoid, output) BB_ONE(tanh, output)
  BB_ONE(gelu, input) BB_ONE(gelu_tanh, input) BB_ONE(silu, input)
  BB_TWO(bias_relu, input, bias) BB_TWO(bias_gelu, input, bias)
  BB_TWO(bias_gelu_tanh, input, bias) BB_TWO(bias_silu, input, bias)
  BB_TWO(reglu, gate, up) BB_TWO(geglu, gate, up) BB_TWO(geglu_tanh, gate, up)
  BB_TWO(swiglu, gate, up)
  BB_ONE(softmax, output) BB_ONE(log_softmax, output)
}

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  BB_FUNCTIONS(m.impl, "", )
  BB_FUNCTIONS(m.impl, "_backward", _backward)
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  BB_FUNCTIONS(m.impl, "", _meta)
  BB_FUNCTIONS(m.impl, "_backward", _backward_meta)
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  BB_FUNCTIONS(m.impl, "", _autograd)
  // A second derivative does not exist here: it must raise, not be silently zero.
  const auto not_differentiable = [&](const char* name, auto&&) {
    m.impl(name, torch::autograd::autogradNotImplementedFallback());
  };
  BB_FUNCTIONS(not_differentiable, "_backward", _backward)
}

void bind_activations(pybind11::module_& m) {
  // A name that is mistyped must not silently mean the best.
  if (const char* wanted = std::getenv("BENCHBENCH_ISA"); wanted && !choose(wanted)) {
    const char* names[8];
    std::string text = std::string("BENCHBENCH_ISA=") + wanted +
                       ": this processor or build has no such instruction set; use one of";
    for (int i = 0, count = available(names, 8); i < count; ++i) text += std::string(" ") + names[i];
    throw pybind11::import_error(text);
  }
  m.def("stream_from", &stream_from,
        "Stream outputs of at least so many bytes past the caches; negative: the usual limit, this "
        "process's share of the last-level cache. Returns the limit before.");
  BB_FUNCTIONS(m.def, "", )
  BB_FUNCTIONS(m.def, "_backward", _backward)
}

}  // namespace benchbench
