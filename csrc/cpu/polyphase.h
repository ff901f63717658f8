// A signal at another rate: windowed-sinc interpolation in polyphase form. Included once per
// instruction set.
//
// Output m stands at input position m down / up. The filter is sampled at the `up` possible fractions
// of that position, so an output is one dot product of `width` inputs with the taps of its phase:
// width multiply-adds, 2 width loads, all from the first-level cache. Wins over a convolution, which
// computes with the zeros between samples or at all input positions. Sums are float32 in LANES x 4
// partial sums; the rounding is below -140 dB of full scale for widths up to a thousand.
#pragma once

#include "cpu/vectors.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// The taps of a phase end in zeros up to a multiple of 16.
static inline float dot(const float* x, const float* taps, int64_t width) {
  F s0{}, s1{}, s2{}, s3{};
  int64_t k = 0;
  for (; k + 4 * LANES <= width; k += 4 * LANES) {
    s0 += Element<float>::load(x + k) * Element<float>::load(taps + k);
    s1 += Element<float>::load(x + k + LANES) * Element<float>::load(taps + k + LANES);
    s2 += Element<float>::load(x + k + 2 * LANES) * Element<float>::load(taps + k + 2 * LANES);
    s3 += Element<float>::load(x + k + 3 * LANES) * Element<float>::load(taps + k + 3 * LANES);
  }
  for (; k < width; k += LANES) s0 += Element<float>::load(x + k) * Element<float>::load(taps + k);
  return sum_lanes((s0 + s1) + (s2 + s3));
}

static void resample_entry(const Polyphase& job, const float* x, int64_t length, int64_t first,
                           int64_t last, float* y) {
  int64_t position = first * job.down / job.up, phase = first * job.down % job.up;
  const int64_t step = job.down / job.up, rest = job.down % job.up;
  for (int64_t m = first; m < last; ++m) {
    const float* taps = job.taps + phase * job.width;
    const int64_t begin = position - job.before;
    if (begin >= 0 && begin + job.width <= length) {
      y[m] = dot(x + begin, taps, job.width);
    } else {  // at the ends the signal is zero
      float sum = 0;
      for (int64_t k = 0; k < job.width; ++k)
        if (begin + k >= 0 && begin + k < length) sum += x[begin + k] * taps[k];
      y[m] = sum;
    }
    position += step;
    phase += rest;
    if (phase >= job.up) {
      phase -= job.up;
      ++position;
    }
  }
}

}  // namespace
}  // namespace benchbench::BB_ISA
