// CUDA's language on the executor: qualifiers, built-in variables and functions under their names.
// Only what the kernels use; what is missing does not compile.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "host_executor/executor.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

#define threadIdx (::benchbench::host_executor::thread_index())
#define blockIdx (::benchbench::host_executor::block_index())
#define blockDim (::benchbench::host_executor::block_size())
#define gridDim (::benchbench::host_executor::grid_size())
#define BB_SITE(what) (::benchbench::host_executor::Site{what, __FILE__, __LINE__})
#define __syncthreads() ::benchbench::host_executor::block_barrier(BB_SITE("__syncthreads"))
#define __syncwarp(...) \
  ((void)::benchbench::host_executor::exchange(benchbench::host_mask(__VA_ARGS__), 0, BB_SITE("__syncwarp")))
#define __shfl_xor_sync(mask, value, lanes) \
  benchbench::host_shuffle(mask, value, [](unsigned l, unsigned by) { return l ^ by; }, lanes, \
                           BB_SITE("__shfl_xor_sync"))
#define __shfl_sync(mask, value, from) \
  benchbench::host_shuffle(mask, value, [](unsigned, unsigned f) { return f % 32; }, from, \
                           BB_SITE("__shfl_sync"))
#define __shfl_down_sync(mask, value, by) \
  benchbench::host_shuffle(mask, value, [](unsigned l, unsigned b) { return l + b < 32 ? l + b : l; }, \
                           by, BB_SITE("__shfl_down_sync"))
#define __ballot_sync(mask, yes) benchbench::host_ballot(mask, (yes) != 0, BB_SITE("__ballot_sync"))
#define __any_sync(mask, yes) (benchbench::host_ballot(mask, (yes) != 0, BB_SITE("__any_sync")) != 0)
#define __all_sync(mask, yes) \
  (benchbench::host_ballot(mask, (yes) != 0, BB_SITE("__all_sync")) == (mask))

namespace benchbench {

inline unsigned host_mask(unsigned mask = 0xffffffffu) { return mask; }

template <class T, class F>
T host_shuffle(unsigned mask, T value, F source, unsigned argument, host_executor::Site site) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const unsigned from = source(host_executor::lane(), argument);
  const std::uint64_t* slots = host_executor::exchange(mask, bits, site);
  if (!(mask >> from & 1)) host_executor::fail("a shuffle reads a lane that its mask does not name");
  T result;
  std::memcpy(&result, &slots[from], sizeof(T));
  return result;
}

inline unsigned host_ballot(unsigned mask, bool yes, host_executor::Site site) {
  const std::uint64_t* slots = host_executor::exchange(mask, yes, site);
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (mask >> i & 1) votes |= static_cast<unsigned>(slots[i]) << i;
  return votes;
}

// Other threads may come before an atomic and after a fence.
template <class T>
T host_add(T* at, T value) {
  host_executor::maybe_yield();
  const T old = *at;
  *at = old + value;
  return old;
}

}  // namespace benchbench

inline unsigned atomicAdd(unsigned* at, unsigned value) { return benchbench::host_add(at, value); }
inline int atomicAdd(int* at, int value) { return benchbench::host_add(at, value); }
inline float atomicAdd(float* at, float value) { return benchbench::host_add(at, value); }
inline unsigned atomicCAS(unsigned* at, unsigned expected, unsigned value) {
  benchbench::host_executor::maybe_yield();
  const unsigned old = *at;
  if (old == expected) *at = value;
  return old;
}
inline unsigned atomicExch(unsigned* at, unsigned value) {
  benchbench::host_executor::maybe_yield();
  const unsigned old = *at;
  *at = value;
  return old;
}
inline void __threadfence() { benchbench::host_executor::maybe_yield(); }
inline void __nanosleep(unsigned) { benchbench::host_executor::spin(); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
