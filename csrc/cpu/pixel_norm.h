// Batch norm of pixels (channels last), with an optional residual and ReLU: the four passes between
// which the caller reduces over chunks of rows. Included once per instruction set. See batch_norm.h
// for what the passes compute, their bytes and their numerics.
//
// Moments and sums take a strip of channels, a few vectors wide, down all rows of the call: the sums
// stay in registers and every cache line is read once. They are drained into double every PIXELS
// rows; those of float32's gradients, which become results, are in double from the start, where their
// terms are exact. The pivot of the moments is the mean of the call's first rows. Apply and gradient
// walk rows, the last one first, with their coefficients in L1.
#pragma once

#include "cpu/batch_norm.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t PIXELS = 32;
constexpr int64_t HEAD = 16;  // rows whose mean is the pivot
constexpr int STRIP = 4;      // vectors
constexpr int WIDE_STRIP = 2;  // of sums in double, which take twice the registers

template <class T>
static inline int64_t lanes_of(Whole) {
  return Element<T>::WIDTH;
}
template <class T>
static inline int64_t lanes_of(Part part) {
  return part.count;
}

// Calls body(channel, vectors, tag) for each strip of channels [c0, c1): strips of M vectors, then
// single ones; `vectors` is a constant by its type.
template <int N>
struct Count {
  static constexpr int value = N;
};
template <class T, int M = STRIP, class Body>
static inline void strips(int64_t c0, int64_t c1, Body body) {
  constexpr int64_t width = Element<T>::WIDTH;
  int64_t c = c0;
  for (; c + M * width <= c1; c += M * width) body(c, Count<M>{}, Whole{});
  for (; c + width <= c1; c += width) body(c, Count<1>{}, Whole{});
  if (c < c1) body(c, Count<1>{}, Part{c1 - c});
}

// A vector of sums. drain() moves it into `total`, one double a lane.
template <class T>
struct LaneSums {
  using V = typename Element<T>::V;
  V lanes = V{};
  inline void add(V a) { lanes += a; }
  inline void add_product(V a, V b) { lanes += a * b; }
  inline void drain(double* total) {
    typename Element<T>::Sum values[Element<T>::WIDTH];
    std::memcpy(values, &lanes, sizeof values);
    for (int64_t i = 0; i < Element<T>::WIDTH; ++i) total[i] += values[i];
    lanes = V{};
  }
};

// The same of floats in double, where a product of two is exact.
struct WideLaneSums {
  D lanes[2] = {};
  inline void add(F a) {
    lanes[0] += low_half(a);
    lanes[1] += high_half(a);
  }
  inline void add_product(F a, F b) {
    lanes[0] += low_half(a) * low_half(b);
    lanes[1] += high_half(a) * high_half(b);
  }
  inline void drain(double* total) {
    double values[LANES];
    std::memcpy(values, lanes, sizeof values);
    for (int64_t i = 0; i < LANES; ++i) total[i] += values[i];
    lanes[0] = lanes[1] = D{};
  }
};

// Two sums for each channel of a strip of N vectors.
template <int N, class T, class Sums = LaneSums<T>>
struct StripSums {
  static constexpr int64_t WIDTH = Element<T>::WIDTH;
  Sums sums[2][N];
  double total[2][N * WIDTH] = {};

  // body(row, vector, first, second) adds the terms of one vector of one row.
  template <class Body>
  inline void add(int64_t first, int64_t last, Body body) {
    for (int64_t begin = first; begin < last; begin += PIXELS) {
      const int64_t end = last - begin < PIXELS ? last : begin + PIXELS;
      for (int64_t row = begin; row < end; ++row)
        for (int v = 0; v < N; ++v) body(row, v, sums[0][v], sums[1][v]);
      for (int s = 0; s < 2; ++s)
        for (int v = 0; v < N; ++v) sums[s][v].drain(total[s] + v * WIDTH);
    }
  }
};

template <class T>
static void pixel_moments(const T* x, int64_t channels, int64_t first, int64_t last, int64_t c0,
                          int64_t c1, double* mean, double* squares) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  constexpr int64_t width = Element<T>::WIDTH;
  strips<T>(c0, c1, [=](int64_t c, auto vectors, auto tag) {
    constexpr int N = decltype(vectors)::value;
    const T* from = x + c;
    const int64_t head = last - first < HEAD ? last - first : HEAD;
    V pivot[N] = {};
    for (int64_t row = first; row < first + head; ++row)
      for (int v = 0; v < N; ++v) pivot[v] += load(from + row * channels + v * width, tag);
    for (int v = 0; v < N; ++v) pivot[v] *= splat<V>(1.0 / static_cast<double>(head));
    StripSums<N, T> sums;
    sums.add(first, last, [&](int64_t row, int v, auto& one, auto& two) {
      const V d = load(from + row * channels + v * width, tag) - pivot[v];
      one.add(d);
      two.add_product(d, d);
    });
    const double n = static_cast<double>(last - first);
    for (int64_t i = 0; i < (N - 1) * width + lanes_of<T>(tag); ++i) {
      R shift;
      std::memcpy(&shift, reinterpret_cast<const char*>(pivot) + i * sizeof(R), sizeof shift);
      const double rest = sums.total[0][i] / n;
      mean[c + i] = shift + rest;
      squares[c + i] = sums.total[1][i] - sums.total[0][i] * rest;
    }
  });
}

template <class T, bool STREAM, bool RESIDUAL, bool RELU>
static void pixel_apply(const BatchNorm& k, const typename Element<T>::Sum* coefficients,
                        int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  const int64_t n = k.channels;
  const auto *m = coefficients, *a = coefficients + n, *b = coefficients + 2 * n;
  const V most = splat<V>(k.most);
  for (int64_t row = last - 1; row >= first; --row) {
    const T *x = static_cast<const T*>(k.x) + row * n,
            *r = RESIDUAL ? static_cast<const T*>(k.residual) + row * n : nullptr;
    T* y = static_cast<T*>(k.y) + row * n;
    for_vectors<T>(n, [=](int64_t i, auto tag) {
      V v = affine(load(x + i, tag), load(m + i, tag), load(a + i, tag), load(b + i, tag));
      if constexpr (RESIDUAL) v += load(r + i, tag);
      if constexpr (RELU) v = relu_cut(v, most);
      put<STREAM>(y + i, v, tag);
    });
  }
}

template <class T, Mask MASK>
static void pixel_sums(const BatchNormBackward& k, const typename Element<T>::Sum* coefficients,
                       int64_t first, int64_t last, int64_t c0, int64_t c1, double* sum,
                       double* product) {
  using V = typename Element<T>::V;
  constexpr int64_t width = Element<T>::WIDTH;
  const int64_t n = k.channels;
  const T *dy = static_cast<const T*>(k.dy), *x = static_cast<const T*>(k.x),
          *y = static_cast<const T*>(k.y);
  constexpr bool wide = std::is_same_v<T, float>;
  const V most = splat<V>(k.most);
  using Lanes = std::conditional_t<wide, WideLaneSums, LaneSums<T>>;
  strips<T, wide ? WIDE_STRIP : STRIP>(c0, c1, [=](int64_t c, auto vectors, auto tag) {
    constexpr int N = decltype(vectors)::value;
    V m[N], a[N], b[N];
    for (int v = 0; v < N; ++v) {
      m[v] = load(coefficients + c + v * width, tag);
      a[v] = load(coefficients + n + c + v * width, tag);
      b[v] = load(coefficients + 2 * n + c + v * width, tag);
    }
    StripSums<N, T, Lanes> sums;
    sums.add(first, last, [&](int64_t row, int v, auto& one, auto& two) {
      const int64_t at = row * n + c + v * width;
      const V value = load(x + at, tag);
      const V g = passed<MASK>(dy + at, MASK == Mask::from_y ? y + at : y,
                               affine(value, m[v], a[v], b[v]), most, 0, tag);
      one.add(g);
      two.add_product(g, value - m[v]);
    });
    for (int64_t i = 0; i < (N - 1) * width + lanes_of<T>(tag); ++i) {
      sum[c + i] = sums.total[0][i];
      product[c + i] = sums.total[1][i];
    }
  });
}

template <class T, bool STREAM, Mask MASK>
static void pixel_gradient(const BatchNormBackward& k, const typename Element<T>::Sum* forward,
                           const typename Element<T>::Sum* gradient, int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  const int64_t n = k.channels;
  const auto *m = forward, *scale = forward + n, *offset = forward + 2 * n;
  const auto *a = gradient, *b = gradient + n, *c = gradient + 2 * n;
  const V most = splat<V>(k.most);
  for (int64_t row = last - 1; row >= first; --row) {
    const T *dy = static_cast<const T*>(k.dy) + row * n, *x = static_cast<const T*>(k.x) + row * n,
            *y = MASK == Mask::from_y ? static_cast<const T*>(k.y) + row * n : nullptr;
    T *dx = static_cast<T*>(k.dx) + row * n,
      *dr = k.dresidual ? static_cast<T*>(k.dresidual) + row * n : nullptr;
    for_vectors<T>(n, [=](int64_t i, auto tag) {
      const V value = load(x + i, tag), middle = load(m + i, tag);
      V before = V{};
      if constexpr (MASK == Mask::from_x)
        before = affine(value, middle, load(scale + i, tag), load(offset + i, tag));
      const V g = passed<MASK>(dy, y, before, most, i, tag);
      const V rest = load(b + i, tag) * (value - middle) + load(c + i, tag);
      put<STREAM>(dx + i, load(a + i, tag) * g + rest, tag);
      if (dr) put<STREAM>(dr + i, g, tag);
    });
  }
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
