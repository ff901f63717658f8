// Rows of columns where each thread keeps to a few columns and walks down the rows: what is known of a
// column (a bias, a sum) stays in its registers.
//
//   block (x, y):  tile y of the columns, group x of the rows
//   thread:        `across` threads lie side by side over the tile's vectors, the others below them
//
// Sums over rows: each thread adds its own, a block adds those that lie below each other in shared
// memory, one row of partial sums a group is written, and sum_columns() adds the groups in their
// order. The number of groups follows from the rows and the processors. Where there are rows enough for
// all processors it is at most a 32nd of them: partial sums are then at most 4 % of the traffic of the
// smallest operation, and stay in the second level of the cache.
#pragma once

#include "cuda/support/launch.h"
#include "cuda/support/team.h"
#include "cuda/support/vectors.h"

namespace benchbench::cuda {

constexpr unsigned COLUMN_THREADS = 256;
constexpr int AHEAD = 4;  // rows that a thread loads before it computes

// Elements that lie in a thread: a vector, or one where rows are not whole vectors.
template <class T, bool WHOLE>
constexpr int SPAN = WHOLE ? WIDTH<T> : 1;

struct ColumnShape {
  unsigned across;   // threads side by side: a power of two
  int64_t groups;    // of rows
  int64_t per_group; // rows
  int64_t tiles;     // of columns
};

inline ColumnShape column_shape(int64_t rows, int64_t columns, int span, int64_t groups) {
  ColumnShape s;
  const int64_t vectors = (columns + span - 1) / span;
  s.across = 1;
  while (s.across < COLUMN_THREADS && s.across < vectors) s.across *= 2;
  s.tiles = (vectors + s.across - 1) / s.across;
  s.per_group = (rows + groups - 1) / groups;
  s.groups = (rows + s.per_group - 1) / s.per_group;
  return s;
}

// Where a thread is.
template <class T, bool WHOLE>
struct Column {
  int64_t column, first, last, step;
  bool there;
  __device__ __forceinline__ Column(int64_t rows, int64_t columns, unsigned across, int64_t per_group) {
    constexpr int S = SPAN<T, WHOLE>;
    column = (int64_t(blockIdx.y) * across + threadIdx.x % across) * S;
    there = column < columns;
    first = int64_t(blockIdx.x) * per_group + threadIdx.x / across;
    last = smaller(rows, (int64_t(blockIdx.x) + 1) * per_group);
    step = COLUMN_THREADS / across;
  }
};

// SPAN elements at `p`.
template <class T, bool WHOLE>
__device__ __forceinline__ void load_span(const T* p, Words& v) {
  if constexpr (WHOLE) {
    v = load_words(p);
  } else {
    v = Words{};
    put(v, 0, *p);
  }
}
template <class T, bool WHOLE>
__device__ __forceinline__ void widen_span(const Words& v, Real<T> (&x)[SPAN<T, WHOLE>]) {
  Real<T> all[WIDTH<T>];
  widen(v, all, T{});
#pragma unroll
  for (int i = 0; i < SPAN<T, WHOLE>; ++i) x[i] = all[i];
}
template <class T, bool WHOLE>
__device__ __forceinline__ void store_span(T* p, const Real<T> (&x)[SPAN<T, WHOLE>]) {
  if constexpr (WHOLE) store_words(p, narrow(x, T{}));
  else *p = narrow(x[0], T{});
}
template <class T, bool WHOLE>
__device__ __forceinline__ void parameter_span(const Parameter& p, int64_t at,
                                               Real<T> (&x)[SPAN<T, WHOLE>]) {
  if constexpr (WHOLE) parameters<T>(p, at, x);
  else x[0] = parameter<T>(p, at);
}

// Adds `sums` of the threads that lie below each other and writes them as row `group` of `partial`.
// All threads of the block call; S elements of shared memory a thread.
template <int S, class R>
__device__ __forceinline__ void write_partial(const R (&sums)[S], unsigned across, bool there, R* to) {
  R* const shared = reinterpret_cast<R*>(shared_memory());
#pragma unroll
  for (int i = 0; i < S; ++i) shared[threadIdx.x * S + i] = sums[i];
  __syncthreads();
  if (threadIdx.x < across && there) {
#pragma unroll
    for (int i = 0; i < S; ++i) {
      R sum = 0;
      for (unsigned t = threadIdx.x; t < COLUMN_THREADS; t += across) sum += shared[t * S + i];
      to[i] = sum;
    }
  }
  __syncthreads();  // the memory may be used again
}

// Groups of rows for sums over `rows`.
inline int64_t row_groups(int64_t rows, const Device& device) {
  const int64_t processors = device.processors;
  // Few rows: rather use all processors than keep the partial sums small.
  const int64_t least = smaller((rows + 3) / 4, processors);
  return larger(larger(smaller(rows / 32, processors * 4), least), int64_t(1));
}

// out[c] = sum over rows of partial[row][c], for up to two arrays; one launch. `partial` is real (for
// this type), `out` is real too or of the type.
Failure sum_columns(Type, bool real, const void* partial, void* out, const void* partial2, void* out2,
                    int64_t rows, int64_t columns, const Device&);

}  // namespace benchbench::cuda
