// The Python module and the home of the operator library.
//
// Every other binding unit adds to both: operators with TORCH_LIBRARY_FRAGMENT(benchbench, m), and
// direct functions (without the dispatcher) through a bind_* function declared in common.h.
#include "bindings/entry.h"
#include "bindings/transformer.h"

#include <torch/library.h>

// Declared here and filled by the fragments of the other units.
TORCH_LIBRARY(benchbench, m) {}

// The build gives the compiler and its flags in full.
#ifndef BENCHBENCH_BUILT_WITH
#define BENCHBENCH_BUILT_WITH "unknown"
#endif

namespace benchbench {
namespace {

pybind11::list instruction_sets() {
  const char* names[8];
  const int count = available(names, 8);
  pybind11::list found;
  for (int i = 0; i < count; ++i) found.append(names[i]);
  return found;
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["compiler"] = __VERSION__;
  info["built_with"] = BENCHBENCH_BUILT_WITH;
  info["torch"] = TORCH_VERSION;
  info["cplusplus"] = static_cast<long>(__cplusplus);
#ifdef _OPENMP
  info["openmp"] = _OPENMP;
#else
  info["openmp"] = 0;
#endif
  info["instruction_set"] = kernels().name;
  info["instruction_sets"] = instruction_sets();
#ifdef BENCHBENCH_CUDA
  info["cuda"] = true;
#else
  info["cuda"] = false;
#endif
  return info;
}

void choose_instruction_set(const std::string& name) {
  TORCH_CHECK(choose(name.c_str()), "benchbench: the instruction set '", name,
              "' is not available here; build_info() lists those that are");
}

}  // namespace
}  // namespace benchbench

PYBIND11_MODULE(BENCHBENCH_MODULE, m) {
  m.doc() = "benchbench's fused kernels: direct functions; the operators are torch.ops.benchbench";
  m.def("build_info", &benchbench::build_info, "How this library was built and what it chose.");
  m.def("choose_instruction_set", &benchbench::choose_instruction_set,
        "Use another of build_info()['instruction_sets'] from now on, in all threads.");
  benchbench::bind_activations(m);
  benchbench::bind_curves(m);
  benchbench::bind_norms(m);
  benchbench::bind_samplers(m);
  benchbench::bind_entries(m);
  benchbench::bind_transformer(m);
}
