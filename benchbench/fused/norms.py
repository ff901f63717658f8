"""Norms as functions, with torch's names, arguments and defaults, and the fusions that models use.

Importing this module loads the kernels. Parameters may have the input's dtype or float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchbench import native

native.load()

_rows = torch.ops.benchbench.norm_rows.default
_batch = torch.ops.benchbench.batch_norm.default


def _flat(shape: Sequence[int], *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Tensors with their last dimensions, which must be ``shape``, made one."""
    first = tensors[0]
    assert first is not None
    shape = tuple(shape)
    if not shape or tuple(first.shape[-len(shape) :]) != shape:
        raise ValueError(
            f"normalized_shape {shape} must be the last dimensions of the input, whose shape is "
            f"{tuple(first.shape)}"
        )
    if len(shape) == 1:
        return tensors
    size = math.prod(shape)
    lead = first.shape[: first.dim() - len(shape)]
    whole = [
        None if t is None else t.reshape(*lead, size) if t.dim() == first.dim() else t.reshape(size)
        for t in tensors
    ]
    return tuple(whole)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last dimensions.

    Raises:
        ValueError: the last dimensions of ``input`` are not ``normalized_shape``.
    """
    x, w, b = _flat(normalized_shape, input, weight, bias)
    output: Tensor = _rows(x, None, w, b, eps, False)[0]
    return output if x is input else output.view(input.shape)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight``; ``eps`` defaults to that of the input's dtype."""
    x, w = _flat(normalized_shape, input, weight)
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    output: Tensor = _rows(x, None, w, None, eps, True)[0]
    return output if x is input else output.view(input.shape)


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """``layer_norm(input + residual)`` and the sum itself, for the next residual."""
    x, r, w, b = _flat(normalized_shape, input, residual, weight, bias)
    output, total, _, _ = _rows(x, r, w, b, eps, False)
    return (output, total) if x is input else (output.view(input.shape), total.view(input.shape))


def add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``rms_norm(input + residual)`` and the sum itself, for the next residual."""
    x, r, w = _flat(normalized_shape, input, residual, weight)
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    output, total, _, _ = _rows(x, r, w, None, eps, True)
    return (output, total) if x is input else (output.view(input.shape), total.view(input.shape))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm of (N, C, ...), as ``torch.nn.functional.batch_norm``; updates running statistics.

    Channels-last inputs are worked on, and answered, as they are.
    """
    return _batch_norm(
        input, None, running_mean, running_var, weight, bias, training, momentum, eps, False
    )


def batch_norm_relu(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``relu(batch_norm(input))`` in the same pass."""
    return _batch_norm(
        input, None, running_mean, running_var, weight, bias, training, momentum, eps, True
    )


def batch_norm_add_relu(
    input: Tensor,
    residual: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``relu(batch_norm(input) + residual)`` in the same pass."""
    return _batch_norm(
        input, residual, running_mean, running_var, weight, bias, training, momentum, eps, True
    )


def _batch_norm(
    input: Tensor,
    residual: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool,
) -> Tensor:
    # The operator is functional: it returns the batch's statistics, and plain torch updates the
    # running ones, which tracing and functionalisation understand.
    output: Tensor
    output, mean, _, variance = _batch(
        input, residual, weight, bias, running_mean, running_var, training, eps, relu
    )
    if training and running_mean is not None and running_var is not None and input.numel():
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_(variance.to(running_var.dtype), momentum)
    return output
