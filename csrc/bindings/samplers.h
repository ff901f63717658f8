// What the samplers' units for CPU and CUDA share: checks of arguments, and how many draws of a
// bootstrap fall into which block of rows, which is decided on the host for both.
#pragma once

#include "bindings/common.h"
#include "cpu/random.h"
#include "cpu/streams.h"

#include <tuple>
#include <vector>

namespace benchbench {

// ---- checks ----

inline void check_sample(const char* op, const Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble, "benchbench::", op,
              ": dtype ", x.scalar_type(), " is not supported; convert the input with .float()");
  TORCH_CHECK(x.dim() == 1 && x.sym_numel() > 0, "benchbench::", op, ": the input has shape ",
              x.sym_sizes(), "; it must have one dimension and at least one value");
}

inline void check_count(const char* op, const char* what, int64_t count) {
  TORCH_CHECK(count >= 0 && count < int64_t{1} << 32, "benchbench::", op, ": ", what, " is ", count,
              "; it must lie between 0 and 2^32 - 1");
}

inline void check_draws(int64_t n, int64_t count) {
  TORCH_CHECK(n > 0 && count >= 0, "benchbench::draw_uniform: ", count, " draws from ", n,
              " numbers; there must be at least one number and no negative count");
}

inline void check_table(const Tensor& table, int64_t count) {
  TORCH_CHECK(table.scalar_type() == at::kLong && table.dim() == 1 && table.numel() > 0 &&
                  table.is_contiguous() && count >= 0,
              "benchbench::draw_alias: the table must come from alias_table(), the count must not be "
              "negative");
}

inline void check_taken(const Tensor& x, const Tensor& index) {
  TORCH_CHECK(x.dim() >= 1, "benchbench::take_rows: the input has no dimension; it must have rows");
  TORCH_CHECK(index.scalar_type() == at::kLong && index.dim() == 1 && index.device() == x.device(),
              "benchbench::take_rows: the index is ", index.scalar_type(), " of shape ",
              index.sym_sizes(), " on ", index.device(),
              "; it must be int64 with one dimension, on the input's device, ", x.device());
}

inline void check_resampled(const Tensor& x, const Tensor& taps, int64_t up, int64_t down) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1, "benchbench::resample: the input is ",
              x.scalar_type(), " of shape ", x.sym_sizes(), "; it must be float32 with a time axis");
  TORCH_CHECK(up > 0 && down > 0 && taps.dim() == 2 && taps.size(0) == up &&
                  taps.size(1) % 16 == 0 && taps.scalar_type() == at::kFloat && taps.is_contiguous() &&
                  taps.device() == x.device(),
              "benchbench::resample: taps must be contiguous float32 of shape (up, width), the width a "
              "multiple of 16, on the input's device");
}

inline c10::SymInt resampled_length(const Tensor& x, int64_t up, int64_t down) {
  return (x.sym_size(-1) * up + (down - 1)) / down;
}

inline Type sample_type(const Tensor& x) { return x.scalar_type() == at::kDouble ? Type::f64 : Type::f32; }

// ---- blocks of a bootstrap ----

// Powers of two from SUMMED_ROWS down that add up to n, so that no index is ever rejected.
inline std::vector<int64_t> blocks_of(int64_t n) {
  std::vector<int64_t> sizes(static_cast<size_t>(n / SUMMED_ROWS), SUMMED_ROWS);
  for (int64_t size = SUMMED_ROWS / 2; size; size /= 2)
    if (n & size) sizes.push_back(size);
  return sizes;
}

// How many of a replicate's draws fall into each block: multinomial, as a chain of binomials.
inline void split(uint64_t key, uint32_t replicate, int64_t rows, bool poisson_total,
                  const std::vector<int64_t>& sizes, uint32_t* counts, double& total) {
  Sequence random({key, 0, replicate, SPLIT});
  int64_t draws = poisson_total ? poisson(random, static_cast<double>(rows)) : rows;
  total = static_cast<double>(draws);
  int64_t left = rows;
  for (size_t b = 0; b < sizes.size(); ++b) {
    const int64_t here =
        sizes[b] == left
            ? draws
            : binomial(random, draws, static_cast<double>(sizes[b]) / static_cast<double>(left));
    counts[b] = static_cast<uint32_t>(here);
    draws -= here;
    left -= sizes[b];
  }
}

// How many draws of each replicate fall into each block, (replicates, blocks) of uint32 in an int32
// tensor, and how many it has in all, (replicates) in float64, both on the CPU. Poisson counts are a
// Poisson number of draws, each alike: the same law.
inline std::tuple<Tensor, Tensor> bootstrap_counts(int64_t n, int64_t replicates, int64_t seed,
                                                   bool poisson_total) {
  check_count("bootstrap_sums", "the number of replicates", replicates);
  check_count("bootstrap_sums", "the number of rows", n);
  const std::vector<int64_t> sizes = blocks_of(n);
  const auto blocks = static_cast<int64_t>(sizes.size());
  Tensor counts = at::empty({replicates, blocks}, at::kInt), totals = at::empty({replicates}, at::kDouble);
  auto* to = reinterpret_cast<uint32_t*>(counts.mutable_data_ptr<int32_t>());
  double* total = totals.mutable_data_ptr<double>();
  at::parallel_for(0, replicates, GRAIN / (blocks * 16 + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      split(static_cast<uint64_t>(seed), static_cast<uint32_t>(r), n, poisson_total, sizes,
            to + r * blocks, total[r]);
  });
  return {counts, totals};
}

}  // namespace benchbench
