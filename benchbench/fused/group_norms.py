"""Group, instance and local response norm as functions, with torch's names, arguments and defaults.

Importing this module loads the kernels. Parameters may have the input's dtype or float32.
Channels-last inputs are answered as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchbench.fused import norms
from benchbench.fused._entries import entry

_group = entry("group_norm")
_response = entry("response_norm")
_MOST_DIMENSIONS = 5
"""That the kernels know a memory layout for."""


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with the statistics of groups of channels.

    Args:
        input: (N, C, ...); ``num_groups`` divides C.
        num_groups: groups of neighbouring channels, each with a mean and a variance per sample.
        weight: (C,), or None for ones.
        bias: (C,), or None for zeros.
        eps: added to the biased variance.

    Raises:
        ValueError: the whole input has one value per group.
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
    """
    if input.dim() >= 2 and num_groups > 0 and input.numel() == num_groups:
        raise ValueError(
            f"group_norm: a group needs more than one value, the input has shape "
            f"{tuple(input.shape)} and {num_groups} groups; use fewer groups"
        )
    x = input.flatten(2) if input.dim() > _MOST_DIMENSIONS else input
    output: Tensor = _group(x, num_groups, weight, bias, eps)[0]
    return output if x is input else output.view(input.shape)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Group norm with one channel a group; updates running statistics, or uses them instead.

    Args:
        input: (N, C, ...), at least 3 dimensions.
        running_mean: (C,); moved towards the mean over samples of their means.
        running_var: (C,); the same of unbiased variances.
        weight: (C,), or None for ones.
        bias: (C,), or None for zeros.
        use_input_stats: False normalises by the running statistics and leaves them.
        momentum: the share of the new statistics.
        eps: added to the variance.

    Raises:
        ValueError: a single value per channel and sample.
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
    """
    if not use_input_stats:
        return norms.batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    if input.dim() < 3:
        raise ValueError(
            f"instance_norm: the input has shape {tuple(input.shape)}; it must have at least 3 "
            "dimensions, samples first and channels second"
        )
    size = math.prod(input.shape[2:])
    if size == 1:
        raise ValueError(
            "instance_norm: statistics need more than one value per channel and sample, the input "
            f"has shape {tuple(input.shape)}; use larger images or use_input_stats=False"
        )
    x = input.flatten(2) if input.dim() > _MOST_DIMENSIONS else input
    output: Tensor
    output, mean, _, variance = _group(x, input.shape[1], weight, bias, eps)
    if input.numel() > 0:
        # Plain torch outside the operator, which tracing and functionalisation understand.
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.mean(0).to(running_mean.dtype), momentum)
            if running_var is not None:
                unbiased = variance.mean(0) * (size / (size - 1))
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return output if x is input else output.view(input.shape)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """``x / (k + alpha mean)^beta``, the mean that of ``size`` neighbouring channels' squares.

    Channels beyond the first and the last count as zeros (Krizhevsky et al. 2012, with torch's
    division of ``alpha`` by ``size``).

    Args:
        input: (N, C, ...), at least 3 dimensions.
        size: channels of the window, at least 1; of an even one, one more before than after.

    Raises:
        RuntimeError: shapes or dtypes that do not fit; the message says which.
    """
    return _response(input, size, alpha, beta, k)  # type: ignore[no-any-return]
