// Leaky ReLU with learned slopes (PReLU), one a channel or one for all, over planes: forward (2ne, one
// launch) and backward (3ne, two: the gradient of x with partial sums of the slopes' own, then their
// sums). Channels-last inputs are rows of columns: see biased.cu.
//
// A block has a part of a plane. Planes are cut by size alone, so sums have a fixed order.
#include "cuda/columns.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 256;
constexpr int64_t PART = 32768;  // elements of a plane for a block, at most

struct Slopes {
  int64_t channels, area, parts;
  bool vectors;
};

// The elements [begin, end) of this block, and their channel.
struct Part {
  int64_t plane, number, begin, end;
  __device__ __forceinline__ explicit Part(const Slopes& s) {
    plane = blockIdx.x / s.parts;
    number = blockIdx.x % s.parts;
    begin = plane * s.area + number * PART;
    end = plane * s.area + smaller(s.area, (number + 1) * PART);
  }
  // f(first element, Whole) for whole vectors as far as they go, then for single elements.
  template <int W, class Vector, class One>
  __device__ __forceinline__ void each(bool vectors, Vector vector, One one) const {
    const int64_t whole = vectors ? (end - begin) / W * W : 0;
    for (int64_t i = threadIdx.x * int64_t(W); i < whole; i += int64_t(THREADS) * W) vector(begin + i);
    for (int64_t i = begin + whole + threadIdx.x; i < end; i += THREADS) one(i);
  }
};

template <class T>
__global__ void __launch_bounds__(THREADS) plane_slopes(const T* x, Parameter w, T* y, Slopes s) {
  using R = Real<T>;
  constexpr int W = WIDTH<T>;
  const Part part(s);
  const R slope = parameter<T>(w, part.plane % s.channels);
  part.each<W>(
      s.vectors,
      [&](int64_t at) {
        R e[W];
        widen(load_words(x + at), e, T{});
#pragma unroll
        for (int i = 0; i < W; ++i) e[i] = e[i] > R(0) ? e[i] : e[i] * slope;
        store_words(y + at, narrow(e, T{}));
      },
      [&](int64_t at) {
        const R e = widen(x[at]);
        y[at] = narrow(e > R(0) ? e : e * slope, T{});
      });
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    plane_slopes_backward(const T* dy, const T* x, Parameter w, T* dx, Real<T>* partial, Slopes s) {
  using R = Real<T>;
  constexpr int W = WIDTH<T>;
  Block team{shared_memory()};
  const Part part(s);
  const R slope = parameter<T>(w, part.plane % s.channels);
  R sum = 0;
  part.each<W>(
      s.vectors,
      [&](int64_t at) {
        R e[W], g[W];
        widen(load_words(x + at), e, T{});
        widen(load_words(dy + at), g, T{});
#pragma unroll
        for (int i = 0; i < W; ++i) {
          sum += e[i] > R(0) ? R(0) : g[i] * e[i];
          g[i] = e[i] > R(0) ? g[i] : g[i] * slope;
        }
        store_words(dx + at, narrow(g, T{}));
      },
      [&](int64_t at) {
        const R e = widen(x[at]), g = widen(dy[at]);
        sum += e > R(0) ? R(0) : g * e;
        dx[at] = narrow(e > R(0) ? g : g * slope, T{});
      });
  sum = team.sum(sum);
  // Rows of partial sums are (sample, part), columns the channels.
  if (threadIdx.x == 0)
    partial[(part.plane / s.channels * s.parts + part.number) * s.channels + part.plane % s.channels] =
        sum;
}

Slopes divide(int64_t channels, int64_t area, bool vectors) {
  return {channels, area, (area + PART - 1) / PART, vectors};
}

}  // namespace

Failure slopes(Type type, const void* x, Parameter w, void* y, int64_t batch, int64_t channels,
               int64_t area, const Device& device) {
  if (!batch || !channels || !area) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool vectors = aligned(x) && aligned(y) && (batch * channels == 1 || area % WIDTH<T> == 0);
    const Slopes s = divide(channels, area, vectors);
    Shape shape;
    shape.blocks = static_cast<uint64_t>(batch * channels * s.parts);
    shape.threads = THREADS;
    return launch("prelu", plane_slopes<T>, shape, device, static_cast<const T*>(x), w,
                  static_cast<T*>(y), s);
  });
}

int64_t slopes_partial_rows(int64_t batch, int64_t area) { return batch * ((area + PART - 1) / PART); }

Failure slopes_backward(Type type, const void* dy, const void* x, Parameter w, void* dx, void* dw,
                        void* partial, int64_t batch, int64_t channels, int64_t area,
                        const Device& device) {
  if (!channels) return {};
  Failure failure;
  if (batch && area)
    failure = with_type(type, [&](auto zero) {
      using T = decltype(zero);
      const bool vectors = aligned(dy) && aligned(x) && aligned(dx) &&
                           (batch * channels == 1 || area % WIDTH<T> == 0);
      const Slopes s = divide(channels, area, vectors);
      Shape shape;
      shape.blocks = static_cast<uint64_t>(batch * channels * s.parts);
      shape.threads = THREADS;
      shape.shared = Block::BYTES;
      return launch("prelu_backward", plane_slopes_backward<T>, shape, device, static_cast<const T*>(dy),
                    static_cast<const T*>(x), w, static_cast<T*>(dx), static_cast<Real<T>*>(partial), s);
    });
  if (failure) return failure;
  return sum_columns(type, w.real, partial, dw, nullptr, nullptr, slopes_partial_rows(batch, area),
                     channels, device);
}

}  // namespace benchbench::cuda
