// Groups of random words by vectors: see csrc/cpu/random.h for what a group is. Included once per
// instruction set.
#pragma once

#include "cpu/random.h"
#include "cpu/simd.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// Both halves of a product of 32-bit lanes with one number.
static inline U multiply(U a, uint32_t factor, U& high) {
#if BB_LANES == 16
  const __m512i x = (__m512i)a, f = _mm512_set1_epi64(factor);
  const __m512i even = _mm512_mul_epu32(x, f), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), f);
  high = (U)_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xAAAA, odd);
  return (U)_mm512_mask_mov_epi32(even, 0xAAAA, _mm512_slli_epi64(odd, 32));
#elif BB_LANES == 8
  const __m256i x = (__m256i)a, f = _mm256_set1_epi64x(factor);
  const __m256i even = _mm256_mul_epu32(x, f), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), f);
  high = (U)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  return (U)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
#else
  U low{};
  for (int lane = 0; lane < LANES; ++lane) {
    const uint64_t product = uint64_t{a[lane]} * factor;
    low[lane] = static_cast<uint32_t>(product);
    high[lane] = static_cast<uint32_t>(product >> 32);
  }
  return low;
#endif
}

// `groups` groups of words, the first of which is number `first`; each word is and-ed with `mask`.
static inline void random_words(const RandomStream& stream, uint32_t first, int groups,
                                uint32_t mask, uint32_t* words) {
  constexpr int VECTORS = 16 / LANES;
  U lane;
  std::memcpy(&lane, LANE_NUMBERS, sizeof lane);
  for (int g = 0; g < groups; ++g)
    for (int v = 0; v < VECTORS; ++v) {
      U c0 = lane + ((first + static_cast<uint32_t>(g)) * 16u + static_cast<uint32_t>(v * LANES));
      U c1 = U{} + stream.part, c2 = U{} + stream.item, c3 = U{} + stream.use;
      uint32_t k0 = static_cast<uint32_t>(stream.key), k1 = static_cast<uint32_t>(stream.key >> 32);
      for (int i = 0; i < 10; ++i) {
        U high0{}, high1{};
        const U low0 = multiply(c0, 0xD2511F53u, high0), low1 = multiply(c2, 0xCD9E8D57u, high1);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
      }
      uint32_t* to = words + g * GROUP + v * LANES;
      const U found[4] = {c0 & mask, c1 & mask, c2 & mask, c3 & mask};
      for (int j = 0; j < 4; ++j) std::memcpy(to + 16 * j, &found[j], sizeof(U));
    }
}

}  // namespace
}  // namespace benchbench::BB_ISA
