// What all binding units share. The only headers of torch that kernels never see.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>
