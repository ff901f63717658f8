// Batch norm of planes (NCHW), with an optional residual and ReLU. Included once per instruction set.
// pixel_norm.h has the same for channels last.
//
// Phases, channel by channel, forward: moments (x read; training only), apply (x read again, y
// written). Backward: sums (dy and x read; not when they are neither needed nor wanted), gradient
// (both read again, dx written). The second phase walks planes and stretches of them in reverse, so
// that it begins with what the first one left in the cache: a channel of up to about half of L2 is
// read from memory once. Bytes: 2n and 3n for such channels, 3n and 5n for larger ones; a residual
// adds n forward, its gradient n backward. The ReLU's mask is computed again from x, by the same
// operations as in forward; only with a residual it is read from y. Outputs beyond the last-level cache
// are streamed past it, which leaves the caches to what is read twice.
//
// Numerics: moments are sums of x - pivot and of its square in short blocks, turned into the block's
// mean and squared deviations and merged in double (Chan, Golub & LeVeque 1979). The pivot of a block
// is the mean of all before, of the first one that of its first stretch: nothing cancels whatever
// mean, outliers or drift the channel has. The mean is subtracted as a float, `middle`, and what
// rounding it left goes into the offset: y = (x - middle) scale + offset, never x scale + offset,
// which would cancel. A channel is one thread's, so results do not depend on their number.
#pragma once

#include "cpu/elementwise.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// Mean and sum of squared deviations of `count` values; merge() adds those of other values.
struct Moments {
  double count = 0, mean = 0, squares = 0;

  inline void merge(double other_count, double other_mean, double other_squares) {
    const double all = count + other_count, step = other_mean - mean;
    mean += step * (other_count / all);
    squares += other_squares + step * step * (count * other_count / all);
    count = all;
  }
};

// Calls body(offset, length) for the stretches of channel c, plane by plane, forwards or backwards.
template <class Body>
static inline void stretches(const int64_t batch, const int64_t channels, const int64_t area,
                             const int64_t c, const bool reverse, Body body) {
  const int64_t per_plane = (area + BLOCK - 1) / BLOCK;
  for (int64_t step = 0; step < batch; ++step) {
    const int64_t at = ((reverse ? batch - 1 - step : step) * channels + c) * area;
    for (int64_t part = 0; part < per_plane; ++part) {
      const int64_t begin = (reverse ? per_plane - 1 - part : part) * BLOCK;
      body(at + begin, area - begin < BLOCK ? area - begin : BLOCK);
    }
  }
}

template <class T>
static Moments plane_moments(const T* x, int64_t batch, int64_t channels, int64_t area, int64_t c) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  const int64_t head = area < BLOCK ? area : BLOCK;
  double rough = 0;
  sum_range<1, T>(head, &rough,
                  [p = x + c * area](int64_t i, auto tag, V* sums) { sums[0] += load(p + i, tag); });
  R pivot = static_cast<R>(rough / head);
  Moments all;
  Sums<2, T> sums;
  int64_t pending = 0;
  const auto drain = [&] {
    double totals[2] = {0, 0};
    sums.drain(totals);
    const double n = static_cast<double>(pending), rest = totals[0] / n;
    all.merge(n, pivot + rest, totals[1] - totals[0] * rest);
    pivot = static_cast<R>(all.mean);
    pending = 0;
  };
  stretches(batch, channels, area, c, false, [&](int64_t at, int64_t length) {
    const V middle = splat<V>(pivot);
    sums.add(0, length, [p = x + at, middle](int64_t i, auto tag, V* s) {
      const V d = keep(load(p + i, tag) - middle, tag);
      s[0] += d;
      s[1] += d * d;
    });
    pending += length;
    if (pending >= BLOCK) drain();
  });
  if (pending) drain();
  return all;
}

// middle, scale and offset of y = (x - middle) scale + offset.
template <class R>
struct Affine {
  R middle, scale, offset;

  Affine(double mean, double rstd, const void* w, const void* b, int64_t c) {
    middle = static_cast<R>(mean);
    const double slope = rstd * (w ? static_cast<const R*>(w)[c] : R(1));
    scale = static_cast<R>(slope);
    offset = static_cast<R>((b ? static_cast<const R*>(b)[c] : R(0)) - (mean - middle) * slope);
  }
};

// One rounding of the operations in forward and backward alike, or the mask would differ.
template <class V>
static inline V affine(V x, V middle, V scale, V offset) {
  return (x - middle) * scale + offset;
}

// A nan as `most` compares with nothing, and minimum() passes over it.
template <class V>
static inline V relu_cut(V v, V most) {
  return minimum(most, Relu::value(v));
}

template <class T, bool STREAM, bool RESIDUAL, bool RELU>
static void plane_apply(const BatchNorm& k, int64_t c,
                        const Affine<typename Element<T>::Sum>& coefficients) {
  using V = typename Element<T>::V;
  const V m = splat<V>(coefficients.middle), a = splat<V>(coefficients.scale),
          b = splat<V>(coefficients.offset), most = splat<V>(k.most);
  stretches(k.batch, k.channels, k.area, c, true, [&](int64_t at, int64_t length) {
    const T* x = static_cast<const T*>(k.x) + at;
    const T* r = RESIDUAL ? static_cast<const T*>(k.residual) + at : nullptr;
    T* y = static_cast<T*>(k.y) + at;
    for_vectors<T>(length, [=](int64_t i, auto tag) {
      V v = affine(load(x + i, tag), m, a, b);
      if constexpr (RESIDUAL) v += load(r + i, tag);
      if constexpr (RELU) v = relu_cut(v, most);
      put<STREAM>(y + i, v, tag);
    });
  });
}

template <class T, bool STREAM>
static void plane_norm(const BatchNorm& k, int64_t first, int64_t last) {
  using R = typename Element<T>::Sum;
  const auto apply =
      k.residual
          ? (k.relu ? plane_apply<T, STREAM, true, true> : plane_apply<T, STREAM, true, false>)
          : (k.relu ? plane_apply<T, STREAM, false, true> : plane_apply<T, STREAM, false, false>);
  for (int64_t c = first; c < last; ++c) {
    if (k.training) {
      const Moments all =
          plane_moments<T>(static_cast<const T*>(k.x), k.batch, k.channels, k.area, c);
      k.mean[c] = all.mean;
      k.variance[c] = all.squares < 0 ? 0 : all.squares / all.count;
    } else {
      k.mean[c] = static_cast<const R*>(k.running_mean)[c];
      k.variance[c] = static_cast<const R*>(k.running_var)[c];
    }
    const double rstd = 1 / std::sqrt(k.variance[c] + k.eps);
    static_cast<R*>(k.rstd)[c] = static_cast<R>(rstd);
    apply(k, c, Affine<R>(k.mean[c], static_cast<R>(rstd), k.w, k.b, c));
  }
}

// Where the gradient passes the ReLU.
enum class Mask { none, from_x, from_y };

static inline Mask mask_of(const BatchNormBackward& k) {
  return !k.relu ? Mask::none : k.y ? Mask::from_y : Mask::from_x;
}

// g at one vector: dy where the ReLU let through and did not cut.
template <Mask MASK, class T, class Tag>
static inline typename Element<T>::V passed(const T* dy, const T* y, typename Element<T>::V before,
                                            typename Element<T>::V most, int64_t i, Tag tag) {
  using V = typename Element<T>::V;
  const V d = load(dy + i, tag);
  if constexpr (MASK == Mask::none) return d;
  if constexpr (MASK == Mask::from_y) before = load(y + i, tag);
  const V uncut = before >= most ? V{} : d;
  return before > V{} ? uncut : V{};
}

// dx = a g + b (x - middle) + c.
template <class R>
struct Slope {
  R a, b, c;

  // rest is mean - middle; sum and product are those of g and g (x - middle); count of values.
  Slope(bool training, double slope, double rstd, double rest, double sum, double product,
        double count) {
    const double curve = training ? -slope * rstd * rstd * (product - rest * sum) / count : 0;
    a = static_cast<R>(slope);
    b = static_cast<R>(curve);
    c = static_cast<R>(training ? -slope * sum / count - curve * rest : 0);
  }
};

template <class T, bool STREAM, Mask MASK>
static void plane_backward(const BatchNormBackward& k, int64_t channel) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  const double mean = k.mean[channel], rstd = static_cast<const R*>(k.rstd)[channel];
  const Affine<R> forward(mean, rstd, k.w, k.b, channel);
  const V m = splat<V>(forward.middle), scale = splat<V>(forward.scale),
          offset = splat<V>(forward.offset), most = splat<V>(k.most);
  const T *dy = static_cast<const T*>(k.dy), *x = static_cast<const T*>(k.x),
          *y = static_cast<const T*>(k.y);
  double totals[2] = {0, 0};
  if (k.training || k.sums) {
    Sums<2, T> sums;
    int64_t pending = 0;
    stretches(k.batch, k.channels, k.area, channel, false, [&](int64_t at, int64_t length) {
      sums.add(0, length, [=](int64_t i, auto tag, V* s) {
        const V value = load(x + at + i, tag);
        const V g = passed<MASK>(dy + at, MASK == Mask::from_y ? y + at : y,
                                 affine(value, m, scale, offset), most, i, tag);
        s[0] += g;
        s[1] += g * (value - m);  // g is zero past the end
      });
      pending += length;
      if (pending >= BLOCK) {
        sums.drain(totals);
        pending = 0;
      }
    });
    sums.drain(totals);
  }
  const double rest = mean - forward.middle;
  if (k.sums) {
    static_cast<R*>(k.dw)[channel] = static_cast<R>((totals[1] - rest * totals[0]) * rstd);
    static_cast<R*>(k.db)[channel] = static_cast<R>(totals[0]);
  }
  const double weight = k.w ? static_cast<const R*>(k.w)[channel] : R(1);
  const Slope<R> slope(k.training, weight * rstd, rstd, rest, totals[0], totals[1],
                       static_cast<double>(k.batch * k.area));
  const V a = splat<V>(slope.a), b = splat<V>(slope.b), c = splat<V>(slope.c);
  T *dx = static_cast<T*>(k.dx), *dr = static_cast<T*>(k.dresidual);
  stretches(k.batch, k.channels, k.area, channel, true, [&](int64_t at, int64_t length) {
    for_vectors<T>(length, [=](int64_t i, auto tag) {
      const V value = load(x + at + i, tag);
      const V g = passed<MASK>(dy + at, MASK == Mask::from_y ? y + at : y,
                               affine(value, m, scale, offset), most, i, tag);
      put<STREAM>(dx + at + i, a * g + (b * (value - m) + c), tag);
      if (dr) put<STREAM>(dr + at + i, g, tag);
    });
  });
}

template <class T, bool STREAM>
static void plane_norm_backward(const BatchNormBackward& k, int64_t first, int64_t last) {
  const Mask mask = mask_of(k);
  const auto run = mask == Mask::none     ? plane_backward<T, STREAM, Mask::none>
                   : mask == Mask::from_x ? plane_backward<T, STREAM, Mask::from_x>
                                          : plane_backward<T, STREAM, Mask::from_y>;
  for (int64_t c = first; c < last; ++c) run(k, c);
}

static void plane_norm_entry(Type type, const BatchNorm& k, int64_t first, int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    for_store<T>(k.stream && can_stream(k.y, k.area * int64_t(sizeof(T))), [&](auto past_caches) {
      plane_norm<T, decltype(past_caches)::value>(k, first, last);
    });
  });
}

static void plane_norm_backward_entry(Type type, const BatchNormBackward& k, int64_t first,
                                      int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    const int64_t bytes = k.area * int64_t(sizeof(T));
    const bool both = can_stream(k.dx, bytes) && can_stream(k.dresidual, bytes);
    for_store<T>(k.stream && both, [&](auto past_caches) {
      plane_norm_backward<T, decltype(past_caches)::value>(k, first, last);
    });
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
