// The samplers' CUDA kernels: the same counters as on the CPU, so the same draws for the same key.
// Bootstrap sums agree with the CPU's to rounding, since the same rows are added in another order. Run
// on the host executor by tests/test_cuda_draws.py; csrc/bindings/cuda/samplers.cpp makes operators of
// them.
#pragma once

#include "cuda/kernels.h"

namespace benchbench::cuda {

// `count` indices below n, alike; n from 1 to 2^63 - 1.
Failure draw_uniform(int64_t n, uint64_t key, int64_t count, int64_t* out, const Device&);

// By an alias table (csrc/bindings/alias.h) of n entries.
Failure draw_alias(const uint64_t* table, int64_t n, uint64_t key, int64_t count, int64_t* out,
                   const Device&);

// Rows of `bytes` bytes at `index`, one after the other, of the `rows` that there are. An index that is
// none of them ends the kernel with an error of the device, as torch's own indexing does.
Failure take_rows(const void* from, int64_t rows, int64_t bytes, const int64_t* index, int64_t count,
                  void* to, const Device&);

// `signals` of `length` values at another rate, to `size` each: csrc/cpu/polyphase.h. The job's taps are
// in the device's memory, aligned to 16 bytes, their width a multiple of 4.
Failure resample(const Polyphase&, const float* x, int64_t signals, int64_t length, int64_t size,
                 float* y, const Device&);

// Sums over rows drawn alike, for replicates of a bootstrap. x has n values, float or double, in blocks
// of SUMMED_ROWS and behind them of the powers of two that are left, the larger ones first; `counts`
// (replicates, blocks) says how many draws of a replicate fall into a block. `sums` (replicates, 2) in
// double are those of x - middle and, with `squares`, of its square, else 0. `partial` is memory of
// (blocks, replicates, 2) doubles. Two launches.
struct Replicates {
  Type type;
  const void* x;
  int64_t n, blocks, replicates;
  const uint32_t* counts;
  bool squares;
  double middle;
};
Failure sum_draws(const Replicates&, uint64_t key, double* partial, double* sums, const Device&);

// (replicates, 2): sum of w and of w x with standard exponential weights w. `partial` is memory of
// weighed_chunks(n) such rows for each. Two launches.
int64_t weighed_chunks(int64_t n);
Failure sum_exponential(Type, const void* x, int64_t n, int64_t replicates, uint64_t key,
                        double* partial, double* sums, const Device&);

}  // namespace benchbench::cuda
