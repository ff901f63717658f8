// Two vectors of 16-bit elements at a time. Included once per instruction set.
//
// One load brings 2 LANES elements. bfloat16 is the upper half of a float, so the elements at even
// places become floats by a shift and those at odd places by a mask, and the results are put together
// by a shift and a mask again: no lane moves, where widening and narrowing move all of them. (The
// processor's own conversion to bfloat16 would flush subnormals.) float16 has instructions that widen
// and narrow, so there the two vectors stand one after the other.
//
// Whatever stands beside such a pair must be in the same order: load_as() brings floats into it,
// store_as() out of it.
#pragma once

#include "cpu/vectors.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// A tag beside Whole and Part.
struct Both {};

template <class T>
struct Pair {
  F first, second;
};

template <class T>
constexpr bool PAIRED = sizeof(T) == 2;

static inline Pair<bf16> load(const bf16* p, Both) {
  U u;
  std::memcpy(&u, p, sizeof u);
  return {bits<F>(u << 16), bits<F>(u & 0xffff0000u)};
}
static inline Pair<f16> load(const f16* p, Both) {
  return {Element<f16>::load(p), Element<f16>::load(p + LANES)};
}

// The rounded value in the upper half, as from_float() rounds. A nan needs no care, and its test would
// be the longest step of the way (14 cycles on Zen 5): one that came out of bfloat16 has zeros below,
// so that nothing is carried; load_as() sees to those that did not.
static inline U upper_half(F v) {
  const U u = bits<U>(v);
  return u + (0x7fffu + ((u >> 16) & 1u));
}

template <bool STREAM>
static inline void put(bf16* p, Pair<bf16> v, Both) {
  const U both = (upper_half(v.second) & 0xffff0000u) | (upper_half(v.first) >> 16);
  if constexpr (STREAM)
    stream(reinterpret_cast<float*>(p), bits<F>(both));
  else
    std::memcpy(p, &both, sizeof both);
}
template <bool STREAM>
static inline void put(f16* p, Pair<f16> v, Both) {
  put<STREAM>(p, v.first);
  put<STREAM>(p + LANES, v.second);
}

// The elements at even and at odd places of two vectors, and the way back.
#if BB_LANES == 16
#define BB_EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define BB_ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define BB_FRONT 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define BB_BACK 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif BB_LANES == 8
#define BB_EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define BB_ODDS 1, 3, 5, 7, 9, 11, 13, 15
#define BB_FRONT 0, 8, 1, 9, 2, 10, 3, 11
#define BB_BACK 4, 12, 5, 13, 6, 14, 7, 15
#else
#define BB_EVENS 0, 2, 4, 6
#define BB_ODDS 1, 3, 5, 7
#define BB_FRONT 0, 4, 1, 5
#define BB_BACK 2, 6, 3, 7
#endif
static inline F evens(F a, F b) { return __builtin_shufflevector(a, b, BB_EVENS); }
static inline F odds(F a, F b) { return __builtin_shufflevector(a, b, BB_ODDS); }
static inline F front(F even, F odd) { return __builtin_shufflevector(even, odd, BB_FRONT); }
static inline F back(F even, F odd) { return __builtin_shufflevector(even, odd, BB_BACK); }
#undef BB_EVENS
#undef BB_ODDS
#undef BB_FRONT
#undef BB_BACK

static inline F plain_nan(F v) { return v == v ? v : bits<F>(U{} + 0x7fc00000u); }

// Floats in the order of a pair of T, each nan with zeros in its lower half.
template <class T, class R, class Tag>
static inline auto load_as(const R* p, Tag tag) {
  if constexpr (!std::is_same_v<Tag, Both>) {
    return load(p, tag);
  } else {
    const F low = load(p, Whole{}), high = load(p + LANES, Whole{});
    if constexpr (std::is_same_v<T, bf16>)
      return Pair<T>{plain_nan(evens(low, high)), plain_nan(odds(low, high))};
    else
      return Pair<T>{low, high};
  }
}
template <class T, class R, class V, class Tag>
static inline void store_as(R* p, V v, Tag tag) {
  if constexpr (!std::is_same_v<Tag, Both>) {
    store(p, v, tag);
  } else {
    constexpr bool mixed = std::is_same_v<T, bf16>;
    store(p, mixed ? front(v.first, v.second) : v.first, Whole{});
    store(p + LANES, mixed ? back(v.first, v.second) : v.second, Whole{});
  }
}

// The same where floats are kept in the pair's own order: what one call writes another one reads.
template <class T, class R, class Tag>
static inline auto load_plain(const R* p, Tag tag) {
  if constexpr (std::is_same_v<Tag, Both>)
    return Pair<T>{load(p, Whole{}), load(p + LANES, Whole{})};
  else
    return load(p, tag);
}
template <class R, class V, class Tag>
static inline void store_plain(R* p, V v, Tag tag) {
  if constexpr (std::is_same_v<Tag, Both>) {
    store(p, v.first, Whole{});
    store(p + LANES, v.second, Whole{});
  } else {
    store(p, v, tag);
  }
}

// The lanes before the end; the others become `rest`.
template <class V, class Tag>
static inline V keep(V v, Tag tag, [[maybe_unused]] float rest) {
  if constexpr (std::is_same_v<Tag, Part>)
    return keep(v, tag.count, rest);
  else
    return v;
}
template <class T>
static inline Pair<T> keep(Pair<T> v, Both) {
  return v;
}

// f of a vector, or of both of a pair.
template <class Function, class First, class... Rest>
static inline auto map(Function f, First&& first, Rest&&... rest) {
  if constexpr (requires { first.second; }) {
    auto result = first;
    result.first = f(first.first, rest.first...);
    result.second = f(first.second, rest.second...);
    return result;
  } else {
    return f(first, rest...);
  }
}

// body(index, tag) over [0, n): by pairs where T has them, then vectors, the last one partial.
template <class T, class Body>
static inline void for_pairs(int64_t n, Body body) {
  int64_t i = 0;
  if constexpr (PAIRED<T>)
    for (; i + 2 * LANES <= n; i += 2 * LANES) body(i, Both{});
  constexpr int64_t width = Element<T>::WIDTH;
  for (; i + width <= n; i += width) body(i, Whole{});
  if (i < n) body(i, Part{n - i});
}

}  // namespace
}  // namespace benchbench::BB_ISA
