"""Norms as functions, with torch's names, arguments and defaults, and the fusions that models use.

Importing this module loads the kernels. Parameters may have the input's dtype or float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from benchbench import native
from benchbench.fused._entries import entry

_row_norm = entry("row_norm")
_add_row_norm = entry("add_row_norm")
_batch = entry("batch_norm")
_move_statistics = native.load().move_statistics

_EPS, _DOUBLE_EPS = (torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64))


def _is_last(shape: int | Sequence[int], input: Tensor) -> bool:
    """Whether ``shape`` is the last dimension and no other: nothing to check or to flatten then."""
    return (
        type(shape) in (tuple, torch.Size)
        and len(shape) == 1  # type: ignore[arg-type]
        and input.dim() > 0
        and input.size(-1) == shape[0]  # type: ignore[index]
    )


def _flat(
    shape: int | Sequence[int],
    input: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The tensors with their last dimensions, which must be ``shape``, made one."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    count = len(shape)
    if not count or tuple(input.shape[-count:]) != shape:
        raise ValueError(
            f"normalized_shape is {shape}, the input's shape {tuple(input.shape)}; "
            "normalized_shape must be the last dimensions of the input, at least one"
        )
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and tuple(parameter.shape) != shape:
            raise ValueError(
                f"the {name} has shape {tuple(parameter.shape)}; it must be that of "
                f"normalized_shape, {shape}"
            )
    if count == 1:
        return input, residual, weight, bias
    return (
        input.flatten(-count),
        None if residual is None else residual.flatten(-count),
        None if weight is None else weight.flatten(),
        None if bias is None else bias.flatten(),
    )


def _eps(input: Tensor, eps: float | None) -> float:
    """``eps``, or torch's default: the machine epsilon of the dtype that statistics have."""
    if eps is not None:
        return eps
    return _DOUBLE_EPS if input.dtype == torch.float64 else _EPS


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last dimensions.

    Raises:
        ValueError: the last dimensions of ``input`` are not ``normalized_shape``.
    """
    if _is_last(normalized_shape, input):
        return _row_norm(input, weight, bias, eps, False)  # type: ignore[no-any-return]
    x, _, w, b = _flat(normalized_shape, input, None, weight, bias)
    return _row_norm(x, w, b, eps, False).view(input.shape)  # type: ignore[no-any-return]


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last dimensions.

    ``eps`` defaults to the machine epsilon of float32, of float64 for float64 inputs, as in torch.

    Raises:
        ValueError: the last dimensions of ``input`` are not ``normalized_shape``.
    """
    eps = _eps(input, eps)
    if _is_last(normalized_shape, input):
        return _row_norm(input, weight, None, eps, True)  # type: ignore[no-any-return]
    x, _, w, _ = _flat(normalized_shape, input, None, weight)
    return _row_norm(x, w, None, eps, True).view(input.shape)  # type: ignore[no-any-return]


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """``layer_norm(input + residual)`` and the sum itself, for the next residual."""
    if _is_last(normalized_shape, input):
        output, total = _add_row_norm(input, residual, weight, bias, eps, False)
        return output, total
    x, r, w, b = _flat(normalized_shape, input, residual, weight, bias)
    output, total = _add_row_norm(x, r, w, b, eps, False)
    return output.view(input.shape), total.view(input.shape)


def add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``rms_norm(input + residual)`` and the sum itself, for the next residual."""
    eps = _eps(input, eps)
    if _is_last(normalized_shape, input):
        output, total = _add_row_norm(input, residual, weight, None, eps, True)
        return output, total
    x, r, w, _ = _flat(normalized_shape, input, residual, weight)
    output, total = _add_row_norm(x, r, w, None, eps, True)
    return output.view(input.shape), total.view(input.shape)


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

    Channels-last inputs are worked on, and answered, as they are. Running statistics may have the
    input's dtype or float32.

    Raises:
        ValueError: training with a single value per channel.
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
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
    ceiling: float | None = None,
) -> Tensor:
    """``relu(batch_norm(input))`` in the same pass, cut at ``ceiling`` (6 for ReLU6) if given."""
    state = (running_mean, running_var, weight, bias)
    return _batch_norm(input, None, *state, training, momentum, eps, True, ceiling)


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
    ceiling: float | None = None,
) -> Tensor:
    """``relu(batch_norm(input) + residual)`` in the same pass, cut at ``ceiling`` if given."""
    state = (running_mean, running_var, weight, bias)
    return _batch_norm(input, residual, *state, training, momentum, eps, True, ceiling)


def _batch_norm(
    input: Tensor,
    residual: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | Tensor,
    eps: float,
    relu: bool,
    ceiling: float | None = None,
) -> Tensor:
    if ceiling is not None and not ceiling > 0:
        raise ValueError(
            f"batch_norm: the ceiling of the ReLU is {ceiling}; it must be positive, or None"
        )
    if ceiling is not None and not input.is_cpu:  # the kernels of other devices do not cut
        uncut = _batch_norm(
            input, residual, running_mean, running_var, weight, bias, training, momentum, eps, relu
        )
        return uncut.clamp(max=ceiling) if relu else uncut
    if training and input.dim() > 1 and 0 < input.numel() == input.shape[1]:
        raise ValueError(
            "batch_norm: training needs more than one value per channel, the input has shape "
            f"{tuple(input.shape)}; use training=False or a larger batch"
        )
    # The operator changes no argument: it returns the batch's statistics.
    output: Tensor
    state = (weight, bias, running_mean, running_var)
    output, mean, _, variance, _ = _batch(
        input, residual, *state, training, eps, relu, ceiling or 0.0, False
    )
    if training and input.numel() > 0:
        _move(running_mean, running_var, mean, variance, momentum)
    return output


def _move(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float | Tensor,
) -> None:
    """Move running statistics towards those of a batch."""
    pair = running_mean, running_var
    plain = not is_dynamo_compiling() and type(momentum) is float
    if plain and _move_statistics(*pair, mean, variance, momentum):
        return
    # Tracing and functionalisation understand plain torch.
    with torch.no_grad():
        for running, found in zip(pair, (mean, variance), strict=True):
            if running is not None:
                share = momentum.to(running.dtype) if isinstance(momentum, Tensor) else momentum
                running.lerp_(found.to(running.dtype), share)
