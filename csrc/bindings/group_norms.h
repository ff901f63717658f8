// What the units of group norm and local response norm for CPU and CUDA share: results, layouts, checks.
#pragma once

#include "bindings/norms.h"

namespace benchbench {

using GroupResult = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // output, mean, rstd, variance
using GroupGradient = std::tuple<Tensor, Tensor, Tensor>;        // input, weight, bias

struct Grouped {
  bool pixels;
  int64_t batch, channels, groups, area;
  int64_t planes() const { return channels / groups; }
};

inline Grouped grouped(const Tensor& x, int64_t groups) {
  int64_t area = 1;
  for (int64_t d = 2; d < x.dim(); ++d) area *= x.size(d);
  return {is_pixels(x), x.size(0), x.size(1), groups, area};
}

inline void check_group(const Tensor& input, int64_t groups, const OptionalTensor& weight,
                        const OptionalTensor& bias) {
  check_floating("group_norm", input);
  TORCH_CHECK(input.dim() >= 2 && input.dim() <= 5, "benchbench::group_norm: the input has ",
              input.dim(), " dimensions; it must have 2 to 5, channels second");
  TORCH_CHECK(groups > 0 && input.sym_size(1) % groups == 0,
              "benchbench::group_norm: the input has ", input.sym_size(1),
              " channels, which ", groups, " groups do not divide; use a divisor");
  check_parameter("group_norm", "the weight", input, weight, input.sym_size(1));
  check_parameter("group_norm", "the bias", input, bias, input.sym_size(1));
}

// ---- local response norm ----

inline void check_response(const Tensor& input, int64_t size) {
  check_floating("response_norm", input);
  TORCH_CHECK(input.dim() >= 3, "benchbench::response_norm: the input has ", input.dim(),
              " dimensions; it must have at least 3, channels second");
  TORCH_CHECK(size > 0, "benchbench::response_norm: size is ", size, "; it must be positive");
}

}  // namespace benchbench
