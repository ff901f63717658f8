// Elements in memory and in registers: 16 bytes at a time, computed in float (double for f64).
#pragma once

#include <cassert>
#include <cstring>

#include "cuda/kernels.h"
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

// 16 bytes of global memory as they are. The first level of the cache keeps them only where NEAR, which is
// for what this thread or its neighbours read again soon.
template <bool NEAR>
__device__ __forceinline__ Words load_16(const void* p) {
  check_aligned(p);
#if BB_DEVICE
  const auto* const from = static_cast<const uint4*>(p);
  const uint4 v = NEAR ? __ldg(from) : __ldcs(from);
  return {{v.x, v.y, v.z, v.w}};
#else
  Words v;
  memcpy(&v, p, 16);
  return v;
#endif
}
template <class T>
__device__ __forceinline__ Words load_words(const T* p) {
  return load_16<false>(p);
}
template <class T>
__device__ __forceinline__ Words load_words_near(const T* p) {
  return load_16<true>(p);
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

// Element i of the vector, of which nothing was there before.
__device__ __forceinline__ void put(Words& v, int i, bf16 e) {
  v.w[i / 2] |= uint32_t(e.bits) << (i % 2 * 16);
}
__device__ __forceinline__ void put(Words& v, int i, f16 e) {
  v.w[i / 2] |= uint32_t(e.bits) << (i % 2 * 16);
}
__device__ __forceinline__ void put(Words& v, int i, float e) { v.w[i] = __float_as_uint(e); }
__device__ __forceinline__ void put(Words& v, int i, double e) { memcpy(&v.w[2 * i], &e, 8); }

template <class T>
__device__ __forceinline__ Real<T> parameter(const Parameter& from, int64_t at) {
  return from.real ? static_cast<const Real<T>*>(from.p)[at]
                   : static_cast<Real<T>>(widen(static_cast<const T*>(from.p)[at]));
}

template <class T>
__device__ __forceinline__ void write_parameter(void* to, bool real, int64_t at, Real<T> x) {
  if (real) static_cast<Real<T>*>(to)[at] = x;
  else static_cast<T*>(to)[at] = narrow(x, T{});
}

// WIDTH<T> of them from `at` on; both addresses are aligned to 16 bytes.
template <class T>
__device__ __forceinline__ void parameters(const Parameter& from, int64_t at,
                                           Real<T> (&x)[WIDTH<T>]) {
  if (!from.real) {
    widen(load_words_near(static_cast<const T*>(from.p) + at), x, T{});
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH<T>; i += WIDTH<Real<T>>) {
    const Words v = load_words_near(static_cast<const Real<T>*>(from.p) + at + i);
    memcpy(&x[i], &v, 16);
  }
}

inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// f(T{}) for the type's element.
template <class F>
Failure with_type(Type type, F f) {
  switch (type) {
    case Type::f32: return f(float{});
    case Type::bf16: return f(bf16{});
    case Type::f16: return f(f16{});
    default: return f(double{});
  }
}

inline int width_of(Type type) {
  return type == Type::f64 ? 2 : type == Type::f32 ? 4 : 8;
}

}  // namespace benchbench::cuda
