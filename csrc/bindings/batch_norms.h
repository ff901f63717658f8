// What the units of batch norm for CPU and CUDA share: results, layouts, checks.
#pragma once

#include <cmath>

#include "bindings/norms.h"

namespace benchbench {

// Output, mean, rstd, variance, and what the ReLU let through, as bits: empty unless it is to be kept
// for a backward that could not find it from the input, and where kernels read the output instead.
using BatchResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using BatchGradient = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // input, residual, weight, bias

// Channels are the second dimension. In memory they are planes (N, C, area), or the last dimension
// of pixels (rows, C); anything else is made planes.
struct Layout {
  bool pixels;
  int64_t batch, channels, area;
  int64_t count() const { return batch * area; }
};

inline Layout layout_of(const Tensor& x) {
  int64_t area = 1;
  for (int64_t d = 2; d < x.dim(); ++d) area *= x.size(d);
  return {is_pixels(x), x.size(0), x.size(1), area};
}

// ReLU cuts at `ceiling` where it is positive: 6 is ReLU6. Kernels take a nan where nothing is cut.
inline double most_of(double ceiling) { return ceiling > 0 ? ceiling : NAN; }

inline void check_batch(const Tensor& input, const OptionalTensor& residual,
                        const OptionalTensor& weight, const OptionalTensor& bias,
                        const OptionalTensor& mean, const OptionalTensor& variance, bool training) {
  check_floating("batch_norm", input);
  TORCH_CHECK(input.dim() >= 2 && input.dim() <= 5, "benchbench::batch_norm: the input has ",
              input.dim(), " dimensions; it must have 2 to 5, channels second");
  if (residual.has_value()) check_same_shape("batch_norm", "the residual", input, *residual);
  check_parameter("batch_norm", "the weight", input, weight, input.sym_size(1));
  check_parameter("batch_norm", "the bias", input, bias, input.sym_size(1));
  check_parameter("batch_norm", "the running mean", input, mean, input.sym_size(1));
  check_parameter("batch_norm", "the running variance", input, variance, input.sym_size(1));
  TORCH_CHECK(training || (mean.has_value() && variance.has_value()),
              "benchbench::batch_norm: evaluation needs running statistics; pass them, or use "
              "training=True to normalise with those of the batch");
}

}  // namespace benchbench
