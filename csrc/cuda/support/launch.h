// Launches: the one way in which kernels start, the same on a device and on the host executor.
#pragma once

#include <cstdio>
#include <cstring>
#include <utility>

#include "cuda/kernels.h"
#include "cuda/support/platform.h"

namespace benchbench::cuda {

struct Shape {
  uint64_t blocks = 1;
  unsigned threads = 256;
  unsigned shared = 0;   // bytes a block
  unsigned cluster = 1;  // blocks a cluster
  bool cooperative = false;
  unsigned rows = 1;  // the grid's second dimension, at most 65535
};

// Start kernel(arguments...) in the device's stream.
template <class... Parameters, class... Arguments>
Failure launch(const char* name, void (*kernel)(Parameters...), const Shape& shape,
               const Device& device, Arguments&&... arguments) {
  Failure failure;
  if (shape.blocks > 2147483647u) {
    std::snprintf(failure.text, sizeof failure.text, "%s: %llu blocks are more than a grid can have",
                  name, static_cast<unsigned long long>(shape.blocks));
    return failure;
  }
#if defined(BENCHBENCH_HOST_EXECUTOR)
  (void)device;
  host_executor::Shape host;
  host.grid = {static_cast<unsigned>(shape.blocks), shape.rows, 1};
  host.block = {shape.threads, 1, 1};
  host.shared = shape.shared;
  host.cluster = shape.cluster;
  host.cooperative = shape.cooperative;
  const std::string error = host_executor::run(name, host, [&] { kernel(arguments...); });
  std::snprintf(failure.text, sizeof failure.text, "%s", error.c_str());
#else
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks), shape.rows);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared;
  config.stream = static_cast<cudaStream_t>(device.stream);
  cudaLaunchAttribute attributes[2];
  config.attrs = attributes;
  if (shape.cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {shape.cluster, 1, 1};
  }
  if (shape.cooperative) {
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  cudaError_t error = cudaSuccess;
  if (shape.shared > 48 * 1024)
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared));
  if (error == cudaSuccess)
    error = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  if (error != cudaSuccess) {
    std::snprintf(failure.text, sizeof failure.text, "%s (%u blocks of %u threads, %u bytes shared): %s",
                  name, config.gridDim.x, shape.threads, shape.shared, cudaGetErrorString(error));
    cudaGetLastError();  // it is reported: the next call must not find it again
  }
#endif
  return failure;
}

// `bytes` zeros at `to`, in the device's stream; counts as a launch.
inline Failure clear(void* to, size_t bytes, const Device& device) {
  Failure failure;
#if defined(BENCHBENCH_HOST_EXECUTOR)
  (void)device;
  ++host_executor::launches();
  std::memset(to, 0, bytes);
#else
  const cudaError_t error = cudaMemsetAsync(to, 0, bytes, static_cast<cudaStream_t>(device.stream));
  if (error != cudaSuccess) {
    std::snprintf(failure.text, sizeof failure.text, "clearing %zu bytes: %s", bytes,
                  cudaGetErrorString(error));
    cudaGetLastError();
  }
#endif
  return failure;
}

// Blocks of this kernel that fit on the device at once, for cooperative launches.
template <class... Parameters>
int resident_blocks(void (*kernel)(Parameters...), unsigned threads, unsigned shared,
                    const Device& device) {
#if defined(BENCHBENCH_HOST_EXECUTOR)
  (void)kernel, (void)threads, (void)shared;
  return device.processors * 2;
#else
  int each = 0;
  if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(threads), shared) !=
      cudaSuccess) {
    cudaGetLastError();
    each = 1;
  }
  return larger(each, 1) * device.processors;
#endif
}

}  // namespace benchbench::cuda
