// The operators that Python reaches by entries (entry.h): those that may run on small tensors.
#include "bindings/entry.h"

namespace benchbench {
namespace {

using Unary = Tensor(const Tensor&);
using Binary = Tensor(const Tensor&, const Tensor&);
using CurveOf = Tensor(const Tensor&, int64_t, double, double);
using RowNormOf = Tensor(const Tensor&, const OptionalTensor&, const OptionalTensor&, double, bool);
using AddRowNormOf = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const OptionalTensor&,
                                                const OptionalTensor&, double, bool);
using BatchNormOf = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>(
    const Tensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
    const OptionalTensor&, const OptionalTensor&, bool, double, bool, double, bool);
using GroupNormOf = std::tuple<Tensor, Tensor, Tensor, Tensor>(
    const Tensor&, int64_t, const OptionalTensor&, const OptionalTensor&, double);
using PackedGateOf = Tensor(const Tensor&, int64_t);
using MaskedSoftmaxOf = Tensor(const Tensor&, const OptionalTensor&, double, bool);
using ResponseNormOf = Tensor(const Tensor&, int64_t, double, double, double);

struct Named {
  const char* name;
  pybind11::object (*make)(const char* name, pybind11::object whole);
};

const Named ENTRIES[] = {
    {"relu", Entry<Unary>::make},
    {"sigmoid", Entry<Unary>::make},
    {"tanh", Entry<Unary>::make},
    {"gelu", Entry<Unary>::make},
    {"gelu_tanh", Entry<Unary>::make},
    {"silu", Entry<Unary>::make},
    {"softmax", Entry<Unary>::make},
    {"log_softmax", Entry<Unary>::make},
    {"bias_relu", Entry<Binary>::make},
    {"bias_gelu", Entry<Binary>::make},
    {"bias_gelu_tanh", Entry<Binary>::make},
    {"bias_silu", Entry<Binary>::make},
    {"reglu", Entry<Binary>::make},
    {"geglu", Entry<Binary>::make},
    {"geglu_tanh", Entry<Binary>::make},
    {"swiglu", Entry<Binary>::make},
    {"prelu", Entry<Binary>::make},
    {"curve", Entry<CurveOf>::make},
    {"packed_gate", Entry<PackedGateOf>::make},
    {"masked_softmax", Entry<MaskedSoftmaxOf>::make},
    {"row_norm", Entry<RowNormOf>::make},
    {"add_row_norm", Entry<AddRowNormOf>::make},
    {"batch_norm", Entry<BatchNormOf>::make},
    {"group_norm", Entry<GroupNormOf>::make},
    {"response_norm", Entry<ResponseNormOf>::make},
};

pybind11::object entry(const std::string& name, pybind11::object whole) {
  for (const Named& named : ENTRIES)
    if (name == named.name) return named.make(named.name, std::move(whole));
  TORCH_CHECK(false, "benchbench::entry: the operator '", name,
              "' has no entry; call torch.ops.benchbench.", name, " or add it to entries.cpp");
}

}  // namespace

void bind_entries(pybind11::module_& m) {
  m.def("entry", &entry, pybind11::arg("name"), pybind11::arg("whole"),
        "The operator of this name as a function of positional arguments, past torch.ops; what is "
        "not plain tensors and numbers goes to `whole`.");
}

}  // namespace benchbench
