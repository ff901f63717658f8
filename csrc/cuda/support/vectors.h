// Elements in memory and in registers: 16 bytes at a time, computed in float (double for f64).
//
// A row or an array that begins anywhere is read as aligned vectors all the same: `head` elements of
// the first vector belong to whatever lies before it, and are masked, as is the end. Vector i covers
// elements [i W - head, i W - head + W). Inputs whose addresses are not congruent with the output's
// are read by elements.
#pragma once

#include <cassert>
#include <cstring>

#include "cuda/support/intrinsics.h"

namespace benchbench::cuda {

struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };

template <class T> struct RealOf { using type = float; };
template <> struct RealOf<double> { using type = double; };
template <class T> using Real = typename RealOf<T>::type;

template <class T> constexpr int WIDTH = 16 / static_cast<int>(sizeof(T));

struct alignas(16) Words { uint32_t w[4]; };

#if !BB_DEVICE
inline void check_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16)
    host_executor::fail("a vector access is not aligned to 16 bytes");
}
#else
__device__ __forceinline__ void check_aligned(const void* p) {
#if defined(BENCHBENCH_CHECK_ALIGNMENT)
  assert(reinterpret_cast<uintptr_t>(p) % 16 == 0);
#else
  (void)p;
#endif
}
#endif

__device__ __forceinline__ void widen(const Words& v, float (&x)[8], bf16) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = __uint_as_float(v.w[i] << 16);
    x[2 * i + 1] = __uint_as_float(v.w[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ void widen(const Words& v, float (&x)[8], f16) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = unpack_f16(v.w[i]);
    x[2 * i + 1] = unpack_f16(v.w[i] >> 16);
  }
}
__device__ __forceinline__ void widen(const Words& v, float (&x)[4], float) {
  memcpy(x, &v, 16);
}
__device__ __forceinline__ void widen(const Words& v, double (&x)[2], double) {
  memcpy(x, &v, 16);
}

__device__ __forceinline__ Words narrow(const float (&x)[8], bf16) {
  return {{pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]),
           pack_bf16(x[6], x[7])}};
}
__device__ __forceinline__ Words narrow(const float (&x)[8], f16) {
  return {{pack_f16(x[0], x[1]), pack_f16(x[2], x[3]), pack_f16(x[4], x[5]),
           pack_f16(x[6], x[7])}};
}
__device__ __forceinline__ Words narrow(const float (&x)[4], float) {
  Words v;
  memcpy(&v, x, 16);
  return v;
}
__device__ __forceinline__ Words narrow(const double (&x)[2], double) {
  Words v;
  memcpy(&v, x, 16);
  return v;
}

__device__ __forceinline__ float widen(bf16 v) { return __uint_as_float(uint32_t(v.bits) << 16); }
__device__ __forceinline__ float widen(f16 v) { return unpack_f16(v.bits); }
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ double widen(double v) { return v; }

__device__ __forceinline__ bf16 narrow(float x, bf16) {
  return {static_cast<uint16_t>(pack_bf16(x, 0.0f))};
}
__device__ __forceinline__ f16 narrow(float x, f16) {
  return {static_cast<uint16_t>(pack_f16(x, 0.0f))};
}
__device__ __forceinline__ float narrow(float x, float) { return x; }
__device__ __forceinline__ double narrow(double x, double) { return x; }

// What x becomes when it is stored as T and read again.
template <class T>
__device__ __forceinline__ Real<T> rounded(Real<T> x) {
  return widen(narrow(x, T{}));
}

// Elements between the vector boundary at or before `p` and `p`.
template <class T>
__host__ __device__ __forceinline__ int head_of(const T* p) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(p) % 16 / sizeof(T));
}

// 16 bytes of global memory as they are; nothing is read again later, so the first level of the
// cache keeps none of it.
template <class T>
__device__ __forceinline__ Words load_words(const T* p) {
  check_aligned(p);
#if BB_DEVICE
  const uint4 v = __ldcs(reinterpret_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
#else
  Words v;
  memcpy(&v, p, 16);
  return v;
#endif
}

template <class T>
__device__ __forceinline__ void store_words(T* p, const Words& v) {
  check_aligned(p);
#if BB_DEVICE
  *reinterpret_cast<uint4*>(p) = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
#else
  memcpy(p, &v, 16);
#endif
}

// Elements [at, at + WIDTH) of `p`, as far as they lie in [0, n); `fill` elsewhere.
template <class T>
__device__ __forceinline__ void load(const T* p, int64_t at, int64_t n, Real<T> (&x)[WIDTH<T>],
                                     Real<T> fill = 0) {
  const bool congruent = reinterpret_cast<uintptr_t>(p + at) % 16 == 0;
  if (at >= 0 && at + WIDTH<T> <= n && congruent) {
    widen(load_words(p + at), x, T{});
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH<T>; ++i) x[i] = at + i >= 0 && at + i < n ? widen(p[at + i]) : fill;
}

template <class T>
__device__ __forceinline__ void store(T* p, int64_t at, int64_t n, const Real<T> (&x)[WIDTH<T>]) {
  const bool congruent = reinterpret_cast<uintptr_t>(p + at) % 16 == 0;
  if (at >= 0 && at + WIDTH<T> <= n && congruent) {
    store_words(p + at, narrow(x, T{}));
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH<T>; ++i)
    if (at + i >= 0 && at + i < n) p[at + i] = narrow(x[i], T{});
}

// Parameters, one real for each element of the row: read by every row, so they stay in the cache.
template <int W, class R>
__device__ __forceinline__ void load_parameters(const R* p, int64_t at, int64_t n, R (&x)[W],
                                                R missing) {
  if (!p) {
#pragma unroll
    for (int i = 0; i < W; ++i) x[i] = missing;
    return;
  }
  if (at >= 0 && at + W <= n && reinterpret_cast<uintptr_t>(p + at) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < W; i += WIDTH<R>) {
      Words v;
#if BB_DEVICE
      const uint4 u = __ldg(reinterpret_cast<const uint4*>(p + at + i));
      v = {{u.x, u.y, u.z, u.w}};
#else
      memcpy(&v, p + at + i, 16);
#endif
      memcpy(&x[i], &v, 16);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < W; ++i) x[i] = at + i >= 0 && at + i < n ? p[at + i] : missing;
}

}  // namespace benchbench::cuda
