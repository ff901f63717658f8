// Activations with parameters, leaky ReLU with learned slopes (PReLU), and the copy that is the roof:
// operators, autograd and direct functions. See activations.cpp for the parts of an operator.
//
// One operator, `curve`, serves all of Curve: it takes the kind and two numbers, and has one backward.
#include "bindings/activations.h"
#include "bindings/cpu_tensors.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor curve(const Tensor& input, int64_t kind, double a, double b) {
  const Curve which = curve_of(kind);
  const Type type = type_of("curve", input);
  const Tensor x = dense(input);
  const Tensor y = new_like(x);
  const auto kernel = kernels().curve;
  const char* from = bytes(x);
  char* to = mutable_bytes(y);
  const bool stream = streams(y);
  over_elements(x, [=](int64_t at, int64_t n) {
    kernel(which, type, a, b, from + at, to + at, n, stream);
  });
  return y;
}

Tensor curve_backward(const Tensor& grad, const Tensor& input, int64_t kind, double a, double b) {
  const Curve which = curve_of(kind);
  check_same_shape("curve", "the gradient", input, grad);
  const Type type = type_of("curve", input);
  const Tensor x = dense(input), dy = in_order_of(x, grad);
  const Tensor dx = new_like(x);
  const auto kernel = kernels().curve_backward;
  const char *g = bytes(dy), *from = bytes(x);
  char* to = mutable_bytes(dx);
  const bool stream = streams(dx);
  over_elements(x, [=](int64_t at, int64_t n) {
    kernel(which, type, a, b, g + at, from + at, to + at, n, stream);
  });
  return dx;
}

Tensor curve_meta(const Tensor& input, int64_t kind, double, double) {
  curve_of(kind);
  check_floating("curve", input);
  return at::empty_like(dense(input));
}

Tensor curve_backward_meta(const Tensor& grad, const Tensor& input, int64_t kind, double, double) {
  curve_of(kind);
  check_same_shape("curve", "the gradient", input, grad);
  return at::empty_like(dense(input));
}

struct CurveFunction : torch::autograd::Function<CurveFunction> {
  static Tensor call(const Tensor& input, int64_t kind, double a, double b) {
    static const auto op =
        typed_operator<Tensor(const Tensor&, int64_t, double, double)>("benchbench::curve");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, kind, a, b);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input, int64_t kind, double a,
                        double b) {
    context->save_for_backward({input});
    context->saved_data["kind"] = kind;
    context->saved_data["a"] = a;
    context->saved_data["b"] = b;
    return call(input, kind, a, b);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<Tensor(const Tensor&, const Tensor&, int64_t, double, double)>(
            "benchbench::curve_backward");
    auto& data = context->saved_data;
    return {op.call(grads[0], context->get_saved_variables()[0], data["kind"].toInt(),
                    data["a"].toDouble(), data["b"].toDouble()),
            Tensor(), Tensor(), Tensor()};
  }
};

Tensor curve_autograd(const Tensor& input, int64_t kind, double a, double b) {
  return at::GradMode::is_enabled() && input.requires_grad()
             ? CurveFunction::apply(input, kind, a, b)
             : CurveFunction::call(input, kind, a, b);
}

// ---- prelu: x, or w x where x <= 0; w is one slope for all or one for each channel ----
// Planes are cut into parts of at most so many elements, by size alone: sums are the same with any
// number of threads.
constexpr int64_t PART = 16384;

// f(index of the part, channel, first element, elements) for every part of every plane, in parallel.
template <class F>
void for_parts(const Slopes& l, F f) {
  const int64_t per_plane = (l.area + PART - 1) / PART;
  at::parallel_for(0, l.batch * l.channels * per_plane, GRAIN / (std::min(PART, l.area) + 1) + 1,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t part = begin; part < end; ++part) {
                       const int64_t plane = part / per_plane, from = part % per_plane * PART;
                       f(part, plane % l.channels, plane * l.area + from,
                         std::min(PART, l.area - from));
                     }
                   });
}

Tensor prelu(const Tensor& input, const Tensor& weight) {
  check_prelu(input, weight);
  const Type type = type_of("prelu", input);
  const Tensor x = in_slope_order(input, weight);
  const Tensor w = as_real(weight, real_of(x));
  const Tensor y = new_like(x);
  const Slopes l = slopes_of(x, weight.numel());
  const char* from = bytes(x);
  char* to = mutable_bytes(y);
  const bool stream = streams(y);
  const int64_t size = x.element_size();
  if (l.rows) {
    const auto kernel = kernels().slope_rows;
    at::parallel_for(0, l.batch * l.area, GRAIN / (l.channels + 1) + 1,
                     [&](int64_t begin, int64_t end) {
                       const int64_t at = begin * l.channels * size;
                       kernel(type, from + at, pointer(w), to + at, end - begin, l.channels, stream);
                     });
    return y;
  }
  const auto kernel = kernels().curve;
  const Tensor slopes = w.to(at::kDouble);
  const double* slope = slopes.const_data_ptr<double>();
  for_parts(l, [&](int64_t, int64_t channel, int64_t at, int64_t n) {
    kernel(Curve::leaky_relu, type, slope[channel], 0, from + at * size, to + at * size, n, stream);
  });
  return y;
}

std::tuple<Tensor, Tensor> prelu_backward(const Tensor& grad, const Tensor& input,
                                          const Tensor& weight) {
  check_prelu(input, weight);
  check_same_shape("prelu", "the gradient", input, grad);
  const Type type = type_of("prelu", input);
  const Tensor x = in_slope_order(input, weight), dy = in_order_of(x, grad);
  const Tensor w = as_real(weight, real_of(x));
  const Tensor dx = new_like(x);
  const Slopes l = slopes_of(x, weight.numel());
  const char *from = bytes(x), *g = bytes(dy);
  char* to = mutable_bytes(dx);
  const int64_t size = x.element_size();
  const Tensor total = new_tensor({weight.numel()}, at::kDouble);
  double* sums = total.mutable_data_ptr<double>();
  std::fill(sums, sums + total.numel(), 0.0);
  if (l.rows) {
    const bool stream = streams(dx);
    const int64_t rows = l.batch * l.area, chunks = std::max<int64_t>(rows / 64, 1);
    const Tensor partial = new_tensor({chunks, l.channels}, w.scalar_type());
    char* parts = mutable_bytes(partial);
    const int64_t stride = l.channels * partial.element_size();
    const auto kernel = kernels().slope_rows_backward;
    for_chunks(rows, chunks, l.channels, [&](int64_t chunk, int64_t begin, int64_t end) {
      const int64_t at = begin * l.channels * size;
      kernel(type, g + at, from + at, pointer(w), to + at, parts + chunk * stride, end - begin,
             l.channels, stream);
    });
    const Tensor wide = partial.to(at::kDouble);
    const double* p = wide.const_data_ptr<double>();
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
      for (int64_t c = 0; c < l.channels; ++c) sums[c] += p[chunk * l.channels + c];
  } else {
    const int64_t per_plane = (l.area + PART - 1) / PART;
    const Tensor slopes = w.to(at::kDouble);
    const double* slope = slopes.const_data_ptr<double>();
    const Tensor partial = new_tensor({l.batch * l.channels * per_plane}, at::kDouble);
    double* p = partial.mutable_data_ptr<double>();
    const auto kernel = kernels().slope_backward;
    for_parts(l, [&](int64_t part, int64_t channel, int64_t at, int64_t n) {
      p[part] =
          kernel(type, slope[channel], g + at * size, from + at * size, to + at * size, n);
    });
    for (int64_t part = 0; part < partial.numel(); ++part)
      sums[part / per_plane % l.channels] += p[part];
  }
  return {dx, total.to(weight.scalar_type()).view(weight.sizes())};
}

Tensor prelu_meta(const Tensor& input, const Tensor& weight) {
  check_prelu(input, weight);
  return at::empty_like(in_slope_order(input, weight));
}

std::tuple<Tensor, Tensor> prelu_backward_meta(const Tensor& grad, const Tensor& input,
                                               const Tensor& weight) {
  check_same_shape("prelu", "the gradient", input, grad);
  return {at::empty_like(in_slope_order(input, weight)),
          at::empty_like(weight.contiguous())};
}

struct Prelu : torch::autograd::Function<Prelu> {
  static Tensor call(const Tensor& input, const Tensor& weight) {
    static const auto op = typed_operator<Tensor(const Tensor&, const Tensor&)>("benchbench::prelu");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, weight);
  }
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight) {
    context->save_for_backward({input, weight});
    return call(input, weight);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&)>(
            "benchbench::prelu_backward");
    const auto saved = context->get_saved_variables();
    auto [dx, dw] = op.call(grads[0], saved[0], saved[1]);
    return {dx, dw};
  }
};

Tensor prelu_autograd(const Tensor& input, const Tensor& weight) {
  return at::GradMode::is_enabled() && (input.requires_grad() || weight.requires_grad())
             ? Prelu::apply(input, weight)
             : Prelu::call(input, weight);
}

// ---- the roof ----

void copy_bytes(const Tensor& destination, const Tensor& source, bool stream) {
  check_same_shape("copy", "the source", destination, source);
  TORCH_CHECK(destination.is_cpu() && destination.is_contiguous() && source.is_contiguous(),
              "benchbench::copy: both tensors must be contiguous and on the CPU; use "
              "destination.copy_(source)");
  const char* from = bytes(source);
  char* to = mutable_bytes(destination);
  const auto kernel = kernels().copy;
  over_elements(source, [=, size = source.element_size()](int64_t at, int64_t n) {
    kernel(from + at, to + at, n * size, stream);
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  m.def("curve(Tensor input, int kind, float a, float b) -> Tensor");
  m.def("curve_backward(Tensor grad, Tensor input, int kind, float a, float b) -> Tensor");
  m.def("prelu(Tensor input, Tensor weight) -> Tensor");
  m.def("prelu_backward(Tensor grad, Tensor input, Tensor weight) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  m.impl("curve", &curve);
  m.impl("curve_backward", &curve_backward);
  m.impl("prelu", &prelu);
  m.impl("prelu_backward", &prelu_backward);
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  m.impl("curve", &curve_meta);
  m.impl("curve_backward", &curve_backward_meta);
  m.impl("prelu", &prelu_meta);
  m.impl("prelu_backward", &prelu_backward_meta);
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  m.impl("curve", &curve_autograd);
  m.impl("prelu", &prelu_autograd);
  // A second derivative does not exist here: it must raise, not be silently zero.
  m.impl("curve_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("prelu_backward", torch::autograd::autogradNotImplementedFallback());
}

void bind_curves(pybind11::module_& m) {
  pybind11::dict kinds;
  for (int64_t kind = 0; kind < CURVES; ++kind) {
    kinds[CURVE_NAMES[kind]] = kind;
    m.def(
        CURVE_NAMES[kind],
        [kind](const Tensor& input, double a, double b) { return curve(input, kind, a, b); },
        pybind11::arg("input"), pybind11::arg("a") = 0.0, pybind11::arg("b") = 0.0);
  }
  m.attr("CURVES") = kinds;
  m.def("prelu", &prelu);
  m.def(
      "plain_copy", [](const Tensor& to, const Tensor& from) { copy_bytes(to, from, false); },
      "Copy the second tensor into the first by plain stores.");
  m.def(
      "streaming_copy", [](const Tensor& to, const Tensor& from) { copy_bytes(to, from, true); },
      "Copy the second tensor into the first by stores past the caches.");
}

}  // namespace benchbench
