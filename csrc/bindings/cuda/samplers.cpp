// Samplers: the CUDA functions of the operators that bindings/samplers.cpp declares. They give the CPU's
// draws for the same seed.
//
// What is decided once for a whole sample stays on the host: how many draws of a bootstrap fall into
// which block (a binomial for each 8192 rows of a replicate) is computed there and copied, and so is an
// alias table. Such a copy waits for nothing but itself; in a graph that is being captured it cannot be.
#include "bindings/samplers.h"

#include <ATen/ops/cat.h>
#include <torch/library.h>

#include "bindings/cuda/launching.h"
#include "cuda/draws.h"

namespace benchbench {
namespace {

void check_not_captured(const char* op) {
  TORCH_CHECK(!being_captured(), "benchbench::", op, ": it copies from the host, which a CUDA graph "
              "cannot capture; call it ahead of the capture");
}

Tensor bootstrap_sums(const Tensor& input, int64_t replicates, int64_t seed, bool poisson_total,
                      bool squares, double middle) {
  check_sample("bootstrap_sums", input);
  const Tensor x = input.contiguous();
  const int64_t n = x.numel();
  const Here here(x);
  check_not_captured("bootstrap_sums");
  const auto [shares, totals] = bootstrap_counts(n, replicates, seed, poisson_total);
  const Tensor counts = shares.to(x.device());
  const auto doubles_of = x.options().dtype(at::kDouble);
  const Tensor sums = at::empty({replicates, 2}, doubles_of);
  const Tensor partial = at::empty({counts.size(1), replicates, 2}, doubles_of);
  const cuda::Replicates job{sample_type(x),
                             pointer(x),
                             n,
                             counts.size(1),
                             replicates,
                             reinterpret_cast<const uint32_t*>(counts.const_data_ptr<int32_t>()),
                             squares,
                             middle};
  check_launch("bootstrap_sums",
               cuda::sum_draws(job, static_cast<uint64_t>(seed), partial.mutable_data_ptr<double>(),
                               sums.mutable_data_ptr<double>(), here));
  return at::cat({totals.to(x.device()).unsqueeze(1), sums}, 1);
}

Tensor bayesian_sums(const Tensor& input, int64_t replicates, int64_t seed) {
  check_sample("bayesian_sums", input);
  check_count("bayesian_sums", "the number of replicates", replicates);
  const Tensor x = input.contiguous();
  const int64_t n = x.numel(), chunks = cuda::weighed_chunks(n);
  check_count("bayesian_sums", "the number of rows", chunks);
  const Tensor sums = at::empty({replicates, 2}, x.options().dtype(at::kDouble));
  const Tensor partial = at::empty({chunks, replicates, 2}, sums.options());
  const Here here(x);
  check_launch("bayesian_sums",
               cuda::sum_exponential(sample_type(x), pointer(x), n, replicates,
                                     static_cast<uint64_t>(seed), partial.mutable_data_ptr<double>(),
                                     sums.mutable_data_ptr<double>(), here));
  return sums;
}

Tensor draw_uniform(int64_t n, int64_t count, int64_t seed, c10::Device device) {
  check_draws(n, count);
  const Tensor out = at::empty({count}, at::TensorOptions().dtype(at::kLong).device(device));
  const Here here(out);
  check_launch("draw_uniform", cuda::draw_uniform(n, static_cast<uint64_t>(seed), count,
                                                  out.mutable_data_ptr<int64_t>(), here));
  return out;
}

Tensor alias_table(const Tensor& weights) {
  check_sample("alias_table", weights);
  static const auto op = typed_operator<Tensor(const Tensor&)>("benchbench::alias_table");
  const Here here(weights);
  check_not_captured("alias_table");
  return op.call(weights.cpu()).to(weights.device());
}

Tensor draw_alias(const Tensor& table, int64_t count, int64_t seed) {
  check_table(table, count);
  const Tensor out = at::empty({count}, table.options());
  const Here here(table);
  check_launch("draw_alias",
               cuda::draw_alias(reinterpret_cast<const uint64_t*>(table.const_data_ptr<int64_t>()),
                                table.numel(), static_cast<uint64_t>(seed), count,
                                out.mutable_data_ptr<int64_t>(), here));
  return out;
}

Tensor take_rows(const Tensor& input, const Tensor& index) {
  check_taken(input, index);
  const Tensor x = input.contiguous(), wanted = index.contiguous();
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes[0] = wanted.numel();
  const Tensor out = at::empty(sizes, x.options());
  const int64_t rows = x.size(0), bytes = rows ? static_cast<int64_t>(x.nbytes()) / rows : 0;
  TORCH_CHECK(rows || !wanted.numel(), "benchbench::take_rows: ", wanted.numel(),
              " rows are asked for and the input has none");
  const Here here(x);
  check_launch("take_rows", cuda::take_rows(pointer(x), rows, bytes, wanted.const_data_ptr<int64_t>(),
                                            wanted.numel(), out.mutable_data_ptr(), here));
  return out;
}

Tensor resample(const Tensor& input, const Tensor& taps, int64_t up, int64_t down, int64_t before) {
  check_resampled(input, taps, up, down);
  const Tensor x = input.contiguous();
  const int64_t length = x.size(-1), size = (length * up + down - 1) / down;
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = size;
  const Tensor y = at::empty(sizes, x.options());
  const int64_t signals = size ? y.numel() / size : 0;
  const Polyphase job{up, down, taps.size(1), before, taps.const_data_ptr<float>()};
  const Here here(x);
  check_launch("resample", cuda::resample(job, x.const_data_ptr<float>(), signals, length, size,
                                          y.mutable_data_ptr<float>(), here));
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(benchbench, BENCHBENCH_CUDA_KEY, m) {
  m.impl("bootstrap_sums", &bootstrap_sums);
  m.impl("bayesian_sums", &bayesian_sums);
  m.impl("draw_uniform", &draw_uniform);
#if !defined(BENCHBENCH_HOST_EXECUTOR)
  m.impl("alias_table", &alias_table);  // there, the CPU's function is the one that it asks
#endif
  m.impl("draw_alias", &draw_alias);
  m.impl("take_rows", &take_rows);
  m.impl("resample", &resample);
}

}  // namespace benchbench
