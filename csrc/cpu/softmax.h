// Softmax and log-softmax of rows. Included once per instruction set.
//
// Phases, forward: largest value; exponentials of the differences and their sum; scale and store. A
// row is read from memory once and found in the cache by the second phase. The exponentials wait in a
// tile of the stack; those of a row that is longer than the tile wait in the output if it is as wide
// as they are, or are computed again. 2n elements of traffic; backward (sum of products, then
// y (dy - sum)) 3n.
//
// Numerics: float (double for float64); sums in four vectors side by side over stretches of a row, and
// in double over stretches, so that they are as exact for long rows as for short ones. A row with a
// nan or +inf, or of -inf alone, gives nan, as in torch.
#pragma once

#include "cpu/elementwise.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t ROW_TILE = 4096;  // values: 16 KiB of float, a third to a half of L1

// Folds term(i, count), i = 0, WIDTH, ... < n, into four accumulators that start at `start`, and
// these into one. count < WIDTH in the last call only, if at all.
template <class T, class Term, class Fold>
static inline typename Element<T>::V fold_row(int64_t n, typename Element<T>::V start, Term term,
                                              Fold f) {
  constexpr int width = Element<T>::WIDTH;
  typename Element<T>::V a[4] = {start, start, start, start};
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width)
    for (int k = 0; k < 4; ++k) a[k] = f(term(i + k * width, width), a[k]);
  for (; i + width <= n; i += width) a[0] = f(term(i, width), a[0]);
  if (i < n) a[1] = f(term(i, n - i), a[1]);
  return f(f(a[0], a[1]), f(a[2], a[3]));
}

template <class V>
static inline V plus(V a, V b) {
  return a + b;
}

template <class V>
static inline V larger(V a, V b) {
  return maximum(a, b);
}

template <class T>
static inline typename Element<T>::Sum row_maximum(const T* x, int64_t n) {
  using V = typename Element<T>::V;
  return max_lanes(fold_row<T>(
      n, splat<V>(-INFINITY),
      [=](int64_t i, int64_t count) { return keep(load(x + i, count), count, -INFINITY); },
      larger<V>));
}

// Sum of term(i, count), whose lanes past `count` must be 0.
template <class T, class Term>
static inline typename Element<T>::Sum row_total(int64_t n, Term term) {
  using V = typename Element<T>::V;
  constexpr int64_t stretch = 2048;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += stretch)
    total += sum_lanes(fold_row<T>(
        n - begin < stretch ? n - begin : stretch, V{},
        [=](int64_t i, int64_t count) { return term(begin + i, count); }, plus<V>));
  return static_cast<typename Element<T>::Sum>(total);
}

// body(i, count, whole) for each vector of a row; `whole` as a type.
template <class T, class Body>
static inline void each_vector(int64_t n, Body body) {
  constexpr int width = Element<T>::WIDTH;
  int64_t i = 0;
  for (; i + width <= n; i += width) body(i, int64_t{width}, std::true_type{});
  if (i < n) body(i, n - i, std::false_type{});
}

template <bool STREAM, class T, class Whole>
static inline void put_some(T* p, typename Element<T>::V v, int64_t count, Whole) {
  if constexpr (Whole::value)
    put<STREAM>(p, v);
  else
    Element<T>::store(p, v, count);
}

template <bool STREAM, class T>
static void softmax(const T* x, T* y, int64_t rows, int64_t n) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  alignas(64) R tile[ROW_TILE];
  for (int64_t row = 0; row < rows; ++row, x += n, y += n) {
    R* kept = n <= ROW_TILE ? tile : nullptr;
    if constexpr (sizeof(T) == sizeof(R))
      if (!kept) kept = reinterpret_cast<R*>(y);
    const V shift = V{} + row_maximum(x, n);
    const auto term = [=](int64_t i, int64_t count) { return exponential(load(x + i, count) - shift); };
    const R sum = row_total<T>(n, [=](int64_t i, int64_t count) {
      const V e = keep(term(i, count), count);
      if (kept) store(kept + i, e, count);
      return e;
    });
    const V scale = V{} + R(1) / sum;
    if (kept)
      each_vector<T>(n, [=](int64_t i, int64_t count, auto whole) {
        put_some<STREAM>(y + i, load(kept + i, count) * scale, count, whole);
      });
    else
      each_vector<T>(n, [=](int64_t i, int64_t count, auto whole) {
        put_some<STREAM>(y + i, term(i, count) * scale, count, whole);
      });
  }
}

// dx = y (dy - <dy, y>)
template <bool STREAM, class T>
static void softmax_backward(const T* dy, const T* y, T* dx, int64_t rows, int64_t n) {
  using V = typename Element<T>::V;
  for (int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const V shift = V{} + row_total<T>(n, [=](int64_t i, int64_t count) {
                      return load(dy + i, count) * load(y + i, count);
                    });
    each_vector<T>(n, [=](int64_t i, int64_t count, auto whole) {
      put_some<STREAM>(dx + i, load(y + i, count) * (load(dy + i, count) - shift), count, whole);
    });
  }
}

// (x - largest) - ln(sum): two steps, since the one number largest + ln(sum) would round away the
// logarithm where the largest is large.
template <bool STREAM, class T>
static void log_softmax(const T* x, T* y, int64_t rows, int64_t n) {
  using V = typename Element<T>::V;
  for (int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const V shift = V{} + row_maximum(x, n);
    // In double: the C library's own function, where std::log(float) would be a weak symbol.
    const double sum = row_total<T>(n, [=](int64_t i, int64_t count) {
      return keep(exponential(load(x + i, count) - shift), count);
    });
    const V logarithm = splat<V>(std::log(sum));
    each_vector<T>(n, [=](int64_t i, int64_t count, auto whole) {
      put_some<STREAM>(y + i, (load(x + i, count) - shift) - logarithm, count, whole);
    });
  }
}

// dx = dy - e^y sum(dy)
template <bool STREAM, class T>
static void log_softmax_backward(const T* dy, const T* y, T* dx, int64_t rows, int64_t n) {
  using V = typename Element<T>::V;
  for (int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const V total = V{} + row_total<T>(n, [=](int64_t i, int64_t count) { return load(dy + i, count); });
    each_vector<T>(n, [=](int64_t i, int64_t count, auto whole) {
      put_some<STREAM>(dx + i, load(dy + i, count) - exponential(load(y + i, count)) * total, count,
                       whole);
    });
  }
}

static void softmax_entry(Type type, bool logarithm, const void* x, void* y, int64_t rows, int64_t n,
                          bool stream) {
  for_type(type, [=](auto element) {
    using T = decltype(element);
    for_store<T>(stream && can_stream(y, n * int64_t(sizeof(T))), [=](auto past_caches) {
      constexpr bool STREAM = decltype(past_caches)::value;
      const auto run = logarithm ? log_softmax<STREAM, T> : softmax<STREAM, T>;
      run((const T*)x, (T*)y, rows, n);
    });
  });
}

static void softmax_backward_entry(Type type, bool logarithm, const void* dy, const void* y, void* dx,
                                   int64_t rows, int64_t n, bool stream) {
  for_type(type, [=](auto element) {
    using T = decltype(element);
    for_store<T>(stream && can_stream(dx, n * int64_t(sizeof(T))), [=](auto past_caches) {
      constexpr bool STREAM = decltype(past_caches)::value;
      const auto run = logarithm ? log_softmax_backward<STREAM, T> : softmax_backward<STREAM, T>;
      run((const T*)dy, (const T*)y, (T*)dx, rows, n);
    });
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
