// Batch norm of pixels (channels last), with an optional residual and ReLU: the four passes between
// which the caller reduces over chunks of rows. Included once per instruction set. See batch_norm.h
// for what the passes compute, their bytes and their numerics.
//
// Both phases read memory in its order. Moments and sums take SUMMED rows at a time, and down them one
// vector of channels after another, so that a sum stays in a register for SUMMED terms and then goes to
// double: 16 additions in float whatever the number of pixels, and the totals, one or two KiB a channel
// group, in L1. Beyond the last-level cache they go row by row instead, with the sums of SUMMED rows in
// L1 too: more work a value, but strictly one stream from memory, which comes 5 to 20 % faster where
// all cores ask for theirs. Apply and gradient walk stretches of rows, the last one first, with their
// coefficients in L1: what the first phase read last is still in the last-level cache. Within a stretch
// rows come forwards: backwards, the processor fetches lines that nobody wants (2 to 3 times slower). All
// ask for the lines that they reach soon, since at the end of each page the processor's own prefetching
// begins anew: so far ahead that the distance is part of the instruction and takes no register, of which
// apply and gradient have none to spare. The pivot of the moments is the mean of the call's first rows.
//
// Bytes: 3n forward and 5n backward where the tensor is beyond the last-level cache, 2n and 3n within; a
// residual adds n forward, its gradient n backward.
#pragma once

#include "cpu/batch_norm.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t HEAD = 16;          // rows whose mean is the pivot
constexpr int SUMMED = 16;            // rows of a sum in float
constexpr int64_t COLUMNS = 256;      // channels whose sums are kept at a time
constexpr int64_t STRETCH = 1 << 20;  // bytes of rows that are walked forwards
constexpr int64_t FAR_LEAD = 1 << 14; // the same of sums beyond the caches

// Adds the lanes of v to as many doubles, one register after the other: an array of both GCC copies in
// pieces, for which the loads behind them wait (moments took nearly three times as long on AVX2).
static inline void add_lanes(double* to, D half) {
  D sum;
  std::memcpy(&sum, to, sizeof sum);
  sum += half;
  std::memcpy(to, &sum, sizeof sum);
}
static inline void add_lanes(double* to, F v) {
  add_lanes(to, low_half(v));
  add_lanes(to + LANES / 2, high_half(v));
}
static inline void add_lanes(double* to, double v) { *to += v; }

// Which of `wide` channels stands at `place` in the order of pairs.
template <class T>
static inline int64_t channel_at(int64_t place, int64_t wide) {
  if constexpr (std::is_same_v<T, bf16>) {
    const int64_t in = place % (2 * LANES), begin = place - in;
    if (begin + 2 * LANES <= wide) return begin + (in < LANES ? 2 * in : 2 * (in - LANES) + 1);
  }
  return place;
}

// Two sums for each of up to COLUMNS channels, in the order of pairs, of a tensor that is FAR, beyond the
// last-level cache, or not. Both ways add in the same order.
template <class T, bool FAR>
struct ColumnSums {
  using V = typename Element<T>::V;
  alignas(64) double total[2][COLUMNS] = {};
  alignas(64) typename Element<T>::Sum part[2][FAR ? COLUMNS : 1];  // sums that wait for the next row

  // Rows from a load to the row that is asked for.
  static inline int64_t lead(int64_t channels) {
    const int64_t bytes = channels * int64_t(sizeof(T));
    return !FAR ? SUMMED : bytes < FAR_LEAD ? FAR_LEAD / bytes : 1;
  }

  template <class Sum>
  inline void join(int which, int64_t c, Sum v) {
    if constexpr (requires { v.second; }) {
      add_lanes(total[which] + c, v.first);
      add_lanes(total[which] + c + LANES, v.second);
    } else {
      add_lanes(total[which] + c, v);
    }
  }

  // Some rows from `row` on: sums that go on from `part` or not, and into it or `total`.
  template <int ROWS, bool ON, bool END, class Term>
  inline void group(int64_t row, int64_t channels, Term& term) {
    for_pairs<T>(channels, [&](int64_t c, auto tag) {
      decltype(load(static_cast<const T*>(nullptr), tag)) one{}, two{};
      if constexpr (ON) {
        one = load_plain<T>(part[0] + c, tag);
        two = load_plain<T>(part[1] + c, tag);
      }
      for (int k = 0; k < ROWS; ++k) term(row + k, c, tag, one, two);
      if constexpr (END) {
        join(0, c, one);
        join(1, c, two);
      } else {
        store_plain(part[0] + c, one, tag);
        store_plain(part[1] + c, two, tag);
      }
    });
  }

  // term(row, channel, tag, first, second) adds the terms of one vector (or pair) of one row.
  template <class Term>
  inline void add(int64_t first, int64_t last, int64_t channels, Term term) {
    int64_t row = first;
    for (; row + SUMMED <= last; row += SUMMED) {
      if constexpr (FAR) {
        group<1, false, false>(row, channels, term);
        for (int k = 1; k < SUMMED - 1; ++k) group<1, true, false>(row + k, channels, term);
        group<1, true, true>(row + SUMMED - 1, channels, term);
      } else {
        group<SUMMED, false, true>(row, channels, term);
      }
    }
    for (; row < last; ++row) group<1, false, true>(row, channels, term);
  }
};

template <class T, bool FAR>
static void pixel_moments(const T* x, int64_t channels, int64_t first, int64_t last, int64_t c0,
                          int64_t c1, double* mean, double* squares) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  const double n = static_cast<double>(last - first), inverse = 1 / n;
  const int64_t head = last - first < HEAD ? last - first : HEAD;
  const V share = splat<V>(1.0 / static_cast<double>(head));
  for (; c0 < c1; c0 += COLUMNS) {
    const int64_t wide = c1 - c0 < COLUMNS ? c1 - c0 : COLUMNS;
    const T* from = x + c0;
    alignas(64) R pivot[COLUMNS];
    for_pairs<T>(wide, [&](int64_t c, auto tag) {
      auto sum = load(from + first * channels + c, tag);
      for (int64_t row = first + 1; row < first + head; ++row)
        sum = map([](V s, V v) { return s + v; }, sum, load(from + row * channels + c, tag));
      store_plain(pivot + c, map([=](V s) { return s * share; }, sum), tag);
    });
    ColumnSums<T, FAR> sums;
    const int64_t lead = sums.lead(wide) * channels;
    sums.add(first, last, wide, [&](int64_t row, int64_t c, auto tag, auto& one, auto& two) {
      const T* p = from + row * channels + c;
      fetch(p + lead);
      const auto less = [](V v, V w) { return v - w; };
      const auto d = map(less, load(p, tag), load_plain<T>(pivot + c, tag));
      one = map([](V s, V v) { return s + v; }, one, d);
      two = map([](V s, V v) { return s + v * v; }, two, d);
    });
    for (int64_t place = 0; place < wide; ++place) {
      const double rest = sums.total[0][place] * inverse;
      const int64_t c = c0 + channel_at<T>(place, wide);
      mean[c] = pivot[place] + rest;
      squares[c] = sums.total[1][place] - sums.total[0][place] * rest;
    }
  }
}

constexpr auto AFFINE = [](auto x, auto middle, auto scale, auto offset) {
  return affine(x, middle, scale, offset);
};

// Calls body(begin, end) for rows [first, last) of n elements, stretch by stretch from the end.
template <class T, class Body>
static inline void stretches_of_rows(int64_t first, int64_t last, int64_t n, Body body) {
  const int64_t bytes = n * int64_t(sizeof(T));
  const int64_t rows = bytes < STRETCH ? STRETCH / bytes : 1;
  for (int64_t end = last; end > first; end -= rows)
    body(end - rows > first ? end - rows : first, end);
}

// Asks for the first lines of a stretch; fetch_on() then stays so far ahead.
template <class T>
static inline void fetch_first(const T* p) {
  for (int64_t line = 0; line < LEAD; line += 64) fetch(reinterpret_cast<const char*>(p) + line);
}

template <class T, bool STREAM, bool RESIDUAL, bool RELU, bool KEEP = false>
static void pixel_apply(const BatchNorm& k, const typename Element<T>::Sum* coefficients,
                        int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  const int64_t n = k.channels;
  const auto *m = coefficients, *a = coefficients + n, *b = coefficients + 2 * n;
  const V most = splat<V>(k.most);
  stretches_of_rows<T>(first, last, n, [&](int64_t begin, int64_t end) {
    const T *x = static_cast<const T*>(k.x) + begin * n,
            *r = RESIDUAL ? static_cast<const T*>(k.residual) + begin * n : nullptr;
    T* y = static_cast<T*>(k.y) + begin * n;
    const int64_t pitch = passed_bytes(n);
    uint8_t* passed = KEEP ? k.passed + begin * pitch : nullptr;
    fetch_first(x);
    if constexpr (RESIDUAL) fetch_first(r);
    for (int64_t row = begin; row < end; ++row) {
      for_pairs<T>(n, [=](int64_t i, auto tag) {
        fetch_on(x + i);
        if constexpr (RESIDUAL) fetch_on(r + i);
        auto v = map(AFFINE, load(x + i, tag), load_plain<T>(m + i, tag),
                     load_plain<T>(a + i, tag), load_plain<T>(b + i, tag));
        if constexpr (RESIDUAL) v = map([](V v, V w) { return v + w; }, v, load(r + i, tag));
        if constexpr (KEEP) put_through<T>(passed, i, v, most, tag);
        if constexpr (RELU) v = map([=](V v) { return relu_cut(v, most); }, v);
        put<STREAM>(y + i, v, tag);
      });
      x += n, y += n;
      if constexpr (RESIDUAL) r += n;
      if constexpr (KEEP) passed += pitch;
    }
  });
}

template <class T, bool FAR, Mask MASK>
static void pixel_sums(const BatchNormBackward& k, const typename Element<T>::Sum* coefficients,
                       int64_t first, int64_t last, int64_t c0, int64_t c1, double* sum,
                       double* product) {
  using V = typename Element<T>::V;
  const int64_t n = k.channels;
  const V most = splat<V>(k.most);
  for (; c0 < c1; c0 += COLUMNS) {
    const int64_t wide = c1 - c0 < COLUMNS ? c1 - c0 : COLUMNS;
    const T *dy = static_cast<const T*>(k.dy) + c0, *x = static_cast<const T*>(k.x) + c0;
    const uint8_t* bits = MASK == Mask::kept ? k.passed + c0 / 8 : nullptr;
    const int64_t pitch = passed_bytes(n);
    const auto *m = coefficients + c0, *a = m + n, *b = a + n;
    ColumnSums<T, FAR> sums;
    const int64_t lead = sums.lead(wide) * n;
    sums.add(first, last, wide, [&](int64_t row, int64_t c, auto tag, auto& one, auto& two) {
      const int64_t at = row * n + c, next = at + lead;
      fetch(x + next);
      fetch(dy + next);
      const auto value = load(x + at, tag), middle = load_plain<T>(m + c, tag);
      auto before = value;
      if constexpr (MASK == Mask::from_x)
        before = map(AFFINE, value, middle, load_plain<T>(a + c, tag), load_plain<T>(b + c, tag));
      const uint8_t* passed = MASK == Mask::kept ? bits + row * pitch : nullptr;
      const auto g = through<MASK, T>(load(dy + at, tag), before, most, passed, c, tag);
      one = map([](V s, V v) { return s + v; }, one, g);
      two = map([](V s, V v, V w, V u) { return s + v * (w - u); }, two, g, value, middle);
    });
    for (int64_t place = 0; place < wide; ++place) {
      const int64_t c = c0 + channel_at<T>(place, wide);
      sum[c] = sums.total[0][place];
      product[c] = sums.total[1][place];
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
  stretches_of_rows<T>(first, last, n, [&](int64_t begin, int64_t end) {
    constexpr bool KEPT = MASK == Mask::kept;
    const int64_t at = begin * n, pitch = passed_bytes(n);
    const T *dy = static_cast<const T*>(k.dy) + at, *x = static_cast<const T*>(k.x) + at;
    const uint8_t* passed = KEPT ? k.passed + begin * pitch : nullptr;
    T *dx = static_cast<T*>(k.dx) + at, *dr = k.dresidual ? static_cast<T*>(k.dresidual) + at : nullptr;
    fetch_first(x);
    fetch_first(dy);
    for (int64_t row = begin; row < end; ++row) {
      for_pairs<T>(n, [=](int64_t i, auto tag) {
        fetch_on(x + i);
        fetch_on(dy + i);
        const auto value = load(x + i, tag), middle = load_plain<T>(m + i, tag);
        auto before = value;
        if constexpr (MASK == Mask::from_x)
          before = map(AFFINE, value, middle, load_plain<T>(scale + i, tag),
                       load_plain<T>(offset + i, tag));
        const auto g = through<MASK, T>(load(dy + i, tag), before, most, passed, i, tag);
        const auto rest = map([](V v, V u, V b, V c) { return b * (v - u) + c; }, value, middle,
                              load_plain<T>(b + i, tag), load_plain<T>(c + i, tag));
        const auto slope = [](V a, V g, V rest) { return a * g + rest; };
        put<STREAM>(dx + i, map(slope, load_plain<T>(a + i, tag), g, rest), tag);
        if (dr) put<STREAM>(dr + i, g, tag);
      });
      x += n, dy += n, dx += n;
      if constexpr (KEPT) passed += pitch;
      if (dr) dr += n;
    }
  });
}

// Rows of coefficients, one a channel, into the order in which all passes but the first read them.
static void pixel_order_entry(Type type, void* coefficients, int64_t rows, int64_t channels) {
  if (type != Type::bf16) return;
  float* row = static_cast<float*>(coefficients);
  for (int64_t k = 0; k < rows; ++k, row += channels)
    for_pairs<bf16>(channels, [=](int64_t c, auto tag) {
      store_plain(row + c, load_as<bf16>(row + c, tag), tag);
    });
}

static void pixel_moments_entry(Type type, const void* x, bool far, int64_t channels, int64_t first,
                                int64_t last, int64_t c0, int64_t c1, double* mean,
                                double* squares) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    const auto run = far ? pixel_moments<T, true> : pixel_moments<T, false>;
    run(static_cast<const T*>(x), channels, first, last, c0, c1, mean, squares);
  });
}

static void pixel_apply_entry(Type type, const BatchNorm& k, const void* coefficients,
                              int64_t first, int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    for_store<T>(k.stream && can_stream(k.y, k.channels * int64_t(sizeof(T))), [&](auto past_caches) {
      constexpr bool STREAM = decltype(past_caches)::value;
      const auto run =
          !k.residual
              ? (k.relu ? pixel_apply<T, STREAM, false, true> : pixel_apply<T, STREAM, false, false>)
          : !k.relu  ? pixel_apply<T, STREAM, true, false>
          : k.passed ? pixel_apply<T, STREAM, true, true, true>
                     : pixel_apply<T, STREAM, true, true>;
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
    const auto run_where = [&](auto beyond) {
      constexpr bool FAR = decltype(beyond)::value;
      const auto run = mask == Mask::none     ? pixel_sums<T, FAR, Mask::none>
                       : mask == Mask::from_x ? pixel_sums<T, FAR, Mask::from_x>
                                              : pixel_sums<T, FAR, Mask::kept>;
      run(k, static_cast<const typename Element<T>::Sum*>(coefficients), first, last, c0, c1, sum,
          product);
    };
    k.stream ? run_where(std::true_type{}) : run_where(std::false_type{});
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
                                              : pixel_gradient<T, STREAM, Mask::kept>;
      run(k, static_cast<const R*>(coefficients), static_cast<const R*>(gradient), first, last);
    });
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
