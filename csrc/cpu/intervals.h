// Functions by interval: a polynomial out of a table, for registers that hold 16 floats. Included
// once per instruction set; empty for those with shorter registers.
//
// A table has 32 intervals, and a coefficient of all of them is two registers, from which one
// instruction picks every lane's own (two a cycle on Zen 5). So a polynomial of degree 6 costs 8 of
// these and replaces a reduction, an exponential and a division: a third of the instructions, and,
// what counts for more, a chain a third as long, since it is the chain that fills the processor's
// schedulers. Shorter registers would need four or eight such picks, or gathers, which are slower
// than the arithmetic.
#pragma once

#include "cpu/interval_tables.h"
#include "cpu/simd.h"

#if BB_LANES == 16
namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

struct Intervals {
  U number;

  // Of a, 0 <= a < the table's limit; a nan finds some interval.
  inline Intervals(F a, float scale) : number(bits<U>(a * scale + 1.0f) >> 20) {}

  inline F pick(const float (&row)[32]) const {
    return _mm512_permutex2var_ps(_mm512_load_ps(row), (__m512i)number, _mm512_load_ps(row + 16));
  }
};

// tanh within 0.505 ulp (all floats were tried). Around the interval's middle value and slope are
// floats almost exactly; what their sum loses by rounding is found by a second fused operation and
// added to the higher terms, which are small, so only the last addition's rounding is left to see.
static inline F interval_tangent(F x) {
  const F a = minimum(splat<F>(TANH_LIMIT * (1 - 1e-6)), absolute(x));  // a nan stays
  const Intervals in(a, TANH_SCALE);
  const F t = a - in.pick(TANH[0]), c0 = in.pick(TANH[1]), c1 = in.pick(TANH[2]);
  F p = in.pick(TANH[7]);
  p = p * t + in.pick(TANH[6]);
  p = p * t + in.pick(TANH[5]);
  p = p * t + in.pick(TANH[4]);
  p = p * t + in.pick(TANH[3]);
  const F sum = _mm512_fmadd_ps(c1, t, c0);
  const F lost = _mm512_fmadd_ps(c1, t, c0 - sum);
  return copy_sign(sum + (p * (t * t) + lost), x);
}

// The same for 16-bit results: relative error 2e-6.
static inline F short_interval_tangent(F x) {
  const F a = minimum(splat<F>(SHORT_TANH_LIMIT * (1 - 1e-6)), absolute(x));  // a nan stays
  const Intervals in(a, SHORT_TANH_SCALE);
  const F low = in.pick(SHORT_TANH[1]) * a + in.pick(SHORT_TANH[0]);
  const F high = in.pick(SHORT_TANH[3]) * a + in.pick(SHORT_TANH[2]);
  return copy_sign(high * (a * a) + low, x);
}

// normal_tail() for 16-bit results: relative error 3e-6.
static inline F short_interval_normal_tail(F a) {
  const Intervals in(a, SHORT_NORMAL_TAIL_SCALE);
  const F low = in.pick(SHORT_NORMAL_TAIL[1]) * a + in.pick(SHORT_NORMAL_TAIL[0]);
  const F high = in.pick(SHORT_NORMAL_TAIL[3]) * a + in.pick(SHORT_NORMAL_TAIL[2]);
  return high * (a * a) + low;
}

}  // namespace
}  // namespace benchbench::BB_ISA
#endif
