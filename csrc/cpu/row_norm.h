// Layer norm and RMS norm of rows, with a residual. Included once per instruction set.
//
// Phases, forward: sum of the row's first eighth, whose mean is a pivot; sums of the deviations from it
// and of their squares (with a residual, x + residual is formed, rounded and written here); y. RMS norm
// has no mean and two phases. Backward: sums of g and g xhat, and dw and db on the way; dx. The phase
// that first reads a row finds it in L1 or L2, because the row before has asked for it, in its last phase,
// or for the x of 16-bit rows backward in its first, which is the longer one there: memory is at work in
// all phases. Longer rows than half of L2 are read again.
// Bytes: 2n forward and 3n backward; with a residual 4n, and 4n when the sum has a gradient of its own.
// Outputs beyond the last-level cache are streamed past it; the sum is then kept in a tile too, since
// reading it back would cost what streaming saves.
//
// Numerics: the pivot is the mean of about an eighth of the row or more, so it is at most about sqrt(7)
// deviations from the mean, and subtracting its square from that of the deviations costs at most three
// bits, of sums that are drained into double (vectors.h). The mean that y subtracts is a float,
// `middle`; what rounding it left, `rest`, enters y and xhat as a constant: (x - mean) rstd = (x -
// middle) rstd - rest rstd. So a mean of 1e4 beside a deviation of 1 costs nothing. dw and db are
// summed in row order within a call; whoever splits the rows adds the parts in a fixed order.
#pragma once

#include "cpu/elementwise.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t SUM_TILE = 8192;  // elements: 32 KiB of float; longer sums are stored plainly

// Bytes of a row beside which the next one has room in L2.
constexpr int64_t NEAR_ROW = 1 << 17;

// One row: y = (x - middle) scale + shift, then w and b. Asks for `next` and `also`, of as many elements.
template <bool STREAM, class T>
static inline void scale_row(const T* x, const typename Element<T>::Sum* w,
                             const typename Element<T>::Sum* b, double middle, double scale,
                             double shift, const T* next, const T* also, T* y, int64_t n) {
  using V = typename Element<T>::V;
  const V m = splat<V>(middle), a = splat<V>(scale), c = splat<V>(shift);
  for_vectors<T>(n, [=](int64_t i, auto tag) {
    fetch(next + i);
    fetch(also + i);
    V v = (load(x + i, tag) - m) * a + c;
    if (w) v *= load(w + i, tag);
    if (b) v += load(b + i, tag);
    put<STREAM>(y + i, v, tag);
  });
}

template <bool RMS, bool STREAM, class T>
static void row_norm(const RowNorm& k, int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  alignas(64) T tile[STREAM ? SUM_TILE : 1];
  const int64_t n = k.columns;
  const R *w = static_cast<const R*>(k.w), *b = static_cast<const R*>(k.b);
  const int64_t ahead = n * int64_t(sizeof(T)) <= NEAR_ROW ? n : 0;
  const int64_t eighth = n / 8 / 64 * 64, head = n < 256 ? n : eighth < 256 ? 256 : eighth;
  for (int64_t row = first; row < last; ++row) {
    const T* x = static_cast<const T*>(k.x) + row * n;
    T* y = static_cast<T*>(k.y) + row * n;
    const T *next = x + ahead, *also = next;
    R pivot = 0;
    double sums[2] = {0, 0};
    const auto measure = [&](auto look, auto take) {
      if constexpr (!RMS) {
        double total = 0;
        sum_range<1, T>(head, &total, [=](int64_t i, auto tag, V* s) { s[0] += look(i, tag); });
        pivot = static_cast<R>(total / head);
      }
      const V m = splat<V>(pivot);
      sum_range<2, T>(n, sums, [=](int64_t i, auto tag, V* s) {
        const V d = RMS ? take(i, tag) : keep(take(i, tag) - m, tag);
        if constexpr (!RMS) s[0] += d;
        s[1] += d * d;
      });
    };
    if (k.residual) {
      const T* r = static_cast<const T*>(k.residual) + row * n;
      also = r + ahead;
      T* sum = static_cast<T*>(k.sum) + row * n;
      T* kept = STREAM ? tile : sum;
      const auto look = [from = x, r](int64_t i, auto tag) {
        return rounded<T>(load(from + i, tag) + load(r + i, tag));
      };
      measure(look, [=](int64_t i, auto tag) {
        const V v = look(i, tag);
        store(kept + i, v, tag);
        if constexpr (STREAM) put<true>(sum + i, v, tag);
        return v;
      });
      x = kept;
    } else {
      const auto look = [x](int64_t i, auto tag) { return load(x + i, tag); };
      measure(look, look);
    }
    const double offset = sums[0] / n, mean = pivot + offset;
    const double spread = sums[1] / n - offset * offset;
    const double middle = static_cast<R>(mean), rest = mean - middle;
    if (!RMS && k.mean) k.mean[row] = mean;
    const double rstd = 1 / std::sqrt((spread < 0 ? 0 : spread) + k.eps);
    if (k.rstd) static_cast<R*>(k.rstd)[row] = static_cast<R>(rstd);
    scale_row<STREAM, T>(x, w, b, middle, rstd, -rest * rstd, next, also, y, n);
  }
}

// With g = dy w: dx = rstd (g - <g>/n - xhat <g, xhat>/n), without the middle term for RMS norm.
template <bool RMS, bool STREAM, class T>
static void row_norm_backward(const RowNormBackward& k, int64_t first, int64_t last,
                              typename Element<T>::Sum* dw, typename Element<T>::Sum* db) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  const int64_t n = k.columns;
  const R* w = static_cast<const R*>(k.w);
  for (int64_t i = 0; dw && i < n; ++i) dw[i] = 0;
  for (int64_t i = 0; db && i < n; ++i) db[i] = 0;
  const int64_t ahead = n * int64_t(sizeof(T)) <= NEAR_ROW ? n : 0;
  constexpr bool EARLY = sizeof(T) == 2;  // asks for the next row's x in the first phase
  for (int64_t row = first; row < last; ++row) {
    const T *dy = static_cast<const T*>(k.dy) + row * n, *x = static_cast<const T*>(k.x) + row * n;
    const T* dsum = k.dsum ? static_cast<const T*>(k.dsum) + row * n : nullptr;
    T* dx = static_cast<T*>(k.dx) + row * n;
    const R rstd = static_cast<const R*>(k.rstd)[row];
    const R middle = RMS ? R(0) : static_cast<R>(k.mean[row]);
    const V m = splat<V>(middle), a = splat<V>(rstd);
    const V c = splat<V>(RMS ? 0.0 : -(k.mean[row] - middle) * rstd);
    double totals[2] = {0, 0};
    sum_range<2, T>(n, totals, [=](int64_t i, auto tag, V* sums) {
      if constexpr (STREAM && EARLY) fetch(x + i + ahead);
      const V d = load(dy + i, tag);
      const V xhat = (load(x + i, tag) - m) * a + c;
      const V g = w ? d * load(w + i, tag) : d;  // zero past the end, like d
      if constexpr (!RMS) sums[0] += g;
      sums[1] += g * xhat;
      if (dw) store(dw + i, load(dw + i, tag) + d * xhat, tag);
      if (db) store(db + i, load(db + i, tag) + d, tag);
    });
    const V mean_g = splat<V>(totals[0] / n), mean_gx = splat<V>(totals[1] / n);
    // With and without dsum apart: whether the compiler fuses this addition must not depend on how it
    // splits a loop.
    const auto gradient = [=](auto more) {
      for_vectors<T>(n, [=](int64_t i, auto tag) {
        if constexpr (STREAM && !EARLY) fetch(x + i + ahead);
        if constexpr (STREAM) fetch(dy + i + ahead);
        const V xhat = (load(x + i, tag) - m) * a + c;
        const V d = load(dy + i, tag);
        const V g = w ? d * load(w + i, tag) : d;
        V v = (g - mean_g - xhat * mean_gx) * a;
        if constexpr (decltype(more)::value) v += load(dsum + i, tag);
        put<STREAM>(dx + i, v, tag);
      });
    };
    dsum ? gradient(std::true_type{}) : gradient(std::false_type{});
  }
}

static void row_norm_entry(Type type, const RowNorm& k, int64_t first, int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    const int64_t bytes = k.columns * int64_t(sizeof(T));
    const bool sum_fits = !k.residual || (can_stream(k.sum, bytes) && k.columns <= SUM_TILE);
    for_store<T>(k.stream && can_stream(k.y, bytes) && sum_fits, [&](auto past_caches) {
      constexpr bool STREAM = decltype(past_caches)::value;
      k.rms ? row_norm<true, STREAM, T>(k, first, last) : row_norm<false, STREAM, T>(k, first, last);
    });
  });
}

static void row_norm_backward_entry(Type type, const RowNormBackward& k, int64_t first,
                                    int64_t last, void* dw, void* db) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    using R = typename Element<T>::Sum;
    const bool stream = k.stream && can_stream(k.dx, k.columns * int64_t(sizeof(T)));
    for_store<T>(stream, [&](auto past_caches) {
      constexpr bool STREAM = decltype(past_caches)::value;
      const auto run =
          k.rms ? row_norm_backward<true, STREAM, T> : row_norm_backward<false, STREAM, T>;
      run(k, first, last, static_cast<R*>(dw), static_cast<R*>(db));
    });
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
