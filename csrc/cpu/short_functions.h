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

// 2^y for y <= 0: a polynomial of degree 4 on [-1/2, 1/2] (relative error 3e-6).
static inline F short_power_of_two(F y) {
  y = maximum(splat<F>(-160.0), y);  // a nan stays
  const F n = nearest_integer(y), f = y - n, square = f * f;
  const F low = f * 0.6931219f + 0.9999993f;
  const F mid = f * 0.055917405f + 0.24024725f;
  return times_power_of_two((square * 0.0095704775f + mid) * square + low, n);
}

// 1 / (1 + e^-x) = e / (1 + e) with e = e^-|x| for x < 0, else 1 / (1 + e): nothing overflows. (An
// approximate reciprocal with one of Newton's steps takes as long as the division and two more
// instructions.)
static inline F short_logistic(F x) {
  const F e = short_power_of_two(absolute(x) * -1.44269504088896341f);
  return (x < 0.0f ? e : splat<F>(1.0)) / (1.0f + e);
}

#if BB_LANES == 16
static inline F short_tangent(F x) { return short_interval_tangent(x); }
static inline F short_normal_tail(F a) { return short_interval_normal_tail(a); }
#else
static inline F short_tangent(F x) {
  const F z = x * x;
  F t = splat<F>(-5.70498872745e-3);
  t = t * z + 2.06390887954e-2f;
  t = t * z - 5.37397155531e-2f;
  t = t * z + 1.33314422036e-1f;
  t = t * z - 3.33332819422e-1f;
  const F near = t * z * x + x;
  const F e = short_power_of_two(absolute(x) * -2.88539008177792681f);
  const F far = (1.0f - e) / (1.0f + e);
  return copy_sign(absolute(x) < 0.625f ? near : far, x);  // -0 stays
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
