// What the units for the CPU share: memory for results, and ranges of elements for threads.
//
// at::empty_like() goes through the dispatcher three times, which on a small tensor costs as much as
// the kernel. The functions here ask the allocator. They are for functions that are registered for the
// CPU, which see plain tensors only; whatever is traced goes through the Meta functions.
#pragma once

#include <ATen/EmptyTensor.h>

#include <algorithm>

#include "bindings/common.h"

namespace benchbench {

inline Tensor new_tensor(at::IntArrayRef sizes, at::ScalarType type) {
  return at::detail::empty_cpu(sizes, type);
}

// Of the shape and the memory order of x, which must be dense.
inline Tensor new_like(const Tensor& x) {
  return at::detail::empty_strided_cpu(x.sizes(), x.strides(), x.scalar_type());
}

inline const char* bytes(const Tensor& x) { return static_cast<const char*>(x.const_data_ptr()); }
inline char* mutable_bytes(const Tensor& x) { return static_cast<char*>(x.mutable_data_ptr()); }
inline bool streams(const Tensor& output) {
  return beyond_cache(static_cast<int64_t>(output.nbytes()));
}

// f(offset in bytes, elements) over ranges that begin at multiples of 64 elements, so that outputs
// stay aligned for streaming whatever the number of threads.
template <class F>
void over_elements(const Tensor& x, F f) {
  constexpr int64_t BLOCK = 64;
  const int64_t n = x.numel(), size = x.element_size();
  at::parallel_for(0, (n + BLOCK - 1) / BLOCK, GRAIN / BLOCK, [=](int64_t begin, int64_t end) {
    f(begin * BLOCK * size, std::min(end * BLOCK, n) - begin * BLOCK);
  });
}

}  // namespace benchbench
