// What the units of packed gates and masked softmax for CPU and CUDA share: checks, and masks over rows.
#pragma once

#include "bindings/activations.h"

#include <vector>

namespace benchbench {

void bind_transformer(pybind11::module_& m);

// ---- packed gates: f(gate) * up of one tensor, the gates in front ----

inline Activation gate_of(int64_t kind) {
  constexpr int64_t COUNT = sizeof GATED_NAMES / sizeof GATED_NAMES[0];
  TORCH_CHECK(kind >= 0 && kind < COUNT && GATED_NAMES[kind][0],
              "benchbench::packed_gate: there is no gate ", kind,
              "; it is the place of relu, gelu, gelu_tanh or silu in the list of activations");
  return static_cast<Activation>(kind);
}

inline void check_packed(const Tensor& input) {
  check_floating("packed_gate", input);
  TORCH_CHECK(input.dim() >= 1 && input.sym_size(-1) % 2 == 0,
              "benchbench::packed_gate: the input has shape ", input.sym_sizes(),
              "; its last dimension must be even, the gates in the first half");
}

inline void check_packed_gradient(const Tensor& input, const Tensor& grad) {
  check_same("packed_gate", "the gradient", input, grad);
  TORCH_CHECK(grad.sym_numel() * 2 == input.sym_numel(), "benchbench::packed_gate: the gradient has shape ",
              grad.sym_sizes(), " but the output of the input's ", input.sym_sizes(),
              " has half of its last dimension");
}

inline c10::SymDimVector packed_sizes(const Tensor& input) {
  c10::SymDimVector sizes(input.sym_sizes().begin(), input.sym_sizes().end());
  sizes.back() = sizes.back() / 2;
  return sizes;
}

inline int64_t packed_rows(const Tensor& input) {
  return input.size(-1) ? input.numel() / input.size(-1) : 0;
}

// ---- softmax with scale and mask ----

inline void check_mask(const Tensor& x, const OptionalTensor& mask) {
  check_floating("masked_softmax", x);
  TORCH_CHECK(x.dim() >= 1, "benchbench::masked_softmax: the input has no dimension; give it one");
  if (!mask.has_value()) return;
  TORCH_CHECK(mask->device() == x.device(), "benchbench::masked_softmax: the mask is on ",
              mask->device(), " but the input is on ", x.device(), "; move one of them with .to()");
  TORCH_CHECK(mask->scalar_type() == at::kBool || mask->scalar_type() == x.scalar_type() ||
                  mask->scalar_type() == real_of(x),
              "benchbench::masked_softmax: the mask is ", mask->scalar_type(),
              "; it must be bool (True takes part), or what is added: ", x.scalar_type(), " or ",
              real_of(x));
  TORCH_CHECK(!mask->requires_grad() || !at::GradMode::is_enabled(),
              "benchbench::masked_softmax: the mask asks for a gradient, which it does not get here; "
              "detach it, or add it to the input");
  const int64_t missing = x.dim() - mask->dim();
  bool fits = missing >= 0;
  for (int64_t d = 0; fits && d < mask->dim(); ++d)
    fits = mask->sym_size(d) == 1 || mask->sym_size(d) == x.sym_size(d + missing);
  TORCH_CHECK(fits, "benchbench::masked_softmax: the mask has shape ", mask->sym_sizes(),
              ", which cannot be broadcast to the input's ", x.sym_sizes());
}

// The mask's row for row (i, j, k) of the input begins at i stride[0] + j stride[1] + k stride[2].
struct MaskView {
  Tensor kept;  // columns lie side by side
  int64_t size[3] = {1, 1, 1}, stride[3] = {0, 0, 0};
  explicit MaskView(const OptionalTensor& mask, const Tensor& x) {
    if (!mask.has_value()) return;
    std::vector<int64_t> sizes(static_cast<size_t>(x.dim() - mask->dim()), 1);
    sizes.insert(sizes.end(), mask->sizes().begin(), mask->sizes().end());
    sizes.back() = x.size(-1);
    kept = mask->expand(sizes);
    if (x.size(-1) > 1 && kept.stride(-1) != 1) kept = kept.contiguous();
    kept = kept.expand(x.sizes());
    if (!collapse(x.dim() - 1)) {
      kept = kept.contiguous();
      collapse(x.dim() - 1);
    }
  }

 private:
  // Neighbouring dimensions become one where their strides allow it; whether three are enough.
  bool collapse(int64_t dims) {
    std::vector<std::pair<int64_t, int64_t>> found;
    for (int64_t d = 0; d < dims; ++d) {
      const int64_t n = kept.size(d), step = kept.stride(d);
      if (n == 1) continue;
      if (!found.empty() && found.back().second == n * step)
        found.back() = {found.back().first * n, step};
      else
        found.emplace_back(n, step);
    }
    if (found.size() > 3) return false;
    for (size_t i = 0; i < found.size(); ++i) {
      size[3 - found.size() + i] = found[i].first;
      stride[3 - found.size() + i] = found[i].second;
    }
    return true;
  }
};

}  // namespace benchbench
