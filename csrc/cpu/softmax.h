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
// nan or +inf, or of -inf alone, gives nan, as in torch. Elements of 16 bits come in pairs of vectors
// and, but for the logarithm, which would show it, through the shorter exponential.
#pragma once

#include "cpu/elementwise.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t ROW_TILE = 4096;  // values: 16 KiB of float, a third to a half of L1

// Folds term(index, tag) of a row into four accumulators that start at `start`, and these into one.
template <class T, class Term, class Fold>
static inline typename Element<T>::V fold_row(int64_t n, typename Element<T>::V start, Term term,
                                              Fold f) {
  constexpr int width = Element<T>::WIDTH;
  typename Element<T>::V a[4] = {start, start, start, start};
  int64_t i = 0;
  if constexpr (std::is_same_v<T, bf16>) {  // float16 gains nothing: its pairs are two loads anyway
    const auto both = [&](int64_t at, int k) {
      const auto terms = term(at, Both{});
      a[k] = f(terms.first, a[k]);
      a[k + 1] = f(terms.second, a[k + 1]);
    };
    for (; i + 4 * width <= n; i += 4 * width) {
      both(i, 0);
      both(i + 2 * width, 2);
    }
    if (i + 2 * width <= n) {
      both(i, 0);
      i += 2 * width;
    }
  } else {
    for (; i + 4 * width <= n; i += 4 * width)
      for (int k = 0; k < 4; ++k) a[k] = f(term(i + k * width, Whole{}), a[k]);
  }
  for (; i + width <= n; i += width) a[0] = f(term(i, Whole{}), a[0]);
  if (i < n) a[1] = f(term(i, Part{n - i}), a[1]);
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

template <bool FAR, class T>
static inline typename Element<T>::Sum row_maximum(const T* x, int64_t n) {
  using V = typename Element<T>::V;
  const auto term = [=](int64_t i, auto tag) { return keep(take<FAR>(x + i, tag), tag, -INFINITY); };
  return max_lanes(fold_row<T>(n, splat<V>(-INFINITY), term, larger<V>));
}

// Sum of term(index, tag), whose lanes past the end must be 0.
template <class T, class Term>
static inline typename Element<T>::Sum row_total(int64_t n, Term term) {
  using V = typename Element<T>::V;
  constexpr int64_t stretch = 2048;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += stretch) {
    const int64_t length = n - begin < stretch ? n - begin : stretch;
    const auto shifted = [=](int64_t i, auto tag) { return term(begin + i, tag); };
    total += sum_lanes(fold_row<T>(length, V{}, shifted, plus<V>));
  }
  return static_cast<typename Element<T>::Sum>(total);
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
    const V shift = V{} + row_maximum<STREAM>(x, n);
    const auto term = [=](int64_t i, auto tag) {
      return map([=](auto v) { return Math<T>::power_of_e(v - shift); }, load(x + i, tag));
    };
    const R sum = row_total<T>(n, [=](int64_t i, auto tag) {
      const auto e = keep(term(i, tag), tag);
      if (kept) store_plain(kept + i, e, tag);
      return e;
    });
    const V scale = V{} + R(1) / sum;
    const auto scaled = [=](auto v) { return v * scale; };
    if (kept)
      for_pairs<T>(n, [=](int64_t i, auto tag) {
        put<STREAM>(y + i, map(scaled, load_plain<T>(kept + i, tag)), tag);
      });
    else
      for_pairs<T>(n, [=](int64_t i, auto tag) {
        put<STREAM>(y + i, map(scaled, term(i, tag)), tag);
      });
  }
}

// dx = y (dy - <dy, y>)
template <bool STREAM, class T>
static void softmax_backward(const T* dy, const T* y, T* dx, int64_t rows, int64_t n) {
  using V = typename Element<T>::V;
  for (int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const V shift = V{} + row_total<T>(n, [=](int64_t i, auto tag) {
                      return map([](auto d, auto p) { return d * p; }, take<STREAM>(dy + i, tag),
                                 take<STREAM>(y + i, tag));
                    });
    for_pairs<T>(n, [=](int64_t i, auto tag) {
      const auto gradient = [=](auto d, auto p) { return p * (d - shift); };
      put<STREAM>(dx + i, map(gradient, load(dy + i, tag), load(y + i, tag)), tag);
    });
  }
}

// (x - largest) - ln(sum): two steps, since the one number largest + ln(sum) would round away the
// logarithm where the largest is large.
template <bool STREAM, class T>
static void log_softmax(const T* x, T* y, int64_t rows, int64_t n) {
  using V = typename Element<T>::V;
  for (int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const V shift = V{} + row_maximum<STREAM>(x, n);
    // In double: the C library's own function, where std::log(float) would be a weak symbol.
    const double sum = row_total<T>(n, [=](int64_t i, auto tag) {
      const auto term = [=](auto v) { return exponential(v - shift); };
      return keep(map(term, load(x + i, tag)), tag);
    });
    const V logarithm = splat<V>(std::log(sum));
    for_pairs<T>(n, [=](int64_t i, auto tag) {
      const auto value = [=](auto v) { return (v - shift) - logarithm; };
      put<STREAM>(y + i, map(value, load(x + i, tag)), tag);
    });
  }
}

// dx = dy - e^y sum(dy)
template <bool STREAM, class T>
static void log_softmax_backward(const T* dy, const T* y, T* dx, int64_t rows, int64_t n) {
  using V = typename Element<T>::V;
  for (int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const auto term = [=](int64_t i, auto tag) { return take<STREAM>(dy + i, tag); };
    const V total = V{} + row_total<T>(n, term);
    for_pairs<T>(n, [=](int64_t i, auto tag) {
      const auto gradient = [=](auto d, auto v) { return d - exponential(v) * total; };
      put<STREAM>(dx + i, map(gradient, load(dy + i, tag), take<STREAM>(y + i, tag)), tag);
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
