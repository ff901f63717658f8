// What the units of the norms share: optional tensors, pointers, and the choice of a real type.
#pragma once

#include "bindings/common.h"

namespace benchbench {

// The direct functions of batch_norms.cpp and group_norms.cpp.
void bind_batch_norms(pybind11::module_& m);
void bind_group_norms(pybind11::module_& m);

inline OptionalTensor given(const Tensor& x) { return x.defined() ? OptionalTensor(x) : std::nullopt; }
inline Tensor unwrap(const OptionalTensor& x) { return x.has_value() ? *x : Tensor(); }
inline OptionalTensor real(const OptionalTensor& x, at::ScalarType type) {
  return x.has_value() ? OptionalTensor(as_real(*x, type)) : std::nullopt;
}
inline OptionalTensor whole(const OptionalTensor& x) {
  return x.has_value() ? OptionalTensor(x->contiguous()) : std::nullopt;
}
inline bool needed(const Tensor& x) { return x.defined() && x.requires_grad(); }

// to() enters the dispatcher even where there is nothing to convert.
inline Tensor as_type(const Tensor& x, at::ScalarType type) {
  return x.scalar_type() == type ? x : x.to(type);
}

// What gradients of weight and bias have: the weight's dtype where that is the input's, else real. They
// are returned so, which saves a cast each.
inline at::ScalarType gradient_type(const OptionalTensor& weight, const Tensor& x) {
  return weight.has_value() && weight->scalar_type() == x.scalar_type() ? x.scalar_type() : real_of(x);
}

inline bool wants_grad(std::initializer_list<const OptionalTensor*> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const OptionalTensor* tensor : tensors)
    if (tensor->has_value() && (*tensor)->requires_grad()) return true;
  return false;
}

inline bool wants_grad(const Tensor& input, std::initializer_list<const OptionalTensor*> more) {
  return at::GradMode::is_enabled() && (input.requires_grad() || wants_grad(more));
}

inline void* raw(const Tensor& x) { return x.mutable_data_ptr(); }
inline void* raw_if(bool wanted, const Tensor& x) { return wanted ? x.mutable_data_ptr() : nullptr; }
inline double* doubles(const Tensor& x) { return x.mutable_data_ptr<double>(); }

// f(float{}) or f(double{}).
template <class F>
void with_real(at::ScalarType type, F f) {
  type == at::kDouble ? f(double{}) : f(float{});
}

}  // namespace benchbench
