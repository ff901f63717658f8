// What all binding units share: checks of arguments, layouts, and the way to re-enter the dispatcher.
// Headers of torch are included here and in the other binding units only; kernels never see them.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

#include <optional>
#include <tuple>

#include "cpu/kernels.h"

namespace benchbench {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Added to the module by the unit that has them.
void bind_activations(pybind11::module_& m);
void bind_curves(pybind11::module_& m);
void bind_norms(pybind11::module_& m);
void bind_samplers(pybind11::module_& m);

// The kernels' name of a dtype.
inline Type type_of(const char* op, const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat: return Type::f32;
    case at::kBFloat16: return Type::bf16;
    case at::kHalf: return Type::f16;
    case at::kDouble: return Type::f64;
    default:
      TORCH_CHECK(false, "benchbench::", op, ": dtype ", x.scalar_type(),
                  " is not supported; convert the input to float32, bfloat16, float16 or float64");
  }
}

inline void check_floating(const char* op, const Tensor& x) {
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), "benchbench::", op,
              ": the input must be floating point, it is ", x.scalar_type(),
              "; convert it with .float()");
}

// `other` must be able to stand beside `x` in one kernel.
inline void check_same(const char* op, const char* name, const Tensor& x, const Tensor& other) {
  TORCH_CHECK(other.scalar_type() == x.scalar_type(), "benchbench::", op, ": ", name, " is ",
              other.scalar_type(), " but the input is ", x.scalar_type(),
              "; convert one of them with .to()");
  TORCH_CHECK(other.device() == x.device(), "benchbench::", op, ": ", name, " is on ",
              other.device(), " but the input is on ", x.device(), "; move one of them with .to()");
}

inline void check_same_shape(const char* op, const char* name, const Tensor& x,
                             const Tensor& other) {
  check_same(op, name, x, other);
  TORCH_CHECK(other.sym_sizes() == x.sym_sizes(), "benchbench::", op, ": ", name, " has shape ",
              other.sym_sizes(), " but the input has ", x.sym_sizes(),
              "; they must be equal (expand one of them first)");
}

// A parameter: one row of `columns` values, of the input's dtype or float32.
inline void check_parameter(const char* op, const char* name, const Tensor& x,
                            const OptionalTensor& parameter, const c10::SymInt& columns) {
  if (!parameter.has_value()) return;
  TORCH_CHECK(parameter->device() == x.device(), "benchbench::", op, ": ", name, " is on ",
              parameter->device(), " but the input is on ", x.device(),
              "; move one of them with .to()");
  TORCH_CHECK(
      parameter->scalar_type() == x.scalar_type() || parameter->scalar_type() == at::kFloat,
      "benchbench::", op, ": ", name, " is ", parameter->scalar_type(), "; it must be float32 or ",
      x.scalar_type(), ", the input's dtype");
  TORCH_CHECK(parameter->dim() == 1 && parameter->sym_size(0) == columns, "benchbench::", op, ": ",
              name, " has shape ", parameter->sym_sizes(), "; it must have one dimension of ",
              columns, " values");
}

// Elementwise kernels run over memory in whatever order the dimensions have, as long as there are no
// gaps and no overlaps. The result of empty_like() has the same order then.
inline Tensor dense(const Tensor& x) {
  return x.is_non_overlapping_and_dense() ? x : x.contiguous();
}

// Whether the channels, the second dimension, are the last one in memory.
inline bool is_pixels(const Tensor& x) {
  if (x.dim() == 2) return x.is_contiguous();
  if (x.dim() == 3) return x.transpose(1, 2).is_contiguous();
  if (x.dim() == 4) return x.is_contiguous(at::MemoryFormat::ChannelsLast);
  return x.dim() == 5 && x.is_contiguous(at::MemoryFormat::ChannelsLast3d);
}

inline Tensor laid_out(const Tensor& x) { return is_pixels(x) ? x : x.contiguous(); }

// `other` (a gradient, perhaps expanded) in the memory order of the dense tensor `x`.
inline Tensor in_order_of(const Tensor& x, const Tensor& other) {
  if (other.strides() == x.strides() && other.is_non_overlapping_and_dense()) return other;
  return at::empty_like(x, other.options()).copy_(other);
}

// Statistics and parameters are float, or double with float64.
inline at::ScalarType real_of(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline Tensor as_real(const Tensor& parameter, at::ScalarType real) {
  // to() enters the dispatcher even where there is nothing to convert.
  if (parameter.scalar_type() == real) return parameter.contiguous();
  return parameter.to(real).contiguous();
}

inline const void* pointer(const Tensor& x) { return x.const_data_ptr(); }
inline const void* pointer(const OptionalTensor& x) {
  return x.has_value() ? x->const_data_ptr() : nullptr;
}

// Elements that are worth a thread's start: about ten microseconds of work.
constexpr int64_t GRAIN = 16384;

// How many chunks of rows a reduction over rows has: by size alone, never by the number of threads,
// so that sums are the same with any. A chunk is summed row by row in float: the shorter, the less is
// rounded off.
inline int64_t row_chunks(int64_t rows) {
  const int64_t chunks = rows / 16;
  return chunks < 1 ? 1 : (chunks > 512 ? 512 : chunks);
}

// f(chunk, first row, last row), in parallel.
template <class F>
void for_chunks(int64_t rows, int64_t chunks, int64_t columns, F f) {
  const int64_t per_chunk = rows * columns / chunks;
  const int64_t grain = per_chunk >= GRAIN ? 1 : GRAIN / (per_chunk + 1) + 1;
  at::parallel_for(0, chunks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) f(k, rows * k / chunks, rows * (k + 1) / chunks);
  });
}

template <class Signature>
auto typed_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace benchbench
