// Batch norm of pixels (channels last): one cooperative launch forward, one backward.
//
// All blocks, one a processor, share a tile of channels at a time: each has its part of the rows, reads
// them once and keeps them in shared memory (26 MB on 132 processors), writes what it measured, waits
// for the others at the grid's barrier, adds up all of it in their order (every block does, rather than
// wait again), and answers from what it kept. Tiles are at least 64 bytes wide, wider where that still
// fits. What does not fit is read again, last first.
//
// Where the device refuses a cooperative launch, the two phases are two launches and nothing is kept.
// Evaluation is the second phase alone.
#include "cuda/batch_norm.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 512;
constexpr int64_t WIDE = 512;  // channels of a tile, at most: one for each thread

struct Tiling {
  unsigned across;    // threads side by side, a power of two
  int64_t tiles;      // of channels
  int64_t per_block;  // rows
  unsigned kept;      // slots of a thread
  bool measure, answer;
};

constexpr int MEASURE = 1, ANSWER = 2;

// Shared memory in front of what is kept: two doubles a thread, and six reals a channel.
template <class R>
constexpr int64_t TABLES = THREADS * 2 * sizeof(double) + WIDE * 6 * sizeof(R);

// Of the thread's columns in a tile, and its rows.
template <class T, bool WHOLE>
struct Pixel {
  int64_t column, first, slots, step;
  __device__ __forceinline__ Pixel(int64_t rows, int64_t channels, const Tiling& t, int64_t tile) {
    column = (tile * t.across + threadIdx.x % t.across) * (SPAN<T, WHOLE>);
    step = blockDim.x / t.across;
    first = int64_t(blockIdx.x) * t.per_block + threadIdx.x / t.across;
    const int64_t last = smaller(rows, (int64_t(blockIdx.x) + 1) * t.per_block);
    slots = column < channels && first < last ? (last - first + step - 1) / step : 0;
  }
  __device__ __forceinline__ int64_t row(int64_t slot) const { return first + slot * step; }
};

// Rows of a block.
__device__ __forceinline__ int64_t rows_of_block(int64_t block, int64_t rows, int64_t per_block) {
  const int64_t left = rows - block * per_block;
  return left < 0 ? 0 : smaller(left, per_block);
}

template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS) pixels(BatchNormForward k, Tiling t, Measure* between,
                                                  unsigned measured_blocks) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>, U = AHEAD / 2;  // U where coefficients take registers
  const int64_t rows = k.shape.batch * k.shape.area, channels = k.shape.channels;
  char* const memory = shared_memory();
  auto* const shared = reinterpret_cast<double*>(memory);
  R* const table = reinterpret_cast<R*>(memory + THREADS * 2 * sizeof(double));
  Kept<T, WHOLE> kept{memory + TABLES<R>};
  const T *const x = static_cast<const T*>(k.x), *const residual = static_cast<const T*>(k.residual);
  T* const y = static_cast<T*>(k.y);
  const int64_t wide = int64_t(t.across) * S;

  for (int64_t tile = 0; tile < t.tiles; ++tile) {
    const Pixel<T, WHOLE> p(rows, channels, t, tile);
    if (t.measure) {
      Moments<R> m[S];
      column_moments<T, WHOLE>(
          p.slots, [&](int64_t j) { return x + p.row(j) * channels + p.column; },
          [&](int64_t j, const Words& v) {
            if (j < t.kept) kept.put(j, v);
          },
          m);
      const int64_t mine = rows_of_block(blockIdx.x, rows, t.per_block);
#pragma unroll
      for (int l = 0; l < S; ++l) {
        // Relative to the first element of the channel, which all threads know.
        const bool there = p.column < channels;
        const double first = there ? static_cast<double>(widen(x[p.column + l])) : 0;
        m[l].move_to(first, static_cast<double>(p.slots));
        add_down(shared, t.across, m[l].sum, m[l].squares);
        if (threadIdx.x < t.across && there) {
          const double step = mine ? m[l].sum / static_cast<double>(mine) : 0;
          between[blockIdx.x * channels + p.column + l] = {first + step, m[l].squares - m[l].sum * step};
        }
      }
      if (!t.answer) continue;
      grid_barrier();
    }
    const auto write_table = [&](int64_t local, int64_t channel, double mean, R rstd) {
      const Affine<R> f =
          affine<R>(mean, rstd, weight_of<T>(k.w, channel, R(1)), weight_of<T>(k.b, channel, R(0)));
      table[local] = f.center;
      table[WIDE + local] = f.scale;
      table[2 * WIDE + local] = f.shift;
    };
    const auto write_statistics = [&](int64_t channel, double mean, double variance, R rstd) {
      if (blockIdx.x != 0) return;
      k.mean[channel] = mean;
      k.variance[channel] = variance;
      static_cast<R*>(k.rstd)[channel] = rstd;
    };
    if (k.training) {
      // Chan, Golub & LeVeque 1979, around the first block's mean.
      const int64_t parts = blockDim.x / wide, local = threadIdx.x % wide;
      const int64_t channel = tile * wide + local;
      double sum = 0, squares = 0;
      if (channel < channels)
        for (int64_t block = threadIdx.x / wide; block < measured_blocks; block += parts) {
          const Measure one = between[block * channels + channel];
          const double step = one.a - between[channel].a;
          const auto count = static_cast<double>(rows_of_block(block, rows, t.per_block));
          sum += count * step;
          squares += one.b + count * step * step;
        }
      add_down(shared, static_cast<unsigned>(wide), sum, squares);
      if (threadIdx.x < wide && channel < channels) {
        const double step = sum / static_cast<double>(rows), left = squares - sum * step;
        const double mean = between[channel].a + step, all = left < 0 ? 0 : left;
        const R rstd = rstd_of<R>(all / static_cast<double>(rows), k.eps);
        write_table(local, channel, mean, rstd);
        write_statistics(channel, mean, unbiased(all, rows), rstd);
      }
    } else if (threadIdx.x < wide && tile * wide + threadIdx.x < channels) {
      const int64_t channel = tile * wide + threadIdx.x;
      const auto variance = static_cast<double>(parameter<T>(k.running_var, channel));
      const auto mean = static_cast<double>(parameter<T>(k.running_mean, channel));
      const R rstd = rstd_of<R>(variance, k.eps);
      write_table(threadIdx.x, channel, mean, rstd);
      write_statistics(channel, mean, variance, rstd);
    }
    __syncthreads();
    Affine<R> f[S];
    const int64_t local = threadIdx.x % t.across * int64_t(S);
#pragma unroll
    for (int l = 0; l < S; ++l)
      f[l] = {table[local + l], table[WIDE + local + l], table[2 * WIDE + local + l]};
    for (int64_t j = p.slots - 1; j >= 0; j -= U) {
      Words v[U], r[U];
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          const int64_t at = p.row(j - i) * channels + p.column;
          if (t.measure && j - i < t.kept) v[i] = kept.get(j - i);
          else load_span<T, WHOLE>(x + at, v[i]);
          if (residual) load_span<T, WHOLE>(residual + at, r[i]);
        }
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          R e[S], more[S];
          widen_span<T, WHOLE>(v[i], e);
          if (residual) widen_span<T, WHOLE>(r[i], more);
#pragma unroll
          for (int l = 0; l < S; ++l) {
            e[l] = f[l](e[l]);
            if (residual) e[l] += more[l];
            if (k.relu && e[l] < R(0)) e[l] = 0;
          }
          store_span<T, WHOLE>(y + p.row(j - i) * channels + p.column, e);
        }
    }
    __syncthreads();  // the table is free for the next tile
  }
}

template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS) pixels_backward(BatchNormGradient k, Tiling t,
                                                           Measure* between,
                                                           unsigned measured_blocks) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>, U = AHEAD / 2;  // two inputs
  const int64_t rows = k.shape.batch * k.shape.area, channels = k.shape.channels;
  char* const memory = shared_memory();
  auto* const shared = reinterpret_cast<double*>(memory);
  R* const table = reinterpret_cast<R*>(memory + THREADS * 2 * sizeof(double));
  Kept<T, WHOLE> kept_x{memory + TABLES<R>};
  Kept<T, WHOLE> kept_g{memory + TABLES<R> + int64_t(t.kept) * blockDim.x * Kept<T, WHOLE>::BYTES};
  const T *const x = static_cast<const T*>(k.x), *const dy = static_cast<const T*>(k.dy);
  const T* const y = static_cast<const T*>(k.y);
  T *const dx = static_cast<T*>(k.dx), *const dresidual = static_cast<T*>(k.dresidual);
  const int64_t wide = int64_t(t.across) * S;

  for (int64_t tile = 0; tile < t.tiles; ++tile) {
    const Pixel<T, WHOLE> p(rows, channels, t, tile);
    // center, scale, shift of the forward.
    if (threadIdx.x < wide && tile * wide + threadIdx.x < channels) {
      const int64_t channel = tile * wide + threadIdx.x;
      const Affine<R> f = affine<R>(k.mean[channel], static_cast<const R*>(k.rstd)[channel],
                                    weight_of<T>(k.w, channel, R(1)), weight_of<T>(k.b, channel, R(0)));
      table[threadIdx.x] = f.center;
      table[WIDE + threadIdx.x] = f.scale;
      table[2 * WIDE + threadIdx.x] = f.shift;
    }
    __syncthreads();
    const int64_t local = threadIdx.x % t.across * int64_t(S);
    const auto gradient = [&](const Words& vx, const Words& vg, int64_t at, R (&e)[S], R (&g)[S]) {
      widen_span<T, WHOLE>(vx, e);
      widen_span<T, WHOLE>(vg, g);
      if (k.relu && y) {
        Words vy;
        R out[S];
        load_span<T, WHOLE>(y + at, vy);
        widen_span<T, WHOLE>(vy, out);
#pragma unroll
        for (int l = 0; l < S; ++l)
          if (!(out[l] > R(0))) g[l] = 0;
      } else if (k.relu) {
#pragma unroll
        for (int l = 0; l < S; ++l) {
          const Affine<R> f{table[local + l], table[WIDE + local + l], table[2 * WIDE + local + l]};
          if (!passes<T>(f(e[l]))) g[l] = 0;
        }
      }
#pragma unroll
      for (int l = 0; l < S; ++l) e[l] -= table[local + l];
    };
    if (t.measure) {
      double sum[S] = {}, cross[S] = {};  // of g, and of g (x - center)
      for (int64_t j = 0; j < p.slots; j += U) {
        Words vx[U], vg[U];
#pragma unroll
        for (int i = 0; i < U; ++i)
          if (j + i < p.slots) {
            const int64_t at = p.row(j + i) * channels + p.column;
            load_span<T, WHOLE>(x + at, vx[i]);
            load_span<T, WHOLE>(dy + at, vg[i]);
          }
        R some[S] = {}, product[S] = {};
#pragma unroll
        for (int i = 0; i < U; ++i)
          if (j + i < p.slots) {
            const int64_t at = p.row(j + i) * channels + p.column;
            R e[S], g[S];
            gradient(vx[i], vg[i], at, e, g);
            if (dresidual) store_span<T, WHOLE>(dresidual + at, g);
#pragma unroll
            for (int l = 0; l < S; ++l) {
              some[l] += g[l];
              product[l] += g[l] * e[l];
            }
            if (j + i < t.kept) {
              kept_x.put(j + i, vx[i]);
              Words masked{};
              if constexpr (WHOLE) masked = narrow(g, T{});
              else put(masked, 0, narrow(g[0], T{}));
              kept_g.put(j + i, masked);
            }
          }
#pragma unroll
        for (int l = 0; l < S; ++l) {
          sum[l] += some[l];
          cross[l] += product[l];
        }
      }
#pragma unroll
      for (int l = 0; l < S; ++l) {
        add_down(shared, t.across, sum[l], cross[l]);
        if (threadIdx.x < t.across && p.column < channels)
          between[blockIdx.x * channels + p.column + l] = {sum[l], cross[l]};
      }
      if (!t.answer) continue;
      grid_barrier();
    }
    const int64_t parts = blockDim.x / wide, own = threadIdx.x % wide, channel = tile * wide + own;
    double sum = 0, cross = 0;
    if (channel < channels)
      for (int64_t block = threadIdx.x / wide; block < measured_blocks; block += parts) {
        const Measure one = between[block * channels + channel];
        sum += one.a;
        cross += one.b;
      }
    add_down(shared, static_cast<unsigned>(wide), sum, cross);
    if (threadIdx.x < wide && channel < channels) {
      const double rest = k.mean[channel] - static_cast<double>(table[own]);
      const R rstd = static_cast<const R*>(k.rstd)[channel];
      cross -= rest * sum;  // now of g (x - mean)
      const Slope<R> s = slope_of_sums<R>(sum, cross, rstd, weight_of<T>(k.w, channel, R(1)),
                                          static_cast<double>(rows), k.training);
      table[3 * WIDE + own] = s.slope;
      table[4 * WIDE + own] = s.curve;
      table[5 * WIDE + own] = s.rest - s.curve * static_cast<R>(rest);
      if (k.dw && blockIdx.x == 0) {
        write_parameter<T>(k.dw, k.real, channel, static_cast<R>(cross * static_cast<double>(rstd)));
        write_parameter<T>(k.db, k.real, channel, static_cast<R>(sum));
      }
    }
    __syncthreads();
    for (int64_t j = p.slots - 1; j >= 0; j -= U) {
      Words vx[U], vg[U];
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          const int64_t at = p.row(j - i) * channels + p.column;
          if (t.measure && j - i < t.kept) {
            vx[i] = kept_x.get(j - i);
            vg[i] = kept_g.get(j - i);
          } else {
            load_span<T, WHOLE>(x + at, vx[i]);
            load_span<T, WHOLE>(dy + at, vg[i]);
          }
        }
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          const int64_t at = p.row(j - i) * channels + p.column;
          R e[S], g[S];
          if (t.measure && j - i < t.kept) {
            widen_span<T, WHOLE>(vx[i], e);
            widen_span<T, WHOLE>(vg[i], g);
#pragma unroll
            for (int l = 0; l < S; ++l) e[l] -= table[local + l];
          } else {
            gradient(vx[i], vg[i], at, e, g);
          }
#pragma unroll
          for (int l = 0; l < S; ++l)
            g[l] = table[3 * WIDE + local + l] * g[l] +
                   (table[4 * WIDE + local + l] * e[l] + table[5 * WIDE + local + l]);
          store_span<T, WHOLE>(dx + at, g);
        }
    }
    __syncthreads();  // the table is free for the next tile
  }
}

// `arrays` of them are kept, by `most` blocks.
template <class T, bool WHOLE>
Shape divide(const BatchNormShape& s, int arrays, int64_t most, int64_t chip, Tiling& t) {
  constexpr int S = SPAN<T, WHOLE>;
  const int64_t rows = s.batch * s.area, units = (s.channels + S - 1) / S;
  const int64_t bytes = Kept<T, WHOLE>::BYTES * arrays, memory = chip - TABLES<Real<T>>;
  int64_t across = 1;
  while (across < units && across * S < WIDE) across *= 2;
  Shape shape;
  shape.threads = THREADS;
  const auto blocks_for = [&](int64_t a) {
    const int64_t each = int64_t(AHEAD) * (THREADS / a);
    return smaller((rows + each - 1) / each, most);
  };
  const auto slots_for = [&](int64_t a) {
    const int64_t per_block = (rows + blocks_for(a) - 1) / blocks_for(a), step = THREADS / a;
    return (per_block + step - 1) / step;
  };
  // Narrower tiles until a tile fits, but never less than 64 bytes side by side.
  while (across * Kept<T, WHOLE>::BYTES > 64 && slots_for(across) * THREADS * bytes > memory) across /= 2;
  const int64_t blocks = blocks_for(across);
  t.across = static_cast<unsigned>(across);
  t.tiles = (units + across - 1) / across;
  t.per_block = (rows + blocks - 1) / blocks;
  t.kept = static_cast<unsigned>(smaller(slots_for(across), memory / (int64_t(THREADS) * bytes)));
  shape.blocks = static_cast<uint64_t>(blocks);
  return shape;
}

// Both phases in one cooperative launch, or, where that is refused, in two plain ones.
template <class K, class T, bool WHOLE>
Failure run(const char* name, void (*kernel)(K, Tiling, Measure*, unsigned), const K& k, int arrays,
            int phases, void* between, const Device& device) {
  Tiling t;
  // What keeps nothing leaves room for several blocks a processor.
  const int64_t most = device.processors * (phases == ANSWER ? 4 : 1);
  Shape shape = divide<T, WHOLE>(k.shape, arrays, most, chip_of(device), t);
  const auto measured = static_cast<unsigned>(shape.blocks);
  auto* const measures = static_cast<Measure*>(between);
  const auto start = [&](bool measure, bool answer) {
    t.measure = measure;
    t.answer = answer;
    shape.cooperative = measure && answer;
    const bool keeps = measure && answer;
    if (!keeps) t.kept = 0;
    shape.shared = static_cast<unsigned>(
        TABLES<Real<T>> + int64_t(t.kept) * THREADS * Kept<T, WHOLE>::BYTES * arrays);
    return launch(name, kernel, shape, device, k, t, measures, measured);
  };
  if (phases != (MEASURE | ANSWER)) return start(phases & MEASURE, phases & ANSWER);
  if (device.cooperative) return start(true, true);
  const Failure failure = start(true, false);
  return failure ? failure : start(false, true);
}

}  // namespace

int64_t pixel_workspace(const BatchNormShape& s, const Device& device) {
  return s.channels * device.processors * static_cast<int64_t>(sizeof(Measure));
}

Failure pixel_norm(Type type, const BatchNormForward& k, void* between, const Device& device) {
  const BatchNormShape& s = k.shape;
  if (!s.batch || !s.channels || !s.area) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool whole =
        s.channels % WIDTH<T> == 0 && aligned(k.x) && aligned(k.residual) && aligned(k.y);
    const int phases = k.training ? MEASURE | ANSWER : ANSWER;
    using F = BatchNormForward;
    return whole ? run<F, T, true>("batch_norm", pixels<T, true>, k, 1, phases, between, device)
                 : run<F, T, false>("batch_norm", pixels<T, false>, k, 1, phases, between, device);
  });
}

Failure pixel_norm_backward(Type type, const BatchNormGradient& k, void* between, const Device& device) {
  const BatchNormShape& s = k.shape;
  if (!s.batch || !s.channels || !s.area) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool whole = s.channels % WIDTH<T> == 0 && aligned(k.x) && aligned(k.dy) && aligned(k.y) &&
                       aligned(k.dx) && aligned(k.dresidual);
    using G = BatchNormGradient;
    const char* const name = "batch_norm_backward";
    return whole ? run<G, T, true>(name, pixels_backward<T, true>, k, 2, MEASURE | ANSWER, between, device)
                 : run<G, T, false>(name, pixels_backward<T, false>, k, 2, MEASURE | ANSWER, between,
                                    device);
  });
}

}  // namespace benchbench::cuda
