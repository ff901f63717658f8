// The samplers' CUDA launchers for the tests, on the host executor: plain C. Each returns what went
// wrong, or an empty string.
#include "cuda/draws.h"

#include <cstdio>

using namespace benchbench;
using namespace benchbench::cuda;

namespace {

const Device device{nullptr, 4, 9, true};

const char* told(const Failure& failure) {
  static char text[sizeof failure.text];
  std::snprintf(text, sizeof text, "%s", failure.text);
  return text;
}

}  // namespace

extern "C" {

const char* run_draw_uniform(int64_t n, int64_t key, int64_t count, int64_t* out) {
  return told(draw_uniform(n, static_cast<uint64_t>(key), count, out, device));
}
const char* run_draw_alias(const uint64_t* table, int64_t n, int64_t key, int64_t count, int64_t* out) {
  return told(draw_alias(table, n, static_cast<uint64_t>(key), count, out, device));
}
const char* run_take_rows(const void* from, int64_t bytes, const int64_t* index, int64_t count, void* to) {
  return told(take_rows(from, bytes, index, count, to, device));
}
const char* run_sum_draws(int t, const void* x, int64_t n, int64_t blocks, int64_t replicates,
                          const uint32_t* counts, int squares, double middle, int64_t key, double* partial,
                          double* sums) {
  const Replicates job{static_cast<Type>(t), x, n, blocks, replicates, counts, squares != 0, middle};
  return told(sum_draws(job, static_cast<uint64_t>(key), partial, sums, device));
}
int64_t chunks(int64_t n) { return weighed_chunks(n); }
const char* run_sum_exponential(int t, const void* x, int64_t n, int64_t replicates, int64_t key,
                                double* partial, double* sums) {
  return told(sum_exponential(static_cast<Type>(t), x, n, replicates, static_cast<uint64_t>(key), partial,
                              sums, device));
}

}  // extern "C"
