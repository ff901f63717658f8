// Local response norm of planes (NCHW). Included once per instruction set.
//
// y = x / s^beta with s = k + scale (sum of x^2 over the neighbouring channels); the gradient is
// dx = dy / s^beta - 2 scale beta x (sum of dy x / s^(beta + 1) over the channels whose window holds
// this one).
//
// Phases, strip by strip (four vectors of positions, down all channels): x is read and its squares put
// into scratch; the window slides over scratch, y is written. Backward: s from scratch in the same
// way, dy x / s^(beta + 1) into scratch, and both windows slide once more for dx. Scratch is at most
// 512 bytes a channel, so it stays in L2 with the strip of x: 2n bytes of memory forward, 3n backward.
// Eager pads, pools in three dimensions, multiplies, adds, raises and divides, each a pass.
//
// Numerics: float (double for float64). A window is summed anew for each channel, oldest first, since
// a running sum would carry its rounding through all channels: work grows with the window, traffic
// does not. s^0.75 is sqrt(s) sqrt(sqrt(s)), s^0.5 one square root; other exponents go through the C
// library in double, value by value.
#pragma once

#include "cpu/pixel_norm.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

struct ThreeQuarters {
  double beta;
  template <class V>
  inline V power(V s) const {
    const V root = square_root(s);
    return root * square_root(root);
  }
};
struct Half {
  double beta;
  template <class V>
  inline V power(V s) const {
    return square_root(s);
  }
};
struct One {
  double beta;
  template <class V>
  inline V power(V s) const {
    return s;
  }
};
struct AnyPower {
  double beta;
  inline F power(F s) const {
    for (int i = 0; i < LANES; ++i) {
      const double value = s[i];
      s[i] = static_cast<float>(std::pow(value, beta));
    }
    return s;
  }
  inline double power(double s) const { return std::pow(s, beta); }
};

template <class Body>
static inline void for_power(double beta, Body body) {
  if (beta == 0.75) return body(ThreeQuarters{beta});
  if (beta == 0.5) return body(Half{beta});
  if (beta == 1.0) return body(One{beta});
  body(AnyPower{beta});
}

constexpr int STRIP = 4;  // vectors

// Calls body(position, vectors, tag) for each strip of [begin, end): of M vectors, then of single ones;
// `vectors` is a constant by its type.
template <class T, int M = STRIP, class Body>
static inline void strips(int64_t begin, int64_t end, Body body) {
  constexpr int64_t width = Element<T>::WIDTH;
  int64_t p = begin;
  for (; p + M * width <= end; p += M * width) body(p, std::integral_constant<int, M>{}, Whole{});
  for (; p + width <= end; p += width) body(p, std::integral_constant<int, 1>{}, Whole{});
  if (p < end) body(p, std::integral_constant<int, 1>{}, Part{end - p});
}

static_assert(RESPONSE_SCRATCH >= 2 * STRIP * LANES, "scratch holds two tables of the widest strip");

// A table of vectors in scratch, `N` for each channel.
template <class T, int N>
struct Table {
  using R = typename Element<T>::Sum;
  using V = typename Element<T>::V;
  R* at;
  inline V get(int64_t channel, int v) const {
    return Element<R>::load(at + (channel * N + v) * Element<T>::WIDTH);
  }
  inline void put(int64_t channel, int v, V value) const {
    Element<R>::store(at + (channel * N + v) * Element<T>::WIDTH, value);
  }
  // Sum over channels [from, to] of those there are.
  inline V window(int64_t from, int64_t to, int64_t channels, int v) const {
    const int64_t first = from < 0 ? 0 : from, last = to < channels ? to : channels - 1;
    V sum = V{};
    for (int64_t c = first; c <= last; ++c) sum += get(c, v);
    return sum;
  }
};

template <class T, class Power>
static void response_norm(const ResponseNorm& k, Power power, int64_t sample, int64_t begin,
                          int64_t end, typename Element<T>::Sum* scratch) {
  using V = typename Element<T>::V;
  const T* from = static_cast<const T*>(k.x) + sample * k.channels * k.area;
  T* to = static_cast<T*>(k.to) + sample * k.channels * k.area;
  const V base = splat<V>(k.k), scale = splat<V>(k.scale);
  strips<T>(begin, end, [=](int64_t p, auto vectors, auto tag) {
    constexpr int N = decltype(vectors)::value;
    constexpr int64_t width = Element<T>::WIDTH;
    const Table<T, N> squares{scratch};
    for (int64_t c = 0; c < k.channels; ++c)
      for (int v = 0; v < N; ++v) {
        const V x = load(from + c * k.area + p + v * width, tag);
        squares.put(c, v, x * x);
      }
    for (int64_t c = 0; c < k.channels; ++c)
      for (int v = 0; v < N; ++v) {
        const V s = base + scale * squares.window(c - k.before, c + k.after, k.channels, v);
        const int64_t at = c * k.area + p + v * width;
        store(to + at, load(from + at, tag) / power.power(s), tag);
      }
  });
}

template <class T, class Power>
static void response_norm_backward(const ResponseNorm& k, Power power, int64_t sample,
                                   int64_t begin, int64_t end,
                                   typename Element<T>::Sum* scratch) {
  using V = typename Element<T>::V;
  const int64_t offset = sample * k.channels * k.area;
  const T *from = static_cast<const T*>(k.x) + offset, *dy = static_cast<const T*>(k.dy) + offset;
  T* to = static_cast<T*>(k.to) + offset;
  const V base = splat<V>(k.k), scale = splat<V>(k.scale),
          twice = splat<V>(2 * k.scale * power.beta);
  strips<T>(begin, end, [=](int64_t p, auto vectors, auto tag) {
    constexpr int N = decltype(vectors)::value;
    constexpr int64_t width = Element<T>::WIDTH;
    const Table<T, N> first{scratch}, second{scratch + k.channels * N * width};
    for (int64_t c = 0; c < k.channels; ++c)
      for (int v = 0; v < N; ++v) {
        const V x = load(from + c * k.area + p + v * width, tag);
        first.put(c, v, x * x);
      }
    for (int64_t c = 0; c < k.channels; ++c)
      for (int v = 0; v < N; ++v) {
        const V s = base + scale * first.window(c - k.before, c + k.after, k.channels, v);
        const int64_t at = c * k.area + p + v * width;
        const V direct = load(dy + at, tag) / power.power(s);
        second.put(c, v, direct * load(from + at, tag) / s);
      }
    for (int64_t c = 0; c < k.channels; ++c)
      for (int v = 0; v < N; ++v) {
        const V s = base + scale * first.window(c - k.before, c + k.after, k.channels, v);
        const int64_t at = c * k.area + p + v * width;
        const V around = second.window(c - k.after, c + k.before, k.channels, v);
        const V direct = load(dy + at, tag) / power.power(s);
        store(to + at, direct - twice * load(from + at, tag) * around, tag);
      }
  });
}

static void response_norm_entry(Type type, const ResponseNorm& k, int64_t sample, int64_t begin,
                                int64_t end, void* scratch) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    for_power(k.beta, [&](auto power) {
      response_norm<T>(k, power, sample, begin, end,
                       static_cast<typename Element<T>::Sum*>(scratch));
    });
  });
}

static void response_norm_backward_entry(Type type, const ResponseNorm& k, int64_t sample,
                                         int64_t begin, int64_t end, void* scratch) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    for_power(k.beta, [&](auto power) {
      response_norm_backward<T>(k, power, sample, begin, end,
                                static_cast<typename Element<T>::Sum*>(scratch));
    });
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
