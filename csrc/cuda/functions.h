// The activations and their derivatives for float, by the processor's ex2 and rcp, and for double by
// the mathematical library.
//
// PRECISE is for outputs of 32 bits: relative errors below are against float64, over the range where
// float32 is normal. For outputs of 16 bits the argument's rounding is left in the exponential. No
// tanh.approx: its 2^-11 is half an ulp of f16 and an eighth of one of bf16, more than eager's error
// allows, and zero is where it is relatively worst.
#pragma once

#include "cpu/kernels.h"
#include "cuda/support/intrinsics.h"

namespace benchbench::cuda {

// e^x. The product with log2(e) is rounded; PRECISE multiplies by what that lost, which grows with x
// (2 ulp instead of 90).
template <bool PRECISE>
__device__ __forceinline__ float exponential(float x) {
  constexpr float LOG2_E = 1.44269504088896341f, LOG2_E_REST = 1.92596299112661746e-8f;
  if constexpr (!PRECISE) return exp2_fast(x * LOG2_E);
  // Infinities would give nan below; beyond these bounds the result is 0 and infinity anyway.
  x = x < -104.0f ? -104.0f : (x > 89.0f ? 89.0f : x);
  const float t = x * LOG2_E;
  const float lost = fmaf(x, LOG2_E_REST, fmaf(x, LOG2_E, -t));
  return exp2_fast(t) * fmaf(lost, 0.693147180559945f, 1.0f);
}
template <bool>
__device__ __forceinline__ double exponential(double x) { return exp(x); }

__device__ __forceinline__ double reciprocal_fast(double x) { return 1 / x; }

template <bool PRECISE, class R>
__device__ __forceinline__ R logistic(R x) {
  return reciprocal_fast(R(1) + exponential<PRECISE>(-x));
}

// logistic(x) and logistic(-x): neither cancels.
template <bool PRECISE, class R>
__device__ __forceinline__ R logistic(R x, R& rest) {
  const R e = exponential<PRECISE>(x < R(0) ? x : -x);
  const R large = reciprocal_fast(R(1) + e), small = e * large;
  rest = x < R(0) ? large : small;
  return x < R(0) ? small : large;
}

// An odd polynomial below 0.625 (the coefficients of Cephes' tanhf), 1 - 2 / (e^2|x| + 1) above.
template <bool PRECISE>
__device__ __forceinline__ float tangent(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = fmaf(p, z, 2.06390887954e-2f);
  p = fmaf(p, z, -5.37397155531e-2f);
  p = fmaf(p, z, 1.33314422036e-1f);
  p = fmaf(p, z, -3.33332819422e-1f);
  const float a = fabsf(x), near = fmaf(p * z, a, a);
  const float far = fmaf(-2.0f, reciprocal_fast(exponential<PRECISE>(a + a) + 1.0f), 1.0f);
  return copysignf(a < 0.625f ? near : far, x);  // -0 stays
}
template <bool>
__device__ __forceinline__ double tangent(double x) { return tanh(x); }

// Distribution function of the standard normal, and e^(-x^2/2): in the left tail that times a rational
// function of |x|, on the right 1 minus it, so the tail keeps its relative accuracy. The coefficients
// are those of cpu/functions.h (relative error 6e-9 on [0, 14.5]).
template <bool PRECISE>
__device__ __forceinline__ float normal_cdf(float x, float& gauss) {
  const float a = fminf(14.5f, fabsf(x));
  gauss = exponential<PRECISE>(a * a * -0.5f);
  float p = 4.116248538e-03f;
  p = fmaf(p, a, 4.063288327e-02f);
  p = fmaf(p, a, 1.832342216e-01f);
  p = fmaf(p, a, 4.382938761e-01f);
  p = fmaf(p, a, 0.5f);
  float q = 1.031778523e-02f;
  q = fmaf(q, a, 1.018579810e-01f);
  q = fmaf(q, a, 4.694681828e-01f);
  q = fmaf(q, a, 1.202499597e+00f);
  q = fmaf(q, a, 1.674472733e+00f);
  q = fmaf(q, a, 1.0f);
  const float tail = gauss * p * reciprocal_fast(q);
  return x < 0.0f ? tail : 1.0f - tail;
}
template <bool>
__device__ __forceinline__ double normal_cdf(double x, double& gauss) {
  gauss = exp(-0.5 * x * x);
  return 0.5 * erfc(-x * 0.70710678118654752440);
}

// f(x) and f'(x); what the caller does not use is not computed.
template <Activation OP, bool PRECISE, class R>
__device__ __forceinline__ R activation(R x, R& slope) {
  if constexpr (OP == Activation::relu) {
    slope = x <= R(0) ? R(0) : R(1);
    return x < R(0) ? R(0) : x;  // a nan stays
  } else if constexpr (OP == Activation::sigmoid) {
    const R y = logistic<PRECISE>(x);
    slope = y * (R(1) - y);
    return y;
  } else if constexpr (OP == Activation::tanh) {
    const R y = tangent<PRECISE>(x);
    slope = (R(1) - y) * (R(1) + y);
    return y;
  } else if constexpr (OP == Activation::gelu) {
    R gauss;
    const R phi = normal_cdf<PRECISE>(x, gauss);
    slope = phi + x * gauss * static_cast<R>(0.39894228040143267794);
    return x * phi;
  } else if constexpr (OP == Activation::gelu_tanh) {
    // (1 + tanh u) / 2 = logistic(2u)
    constexpr R TWICE = static_cast<R>(1.59576912160573071176), CUBE = static_cast<R>(0.044715);
    const R z = x * x;
    R rest;
    const R s = logistic<PRECISE>(TWICE * (x + CUBE * x * z), rest);
    slope = s + x * s * rest * (TWICE * (R(1) + R(3) * CUBE * z));
    return x * s;
  } else {
    R rest;
    const R s = logistic<PRECISE>(x, rest);
    slope = s + x * s * rest;
    return x * s;
  }
}

// f' from what the forward kept: the output for relu, sigmoid and tanh, else the input.
template <Activation OP, bool PRECISE, class R>
__device__ __forceinline__ R slope_of(R kept) {
  if constexpr (OP == Activation::relu) return kept <= R(0) ? R(0) : R(1);
  else if constexpr (OP == Activation::sigmoid) return kept * (R(1) - kept);
  else if constexpr (OP == Activation::tanh) return (R(1) - kept) * (R(1) + kept);  // 1 - y is exact
  else {
    R slope;
    activation<OP, PRECISE>(kept, slope);
    return slope;
  }
}

__device__ __forceinline__ float log_one_plus(float x) { return log1pf(x); }
__device__ __forceinline__ double log_one_plus(double x) { return log1p(x); }
__device__ __forceinline__ float exponential_less_one(float x) { return expm1f(x); }
__device__ __forceinline__ double exponential_less_one(double x) { return expm1(x); }

// The curves of cpu/kernels.h. No form cancels: the left tails keep their relative accuracy.
template <Curve C, bool PRECISE, class R>
__device__ __forceinline__ R curve_value(R x, R a, R b) {
  if constexpr (C == Curve::softplus) {
    const R z = x * a, size = z < R(0) ? -z : z;
    const R y = ((z < R(0) ? R(0) : z) + log_one_plus(exponential<PRECISE>(-size))) * reciprocal_fast(a);
    return z > b ? x : y;
  } else if constexpr (C == Curve::log_sigmoid) {
    return (x < R(0) ? x : R(0)) - log_one_plus(exponential<PRECISE>(x < R(0) ? x : -x));
  } else if constexpr (C == Curve::elu) {
    return x > R(0) ? b * x : a * exponential_less_one(x);
  } else if constexpr (C == Curve::mish) {
    // tanh(ln(1 + e^x)) = p / q, in e = e^-|x|.
    const R e = exponential<PRECISE>(x < R(0) ? x : -x), near = e * (e + R(2)), far = R(1) + R(2) * e;
    const R p = x < R(0) ? near : far, q = x < R(0) ? near + R(2) : far + R(2) * e * e;
    return x * (p * reciprocal_fast(q));
  } else if constexpr (C == Curve::hardswish) {
    const R gate = x + R(3);
    return x * ((gate < R(0) ? R(0) : gate > R(6) ? R(6) : gate) * (R(1) / R(6)));
  } else {
    return x > R(0) ? x : x * a;
  }
}

template <Curve C, bool PRECISE, class R>
__device__ __forceinline__ R curve_slope(R x, R a, R b) {
  if constexpr (C == Curve::softplus) {
    const R z = x * a;
    return z > b ? R(1) : logistic<PRECISE>(z);
  } else if constexpr (C == Curve::log_sigmoid) {
    return logistic<PRECISE>(-x);
  } else if constexpr (C == Curve::elu) {
    return x > R(0) ? b : a * exponential<PRECISE>(x);
  } else if constexpr (C == Curve::mish) {
    // 1 - (p/q)^2 = (q - p)(q + p) / q^2; far out the second term is 0 and x may be infinite.
    const R near = x < R(-200) ? R(-200) : x > R(200) ? R(200) : x;
    const bool left = near < R(0);
    const R e = exponential<PRECISE>(left ? near : -near);
    const R p = left ? e * (e + R(2)) : R(1) + R(2) * e, rest = left ? R(2) : R(2) * e * e;
    const R inverse = reciprocal_fast(p + rest), t = p * inverse;
    const R sigmoid = (left ? e : R(1)) * reciprocal_fast(R(1) + e);
    return t + near * sigmoid * (rest * inverse) * (R(1) + t);
  } else if constexpr (C == Curve::hardswish) {
    return x <= R(-3) ? R(0) : x >= R(3) ? R(1) : x * (R(1) / R(3)) + static_cast<R>(0.5);
  } else {
    return x > R(0) ? R(1) : a;
  }
}

template <Curve C>
struct ChosenCurve { static constexpr Curve value = C; };

template <class Failure, class F>
Failure with_curve(Curve which, F f) {
  switch (which) {
    case Curve::softplus: return f(ChosenCurve<Curve::softplus>{});
    case Curve::log_sigmoid: return f(ChosenCurve<Curve::log_sigmoid>{});
    case Curve::elu: return f(ChosenCurve<Curve::elu>{});
    case Curve::mish: return f(ChosenCurve<Curve::mish>{});
    case Curve::hardswish: return f(ChosenCurve<Curve::hardswish>{});
    default: return f(ChosenCurve<Curve::leaky_relu>{});
  }
}

// f(Constant) with the activation as a compile-time constant; those without a biased or gated form
// only where ALL.
template <Activation OP>
struct Chosen { static constexpr Activation value = OP; };

template <bool ALL, class Failure, class F>
Failure with_activation(Activation op, F f) {
  switch (op) {
    case Activation::relu: return f(Chosen<Activation::relu>{});
    case Activation::gelu: return f(Chosen<Activation::gelu>{});
    case Activation::gelu_tanh: return f(Chosen<Activation::gelu_tanh>{});
    case Activation::silu: return f(Chosen<Activation::silu>{});
    case Activation::sigmoid:
      if constexpr (ALL) return f(Chosen<Activation::sigmoid>{});
      break;
    case Activation::tanh:
      if constexpr (ALL) return f(Chosen<Activation::tanh>{});
      break;
  }
  return {"this activation has no such form; use relu, gelu, gelu_tanh or silu"};
}

}  // namespace benchbench::cuda
