// Batch norm of planes (batch, channels, area): a block, or a cluster of up to eight, for each channel.
//
// Phases: read and keep the block's share of the channel, sums in shared order, the cluster's blocks
// exchange them, answer from what was kept. One launch forward, one backward: the gradients of weight and
// bias are the channel's sums. A cluster keeps 1.6 MB, a channel of 32 images of 160 x 160 in bf16.
//
// Wins over two kernels wherever a channel fits; evaluation is one pass without measuring.
#include "cuda/batch_norm.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 512;

// How a channel is divided; the same for all channels.
struct Division {
  int64_t units;      // of a channel
  int64_t per_block;  // units
  unsigned kept;      // slots of a thread
};

// The units of a channel that a thread visits, every blockDim-th, forwards and backwards, without a
// division on the way.
struct Walk {
  int64_t image, unit;        // where it is
  int64_t images, units;      // the stride, divided
  int64_t area_units, stride; // units of a plane; elements from image to image
  int64_t base;               // of the channel
  int span;
  __device__ __forceinline__ Walk(const BatchNormShape& s, int64_t channel, int64_t start, int span_)
      : span(span_) {
    area_units = s.area / span;
    image = start / area_units;
    unit = start % area_units;
    images = blockDim.x / area_units;
    units = blockDim.x % area_units;
    stride = s.channels * s.area;
    base = channel * s.area;
  }
  __device__ __forceinline__ int64_t at() const { return base + image * stride + unit * span; }
  __device__ __forceinline__ void next() {
    image += images;
    unit += units;
    if (unit >= area_units) {
      unit -= area_units;
      ++image;
    }
  }
  __device__ __forceinline__ void back() {
    image -= images;
    unit -= units;
    if (unit < 0) {
      unit += area_units;
      --image;
    }
  }
};

// Slots of this thread: its share of the block's share.
__device__ __forceinline__ int64_t slots_of(const Division& d, unsigned rank) {
  const int64_t mine = smaller(d.units - rank * d.per_block, d.per_block) - threadIdx.x;
  return mine <= 0 ? 0 : (mine + blockDim.x - 1) / blockDim.x;
}

template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS) planes(BatchNormForward k, Division d) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  const unsigned tiles = cluster_size(), rank = cluster_rank();
  const int64_t channel = blockIdx.x / tiles, count = k.shape.batch * k.shape.area;
  char* const shared = shared_memory();
  Block team{shared};
  Kept<T, WHOLE> kept{shared + ROW_SHARED};
  const T *const x = static_cast<const T*>(k.x), *const residual = static_cast<const T*>(k.residual);
  T* const y = static_cast<T*>(k.y);
  const int64_t slots = slots_of(d, rank);
  Walk walk(k.shape, channel, rank * d.per_block + threadIdx.x, S);

  Moments<R> m;
  for (int64_t j = 0; j < slots; j += AHEAD) {
    Words v[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j + i < slots) {
        load_span<T, WHOLE>(x + walk.at(), v[i]);
        walk.next();
      }
    R e[AHEAD][S], sum = 0, squares = 0;
    int found = 0;
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j + i < slots) {
        if (j + i < d.kept) kept.put(j + i, v[i]);
        widen_span<T, WHOLE>(v[i], e[i]);
        ++found;
      }
    if (j == 0) {
#pragma unroll
      for (int i = 0; i < AHEAD; ++i)
        if (i < found)
#pragma unroll
          for (int l = 0; l < S; ++l) m.base += e[i][l];
      m.base /= static_cast<R>(found * S);
    }
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (i < found)
#pragma unroll
        for (int l = 0; l < S; ++l) {
          const R step = e[i][l] - m.base;
          sum += step;
          squares += step * step;
        }
    m.sum += sum;
    m.squares += squares;
  }
  // All relative to the first element of the channel, in double.
  const double base = static_cast<double>(widen(x[channel * k.shape.area]));
  m.move_to(base, static_cast<double>(slots * S));
  if (tiles > 1) cluster_barrier();  // their shared memory exists
  team.sums(m.sum, m.squares);
  cluster_sums(shared, m.sum, m.squares);
  const double step = m.sum / static_cast<double>(count);
  const double mean = base + step, left = m.squares - m.sum * step;
  const double squares = left < 0 ? 0 : left;
  const R rstd = rstd_of<R>(squares / static_cast<double>(count), k.eps);
  if (threadIdx.x == 0 && rank == 0) {
    k.mean[channel] = mean;
    k.variance[channel] = unbiased(squares, count);
    static_cast<R*>(k.rstd)[channel] = rstd;
  }
  const Affine<R> f =
      affine<R>(mean, rstd, weight_of<T>(k.w, channel, R(1)), weight_of<T>(k.b, channel, R(0)));
  for (int64_t j = slots - 1; j >= 0; j -= AHEAD) {
    Words v[AHEAD], r[AHEAD];
    int64_t at[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j - i >= 0) {
        walk.back();
        at[i] = walk.at();
        if (j - i < d.kept) v[i] = kept.get(j - i);
        else load_span<T, WHOLE>(x + at[i], v[i]);
        if (residual) load_span<T, WHOLE>(residual + at[i], r[i]);
      }
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j - i >= 0) {
        R e[S], more[S];
        widen_span<T, WHOLE>(v[i], e);
        if (residual) widen_span<T, WHOLE>(r[i], more);
#pragma unroll
        for (int l = 0; l < S; ++l) {
          e[l] = f(e[l]);
          if (residual) e[l] += more[l];
          if (k.relu && e[l] < R(0)) e[l] = 0;
        }
        store_span<T, WHOLE>(y + at[i], e);
      }
  }
}

// Evaluation: blocks are (channel, share of it).
template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS) planes_evaluation(BatchNormForward k, Division d) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  const int64_t channel = blockIdx.x;
  const unsigned share = blockIdx.y;
  const T *const x = static_cast<const T*>(k.x), *const residual = static_cast<const T*>(k.residual);
  T* const y = static_cast<T*>(k.y);
  const double mean = static_cast<double>(parameter<T>(k.running_mean, channel));
  const double variance = static_cast<double>(parameter<T>(k.running_var, channel));
  const R rstd = rstd_of<R>(variance, k.eps);
  if (threadIdx.x == 0 && share == 0) {
    k.mean[channel] = mean;
    k.variance[channel] = variance;
    static_cast<R*>(k.rstd)[channel] = rstd;
  }
  const Affine<R> f =
      affine<R>(mean, rstd, weight_of<T>(k.w, channel, R(1)), weight_of<T>(k.b, channel, R(0)));
  const int64_t slots = slots_of(d, share);
  Walk walk(k.shape, channel, share * d.per_block + threadIdx.x, S);
  for (int64_t j = 0; j < slots; j += AHEAD) {
    Words v[AHEAD], r[AHEAD];
    int64_t at[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j + i < slots) {
        at[i] = walk.at();
        walk.next();
        load_span<T, WHOLE>(x + at[i], v[i]);
        if (residual) load_span<T, WHOLE>(residual + at[i], r[i]);
      }
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j + i < slots) {
        R e[S], more[S];
        widen_span<T, WHOLE>(v[i], e);
        if (residual) widen_span<T, WHOLE>(r[i], more);
#pragma unroll
        for (int l = 0; l < S; ++l) {
          e[l] = f(e[l]);
          if (residual) e[l] += more[l];
          if (k.relu && e[l] < R(0)) e[l] = 0;
        }
        store_span<T, WHOLE>(y + at[i], e);
      }
  }
}

template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS) planes_backward(BatchNormGradient k, Division d) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>, U = AHEAD / 2;  // two inputs
  const unsigned tiles = cluster_size(), rank = cluster_rank();
  const int64_t channel = blockIdx.x / tiles;
  char* const shared = shared_memory();
  Block team{shared};
  Kept<T, WHOLE> kept_x{shared + ROW_SHARED};
  Kept<T, WHOLE> kept_g{shared + ROW_SHARED + int64_t(d.kept) * blockDim.x * Kept<T, WHOLE>::BYTES};
  const T *const x = static_cast<const T*>(k.x), *const dy = static_cast<const T*>(k.dy);
  const T* const y = static_cast<const T*>(k.y);
  T *const dx = static_cast<T*>(k.dx), *const dresidual = static_cast<T*>(k.dresidual);
  const double mean = k.mean[channel];
  const R rstd = static_cast<const R*>(k.rstd)[channel], w = weight_of<T>(k.w, channel, R(1));
  const Affine<R> f = affine<R>(mean, rstd, w, weight_of<T>(k.b, channel, R(0)));
  const int64_t slots = slots_of(d, rank);
  Walk walk(k.shape, channel, rank * d.per_block + threadIdx.x, S);

  // dy where the ReLU let the value through; exactly representable, so it is what is kept.
  const auto gradient = [&](const Words& vx, const Words& vg, int64_t at, R (&e)[S], R (&g)[S]) {
    widen_span<T, WHOLE>(vx, e);
    widen_span<T, WHOLE>(vg, g);
    if (!k.relu) return;
    R out[S];
    if (y) {
      Words vy;
      load_span<T, WHOLE>(y + at, vy);
      widen_span<T, WHOLE>(vy, out);
    }
#pragma unroll
    for (int l = 0; l < S; ++l)
      if (!(y ? out[l] > R(0) : passes<T>(f(e[l])))) g[l] = 0;
  };

  double sum = 0, cross = 0;  // of g, and of g (x - center)
  for (int64_t j = 0; j < slots; j += U) {
    Words vx[U], vg[U];
    int64_t at[U];
#pragma unroll
    for (int i = 0; i < U; ++i)
      if (j + i < slots) {
        at[i] = walk.at();
        walk.next();
        load_span<T, WHOLE>(x + at[i], vx[i]);
        load_span<T, WHOLE>(dy + at[i], vg[i]);
      }
    R some = 0, product = 0;
#pragma unroll
    for (int i = 0; i < U; ++i)
      if (j + i < slots) {
        R e[S], g[S];
        gradient(vx[i], vg[i], at[i], e, g);
        if (dresidual) store_span<T, WHOLE>(dresidual + at[i], g);
#pragma unroll
        for (int l = 0; l < S; ++l) {
          some += g[l];
          product += g[l] * (e[l] - f.center);
        }
        if (j + i < d.kept) {
          kept_x.put(j + i, vx[i]);
          Words masked{};
          if constexpr (WHOLE) masked = narrow(g, T{});
          else put(masked, 0, narrow(g[0], T{}));
          kept_g.put(j + i, masked);
        }
      }
    sum += some;
    cross += product;
  }
  if (tiles > 1) cluster_barrier();  // their shared memory exists
  team.sums(sum, cross);
  cluster_sums(shared, sum, cross);
  const double rest = mean - static_cast<double>(f.center);
  cross -= rest * sum;  // now of g (x - mean)
  if (threadIdx.x == 0 && rank == 0 && k.dw) {
    write_parameter<T>(k.dw, k.real, channel, static_cast<R>(cross * static_cast<double>(rstd)));
    write_parameter<T>(k.db, k.real, channel, static_cast<R>(sum));
  }
  const auto count = static_cast<double>(k.shape.batch * k.shape.area);
  const Slope<R> s = slope_of_sums<R>(sum, cross, rstd, w, count, k.training);
  const R constant = s.rest - s.curve * static_cast<R>(rest);
  for (int64_t j = slots - 1; j >= 0; j -= U) {
    Words vx[U], vg[U];
    int64_t at[U];
#pragma unroll
    for (int i = 0; i < U; ++i)
      if (j - i >= 0) {
        walk.back();
        at[i] = walk.at();
        if (j - i < d.kept) {
          vx[i] = kept_x.get(j - i);
          vg[i] = kept_g.get(j - i);
        } else {
          load_span<T, WHOLE>(x + at[i], vx[i]);
          load_span<T, WHOLE>(dy + at[i], vg[i]);
        }
      }
#pragma unroll
    for (int i = 0; i < U; ++i)
      if (j - i >= 0) {
        R e[S], g[S];
        if (j - i < d.kept) {
          widen_span<T, WHOLE>(vx[i], e);
          widen_span<T, WHOLE>(vg[i], g);
        } else {
          gradient(vx[i], vg[i], at[i], e, g);
        }
#pragma unroll
        for (int l = 0; l < S; ++l)
          g[l] = s.slope * g[l] + (s.curve * (e[l] - f.center) + constant);
        store_span<T, WHOLE>(dx + at[i], g);
      }
  }
}

// A block's share and how much of it is kept, `arrays` of them; and the launch.
template <class T, bool WHOLE>
Shape divide(const BatchNormShape& s, int arrays, const Device& device, Division& d) {
  constexpr int S = SPAN<T, WHOLE>;
  const int64_t bytes = Kept<T, WHOLE>::BYTES * arrays, chip = chip_of(device), half = chip / 2;
  d.units = s.batch * s.area / S;
  Shape shape;
  const unsigned tiles = cluster_for(s.channels, d.units, bytes, THREADS, device);
  d.per_block = divided_up(d.units, tiles);
  shape.threads = threads_for(divided_up(d.per_block, AHEAD), THREADS);
  const int64_t slots = divided_up(d.per_block, shape.threads);
  const int64_t memory = d.per_block * bytes <= half ? half : chip;
  d.kept = static_cast<unsigned>(smaller(slots, memory / (shape.threads * bytes)));
  shape.shared = ROW_SHARED + static_cast<unsigned>(d.kept * shape.threads * bytes);
  shape.cluster = tiles;
  shape.blocks = static_cast<uint64_t>(s.channels) * tiles;
  return shape;
}

}  // namespace

Failure plane_norm(Type type, const BatchNormForward& k, const Device& device) {
  const BatchNormShape& s = k.shape;
  if (!s.batch || !s.channels || !s.area) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool whole =
        s.area % WIDTH<T> == 0 && aligned(k.x) && aligned(k.residual) && aligned(k.y);
    const auto run = [&](auto whole_) {
      constexpr bool WHOLE = decltype(whole_)::value;
      Division d;
      if (k.training) {
        const Shape shape = divide<T, WHOLE>(s, 1, device, d);
        return launch("batch_norm", planes<T, WHOLE>, shape, device, k, d);
      }
      d.units = s.batch * s.area / SPAN<T, WHOLE>;
      d.per_block = larger(int64_t(4) * AHEAD * THREADS, (d.units + 65534) / 65535);
      d.kept = 0;
      Shape shape;
      shape.threads = threads_for(d.units / AHEAD, THREADS);
      shape.blocks = static_cast<uint64_t>(s.channels);
      shape.rows = static_cast<unsigned>((d.units + d.per_block - 1) / d.per_block);
      return launch("batch_norm", planes_evaluation<T, WHOLE>, shape, device, k, d);
    };
    return whole ? run(std::true_type{}) : run(std::false_type{});
  });
}

Failure plane_norm_backward(Type type, const BatchNormGradient& k, const Device& device) {
  const BatchNormShape& s = k.shape;
  if (!s.batch || !s.channels || !s.area) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool whole = s.area % WIDTH<T> == 0 && aligned(k.x) && aligned(k.dy) && aligned(k.y) &&
                       aligned(k.dx) && aligned(k.dresidual);
    const auto run = [&](auto whole_) {
      constexpr bool WHOLE = decltype(whole_)::value;
      Division d;
      const Shape shape = divide<T, WHOLE>(s, 2, device, d);
      return launch("batch_norm_backward", planes_backward<T, WHOLE>, shape, device, k, d);
    };
    return whole ? run(std::true_type{}) : run(std::false_type{});
  });
}

}  // namespace benchbench::cuda
