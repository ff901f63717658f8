// Group norm of planes (NCHW); instance norm is the case of one channel a group. Included once per
// instruction set. Channels last goes through the passes of pixel_norm.h, sample by sample.
//
// Phases, group by group, forward: moments (x read), apply (x read again, planes in reverse order, y
// written). Backward: sums of dy and dy (x - mean) for each plane (both read), gradient (both read
// again in reverse, dx written). A group is contiguous; one of up to about half of L2 is read from
// memory once, so 2n and 3n bytes, else 3n and 5n. The weight's and the bias's gradients are sums of
// the planes' sums over samples, which the caller adds in their order.
//
// Wins over eager, which makes a pass of its own for the scale and shift of each channel.
//
// Numerics: those of batch_norm.h, whose functions do the work.
#pragma once

#include "cpu/batch_norm.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

template <class T, bool STREAM>
static void group_norm(const GroupNorm& k, int64_t first, int64_t last) {
  using R = typename Element<T>::Sum;
  const int64_t planes = k.channels / k.groups, size = planes * k.area;
  const bool asks = 2 * size * int64_t(sizeof(T)) <= two_channels();  // as in batch_norm.h
  for (int64_t group = first; group < last; ++group) {
    const int64_t channel = group % k.groups * planes;
    BatchNorm one{};  // the group as a batch of one sample
    one.batch = 1;
    one.channels = planes;
    one.area = k.area;
    one.x = static_cast<const T*>(k.x) + group * size;
    one.y = static_cast<T*>(k.y) + group * size;
    const Moments all = plane_moments<T, false>(static_cast<const T*>(one.x), nullptr, 1, 1,
                                                size, 0, asks && group > first ? 0 : BLOCK);
    const double variance = all.squares < 0 ? 0 : all.squares / all.count;
    const R rstd = static_cast<R>(1 / std::sqrt(variance + k.eps));
    k.mean[group] = all.mean;
    k.variance[group] = variance;
    static_cast<R*>(k.rstd)[group] = rstd;
    const int64_t next = asks && group + 1 < last ? size : 0;
    for (int64_t plane = planes - 1; plane >= 0; --plane)
      plane_apply<T, STREAM, false, false>(one, plane, {0, 1, true}, next, 0,
                                           Affine<R>(all.mean, rstd, k.w, k.b, channel + plane));
  }
}

template <class T, bool STREAM>
static void group_norm_backward(const GroupNormBackward& k, int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  const int64_t planes = k.channels / k.groups, area = k.area;
  const R* w = static_cast<const R*>(k.w);
  const bool asks = 4 * planes * area * int64_t(sizeof(T)) <= two_channels();
  for (int64_t group = first; group < last; ++group) {
    const int64_t channel = group % k.groups * planes, at = group * planes * area;
    const double mean = k.mean[group], rstd = static_cast<const R*>(k.rstd)[group];
    const R middle = static_cast<R>(mean);
    const double rest = mean - middle;
    const V m = splat<V>(middle);
    const T *dy = static_cast<const T*>(k.dy) + at, *x = static_cast<const T*>(k.x) + at;
    double weighted[2] = {0, 0};  // sums of g = w dy and of g (x - mean) over the group
    for (int64_t plane = 0; plane < planes; ++plane) {
      double totals[2] = {0, 0};
      const T *d = dy + plane * area, *v = x + plane * area;
      sum_range<2, T>(area, totals, [=](int64_t i, auto tag, V* sums) {
        const V g = load(d + i, tag);  // zero past the end
        sums[0] += g;
        sums[1] += g * (load(v + i, tag) - m);
      });
      totals[1] -= rest * totals[0];
      k.sum[group * planes + plane] = totals[0];
      k.product[group * planes + plane] = totals[1];
      const double weight = w ? w[channel + plane] : R(1);
      weighted[0] += weight * totals[0];
      weighted[1] += weight * totals[1];
    }
    const double count = static_cast<double>(planes * area);
    const double curve = -rstd * rstd * rstd * weighted[1] / count;
    const V b = splat<V>(static_cast<R>(curve));
    const V c = splat<V>(static_cast<R>(-rstd * weighted[0] / count - curve * rest));
    T* dx = static_cast<T*>(k.dx) + at;
    const int64_t next = asks && group + 1 < last ? planes * area : 0;
    for (int64_t plane = planes - 1; plane >= 0; --plane) {
      const V a = splat<V>(static_cast<R>(rstd * (w ? w[channel + plane] : R(1))));
      stretches(planes, area, plane, {0, 1, true}, [=](int64_t from, int64_t length, int64_t) {
        for_vectors<T>(length, [=](int64_t i, auto tag) {
          fetch(dy + from + i + next);
          fetch(x + from + i + next);
          const V v = a * load(dy + from + i, tag) + (b * (load(x + from + i, tag) - m) + c);
          put<STREAM>(dx + from + i, v, tag);
        });
      });
    }
  }
}

static void group_norm_entry(Type type, const GroupNorm& k, int64_t first, int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    for_store<T>(k.stream && can_stream(k.y, k.area * int64_t(sizeof(T))), [&](auto past_caches) {
      group_norm<T, decltype(past_caches)::value>(k, first, last);
    });
  });
}

static void group_norm_backward_entry(Type type, const GroupNormBackward& k, int64_t first,
                                      int64_t last) {
  for_type(type, [&](auto element) {
    using T = decltype(element);
    for_store<T>(k.stream && can_stream(k.dx, k.area * int64_t(sizeof(T))), [&](auto past_caches) {
      group_norm_backward<T, decltype(past_caches)::value>(k, first, last);
    });
  });
}

}  // namespace
}  // namespace benchbench::BB_ISA
