// Layer norm and RMS norm, each with a residual: operators, autograd and direct functions. See
// activations.cpp for the parts of an operator.
//
// norm_rows computes all of them, and the statistics that its backward needs. row_norm and add_row_norm
// are what people call: without statistics where no gradient is wanted, norm_rows where one is.
//
// Sums over rows are split by size alone and added up in a fixed order, so that no result depends on
// the number of threads.
#include "bindings/cpu_tensors.h"
#include "bindings/norm_rows.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

namespace benchbench {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What is not asked for stays undefined: the sum without a residual, the statistics.
RowResult normed(const Tensor& input, const OptionalTensor& residual, const OptionalTensor& weight,
                 const OptionalTensor& bias, double eps, bool rms, bool statistics) {
  check_rows(input, residual, weight, bias);
  const Type type = type_of("norm_rows", input);
  const at::ScalarType wide = real_of(input);
  const Tensor x = input.contiguous();
  const OptionalTensor r = whole(residual), w = real(weight, wide), b = real(bias, wide);
  const int64_t columns = x.size(-1), rows = rows_of(x);
  const Tensor y = new_like(x), sum = r.has_value() ? new_like(x) : Tensor();
  Tensor mean, rstd;
  if (statistics) {
    rstd = new_tensor({rows}, wide);
    mean = new_tensor({rms ? 0 : rows}, at::kDouble);
  }
  if (columns == 0) {
    if (statistics) {
      mean.zero_();
      rstd.zero_();
    }
    return {y, sum, mean, rstd};
  }
  const RowNorm k{rms,
                  columns,
                  eps,
                  pointer(x),
                  pointer(r),
                  pointer(w),
                  pointer(b),
                  raw(y),
                  raw_if(r.has_value(), sum),
                  statistics && !rms ? doubles(mean) : nullptr,
                  raw_if(statistics, rstd),
                  streams(y)};
  const auto kernel = kernels().row_norm;
  at::parallel_for(0, rows, GRAIN / columns + 1,
                   [&](int64_t begin, int64_t end) { kernel(type, k, begin, end); });
  return {y, sum, mean, rstd};
}

RowResult norm_rows(const Tensor& input, const OptionalTensor& residual,
                    const OptionalTensor& weight, const OptionalTensor& bias, double eps,
                    bool rms) {
  auto found = normed(input, residual, weight, bias, eps, rms, true);
  Tensor& sum = std::get<1>(found);
  if (!sum.defined()) sum = new_tensor({0}, input.scalar_type());
  return found;
}

Tensor row_norm(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
                double eps, bool rms) {
  return std::get<0>(normed(input, std::nullopt, weight, bias, eps, rms, false));
}

std::tuple<Tensor, Tensor> add_row_norm(const Tensor& input, const Tensor& residual,
                                        const OptionalTensor& weight, const OptionalTensor& bias,
                                        double eps, bool rms) {
  auto found = normed(input, residual, weight, bias, eps, rms, false);
  return {std::get<0>(found), std::get<1>(found)};
}

RowResult norm_rows_meta(const Tensor& input, const OptionalTensor& residual,
                         const OptionalTensor& weight, const OptionalTensor& bias, double,
                         bool rms) {
  check_rows(input, residual, weight, bias);
  const Tensor y = at::empty_like(input.contiguous());
  const Tensor sum = residual.has_value() ? at::empty_like(y) : at::empty({0}, y.options());
  c10::SymInt rows = 1;
  for (int64_t d = 0; d + 1 < input.dim(); ++d) rows = rows * input.sym_size(d);
  const Tensor rstd = at::empty_symint({rows}, y.options().dtype(real_of(input)));
  const Tensor mean =
      at::empty_symint({rms ? c10::SymInt(0) : rows}, y.options().dtype(at::kDouble));
  return {y, sum, mean, rstd};
}

// Sum of the rows of `partial` (real), in their order, in double.
Tensor add_chunks(const Tensor& partial) {
  const int64_t chunks = partial.size(0), columns = partial.size(1);
  const Tensor total = new_tensor({columns}, partial.scalar_type());
  with_real(partial.scalar_type(), [&](auto zero) {
    using R = decltype(zero);
    const R* from = partial.const_data_ptr<R>();
    R* to = total.mutable_data_ptr<R>();
    constexpr int64_t WIDE = 64;  // columns side by side, in the order in which they lie
    const int64_t groups = (columns + WIDE - 1) / WIDE;
    at::parallel_for(0, groups, GRAIN / (chunks * WIDE) + 1, [=](int64_t begin, int64_t end) {
      for (int64_t c = begin * WIDE; c < end * WIDE; c += WIDE) {
        const int64_t width = std::min(WIDE, columns - c);
        double sums[WIDE] = {};
        for (int64_t k = 0; k < chunks; ++k)
          for (int64_t i = 0; i < width; ++i) sums[i] += from[k * columns + c + i];
        for (int64_t i = 0; i < width; ++i) to[c + i] = static_cast<R>(sums[i]);
      }
    });
  });
  return total;
}

// `input` is what was normalised (the sum, when there was a residual); `grad_sum` is what arrives at
// that sum from elsewhere. Weight and bias gradients are empty where not asked for.
RowGradient norm_rows_backward(const Tensor& grad, const OptionalTensor& grad_sum,
                               const Tensor& input, const OptionalTensor& weight,
                               const Tensor& mean, const Tensor& rstd, bool rms, bool need_weight,
                               bool need_bias) {
  check_same_shape("norm_rows", "the gradient", input, grad);
  if (grad_sum.has_value()) check_same_shape("norm_rows", "the sum's gradient", input, *grad_sum);
  const Type type = type_of("norm_rows", input);
  const at::ScalarType wide = real_of(input);
  const Tensor dy = grad.contiguous(), x = input.contiguous();
  const Tensor center = mean.contiguous(), scale = rstd.contiguous();
  const OptionalTensor ds = whole(grad_sum), w = real(weight, wide);
  const int64_t columns = x.size(-1), rows = rows_of(x), chunks = row_chunks(rows);
  const Tensor dx = new_like(x);
  const Tensor dw = new_tensor({need_weight ? chunks : 0, columns}, wide);
  const Tensor db = new_tensor({need_bias ? chunks : 0, columns}, wide);
  if (columns > 0) {
    const RowNormBackward k{rms,         columns,    pointer(dy),
                            pointer(x),  pointer(ds), pointer(w),
                            center.const_data_ptr<double>(), pointer(scale), raw(dx), streams(dx)};
    const auto kernel = kernels().row_norm_backward;
    char *pw = static_cast<char*>(raw(dw)), *pb = static_cast<char*>(raw(db));
    const int64_t stride = columns * dw.element_size();
    for_chunks(rows, chunks, columns, [&](int64_t chunk, int64_t begin, int64_t end) {
      kernel(type, k, begin, end, need_weight ? pw + chunk * stride : nullptr,
             need_bias ? pb + chunk * stride : nullptr);
    });
  }
  const at::ScalarType kind = gradient_type(weight, input);
  const auto total = [&](const Tensor& partial, bool wanted) {
    if (!wanted) return new_tensor({0}, kind);
    // The usual case of few rows: the only part is the whole.
    return as_type(chunks == 1 && columns > 0 ? partial.view({columns}) : add_chunks(partial), kind);
  };
  return {dx, total(dw, need_weight), total(db, need_bias)};
}

RowGradient norm_rows_backward_meta(const Tensor& grad, const OptionalTensor&, const Tensor& input,
                                    const OptionalTensor& weight, const Tensor&, const Tensor&, bool,
                                    bool need_weight, bool need_bias) {
  check_same_shape("norm_rows", "the gradient", input, grad);
  const auto options = input.options().dtype(gradient_type(weight, input));
  const auto row = [&](bool wanted) {
    return wanted ? at::empty_symint({input.sym_size(-1)}, options) : at::empty({0}, options);
  };
  return {at::empty_like(input.contiguous()), row(need_weight), row(need_bias)};
}

struct Rows : torch::autograd::Function<Rows> {
  static RowResult call(const Tensor& input, const OptionalTensor& residual,
                        const OptionalTensor& weight, const OptionalTensor& bias, double eps,
                        bool rms) {
    static const auto op =
        typed_operator<RowResult(const Tensor&, const OptionalTensor&, const OptionalTensor&,
                                 const OptionalTensor&, double, bool)>("benchbench::norm_rows");
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(input, residual, weight, bias, eps, rms);
  }
  static variable_list forward(AutogradContext* context, const Tensor& input,
                               const OptionalTensor& residual, const OptionalTensor& weight,
                               const OptionalTensor& bias, double eps, bool rms) {
    auto [y, sum, mean, rstd] = call(input, residual, weight, bias, eps, rms);
    context->save_for_backward(
        {residual.has_value() ? sum : input, unwrap(weight), unwrap(bias), mean, rstd});
    context->saved_data["rms"] = rms;
    context->saved_data["residual"] = residual.has_value();
    context->mark_non_differentiable({mean, rstd});
    context->set_materialize_grads(false);
    return {y, sum, mean, rstd};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    static const auto op =
        typed_operator<RowGradient(const Tensor&, const OptionalTensor&, const Tensor&,
                                   const OptionalTensor&, const Tensor&, const Tensor&, bool, bool,
                                   bool)>("benchbench::norm_rows_backward");
    const bool residual = context->saved_data["residual"].toBool();
    // Where only the sum was used, its gradient is that of both addends.
    if (!grads[0].defined())
      return {grads[1], residual ? grads[1] : Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    auto [dx, dw, db] = op.call(grads[0], residual ? given(grads[1]) : std::nullopt, x,
                                given(weight), saved[3], saved[4],
                                context->saved_data["rms"].toBool(), needed(weight), needed(bias));
    return {dx,
            residual ? dx : Tensor(),
            needed(weight) ? dw.to(weight.scalar_type()) : Tensor(),
            needed(bias) ? db.to(bias.scalar_type()) : Tensor(),
            Tensor(),
            Tensor()};
  }
};

RowResult norm_rows_autograd(const Tensor& input, const OptionalTensor& residual,
                             const OptionalTensor& weight, const OptionalTensor& bias, double eps,
                             bool rms) {
  if (!wants_grad(input, {&residual, &weight, &bias}))
    return Rows::call(input, residual, weight, bias, eps, rms);
  auto r = Rows::apply(input, residual, weight, bias, eps, rms);
  return {r[0], r[1], r[2], r[3]};
}

using RowNormed = Tensor(const Tensor&, const OptionalTensor&, const OptionalTensor&, double, bool);
using AddRowNormed = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const OptionalTensor&,
                                                const OptionalTensor&, double, bool);

Tensor row_norm_autograd(const Tensor& input, const OptionalTensor& weight,
                         const OptionalTensor& bias, double eps, bool rms) {
  if (wants_grad(input, {&weight, &bias})) {
    const OptionalTensor none;
    return Rows::apply(input, none, weight, bias, eps, rms)[0];
  }
  static const auto op = typed_operator<RowNormed>("benchbench::row_norm");
  at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(input, weight, bias, eps, rms);
}

std::tuple<Tensor, Tensor> add_row_norm_autograd(const Tensor& input, const Tensor& residual,
                                                 const OptionalTensor& weight,
                                                 const OptionalTensor& bias, double eps, bool rms) {
  const OptionalTensor r(residual);
  if (wants_grad(input, {&r, &weight, &bias})) {
    auto found = Rows::apply(input, r, weight, bias, eps, rms);
    return {found[0], found[1]};
  }
  static const auto op = typed_operator<AddRowNormed>("benchbench::add_row_norm");
  at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(input, residual, weight, bias, eps, rms);
}

// Where there is no function that leaves the statistics out: shapes alone, and CUDA.
Tensor row_norm_from_all(const Tensor& input, const OptionalTensor& weight,
                         const OptionalTensor& bias, double eps, bool rms) {
  return std::get<0>(Rows::call(input, std::nullopt, weight, bias, eps, rms));
}

std::tuple<Tensor, Tensor> add_row_norm_from_all(const Tensor& input, const Tensor& residual,
                                                 const OptionalTensor& weight,
                                                 const OptionalTensor& bias, double eps, bool rms) {
  auto found = Rows::call(input, residual, weight, bias, eps, rms);
  return {std::get<0>(found), std::get<1>(found)};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(benchbench, m) {
  m.def(
      "norm_rows(Tensor input, Tensor? residual, Tensor? weight, Tensor? bias, float eps, bool rms)"
      " -> (Tensor output, Tensor sum, Tensor mean, Tensor rstd)");
  m.def(
      "norm_rows_backward(Tensor grad, Tensor? grad_sum, Tensor input, Tensor? weight, Tensor mean,"
      " Tensor rstd, bool rms, bool need_weight, bool need_bias) -> (Tensor, Tensor, Tensor)");
  m.def("row_norm(Tensor input, Tensor? weight, Tensor? bias, float eps, bool rms) -> Tensor");
  m.def(
      "add_row_norm(Tensor input, Tensor residual, Tensor? weight, Tensor? bias, float eps, bool rms)"
      " -> (Tensor output, Tensor sum)");
}

TORCH_LIBRARY_IMPL(benchbench, CPU, m) {
  m.impl("norm_rows", &norm_rows);
  m.impl("norm_rows_backward", &norm_rows_backward);
  m.impl("row_norm", &row_norm);
  m.impl("add_row_norm", &add_row_norm);
}

TORCH_LIBRARY_IMPL(benchbench, CompositeExplicitAutograd, m) {
  m.impl("row_norm", &row_norm_from_all);
  m.impl("add_row_norm", &add_row_norm_from_all);
}

TORCH_LIBRARY_IMPL(benchbench, Meta, m) {
  m.impl("norm_rows", &norm_rows_meta);
  m.impl("norm_rows_backward", &norm_rows_backward_meta);
}

TORCH_LIBRARY_IMPL(benchbench, Autograd, m) {
  m.impl("norm_rows", &norm_rows_autograd);
  m.impl("row_norm", &row_norm_autograd);
  m.impl("add_row_norm", &add_row_norm_autograd);
  // A second derivative does not exist here: it must raise, not be silently zero.
  m.impl("norm_rows_backward", torch::autograd::autogradNotImplementedFallback());
}

void bind_norms(pybind11::module_& m) {
  m.def("norm_rows", &norm_rows);
  m.def("row_norm", &row_norm);
  m.def("add_row_norm", &add_row_norm);
  bind_batch_norms(m);
  bind_group_norms(m);
}

}  // namespace benchbench
