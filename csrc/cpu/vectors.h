// Loops over the vectors of a range whose last one is partial, and sums that stay exact enough.
// Included once per instruction set.
//
// A body is a generic function of an index and a tag: Whole for a full vector, Part for the last.
// It is compiled once for each, so that the main loop has no test for the tail.
#pragma once

#include "cpu/simd.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

struct Whole {};
struct Part {
  int64_t count;
};

template <class T>
static inline typename Element<T>::V load(const T* p, Whole) {
  return Element<T>::load(p);
}
template <class T>
static inline typename Element<T>::V load(const T* p, Part part) {
  return Element<T>::load(p, part.count);
}
template <class T>
static inline void store(T* p, typename Element<T>::V v, Whole) {
  Element<T>::store(p, v);
}
template <class T>
static inline void store(T* p, typename Element<T>::V v, Part part) {
  Element<T>::store(p, v, part.count);
}

// Zeroes the lanes past the end, where a loaded zero has become something else.
template <class V>
static inline V keep(V v, Whole) {
  return v;
}
template <class V>
static inline V keep(V v, Part part) {
  return keep(v, part.count);
}

// Asks for the line at p, which a load wants soon. Any address will do.
static inline void fetch(const void* p) { __builtin_prefetch(p); }

// Bytes from a load to the line that a loop over memory asks for. Part of the instruction, so that it
// takes no register.
constexpr int64_t LEAD = 1 << 12;

template <class T>
static inline void fetch_on(const T* p) {
  fetch(reinterpret_cast<const char*>(p) + LEAD);
}

// A load; where data come from memory (FAR), one that asks for the line LEAD bytes on, too. The
// processor's own prefetching does not keep up beside streaming stores: on two cores of a Xeon without
// it silu takes 1.7 times the time of a copy in float32 and 4.2 times in bfloat16, with it 1.2 and 1.7.
template <bool FAR, class T, class Tag>
static inline auto take(const T* p, Tag tag) {
  if constexpr (FAR) fetch_on(p);
  return load(p, tag);
}

// ---- stores past the caches ----
// A plain store reads the line that it overwrites, and puts another one out of the cache.

template <bool STREAM, class T>
static inline void put(T* p, typename Element<T>::V v) {
  if constexpr (STREAM)
    Element<T>::stream(p, v);
  else
    Element<T>::store(p, v);
}

// The last vector of a range is stored in part, and plainly.
template <bool STREAM, class T, class Tag>
static inline void put(T* p, typename Element<T>::V v, Tag tag) {
  if constexpr (std::is_same_v<Tag, Whole>)
    put<STREAM>(p, v);
  else
    store(p, v, tag);
}

// Whether streaming stores may be used for consecutive rows of `bytes` from p on.
static inline bool can_stream(const void* p, int64_t bytes = 64) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0 && bytes % 64 == 0;
}

// body(true or false as a type); after the streams of a body its stores are put in order.
template <class T, class Body>
static inline void for_store(bool stream, Body body) {
  if constexpr (sizeof(T) <= 4) {
    if (stream) {
      body(std::true_type{});
      return end_of_streaming();
    }
  }
  body(std::false_type{});
}

// What a value is after it was stored as T.
template <class T>
static inline typename Element<T>::V rounded(typename Element<T>::V v) {
  if constexpr (sizeof(T) == 2)
    return to_float(T{}, from_float(T{}, v));
  else
    return v;
}

template <class T, class Body>
static inline void for_vectors(int64_t n, Body body) {
  constexpr int64_t width = Element<T>::WIDTH;
  int64_t i = 0;
  for (; i + width <= n; i += width) body(i, Whole{});
  if (i < n) body(i, Part{n - i});
}

// Elements that are summed in float before double takes over: 32 additions to each lane, so that
// the rounding error is that of a few additions whatever the length of the range and the instruction
// set.
constexpr int64_t BLOCK = 32 * 4 * LANES;

// N sums over a range at once. They run in vectors, four sets side by side, which hides the latency
// of the add; drain() adds them up in double.
template <int N, class T>
struct Sums {
  using V = typename Element<T>::V;
  V lanes[4][N] = {};

  // body(index, tag, sums) adds the terms of one vector to sums[0..N-1].
  template <class Body>
  inline void add(int64_t begin, int64_t end, Body body) {
    constexpr int64_t width = Element<T>::WIDTH;
    int64_t i = begin;
    for (; i + 4 * width <= end; i += 4 * width)
      for (int k = 0; k < 4; ++k) body(i + k * width, Whole{}, lanes[k]);
    for (; i + width <= end; i += width) body(i, Whole{}, lanes[0]);
    if (i < end) body(i, Part{end - i}, lanes[1]);
  }

  inline void drain(double* total) {
    for (int s = 0; s < N; ++s) {
      total[s] += sum_lanes((lanes[0][s] + lanes[1][s]) + (lanes[2][s] + lanes[3][s]));
      for (int k = 0; k < 4; ++k) lanes[k][s] = V{};
    }
  }
};

// The same over [0, n) of one range.
template <int N, class T, class Body>
static inline void sum_range(int64_t n, double* total, Body body) {
  Sums<N, T> sums;
  for (int64_t begin = 0; begin < n; begin += BLOCK) {
    const int64_t end = n - begin < BLOCK ? n : begin + BLOCK;
    sums.add(begin, end, body);
    sums.drain(total);
  }
}

}  // namespace
}  // namespace benchbench::BB_ISA
