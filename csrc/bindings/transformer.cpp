// Gates packed in one tensor, and softmax with scale and mask: operators, autograd, the CPU's functions.
// See activations.cpp for the parts of an operator.
//
// On the CPU a packed row goes through the gated kernel as it lies, and a row of softmax is scaled, masked
// and normalised while it is in the cache: both move no more bytes than they must.
#include "bindings/transformer.h"

#include "bindings/cpu_tensors.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <memory>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool wants_gradient(const Tensor& input) { return at::GradMode::is_enabled() && input.requires_grad(); }

// ---- packed gates ----

Tensor packed_gate(const Tensor& input, int64_t kind) {
  const Activation op = gate_of(kind);
  check_packed(input);
  const Type type = type_of("packed_gate", input);
  const Tensor x = input.contiguous();
  const Tensor y = at::empty_symint(packed_sizes(x), x.options());
  const int64_t columns = x.size(-1) / 2, half = columns * x.element_size();
  const char* const from = bytes(x);
  char* const to = mutable_bytes(y);
  const bool stream = streams(y);
  at::parallel_for(0, packed_rows(x), GRAIN / (columns + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const char* const gate = from + 2 * row * half;
      kernels().gated(op, type, gate, gate + half, to + row * half, columns, stream);
    }
  });
  return y;
}

Tensor packed_gate_backward(const Tensor& grad, const Tensor& input, int64_t kind) {
  const Activation op = gate_of(kind);
  check_packed(input);
  check_packed_gradient(input, grad);
  const Type type = type_of("packed_gate", input);
  const Tensor x = input.contiguous(), dy = grad.contiguous();
  const Tensor dx = new_like(x);
  const int64_t columns = x.size(-1) / 2, half = columns * x.element_size();
  const char *const from = bytes(x), *const given = bytes(dy);
  char* const to = mutable_bytes(dx);
  const bool stream = streams(dx);
  at::parallel_for(0, packed_rows(x), GRAIN / (columns + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const char* const gate = from + 2 * row * half;
      char* const slope = to + 2 * row * half;
      kernels().gated_backward(op, type, given + row * half, gate, gate + half, slope, slope + half,
                               columns, stream);
    }
  });
  return dx;
}

Tensor packed_gate_meta(const Tensor& input, int64_t kind) {
  gate_of(kind);
  check_packed(input);
  return at::empty_symint(packed_sizes(input), input.options());
}

Tensor packed_gate_backward_meta(const Tensor& grad, const Tensor& input, int64_t kind) {
  gate_of(kind);
  check_packed_gradient(input, grad);
  return at::empty_like(input.contiguous());
}

struct Packed : torch::autograd::Function<Packed> {
  static Tensor call(const Tensor& input, int64_t kind) {
    static const auto op = typed_operator<Tensor(const Tensor&, int64_t)>("benchbench::packed_gate");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, kind);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input, int64_t kind) {
    context->save_for_backward({input});
    context->saved_data["kind"] = kind;
    return call(input, kind);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op = typed_operator<Tensor(const Tensor&, const Tensor&, int64_t)>(
        "benchbench::packed_gate_backward");
    return {op.call(grads[0], context->get_saved_variables()[0], context->saved_data["kind"].toInt()),
            Tensor()};
  }
};

Tensor packed_gate_autograd(const Tensor& input, int64_t kind) {
  return wants_gradient(input) ? Packed::apply(input, kind) : Packed::call(input, kind);
}

// ---- softmax with scale and mask ----

// out = scale x (+ mask); `mask` is null, bool (True takes part) or added.
template <class T, class M, class R>
void prepare_row(const T* x, const M* mask, R scale, int64_t n, R* out) {
  for (int64_t i = 0; i < n; ++i) {
    const R e = static_cast<R>(x[i]) * scale;
    if constexpr (std::is_same_v<M, bool>)
      out[i] = !mask || mask[i] ? e : -std::numeric_limits<R>::infinity();
    else
      out[i] = e + static_cast<R>(mask[i]);
  }
}

template <class T, class M, class R>
void softmax_rows(bool logarithm, const Tensor& x, const MaskView& view, R scale, const Tensor& y) {
  constexpr Type real = sizeof(R) == 8 ? Type::f64 : Type::f32;
  const int64_t n = x.size(-1), rows = x.numel() / n;
  const T* const from = x.const_data_ptr<T>();
  const M* const mask = view.kept.defined() ? view.kept.const_data_ptr<M>() : nullptr;
  T* const to = y.mutable_data_ptr<T>();
  at::parallel_for(0, rows, GRAIN / n + 1, [&](int64_t begin, int64_t end) {
    const auto memory = std::make_unique_for_overwrite<R[]>(static_cast<size_t>(2 * n));
    R *const prepared = memory.get(), *const answer = prepared + n;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t above = row / view.size[2];
      const int64_t at = above / view.size[1] * view.stride[0] +
                         above % view.size[1] * view.stride[1] + row % view.size[2] * view.stride[2];
      prepare_row(from + row * n, mask ? mask + at : nullptr, scale, n, prepared);
      if constexpr (std::is_same_v<T, R>) {
        kernels().softmax(real, logarithm, prepared, to + row * n, 1, n, false);
      } else {
        kernels().softmax(real, logarithm, prepared, answer, 1, n, false);
        for (int64_t i = 0; i < n; ++i) to[row * n + i] = static_cast<T>(answer[i]);
      }
    }
  });
}

template <class T, class R>
void softmax_by_mask(bool logarithm, const Tensor& x, const MaskView& view, double scale, const Tensor& y) {
  const R factor = static_cast<R>(scale);
  if (!view.kept.defined() || view.kept.scalar_type() == at::kBool)
    softmax_rows<T, bool, R>(logarithm, x, view, factor, y);
  else if (view.kept.scalar_type() == x.scalar_type())
    softmax_rows<T, T, R>(logarithm, x, view, factor, y);
  else
    softmax_rows<T, R, R>(logarithm, x, view, factor, y);
}

Tensor masked_softmax(const Tensor& input, const OptionalTensor& mask, double scale, bool logarithm) {
  check_mask(input, mask);
  const Type type = type_of("masked_softmax", input);
  const Tensor x = input.contiguous(), y = new_like(x);
  if (x.numel() == 0) return y;
  const MaskView view(mask, x);
  switch (type) {
    case Type::f32: softmax_by_mask<float, float>(logarithm, x, view, scale, y); break;
    case Type::bf16: softmax_by_mask<at::BFloat16, float>(logarithm, x, view, scale, y); break;
    case Type::f16: softmax_by_mask<at::Half, float>(logarithm, x, view, scale, y); break;
    default: softmax_by_mask<double, double>(logarithm, x, view, scale, y);
  }
  return y;
}

template <class T, class R>
void scale_rows(T* dx, const T* y, int64_t n, R scale, bool logarithm) {
  for (int64_t i = 0; i < n; ++i) {
    dx[i] = static_cast<T>(static_cast<R>(dx[i]) * scale);
    if (logarithm && static_cast<R>(y[i]) == -std::numeric_limits<R>::infinity()) dx[i] = T(0);
  }
}

// Where the logarithm is -inf no gradient arrives: the mask has dropped the element.
Tensor masked_softmax_backward(const Tensor& grad, const Tensor& output, double scale, bool logarithm) {
  check_same_shape("masked_softmax", "the gradient", output, grad);
  const Type type = type_of("masked_softmax", output);
  const Tensor y = output.contiguous(), dy = grad.contiguous(), dx = new_like(y);
  if (y.numel() == 0) return dx;
  const int64_t n = y.size(-1), stride = n * y.element_size();
  at::parallel_for(0, y.numel() / n, GRAIN / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const char* const kept = bytes(y) + row * stride;
      char* const to = mutable_bytes(dx) + row * stride;
      kernels().softmax_backward(type, logarithm, bytes(dy) + row * stride, kept, to, 1, n, false);
      const auto scaled = [&](auto zero, auto real) {
        using T = decltype(zero);
        scale_rows(reinterpret_cast<T*>(to), reinterpret_cast<const T*>(kept), n,
                   static_cast<decltype(real)>(scale), logarithm);
      };
      switch (type) {
        case Type::f32: scaled(float{}, float{}); break;
        case Type::bf16: scaled(at::BFloat16{}, float{}); break;
        case Type::f16: scaled(at::Half{}, float{}); break;
        default: scaled(double{}, double{});
      }
    }
  });
  return dx;
}

Tensor masked_softmax_meta(const Tensor& input, const OptionalTensor& mask, double, bool) {
  check_mask(input, mask);
  return at::empty_like(input.contiguous());
}

Tensor masked_softmax_backward_meta(const Tensor& grad, const Tensor& output, double, bool) {
  check_same_shape("masked_softmax", "the gradient", output, grad);
  return at::empty_like(output.contiguous());
}

struct Masked : torch::autograd::Function<Masked> {
  static Tensor call(const Tensor& input, const OptionalTensor& mask, double scale, bool logarithm) {
    static const auto op = typed_operator<Tensor(const Tensor&, const OptionalTensor&, double, bool)>(
        "benchbench::masked_softmax");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, mask, scale, logarithm);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input, const OptionalTensor& mask,
                        double scale, bool logarithm) {
    const Tensor y = call(input, mask, scale, logarithm);
    context->save_for_backward({y});
    context->saved_data["scale"] = scale;
    context->saved_data["logarithm"] = logarithm;
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op = typed_operator<Tensor(const Tensor&, const Tensor&, double, bool)>(
        "benchbench::masked_softmax_backward");
    return {op.call(grads[0], context->get_saved_variables()[0],
                    context->saved_data["scale"].toDouble(),
                    context->saved_data["logarithm"].toBool()),
            Tensor(), Tensor(), Tensor()};
  }
};

Tensor masked_softmax_autograd(const Tensor& input, const OptionalTensor& mask, double scale,
                               bool logarithm) {
  check_mask(input, mask);  // below, gradients are no longer asked for
  return wants_gradient(input) ? Masked::apply(input, mask, scale, logarithm)
                               : Masked::call(input, mask, scale, logarithm);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  m.def("packed_gate(Tensor input, int kind) -> Tensor");
  m.def("packed_gate_backward(Tensor grad, Tensor input, int kind) -> Tensor");
  m.def("masked_softmax(Tensor input, Tensor? mask, float scale, bool logarithm) -> Tensor");
  m.def("masked_softmax_backward(Tensor grad, Tensor output, float scale, bool logarithm) -> Tensor");
}

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  m.impl("packed_gate", &packed_gate);
  m.impl("packed_gate_backward", &packed_gate_backward);
  m.impl("masked_softmax", &masked_softmax);
  m.impl("masked_softmax_backward", &masked_softmax_backward);
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  m.impl("packed_gate", &packed_gate_meta);
  m.impl("packed_gate_backward", &packed_gate_backward_meta);
  m.impl("masked_softmax", &masked_softmax_meta);
  m.impl("masked_softmax_backward", &masked_softmax_backward_meta);
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  m.impl("packed_gate", &packed_gate_autograd);
  m.impl("masked_softmax", &masked_softmax_autograd);
  // A second derivative does not exist here: it must raise, not be silently zero.
  m.impl("packed_gate_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("masked_softmax_backward", torch::autograd::autogradNotImplementedFallback());
}

void bind_transformer(pybind11::module_& m) {
  m.def("packed_gate", &packed_gate);
  m.def("masked_softmax", &masked_softmax);
}

}  // namespace benchbench
