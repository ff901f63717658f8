// Layer norm and RMS norm backward: the gradient of the input and, in a second launch, of weight and bias.
//
//   xhat = (x - mean) rstd,  g = dy w
//   dx = rstd (g - mean of g - xhat mean of (g xhat)) (+ dsum);  dw = sum of dy xhat,  db = sum of dy
//
// Blocks stay and take every so-manieth row (their group); sums for weight and bias stay in registers all
// along, a thread always having the same columns, and are written once, a row of partial sums a group;
// sum_columns() adds the groups in their order. The next row is loaded before this one is reduced, so
// that at least 32 KB a processor are under way (element by element there are no registers for it).
//
//   tiers as in rows.h: 8 or 32 lanes a row; a block; a cluster whose blocks exchange two numbers a row;
//   giant rows: tiles by groups of rows, a grid barrier, and a second reading
//
// Bytes: 3ne, with dsum 4ne; giant rows 5ne (6ne). The number of groups is at most a 32nd of the rows
// where there are many (columns.h). Results do not depend on the schedule: all orders are fixed.
#include "cuda/columns.h"
#include "cuda/rows.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 256;

template <class T_, bool WHOLE>
struct Gradient {
  using T = T_;
  using R = Real<T>;
  using P = Place<T, WHOLE>;
  static constexpr int W = WIDTH<T>;

  const T *dy, *x, *dsum;
  Parameter w;
  const double* mean;
  const R* rstd;
  T* dx;
  R *dw, *db;  // a row of columns for each group; null where not wanted
  int64_t rows, n;
  bool rms;  // layer norm with a mean of zero, which is subtracted all the same: memory is what costs

  struct Row {  // x - center is exact where it matters; offset is what the center lacks of the mean
    R center = 0, offset = 0, scale = 0;
  };
  struct Sums {
    R w[K][W] = {}, b[K][W] = {};
  };
  struct Tile {
    Words x[K], g[K];
  };

  __device__ __forceinline__ Row row_of(int64_t row) const {
    Row r;
    r.scale = rstd[row];
    if (!rms) {
      r.center = static_cast<R>(mean[row]);
      r.offset = -static_cast<R>(mean[row] - static_cast<double>(r.center)) * r.scale;
    }
    return r;
  }
  __device__ __forceinline__ static R hat(R e, const Row& r) {
    return (e - r.center) * r.scale + r.offset;
  }
  __device__ __forceinline__ void load(int64_t row, const P& place, Tile& t) const {
    read(x + row * n, place, t.x);
    read(dy + row * n, place, t.g);
  }
  // Sums over this thread's elements of g xhat and of g, and its share of those for weight and bias.
  __device__ __forceinline__ void measure(const P& place, const Tile& t, const Row& r, R& product,
                                          R& sum, Sums& s) const {
    product = sum = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      R e[W], g[W], p[W];
      widen(t.x[k], e, T{});
      widen(t.g[k], g, T{});
      weights(place, k, p);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        const R h = hat(e[i], r), weighted = g[i] * p[i];
        product += weighted * h;
        sum += weighted;
        s.w[k][i] += g[i] * h;
        s.b[k][i] += g[i];
      }
    }
  }
  __device__ __forceinline__ void finish(int64_t row, const P& place, const Tile& t, const Row& r,
                                         R product, R sum) const {
    const R inverse = R(1) / static_cast<R>(n), slope = product * inverse;
    const R middle = rms ? R(0) : sum * inverse;
    Words more[K];
    if (dsum) read(dsum + row * n, place, more);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      R e[W], g[W], p[W];
      widen(t.x[k], e, T{});
      widen(t.g[k], g, T{});
      weights(place, k, p);
#pragma unroll
      for (int i = 0; i < W; ++i) g[i] = r.scale * (g[i] * p[i] - middle - hat(e[i], r) * slope);
      if (dsum) {
        widen(more[k], p, T{});
#pragma unroll
        for (int i = 0; i < W; ++i) g[i] += p[i];
      }
      write(dx + row * n, place, k, g);
    }
  }
  // This thread's sums as they are, in row `group` of the partial sums.
  __device__ __forceinline__ void store(int64_t group, const P& place, const Sums& s) const {
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < W; ++i)
        if (place.has(k, i)) {
          if (dw) dw[group * n + place.at(k, i)] = s.w[k][i];
          if (db) db[group * n + place.at(k, i)] = s.b[k][i];
        }
  }

 private:
  __device__ __forceinline__ void weights(const P& place, int k, R (&p)[W]) const {
#pragma unroll
    for (int i = 0; i < W; ++i) p[i] = R(1);
    if (w.p) read<T, WHOLE>(w, place, k, p);
  }
};

template <class Op, int L, bool WHOLE>
__global__ void __launch_bounds__(THREADS) gradient_by_lanes(Op op) {
  using T = typename Op::T;
  using R = typename Op::R;
  constexpr int W = Op::W;
  constexpr unsigned TEAMS = THREADS / L;
  Lanes<L> team;
  const Place<T, WHOLE> mine(op.n, 0, team.lane(), L, L);
  Place<T, WHOLE> place = mine;  // nothing is left of it where the team has no row
  const int64_t step = int64_t(gridDim.x) * TEAMS;
  int64_t row = int64_t(blockIdx.x) * TEAMS + threadIdx.x / L;
  typename Op::Sums sums;
  typename Op::Tile tile, next;
  place.left = row < op.rows ? mine.left : 0;
  op.load(row, place, tile);
  // All lanes of a warp turn as often as its first team: the shuffles need them.
  for (int64_t first = row - threadIdx.x % 32 / L; first < op.rows; first += step, row += step) {
    const bool there = row < op.rows;
    place.left = row + step < op.rows ? mine.left : 0;
    if (WHOLE) op.load(row + step, place, next);
    const typename Op::Row r = there ? op.row_of(row) : typename Op::Row{};
    R product, sum;
    op.measure(mine, tile, r, product, sum, sums);
    team.sums(product, sum);
    if (there) op.finish(row, mine, tile, r, product, sum);
    if (WHOLE) tile = next;
    else op.load(row + step, place, tile);
  }
  if (!op.dw && !op.db) return;
  // Add up what the teams have of each column, in their order.
  R* const shared = reinterpret_cast<R*>(shared_memory());
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    R* const to = half ? op.db : op.dw;
    if (!to) continue;
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int i = 0; i < W; ++i)
        shared[threadIdx.x * W + i] = half ? sums.b[k][i] : sums.w[k][i];
      __syncthreads();
      if (threadIdx.x < L) {
#pragma unroll
        for (int i = 0; i < W; ++i) {
          R total = 0;
          for (unsigned t = threadIdx.x; t < THREADS; t += L) total += shared[t * W + i];
          if (mine.has(k, i)) to[int64_t(blockIdx.x) * op.n + mine.at(k, i)] = total;
        }
      }
      __syncthreads();
    }
  }
}

constexpr unsigned GRADIENT_SHARED = Block::BYTES + 2 * CLUSTER * sizeof(Measure);

template <class Op, bool WHOLE>
__global__ void __launch_bounds__(THREADS) gradient_by_block(Op op) {
  using T = typename Op::T;
  using R = typename Op::R;
  const unsigned tiles = cluster_size(), rank = cluster_rank();
  const int64_t group = blockIdx.x / tiles, groups = gridDim.x / tiles;
  char* const shared = shared_memory();
  Block team{shared};
  const Place<T, WHOLE> place(op.n, rank, threadIdx.x, blockDim.x, 32);
  auto* slots = reinterpret_cast<Measure*>(shared + Block::BYTES);
  unsigned turn = 0;
  typename Op::Sums sums;
  typename Op::Tile tile, next;
  if (group < op.rows) op.load(group, place, tile);
  if (tiles > 1) cluster_barrier();  // their shared memory exists
  for (int64_t row = group; row < op.rows; row += groups) {
    const bool more = row + groups < op.rows;
    if (WHOLE && more) op.load(row + groups, place, next);
    const typename Op::Row r = op.row_of(row);
    R product, sum;
    op.measure(place, tile, r, product, sum, sums);
    team.sums(product, sum);
    if (tiles > 1) {
      // Two sets of slots in turn: who writes one again has passed the barrier after its reading.
      Measure* const mine = slots + turn * CLUSTER;
      turn ^= 1;
      if (threadIdx.x < tiles)
        *shared_of(mine + rank, threadIdx.x) = {static_cast<double>(product), static_cast<double>(sum)};
      cluster_barrier();
      const unsigned from = threadIdx.x % CLUSTER;
      product = from < tiles ? static_cast<R>(mine[from].a) : R(0);
      sum = from < tiles ? static_cast<R>(mine[from].b) : R(0);
      Lanes<CLUSTER>::sums(product, sum);
    }
    op.finish(row, place, tile, r, product, sum);
    if (WHOLE) tile = next;
    else if (more) op.load(row + groups, place, tile);
  }
  op.store(group, place, sums);
}

// Items are (group of rows, tile of columns). The sums of a row's tiles wait in `between`.
template <class Op, bool WHOLE>
__global__ void __launch_bounds__(THREADS)
    gradient_by_grid(Op op, int64_t groups, int64_t tiles, Measure* between) {
  using T = typename Op::T;
  using R = typename Op::R;
  Block team{shared_memory()};
  typename Op::Tile tile;
  for (int64_t item = blockIdx.x; item < groups * tiles; item += gridDim.x) {
    const int64_t group = item / tiles, number = item % tiles;
    const Place<T, WHOLE> place(op.n, number, threadIdx.x, blockDim.x, 32);
    typename Op::Sums sums;
    for (int64_t row = group; row < op.rows; row += groups) {
      op.load(row, place, tile);
      R product, sum;
      op.measure(place, tile, op.row_of(row), product, sum, sums);
      team.sums(product, sum);
      if (threadIdx.x == 0)
        between[row * tiles + number] = {static_cast<double>(product), static_cast<double>(sum)};
    }
    op.store(group, place, sums);
  }
  grid_barrier();
  const int64_t items = op.rows * tiles;
  // Last to first: what was read last is still in the second level of the cache.
  for (int64_t item = items - 1 - blockIdx.x; item >= 0; item -= gridDim.x) {
    const int64_t row = item / tiles, number = item % tiles;
    const Place<T, WHOLE> place(op.n, number, threadIdx.x, blockDim.x, 32);
    op.load(row, place, tile);
    double product = 0, sum = 0;
    for (int64_t t = threadIdx.x; t < tiles; t += blockDim.x) {
      product += between[row * tiles + t].a;
      sum += between[row * tiles + t].b;
    }
    team.sums(product, sum);
    op.finish(row, place, tile, op.row_of(row), static_cast<R>(product), static_cast<R>(sum));
  }
}

template <class T, bool WHOLE>
Failure run(const RowNormGradient& k, void* partial, void* between, int64_t& groups,
            const Device& device) {
  using Op = Gradient<T, WHOLE>;
  using R = Real<T>;
  const char* const name = "norm_rows_backward";
  const int64_t most = gradient_partial_rows(k.rows, device);
  Op op;
  op.dy = static_cast<const T*>(k.dy);
  op.x = static_cast<const T*>(k.x);
  op.dsum = static_cast<const T*>(k.dsum);
  op.w = k.w;
  op.mean = k.mean;
  op.rstd = static_cast<const R*>(k.rstd);
  op.dx = static_cast<T*>(k.dx);
  op.dw = k.dw ? static_cast<R*>(partial) : nullptr;
  op.db = k.db ? static_cast<R*>(partial) + most * k.columns : nullptr;
  op.rows = k.rows;
  op.n = k.columns;
  op.rms = k.rms;
  const RowTier tier = row_tier(k.columns, WIDTH<T>, device.major >= 9, THREADS);
  Shape shape;
  shape.threads = tier.threads;
  if (tier.kind == RowTier::lanes8 || tier.kind == RowTier::lanes32) {
    const int64_t each = THREADS / (tier.kind == RowTier::lanes8 ? 8 : 32);
    groups = smaller((k.rows + each - 1) / each, most);
    shape.blocks = static_cast<uint64_t>(groups);
    shape.shared = THREADS * WIDTH<T> * sizeof(R);
    return launch(name, tier.kind == RowTier::lanes8 ? gradient_by_lanes<Op, 8, WHOLE>
                                                     : gradient_by_lanes<Op, 32, WHOLE>,
                  shape, device, op);
  }
  if (tier.kind == RowTier::block) {
    // One block of 256 threads is resident on a processor, and as many smaller ones as make it up.
    const int64_t resident = int64_t(device.processors) * THREADS / (tier.threads * tier.tiles);
    groups = smaller(most, larger(resident, int64_t(1)));
    shape.blocks = static_cast<uint64_t>(groups) * tier.tiles;
    shape.cluster = tier.tiles;
    shape.shared = GRADIENT_SHARED;
    return launch(name, gradient_by_block<Op, WHOLE>, shape, device, op);
  }
  const auto kernel = gradient_by_grid<Op, WHOLE>;
  shape.shared = Block::BYTES;
  const int64_t resident = resident_blocks(kernel, shape.threads, shape.shared, device);
  groups = smaller(most, larger(resident / tier.tiles, int64_t(1)));
  shape.blocks = static_cast<uint64_t>(smaller(groups * tier.tiles, resident));
  shape.cooperative = true;
  return launch(name, kernel, shape, device, op, groups, int64_t(tier.tiles),
                static_cast<Measure*>(between));
}

}  // namespace

int64_t gradient_partial_rows(int64_t rows, const Device& device) { return row_groups(rows, device); }

Failure row_norm_backward(Type type, const RowNormGradient& k, void* partial, void* between,
                          const Device& device) {
  if (!k.columns) return {};
  int64_t groups = 0;
  Failure failure;
  if (k.rows)
    failure = with_type(type, [&](auto zero) {
      using T = decltype(zero);
      const bool whole = k.columns % WIDTH<T> == 0 && aligned(k.dy) && aligned(k.x) &&
                         aligned(k.dsum) && aligned(k.w.p) && aligned(k.dx);
      return whole ? run<T, true>(k, partial, between, groups, device)
                   : run<T, false>(k, partial, between, groups, device);
    });
  if (failure || (!k.dw && !k.db)) return failure;
  const int64_t size = type == Type::f64 ? 8 : 4;
  const char* second =
      static_cast<const char*>(partial) + gradient_partial_rows(k.rows, device) * k.columns * size;
  const void *first = k.dw ? partial : second;
  return sum_columns(type, k.real, first, k.dw ? k.dw : k.db, second,
                     k.dw ? k.db : nullptr, groups, k.columns, device);
}

}  // namespace benchbench::cuda
