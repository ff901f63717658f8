// What both layouts of batch norm and group norm share: what stays on the chip, and coefficients.
//
//   forward   y = (x - center) scale + shift (+ residual), then ReLU
//   backward  g = dy where the ReLU let the value through;  dx = slope g + curve (x - mean) + rest
//
// The channel's elements are read once, kept in shared memory as far as they fit, measured, and answered
// from there; what did not fit is read again, last first. A thread keeps only what it will use itself, so
// the memory needs no barrier. Bytes: 2ne forward, 3ne backward (with a residual one more); 3ne and 5ne
// where nothing fits.
#pragma once

#include "cuda/columns.h"
#include "cuda/rows.h"

namespace benchbench::cuda {

// Bytes of shared memory that a block keeps, at most; what is left is for reductions and tables.
inline int64_t chip_of(const Device& device) {
  return smaller(int64_t(200) * 1024, int64_t(device.shared) - 27 * 1024);
}

// Threads for `wanted`, in whole warps, at most `most`.
inline unsigned threads_for(int64_t wanted, unsigned most) {
  return static_cast<unsigned>(smaller(larger((wanted + 31) / 32 * 32, int64_t(32)), int64_t(most)));
}

// Blocks for each of `items` that have so many units of `bytes`. Two blocks a processor hide each other's
// barriers, so half of the memory each where that suffices; and as many blocks as keep all processors
// busy, as long as each has work.
inline unsigned cluster_for(int64_t items, int64_t units, int64_t bytes, unsigned threads,
                            const Device& device) {
  const int64_t half = chip_of(device) / 2;
  const unsigned most = device.major >= 9 ? CLUSTER : 1;
  unsigned blocks = 1;
  while (blocks < most &&
         (units / blocks * bytes > half || (items * blocks < 2 * device.processors &&
                                            units / blocks > int64_t(2) * AHEAD * threads)))
    blocks *= 2;
  return blocks;
}

// A unit is a vector where the layout allows it, else one element; Kept is its place in shared memory,
// for slot j of this thread.
template <class T, bool WHOLE>
struct Kept {
  static constexpr int BYTES = WHOLE ? 16 : static_cast<int>(sizeof(T));
  char* memory;
  __device__ __forceinline__ void put(int64_t slot, const Words& v) {
    if constexpr (WHOLE) {
      *reinterpret_cast<Words*>(at(slot)) = v;
    } else {
      memcpy(at(slot), &v, sizeof(T));  // element 0 lies in the lowest bytes
    }
  }
  __device__ __forceinline__ Words get(int64_t slot) const {
    Words v{};
    if constexpr (WHOLE) v = *reinterpret_cast<const Words*>(at(slot));
    else memcpy(&v, at(slot), sizeof(T));
    return v;
  }

 private:
  __device__ __forceinline__ char* at(int64_t slot) const {
    return memory + (slot * blockDim.x + threadIdx.x) * BYTES;
  }
};

// y = (x - center) scale + shift. The center is the mean as far as a real can hold it.
template <class R>
struct Affine {
  R center, scale, shift;
  __device__ __forceinline__ R operator()(R e) const { return (e - center) * scale + shift; }
};
template <class R>
__device__ __forceinline__ Affine<R> affine(double mean, R rstd, R w, R b) {
  Affine<R> a;
  a.center = static_cast<R>(mean);
  a.scale = rstd * w;
  a.shift = b - static_cast<R>(mean - static_cast<double>(a.center)) * a.scale;
  return a;
}

template <class T>
__device__ __forceinline__ Real<T> weight_of(const Parameter& p, int64_t channel, Real<T> missing) {
  return p.p ? parameter<T>(p, channel) : missing;
}

template <class R>
__device__ __forceinline__ R rstd_of(double variance, double eps) {
  return static_cast<R>(1 / sqrt(variance + eps));
}

// The unbiased variance, which torch's running variance is, from the sum of squared deviations.
__device__ __forceinline__ double unbiased(double squares, int64_t count) {
  return squares / static_cast<double>(count > 1 ? count - 1 : 1);
}

// Sums of x - base and its square, for a base near the data: that of few elements in real, of all in
// double.
template <class R>
struct Moments {
  double sum = 0, squares = 0;
  R base = 0;
  // The same relative to another base, for `count` elements.
  __device__ __forceinline__ void move_to(double other, double count) {
    const double step = static_cast<double>(base) - other;
    squares += step * (2 * sum + count * step);
    sum += count * step;
  }
};

// Moments of a thread's columns, each around its first element here, over `slots` units: that of slot j is
// at from(j), and keep(j, v) is told of it.
template <class T, bool WHOLE, class From, class Keep>
__device__ __forceinline__ void column_moments(int64_t slots, From from, Keep keep,
                                               Moments<Real<T>> (&m)[SPAN<T, WHOLE>]) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  Words base{};  // the first elements; as reals they would take more registers
  R near[S];
  for (int64_t j = 0; j < slots; j += AHEAD) {
    Words v[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j + i < slots) load_span<T, WHOLE>(from(j + i), v[i]);
    if (j == 0) base = v[0];
    R e[S], sum[S] = {}, squares[S] = {};
    widen_span<T, WHOLE>(base, near);
#pragma unroll
    for (int i = 0; i < AHEAD; ++i)
      if (j + i < slots) {
        keep(j + i, v[i]);
        widen_span<T, WHOLE>(v[i], e);
#pragma unroll
        for (int l = 0; l < S; ++l) {
          const R step = e[l] - near[l];
          sum[l] += step;
          squares[l] += step * step;
        }
      }
#pragma unroll
    for (int l = 0; l < S; ++l) {
      m[l].sum += sum[l];
      m[l].squares += squares[l];
    }
  }
  widen_span<T, WHOLE>(base, near);
#pragma unroll
  for (int l = 0; l < S; ++l) m[l].base = near[l];
}

// slope, curve and rest from the channel's sums; `cross` is the sum of g (x - mean).
template <class R>
struct Slope {
  R slope, curve, rest;
};
template <class R>
__device__ __forceinline__ Slope<R> slope_of_sums(double sum, double cross, R rstd, R w, double count,
                                                  bool training) {
  const double inverse = rstd, slope = inverse * static_cast<double>(w);
  if (!training) return {static_cast<R>(slope), R(0), R(0)};
  return {static_cast<R>(slope), static_cast<R>(-slope * inverse * inverse * cross / count),
          static_cast<R>(-slope * sum / count)};
}

// Where the ReLU let a value through: where what was stored is positive.
template <class T>
__device__ __forceinline__ bool passes(Real<T> value) {
  return rounded<T>(value) > Real<T>(0);
}

// The sums of two numbers over the cluster; all threads get them. Ends with what others may read.
__device__ __forceinline__ void cluster_sums(char* shared, double& a, double& b) {
  const unsigned tiles = cluster_size();
  if (tiles == 1) return;
  auto* const slots = reinterpret_cast<Measure*>(shared + Block::BYTES);
  if (threadIdx.x < tiles) *shared_of(slots + cluster_rank(), threadIdx.x) = {a, b};
  cluster_barrier();
  const unsigned from = threadIdx.x % CLUSTER;
  a = from < tiles ? slots[from].a : 0;
  b = from < tiles ? slots[from].b : 0;
  Lanes<CLUSTER>::sums(a, b);
}

// Adds a and b over the threads that share a column; the result is right in the first `across` of them.
__device__ __forceinline__ void add_down(double* shared, unsigned across, double& a, double& b) {
  __syncthreads();
  shared[2 * threadIdx.x] = a;
  shared[2 * threadIdx.x + 1] = b;
  __syncthreads();
  if (threadIdx.x < across)
    for (unsigned t = threadIdx.x + across; t < blockDim.x; t += across) {
      a += shared[2 * t];
      b += shared[2 * t + 1];
    }
}

}  // namespace benchbench::cuda
