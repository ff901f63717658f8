// Inline instructions, each with a twin for the host that gives the same value (where the instruction
// approximates: one within its documented error).
#pragma once

#include <cmath>
#include <cstring>

#include "cuda/support/platform.h"

#if defined(BENCHBENCH_HOST_EXECUTOR)
#define BB_DEVICE 0
#else
#define BB_DEVICE 1
#include <cooperative_groups.h>

#include <cassert>
#endif

// Ends the kernel with the text where the condition does not hold: for values that come from the user
// and that nobody has looked at before. On a device that is an assertion: it is printed, and the next
// call that waits for the device fails.
#if BB_DEVICE
#define BB_DEMAND(held, text) assert((held) && text)
#else
#define BB_DEMAND(held, text) ((held) ? void() : host_executor::fail(text))
#endif

namespace benchbench::cuda {

// 2^x within 2 ulp; subnormal results are zero.
__device__ __forceinline__ float exp2_fast(float x) {
#if BB_DEVICE
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = std::exp2(x);
  return y < 1.17549435e-38f ? 0.0f : y;
#endif
}

// 1/x within 1 ulp.
__device__ __forceinline__ float reciprocal_fast(float x) {
#if BB_DEVICE
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

// 1 / sqrt(x) within 2 ulp.
__device__ __forceinline__ float reciprocal_root_fast(float x) {
#if BB_DEVICE
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / std::sqrt(x);
#endif
}

// Square root, correctly rounded.
__device__ __forceinline__ float sqrt_of(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrt_of(double x) { return sqrt(x); }

// Two floats rounded to nearest even, `low` in the low half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
#if BB_DEVICE
  uint32_t two;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
  return two;
#else
  const auto half = [](float x) -> uint32_t {
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  };
  return half(low) | half(high) << 16;
#endif
}

__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
#if BB_DEVICE
  uint32_t two;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
  return two;
#else
  const auto half = [](float x) -> uint32_t {
    const _Float16 h = static_cast<_Float16>(x);
    uint16_t bits;
    std::memcpy(&bits, &h, 2);
    return bits;
  };
  return half(low) | half(high) << 16;
#endif
}

__device__ __forceinline__ float unpack_f16(uint32_t low_half) {
#if BB_DEVICE
  float x;
  asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h;}" : "=f"(x) : "r"(low_half));
  return x;
#else
  const auto bits = static_cast<uint16_t>(low_half);
  _Float16 h;
  std::memcpy(&h, &bits, 2);
  return static_cast<float>(h);
#endif
}

// ---- clusters (from sm_90 on; the launchers use none before) ----

__device__ __forceinline__ unsigned cluster_rank() {
#if !BB_DEVICE
  return host_executor::cluster_rank();
#elif __CUDA_ARCH__ >= 900
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

__device__ __forceinline__ unsigned cluster_size() {
#if !BB_DEVICE
  return host_executor::cluster_size();
#elif __CUDA_ARCH__ >= 900
  unsigned size;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
#else
  return 1;
#endif
}

// All threads of the cluster's blocks; what was written to shared memory before is seen after.
__device__ __forceinline__ void cluster_barrier() {
#if !BB_DEVICE
  host_executor::cluster_barrier(BB_SITE("cluster_barrier"));
#elif __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Where `mine`, an address in this block's shared memory, lies in that of block `rank` of the cluster.
template <class T>
__device__ __forceinline__ T* shared_of(T* mine, unsigned rank) {
#if !BB_DEVICE
  return reinterpret_cast<T*>(host_executor::shared_memory_of(mine, rank));
#elif __CUDA_ARCH__ >= 900
  uint64_t other;
  asm("mapa.u64 %0, %1, %2;" : "=l"(other) : "l"(mine), "r"(rank));
  return reinterpret_cast<T*>(other);
#else
  return mine;
#endif
}

// All blocks of a cooperative launch: the runtime keeps the barrier's memory.
__device__ __forceinline__ void grid_barrier() {
#if BB_DEVICE
  cooperative_groups::this_grid().sync();
#else
  host_executor::grid_barrier(BB_SITE("grid_barrier"));
#endif
}

}  // namespace benchbench::cuda
