// Which elements a ReLU let through, as bits: what forward knows, and backward would have to read the
// whole output for. Included once per instruction set.
//
// Rows (planes, or the channels of a pixel) take passed_bytes() each, one after the other; bit i % 8 of
// byte i / 8 is element i, 1 where the gradient passes. The order is that of memory on every instruction
// set and for every type, and the bits past a row's end are 0.
#pragma once

#include "cpu/kernels.h"
#include "cpu/pairs.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// Masks of the two vectors of a pair.
struct Masks {
  I first, second;
};

// ---- one vector's mask to as many bits, and back ----

#if BB_LANES == 16
static inline uint32_t to_bits(I mask) { return _mm512_movepi32_mask((__m512i)mask); }
static inline I to_mask(uint32_t lanes) { return (I)_mm512_movm_epi32(_cvtu32_mask16(lanes)); }
#else
static inline uint32_t to_bits(I mask) {
#if BB_LANES == 8
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps((__m128)mask));
#else
  uint32_t lanes = 0;
  for (int k = 0; k < LANES; ++k) lanes |= (mask[k] ? 1u : 0u) << k;
  return lanes;
#endif
}
static inline I to_mask(uint32_t lanes) {
  alignas(64) constexpr int32_t LANE_BITS[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  I bit;
  std::memcpy(&bit, LANE_BITS, sizeof bit);
  return ((I{} + static_cast<int32_t>(lanes)) & bit) != 0;
}
#endif

// ---- a pair's masks to twice as many bits, and back ----

template <class T>
static inline uint32_t pair_bits(Masks masks) {
  if constexpr (std::is_same_v<T, f16>) {  // one vector after the other
    return to_bits(masks.first) | to_bits(masks.second) << LANES;
  } else {  // elements at even and at odd places
#if BB_LANES == 16
    const U both = ((U)masks.second & 0xffff0000u) | ((U)masks.first >> 16);
    return _mm512_movepi16_mask((__m512i)both);
#else
    const auto spread = [](uint32_t lanes) {
      lanes = (lanes | lanes << 4) & 0x0f0fu;
      lanes = (lanes | lanes << 2) & 0x3333u;
      return (lanes | lanes << 1) & 0x5555u;
    };
    return spread(to_bits(masks.first)) | spread(to_bits(masks.second)) << 1;
#endif
  }
}
template <class T>
static inline Masks pair_masks(uint32_t lanes) {
  if constexpr (std::is_same_v<T, f16>) {
    return {to_mask(lanes & ((1u << LANES) - 1u)), to_mask(lanes >> LANES)};
  } else {
#if BB_LANES == 16
    const U both = (U)_mm512_movm_epi16(lanes);
    return {(I)(both << 16) < 0, (I)both < 0};
#else
    const auto gather = [](uint32_t even) {
      even &= 0x5555u;
      even = (even | even >> 1) & 0x3333u;
      even = (even | even >> 2) & 0x0f0fu;
      return (even | even >> 4) & 0xffu;
    };
    return {to_mask(gather(lanes)), to_mask(gather(lanes >> 1))};
#endif
  }
}

// ---- at place i of a row, a multiple of what the tag stands for ----

static inline void put_bits(uint8_t* row, int64_t i, I mask, Whole) {
  const uint32_t lanes = to_bits(mask);
#if BB_LANES == 4
  row[i / 8] = static_cast<uint8_t>(i % 8 ? row[i / 8] | lanes << 4 : lanes);
#else
  std::memcpy(row + i / 8, &lanes, LANES / 8);  // x86 is little-endian
#endif
}
static inline void put_bits(uint8_t* row, int64_t i, I mask, Part part) {
  mask &= first_lanes(part.count);
#if BB_LANES == 16
  const uint32_t lanes = to_bits(mask);
  row[i / 8] = static_cast<uint8_t>(lanes);
  if (part.count > 8) row[i / 8 + 1] = static_cast<uint8_t>(lanes >> 8);
#else
  put_bits(row, i, mask, Whole{});
#endif
}
template <class T>
static inline void put_pair_bits(uint8_t* row, int64_t i, Masks masks) {
  const uint32_t lanes = pair_bits<T>(masks);
#if BB_LANES == 4
  row[i / 8] = static_cast<uint8_t>(lanes);
#else
  std::memcpy(row + i / 8, &lanes, LANES / 4);
#endif
}
template <class Tag>
static inline void put_bits(uint8_t* row, int64_t i, bool through, Tag) {  // float64
  const int bit = through ? 1 << i % 8 : 0;
  row[i / 8] = static_cast<uint8_t>(i % 8 ? row[i / 8] | bit : bit);
}

template <class T>
static inline auto get_bits(const uint8_t* row, int64_t i, Whole) {
  if constexpr (Element<T>::WIDTH == 1) {
    return (row[i / 8] >> i % 8 & 1) != 0;
  } else {
    uint32_t lanes = 0;
#if BB_LANES == 4
    lanes = row[i / 8] >> i % 8;
#else
    std::memcpy(&lanes, row + i / 8, LANES / 8);
#endif
    return to_mask(lanes);
  }
}
template <class T>
static inline auto get_bits(const uint8_t* row, int64_t i, [[maybe_unused]] Part part) {
#if BB_LANES == 16
  if constexpr (Element<T>::WIDTH > 1) {
    const uint32_t high = part.count > 8 ? row[i / 8 + 1] : 0u;
    return to_mask(row[i / 8] | high << 8);
  }
#endif
  return get_bits<T>(row, i, Whole{});
}
template <class T>
static inline Masks get_bits(const uint8_t* row, int64_t i, Both) {
  uint32_t lanes = 0;
#if BB_LANES == 4
  lanes = row[i / 8];
#else
  std::memcpy(&lanes, row + i / 8, LANES / 4);
#endif
  return pair_masks<T>(lanes);
}

// Whether a gradient passes the ReLU, cut at `most` (a nan where it is not), at the value before it.
static inline I is_through(F before, F most) { return (before > F{}) & ~(before >= most); }
static inline bool is_through(double before, double most) { return before > 0 && !(before >= most); }

// Keeps it of a vector, or of both of a pair.
template <class T, class V, class M, class Tag>
static inline void put_through(uint8_t* row, int64_t i, V before, M most, Tag tag) {
  if constexpr (std::is_same_v<Tag, Both>)
    put_pair_bits<T>(row, i, {is_through(before.first, most), is_through(before.second, most)});
  else
    put_bits(row, i, is_through(before, most), tag);
}

}  // namespace
}  // namespace benchbench::BB_ISA
