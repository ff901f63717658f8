// What the CUDA binding units share: the device and stream that a tensor's work goes to, errors of
// launches, parameters. The operators' schemas, Meta and Autograd functions are those of the CPU's units.
//
// These units are compiled for the host executor too (tests/cuda_operators.py): the kernels then run on
// the CPU, and the operators are those of tensors that lie there.
#pragma once

#if !defined(BENCHBENCH_HOST_EXECUTOR)
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

#include "bindings/norms.h"
#include "cuda/kernels.h"

namespace benchbench {

#if defined(BENCHBENCH_HOST_EXECUTOR)
#define BENCHBENCH_CUDA_KEY CPU

// A device that does not exist, small enough to need every tier.
class Here {
 public:
  explicit Here(const Tensor& x) {
    TORCH_CHECK(x.device().is_cpu(), "the host executor works on the CPU, not on ", x.device());
  }
  operator const cuda::Device&() const { return device_; }

 private:
  cuda::Device device_{nullptr, 4, 9};
};

inline bool being_captured() { return false; }
#else
#define BENCHBENCH_CUDA_KEY CUDA

// Work for the device of a tensor, in its current stream. While this lives the device is current.
class Here {
 public:
  explicit Here(const Tensor& x) : guard_(x.device()), device_(properties(x.get_device())) {
    device_.stream = c10::cuda::getCurrentCUDAStream(x.get_device()).stream();
  }
  operator const cuda::Device&() const { return device_; }

 private:
  static cuda::Device properties(int index) {
    constexpr int KNOWN = 64;
    static cuda::Device known[KNOWN];  // filled twice with the same values if two threads come at once
    if (index < KNOWN && known[index].processors) return known[index];
    const auto ask = [index](cudaDeviceAttr attribute) {
      int value = 0;
      TORCH_CHECK(cudaDeviceGetAttribute(&value, attribute, index) == cudaSuccess,
                  "benchbench: CUDA device ", index, " does not answer; is it lost?");
      return value;
    };
    const cuda::Device found{nullptr, ask(cudaDevAttrMultiProcessorCount),
                             ask(cudaDevAttrComputeCapabilityMajor),
                             ask(cudaDevAttrCooperativeLaunch) != 0,
                             ask(cudaDevAttrMaxSharedMemoryPerBlockOptin)};
    TORCH_CHECK(found.major >= 8, "benchbench: CUDA device ", index, " has compute capability ",
                found.major, ".x; the kernels need 8.0 or newer, use torch's own there");
    if (index < KNOWN) known[index] = found;
    return found;
  }
  c10::cuda::CUDAGuard guard_;
  cuda::Device device_;
};

// Whether the current stream of the current device is being captured into a graph.
inline bool being_captured() {
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}
#endif

inline void check_launch(const char* op, const cuda::Failure& failure) {
  TORCH_CHECK(!failure, "benchbench::", op, ": ", failure.text,
              "; if the device ran out of memory or was lost, free some or restart the process, else "
              "report this with the shape and the dtype");
}

// A parameter of the input's dtype or real; any other is converted, which is one more launch.
struct GivenParameter {
  Tensor kept;
  cuda::Parameter p;
  GivenParameter(const OptionalTensor& parameter, const Tensor& x) : p{nullptr, true} {
    if (!parameter.has_value()) return;
    const bool same = parameter->scalar_type() == x.scalar_type();
    kept = same ? parameter->contiguous() : as_real(*parameter, real_of(x));
    p = {kept.const_data_ptr(), !same || x.scalar_type() == real_of(x)};
  }
};

inline Tensor workspace(const Tensor& x, int64_t bytes) {
  return at::empty({bytes}, x.options().dtype(at::kByte));
}
inline void* memory(const Tensor& workspace) {
  return workspace.numel() ? workspace.mutable_data_ptr() : nullptr;
}

}  // namespace benchbench
