// Samplers: bootstrap sums, weighted and uniform draws, rows gathered, resampled signals.
//
// Direct functions of the Python module only: nothing here is differentiable, and a draw has no place
// in a traced graph. Every function gets a seed; its result depends on the seed and on nothing else,
// since each chunk of work has a stream of its own (csrc/cpu/random.h) and sums are added in the order
// of the chunks.
#include "bindings/alias.h"
#include "bindings/balance.h"
#include "bindings/common.h"
#include "cpu/streams.h"

#include <ATen/ops/zeros.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

namespace benchbench {
namespace {

constexpr int64_t BLOCK = SUMMED_ROWS;  // rows; see csrc/cpu/draws.h
constexpr int64_t CHUNKS = 64;          // of blocks, each with sums of its own

void check_sample(const char* op, const Tensor& x) {
  TORCH_CHECK(x.device().is_cpu(), "benchbench::", op, ": the input is on ", x.device(),
              ", the kernel works on the CPU; move it with .cpu()");
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble, "benchbench::", op,
              ": dtype ", x.scalar_type(), " is not supported; convert the input with .float()");
  TORCH_CHECK(x.dim() == 1 && x.numel() > 0, "benchbench::", op, ": the input has shape ",
              x.sizes(), "; it must have one dimension and at least one value");
}

void check_count(const char* op, const char* what, int64_t count) {
  TORCH_CHECK(count >= 0 && count < int64_t{1} << 32, "benchbench::", op, ": ", what, " is ", count,
              "; it must lie between 0 and 2^32 - 1");
}

Type real_type(const Tensor& x) { return x.scalar_type() == at::kDouble ? Type::f64 : Type::f32; }

// Powers of two from BLOCK down that add up to n, so that no index is ever rejected.
std::vector<int64_t> blocks_of(int64_t n) {
  std::vector<int64_t> sizes(static_cast<size_t>(n / BLOCK), BLOCK);
  for (int64_t size = BLOCK / 2; size; size /= 2)
    if (n & size) sizes.push_back(size);
  return sizes;
}

// How many of a replicate's draws fall into each block: multinomial, as a chain of binomials.
void split(uint64_t key, uint32_t replicate, int64_t rows, bool poisson_total,
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
// tensor, and how many it has in all, (replicates) in float64. Poisson counts are a Poisson number of
// draws, each alike: the same law.
std::tuple<Tensor, Tensor> bootstrap_counts(int64_t n, int64_t replicates, int64_t seed,
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

// (replicates, 3) in float64: draws, sum of x - middle over them, and of its square where asked for,
// else 0.
Tensor bootstrap_sums(const Tensor& input, int64_t replicates, int64_t seed, bool poisson_total,
                      bool squares, double middle) {
  check_sample("bootstrap_sums", input);
  const Tensor x = input.contiguous();
  const int64_t n = x.numel(), count = replicates;
  const auto key = static_cast<uint64_t>(seed);
  const auto [shares, totals] = bootstrap_counts(n, replicates, seed, poisson_total);
  const auto* counts = reinterpret_cast<const uint32_t*>(shares.const_data_ptr<int32_t>());
  const std::vector<int64_t> sizes = blocks_of(n);
  const auto blocks = static_cast<int64_t>(sizes.size()), chunks = std::min(CHUNKS, blocks);
  Tensor result = at::empty({count, 3}, x.options().dtype(at::kDouble));
  double* out = result.mutable_data_ptr<double>();
  std::vector<double> partial(static_cast<size_t>(chunks * count * 2), 0.0);
  const auto kernel = kernels().sum_draws;
  const Type type = real_type(x);
  const char* data = static_cast<const char*>(x.const_data_ptr());
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      for (int64_t b = blocks * c / chunks; b < blocks * (c + 1) / chunks; ++b) {
        // All blocks but those behind the last full one are full.
        int64_t first = 0;
        if (sizes[static_cast<size_t>(b)] == BLOCK)
          first = b * BLOCK;
        else
          for (int64_t k = 0; k < b; ++k) first += sizes[static_cast<size_t>(k)];
        const DrawnSums job{data + first * x.element_size(), sizes[static_cast<size_t>(b)], middle};
        for (int64_t r = 0; r < count; ++r) {
          double* sums = partial.data() + (c * count + r) * 2;
          kernel(type, job, counts[r * blocks + b],
                 {key, static_cast<uint32_t>(b), static_cast<uint32_t>(r), SUMS}, sums,
                 squares ? sums + 1 : nullptr);
        }
      }
  });
  for (int64_t r = 0; r < count; ++r) {
    double sum = 0, squared = 0;
    for (int64_t c = 0; c < chunks; ++c) {
      sum += partial[static_cast<size_t>((c * count + r) * 2)];
      squared += partial[static_cast<size_t>((c * count + r) * 2 + 1)];
    }
    out[3 * r] = totals.const_data_ptr<double>()[r];
    out[3 * r + 1] = sum;
    out[3 * r + 2] = squared;
  }
  return result;
}

// (replicates, 2) in float64: sum of w and of w x with standard exponential weights w, so that their
// ratio is the mean under Dirichlet(1, ..., 1) weights (Rubin 1981).
Tensor bayesian_sums(const Tensor& input, int64_t replicates, int64_t seed) {
  check_sample("bayesian_sums", input);
  check_count("bayesian_sums", "the number of replicates", replicates);
  const Tensor x = input.contiguous();
  const int64_t n = x.numel(), chunk = WEIGHED_ROWS, chunks = (n + chunk - 1) / chunk;
  check_count("bayesian_sums", "the number of rows", chunks);
  std::vector<double> partial(static_cast<size_t>(chunks * replicates * 2), 0.0);
  const auto kernel = kernels().sum_exponential;
  const Type type = real_type(x);
  const char* data = static_cast<const char*>(x.const_data_ptr());
  at::parallel_for(0, chunks * replicates, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t c = k / replicates, r = k % replicates;
      kernel(type, data + c * chunk * x.element_size(), std::min(chunk, n - c * chunk),
             {static_cast<uint64_t>(seed), static_cast<uint32_t>(c), static_cast<uint32_t>(r),
              EXPONENTIAL},
             &partial[static_cast<size_t>(2 * k + 1)], &partial[static_cast<size_t>(2 * k)]);
    }
  });
  Tensor result = at::zeros({replicates, 2}, x.options().dtype(at::kDouble));
  double* out = result.mutable_data_ptr<double>();
  for (int64_t k = 0; k < chunks * replicates; ++k)
    for (int64_t part = 0; part < 2; ++part)
      out[k % replicates * 2 + part] += partial[static_cast<size_t>(2 * k + part)];
  return result;
}

// f(stream, first draw, draws) for chunks of DRAWS.
template <class F>
void over_draws(int64_t count, int64_t seed, Use use, F f) {
  const int64_t chunks = (count + DRAWS - 1) / DRAWS;
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      f(RandomStream{static_cast<uint64_t>(seed), static_cast<uint32_t>(c),
                     static_cast<uint32_t>(c >> 32), use},
        c * DRAWS, std::min(DRAWS, count - c * DRAWS));
  });
}

Tensor draw_uniform(int64_t n, int64_t count, int64_t seed) {
  TORCH_CHECK(n > 0 && count >= 0, "benchbench::draw_uniform: ", count, " draws from ", n,
              " numbers; there must be at least one number and no negative count");
  Tensor out = at::empty({count}, at::kLong);
  int64_t* to = out.mutable_data_ptr<int64_t>();
  const auto kernel = kernels().draw_uniform;
  over_draws(count, seed, UNIFORM,
             [=](const RandomStream& s, int64_t at, int64_t some) { kernel(n, s, some, to + at); });
  return out;
}

Tensor alias_table(const Tensor& input) {
  check_sample("alias_table", input);
  const Tensor weights = input.contiguous();
  const int64_t n = weights.numel();
  check_count("alias_table", "the number of categories", n);
  Tensor table = at::empty({n}, weights.options().dtype(at::kLong));
  Tensor scratch = at::empty({AliasOrder::bytes(n)}, weights.options().dtype(at::kByte));
  const auto build = [&](const auto* w) {
    const WeightSum sum = sum_all_weights(w, n);
    TORCH_CHECK(sum.least >= 0 && sum.total > 0 && std::isfinite(sum.total),
                "benchbench::alias_table: weights must be finite, not negative and not all zero; the "
                "least is ", sum.least, " and the sum ", sum.total);
    build_alias(w, n, sum.total, scratch.mutable_data_ptr(),
                reinterpret_cast<uint64_t*>(table.mutable_data_ptr<int64_t>()));
  };
  if (weights.scalar_type() == at::kDouble)
    build(weights.const_data_ptr<double>());
  else
    build(weights.const_data_ptr<float>());
  return table;
}

Tensor draw_alias(const Tensor& table, int64_t count, int64_t seed) {
  TORCH_CHECK(table.scalar_type() == at::kLong && table.dim() == 1 && table.numel() > 0 &&
                  table.is_contiguous() && table.device().is_cpu() && count >= 0,
              "benchbench::draw_alias: the table must come from alias_table(), the count must not be "
              "negative");
  const int64_t n = table.numel();
  const auto* entries = reinterpret_cast<const uint64_t*>(table.const_data_ptr<int64_t>());
  Tensor out = at::empty({count}, table.options());
  int64_t* to = out.mutable_data_ptr<int64_t>();
  const auto kernel = kernels().draw_alias;
  over_draws(count, seed, ALIAS, [=](const RandomStream& s, int64_t at, int64_t some) {
    kernel(entries, n, s, some, to + at);
  });
  return out;
}

// (..., length) to (..., ceil(length up / down)); taps as in csrc/cpu/kernels.h.
Tensor resample(const Tensor& input, const Tensor& taps, int64_t up, int64_t down, int64_t before) {
  TORCH_CHECK(input.device().is_cpu() && input.scalar_type() == at::kFloat && input.dim() >= 1,
              "benchbench::resample: the input is ", input.scalar_type(), " of shape ",
              input.sizes(), " on ", input.device(), "; it must be float32 with a time axis, on the CPU");
  TORCH_CHECK(up > 0 && down > 0 && taps.dim() == 2 && taps.size(0) == up &&
                  taps.size(1) % 16 == 0 && taps.scalar_type() == at::kFloat && taps.is_contiguous(),
              "benchbench::resample: taps must be contiguous float32 of shape (up, width), the width a "
              "multiple of 16");
  const Tensor x = input.contiguous();
  const int64_t length = x.size(-1), size = (length * up + down - 1) / down;
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = size;
  Tensor y = at::empty(shape, x.options());
  if (!size || !y.numel()) return y;
  const Polyphase job{up, down, taps.size(1), before, taps.const_data_ptr<float>()};
  const float* from = x.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  const auto kernel = kernels().resample;
  const int64_t chunk = 4096, chunks = (size + chunk - 1) / chunk, signals = y.numel() / size;
  at::parallel_for(0, signals * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t signal = k / chunks, first = k % chunks * chunk;
      kernel(job, from + signal * length, length, first, std::min(size, first + chunk),
             to + signal * size);
    }
  });
  return y;
}

std::vector<uint32_t> philox_words(uint64_t key, std::vector<uint32_t> counter) {
  TORCH_CHECK(counter.size() == 4, "benchbench::philox: a counter has four words");
  philox(key, counter.data());
  return counter;
}

std::vector<int64_t> many(int64_t count, int64_t seed, int64_t n, double p) {
  Sequence random({static_cast<uint64_t>(seed), 0, 0, SPLIT});
  std::vector<int64_t> found(static_cast<size_t>(count));
  for (auto& value : found) value = n < 0 ? poisson(random, p) : binomial(random, n, p);
  return found;
}

}  // namespace

void bind_samplers(pybind11::module_& m) {
  namespace py = pybind11;
  using Free = py::call_guard<py::gil_scoped_release>;
  m.def("bootstrap_sums", &bootstrap_sums, py::arg("x"), py::arg("replicates"), py::arg("seed"),
        py::arg("poisson") = false, py::arg("squares") = false, py::arg("middle") = 0.0, Free());
  m.def("bootstrap_counts", &bootstrap_counts, py::arg("n"), py::arg("replicates"), py::arg("seed"),
        py::arg("poisson") = false, Free());
  m.def("bayesian_sums", &bayesian_sums, py::arg("x"), py::arg("replicates"), py::arg("seed"),
        Free());
  m.def("draw_uniform", &draw_uniform, py::arg("n"), py::arg("count"), py::arg("seed"), Free());
  m.def("alias_table", &alias_table, py::arg("weights"), Free());
  m.def("draw_alias", &draw_alias, py::arg("table"), py::arg("count"), py::arg("seed"), Free());
  m.def("take_rows", &take_rows, py::arg("x"), py::arg("index"), Free());
  m.def("oversample", &oversample, py::arg("x"), py::arg("labels"), py::arg("seed"), Free());
  m.def("undersample", &undersample, py::arg("x"), py::arg("labels"), py::arg("seed"), Free());
  m.def("resample", &resample, py::arg("x"), py::arg("taps"), py::arg("up"), py::arg("down"),
        py::arg("before"), Free());
  m.def("philox", &philox_words, "The generator itself, for known answers.");
  m.def("binomials", [](int64_t count, int64_t seed, int64_t n, double p) { return many(count, seed, n, p); });
  m.def("poissons", [](int64_t count, int64_t seed, double mean) { return many(count, seed, -1, mean); });
}

}  // namespace benchbench
