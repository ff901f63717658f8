// The mathematics of the activations where results have 16 bits. Included once per instruction set.
//
// These err by up to 4e-6 of a result, a fiftieth of a step of float16 and less of bfloat16's, so that
// after rounding no result is off by more than 0.51 ulp; results down to the subnormals of either are
// right. Fewer terms, and one reduction in place of two: half the instructions of
// functions.h, on a chain half as long. Gradients, which may cancel, use that.
#pragma once

#include "cpu/functions.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// 2^f for |f| <= 1/2: a polynomial of degree 4 (relative error 3e-6).
static inline F short_power_polynomial(F f) {
  const F square = f * f;
  const F low = f * 0.6931219f + 0.9999993f;
  const F mid = f * 0.055917405f + 0.24024725f;
  return (square * 0.0095704775f + mid) * square + low;
}

// 2^y for y <= 0.
static inline F short_power_of_two(F y) {
  y = maximum(splat<F>(-150.0), y);  // a nan stays
  Power power;
  const F f = y - whole(y, power);
  return times(short_power_polynomial(f), power);
}

// 1 / (1 + e^-x), down to bfloat16's subnormals. (An approximate reciprocal with one of Newton's steps
// takes as long as the division and two more instructions.)
static inline F short_logistic(F x) {
#if BB_LANES == 16
  // e / (1 + e) with e = e^-|x| for x < 0, else 1 / (1 + e): nothing overflows.
  const F e = short_power_of_two(absolute(x) * -1.44269504088896341f);
  return (x < 0.0f ? e : splat<F>(1.0)) / (1.0f + e);
#else
  // Both parts of the fraction over 2^16, so that the scale is one factor; 2^144 over it is infinite.
  const F y = minimum(splat<F>(144.0), maximum(splat<F>(-100.0), x * -1.44269504088896341f));
  const F shifted = y + ROUNDS;
  const F power = bits<F>((bits<U>(shifted) + (127u - 16u)) << 23);
  return 0x1p-16f / (short_power_polynomial(y - (shifted - ROUNDS)) * power + 0x1p-16f);
#endif
}

#if BB_LANES == 16
static inline F short_tangent(F x) { return short_interval_tangent(x); }
static inline F short_normal_tail(F a) { return short_interval_normal_tail(a); }
#else
// A rational function (relative error 2.1e-6); beyond 5 the result is 1.
static inline F short_tangent(F x) {
  const F a = minimum(splat<F>(5.0), absolute(x));  // a nan stays
  const F z = a * a;
  const F p = (z * 1.63710558e-3f + 1.16617782e-1f) * z + 9.99997965e-1f;
  const F q = ((z * 6.44609560e-5f + 1.83038166e-2f) * z + 4.49934899e-1f) * z + 1.0f;
  return copy_sign(a * p / q, x);
}
static inline F short_normal_tail(F a) { return normal_tail(a); }
#endif

static inline F short_gaussian_linear(F x) {
  const F a = minimum(splat<F>(14.5), absolute(x));
  const F gauss = short_power_of_two(a * a * -0.72134752044448170f);
  return gelu_of_upper(x, a, gauss * short_normal_tail(a));
}

// As Full.
struct Short {
  static inline F power_of_e(F x) { return short_power_of_two(x * 1.44269504088896341f); }  // x <= 0
  static inline F sigmoid(F x) { return short_logistic(x); }
  static inline F silu(F x) { return x * short_logistic(x); }
  static inline F tanh(F x) { return short_tangent(x); }
  static inline F gelu(F x) { return short_gaussian_linear(x); }
};

// The kind that elements of type T need.
template <class T>
using Math = std::conditional_t<sizeof(T) == 2, Short, Full>;

}  // namespace
}  // namespace benchbench::BB_ISA
