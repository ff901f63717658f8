// Group norm of pixels (channels last), forward and backward: a block, or a cluster of up to eight, for a
// sample and a tile of channels that is whole groups, at least 64 bytes wide.
//
//           channels →
//   row 0  │ group 0 group 1 │ group 2 group 3 │      block 0 of the cluster
//   row 1  │                 │                 │
//     ⋮    │     tile 0      │     tile 1      │      block 1 …
//
// Phases: each block reads its rows of the tile once and keeps them in shared memory as far as they fit;
// sums of each channel down the block, of each group over its channels by a warp, over the cluster through
// each other's shared memory; answer from what was kept, the last first. Bytes: 2ne forward, 3ne backward,
// where nothing fits 3ne and 5ne. One launch forward; backward a second one adds up the partial sums for
// weight and bias, a row for each sample and block of its cluster.
//
// All sums of a group are relative to its first element (forward) or its mean (backward): of few elements
// in real, of all in double, in an order that follows from the shape.
#include "cuda/group_norm.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 512;
constexpr int64_t WIDEST = 1024;  // channels of a tile: what a block's tables hold

struct Tiling {
  int64_t wide;       // channels of a tile, whole groups
  int64_t tiles;      // of a sample
  int64_t chunks;     // of a tile's units that lie side by side
  int64_t per_block;  // rows
  int64_t each;       // units of a thread in a chunk, at most
  unsigned across;    // threads side by side
  unsigned kept;      // units of a thread that stay in shared memory

  // Shared memory in front of what is kept: sums down the block, sums of channels, those of groups from
  // each block of the cluster, and four reals a channel.
  __host__ __device__ int64_t sums_at(unsigned threads) const { return int64_t(threads) * 16; }
  __host__ __device__ int64_t groups_at(unsigned threads) const { return sums_at(threads) + wide * 16; }
  __host__ __device__ int64_t table_at(unsigned threads, int64_t planes) const {
    return groups_at(threads) + wide / planes * CLUSTER * 16;
  }
  __host__ __device__ int64_t kept_at(unsigned threads, int64_t planes, int real) const {
    return (table_at(threads, planes) + wide * 4 * real + 127) / 128 * 128;
  }
};

// Where a block is, and its shared memory.
template <class R>
struct Tile {
  int64_t sample, channel, width, groups, first, last, planes;
  unsigned blocks, rank;
  char* memory;
  double* down;      // for add_down()
  Measure* sums;     // of channels
  Measure* slots;    // of groups, from each block
  R* table;          // rows of `wide` values
  char* kept;
  __device__ __forceinline__ Tile(const GroupNormShape& s, const Tiling& t)
      : planes(s.planes()), blocks(cluster_size()), rank(cluster_rank()), memory(shared_memory()) {
    const int64_t item = int64_t(blockIdx.x) / blocks;
    sample = item / t.tiles;
    channel = item % t.tiles * t.wide;
    width = smaller(t.wide, s.channels - channel);
    groups = width / planes;
    first = rank * t.per_block;
    last = smaller(s.area, first + t.per_block);
    down = reinterpret_cast<double*>(memory);
    sums = reinterpret_cast<Measure*>(memory + t.sums_at(blockDim.x));
    slots = reinterpret_cast<Measure*>(memory + t.groups_at(blockDim.x));
    table = reinterpret_cast<R*>(memory + t.table_at(blockDim.x, planes));
    kept = memory + t.kept_at(blockDim.x, planes, sizeof(R));
  }
  // Of a group in the tile, over the cluster: sums over its channels of weight(channel in the tile) times
  // what `sums` has. Afterwards all blocks have them in `slots`.
  template <class Weight>
  __device__ __forceinline__ void add_groups(Weight weight) const {
    __syncthreads();  // the channels' sums are written
    if (blocks > 1) cluster_barrier();  // their shared memory exists
    const unsigned lane = threadIdx.x % 32;
    for (int64_t g = threadIdx.x / 32; g < groups; g += blockDim.x / 32) {
      double a = 0, b = 0;
      for (int64_t c = lane; c < planes; c += 32) {
        const double w = weight(g * planes + c);
        a += w * sums[g * planes + c].a;
        b += w * sums[g * planes + c].b;
      }
      Lanes<32>::sums(a, b);
      if (lane < blocks) *shared_of(slots + g * CLUSTER + rank, lane) = {a, b};
    }
    if (blocks > 1) cluster_barrier();
    else __syncthreads();
  }
  __device__ __forceinline__ Measure of_group(int64_t g) const {
    Measure m{0, 0};
    for (unsigned r = 0; r < blocks; ++r) {
      m.a += slots[g * CLUSTER + r].a;
      m.b += slots[g * CLUSTER + r].b;
    }
    return m;
  }
};

// The units of a thread in a chunk: one column, every `below`-th row.
template <class T, bool WHOLE>
struct Down {
  int64_t local, begin, step, slots;  // local: the column in the tile
  __device__ __forceinline__ Down(const Tile<Real<T>>& tile, const Tiling& t, int64_t chunk) {
    const unsigned below = blockDim.x / t.across, row = threadIdx.x / t.across;
    local = (chunk * t.across + threadIdx.x % t.across) * (SPAN<T, WHOLE>);
    step = below;
    begin = tile.first + row;
    slots = row < below && local < tile.width && begin < tile.last ? (tile.last - begin + step - 1) / step
                                                                   : 0;
  }
};

// Told that one block suffices, the compiler spends the registers; untold, it saves some and spills.
template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS, 1) group_pixels_forward(GroupNormForward k, Tiling t) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>, U = AHEAD / 2;
  const Tile<R> tile(k.shape, t);
  const int64_t channels = k.shape.channels, planes = tile.planes;
  const T* const x = static_cast<const T*>(k.x) + tile.sample * k.shape.area * channels + tile.channel;
  T* const y = static_cast<T*>(k.y) + tile.sample * k.shape.area * channels + tile.channel;
  Kept<T, WHOLE> kept{tile.kept};
  // Of the group that a column of the tile belongs to.
  const auto base_of = [&](int64_t local) {
    return static_cast<double>(widen(x[local / planes * planes]));
  };

  for (int64_t chunk = 0; chunk < t.chunks; ++chunk) {
    const Down<T, WHOLE> d(tile, t, chunk);
    Moments<R> m[S];
    column_moments<T, WHOLE>(
        d.slots, [&](int64_t j) { return x + (d.begin + j * d.step) * channels + d.local; },
        [&](int64_t j, const Words& v) {
          const int64_t slot = chunk * t.each + j;
          if (slot < t.kept) kept.put(slot, v);
        },
        m);
#pragma unroll
    for (int l = 0; l < S; ++l) {
      if (d.slots) m[l].move_to(base_of(d.local + l), static_cast<double>(d.slots));
      add_down(tile.down, t.across, m[l].sum, m[l].squares);
      if (threadIdx.x < t.across && d.local < tile.width)
        tile.sums[d.local + l] = {m[l].sum, m[l].squares};
    }
  }
  tile.add_groups([](int64_t) { return 1.0; });
  const auto count = static_cast<double>(planes * k.shape.area);
  for (int64_t local = threadIdx.x; local < tile.width; local += blockDim.x) {
    const int64_t g = local / planes, channel = tile.channel + local;
    const Measure m = tile.of_group(g);
    const double step = m.a / count, mean = base_of(local) + step, left = m.b - m.a * step;
    const double variance = (left < 0 ? 0 : left) / count;
    const R rstd = rstd_of<R>(variance, k.eps);
    const Affine<R> f =
        affine<R>(mean, rstd, weight_of<T>(k.w, channel, R(1)), weight_of<T>(k.b, channel, R(0)));
    tile.table[local] = f.center;
    tile.table[t.wide + local] = f.scale;
    tile.table[2 * t.wide + local] = f.shift;
    if (tile.rank == 0 && local % planes == 0) {
      const int64_t at = tile.sample * k.shape.groups + channel / planes;
      k.mean[at] = mean;
      k.variance[at] = variance;
      static_cast<R*>(k.rstd)[at] = rstd;
    }
  }
  __syncthreads();
  for (int64_t chunk = t.chunks - 1; chunk >= 0; --chunk) {
    const Down<T, WHOLE> d(tile, t, chunk);
    if (!d.slots) continue;
    Affine<R> f[S];
#pragma unroll
    for (int l = 0; l < S; ++l)
      f[l] = {tile.table[d.local + l], tile.table[t.wide + d.local + l],
              tile.table[2 * t.wide + d.local + l]};
    for (int64_t j = d.slots - 1; j >= 0; j -= U) {
      Words v[U];
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          const int64_t slot = chunk * t.each + j - i;
          if (slot < t.kept) v[i] = kept.get(slot);
          else load_span<T, WHOLE>(x + (d.begin + (j - i) * d.step) * channels + d.local, v[i]);
        }
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          R e[S];
          widen_span<T, WHOLE>(v[i], e);
#pragma unroll
          for (int l = 0; l < S; ++l) e[l] = f[l](e[l]);
          store_span<T, WHOLE>(y + (d.begin + (j - i) * d.step) * channels + d.local, e);
        }
    }
  }
}

template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS, 1)
    group_pixels_gradient(GroupNormGradient k, Tiling t, Real<T>* pw, Real<T>* pb) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>, U = AHEAD / 2;
  const Tile<R> tile(k.shape, t);
  const int64_t channels = k.shape.channels, planes = tile.planes;
  const int64_t from = tile.sample * k.shape.area * channels + tile.channel;
  const T *const x = static_cast<const T*>(k.x) + from, *const dy = static_cast<const T*>(k.dy) + from;
  T* const dx = static_cast<T*>(k.dx) + from;
  const int64_t group = tile.sample * k.shape.groups + tile.channel / planes;  // the tile's first
  const double* const mean = k.mean + group;
  const R* const rstd = static_cast<const R*>(k.rstd) + group;
  Kept<T, WHOLE> kept_x{tile.kept};
  Kept<T, WHOLE> kept_g{tile.kept + int64_t(t.kept) * blockDim.x * Kept<T, WHOLE>::BYTES};
  R* const center = tile.table;
  for (int64_t local = threadIdx.x; local < tile.width; local += blockDim.x)
    center[local] = static_cast<R>(mean[local / planes]);
  __syncthreads();

  for (int64_t chunk = 0; chunk < t.chunks; ++chunk) {
    const Down<T, WHOLE> d(tile, t, chunk);
    double sum[S] = {}, cross[S] = {};  // of dy, and of dy (x - center)
    for (int64_t j = 0; j < d.slots; j += U) {
      Words vx[U], vg[U];
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j + i < d.slots) {
          const int64_t at = (d.begin + (j + i) * d.step) * channels + d.local;
          load_span<T, WHOLE>(x + at, vx[i]);
          load_span<T, WHOLE>(dy + at, vg[i]);
        }
      R some[S] = {}, product[S] = {};
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j + i < d.slots) {
          const int64_t slot = chunk * t.each + j + i;
          R e[S], g[S];
          widen_span<T, WHOLE>(vx[i], e);
          widen_span<T, WHOLE>(vg[i], g);
#pragma unroll
          for (int l = 0; l < S; ++l) {
            some[l] += g[l];
            product[l] += g[l] * (e[l] - center[d.local + l]);
          }
          if (slot < t.kept) {
            kept_x.put(slot, vx[i]);
            kept_g.put(slot, vg[i]);
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
      add_down(tile.down, t.across, sum[l], cross[l]);
      if (threadIdx.x < t.across && d.local < tile.width) {
        const int64_t local = d.local + l, g = local / planes, channel = tile.channel + local;
        cross[l] -= (mean[g] - static_cast<double>(center[local])) * sum[l];  // now of dy (x - mean)
        tile.sums[local] = {sum[l], cross[l]};
        const int64_t at = (tile.sample * tile.blocks + tile.rank) * channels + channel;
        if (pw) pw[at] = static_cast<R>(cross[l] * static_cast<double>(rstd[g]));
        if (pb) pb[at] = static_cast<R>(sum[l]);
      }
    }
  }
  tile.add_groups([&](int64_t local) {
    return static_cast<double>(weight_of<T>(k.w, tile.channel + local, R(1)));
  });
  const auto count = static_cast<double>(planes * k.shape.area);
  for (int64_t local = threadIdx.x; local < tile.width; local += blockDim.x) {
    const int64_t g = local / planes;
    const Measure m = tile.of_group(g);
    const Slope<R> f = group_slope(m.a, m.b, mean[g], rstd[g], count);
    tile.table[t.wide + local] = f.slope * weight_of<T>(k.w, tile.channel + local, R(1));
    tile.table[2 * t.wide + local] = f.curve;
    tile.table[3 * t.wide + local] = f.rest;
  }
  __syncthreads();
  for (int64_t chunk = t.chunks - 1; chunk >= 0; --chunk) {
    const Down<T, WHOLE> d(tile, t, chunk);
    for (int64_t j = d.slots - 1; j >= 0; j -= U) {
      Words vx[U], vg[U];
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          const int64_t slot = chunk * t.each + j - i;
          if (slot < t.kept) {
            vx[i] = kept_x.get(slot);
            vg[i] = kept_g.get(slot);
          } else {
            const int64_t at = (d.begin + (j - i) * d.step) * channels + d.local;
            load_span<T, WHOLE>(x + at, vx[i]);
            load_span<T, WHOLE>(dy + at, vg[i]);
          }
        }
#pragma unroll
      for (int i = 0; i < U; ++i)
        if (j - i >= 0) {
          R e[S], g[S];
          widen_span<T, WHOLE>(vx[i], e);
          widen_span<T, WHOLE>(vg[i], g);
#pragma unroll
          for (int l = 0; l < S; ++l) {
            const R* const f = tile.table + d.local + l;
            g[l] = f[t.wide] * g[l] + (f[2 * t.wide] * (e[l] - f[0]) + f[3 * t.wide]);
          }
          store_span<T, WHOLE>(dx + (d.begin + (j - i) * d.step) * channels + d.local, g);
        }
    }
  }
}

// Groups of a tile: the fewest that are whole vectors and 64 bytes wide, of which a row has at least one.
int64_t tile_width(const GroupNormShape& s, int width) {
  const int64_t planes = s.planes();
  int64_t groups = 1;
  while (groups * planes % width != 0) ++groups;
  while (groups * planes * 16 < int64_t(64) * width && groups * 2 <= s.groups) groups *= 2;
  return smaller(groups, s.groups) * planes;
}

// `arrays` of them are kept.
template <class T, bool WHOLE>
Shape divide(const GroupNormShape& s, int arrays, const Device& device, Tiling& t) {
  constexpr int S = SPAN<T, WHOLE>;
  const int64_t bytes = Kept<T, WHOLE>::BYTES * arrays;
  t.wide = tile_width(s, WIDTH<T>);
  t.tiles = divided_up(s.channels, t.wide);
  const int64_t units = t.wide / S;
  t.across = static_cast<unsigned>(smaller(units, int64_t(THREADS)));
  t.chunks = divided_up(units, t.across);
  Shape shape;
  const int64_t items = s.batch * t.tiles, half = chip_of(device) / 2;
  const unsigned blocks = cluster_for(items, s.area * units, bytes, THREADS, device);
  t.per_block = divided_up(s.area, blocks);
  // As many rows below each other as give each thread AHEAD of them.
  const int64_t most = THREADS / t.across;
  const int64_t below = larger(smaller(divided_up(t.per_block, AHEAD), most), int64_t(1));
  shape.threads = threads_for(below * t.across, THREADS);
  t.each = divided_up(t.per_block, shape.threads / t.across);
  const int64_t front = t.kept_at(shape.threads, s.planes(), sizeof(Real<T>));
  const int64_t slots = t.chunks * t.each, all = slots * shape.threads * bytes;
  const int64_t memory = larger((all <= half ? half : int64_t(device.shared)) - front, int64_t(0));
  t.kept = static_cast<unsigned>(smaller(slots, memory / (shape.threads * bytes)));
  shape.shared = static_cast<unsigned>(front + int64_t(t.kept) * shape.threads * bytes);
  shape.cluster = blocks;
  shape.blocks = static_cast<uint64_t>(items) * blocks;
  return shape;
}

template <class T>
bool vectors(const GroupNormShape& s) {
  return s.channels % WIDTH<T> == 0 && tile_width(s, WIDTH<T>) % WIDTH<T> == 0;
}

}  // namespace

bool group_pixels_fit(const GroupNormShape& s) { return tile_width(s, 8) <= WIDEST; }

int64_t pixel_partial_rows(Type type, const GroupNormShape& s, const Device& device) {
  int64_t blocks = 1;
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    Tiling t;
    blocks = divide<T, false>(s, 2, device, t).cluster;
    if (vectors<T>(s)) blocks = larger(blocks, int64_t(divide<T, true>(s, 2, device, t).cluster));
    return Failure{};
  });
  return s.batch * blocks;
}

Failure group_pixels(Type type, const GroupNormForward& k, const Device& device) {
  if (k.shape.empty()) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto whole) {
      constexpr bool WHOLE = decltype(whole)::value;
      Tiling t;
      const Shape shape = divide<T, WHOLE>(k.shape, 1, device, t);
      return launch("group_norm", group_pixels_forward<T, WHOLE>, shape, device, k, t);
    };
    return vectors<T>(k.shape) && aligned(k.x) && aligned(k.y) ? run(std::true_type{})
                                                               : run(std::false_type{});
  });
}

Failure group_pixels_backward(Type type, const GroupNormGradient& k, void* partial,
                              const Device& device) {
  if (k.shape.empty()) return {};
  int64_t rows = 0;
  const Failure failure = with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using R = Real<T>;
    const auto run = [&](auto whole) {
      constexpr bool WHOLE = decltype(whole)::value;
      Tiling t;
      const Shape shape = divide<T, WHOLE>(k.shape, 2, device, t);
      rows = k.shape.batch * shape.cluster;
      R* const pw = static_cast<R*>(partial);
      return launch("group_norm_backward", group_pixels_gradient<T, WHOLE>, shape, device, k, t,
                    k.dw ? pw : nullptr, k.db ? pw + rows * k.shape.channels : nullptr);
    };
    return vectors<T>(k.shape) && aligned(k.x) && aligned(k.dy) && aligned(k.dx)
               ? run(std::true_type{})
               : run(std::false_type{});
  });
  if (failure || (!k.dw && !k.db)) return failure;
  return sum_group_columns(type, k, partial, rows, device);
}

}  // namespace benchbench::cuda
