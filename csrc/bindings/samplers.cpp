// Samplers: bootstrap sums, weighted and uniform draws, rows gathered, resampled signals: operators, and
// the CPU's functions, which the Python module has as direct functions too.
//
// Nothing here is differentiable: a backward pass raises. Every function gets a seed; its result depends
// on the seed and on nothing else, since each chunk of work has a stream of its own (csrc/cpu/random.h)
// and sums are added in the order of the chunks. What balances classes has a result whose size depends
// on values and is no operator.
#include "bindings/samplers.h"

#include <ATen/ops/zeros.h>
#include <c10/core/TensorOptions.h>
#include <pybind11/stl.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "bindings/alias.h"
#include "bindings/balance.h"

namespace benchbench {
namespace {

constexpr int64_t BLOCK = SUMMED_ROWS;  // rows; see csrc/cpu/draws.h
constexpr int64_t CHUNKS = 64;          // of blocks, each with sums of its own

void check_on_cpu(const char* op, const Tensor& x) {
  TORCH_CHECK(x.device().is_cpu(), "benchbench::", op, ": the input is on ", x.device(),
              ", this function is the CPU's; call the operator, or move it with .cpu()");
}

// (replicates, 3) in float64: draws, sum of x - middle over them, and of its square where asked for,
// else 0.
Tensor bootstrap_sums(const Tensor& input, int64_t replicates, int64_t seed, bool poisson_total,
                      bool squares, double middle) {
  check_on_cpu("bootstrap_sums", input);
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
  const Type type = sample_type(x);
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
  check_on_cpu("bayesian_sums", input);
  check_sample("bayesian_sums", input);
  check_count("bayesian_sums", "the number of replicates", replicates);
  const Tensor x = input.contiguous();
  const int64_t n = x.numel(), chunk = WEIGHED_ROWS, chunks = (n + chunk - 1) / chunk;
  check_count("bayesian_sums", "the number of rows", chunks);
  std::vector<double> partial(static_cast<size_t>(chunks * replicates * 2), 0.0);
  const auto kernel = kernels().sum_exponential;
  const Type type = sample_type(x);
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
  check_draws(n, count);
  Tensor out = at::empty({count}, at::kLong);
  int64_t* to = out.mutable_data_ptr<int64_t>();
  const auto kernel = kernels().draw_uniform;
  over_draws(count, seed, UNIFORM,
             [=](const RandomStream& s, int64_t at, int64_t some) { kernel(n, s, some, to + at); });
  return out;
}

Tensor alias_table(const Tensor& input) {
  check_on_cpu("alias_table", input);
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
  check_on_cpu("draw_alias", table);
  check_table(table, count);
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
  check_on_cpu("resample", input);
  check_resampled(input, taps, up, down);
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

// ---- operators ----

// Without a tensor to go by, the device says which function it is.
Tensor draw_uniform_anywhere(int64_t n, int64_t count, int64_t seed, c10::Device device) {
  static const auto op =
      typed_operator<Tensor(int64_t, int64_t, int64_t, c10::Device)>("benchbench::draw_uniform");
  const auto key = c10::computeDispatchKey(std::nullopt, std::nullopt, device);
  return op.redispatch(c10::DispatchKeySet(key), n, count, seed, device);
}

Tensor draw_uniform_on_cpu(int64_t n, int64_t count, int64_t seed, c10::Device) {
  return draw_uniform(n, count, seed);
}

Tensor draw_uniform_meta(int64_t n, int64_t count, int64_t, c10::Device) {
  check_draws(n, count);
  return at::empty({count}, at::TensorOptions().dtype(at::kLong).device(at::kMeta));
}

Tensor bootstrap_sums_meta(const Tensor& x, int64_t replicates, int64_t, bool, bool, double) {
  check_sample("bootstrap_sums", x);
  check_count("bootstrap_sums", "the number of replicates", replicates);
  return at::empty({replicates, 3}, x.options().dtype(at::kDouble));
}

Tensor bayesian_sums_meta(const Tensor& x, int64_t replicates, int64_t) {
  check_sample("bayesian_sums", x);
  check_count("bayesian_sums", "the number of replicates", replicates);
  return at::empty({replicates, 2}, x.options().dtype(at::kDouble));
}

Tensor alias_table_meta(const Tensor& weights) {
  check_sample("alias_table", weights);
  return at::empty_symint(weights.sym_sizes(), weights.options().dtype(at::kLong));
}

Tensor draw_alias_meta(const Tensor& table, int64_t count, int64_t) {
  check_table(table, count);
  return at::empty({count}, table.options());
}

Tensor take_rows_meta(const Tensor& x, const Tensor& index) {
  check_taken(x, index);
  c10::SymDimVector sizes(x.sym_sizes().begin(), x.sym_sizes().end());
  sizes[0] = index.sym_size(0);
  return at::empty_symint(sizes, x.options());
}

Tensor resample_meta(const Tensor& x, const Tensor& taps, int64_t up, int64_t down, int64_t) {
  check_resampled(x, taps, up, down);
  c10::SymDimVector sizes(x.sym_sizes().begin(), x.sym_sizes().end());
  sizes.back() = resampled_length(x, up, down);
  return at::empty_symint(sizes, x.options());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  m.def("bootstrap_sums(Tensor x, int replicates, int seed, bool poisson, bool squares, float middle) -> "
        "Tensor");
  m.def("bayesian_sums(Tensor x, int replicates, int seed) -> Tensor");
  m.def("draw_uniform(int n, int count, int seed, *, Device device) -> Tensor");
  m.def("alias_table(Tensor weights) -> Tensor");
  m.def("draw_alias(Tensor table, int count, int seed) -> Tensor");
  m.def("take_rows(Tensor x, Tensor index) -> Tensor");
  m.def("resample(Tensor x, Tensor taps, int up, int down, int before) -> Tensor");
}

TORCH_LIBRARY_IMPL(benchbench, BackendSelect, m) { m.impl("draw_uniform", &draw_uniform_anywhere); }

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  m.impl("bootstrap_sums", &bootstrap_sums);
  m.impl("bayesian_sums", &bayesian_sums);
  m.impl("draw_uniform", &draw_uniform_on_cpu);
  m.impl("alias_table", &alias_table);
  m.impl("draw_alias", &draw_alias);
  m.impl("take_rows", &take_rows);
  m.impl("resample", &resample);
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  m.impl("bootstrap_sums", &bootstrap_sums_meta);
  m.impl("bayesian_sums", &bayesian_sums_meta);
  m.impl("draw_uniform", &draw_uniform_meta);
  m.impl("alias_table", &alias_table_meta);
  m.impl("draw_alias", &draw_alias_meta);
  m.impl("take_rows", &take_rows_meta);
  m.impl("resample", &resample_meta);
}

// A gradient does not exist here: a backward pass must raise, not be silently zero.
TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  for (const char* name : {"bootstrap_sums", "bayesian_sums", "alias_table", "take_rows", "resample"})
    m.impl(name, torch::autograd::autogradNotImplementedFallback());
}

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
