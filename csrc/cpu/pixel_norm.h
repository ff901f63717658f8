// Batch norm of pixels (channels last), with an optional residual and ReLU: the four passes between
// which the caller reduces over chunks of rows. Included once per instruction set. See batch_norm.h
// for what the passes compute, their bytes and their numerics.
//
// Both phases read memory in its order. Moments and sums take SUMMED rows at a time, and down them one
// vector of channels after another, so that a sum stays in a register for SUMMED terms and then goes to
// double: 8 additions in float whatever the number of pixels, and the totals, one or two KiB a channel
// group, in L1. Apply and gradient walk stretches of rows, the last one first, with their coefficients in
// L1: what the first phase read last is still in the last-level cache. Within a stretch rows come
// forwards: backwards, the processor fetches lines that nobody wants (2 to 3 times slower). All ask for
// the lines that they reach soon, across the ends of pages and stretches, where the processor's own
// prefetching begins anew. The pivot of the moments is the mean of the call's first rows.
//
// Bytes: 3n forward and 5n backward where the tensor is beyond the last-level cache, 2n and 3n within.
#pragma once

#include "cpu/batch_norm.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t HEAD = 16;          // rows whose mean is the pivot
constexpr int SUMMED = 8;             // rows of a sum in registers
constexpr int64_t COLUMNS = 256;      // channels whose sums are kept at a time
constexpr int64_t STRETCH = 1 << 20;  // bytes of rows that are walked forwards
constexpr int64_t LEAD = 1 << 12;     // bytes from a load to the line that is asked for

// Adds the lanes of v to as many doubles.
static inline void add_lanes(double* to, F v) {
  D sums[2];
  std::memcpy(sums, to, sizeof sums);
  sums[0] += low_half(v);
  sums[1] += high_half(v);
  std::memcpy(to, sums, sizeof sums);
}
static inline void add_lanes(double* to, double v) { *to += v; }

template <int N>
struct Count {
  static constexpr int value = N;
};

// Two sums for each of up to COLUMNS channels.
template <class T>
struct ColumnSums {
  using V = typename Element<T>::V;
  alignas(64) double total[2][COLUMNS] = {};

  // term(row, channel, tag, first, second) adds the terms of one vector of one row.
  template <class Term>
  inline void add(int64_t first, int64_t last, int64_t channels, Term term) {
    int64_t row = first;
    const auto group = [&](auto rows) {
      for_vectors<T>(channels, [&](int64_t c, auto tag) {
        V one = V{}, two = V{};
        for (int k = 0; k < decltype(rows)::value; ++k) term(row + k, c, tag, one, two);
        add_lanes(total[0] + c, one);
        add_lanes(total[1] + c, two);
      });
    };
    for (; row + SUMMED <= last; row += SUMMED) group(Count<SUMMED>{});
    for (; row < last; ++row) group(Count<1>{});
  }
};

template <class T>
static void pixel_moments(const T* x, int64_t channels, int64_t first, int64_t last, int64_t c0,
                          int64_t c1, double* mean, double* squares) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  const double n = static_cast<double>(last - first);
  const int64_t head = last - first < HEAD ? last - first : HEAD;
  for (; c0 < c1; c0 += COLUMNS) {
    const int64_t wide = c1 - c0 < COLUMNS ? c1 - c0 : COLUMNS;
    const T* from = x + c0;
    alignas(64) R pivot[COLUMNS];
    for_vectors<T>(wide, [&](int64_t c, auto tag) {
      V sum = V{};
      for (int64_t row = first; row < first + head; ++row)
        sum += load(from + row * channels + c, tag);
      store(pivot + c, sum * splat<V>(1.0 / static_cast<double>(head)), tag);
    });
    ColumnSums<T> sums;
    sums.add(first, last, wide, [&](int64_t row, int64_t c, auto tag, V& one, V& two) {
      const T* p = from + row * channels + c;
      fetch(p + SUMMED * channels);
      const V d = load(p, tag) - load(pivot + c, tag);
      one += d;
      two += d * d;
    });
    for (int64_t c = 0; c < wide; ++c) {
      const double rest = sums.total[0][c] / n;
      mean[c0 + c] = pivot[c] + rest;
      squares[c0 + c] = sums.total[1][c] - sums.total[0][c] * rest;
    }
  }
}

// Calls body(row, ahead) for rows [first, last) of n elements, stretch by stretch from the end; `ahead`
// elements further is what will be needed soon.
template <class T, class Body>
static inline void stretches_of_rows(int64_t first, int64_t last, int64_t n, Body body) {
  const int64_t bytes = n * int64_t(sizeof(T));
  const int64_t rows = bytes < STRETCH ? STRETCH / bytes : 1;
  const int64_t near = bytes < LEAD ? LEAD / bytes : 1;
  for (int64_t end = last; end > first; end -= rows) {
    const int64_t begin = end - rows > first ? end - rows : first;
    for (int64_t row = begin; row < end; ++row)
      body(row, (row + near < end ? near : near - 2 * rows) * n);
  }
}

template <class T, bool STREAM, bool RESIDUAL, bool RELU>
static void pixel_apply(const BatchNorm& k, const typename Element<T>::Sum* coefficients,
                        int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  const int64_t n = k.channels;
  const auto *m = coefficients, *a = coefficients + n, *b = coefficients + 2 * n;
  const V most = splat<V>(k.most);
  stretches_of_rows<T>(first, last, n, [&](int64_t row, int64_t ahead) {
    const T *x = static_cast<const T*>(k.x) + row * n,
            *r = RESIDUAL ? static_cast<const T*>(k.residual) + row * n : nullptr;
    T* y = static_cast<T*>(k.y) + row * n;
    for_vectors<T>(n, [=](int64_t i, auto tag) {
      fetch(x + i + ahead);
      if constexpr (RESIDUAL) fetch(r + i + ahead);
      V v = affine(load(x + i, tag), load(m + i, tag), load(a + i, tag), load(b + i, tag));
      if constexpr (RESIDUAL) v += load(r + i, tag);
      if constexpr (RELU) v = relu_cut(v, most);
      put<STREAM>(y + i, v, tag);
    });
  });
}

template <class T, Mask MASK>
static void pixel_sums(const BatchNormBackward& k, const typename Element<T>::Sum* coefficients,
                       int64_t first, int64_t last, int64_t c0, int64_t c1, double* sum,
                       double* product) {
  using V = typename Element<T>::V;
  const int64_t n = k.channels;
  const V most = splat<V>(k.most);
  for (; c0 < c1; c0 += COLUMNS) {
    const int64_t wide = c1 - c0 < COLUMNS ? c1 - c0 : COLUMNS;
    const T *dy = static_cast<const T*>(k.dy) + c0, *x = static_cast<const T*>(k.x) + c0,
            *y = MASK == Mask::from_y ? static_cast<const T*>(k.y) + c0 : nullptr;
    const auto *m = coefficients + c0, *a = m + n, *b = a + n;
    ColumnSums<T> sums;
    sums.add(first, last, wide, [&](int64_t row, int64_t c, auto tag, V& one, V& two) {
      const int64_t at = row * n + c, next = at + SUMMED * n;
      fetch(x + next);
      fetch(dy + next);
      if constexpr (MASK == Mask::from_y) fetch(y + next);
      const V value = load(x + at, tag), middle = load(m + c, tag);
      V before = V{};
      if constexpr (MASK == Mask::from_x)
        before = affine(value, middle, load(a + c, tag), load(b + c, tag));
      const V g = passed<MASK>(dy, y, before, most, at, tag);
      one += g;
      two += g * (value - middle);
    });
    for (int64_t c = 0; c < wide; ++c) {
      sum[c0 + c] = sums.total[0][c];
      product[c0 + c] = sums.total[1][c];
    }
  }
}

template <class T, bool STREAM, Mask MASK>
static void pixel_gradient(const BatchNormBackward& k, const typename Element<T>::Sum* forward,
                           const typename Element<T>::Sum* gradient, int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  const int64_t n = k.channels;
  const auto *m = forward, *scale = forward + n, *offset = forward + 2 * n;
  const auto *a = gradient, *b = gradient + n, *c = gradient + 2 * n;
  const V most = splat<V>(k.most);
  stretches_of_rows<T>(first, last, n, [&](int64_t row, int64_t ahead) {
    const T *dy = static_cast<const T*>(k.dy) + row * n, *x = static_cast<const T*>(k.x) + row * n,
            *y = MASK == Mask::from_y ? static_cast<const T*>(k.y) + row * n : nullptr;
    T *dx = static_cast<T*>(k.dx) + row * n,
      *dr = k.dresidual ? static_cast<T*>(k.dresidual) + row * n : nullptr;
    for_vectors<T>(n, [=](int64_t i, auto tag) {
      fetch(x + i + ahead);
      fetch(dy + i + ahead);
      if constexpr (MASK == Mask::from_y) fetch(y + i + ahead);
      const V value = load(x + i, tag), middle = load(m + i, tag);
      V before = V{};
      if constexpr (MASK == Mask::from_x)
        before = affine(value, middle, load(scale + i, tag), load(offset + i, tag));
      const V g = passed<MASK>(dy, y, before, most, i, tag);
      const V rest = load(b + i, tag) * (value - middle) + load(c + i, tag);
      put<STREAM>(dx + i, load(a + i, tag) * g + rest, tag);
      if (dr) put<STREAM>(dr + i, g, tag);
    });
  });
}

static void pixel_moments_entry(Type type, const void* x, int64_t channels, int64_t first,
                                int64_t last, int64_t c0, int64_t c1, double* mean,
                                double* squares) {
  for_type(type, [&](auto element) {
    pixel_moments(static_cast<const decltype(element)*>(x), channels, first, last, c0, c1, mean,
                  squares);
  });
}

static void pixel_apply_entry(Type type, const BatchNorm& k, const void* coefficients,
                              int64_t first, int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    for_store<T>(k.stream && can_stream(k.y, k.channels * int64_t(sizeof(T))), [&](auto past_caches) {
      constexpr bool STREAM = decltype(past_caches)::value;
      const auto run =
          k.residual
              ? (k.relu ? pixel_apply<T, STREAM, true, true> : pixel_apply<T, STREAM, true, false>)
              : (k.relu ? pixel_apply<T, STREAM, false, true> : pixel_apply<T, STREAM, false, false>);
      run(k, static_cast<const typename Element<T>::Sum*>(coefficients), first, last);
    });
  });
}

static void pixel_sums_entry(Type type, const BatchNormBackward& k, const void* coefficients,
                             int64_t first, int64_t last, int64_t c0, int64_t c1, double* sum,
                             double* product) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    const Mask mask = mask_of(k);
    const auto run = mask == Mask::none     ? pixel_sums<T, Mask::none>
                     : mask == Mask::from_x ? pixel_sums<T, Mask::from_x>
                                            : pixel_sums<T, Mask::from_y>;
    run(k, static_cast<const typename Element<T>::Sum*>(coefficients), first, last, c0, c1, sum,
        product);
  });
}

static void pixel_gradient_entry(Type type, const BatchNormBackward& k, const void* coefficients,
                                 const void* gradient, int64_t first, int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    using R = typename Element<T>::Sum;
    const Mask mask = mask_of(k);
    const int64_t bytes = k.channels * int64_t(sizeof(T));
    const bool both = can_stream(k.dx, bytes) && can_stream(k.dresidual, bytes);
    for_store<T>(k.stream && both, [&](auto past_caches) {
      constexpr bool STREAM = decltype(past_caches)::value;
      const auto run = mask == Mask::none     ? pixel_gradient<T, STREAM, Mask::none>
                       : mask == Mask::from_x ? pixel_gradient<T, STREAM, Mask::from_x>
                                              : pixel_gradient<T, STREAM, Mask::from_y>;
      run(k, static_cast<const R*>(coefficients), static_cast<const R*>(gradient), first, last);
    });
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
