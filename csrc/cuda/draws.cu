// Draws by counters: indices, alias tables, rows gathered, sums over draws; and signals at another rate.
//
// A thread makes the four words of one counter (csrc/cpu/random.h) and does what they say; which draws
// these are follows from how groups of words are laid out, so nothing is exchanged between threads.
// Sums over draws keep a block of 8192 rows in shared memory, where a draw costs a read of four bytes
// from anywhere; sum_columns() adds the partial sums.
#include "cuda/draws.h"

#include "cpu/random.h"
#include "cpu/streams.h"
#include "cuda/columns.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 256;
constexpr int64_t WINDOW = 48 * 1024;  // bytes of a signal that a block keeps, at most

// The four words of a counter.
__device__ __forceinline__ void words_of(uint64_t key, uint32_t counter, uint32_t part, uint32_t item,
                                         Use use, uint32_t words[4]) {
  words[0] = counter;
  words[1] = part;
  words[2] = item;
  words[3] = use;
  philox(key, words);
}

// The upper 64 of 96 bits of a word of 64 bits times n: the index above, a uniform number below.
__device__ __forceinline__ uint64_t place_of(uint32_t low, uint32_t high, uint32_t n) {
  return uint64_t{high} * n + (uint64_t{low} * n >> 32);
}

// The upper 64 of 128 bits of a word of 64 bits times n.
__device__ __forceinline__ uint64_t wide_index_of(uint32_t low, uint32_t high, uint64_t n) {
  const uint64_t n0 = static_cast<uint32_t>(n), n1 = n >> 32;
  const uint64_t cross = low * n1 + (low * n0 >> 32);  // below 2^64: (2^32 - 1)^2 + 2^32 - 1
  const uint64_t other = high * n0 + static_cast<uint32_t>(cross);
  return high * n1 + (cross >> 32) + (other >> 32);
}

// A counter makes two draws, 16 apart: 16 counters have 32 draws in a row.
template <class Choose>
__global__ void __launch_bounds__(THREADS)
    draw_indices(uint64_t n, uint64_t key, Use use, int64_t count, int64_t* out, Choose choose) {
  constexpr int64_t COUNTERS = DRAWS / 2;
  const int64_t thread = blockIdx.x * int64_t(THREADS) + threadIdx.x;
  const int64_t chunk = thread / COUNTERS;
  const auto counter = static_cast<uint32_t>(thread % COUNTERS);
  const int64_t at = chunk * DRAWS + counter / 16 * 32 + counter % 16;
  if (at >= count) return;
  uint32_t words[4];
  words_of(key, counter, static_cast<uint32_t>(chunk), static_cast<uint32_t>(chunk >> 32), use, words);
  out[at] = choose(words[0], words[1], n);
  if (at + 16 < count) out[at + 16] = choose(words[2], words[3], n);
}

struct Index {  // n below 2^32
  __device__ int64_t operator()(uint32_t low, uint32_t high, uint64_t n) const {
    return static_cast<int64_t>(place_of(low, high, static_cast<uint32_t>(n)) >> 32);
  }
};

struct WideIndex {
  __device__ int64_t operator()(uint32_t low, uint32_t high, uint64_t n) const {
    return static_cast<int64_t>(wide_index_of(low, high, n));
  }
};

struct Lookup {
  const uint64_t* table;
  __device__ int64_t operator()(uint32_t low, uint32_t high, uint64_t n) const {
    const uint64_t place = place_of(low, high, static_cast<uint32_t>(n));
    const uint64_t entry = table[place >> 32];
    const bool stays = static_cast<uint32_t>(place) < static_cast<uint32_t>(entry);
    return static_cast<int64_t>((stays ? place : entry) >> 32);
  }
};

template <class Choose>
Failure draws(const char* name, int64_t n, uint64_t key, Use use, int64_t count, int64_t* out,
              Choose choose, const Device& device) {
  if (!count) return {};
  // Chunks are whole but for the last one, whose counters are 16 for each 32 draws begun.
  const int64_t last = count % DRAWS;
  const int64_t counters = count / DRAWS * (DRAWS / 2) + (last + 31) / 32 * 16;
  Shape shape;
  shape.blocks = static_cast<uint64_t>(divided_up(counters, THREADS));
  shape.threads = THREADS;
  return launch(name, draw_indices<Choose>, shape, device, static_cast<uint64_t>(n), key, use, count, out,
                choose);
}

// V is the widest word that rows and addresses are multiples of.
template <class V>
__global__ void __launch_bounds__(THREADS)
    gather_rows(const V* from, int64_t rows, int64_t words, const int64_t* index, int64_t total, V* to) {
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < total;
       i += gridDim.x * int64_t(THREADS)) {
    const int64_t row = i / words, chosen = index[row];
    BB_DEMAND(chosen >= 0 && chosen < rows, "take_rows: an index is none of the rows");
    to[i] = from[chosen * words + (i - row * words)];
  }
}

template <class V>
Failure gather(const void* from, int64_t rows, int64_t bytes, const int64_t* index, int64_t count, void* to,
               const Device& device) {
  const int64_t words = bytes / int64_t(sizeof(V)), total = words * count;
  Shape shape;
  shape.blocks = static_cast<uint64_t>(
      smaller<int64_t>(divided_up(total, 4 * THREADS), 64 * int64_t(device.processors)));
  shape.threads = THREADS;
  return launch("take_rows", gather_rows<V>, shape, device, static_cast<const V*>(from), rows, words,
                index, total, static_cast<V*>(to));
}

struct alignas(16) Four {
  float v[4];
};

// blockIdx.x is a signal's chunk of THREADS outputs. Output m stands at input position m down / up: one
// product of `width` inputs with the taps of that position's fraction. Threads read one run of inputs,
// kept in shared memory where it fits (STAGED), and each its own row of taps, through the caches.
template <bool STAGED>
__global__ void __launch_bounds__(THREADS) resample_signals(Polyphase job, const float* x, int64_t length,
                                                            int64_t size, int64_t chunks, float* y) {
  const int64_t signal = blockIdx.x / chunks, first = (blockIdx.x - signal * chunks) * THREADS;
  const float* const from = x + signal * length;
  const int64_t m = first + threadIdx.x;
  float* const window = reinterpret_cast<float*>(shared_memory());
  const int64_t window_at = first * job.down / job.up - job.before;
  if constexpr (STAGED) {
    const int64_t last = smaller<int64_t>(size, first + THREADS) - 1;
    const int64_t count = last * job.down / job.up - job.before + job.width - window_at;
    for (int64_t i = threadIdx.x; i < count; i += THREADS) {
      const int64_t at = window_at + i;
      window[i] = at >= 0 && at < length ? from[at] : 0.0f;  // at the ends the signal is zero
    }
    __syncthreads();
  }
  if (m >= size) return;
  const int64_t position = m * job.down / job.up, phase = m * job.down - position * job.up;
  const int64_t begin = position - job.before;
  const Four* const taps = reinterpret_cast<const Four*>(job.taps + phase * job.width);
  float sum[4] = {};
  for (int64_t k = 0; k < job.width; k += 4) {
    const Four by = taps[k / 4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t at = begin + k + j;
      if constexpr (STAGED)
        sum[j] += window[at - window_at] * by.v[j];
      else if (at >= 0 && at < length)
        sum[j] += from[at] * by.v[j];
    }
  }
  y[signal * size + m] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// Block b's first row, and how many it has.
struct RowBlock {
  int64_t first, rows;
  __device__ __forceinline__ RowBlock(int64_t n, int64_t b) : first(b * SUMMED_ROWS), rows(SUMMED_ROWS) {
    const int64_t whole = n / SUMMED_ROWS;
    if (b < whole) return;
    first = whole * SUMMED_ROWS;
    rows = SUMMED_ROWS / 2;
    for (int64_t skip = b - whole;; rows /= 2)
      if (n & rows) {
        if (skip-- == 0) return;
        first += rows;
      }
  }
};

// blockIdx.x is the block of rows; blockIdx.y takes every gridDim.y-th replicate.
template <class T, bool SQUARES>
__global__ void __launch_bounds__(THREADS) sum_replicates(const T* x, Replicates job, uint64_t key,
                                                          double* partial) {
  char* const memory = shared_memory();
  Block team{memory};
  T* const rows = reinterpret_cast<T*>(memory + Block::BYTES);
  const int64_t b = blockIdx.x;
  const RowBlock block(job.n, b);
  for (int64_t i = threadIdx.x; i < block.rows; i += THREADS) rows[i] = x[block.first + i];
  __syncthreads();
  const auto mask = static_cast<uint32_t>(block.rows - 1);
  for (int64_t r = blockIdx.y; r < job.replicates; r += gridDim.y) {
    const int64_t count = job.counts[r * job.blocks + b];
    double sum = 0, squared = 0;
    // Word k has draws 2k and 2k + 1 in its halves; a group of 64 words has 16 counters.
    for (int64_t counter = threadIdx.x; counter / 16 * 128 < count; counter += THREADS) {
      uint32_t words[4];
      words_of(key, static_cast<uint32_t>(counter), static_cast<uint32_t>(b), static_cast<uint32_t>(r),
               SUMS, words);
      const int64_t first = counter / 16 * 128 + counter % 16 * 2;
      T part = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          if (first + j * 32 + half < count) {
            const T value = rows[words[j] >> (16 * half) & mask];
            if constexpr (SQUARES) {
              const double distance = static_cast<double>(value) - job.middle;
              sum += distance;
              squared += distance * distance;
            } else {
              part += value;
            }
          }
      if constexpr (!SQUARES) sum += part;
    }
    sum = team.sum(sum);
    if constexpr (SQUARES) squared = team.sum(squared);
    if (threadIdx.x == 0) {
      partial[(b * job.replicates + r) * 2] = sum;
      partial[(b * job.replicates + r) * 2 + 1] = squared;
    }
  }
}

// -ln u of a word's upper 24 bits, u = (bits + 1/2) 2^-24.
__device__ __forceinline__ float exponential_variate(uint32_t word) {
  return -logf((static_cast<float>(word >> 8) + 0.5f) * 0x1p-24f);
}

// blockIdx.x is the chunk of rows; blockIdx.y takes every gridDim.y-th replicate.
template <class T>
__global__ void __launch_bounds__(THREADS)
    sum_weighed(const T* x, int64_t n, int64_t replicates, uint64_t key, double* partial) {
  Block team{shared_memory()};
  const int64_t chunk = blockIdx.x, rows = smaller<int64_t>(WEIGHED_ROWS, n - chunk * WEIGHED_ROWS);
  const T* const mine = x + chunk * WEIGHED_ROWS;
  for (int64_t r = blockIdx.y; r < replicates; r += gridDim.y) {
    double weight = 0, sum = 0;
    for (int64_t counter = threadIdx.x; counter / 16 * GROUP < rows; counter += THREADS) {
      uint32_t words[4];
      words_of(key, static_cast<uint32_t>(counter), static_cast<uint32_t>(chunk),
               static_cast<uint32_t>(r), EXPONENTIAL, words);
      const int64_t first = counter / 16 * GROUP + counter % 16;
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (first + 16 * j < rows) {
          const float w = exponential_variate(words[j]);
          weight += w;
          sum += static_cast<double>(w) * mine[first + 16 * j];
        }
    }
    weight = team.sum(weight);
    sum = team.sum(sum);
    if (threadIdx.x == 0) {
      partial[(chunk * replicates + r) * 2] = weight;
      partial[(chunk * replicates + r) * 2 + 1] = sum;
    }
  }
}

// `found` has as many columns as each of the parts.
Failure add(const double* partial, int64_t parts, int64_t columns, double* found, const Device& device) {
  return sum_columns(Type::f64, true, partial, found, nullptr, nullptr, parts, columns, device);
}

// Enough blocks for the device; those of one part of the rows share out the replicates.
unsigned shares_of(int64_t parts, int64_t replicates, const Device& device) {
  const int64_t wanted = divided_up(8 * int64_t(device.processors), parts);
  return static_cast<unsigned>(smaller(smaller(replicates, wanted), int64_t{65535}));
}

template <class T, bool SQUARES>
Failure sums(const Replicates& job, uint64_t key, double* partial, const Device& device) {
  Shape shape;
  shape.blocks = static_cast<uint64_t>(job.blocks);
  shape.rows = shares_of(job.blocks, job.replicates, device);
  shape.threads = THREADS;
  shape.shared = Block::BYTES + static_cast<unsigned>(SUMMED_ROWS * sizeof(T));
  return launch("sum_draws", sum_replicates<T, SQUARES>, shape, device, static_cast<const T*>(job.x), job,
                key, partial);
}

template <class T>
Failure weighed(const void* x, int64_t n, int64_t replicates, uint64_t key, double* partial,
                const Device& device) {
  Shape shape;
  shape.blocks = static_cast<uint64_t>(weighed_chunks(n));
  shape.rows = shares_of(weighed_chunks(n), replicates, device);
  shape.threads = THREADS;
  shape.shared = Block::BYTES;
  return launch("sum_exponential", sum_weighed<T>, shape, device, static_cast<const T*>(x), n, replicates,
                key, partial);
}

}  // namespace

Failure draw_uniform(int64_t n, uint64_t key, int64_t count, int64_t* out, const Device& device) {
  return n < int64_t{1} << 32 ? draws("draw_uniform", n, key, UNIFORM, count, out, Index{}, device)
                              : draws("draw_uniform", n, key, UNIFORM, count, out, WideIndex{}, device);
}

Failure draw_alias(const uint64_t* table, int64_t n, uint64_t key, int64_t count, int64_t* out,
                   const Device& device) {
  return draws("draw_alias", n, key, ALIAS, count, out, Lookup{table}, device);
}

Failure take_rows(const void* from, int64_t rows, int64_t bytes, const int64_t* index, int64_t count,
                  void* to, const Device& device) {
  if (!bytes || !count) return {};
  const uintptr_t all = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to) |
                        static_cast<uintptr_t>(bytes);
  if (all % 16 == 0) return gather<Words>(from, rows, bytes, index, count, to, device);
  if (all % 4 == 0) return gather<uint32_t>(from, rows, bytes, index, count, to, device);
  return gather<unsigned char>(from, rows, bytes, index, count, to, device);
}

Failure resample(const Polyphase& job, const float* x, int64_t signals, int64_t length, int64_t size,
                 float* y, const Device& device) {
  if (!signals || !size) return {};
  const int64_t chunks = divided_up(size, THREADS);
  // Positions of a block's first and last output are this far apart, at most.
  const int64_t window = (THREADS - 1) * job.down / job.up + 1 + job.width;
  const bool staged = window * int64_t(sizeof(float)) <= WINDOW;
  Shape shape;
  shape.blocks = static_cast<uint64_t>(signals * chunks);
  shape.threads = THREADS;
  shape.shared = staged ? static_cast<unsigned>(window * int64_t(sizeof(float))) : 0;
  return launch("resample", staged ? resample_signals<true> : resample_signals<false>, shape, device, job,
                x, length, size, chunks, y);
}

Failure sum_draws(const Replicates& job, uint64_t key, double* partial, double* found,
                  const Device& device) {
  if (!job.replicates) return {};
  const bool wide = job.type == Type::f64;
  const Failure failure = wide ? (job.squares ? sums<double, true>(job, key, partial, device)
                                              : sums<double, false>(job, key, partial, device))
                               : (job.squares ? sums<float, true>(job, key, partial, device)
                                              : sums<float, false>(job, key, partial, device));
  return failure ? failure : add(partial, job.blocks, 2 * job.replicates, found, device);
}

int64_t weighed_chunks(int64_t n) { return divided_up(n, WEIGHED_ROWS); }

Failure sum_exponential(Type type, const void* x, int64_t n, int64_t replicates, uint64_t key,
                        double* partial, double* found, const Device& device) {
  if (!replicates) return {};
  const Failure failure = type == Type::f64 ? weighed<double>(x, n, replicates, key, partial, device)
                                            : weighed<float>(x, n, replicates, key, partial, device);
  return failure ? failure : add(partial, weighed_chunks(n), 2 * replicates, found, device);
}

}  // namespace benchbench::cuda
