// Batch norm of planes (NCHW), with an optional residual and ReLU. Included once per instruction set.
// pixel_norm.h has the same for channels last.
//
// Phases, channel by channel, forward: moments (x read; training only), apply (x read again, y
// written). Backward: sums (dy and x read; not when they are neither needed nor wanted), gradient
// (both read again, dx written). The second phase takes planes in reverse, so that it begins with what
// the first one left in the cache: a channel of up to about half of L2 is read from memory once.
// Bytes: 2n and 3n for such channels, 3n and 5n for larger ones; a residual adds n forward, its gradient
// n backward. The ReLU's mask is computed again from x, by the same operations as in forward; only with
// a residual forward keeps it, as bits (passed.h). Outputs beyond the last-level cache are streamed past
// it, which leaves the caches to what is read twice.
//
// A channel's planes lie far apart, and at each one the processor's prefetching begins anew; therefore
// all phases ask for lines themselves. Where two channels fit into L2, the second phase, which reads
// L2 and writes memory, asks for the next channel, and the first one, which only reads, for the residual:
// memory is at work in both. Evaluation reads nothing twice and takes planes as they lie in memory.
// Measured on a Zen 5 core, 32x256x56x56: forward 0.7 of the time without it in float32, 0.5 in bfloat16.
//
// Numerics: moments are sums of x - pivot and of its square in short blocks, turned into the block's
// mean and squared deviations and merged in double (Chan, Golub & LeVeque 1979). The pivot of a block
// is the mean of all before, of the first one that of its first stretch: nothing cancels whatever
// mean, outliers or drift the channel has. The mean is subtracted as a float, `middle`, and what
// rounding it left goes into the offset: y = (x - middle) scale + offset, never x scale + offset,
// which would cancel. A channel is one thread's, so results do not depend on their number.
#pragma once

#include "cpu/elementwise.h"
#include "cpu/passed.h"

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

// Planes [first, last) of a channel, in this order or in reverse.
struct Walk {
  int64_t first, last;
  bool reverse;
};

// Which line a walk asks for at each vector: that of so many elements further (0: none, it is there
// already), or that of the next stretch.
constexpr int64_t NEXT_STRETCH = -1;
static inline int64_t led(int64_t lead, int64_t next) { return lead == NEXT_STRETCH ? next : lead; }

// Bytes of two channels that stay in L2 side by side, about.
static inline int64_t two_channels() { return second_level_cache() / 8 * 7; }

constexpr int64_t FEW = 256;  // elements of a plane

// Calls body(offset, length, next) for the stretches of channel c; `next` is the distance of the next
// one. A plane's stretches come forwards always, as the processor's own prefetching wants them.
template <class Body>
static inline void stretches(const int64_t channels, const int64_t area, const int64_t c,
                             const Walk walk, Body body) {
  const int64_t turn = (walk.reverse ? -channels : channels) * area;
  for (int64_t step = 0; step < walk.last - walk.first; ++step) {
    const int64_t plane = walk.reverse ? walk.last - 1 - step : walk.first + step;
    const int64_t at = (plane * channels + c) * area;
    for (int64_t begin = 0; begin < area; begin += BLOCK) {
      const bool last = area - begin <= BLOCK;
      body(at + begin, last ? area - begin : BLOCK, last ? turn - begin : BLOCK);
    }
  }
}

// Asks for the same elements of `also` on the way, which will be read with those of x.
template <class T, bool ALSO>
static Moments plane_moments(const T* x, const T* also, int64_t batch, int64_t channels, int64_t area,
                             int64_t c, int64_t lead) {
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
  stretches(channels, area, c, {0, batch, false}, [&](int64_t at, int64_t length, int64_t next) {
    const V middle = splat<V>(pivot);
    const int64_t ahead = led(lead, next);
    const T *p = x + at, *q = ALSO ? also + at : x;
    sums.add(0, length, [p, q, middle, ahead](int64_t i, auto tag, V* s) {
      fetch(p + i + ahead);
      if constexpr (ALSO) fetch(q + i);
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

// The bits of the stretch at `at`, which begins a byte.
template <class Bits>
static inline Bits* passed_at(Bits* passed, int64_t area, int64_t at) {
  const int64_t plane = at / area;
  return passed + plane * passed_bytes(area) + (at - plane * area) / 8;
}

template <class T, bool STREAM, bool RESIDUAL, bool RELU, bool KEEP = false>
static void plane_apply(const BatchNorm& k, int64_t c, const Walk& walk, int64_t lead,
                        int64_t residual_lead,
                        const Affine<typename Element<T>::Sum>& coefficients) {
  using V = typename Element<T>::V;
  const auto every = [](auto value) {  // pairs.h wants nans without low bits
    if constexpr (PAIRED<T>)
      return plain_nan(splat<V>(value));
    else
      return splat<V>(value);
  };
  const V m = every(coefficients.middle), a = every(coefficients.scale),
          b = every(coefficients.offset), most = splat<V>(k.most);
  stretches(k.channels, k.area, c, walk, [&](int64_t at, int64_t length, int64_t next) {
    const T* x = static_cast<const T*>(k.x) + at;
    const T* r = RESIDUAL ? static_cast<const T*>(k.residual) + at : nullptr;
    T* y = static_cast<T*>(k.y) + at;
    uint8_t* passed = KEEP ? passed_at(k.passed, k.area, at) : nullptr;
    const int64_t ahead = led(lead, next), later = led(residual_lead, next);
    for_pairs<T>(length, [=](int64_t i, auto tag) {
      fetch(x + i + ahead);
      if constexpr (RESIDUAL) fetch(r + i + later);
      const auto in = load(x + i, tag);
      const auto finish = [=](V v) {
        if constexpr (RELU) v = relu_cut(v, most);
        return v;
      };
      auto v = map([=](V v) { return affine(v, m, a, b); }, in);
      if constexpr (RESIDUAL) v = map([](V v, V w) { return v + w; }, v, load(r + i, tag));
      if constexpr (KEEP) put_through<T>(passed, i, v, most, tag);
      put<STREAM>(y + i, map(finish, v), tag);
    });
  });
}

template <class T, bool STREAM>
static void plane_norm(const BatchNorm& k, int64_t first, int64_t last) {
  using R = typename Element<T>::Sum;
  const auto apply =
      !k.residual ? (k.relu ? plane_apply<T, STREAM, false, true> : plane_apply<T, STREAM, false, false>)
      : !k.relu   ? plane_apply<T, STREAM, true, false>
      : k.passed  ? plane_apply<T, STREAM, true, true, true>
                  : plane_apply<T, STREAM, true, true>;
  const auto coefficients = [&](int64_t c) {
    return Affine<R>(k.mean[c], static_cast<const R*>(k.rstd)[c], k.w, k.b, c);
  };
  const auto statistics = [&](int64_t c, double mean, double variance) {
    k.mean[c] = mean;
    k.variance[c] = variance;
    static_cast<R*>(k.rstd)[c] = static_cast<R>(1 / std::sqrt(variance + k.eps));
  };
  if (!k.training) {
    // Nothing is read twice: planes as they lie in memory, unless they are too small to begin anew.
    const int64_t together = k.area < FEW ? k.batch : 1, lead = together == 1 ? BLOCK : NEXT_STRETCH;
    for (int64_t c = first; c < last; ++c)
      statistics(c, static_cast<const R*>(k.running_mean)[c],
                 static_cast<const R*>(k.running_var)[c]);
    for (int64_t plane = 0; plane < k.batch; plane += together)
      for (int64_t c = first; c < last; ++c)
        apply(k, c, {plane, plane + together, false}, lead, lead, coefficients(c));
    return;
  }
  const int64_t bytes = k.batch * k.area * int64_t(sizeof(T));
  // Where they fit into L2: the residual beside x, the next channel beside both.
  const bool here = k.residual && 2 * bytes <= two_channels();
  const bool asks = (k.residual ? 3 : 2) * bytes <= two_channels();
  const auto moments = here ? plane_moments<T, true> : plane_moments<T, false>;
  for (int64_t c = first; c < last; ++c) {
    const Moments all =
        moments(static_cast<const T*>(k.x), static_cast<const T*>(k.residual), k.batch, k.channels,
                k.area, c, asks && c > first ? 0 : NEXT_STRETCH);
    statistics(c, all.mean, all.squares < 0 ? 0 : all.squares / all.count);
    const int64_t lead = asks && c + 1 < last ? k.area : asks || here ? 0 : NEXT_STRETCH;
    apply(k, c, {0, k.batch, true}, lead, here ? 0 : NEXT_STRETCH, coefficients(c));
  }
}

// Where the gradient passes the ReLU.
enum class Mask { none, from_x, kept };

static inline Mask mask_of(const BatchNormBackward& k) {
  return !k.relu ? Mask::none : k.passed ? Mask::kept : Mask::from_x;
}

// The gradient d where it passes: at a value `before` the ReLU, or by the bits that were kept of it.
template <Mask MASK, class T, class V, class M, class Tag>
static inline V through(V d, [[maybe_unused]] V before, [[maybe_unused]] M most,
                        [[maybe_unused]] const uint8_t* passed, [[maybe_unused]] int64_t i,
                        [[maybe_unused]] Tag tag) {
  if constexpr (MASK == Mask::from_x)
    d = map([=](M d, M v) { return is_through(v, most) ? d : M{}; }, d, before);
  if constexpr (MASK == Mask::kept)
    d = map([](M d, auto mask) { return mask ? d : M{}; }, d, get_bits<T>(passed, i, tag));
  return d;
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
static void plane_backward(const BatchNormBackward& k, int64_t channel, int64_t first_lead,
                           int64_t second_lead) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  const double mean = k.mean[channel], rstd = static_cast<const R*>(k.rstd)[channel];
  const Affine<R> forward(mean, rstd, k.w, k.b, channel);
  const V m = splat<V>(forward.middle), scale = splat<V>(forward.scale),
          offset = splat<V>(forward.offset), most = splat<V>(k.most);
  const T *dy = static_cast<const T*>(k.dy), *x = static_cast<const T*>(k.x);
  const auto bits_at = [&](int64_t at) {
    return MASK == Mask::kept ? passed_at(k.passed, k.area, at) : nullptr;
  };
  double totals[2] = {0, 0};
  if (k.training || k.sums) {
    Sums<2, T> sums;
    int64_t pending = 0;
    stretches(k.channels, k.area, channel, {0, k.batch, false},
              [&](int64_t at, int64_t length, int64_t following) {
      const int64_t ahead = led(first_lead, following);
      const uint8_t* passed = bits_at(at);
      sums.add(0, length, [=](int64_t i, auto tag, V* s) {
        const int64_t next = at + i + ahead;
        fetch(x + next);
        fetch(dy + next);
        const V value = load(x + at + i, tag);
        const V g = through<MASK, T>(load(dy + at + i, tag), affine(value, m, scale, offset), most,
                                     passed, i, tag);
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
  stretches(k.channels, k.area, channel, {0, k.batch, true},
            [&](int64_t at, int64_t length, int64_t following) {
    const int64_t ahead = led(second_lead, following);
    const uint8_t* passed = bits_at(at);
    for_vectors<T>(length, [=](int64_t i, auto tag) {
      const int64_t next = at + i + ahead;
      fetch(x + next);
      fetch(dy + next);
      const V value = load(x + at + i, tag);
      const V g = through<MASK, T>(load(dy + at + i, tag), affine(value, m, scale, offset), most,
                                   passed, i, tag);
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
                                          : plane_backward<T, STREAM, Mask::kept>;
  const int64_t bytes = 2 * k.batch * k.area * int64_t(sizeof(T));
  const bool asks = 2 * bytes <= two_channels(), stays = bytes <= two_channels();
  for (int64_t c = first; c < last; ++c)
    run(k, c, asks && c > first ? 0 : NEXT_STRETCH,
        asks && c + 1 < last ? k.area : stays ? 0 : NEXT_STRETCH);
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
