// The mathematics of the activations, for float vectors; double goes to the C library.
//
// Bounds are against float64 over all of float32 that matters, with fused multiply-add (without it
// they grow by about half). Polynomials that are not attributed were fitted for this file, by
// iterated least squares towards the least maximal relative error.
#pragma once

#include "cpu/intervals.h"
#include "cpu/simd.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, by the coefficients of Cephes' expf, in pairs (Estrin): as
// many operations as one after the other and a chain of three in place of five, for it is the length
// of its chain that a loop of such functions waits for.
static inline F beyond_linear(F r) {
  const F square = r * r;
  const F high = r * 1.9875691500e-4f + 1.3981999507e-3f;
  const F mid = r * 8.3334519073e-3f + 4.1665795894e-2f;
  const F low = r * 1.6666665459e-1f + 5.0000001201e-1f;
  return (high * square + mid) * square + low;
}

// x - n ln 2, in two parts, of which the first has few bits: its product is exact without a fused
// multiply-add.
static inline F reduced(F x, F n) { return (x - n * 0.693359375f) - n * -2.12194440e-4f; }

// e^x for x <= 60, within 1.03 ulp, subnormal results included: a polynomial of degree 7 of what a
// multiple of ln 2 leaves.
static inline F exponential(F x) {
  x = maximum(splat<F>(-104.0), x);  // a nan stays
  Power power;
  const F r = reduced(x, whole(x * 1.44269504088896341f, power));
  return times(beyond_linear(r) * (r * r) + r + 1.0f, power);
}
static inline double exponential(double x) { return std::exp(x); }

// 1 + e^x, or a half of it where that spares the scale a second factor: whatever is over it is a
// fraction of which both parts are halved.
#if BB_LANES == 16
constexpr float PART = 1.0f;
static inline F part_of_one_and_exponential(F x) {
  return 1.0f + exponential(minimum(splat<F>(89.0), x));  // to infinity, and a nan stays
}
#else
constexpr float PART = 0.5f;
static inline F part_of_one_and_exponential(F x) {
  x = minimum(splat<F>(89.5), maximum(splat<F>(-87.0), x));  // from 0 to infinity, and a nan stays
  const F shifted = x * 1.44269504088896341f + ROUNDS, r = reduced(x, shifted - ROUNDS);
  const F half_power = bits<F>((bits<U>(shifted) + 126u) << 23);  // of two; n stands in the low bits
  return (beyond_linear(r) * (r * r) + r + 1.0f) * half_power + 0.5f;
}
#endif
static inline F over_one_and_exponential(F v, F x) {
  return v * PART / part_of_one_and_exponential(x);
}
static inline double over_one_and_exponential(double v, double x) { return v / (1 + std::exp(x)); }

// 1 / (1 + e^-x), within 2 ulp.
template <class V>
static inline V logistic(V x) {
  return over_one_and_exponential(splat<V>(1.0), -x);
}

// logistic(x) and logistic(-x) at the price of one: neither cancels.
template <class V>
static inline V logistic(V x, V& rest) {
  const V e = exponential(-absolute(x));
  const V large = splat<V>(1.0) / (splat<V>(1.0) + e);
  const V small = e * large;
  rest = x < splat<V>(0.0) ? large : small;
  return x < splat<V>(0.0) ? small : large;
}

// e^x (1 + rest): the same with most of its rounding, for functions that would add their own to it.
static inline F exponential(F x, F& rest) {
  x = maximum(splat<F>(-104.0), x);  // a nan stays
  Power power;
  const F r = reduced(x, whole(x * 1.44269504088896341f, power));
  const F p = beyond_linear(r) * (r * r) + r;
  const F whole = p + 1.0f;
  // What the addition lost, over `whole`: 2 - whole is close enough to its reciprocal.
  rest = (p - (whole - 1.0f)) * (2.0f - whole);
  return times(whole, power);
}
static inline double exponential(double x, double& rest) {
  rest = 0;
  return std::exp(x);
}

// e^x - 1 for x <= 0, within 2 ulp, small x included: the polynomial of exponential() without its 1,
// scaled, and 2^n - 1 (exact) added.
static inline F exponential_less_one(F x) {
  x = maximum(splat<F>(-30.0), x);  // a nan stays; -1 is reached at -17.4
  const F shifted = x * 1.44269504088896341f + ROUNDS, n = shifted - ROUNDS;
  const F r = reduced(x, n);
  const F p = beyond_linear(r) * (r * r) + r;
  const F two_n = bits<F>((bits<U>(shifted) + 127u) << 23);  // n stands in the low bits
  return p * two_n + (two_n - 1.0f);
}
static inline double exponential_less_one(double x) { return std::expm1(x); }

// ---- in double, one half of the lanes after the other ----
// For functions whose roundings in float add up: these are within 0.502 ulp, by about as many
// instructions as it takes to put back what float loses.

// e^y = (1 + m) 2^n, -104 <= y <= 20, relative error of m 5e-12: reduction by ln 2, a polynomial.
static inline D reduced_exponential(D y, D& two_n) {
  const D shifted = y * 1.4426950408889634 + 6755399441055744.0;  // rounds to an integer
  const D n = shifted - 6755399441055744.0, r = y - n * 0.6931471805599453;
  D p = D{} + 2.4882569261678103e-05;
  p = p * r + 1.9905010471517646e-04;
  p = p * r + 1.3888809170112745e-03;
  p = p * r + 8.333288885479333e-03;
  p = p * r + 4.166666695590332e-02;
  p = p * r + 1.6666666754754855e-01;
  p = p * r + 4.999999999973522e-01;
  two_n = bits<D>((bits<W>(shifted) + 1023u) << 52);  // n stands in the low bits
  return p * (r * r) + r;
}
static inline D exponential(D y) {
  D two_n;
  const D m = reduced_exponential(y, two_n);
  return m * two_n + two_n;
}

// x / d for both halves, by a division in float and one of Newton's steps.
static inline F quotient(D x0, D d0, D x1, D d1) {
  const F rough = 1.0f / joined(d0, d1);
  const D r0 = low_half(rough), r1 = high_half(rough);
  return joined(x0 * (r0 * (2.0 - d0 * r0)), x1 * (r1 * (2.0 - d1 * r1)));
}

#if BB_LANES == 16
static inline F tangent(F x) { return interval_tangent(x); }
#else
// tanh over a, a <= 9.02 (beyond, a float's tanh is 1), of its square: a rational function (relative
// error 4e-11).
static inline D tangent_over(D z) {
  D p = D{} + 3.6742835463080806e-11, q = D{} + 2.9510905911402278e-09;
  p = p * z + 1.1117387511786488e-07, q = q * z + 2.6038209485926223e-06;
  p = p * z + 4.2273392130976395e-05, q = q * z + 5.0083168737227191e-04;
  p = p * z + 4.4259364305386166e-03, q = q * z + 2.9201049284549323e-02;
  p = p * z + 1.4099200344862711e-01, q = q * z + 4.7432533638476918e-01;
  p = p * z + 0.99999999996409899, q = q * z + 1.0;
  return p / q;
}
static inline F tangent(F x) {
  const F a = minimum(splat<F>(9.02), absolute(x));  // a nan stays
  const D low = low_half(a), high = high_half(a);
  return copy_sign(joined(low * tangent_over(low * low), high * tangent_over(high * high)), x);
}
#endif
static inline double tangent(double x) { return std::tanh(x); }

// 1 / (1 + e^-x), down to the subnormals, for gradients that are this function alone.
static inline F exact_logistic(F x) {
  const F a = minimum(splat<F>(104.0), absolute(x));  // a nan stays
  const D e0 = exponential(-low_half(a)), e1 = exponential(-high_half(a)), one = D{} + 1.0;
  return quotient(low_half(x) < 0.0 ? e0 : one, e0 + 1.0, high_half(x) < 0.0 ? e1 : one, e1 + 1.0);
}
static inline double exact_logistic(double x) { return logistic(x); }

// ln(1 + e^z), down to the subnormals: max(z, 0) + e Q(e) with e = e^-|z|, Q fitted to ln(1 + e) / e on
// [0, 1] (relative error 1.2e-10).
static inline D log_one_plus_exponential(D positive, D minus_a) {
  const D e = exponential(minus_a);
  D q = D{} - 0.0012851434514805906;
  q = q * e + 0.009105979460984397;
  q = q * e - 0.0302320172022107;
  q = q * e + 0.06408779340674697;
  q = q * e - 0.10131047437665656;
  q = q * e + 0.13430125246848898;
  q = q * e - 0.16454108348213958;
  q = q * e + 0.19965568138443146;
  q = q * e - 0.2499664658378303;
  q = q * e + 0.3333316237649608;
  q = q * e - 0.49999996554347603;
  q = q * e + 0.9999999998842429;
  return q * e + positive;
}
static inline F log_one_plus_exponential(F z) {
  const F positive = maximum(splat<F>(0.0), z), a = minimum(splat<F>(104.0), absolute(z));
  return joined(log_one_plus_exponential(low_half(positive), -low_half(a)),
                log_one_plus_exponential(high_half(positive), -high_half(a)));
}
static inline double log_one_plus_exponential(double z) {
  return maximum(0.0, z) + std::log1p(std::exp(-absolute(z)));
}

// The upper tail of the standard normal distribution over e^(-a^2/2), 0 <= a <= 14.5, where float32
// ends: a rational function (relative error 6e-9; all coefficients positive, so nothing cancels).
static inline F normal_tail(F a) {
  const F square = a * a;
  const F p1 = a * 4.382938761e-01f + 0.5f, p2 = a * 4.063288327e-02f + 1.832342216e-01f;
  const F q1 = a * 1.674472733e+00f + 1.0f, q2 = a * 4.694681828e-01f + 1.202499597e+00f;
  const F q3 = a * 1.031778523e-02f + 1.018579810e-01f;
  const F p = (square * 4.116248538e-03f + p2) * square + p1;
  const F q = (square * q3 + q2) * square + q1;
  return p / q;
}

// e^(-a^2/2) for 0 <= a <= 14.5, of a's square: its relative error is some 1e-7 near 0 and grows with
// a^2/2 roundings of the exponent, the square's own first. A polynomial of degree 6 of that part of the
// exponent, times -2, which a multiple of ln 2 leaves.
static inline F gauss_of_square(F square) {
  Power power;
  const F n = whole(square * -0.72134752044448170f, power);
#if BB_LANES == 4  // without a fused multiply-add
  const F h = (square + n * 1.38671875f) + n * -4.24388880e-4f;
#else
  const F h = n * 1.38629436111989062f + square;
#endif
  const F low = h * -2.0833151e-2f + 1.24999985e-1f, mid = h * -2.61522e-4f + 2.604268e-3f;
  const F hh = h * h, start = h * -0.5f + 1.0f;
  return times(((hh * 2.159209e-5f + mid) * hh + low) * hh + start, power);
}

// Distribution function of the standard normal, with e^(-x^2/2) beside it: the left side is that times
// normal_tail(), the right side 1 minus it. 1 + erf, the usual form, loses the left side altogether.
static inline F normal_cdf(F x, F& gauss) {
  const F a = minimum(splat<F>(14.5), absolute(x));
  gauss = gauss_of_square(a * a);
  const F tail = gauss * normal_tail(a);
  return x < 0.0f ? tail : 1.0f - tail;
}
static inline double normal_cdf(double x, double& gauss) {
  gauss = std::exp(-0.5 * x * x);
  return 0.5 * std::erfc(-x * 0.70710678118654752440);
}

// x Phi(x) = max(x, 0) - |x| Phi(-|x|): on the right what is taken away is small, on the left it is
// all there is, so both keep their precision.
template <class V>
static inline V gelu_of_upper(V x, V a, V upper) {
  return maximum(splat<V>(0.0), x) - a * upper;  // a nan and -0 stay
}
static inline F gaussian_linear(F x) {
  const F a = minimum(splat<F>(14.5), absolute(x));
  return gelu_of_upper(x, a, gauss_of_square(a * a) * normal_tail(a));
}
static inline double gaussian_linear(double x) {
  double gauss;
  return x * normal_cdf(x, gauss);
}

// What an activation is made of; see short_functions.h for the other kind.
struct Full {
  template <class V>
  static inline V power_of_e(V x) {
    return exponential(x);
  }
  template <class V>
  static inline V sigmoid(V x) {
    return logistic(x);
  }
  template <class V>
  static inline V silu(V x) {
    return over_one_and_exponential(x, -x);
  }
  template <class V>
  static inline V tanh(V x) {
    return tangent(x);
  }
  template <class V>
  static inline V gelu(V x) {
    return gaussian_linear(x);
  }
};

}  // namespace
}  // namespace benchbench::BB_ISA
