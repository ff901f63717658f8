// The row engine: each row is read once into registers, measured, and answered from the registers.
//
//   N small       8 or 32 lanes a row, several rows a warp            rows_by_lanes
//   then          one block a row                                     rows_by_block
//   then          a cluster of 2, 4 or 8 blocks; each has one tile    rows_by_block
//                 of the row and sends what it measured to the others
//   beyond        all blocks of the device: every tile is measured, a  rows_by_grid
//                 grid barrier, then every tile is read again and
//                 answered, the last first, which the L2 still has
//
// Bytes: 2ne forward for the first three (with a second input 3ne), 3ne (5ne) for the last. Lanes win
// up to 4 vectors a lane, where shuffles are the only communication; a block's reductions cost two
// barriers, a cluster's one more.
//
// The tier follows from N and the type alone, and a row is summed in the same order wherever it lies:
// its result does not depend on the batch. Rows whose length or address is not a multiple of 16 bytes
// (WHOLE is false) are read element by element, neighbouring lanes neighbouring elements; that is as
// many bytes in W times as many instructions.
//
// An operation has: T; REDUCED, the inputs that it keeps (1 or 2); LARGEST, the threads of a block for
// which its registers suffice; and, of a row's tile in registers,
//   load(row, at, tile)       fill it (and write what depends on the input alone)
//   measure(team, tile, n)    what is known of it, as a Measure
//   merge(team, measures, tiles, size, n)   the same of the whole row
//   finish(row, at, tile, measure, leader)  write the answer
#pragma once

#include "cuda/support/launch.h"
#include "cuda/support/team.h"
#include "cuda/support/vectors.h"

namespace benchbench::cuda {

constexpr int K = 4;  // vectors of each input that a thread keeps

// Two numbers that describe a tile, exchanged between blocks: (mean, sum of squared deviations),
// (sum of squares, -), (maximum, sum of exponentials)...
struct Measure {
  double a, b;
};

// Which elements of a row a thread has: K vectors (or K * WIDTH single elements), `span` threads side by
// side, and `span` times as many elements until the next threads'. With a span that the compiler knows,
// a thread's elements are at constant offsets from its first.
template <class T, bool WHOLE>
struct Place {
  int64_t n;      // elements of the row
  int64_t first;  // of this thread
  int64_t left;   // elements from there on
  int step;       // between its vectors (or elements)
  __device__ __forceinline__ Place(int64_t columns, int64_t tile, unsigned thread, unsigned threads,
                                   unsigned span)
      : n(columns) {
    constexpr int W = WIDTH<T>;
    first = (tile * threads + thread / span * span) * (K * W) + thread % span * (WHOLE ? W : 1);
    left = n - first;
    step = static_cast<int>(span) * (WHOLE ? W : 1);
  }
  __device__ __forceinline__ int offset(int k, int i) const {
    return WHOLE ? k * step + i : (k * WIDTH<T> + i) * step;
  }
  __device__ __forceinline__ int64_t at(int k, int i) const { return first + offset(k, i); }
  __device__ __forceinline__ bool has(int k, int i) const { return offset(k, WHOLE ? 0 : i) < left; }
};

// K vectors of the row at `p`; zero where there is nothing.
template <class T, bool WHOLE>
__device__ __forceinline__ void read(const T* p, const Place<T, WHOLE>& place, Words (&v)[K]) {
#pragma unroll
  for (int k = 0; k < K; ++k) {
    v[k] = Words{};
    if constexpr (WHOLE) {
      if (place.has(k, 0)) v[k] = load_words(p + place.at(k, 0));
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH<T>; ++i)
        if (place.has(k, i)) put(v[k], i, p[place.at(k, i)]);
    }
  }
}

template <class T, bool WHOLE>
__device__ __forceinline__ void write(T* p, const Place<T, WHOLE>& place, int k,
                                      const Real<T> (&x)[WIDTH<T>]) {
  if constexpr (WHOLE) {
    if (place.has(k, 0)) store_words(p + place.at(k, 0), narrow(x, T{}));
  } else {
#pragma unroll
    for (int i = 0; i < WIDTH<T>; ++i)
      if (place.has(k, i)) p[place.at(k, i)] = narrow(x[i], T{});
  }
}

template <class T, bool WHOLE>
__device__ __forceinline__ void read(const Parameter& p, const Place<T, WHOLE>& place, int k,
                                     Real<T> (&x)[WIDTH<T>]) {
  if constexpr (WHOLE) {
    if (place.has(k, 0)) parameters<T>(p, place.at(k, 0), x);
  } else {
#pragma unroll
    for (int i = 0; i < WIDTH<T>; ++i) x[i] = place.has(k, i) ? parameter<T>(p, place.at(k, i)) : 0;
  }
}

// f(k, x, has) with the K vectors as reals; has(i) says which elements are there.
template <class T, bool WHOLE, class F>
__device__ __forceinline__ void each(const Place<T, WHOLE>& place, const Words (&v)[K], F f) {
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (WHOLE && !place.has(k, 0)) continue;
    Real<T> x[WIDTH<T>];
    widen(v[k], x, T{});
#pragma unroll
    for (int i = 0; i < WIDTH<T>; ++i)
      if (WHOLE || place.has(k, i)) f(k, i, x[i]);
  }
}

constexpr unsigned LANE_THREADS = 256;

template <class Op, int L, bool WHOLE>
__global__ void __launch_bounds__(LANE_THREADS) rows_by_lanes(Op op, int64_t rows, int64_t n) {
  constexpr unsigned EACH = LANE_THREADS / L;
  const int64_t row = int64_t(blockIdx.x) * EACH + threadIdx.x / L;
  const bool there = row < rows;
  Lanes<L> team;
  // Lanes beyond the last row go along with an empty one: the shuffles need all of the warp.
  const Place<typename Op::T, WHOLE> place(there ? n : 0, 0, team.lane(), L, L);
  Words v[Op::REDUCED][K];
  op.load(row, place, v);
  const Measure m = op.measure(team, place, v, n);
  if (there) op.finish(row, place, v, m, team.lane() == 0);
}

// Shared memory of rows_by_block and rows_by_grid.
constexpr unsigned CLUSTER = 8;  // blocks, at most
constexpr unsigned ROW_SHARED = Block::BYTES + CLUSTER * sizeof(Measure);

// Threads of a block, at most; element by element, and in double, more registers are needed.
template <class Op, bool WHOLE>
constexpr unsigned MOST =
    !WHOLE || sizeof(typename Op::T) == 8 ? 256 : Op::LARGEST;
constexpr unsigned LEAST_MOST = 256;

// Blocks of 256 that a processor should hold: with the number the compiler spends registers on them, and
// without it, it saves and spills.
template <class Op, bool WHOLE>
constexpr unsigned TOGETHER = MOST<Op, WHOLE> == 256 ? 2 : 1;

template <class Op, bool WHOLE>
__global__ void __launch_bounds__((MOST<Op, WHOLE>), (TOGETHER<Op, WHOLE>))
    rows_by_block(Op op, int64_t n) {
  using T = typename Op::T;
  const unsigned tiles = cluster_size(), tile = cluster_rank();
  const int64_t row = blockIdx.x / tiles;
  char* const shared = shared_memory();
  Block team{shared};
  const Place<T, WHOLE> place(n, tile, threadIdx.x, blockDim.x, 32);
  Words v[Op::REDUCED][K];
  op.load(row, place, v);
  const int64_t size = int64_t(blockDim.x) * K * WIDTH<T>;
  const int64_t mine = n - tile * size;  // elements of this tile, if less than a whole one
  Measure m = op.measure(team, place, v, tiles > 1 ? smaller(size, larger(mine, int64_t(0))) : n);
  if (tiles > 1) {
    auto* const slots = reinterpret_cast<Measure*>(shared + Block::BYTES);
    cluster_barrier();  // their shared memory exists
    if (threadIdx.x < tiles) *shared_of(slots + tile, threadIdx.x) = m;
    cluster_barrier();  // theirs have arrived; nobody touches another's memory from here on
    Lanes<CLUSTER> few;
    m = op.merge(few, slots, tiles, size, n);
  }
  op.finish(row, place, v, m, threadIdx.x == 0 && tile == 0);
}

constexpr unsigned GRID_THREADS = 256;

template <class Op, bool WHOLE>
__global__ void __launch_bounds__(GRID_THREADS, 2)
    rows_by_grid(Op op, int64_t rows, int64_t n, int64_t tiles, Measure* between) {
  using T = typename Op::T;
  Block team{shared_memory()};
  const int64_t items = rows * tiles, size = int64_t(blockDim.x) * K * WIDTH<T>;
  Words v[Op::REDUCED][K];
  int64_t last = -1;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t row = item / tiles, tile = item % tiles;
    const Place<T, WHOLE> place(n, tile, threadIdx.x, blockDim.x, 32);
    op.load(row, place, v);
    const Measure m = op.measure(team, place, v, smaller(size, n - tile * size));
    if (threadIdx.x == 0) between[item] = m;
    last = item;
  }
  grid_barrier();
  for (int64_t item = last; item >= 0; item -= gridDim.x) {
    const int64_t row = item / tiles, tile = item % tiles;
    const Place<T, WHOLE> place(n, tile, threadIdx.x, blockDim.x, 32);
    if (item != last) op.reload(row, place, v);  // the last one is in the registers
    const Measure m = op.merge(team, between + row * tiles, tiles, size, n);
    op.finish(row, place, v, m, threadIdx.x == 0 && tile == 0);
  }
}

// ---- choice of the tier ----

struct RowTier {
  enum Kind { lanes8, lanes32, block, grid } kind;
  unsigned threads;  // a block
  unsigned tiles;    // blocks a row
};

// Elements that a block of so many threads has in registers.
inline int64_t tile_of(unsigned threads, int width) { return int64_t(threads) * K * width; }

inline RowTier row_tier(int64_t n, int width, bool clusters, unsigned most) {
  if (n <= tile_of(8, width)) return {RowTier::lanes8, LANE_THREADS, 1};
  if (n <= tile_of(32, width)) return {RowTier::lanes32, LANE_THREADS, 1};
  for (unsigned tiles = 1; tiles <= (clusters ? CLUSTER : 1); tiles *= 2) {
    const int64_t each = (n + tiles - 1) / tiles;
    // Smaller blocks, several on a processor, hide each other's barriers: above 512 threads only where
    // nothing but the grid is left.
    const unsigned threads = tiles == CLUSTER || !clusters ? most : smaller(512u, most);
    if (each <= tile_of(threads, width)) {
      const auto warps = static_cast<unsigned>((each + tile_of(32, width) - 1) / tile_of(32, width));
      return {RowTier::block, warps * 32, tiles};
    }
  }
  return {RowTier::grid, GRID_THREADS,
          static_cast<unsigned>((n + tile_of(GRID_THREADS, width) - 1) / tile_of(GRID_THREADS, width))};
}

template <class Op, bool WHOLE>
Failure run_rows(const char* name, const Op& op, int64_t rows, int64_t n, void* between,
                 const Device& device) {
  constexpr int W = WIDTH<typename Op::T>;
  const RowTier tier = row_tier(n, W, device.major >= 9, MOST<Op, WHOLE>);
  Shape shape;
  shape.threads = tier.threads;
  if (tier.kind == RowTier::lanes8 || tier.kind == RowTier::lanes32) {
    const int64_t each = LANE_THREADS / (tier.kind == RowTier::lanes8 ? 8 : 32);
    shape.blocks = static_cast<uint64_t>((rows + each - 1) / each);
    const auto kernel =
        tier.kind == RowTier::lanes8 ? rows_by_lanes<Op, 8, WHOLE> : rows_by_lanes<Op, 32, WHOLE>;
    return launch(name, kernel, shape, device, op, rows, n);
  }
  shape.shared = ROW_SHARED;
  if (tier.kind == RowTier::block) {
    shape.blocks = static_cast<uint64_t>(rows) * tier.tiles;
    shape.cluster = tier.tiles;
    return launch(name, rows_by_block<Op, WHOLE>, shape, device, op, n);
  }
  const auto kernel = rows_by_grid<Op, WHOLE>;
  const int64_t items = rows * tier.tiles;
  const int64_t resident = resident_blocks(kernel, shape.threads, shape.shared, device);
  shape.blocks = static_cast<uint64_t>(smaller(items, resident));
  shape.cooperative = true;
  return launch(name, kernel, shape, device, op, rows, n, int64_t(tier.tiles),
                static_cast<Measure*>(between));
}

}  // namespace benchbench::cuda
