// Teams: the threads that share a row, and the reductions among them.
//
// Every reduction has a fixed order and gives all members the same bits: a butterfly adds the same two
// numbers in every lane, and addition commutes.
#pragma once

#include "cuda/support/intrinsics.h"

namespace benchbench::cuda {

struct Add {
  template <class R>
  __device__ R operator()(R a, R b) const { return a + b; }
};
struct Max {  // of a number and a nan: the number
  template <class R>
  __device__ R operator()(R a, R b) const {
    if constexpr (sizeof(R) == 4) return fmaxf(a, b);
    else return fmax(a, b);
  }
};

// L neighbouring lanes; all lanes of the warp must call.
template <int L>
struct Lanes {
  __device__ static unsigned size() { return L; }
  __device__ static unsigned lane() { return threadIdx.x % L; }
  template <class F, class R>
  __device__ static R reduce(R v) {
#pragma unroll
    for (int by = L / 2; by; by /= 2) v = F()(v, __shfl_xor_sync(ALL_LANES, v, by));
    return v;
  }
  template <class R>
  __device__ static R sum(R v) { return reduce<Add>(v); }
  template <class R>
  __device__ static R max(R v) { return reduce<Max>(v); }
  template <class R>
  __device__ static void sums(R& a, R& b) {
    a = sum(a);
    b = sum(b);
  }
};

// All threads of a block, in whole warps. Two buffers in turn, so that one barrier a reduction is
// enough: whoever writes a buffer again has passed the barrier that all reach after reading it.
struct Block {
  static constexpr unsigned BYTES = 2 * 64 * sizeof(double);  // of shared memory
  char* memory;
  unsigned turn = 0;

  __device__ static unsigned size() { return blockDim.x; }
  __device__ static unsigned lane() { return threadIdx.x; }

  template <class F, class R>
  __device__ R reduce(R v, R nothing) {
    R* const slots = reinterpret_cast<R*>(memory + turn * (BYTES / 2));
    turn ^= 1;
    v = Lanes<32>::reduce<F>(v);
    if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = v;
    __syncthreads();
    v = threadIdx.x % 32 < blockDim.x / 32 ? slots[threadIdx.x % 32] : nothing;
    return Lanes<32>::reduce<F>(v);
  }
  template <class R>
  __device__ R sum(R v) { return reduce<Add>(v, R(0)); }
  template <class R>
  __device__ R max(R v) { return reduce<Max>(v, static_cast<R>(-INFINITY)); }
  template <class R>
  __device__ void sums(R& a, R& b) {
    R* const slots = reinterpret_cast<R*>(memory + turn * (BYTES / 2));
    turn ^= 1;
    Lanes<32>::sums(a, b);
    if (threadIdx.x % 32 == 0) {
      slots[threadIdx.x / 32] = a;
      slots[32 + threadIdx.x / 32] = b;
    }
    __syncthreads();
    const bool there = threadIdx.x % 32 < blockDim.x / 32;
    a = there ? slots[threadIdx.x % 32] : R(0);
    b = there ? slots[32 + threadIdx.x % 32] : R(0);
    Lanes<32>::sums(a, b);
  }
};

}  // namespace benchbench::cuda
