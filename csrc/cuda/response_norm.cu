// Local response norm, forward and backward, one launch each.
//
//   y = x / s^beta,  s_c = k + scale (sum of x^2 over the window of c)
//   dx = dy / s^beta - 2 scale beta x (sum of t over the channels whose window holds this one),
//   t = dy x / s^(beta + 1)
//
// Planes: a thread has a vector of positions and walks down the channels. A window's channels are read
// again from the first level of the cache, where the thread has just put them; backward, t and dy / s^beta
// wait in shared memory (the thread's own, so without barriers) until their window is complete:
//
//   channel   ... c - after ........ c ........ c + before ............... newest x
//   t ring        └──────────── its window ────────────┘
//   answered                         c         c + before is the last whose s is known
//
// Pixels: a thread has single channels; backward, the block's t lie in shared memory, with those of the
// window beyond its tile.
//
// Bytes: 2ne forward, 3ne backward; eager pads, pools in three dimensions, multiplies, adds, raises and
// divides, a kernel each. A window is summed anew for each channel, first to last, as on the CPU: a running
// sum would carry its rounding through all channels. So work grows with the window, traffic does not.
//
// s^0.75 is sqrt(s) sqrt(sqrt(s)), s^0.5 one root; other exponents ask the mathematical library.
#include "cuda/columns.h"
#include "cuda/support/quotient.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 256;
constexpr int64_t PIXEL_TILE = 2048;  // elements of a block

enum class Power { three_quarters, half, one, any };

Power power_of(double beta) {
  return beta == 0.75 ? Power::three_quarters : beta == 0.5 ? Power::half : beta == 1 ? Power::one : Power::any;
}

template <class R>
struct Formula {
  R scale, k, beta, twice;  // twice: 2 scale beta
  Power power;
  explicit Formula(const ResponseWindow& w)
      : scale(static_cast<R>(w.scale)), k(static_cast<R>(w.k)), beta(static_cast<R>(w.beta)),
        twice(static_cast<R>(2 * w.scale * w.beta)), power(power_of(w.beta)) {}

  // x / s^beta
  template <bool PRECISE>
  __device__ __forceinline__ R divided(R x, R s) const {
    if constexpr (PRECISE) {
      if (power == Power::one) return x / s;
      if (power == Power::any) return x / raised(s);
      const R root = sqrt_of(s);
      return x / (power == Power::half ? root : root * sqrt_of(root));
    } else {
      if (power == Power::one) return x * reciprocal_fast(s);
      if (power == Power::any) return x * reciprocal_fast(raised(s));
      const R inverse = reciprocal_root_fast(s);
      if (power == Power::half) return x * inverse;
      return x * (inverse * inverse) * reciprocal_root_fast(inverse);
    }
  }
  template <bool PRECISE>
  __device__ __forceinline__ static R over(R x, R s) {
    if constexpr (PRECISE) return x / s;
    else return x * reciprocal_fast(s);
  }

 private:
  __device__ __forceinline__ R raised(R s) const {
    if constexpr (sizeof(R) == 4) return powf(s, beta);
    else return pow(s, beta);
  }
};

// ---- planes ----

struct Walk {
  int64_t units;      // positions of all samples, in vectors or elements
  int64_t area_units;
  int64_t per_chunk;  // channels that a thread answers
  unsigned ring;      // entries of t; those of dy / s^beta are before + 1
};

// A thread's entries in shared memory, SPAN reals each.
template <class R, int S>
struct Ring {
  R* memory;
  unsigned entries, next = 0;
  __device__ __forceinline__ void put(const R (&v)[S]) {
    R* const to = at(next);
#pragma unroll
    for (int i = 0; i < S; ++i) to[i] = v[i];
    if (++next == entries) next = 0;
  }
  // Entry `age` puts ago, 1 the newest.
  __device__ __forceinline__ R* before(unsigned age) const {
    return at(next >= age ? next - age : next + entries - age);
  }

 private:
  __device__ __forceinline__ R* at(unsigned entry) const {
    return memory + (int64_t(entry) * blockDim.x + threadIdx.x) * S;
  }
};

template <class T, bool WHOLE>
__device__ __forceinline__ void load_near(const T* p, Real<T> (&e)[SPAN<T, WHOLE>]) {
  if constexpr (WHOLE) widen(load_words_near(p), e, T{});
  else e[0] = widen(*p);
}

// s of channel c; `x` is the sample's first channel at this position.
template <class T, bool WHOLE>
__device__ __forceinline__ void plane_sum(const T* x, const ResponseNormShape& shape,
                                          const ResponseWindow& w, const Formula<Real<T>>& f, int64_t c,
                                          Real<T> (&s)[SPAN<T, WHOLE>]) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
#pragma unroll
  for (int i = 0; i < S; ++i) s[i] = 0;
  const int64_t last = smaller(c + w.after, shape.channels - 1);
#pragma unroll 2
  for (int64_t j = larger(c - w.before, int64_t(0)); j <= last; ++j) {
    R e[S];
    load_near<T, WHOLE>(x + j * shape.area, e);
#pragma unroll
    for (int i = 0; i < S; ++i) s[i] += e[i] * e[i];
  }
#pragma unroll
  for (int i = 0; i < S; ++i) s[i] = f.k + f.scale * s[i];
}

// Where this thread's positions are, at channel 0; negative where there are none.
__device__ __forceinline__ int64_t position(const ResponseNormShape& shape, const Walk& walk, int span) {
  const int64_t unit = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (unit >= walk.units) return -1;
  const int64_t sample = unit / walk.area_units;
  return sample * shape.channels * shape.area + (unit - sample * walk.area_units) * span;
}

template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS)
    response_planes(const T* x, T* y, ResponseNormShape shape, ResponseWindow w, Formula<Real<T>> f,
                    Walk walk) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  const int64_t at = position(shape, walk, S);
  if (at < 0) return;
  const int64_t first = int64_t(blockIdx.y) * walk.per_chunk;
  for (int64_t c = first; c < smaller(first + walk.per_chunk, shape.channels); ++c) {
    R s[S], e[S];
    plane_sum<T, WHOLE>(x + at, shape, w, f, c, s);
    load_near<T, WHOLE>(x + at + c * shape.area, e);
#pragma unroll
    for (int i = 0; i < S; ++i) e[i] = f.template divided<sizeof(T) >= 4>(e[i], s[i]);
    store_span<T, WHOLE>(y + at + c * shape.area, e);
  }
}

template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS)
    response_planes_backward(const T* dy, const T* x, T* dx, ResponseNormShape shape, ResponseWindow w,
                             Formula<Real<T>> f, Walk walk) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  constexpr bool PRECISE = sizeof(T) >= 4;
  const int64_t at = position(shape, walk, S);
  if (at < 0) return;
  R* const memory = reinterpret_cast<R*>(shared_memory());
  Ring<R, S> shares{memory, walk.ring};
  Ring<R, S> direct{memory + int64_t(walk.ring) * blockDim.x * S, static_cast<unsigned>(w.before) + 1};
  const int64_t first = int64_t(blockIdx.y) * walk.per_chunk;
  const int64_t end = smaller(first + walk.per_chunk, shape.channels);
  // `c` is the channel whose t is found, c - before the one that is answered.
  for (int64_t c = first - w.after; c < end + w.before; ++c) {
    R t[S] = {}, own[S] = {};
    if (c >= 0 && c < shape.channels) {
      R s[S], e[S], g[S];
      plane_sum<T, WHOLE>(x + at, shape, w, f, c, s);
      load_near<T, WHOLE>(x + at + c * shape.area, e);
      Words v;
      load_span<T, WHOLE>(dy + at + c * shape.area, v);
      widen_span<T, WHOLE>(v, g);
#pragma unroll
      for (int i = 0; i < S; ++i) {
        own[i] = f.template divided<PRECISE>(g[i], s[i]);
        t[i] = Formula<R>::template over<PRECISE>(own[i] * e[i], s[i]);
      }
    }
    shares.put(t);
    direct.put(own);
    const int64_t answered = c - w.before;
    if (answered < first) continue;
    R around[S] = {}, e[S];
    for (unsigned age = walk.ring; age > 0; --age) {
      const R* const one = shares.before(age);
#pragma unroll
      for (int i = 0; i < S; ++i) around[i] += one[i];
    }
    load_near<T, WHOLE>(x + at + answered * shape.area, e);
    const R* const kept = direct.before(direct.entries);
#pragma unroll
    for (int i = 0; i < S; ++i) e[i] = kept[i] - f.twice * e[i] * around[i];
    store_span<T, WHOLE>(dx + at + answered * shape.area, e);
  }
}

// ---- pixels ----

struct PixelTile {
  int64_t rows;      // of the whole input
  int64_t per_block; // rows
  int64_t wide;      // channels of a tile
  Quotient channel;  // of an element, by the channels (forward) or by the tile with its window (backward)
};

// s of channel c of the row at `x`.
template <class T>
__device__ __forceinline__ Real<T> pixel_sum(const T* x, int64_t channels, const ResponseWindow& w,
                                             const Formula<Real<T>>& f, int64_t c) {
  using R = Real<T>;
  R s = 0;
  const int64_t last = smaller(c + w.after, channels - 1);
#pragma unroll 4
  for (int64_t j = larger(c - w.before, int64_t(0)); j <= last; ++j) {
    const R e = widen(x[j]);
    s += e * e;
  }
  return f.k + f.scale * s;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    response_pixels(const T* x, T* y, ResponseNormShape shape, ResponseWindow w, Formula<Real<T>> f,
                    PixelTile tile) {
  const int64_t first = int64_t(blockIdx.x) * tile.per_block;
  const int64_t rows = smaller(tile.per_block, tile.rows - first);
  const T* const from = x + first * shape.channels;
  T* const to = y + first * shape.channels;
  for (int64_t i = threadIdx.x; i < rows * shape.channels; i += THREADS) {
    const int64_t row = tile.channel(i), c = i - row * shape.channels;
    const Real<T> s = pixel_sum(from + row * shape.channels, shape.channels, w, f, c);
    to[i] = narrow(f.template divided<sizeof(T) >= 4>(widen(from[i]), s), T{});
  }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    response_pixels_backward(const T* dy, const T* x, T* dx, ResponseNormShape shape, ResponseWindow w,
                             Formula<Real<T>> f, PixelTile tile) {
  using R = Real<T>;
  constexpr bool PRECISE = sizeof(T) >= 4;
  const int64_t first = int64_t(blockIdx.x) * tile.per_block;
  const int64_t rows = smaller(tile.per_block, tile.rows - first);
  const int64_t channel = int64_t(blockIdx.y) * tile.wide, channels = shape.channels;
  const int64_t all = tile.wide + w.before + w.after;  // t of `after` channels before the tile, ...
  R* const shares = reinterpret_cast<R*>(shared_memory());
  R* const direct = shares + tile.per_block * all;
  for (int64_t i = threadIdx.x; i < rows * all; i += THREADS) {
    const int64_t row = tile.channel(i), c = channel + (i - row * all) - w.after;
    R t = 0, own = 0;
    if (c >= 0 && c < channels) {
      const T* const from = x + (first + row) * channels;
      const R s = pixel_sum(from, channels, w, f, c);
      own = f.template divided<PRECISE>(widen(dy[(first + row) * channels + c]), s);
      t = Formula<R>::template over<PRECISE>(own * widen(from[c]), s);
    }
    shares[i] = t;
    direct[i] = own;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < rows * all; i += THREADS) {
    const int64_t row = tile.channel(i), local = i - row * all - w.after, c = channel + local;
    if (local < 0 || local >= tile.wide || c >= channels) continue;
    R around = 0;
    for (int64_t j = i - w.after; j <= i + w.before; ++j) around += shares[j];
    const int64_t at = (first + row) * channels + c;
    dx[at] = narrow(direct[i] - f.twice * widen(x[at]) * around, T{});
  }
}

// ---- launches ----

// Windows beyond the channels hold nothing more.
ResponseWindow clipped(ResponseWindow w, int64_t channels) {
  w.before = smaller(w.before, channels - 1);
  w.after = smaller(w.after, channels - 1);
  return w;
}

Failure too_large(const char* name, const ResponseWindow& w) {
  Failure failure;
  std::snprintf(failure.text, sizeof failure.text,
                "%s: the gradient of a window of %lld channels does not fit into shared memory; use a "
                "smaller size",
                name, static_cast<long long>(w.before + w.after + 1));
  return failure;
}

// Threads for all positions; where these are too few for the processors, channels are cut too. What the
// windows need across a cut is read twice.
Shape walk_shape(const ResponseNormShape& s, const ResponseWindow& w, int span, unsigned threads,
                 const Device& device, Walk& walk) {
  walk.area_units = s.area / span;
  walk.units = s.batch * walk.area_units;
  walk.ring = static_cast<unsigned>(w.before + w.after + 1);
  Shape shape;
  shape.threads = threads;
  shape.blocks = static_cast<uint64_t>(divided_up(walk.units, threads));
  const int64_t wanted = divided_up(int64_t(device.processors) * 2048, walk.units);
  const int64_t most = larger(s.channels / (4 * int64_t(walk.ring)), int64_t(1));
  const int64_t chunks = smaller(smaller(wanted, most), int64_t(65535));
  walk.per_chunk = divided_up(s.channels, chunks);
  shape.rows = static_cast<unsigned>(divided_up(s.channels, walk.per_chunk));
  return shape;
}

template <class T, bool WHOLE>
Failure planes_backward(const ResponseNormShape& s, const ResponseWindow& w, const T* dy, const T* x, T* dx,
                        const Device& device) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  const int64_t bytes = (2 * w.before + w.after + 2) * S * int64_t(sizeof(R));  // of a thread
  unsigned threads = THREADS;
  while (threads > 32 && threads * bytes > int64_t(48) * 1024) threads /= 2;
  if (threads * bytes > device.shared) {
    if constexpr (WHOLE) return planes_backward<T, false>(s, w, dy, x, dx, device);
    return too_large("response_norm_backward", w);
  }
  Walk walk;
  Shape shape = walk_shape(s, w, S, threads, device, walk);
  shape.shared = static_cast<unsigned>(threads * bytes);
  return launch("response_norm_backward", response_planes_backward<T, WHOLE>, shape, device, dy, x, dx, s,
                w, Formula<R>(w), walk);
}

}  // namespace

Failure response_norm(Type type, const ResponseNormShape& s, const ResponseWindow& given, const void* x_,
                      void* y_, const Device& device) {
  if (!s.batch || !s.channels || !s.area) return {};
  const ResponseWindow w = clipped(given, s.channels);
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using R = Real<T>;
    const T* const x = static_cast<const T*>(x_);
    T* const y = static_cast<T*>(y_);
    if (s.pixels) {
      const int64_t rows = s.batch * s.area;
      const int64_t per_block = larger(PIXEL_TILE / s.channels, int64_t(1));
      const PixelTile tile{rows, per_block, s.channels, Quotient(s.channels, per_block * s.channels)};
      Shape shape;
      shape.threads = THREADS;
      shape.blocks = static_cast<uint64_t>(divided_up(rows, per_block));
      return launch("response_norm", response_pixels<T>, shape, device, x, y, s, w, Formula<R>(w), tile);
    }
    const auto run = [&](auto whole) {
      constexpr bool WHOLE = decltype(whole)::value;
      Walk walk;
      const Shape shape = walk_shape(s, w, SPAN<T, WHOLE>, THREADS, device, walk);
      return launch("response_norm", response_planes<T, WHOLE>, shape, device, x, y, s, w, Formula<R>(w),
                    walk);
    };
    return s.area % WIDTH<T> == 0 && aligned(x) && aligned(y) ? run(std::true_type{})
                                                              : run(std::false_type{});
  });
}

Failure response_norm_backward(Type type, const ResponseNormShape& s, const ResponseWindow& given,
                               const void* dy_, const void* x_, void* dx_, const Device& device) {
  if (!s.batch || !s.channels || !s.area) return {};
  const ResponseWindow w = clipped(given, s.channels);
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using R = Real<T>;
    const T *const dy = static_cast<const T*>(dy_), *const x = static_cast<const T*>(x_);
    T* const dx = static_cast<T*>(dx_);
    if (s.pixels) {
      const int64_t rows = s.batch * s.area, wide = smaller(s.channels, int64_t(1024));
      const int64_t all = wide + w.before + w.after;
      const int64_t per_block = larger(PIXEL_TILE / all, int64_t(1));
      const int64_t bytes = 2 * per_block * all * int64_t(sizeof(R));
      const int64_t tiles = divided_up(s.channels, wide);
      if (bytes > device.shared || tiles > 65535)
        return too_large("response_norm_backward", w);
      const PixelTile tile{rows, per_block, wide, Quotient(all, per_block * all)};
      Shape shape;
      shape.threads = THREADS;
      shape.blocks = static_cast<uint64_t>(divided_up(rows, per_block));
      shape.rows = static_cast<unsigned>(tiles);
      shape.shared = static_cast<unsigned>(bytes);
      return launch("response_norm_backward", response_pixels_backward<T>, shape, device, dy, x, dx, s, w,
                    Formula<R>(w), tile);
    }
    return s.area % WIDTH<T> == 0 && aligned(x) && aligned(dy) && aligned(dx)
               ? planes_backward<T, true>(s, w, dy, x, dx, device)
               : planes_backward<T, false>(s, w, dy, x, dx, device);
  });
}

}  // namespace benchbench::cuda
