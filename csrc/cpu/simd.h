// One vector type for all instruction sets, and the mathematics that the kernels need.
//
// Included once per instruction set by a unit of csrc/cpu/isa/, which has set the target by a pragma
// and defined BB_ISA (the namespace) and BB_LANES (floats in a register). The vectors are those of
// the compiler (GCC and Clang): arithmetic, comparison and selection are operators, so the same
// source serves 128-bit SSE2 and NEON, AVX2 and AVX-512. A multiply that feeds an add is contracted
// to a fused one where the target has it.
//
// No standard containers here: their weak symbols, compiled for a newer processor and kept by the
// linker, would crash an older one.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int LANES = BB_LANES;

typedef float F __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
typedef uint16_t H __attribute__((vector_size(2 * LANES)));

struct bf16 {
  uint16_t bits;
};

template <class To, class From>
static inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// A vector with the same value in every lane; for double, which runs one value at a time, itself.
template <class V>
static inline V splat(double value) {
  if constexpr (sizeof(V) == sizeof(double))
    return static_cast<V>(value);
  else
    return V{} + static_cast<float>(value);
}

// What a kernel needs to know of an element type: the type that it computes in, and how to load and
// store a whole vector or the first `count` lanes of one (the others read as zero).
template <class T>
struct Element;

template <>
struct Element<float> {
  using V = F;
  using Sum = float;
  static constexpr int WIDTH = LANES;
  static inline V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
  static inline V load(const float* p, int64_t count) {
    V v{};
    std::memcpy(&v, p, count * sizeof(float));
    return v;
  }
  static inline void store(float* p, V v, int64_t count) { std::memcpy(p, &v, count * sizeof(float)); }
};

template <>
struct Element<bf16> {
  using V = F;
  using Sum = float;
  static constexpr int WIDTH = LANES;
  static inline V widen(H h) { return bits<F>(__builtin_convertvector(h, U) << 16); }
  // Round to nearest, ties to even; a nan stays one whatever its low bits.
  static inline H narrow(V v) {
    const U u = bits<U>(v);
    const U rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const U quiet = (u >> 16) | 0x40u;
    return __builtin_convertvector(v == v ? rounded : quiet, H);
  }
  static inline V load(const bf16* p) {
    H h;
    std::memcpy(&h, p, sizeof h);
    return widen(h);
  }
  static inline void store(bf16* p, V v) {
    const H h = narrow(v);
    std::memcpy(p, &h, sizeof h);
  }
  static inline V load(const bf16* p, int64_t count) {
    H h{};
    std::memcpy(&h, p, count * sizeof(bf16));
    return widen(h);
  }
  static inline void store(bf16* p, V v, int64_t count) {
    const H h = narrow(v);
    std::memcpy(p, &h, count * sizeof(bf16));
  }
};

// float64 is for gradient checks: one value at a time, with the mathematics of the C library.
template <>
struct Element<double> {
  using V = double;
  using Sum = double;
  static constexpr int WIDTH = 1;
  static inline V load(const double* p) { return *p; }
  static inline void store(double* p, V v) { *p = v; }
  static inline V load(const double* p, int64_t) { return *p; }
  static inline void store(double* p, V v, int64_t) { *p = v; }
};

static inline float sum_lanes(F v) {
  float lanes[LANES];
  std::memcpy(lanes, &v, sizeof v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}
static inline double sum_lanes(double v) { return v; }

static inline float max_lanes(F v) {
  float lanes[LANES];
  std::memcpy(lanes, &v, sizeof v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] < lanes[i + half] ? lanes[i + half] : lanes[i];
  return lanes[0];
}
static inline double max_lanes(double v) { return v; }

template <class V>
static inline V maximum(V a, V b) {
  return a < b ? b : a;
}

static inline F absolute(F x) { return bits<F>(bits<U>(x) & 0x7fffffffu); }
static inline double absolute(double x) { return std::fabs(x); }

static inline F copy_sign(F magnitude, F sign) {
  return bits<F>((bits<U>(magnitude) & 0x7fffffffu) | (bits<U>(sign) & 0x80000000u));
}
static inline double copy_sign(double magnitude, double sign) { return std::copysign(magnitude, sign); }

// e^x: reduction by ln 2 in two parts, a polynomial of degree 6 (the coefficients of Cephes' expf),
// and a scale applied in two factors so that results down to the subnormals and up to infinity come
// out by rounding. Largest error about 1 ulp.
static inline F exponential(F x) {
  x = x > 89.0f ? splat<F>(89.0) : x;
  x = x < -104.0f ? splat<F>(-104.0) : x;
  const F magic = splat<F>(12582912.0);  // adding it rounds to an integer
  const F n = (x * 1.44269504088896341f + magic) - magic;
  F r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  F p = splat<F>(1.9875691500e-4);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const I whole = __builtin_convertvector(n, I);
  const I half = whole >> 1;
  return p * bits<F>((half + 127) << 23) * bits<F>((whole - half + 127) << 23);
}
static inline double exponential(double x) { return std::exp(x); }

// tanh: an odd polynomial below 0.625 (Cephes' tanhf), 1 - 2 / (e^2|x| + 1) above. About 2 ulp.
static inline F tangent(F x) {
  const F a = absolute(x);
  const F z = x * x;
  F p = splat<F>(-5.70498872745e-3);
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const F small = p * z * x + x;
  const F large = 1.0f - 2.0f / (exponential(a + a) + 1.0f);
  return a < 0.625f ? small : copy_sign(large, x);
}
static inline double tangent(double x) { return std::tanh(x); }

// Distribution function of the standard normal, e^(-x^2/2) beside it. Below sqrt 2 by the series of
// erf, above by the rational form of erfc (Cephes' erff and erfcf), which keeps the relative
// precision of the left tail that 1 + erf loses.
static inline F normal_cdf(F x, F& gauss) {
  const F a = absolute(x) * 0.70710678118654752f;
  const F z = a * a;
  gauss = exponential(-z);
  F t = splat<F>(7.853861353153693e-5);
  t = t * z - 8.010193625184903e-4f;
  t = t * z + 5.188327685732524e-3f;
  t = t * z - 2.685381193529856e-2f;
  t = t * z + 1.128358514861418e-1f;
  t = t * z - 3.761262582423300e-1f;
  t = t * z + 1.128379165726710f;
  const F near = 0.5f + copy_sign(0.5f * t * a, x);
  const F q = 1.0f / a;
  const F y = q * q;
  F p = splat<F>(2.326819970068386e-2);
  p = p * y - 1.387039388740657e-1f;
  p = p * y + 3.687424674597105e-1f;
  p = p * y - 5.824733027278666e-1f;
  p = p * y + 6.210004621745983e-1f;
  p = p * y - 4.944515323274145e-1f;
  p = p * y + 3.404879937665872e-1f;
  p = p * y - 2.741127028184656e-1f;
  p = p * y + 5.638259427386472e-1f;
  F r = splat<F>(-1.047766399936249e+1);
  r = r * y + 1.297719955372516e+1f;
  r = r * y - 7.495518717768503e+0f;
  r = r * y + 2.921019019210786e+0f;
  r = r * y - 1.015265279202700e+0f;
  r = r * y + 4.218463358204948e-1f;
  r = r * y - 2.820767439740514e-1f;
  r = r * y + 5.641895067754075e-1f;
  const F tail = 0.5f * gauss * q * (a < 2.0f ? p : r);
  const F far = x < 0.0f ? tail : 1.0f - tail;
  return a < 1.0f ? near : far;
}
static inline double normal_cdf(double x, double& gauss) {
  gauss = std::exp(-0.5 * x * x);
  return 0.5 * std::erfc(-x * 0.70710678118654752440);
}

template <class V>
static inline V logistic(V x) {
  return splat<V>(1.0) / (splat<V>(1.0) + exponential(-x));
}

}  // namespace
}  // namespace benchbench::BB_ISA
