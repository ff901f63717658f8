// The Python module and the home of the operator library.
//
// Every other binding unit adds to both: operators with TORCH_LIBRARY_FRAGMENT(benchbench, m), and
// direct functions (without the dispatcher) through a bind_* function declared in common.h.
#include "bindings/common.h"

#include <torch/library.h>

// Declared here and filled by the fragments of the other units.
TORCH_LIBRARY(benchbench, m) {}

namespace benchbench {
namespace {

pybind11::dict build_info() {
  pybind11::dict info;
  info["compiler"] = __VERSION__;
  info["torch"] = TORCH_VERSION;
  info["cplusplus"] = static_cast<long>(__cplusplus);
#ifdef _OPENMP
  info["openmp"] = _OPENMP;
#else
  info["openmp"] = 0;
#endif
  info["cuda"] = false;
  return info;
}

}  // namespace
}  // namespace benchbench

PYBIND11_MODULE(BENCHBENCH_MODULE, m) {
  m.doc() = "benchbench's fused kernels: direct functions; the operators are torch.ops.benchbench";
  m.def("build_info", &benchbench::build_info, "How this library was built and what it chose.");
}
