// Activations, biased and gated activations, softmax: operators, autograd and direct functions.
//
// Each operator comes in four parts: the CPU function, a Meta function for tracing, an Autograd
// function that re-enters the dispatcher below autograd (so that tracing sees the operators, and the
// backward is one too), and a direct function of the Python module without any of it.
#include "bindings/common.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* NAMES[] = {"relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"};

constexpr const char* name_of(Activation op) { return NAMES[static_cast<int>(op)]; }

// Half precision: the same in float32, rounded at the end.
bool is_half(const Tensor& x) { return x.scalar_type() == at::kHalf; }
Tensor up(const Tensor& x) { return x.to(at::kFloat); }
Tensor down(const Tensor& x) { return x.to(at::kHalf); }

// ---- alone ----

template <Activation OP>
Tensor unary(const Tensor& input) {
  check_floating(name_of(OP), input);
  if (is_half(input)) return down(unary<OP>(up(input)));
  const Type type = type_of(name_of(OP), input);
  const Tensor x = dense(input);
  Tensor y = at::empty_like(x);
  const auto kernel = kernels().unary;
  const char* from = static_cast<const char*>(pointer(x));
  char* to = static_cast<char*>(y.mutable_data_ptr());
  const int64_t size = x.element_size();
  at::parallel_for(0, x.numel(), GRAIN, [=](int64_t begin, int64_t end) {
    kernel(OP, type, from + begin * size, to + begin * size, end - begin);
  });
  return y;
}

template <Activation OP>
Tensor unary_backward(const Tensor& grad, const Tensor& input) {
  check_same_shape(name_of(OP), "the gradient", input, grad);
  if (is_half(input)) return down(unary_backward<OP>(up(grad), up(input)));
  const Type type = type_of(name_of(OP), input);
  const Tensor x = dense(input), dy = in_order_of(x, grad);
  Tensor dx = at::empty_like(x);
  const auto kernel = kernels().unary_backward;
  const char* g = static_cast<const char*>(pointer(dy));
  const char* from = static_cast<const char*>(pointer(x));
  char* to = static_cast<char*>(dx.mutable_data_ptr());
  const int64_t size = x.element_size();
  at::parallel_for(0, x.numel(), GRAIN, [=](int64_t begin, int64_t end) {
    kernel(OP, type, g + begin * size, from + begin * size, to + begin * size, end - begin);
  });
  return dx;
}

Tensor like_input(const Tensor& input) { return at::empty_like(dense(input)); }

template <Activation OP>
Tensor unary_meta(const Tensor& input) {
  check_floating(name_of(OP), input);
  return like_input(input);
}

template <Activation OP>
Tensor unary_backward_meta(const Tensor& grad, const Tensor& input) {
  check_same_shape(name_of(OP), "the gradient", input, grad);
  return like_input(input);
}

template <Activation OP>
struct Unary : torch::autograd::Function<Unary<OP>> {
  static Tensor call(const Tensor& input) {
    static const auto op =
        typed_operator<Tensor(const Tensor&)>((std::string("benchbench::") + name_of(OP)).c_str());
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input) {
    context->save_for_backward({input});
    return call(input);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op = typed_operator<Tensor(const Tensor&, const Tensor&)>(
        (std::string("benchbench::") + name_of(OP) + "_backward").c_str());
    return {op.call(grads[0], context->get_saved_variables()[0])};
  }
};

bool wants_grad(std::initializer_list<const Tensor*> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor* tensor : tensors)
    if (tensor->defined() && tensor->requires_grad()) return true;
  return false;
}

template <Activation OP>
Tensor unary_autograd(const Tensor& input) {
  return wants_grad({&input}) ? Unary<OP>::apply(input) : Unary<OP>::call(input);
}

// ---- with a bias along the last dimension ----

void check_bias(const char* op, const Tensor& input, const Tensor& bias) {
  check_floating(op, input);
  check_same(op, "the bias", input, bias);
  TORCH_CHECK(input.dim() >= 1 && bias.dim() == 1 && bias.sym_size(0) == input.sym_size(-1),
              "benchbench::bias_", op, ": the bias has shape ", bias.sym_sizes(),
              "; it must have one dimension, as long as the last of the input's ",
              input.sym_sizes());
}

template <Activation OP>
Tensor bias(const Tensor& input, const Tensor& bias_) {
  check_bias(name_of(OP), input, bias_);
  if (is_half(input)) return down(bias<OP>(up(input), up(bias_)));
  const Type type = type_of(name_of(OP), input);
  const Tensor x = input.contiguous(), b = bias_.contiguous();
  Tensor y = at::empty_like(x);
  const int64_t columns = x.size(-1), rows = columns ? x.numel() / columns : 0;
  const int64_t stride = columns * x.element_size();
  const auto kernel = kernels().bias;
  const char* from = static_cast<const char*>(pointer(x));
  char* to = static_cast<char*>(y.mutable_data_ptr());
  const void* add = pointer(b);
  at::parallel_for(0, rows, GRAIN / (columns + 1) + 1, [=](int64_t begin, int64_t end) {
    kernel(OP, type, from + begin * stride, add, to + begin * stride, end - begin, columns);
  });
  return y;
}

template <Activation OP>
std::tuple<Tensor, Tensor> bias_backward(const Tensor& grad, const Tensor& input,
                                         const Tensor& bias_) {
  check_same_shape(name_of(OP), "the gradient", input, grad);
  if (is_half(input)) {
    auto [dx, db] = bias_backward<OP>(up(grad), up(input), up(bias_));
    return {down(dx), down(db)};
  }
  const Type type = type_of(name_of(OP), input);
  const Tensor dy = grad.contiguous(), x = input.contiguous(), b = bias_.contiguous();
  Tensor dx = at::empty_like(x);
  const int64_t columns = x.size(-1), rows = columns ? x.numel() / columns : 0;
  const int64_t chunks = row_chunks(rows), stride = columns * x.element_size();
  Tensor partial = at::empty({chunks, columns}, x.options().dtype(real_of(x)));
  const int64_t partial_stride = columns * partial.element_size();
  const auto kernel = kernels().bias_backward;
  const char *g = static_cast<const char*>(pointer(dy)), *from = static_cast<const char*>(pointer(x));
  char *to = static_cast<char*>(dx.mutable_data_ptr()),
       *sums = static_cast<char*>(partial.mutable_data_ptr());
  const void* add = pointer(b);
  for_chunks(rows, chunks, columns, [=](int64_t chunk, int64_t begin, int64_t end) {
    kernel(OP, type, g + begin * stride, from + begin * stride, add, to + begin * stride,
           sums + chunk * partial_stride, end - begin, columns);
  });
  return {dx, partial.sum(0).to(bias_.scalar_type())};
}

template <Activation OP>
Tensor bias_meta(const Tensor& input, const Tensor& bias_) {
  check_bias(name_of(OP), input, bias_);
  return at::empty_like(input.contiguous());
}

template <Activation OP>
std::tuple<Tensor, Tensor> bias_backward_meta(const Tensor& grad, const Tensor& input,
                                              const Tensor& bias_) {
  check_same_shape(name_of(OP), "the gradient", input, grad);
  return {at::empty_like(input.contiguous()), at::empty_like(bias_.contiguous())};
}

template <Activation OP>
struct Bias : torch::autograd::Function<Bias<OP>> {
  static Tensor call(const Tensor& input, const Tensor& bias_) {
    static const auto op = typed_operator<Tensor(const Tensor&, const Tensor&)>(
        (std::string("benchbench::bias_") + name_of(OP)).c_str());
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, bias_);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& bias_) {
    context->save_for_backward({input, bias_});
    return call(input, bias_);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&)>(
            (std::string("benchbench::bias_") + name_of(OP) + "_backward").c_str());
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
Tensor gated(const Tensor& gate, const Tensor& up_) {
  check_floating(name_of(OP), gate);
  check_same_shape(name_of(OP), "up", gate, up_);
  if (is_half(gate)) return down(gated<OP>(up(gate), up(up_)));
  const Type type = type_of(name_of(OP), gate);
  const Tensor g = dense(gate), u = in_order_of(g, up_);
  Tensor y = at::empty_like(g);
  const auto kernel = kernels().gated;
  const char *pg = static_cast<const char*>(pointer(g)), *pu = static_cast<const char*>(pointer(u));
  char* to = static_cast<char*>(y.mutable_data_ptr());
  const int64_t size = g.element_size();
  at::parallel_for(0, g.numel(), GRAIN, [=](int64_t begin, int64_t end) {
    kernel(OP, type, pg + begin * size, pu + begin * size, to + begin * size, end - begin);
  });
  return y;
}

template <Activation OP>
std::tuple<Tensor, Tensor> gated_backward(const Tensor& grad, const Tensor& gate,
                                          const Tensor& up_) {
  check_same_shape(name_of(OP), "the gradient", gate, grad);
  if (is_half(gate)) {
    auto [dg, du] = gated_backward<OP>(up(grad), up(gate), up(up_));
    return {down(dg), down(du)};
  }
  const Type type = type_of(name_of(OP), gate);
  const Tensor g = dense(gate), u = in_order_of(g, up_), dy = in_order_of(g, grad);
  Tensor dg = at::empty_like(g), du = at::empty_like(g);
  const auto kernel = kernels().gated_backward;
  const char *pd = static_cast<const char*>(pointer(dy)), *pg = static_cast<const char*>(pointer(g)),
             *pu = static_cast<const char*>(pointer(u));
  char *to_g = static_cast<char*>(dg.mutable_data_ptr()),
       *to_u = static_cast<char*>(du.mutable_data_ptr());
  const int64_t size = g.element_size();
  at::parallel_for(0, g.numel(), GRAIN, [=](int64_t begin, int64_t end) {
    const int64_t at = begin * size;
    kernel(OP, type, pd + at, pg + at, pu + at, to_g + at, to_u + at, end - begin);
  });
  return {dg, du};
}

template <Activation OP>
Tensor gated_meta(const Tensor& gate, const Tensor& up_) {
  check_floating(name_of(OP), gate);
  check_same_shape(name_of(OP), "up", gate, up_);
  return like_input(gate);
}

template <Activation OP>
std::tuple<Tensor, Tensor> gated_backward_meta(const Tensor& grad, const Tensor& gate,
                                               const Tensor& up_) {
  check_same_shape(name_of(OP), "the gradient", gate, grad);
  return {like_input(gate), like_input(gate)};
}

constexpr const char* gated_name(Activation op) {
  return op == Activation::silu ? "swiglu" : op == Activation::gelu ? "geglu" : "reglu";
}

template <Activation OP>
struct Gated : torch::autograd::Function<Gated<OP>> {
  static Tensor call(const Tensor& gate, const Tensor& up_) {
    static const auto op = typed_operator<Tensor(const Tensor&, const Tensor&)>(
        (std::string("benchbench::") + gated_name(OP)).c_str());
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(gate, up_);
  }
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up_) {
    context->save_for_backward({gate, up_});
    return call(gate, up_);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&)>(
            (std::string("benchbench::") + gated_name(OP) + "_backward").c_str());
    const auto saved = context->get_saved_variables();
    auto [dg, du] = op.call(grads[0], saved[0], saved[1]);
    return {dg, du};
  }
};

template <Activation OP>
Tensor gated_autograd(const Tensor& gate, const Tensor& up_) {
  return wants_grad({&gate, &up_}) ? Gated<OP>::apply(gate, up_) : Gated<OP>::call(gate, up_);
}

// ---- softmax over the last dimension ----

void check_softmax(const Tensor& input) {
  check_floating("softmax", input);
  TORCH_CHECK(input.dim() >= 1, "benchbench::softmax: the input has no dimension; give it one");
}

Tensor softmax(const Tensor& input) {
  check_softmax(input);
  if (is_half(input)) return down(softmax(up(input)));
  const Type type = type_of("softmax", input);
  const Tensor x = input.contiguous();
  Tensor y = at::empty_like(x);
  const int64_t columns = x.size(-1), rows = columns ? x.numel() / columns : 0;
  const int64_t stride = columns * x.element_size();
  const auto kernel = kernels().softmax;
  const char* from = static_cast<const char*>(pointer(x));
  char* to = static_cast<char*>(y.mutable_data_ptr());
  at::parallel_for(0, rows, GRAIN / (columns + 1) + 1, [=](int64_t begin, int64_t end) {
    kernel(type, from + begin * stride, to + begin * stride, end - begin, columns);
  });
  return y;
}

Tensor softmax_backward(const Tensor& grad, const Tensor& output) {
  check_same_shape("softmax", "the gradient", output, grad);
  if (is_half(output)) return down(softmax_backward(up(grad), up(output)));
  const Type type = type_of("softmax", output);
  const Tensor dy = grad.contiguous(), y = output.contiguous();
  Tensor dx = at::empty_like(y);
  const int64_t columns = y.size(-1), rows = columns ? y.numel() / columns : 0;
  const int64_t stride = columns * y.element_size();
  const auto kernel = kernels().softmax_backward;
  const char *g = static_cast<const char*>(pointer(dy)), *from = static_cast<const char*>(pointer(y));
  char* to = static_cast<char*>(dx.mutable_data_ptr());
  at::parallel_for(0, rows, GRAIN / (columns + 1) + 1, [=](int64_t begin, int64_t end) {
    kernel(type, g + begin * stride, from + begin * stride, to + begin * stride, end - begin,
           columns);
  });
  return dx;
}

Tensor softmax_meta(const Tensor& input) {
  check_softmax(input);
  return at::empty_like(input.contiguous());
}

Tensor softmax_backward_meta(const Tensor& grad, const Tensor& output) {
  check_same_shape("softmax", "the gradient", output, grad);
  return at::empty_like(output.contiguous());
}

struct Softmax : torch::autograd::Function<Softmax> {
  static Tensor call(const Tensor& input) {
    static const auto op = typed_operator<Tensor(const Tensor&)>("benchbench::softmax");
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
        typed_operator<Tensor(const Tensor&, const Tensor&)>("benchbench::softmax_backward");
    return {op.call(grads[0], context->get_saved_variables()[0])};
  }
};

Tensor softmax_autograd(const Tensor& input) {
  return wants_grad({&input}) ? Softmax::apply(input) : Softmax::call(input);
}

}  // namespace

#define BB_UNARY(OP)                                                   \
  m.def(#OP "(Tensor input) -> Tensor");                               \
  m.def(#OP "_backward(Tensor grad, Tensor input) -> Tensor");
#define BB_BIAS(OP)                                                    \
  m.def("bias_" #OP "(Tensor input, Tensor bias) -> Tensor");          \
  m.def("bias_" #OP "_backward(Tensor grad, Tensor input, Tensor bias) -> (Tensor, Tensor)");
#define BB_GATED(NAME)                                                 \
  m.def(#NAME "(Tensor gate, Tensor up) -> Tensor");                   \
  m.def(#NAME "_backward(Tensor grad, Tensor gate, Tensor up) -> (Tensor, Tensor)");

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  BB_UNARY(relu) BB_UNARY(sigmoid) BB_UNARY(tanh) BB_UNARY(gelu) BB_UNARY(gelu_tanh) BB_UNARY(silu)
  BB_BIAS(relu) BB_BIAS(gelu) BB_BIAS(gelu_tanh) BB_BIAS(silu)
  BB_GATED(swiglu) BB_GATED(geglu) BB_GATED(reglu)
  m.def("softmax(Tensor input) -> Tensor");
  m.def("softmax_backward(Tensor grad, Tensor output) -> Tensor");
}

// The kernels of one dispatch key: unary_SUFFIX and so on.
#define BB_IMPLEMENT(SUFFIX)                                                        \
  m.impl("relu", &unary##SUFFIX<Activation::relu>);                                 \
  m.impl("sigmoid", &unary##SUFFIX<Activation::sigmoid>);                           \
  m.impl("tanh", &unary##SUFFIX<Activation::tanh>);                                 \
  m.impl("gelu", &unary##SUFFIX<Activation::gelu>);                                 \
  m.impl("gelu_tanh", &unary##SUFFIX<Activation::gelu_tanh>);                       \
  m.impl("silu", &unary##SUFFIX<Activation::silu>);                                 \
  m.impl("bias_relu", &bias##SUFFIX<Activation::relu>);                             \
  m.impl("bias_gelu", &bias##SUFFIX<Activation::gelu>);                             \
  m.impl("bias_gelu_tanh", &bias##SUFFIX<Activation::gelu_tanh>);                   \
  m.impl("bias_silu", &bias##SUFFIX<Activation::silu>);                             \
  m.impl("swiglu", &gated##SUFFIX<Activation::silu>);                               \
  m.impl("geglu", &gated##SUFFIX<Activation::gelu>);                                \
  m.impl("reglu", &gated##SUFFIX<Activation::relu>);                                \
  m.impl("softmax", &softmax##SUFFIX);

#define BB_IMPLEMENT_BACKWARD(SUFFIX)                                               \
  m.impl("relu_backward", &unary_backward##SUFFIX<Activation::relu>);               \
  m.impl("sigmoid_backward", &unary_backward##SUFFIX<Activation::sigmoid>);         \
  m.impl("tanh_backward", &unary_backward##SUFFIX<Activation::tanh>);               \
  m.impl("gelu_backward", &unary_backward##SUFFIX<Activation::gelu>);               \
  m.impl("gelu_tanh_backward", &unary_backward##SUFFIX<Activation::gelu_tanh>);     \
  m.impl("silu_backward", &unary_backward##SUFFIX<Activation::silu>);               \
  m.impl("bias_relu_backward", &bias_backward##SUFFIX<Activation::relu>);           \
  m.impl("bias_gelu_backward", &bias_backward##SUFFIX<Activation::gelu>);           \
  m.impl("bias_gelu_tanh_backward", &bias_backward##SUFFIX<Activation::gelu_tanh>); \
  m.impl("bias_silu_backward", &bias_backward##SUFFIX<Activation::silu>);           \
  m.impl("swiglu_backward", &gated_backward##SUFFIX<Activation::silu>);             \
  m.impl("geglu_backward", &gated_backward##SUFFIX<Activation::gelu>);              \
  m.impl("reglu_backward", &gated_backward##SUFFIX<Activation::relu>);              \
  m.impl("softmax_backward", &softmax_backward##SUFFIX);

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  BB_IMPLEMENT()
  BB_IMPLEMENT_BACKWARD()
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  BB_IMPLEMENT(_meta)
  BB_IMPLEMENT_BACKWARD(_meta)
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  BB_IMPLEMENT(_autograd)
  // A second derivative does not exist here: it must raise, not be silently zero.
  for (const char* name :
       {"relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "bias_relu", "bias_gelu",
        "bias_gelu_tanh", "bias_silu", "swiglu", "geglu", "reglu", "softmax"})
    m.impl((std::string(name) + "_backward").c_str(),
           torch::autograd::autogradNotImplementedFallback());
}

void bind_activations(pybind11::module_& m) {
  m.def("relu", &unary<Activation::relu>);
  m.def("sigmoid", &unary<Activation::sigmoid>);
  m.def("tanh", &unary<Activation::tanh>);
  m.def("gelu", &unary<Activation::gelu>);
  m.def("gelu_tanh", &unary<Activation::gelu_tanh>);
  m.def("silu", &unary<Activation::silu>);
  m.def("bias_relu", &bias<Activation::relu>);
  m.def("bias_gelu", &bias<Activation::gelu>);
  m.def("bias_gelu_tanh", &bias<Activation::gelu_tanh>);
  m.def("bias_silu", &bias<Activation::silu>);
  m.def("swiglu", &gated<Activation::silu>);
  m.def("geglu", &gated<Activation::gelu>);
  m.def("reglu", &gated<Activation::relu>);
  m.def("softmax", &softmax);
}

}  // namespace benchbench
