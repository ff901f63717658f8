// Division of many numbers by one that the host knows.
#pragma once

#include "cuda/support/platform.h"

namespace benchbench::cuda {

// n / by for 0 <= n <= most: a multiplication and a shift where `most` is below 2^31 (Granlund &
// Montgomery 1994), else a division.
struct Quotient {
  uint64_t factor = 0;
  int64_t by = 1;
  int shift = 0;
  bool small = false;
  Quotient(int64_t divisor, int64_t most) : by(divisor) {
    constexpr int BITS = 31;
    if (most >> BITS || by >> BITS) return;
    while (int64_t(1) << shift < by) ++shift;
    // 2^(31 + shift) / by, rounded up: below 2^32. What it is too large by, times n, does not reach the
    // next quotient for any n below 2^31.
    factor = ((uint64_t(1) << (BITS + shift)) + static_cast<uint64_t>(by) - 1) / static_cast<uint64_t>(by);
    shift += BITS;
    small = true;
  }
  __device__ __forceinline__ int64_t operator()(int64_t n) const {
    if (!small) return n / by;
    const uint64_t product = uint64_t(static_cast<uint32_t>(n)) * static_cast<uint32_t>(factor);
    return static_cast<int64_t>(product >> shift);
  }
};

}  // namespace benchbench::cuda
