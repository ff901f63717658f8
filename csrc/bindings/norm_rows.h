// What the units of layer norm and RMS norm for CPU and CUDA share: results and checks.
#pragma once

#include "bindings/norms.h"

namespace benchbench {

using RowResult = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // output, sum, mean, rstd
using RowGradient = std::tuple<Tensor, Tensor, Tensor>;        // input, weight, bias

inline void check_rows(const Tensor& input, const OptionalTensor& residual,
                       const OptionalTensor& weight, const OptionalTensor& bias) {
  check_floating("norm_rows", input);
  TORCH_CHECK(input.dim() >= 1,
              "benchbench::norm_rows: the input has no dimension to normalise; it must have one");
  if (residual.has_value()) check_same_shape("norm_rows", "the residual", input, *residual);
  check_parameter("norm_rows", "the weight", input, weight, input.sym_size(-1));
  check_parameter("norm_rows", "the bias", input, bias, input.sym_size(-1));
}

inline int64_t rows_of(const Tensor& x) {
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) rows *= x.size(d);
  return rows;
}

}  // namespace benchbench
