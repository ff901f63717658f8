// One source, two compilers: nvcc makes device code of it, and a C++ compiler makes a program that
// csrc/host_executor runs on the CPU. Nothing else tests which of the two it is, apart from launch.h
// and intrinsics.h.
#pragma once

#include <cstdint>

#if defined(BENCHBENCH_HOST_EXECUTOR)
#include "host_executor/builtins.h"
#else
#include <cuda_runtime.h>
#endif

namespace benchbench::cuda {

// The block's dynamic shared memory, 128-byte aligned; as many bytes as the launch asked for.
__device__ __forceinline__ char* shared_memory() {
#if defined(BENCHBENCH_HOST_EXECUTOR)
  return host_executor::shared_memory();
#else
  extern __shared__ __align__(128) char benchbench_shared[];
  return benchbench_shared;
#endif
}

constexpr unsigned ALL_LANES = 0xffffffffu;

template <class T>
__host__ __device__ constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
__host__ __device__ constexpr T larger(T a, T b) {
  return a < b ? b : a;
}
__host__ __device__ constexpr int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace benchbench::cuda
