// Kernels with one fault each, and the same without it: what the host executor must find, and must not
// complain of.
#include <cstdio>

#include "cuda/support/launch.h"
#include "cuda/support/vectors.h"

namespace {

using namespace benchbench::cuda;

// Sums `n` numbers with one block of several warps; `faulty` leaves out the barrier between the
// writing of the warps' sums and their reading.
__global__ void missing_barrier(const float* x, float* total, int n, bool faulty) {
  auto* sums = reinterpret_cast<float*>(shared_memory());
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) sum += x[i];
  for (unsigned by = 16; by; by /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, by);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  if (!faulty) __syncthreads();
  if (threadIdx.x == 0) {
    float all = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) all += sums[w];
    *total = all;
  }
}

// Two rounds through the same shared memory: without the second barrier a fast warp writes its sum of
// the next round while a slow one still reads those of this round.
__global__ void race(const float* x, float* totals, int rounds, bool faulty) {
  auto* sums = reinterpret_cast<float*>(shared_memory());
  for (int r = 0; r < rounds; ++r) {
    float sum = x[r * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)];
    for (unsigned by = 16; by; by /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, by);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    float all = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) all += sums[w];
    totals[r * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)] = all;
    if (!faulty) __syncthreads();
  }
}

// A counter that many threads raise; `faulty` reads and writes it in two steps.
__global__ void lost_update(unsigned* count, bool faulty) {
  if (!faulty) {
    atomicAdd(count, 1u);
    return;
  }
  const unsigned old = *count;
  __threadfence();
  *count = old + 1;
}

// `faulty` lets only half of the block reach the barrier.
__global__ void divergent_barrier(float* y, bool faulty) {
  if (!faulty || threadIdx.x < blockDim.x / 2) __syncthreads();
  y[threadIdx.x] = 1;
}

// `faulty`: two halves of the block wait at two barriers, each for all.
__global__ void two_barriers(float* y, bool faulty) {
  if (faulty && threadIdx.x < 32) {
    __syncthreads();
    y[threadIdx.x] = 1;
  } else {
    __syncthreads();
    y[threadIdx.x] = 1;
  }
}

// `faulty`: lanes call a shuffle whose mask names all of the warp, but half of it does not come.
__global__ void divergent_shuffle(float* y, bool faulty) {
  float v = static_cast<float>(threadIdx.x);
  if (!faulty || threadIdx.x % 2) v = __shfl_xor_sync(ALL_LANES, v, 1);
  y[threadIdx.x] = v;
}

__global__ void out_of_bounds(const float* x, float* y, int n, int read, int write) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n + write) y[i] = i < n + read ? x[i] : 0.0f;
}

__global__ void shared_overrun(float* y, unsigned at) {
  auto* mine = reinterpret_cast<float*>(shared_memory());
  mine[at + threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = mine[at + threadIdx.x];
}

__global__ void misaligned(const float* x, float* y, int by) {
  store_words(y + 4 * threadIdx.x, load_words(x + by + 4 * threadIdx.x));
}

// `faulty` reads a place of shared memory that nobody wrote.
__global__ void uninitialised(float* y, bool faulty) {
  auto* mine = reinterpret_cast<float*>(shared_memory());
  if (!faulty || threadIdx.x != 7) mine[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = mine[threadIdx.x];
}

// Waits for a flag that another block raises; `faulty`: nobody does.
__global__ void endless_wait(unsigned* flag, bool faulty) {
  if (blockIdx.x == 0 && !faulty) atomicExch(flag, 1u);
  if (blockIdx.x == 1)
    while (*static_cast<volatile unsigned*>(flag) == 0) __nanosleep(20);
}

// Blocks of a cluster sum what lies in each other's shared memory. `faulty`: a block ends while others
// may still read its memory.
__global__ void cluster_exit(float* y, bool faulty) {
  auto* mine = reinterpret_cast<float*>(shared_memory());
  if (threadIdx.x == 0) *mine = static_cast<float>(cluster_rank() + 1);
  cluster_barrier();
  float sum = 0;
  for (unsigned r = 0; r < cluster_size(); ++r) sum += *shared_of(mine, r);
  y[blockIdx.x * blockDim.x + threadIdx.x] = sum;
  if (!faulty) cluster_barrier();
}

// All blocks write, then all read what others wrote.
__global__ void grid_exchange(float* between, float* y, bool faulty) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
  between[i] = static_cast<float>(i);
  if (!faulty) grid_barrier();
  y[i] = between[(i + blockDim.x) % n];
}

__global__ void undefined_shift(unsigned* y, int by) { y[threadIdx.x] = 1 << by; }

const char* told(const Failure& failure) {
  static char text[sizeof failure.text];
  std::snprintf(text, sizeof text, "%s", failure.text);
  return text;
}

constexpr Device DEVICE{nullptr, 4, 9};

Shape shape(unsigned blocks, unsigned threads, unsigned shared = 0) {
  Shape s;
  s.blocks = blocks;
  s.threads = threads;
  s.shared = shared;
  return s;
}

}  // namespace

extern "C" {

const char* run_missing_barrier(const float* x, float* total, int n, int faulty) {
  return told(launch("missing_barrier", missing_barrier, shape(1, 128, 16), DEVICE, x, total, n,
                     faulty != 0));
}
const char* run_race(const float* x, float* totals, int rounds, int faulty) {
  return told(launch("race", race, shape(1, 128, 16), DEVICE, x, totals, rounds, faulty != 0));
}
const char* run_lost_update(unsigned* count, int faulty) {
  return told(launch("lost_update", lost_update, shape(2, 64), DEVICE, count, faulty != 0));
}
const char* run_divergent_barrier(float* y, int faulty) {
  return told(launch("divergent_barrier", divergent_barrier, shape(1, 64), DEVICE, y, faulty != 0));
}
const char* run_two_barriers(float* y, int faulty) {
  return told(launch("two_barriers", two_barriers, shape(1, 64), DEVICE, y, faulty != 0));
}
const char* run_divergent_shuffle(float* y, int faulty) {
  return told(launch("divergent_shuffle", divergent_shuffle, shape(1, 32), DEVICE, y, faulty != 0));
}
const char* run_out_of_bounds(const float* x, float* y, int n, int read, int write) {
  return told(launch("out_of_bounds", out_of_bounds, shape((n + 63) / 64, 64), DEVICE, x, y, n, read,
                     write));
}
const char* run_shared_overrun(float* y, unsigned at) {
  return told(launch("shared_overrun", shared_overrun, shape(1, 32, 160), DEVICE, y, at));
}
const char* run_misaligned(const float* x, float* y, int by) {
  return told(launch("misaligned", misaligned, shape(1, 32), DEVICE, x, y, by));
}
const char* run_uninitialised(float* y, int faulty) {
  return told(launch("uninitialised", uninitialised, shape(1, 64, 256), DEVICE, y, faulty != 0));
}
const char* run_endless_wait(unsigned* flag, int faulty) {
  return told(launch("endless_wait", endless_wait, shape(2, 1), DEVICE, flag, faulty != 0));
}
const char* run_cluster_exit(float* y, int faulty) {
  Shape s = shape(8, 32, 128);
  s.cluster = 4;
  return told(launch("cluster_exit", cluster_exit, s, DEVICE, y, faulty != 0));
}
const char* run_grid_exchange(float* between, float* y, int faulty, int cooperative) {
  Shape s = shape(6, 32);
  s.cooperative = cooperative != 0;
  return told(launch("grid_exchange", grid_exchange, s, DEVICE, between, y, faulty != 0));
}
const char* run_undefined_shift(unsigned* y, int by) {
  return told(launch("undefined_shift", undefined_shift, shape(1, 1), DEVICE, y, by));
}

}  // extern "C"
