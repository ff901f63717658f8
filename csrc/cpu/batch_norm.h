// Batch norm, with an optional residual and ReLU, for planes (NCHW) and pixels (channels last).
// Included once per instruction set.
//
// Phases of training, forward: moments (x read once), apply (x read again, in reverse order, so that
// what is still in the cache is used first; y written). Backward: sums (dy and x, and y where there
// is a ReLU), gradient (the same again in reverse; dx written). A channel of a plane layout is worked
// on from beginning to end by one thread, so a channel that fits L2 is read from memory once.
//
// Numerics: moments are of x - shift, with the channel's first value as the shift, in float vectors
// over short stretches that are added up in double: a mean of 1e4 with a deviation of 1 loses
// nothing. The application is (x - mean) scale + offset, never x scale + (offset - mean scale), which
// would cancel.
#pragma once

#include "cpu/rows.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t STRETCH = 2048;  // elements that are summed in float before double takes over

template <class T>
static inline double first_value(const T* x) {
  return static_cast<double>(sum_lanes(Element<T>::load(x, 1)));
}

template <class T>
static void plane_moments(const T* x, double* mean, double* variance, int64_t batch,
                          int64_t channels, int64_t area, int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  for (int64_t c = first; c < last; ++c) {
    const double shift = first_value(x + c * area);
    const V middle = splat<V>(shift);
    double sum = 0, square = 0;
    for (int64_t n = 0; n < batch; ++n) {
      const T* plane = x + (n * channels + c) * area;
      for (int64_t begin = 0; begin < area; begin += STRETCH) {
        const int64_t length = area - begin < STRETCH ? area - begin : STRETCH;
        V s = V{}, q = V{};
        for (int64_t i = 0; i < length; i += Element<T>::WIDTH) {
          const int64_t count = length - i < Element<T>::WIDTH ? length - i : Element<T>::WIDTH;
          const V d = keep(load(plane + begin + i, count) - middle, count);
          s += d;
          q += d * d;
        }
        sum += sum_lanes(s);
        square += sum_lanes(q);
      }
    }
    const double count = static_cast<double>(batch * area);
    const double offset = sum / count;
    mean[c] = shift + offset;
    const double spread = square / count - offset * offset;
    variance[c] = spread < 0 ? 0 : spread;
  }
}

// One stretch of one channel, or one pixel over all channels: BY_LANE says whether mean, scale and
// offset are vectors along it or one value.
template <bool BY_LANE, class T>
static inline void apply(const T* x, const T* residual, const typename Element<T>::Sum* mean,
                         const typename Element<T>::Sum* scale,
                         const typename Element<T>::Sum* offset, bool relu, T* y, int64_t length) {
  using V = typename Element<T>::V;
  for (int64_t i = 0; i < length; i += Element<T>::WIDTH) {
    const int64_t count = length - i < Element<T>::WIDTH ? length - i : Element<T>::WIDTH;
    const V m = BY_LANE ? load(mean + i, count) : V{} + *mean;
    const V a = BY_LANE ? load(scale + i, count) : V{} + *scale;
    const V b = BY_LANE ? load(offset + i, count) : V{} + *offset;
    V v = (load(x + i, count) - m) * a + b;
    if (residual) v += load(residual + i, count);
    if (relu) v = Relu::value(v);
    store(y + i, v, count);
  }
}

template <class T>
static void plane_apply(const T* x, const T* residual, const typename Element<T>::Sum* mean,
                        const typename Element<T>::Sum* scale,
                        const typename Element<T>::Sum* offset, bool relu, T* y, int64_t batch,
                        int64_t channels, int64_t area, int64_t first, int64_t last) {
  for (int64_t c = first; c < last; ++c)
    for (int64_t n = batch - 1; n >= 0; --n) {
      const int64_t at = (n * channels + c) * area;
      apply<false, T>(x + at, residual ? residual + at : nullptr, mean + c, scale + c, offset + c,
                      relu, y + at, area);
    }
}

// The gradient that arrives, where the ReLU let the value through.
template <class T>
static inline typename Element<T>::V arriving(const T* dy, const T* y, int64_t i, int64_t count) {
  using V = typename Element<T>::V;
  const V d = load(dy + i, count);
  return y ? (load(y + i, count) > V{} ? d : V{}) : d;
}

template <class T>
static void plane_sums(const T* dy, const T* x, const T* y, const typename Element<T>::Sum* mean,
                       double* sum, double* product, int64_t batch, int64_t channels, int64_t area,
                       int64_t first, int64_t last) {
  using V = typename Element<T>::V;
  for (int64_t c = first; c < last; ++c) {
    const V middle = V{} + mean[c];
    double s = 0, p = 0;
    for (int64_t n = 0; n < batch; ++n) {
      const int64_t at = (n * channels + c) * area;
      for (int64_t begin = 0; begin < area; begin += STRETCH) {
        const int64_t length = area - begin < STRETCH ? area - begin : STRETCH;
        const T* from = x + at + begin;
        V vs = V{}, vp = V{};
        for (int64_t i = 0; i < length; i += Element<T>::WIDTH) {
          const int64_t count = length - i < Element<T>::WIDTH ? length - i : Element<T>::WIDTH;
          const V g = arriving(dy + at + begin, y ? y + at + begin : nullptr, i, count);
          vs += g;
          vp += g * (load(from + i, count) - middle);
        }
        s += sum_lanes(vs);
        p += sum_lanes(vp);
      }
    }
    sum[c] = s;
    product[c] = p;
  }
}

template <bool BY_LANE, class T>
static inline void gradient(const T* dy, const T* x, const T* y,
                            const typename Element<T>::Sum* mean,
                            const typename Element<T>::Sum* a, const typename Element<T>::Sum* b,
                            const typename Element<T>::Sum* c, T* dx, T* dresidual,
                            int64_t length) {
  using V = typename Element<T>::V;
  for (int64_t i = 0; i < length; i += Element<T>::WIDTH) {
    const int64_t count = length - i < Element<T>::WIDTH ? length - i : Element<T>::WIDTH;
    const V m = BY_LANE ? load(mean + i, count) : V{} + *mean;
    const V va = BY_LANE ? load(a + i, count) : V{} + *a;
    const V vb = BY_LANE ? load(b + i, count) : V{} + *b;
    const V vc = BY_LANE ? load(c + i, count) : V{} + *c;
    const V g = arriving(dy, y, i, count);
    store(dx + i, va * g + vb * (load(x + i, count) - m) + vc, count);
    if (dresidual) store(dresidual + i, g, count);
  }
}

template <class T>
static void plane_gradient(const T* dy, const T* x, const T* y,
                           const typename Element<T>::Sum* mean,
                           const typename Element<T>::Sum* a, const typename Element<T>::Sum* b,
                           const typename Element<T>::Sum* c, T* dx, T* dresidual, int64_t batch,
                           int64_t channels, int64_t area, int64_t first, int64_t last) {
  for (int64_t k = first; k < last; ++k)
    for (int64_t n = batch - 1; n >= 0; --n) {
      const int64_t at = (n * channels + k) * area;
      gradient<false, T>(dy + at, x + at, y ? y + at : nullptr, mean + k, a + k, b + k, c + k,
                         dx + at, dresidual ? dresidual + at : nullptr, area);
    }
}

// Channels last. Rows are taken a stretch at a time: float sums by channel, added to the doubles.
constexpr int64_t PIXELS = 64;
constexpr int64_t TILE = 256;  // channels whose float sums stay in L1

template <class T>
static void pixel_moments(const T* x, const typename Element<T>::Sum* shift, double* sum,
                          double* square, int64_t rows, int64_t channels) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  R s[TILE], q[TILE];
  for (int64_t c = 0; c < channels; ++c) sum[c] = square[c] = 0;
  for (int64_t begin = 0; begin < rows; begin += PIXELS) {
    const int64_t end = begin + PIXELS < rows ? begin + PIXELS : rows;
    for (int64_t tile = 0; tile < channels; tile += TILE) {
      const int64_t width = channels - tile < TILE ? channels - tile : TILE;
      for (int64_t i = 0; i < width; ++i) s[i] = q[i] = 0;
      for (int64_t row = begin; row < end; ++row) {
        const T* from = x + row * channels + tile;
        for (int64_t i = 0; i < width; i += Element<T>::WIDTH) {
          const int64_t count = width - i < Element<T>::WIDTH ? width - i : Element<T>::WIDTH;
          const V d = load(from + i, count) - load(shift + tile + i, count);
          store(s + i, load(s + i, count) + d, count);
          store(q + i, load(q + i, count) + d * d, count);
        }
      }
      for (int64_t i = 0; i < width; ++i) {
        sum[tile + i] += s[i];
        square[tile + i] += q[i];
      }
    }
  }
}

template <class T>
static void pixel_apply(const T* x, const T* residual, const typename Element<T>::Sum* mean,
                        const typename Element<T>::Sum* scale,
                        const typename Element<T>::Sum* offset, bool relu, T* y, int64_t rows,
                        int64_t channels) {
  for (int64_t row = rows - 1; row >= 0; --row) {
    const int64_t at = row * channels;
    apply<true, T>(x + at, residual ? residual + at : nullptr, mean, scale, offset, relu, y + at,
                   channels);
  }
}

template <class T>
static void pixel_sums(const T* dy, const T* x, const T* y, const typename Element<T>::Sum* mean,
                       double* sum, double* product, int64_t rows, int64_t channels) {
  using V = typename Element<T>::V;
  using R = typename Element<T>::Sum;
  R s[TILE], p[TILE];
  for (int64_t c = 0; c < channels; ++c) sum[c] = product[c] = 0;
  for (int64_t begin = 0; begin < rows; begin += PIXELS) {
    const int64_t end = begin + PIXELS < rows ? begin + PIXELS : rows;
    for (int64_t tile = 0; tile < channels; tile += TILE) {
      const int64_t width = channels - tile < TILE ? channels - tile : TILE;
      for (int64_t i = 0; i < width; ++i) s[i] = p[i] = 0;
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * channels + tile;
        for (int64_t i = 0; i < width; i += Element<T>::WIDTH) {
          const int64_t count = width - i < Element<T>::WIDTH ? width - i : Element<T>::WIDTH;
          const V g = arriving(dy + at, y ? y + at : nullptr, i, count);
          const V d = load(x + at + i, count) - load(mean + tile + i, count);
          store(s + i, load(s + i, count) + g, count);
          store(p + i, load(p + i, count) + g * d, count);
        }
      }
      for (int64_t i = 0; i < width; ++i) {
        sum[tile + i] += s[i];
        product[tile + i] += p[i];
      }
    }
  }
}

template <class T>
static void pixel_gradient(const T* dy, const T* x, const T* y,
                           const typename Element<T>::Sum* mean,
                           const typename Element<T>::Sum* a, const typename Element<T>::Sum* b,
                           const typename Element<T>::Sum* c, T* dx, T* dresidual, int64_t rows,
                           int64_t channels) {
  for (int64_t row = rows - 1; row >= 0; --row) {
    const int64_t at = row * channels;
    gradient<true, T>(dy + at, x + at, y ? y + at : nullptr, mean, a, b, c, dx + at,
                      dresidual ? dresidual + at : nullptr, channels);
  }
}

#define BB_TYPED(type, ...)                  \
  for_type(type, [=](auto element) {         \
    using T = decltype(element);             \
    using R [[maybe_unused]] = typename Element<T>::Sum; \
    __VA_ARGS__;                             \
  })

static void plane_moments_entry(Type type, const void* x, double* mean, double* variance,
                                int64_t batch, int64_t channels, int64_t area, int64_t first,
                                int64_t last) {
  BB_TYPED(type, plane_moments<T>((const T*)x, mean, variance, batch, channels, area, first, last));
}

static void plane_apply_entry(Type type, const void* x, const void* residual, const void* mean,
                              const void* scale, const void* offset, bool relu, void* y,
                              int64_t batch, int64_t channels, int64_t area, int64_t first,
                              int64_t last) {
  BB_TYPED(type, plane_apply<T>((const T*)x, (const T*)residual, (const R*)mean, (const R*)scale,
                                (const R*)offset, relu, (T*)y, batch, channels, area, first, last));
}

static void plane_sums_entry(Type type, const void* dy, const void* x, const void* y,
                             const void* mean, double* sum, double* product, int64_t batch,
                             int64_t channels, int64_t area, int64_t first, int64_t last) {
  BB_TYPED(type, plane_sums<T>((const T*)dy, (const T*)x, (const T*)y, (const R*)mean, sum, product,
                               batch, channels, area, first, last));
}

static void plane_gradient_entry(Type type, const void* dy, const void* x, const void* y,
                                 const void* mean, const void* a, const void* b, const void* c,
                                 void* dx, void* dresidual, int64_t batch, int64_t channels,
                                 int64_t area, int64_t first, int64_t last) {
  BB_TYPED(type, plane_gradient<T>((const T*)dy, (const T*)x, (const T*)y, (const R*)mean,
                                   (const R*)a, (const R*)b, (const R*)c, (T*)dx, (T*)dresidual,
                                   batch, channels, area, first, last));
}

static void pixel_moments_entry(Type type, const void* x, const void* shift, double* sum,
                                double* square, int64_t rows, int64_t channels) {
  BB_TYPED(type, pixel_moments<T>((const T*)x, (const R*)shift, sum, square, rows, channels));
}

static void pixel_apply_entry(Type type, const void* x, const void* residual, const void* mean,
                              const void* scale, const void* offset, bool relu, void* y,
                              int64_t rows, int64_t channels) {
  BB_TYPED(type, pixel_apply<T>((const T*)x, (const T*)residual, (const R*)mean, (const R*)scale,
                                (const R*)offset, relu, (T*)y, rows, channels));
}

static void pixel_sums_entry(Type type, const void* dy, const void* x, const void* y,
                             const void* mean, double* sum, double* product, int64_t rows,
                             int64_t channels) {
  BB_TYPED(type, pixel_sums<T>((const T*)dy, (const T*)x, (const T*)y, (const R*)mean, sum, product,
                               rows, channels));
}

static void pixel_gradient_entry(Type type, const void* dy, const void* x, const void* y,
                                 const void* mean, const void* a, const void* b, const void* c,
                                 void* dx, void* dresidual, int64_t rows, int64_t channels) {
  BB_TYPED(type, pixel_gradient<T>((const T*)dy, (const T*)x, (const T*)y, (const R*)mean,
                                   (const R*)a, (const R*)b, (const R*)c, (T*)dx, (T*)dresidual,
                                   rows, channels));
}

}  // namespace
}  // namespace benchbench::BB_ISA
