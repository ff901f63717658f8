// Operations on rows: layer norm, RMS norm. Included once per instruction set.
//
// A row is read from memory once: the first phase brings it into the cache, and the later ones find
// it there (rows up to about half of L2; longer ones are read again). Sums run in four vectors side
// by side, which hides the latency of the add and halves the rounding error twice; statistics are
// two-pass, mean first and then squares of what is left, so that a large mean costs no precision.
#pragma once

#include "cpu/elementwise.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// Sum over i of term(v_i) for the vectors of a row. `term` of a lane past the end must not count:
// part(i, count) gets the loaded vector's validity from `count`.
template <class T, class Term>
static inline typename Element<T>::Sum row_sum(int64_t n, Term term) {
  using E = Element<T>;
  using V = typename E::V;
  constexpr int width = E::WIDTH;
  V sum[4] = {V{}, V{}, V{}, V{}};
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width)
    for (int k = 0; k < 4; ++k) sum[k] += term(i + k * width, width);
  for (; i < n; i += width) sum[0] += term(i, n - i < width ? n - i : width);
  return sum_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

template <bool RMS, class T>
static void norm(const T* x, const T* residual, const typename Element<T>::Sum* w,
                 const typename Element<T>::Sum* b, double eps, T* y, T* sum,
                 typename Element<T>::Sum* mean, typename Element<T>::Sum* rstd, int64_t rows,
                 int64_t n) {
  using E = Element<T>;
  using V = typename E::V;
  using R = typename E::Sum;
  constexpr int width = E::WIDTH;
  for (int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const T* z = x;
    if (residual) {
      // The sum is rounded to the type before it is normalised, so that what is returned is what
      // was used.
      for (int64_t i = 0; i < n; i += width) {
        const int64_t count = n - i < width ? n - i : width;
        store(sum + i, load(x + i, count) + load(residual + i, count), count);
      }
      z = sum;
      residual += n;
      sum += n;
    }
    R center = 0;
    if constexpr (!RMS) {
      center = row_sum<T>(n, [=](int64_t i, int64_t count) { return load(z + i, count); }) / R(n);
      mean[row] = center;
    }
    const V middle = V{} + center;
    const R squares = row_sum<T>(n, [=](int64_t i, int64_t count) {
      const V d = keep(load(z + i, count) - middle, count);
      return d * d;
    });
    const R inverse = R(1) / std::sqrt(squares / R(n) + R(eps));
    rstd[row] = inverse;
    const V scale = V{} + inverse;
    for (int64_t i = 0; i < n; i += width) {
      const int64_t count = n - i < width ? n - i : width;
      V v = (load(z + i, count) - middle) * scale;
      if (w) v *= load(w + i, count);
      if (b) v += load(b + i, count);
      store(y + i, v, count);
    }
  }
}

// With xhat = (x - mean) rstd and g = dy w: dx = rstd (g - <g>/n - xhat <g, xhat>/n), without the
// middle term for RMS norm; dw = sum of dy xhat, db = sum of dy over the rows of this call.
template <bool RMS, class T>
static void norm_backward(const T* dy, const T* x, const typename Element<T>::Sum* w,
                          const typename Element<T>::Sum* mean,
                          const typename Element<T>::Sum* rstd, const T* dsum, T* dx,
                          typename Element<T>::Sum* dw, typename Element<T>::Sum* db, int64_t rows,
                          int64_t n) {
  using E = Element<T>;
  using V = typename E::V;
  using R = typename E::Sum;
  constexpr int width = E::WIDTH;
  for (int64_t i = 0; dw && i < n; ++i) dw[i] = 0;
  for (int64_t i = 0; db && i < n; ++i) db[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += n, x += n, dx += n) {
    const V middle = V{} + (RMS ? R(0) : mean[row]);
    const V scale = V{} + rstd[row];
    V plain = V{}, crossed = V{};
    for (int64_t i = 0; i < n; i += width) {
      const int64_t count = n - i < width ? n - i : width;
      const V d = load(dy + i, count);
      const V xhat = keep((load(x + i, count) - middle) * scale, count);
      const V g = w ? d * load(w + i, count) : d;
      plain += g;
      crossed += g * xhat;
      if (dw) store(dw + i, load(dw + i, count) + d * xhat, count);
      if (db) store(db + i, load(db + i, count) + d, count);
    }
    const V first = V{} + (RMS ? R(0) : sum_lanes(plain) / R(n));
    const V second = V{} + sum_lanes(crossed) / R(n);
    for (int64_t i = 0; i < n; i += width) {
      const int64_t count = n - i < width ? n - i : width;
      const V xhat = (load(x + i, count) - middle) * scale;
      const V g = w ? load(dy + i, count) * load(w + i, count) : load(dy + i, count);
      V v = scale * (g - first - xhat * second);
      if (dsum) v += load(dsum + i, count);
      store(dx + i, v, count);
    }
    if (dsum) dsum += n;
  }
}

static void norm_entry(Type type, bool rms, const void* x, const void* residual, const void* w,
                       const void* b, double eps, void* y, void* sum, void* mean, void* rstd,
                       int64_t rows, int64_t n) {
  for_type(type, [=](auto element) {
    using T = decltype(element);
    using R = typename Element<T>::Sum;
    const auto run = rms ? norm<true, T> : norm<false, T>;
    run((const T*)x, (const T*)residual, (const R*)w, (const R*)b, eps, (T*)y, (T*)sum, (R*)mean,
        (R*)rstd, rows, n);
  });
}

static void norm_backward_entry(Type type, bool rms, const void* dy, const void* x, const void* w,
                                const void* mean, const void* rstd, const void* dsum, void* dx,
                                void* dw, void* db, int64_t rows, int64_t n) {
  for_type(type, [=](auto element) {
    using T = decltype(element);
    using R = typename Element<T>::Sum;
    const auto run = rms ? norm_backward<true, T> : norm_backward<false, T>;
    run((const T*)dy, (const T*)x, (const R*)w, (const R*)mean, (const R*)rstd, (const T*)dsum,
        (T*)dx, (R*)dw, (R*)db, rows, n);
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
