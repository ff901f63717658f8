"""Layer norm, RMS norm and batch norm, with a residual or ReLU fused in.

Arguments, defaults and results are those of ``torch.nn.functional``. Inputs are float32, bfloat16,
float16 or float64; weights and biases have the input's dtype or float32. Statistics are computed
in float32 (float64 for float64) whatever the input is. Everything is differentiable once and
traceable by ``torch.compile``; a second derivative raises.

Importing this module builds the kernels if need be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from benchbench import native

native.load()
# Looking an operator up costs as much as calling it.
_norm_rows = torch.ops.benchbench.norm_rows.default
_batch_norm = torch.ops.benchbench.batch_norm.default

Activation = Literal["none", "relu"]


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last dimensions (Ba et al. 2016).

    Args:
        input: shape ``(*, *normalized_shape)``.
        normalized_shape: the dimensions that share a mean and a variance.
        weight: of shape ``normalized_shape``, or None for 1.
        bias: of shape ``normalized_shape``, or None for 0.
        eps: added to the biased variance.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
    """
    return _normalize("layer_norm", input, None, normalized_shape, weight, bias, eps, False)[0]


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last dimensions (Zhang & Sennrich 2019).

    Args:
        input: shape ``(*, *normalized_shape)``.
        normalized_shape: the dimensions that share a mean square.
        weight: of shape ``normalized_shape``, or None for 1.
        eps: added to the mean square; None is the machine epsilon of the statistics' dtype, as in
            torch.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
    """
    return _normalize("rms_norm", input, None, normalized_shape, weight, None, eps, True)[0]


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """``layer_norm(input + residual)`` and the sum itself, which is rounded before it is normalised.

    Args:
        input: shape ``(*, *normalized_shape)``.
        residual: of the input's shape and dtype.
        normalized_shape: as for :func:`layer_norm`, like ``weight``, ``bias`` and ``eps``.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
    """
    return _normalize("add_layer_norm", input, residual, normalized_shape, weight, bias, eps, False)


def add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``rms_norm(input + residual)`` and the sum itself, which is rounded before it is normalised.

    Args:
        input: shape ``(*, *normalized_shape)``.
        residual: of the input's shape and dtype.
        normalized_shape: as for :func:`rms_norm`, like ``weight`` and ``eps``.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
    """
    return _normalize("add_rms_norm", input, residual, normalized_shape, weight, None, eps, True)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: Activation = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """``activation((x - mean) / sqrt(var + eps) * weight + bias + residual)`` by channel.

    Ioffe & Szegedy 2015. Planes (NCHW) and channels-last inputs are read where they lie; the output
    has the input's memory format.

    Args:
        input: shape ``(N, C, *)`` with none to three dimensions after the channels.
        running_mean: shape ``(C,)``, float32 or the input's dtype; in training it moves by
            ``momentum`` towards the batch's mean, in place.
        running_var: the same for the variance (unbiased, as in torch).
        weight: shape ``(C,)``, or None for 1.
        bias: shape ``(C,)``, or None for 0.
        training: normalise with the batch's statistics; otherwise with the running ones.
        momentum: weight of this batch in the running statistics.
        eps: added to the biased variance.
        activation: "none" or "relu".
        residual: added before the activation; of the input's shape and dtype.

    Raises:
        ValueError: training with one value per channel; an unknown activation.
        RuntimeError: shapes, dtypes or devices that do not fit; the message says which.
    """
    if activation not in ("none", "relu"):
        raise ValueError(
            f"batch_norm: there is no activation {activation!r}; use 'none' or 'relu', or apply "
            "yours to the result"
        )
    if training and input.dim() >= 2 and input.numel() == input.shape[1]:
        raise ValueError(
            "batch_norm: training needs more than one value per channel, the input has shape "
            f"{tuple(input.shape)}; use training=False or a larger batch"
        )
    output, mean, _, variance = _batch_norm(
        input,
        residual,
        weight,
        bias,
        running_mean,
        running_var,
        training,
        eps,
        activation == "relu",
    )
    # The operator is a function of its arguments and changes none of them, which autograd, fake
    # tensors and torch.compile all handle without special cases; what it found moves the running
    # statistics here, in plain torch. An empty batch found nothing.
    if training and input.numel() > 0:
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            if running_var is not None:
                running_var.lerp_(variance.to(running_var.dtype), momentum)
    return output


def _normalize(
    name: str,
    input: Tensor,
    residual: Tensor | None,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    rms: bool,
) -> tuple[Tensor, Tensor]:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    count = len(shape)
    if count == 0 or tuple(input.shape[-count:]) != shape:
        raise RuntimeError(
            f"{name}: normalized_shape is {list(shape)} but the input has shape "
            f"{list(input.shape)}; normalized_shape must name its last dimensions, at least one"
        )
    for parameter, what in ((weight, "weight"), (bias, "bias")):
        if parameter is not None and tuple(parameter.shape) != shape:
            raise RuntimeError(
                f"{name}: the {what} has shape {list(parameter.shape)}; it must be that of "
                f"normalized_shape, {list(shape)}"
            )
    if eps is None:
        eps = torch.finfo(torch.float64 if input.dtype == torch.float64 else torch.float32).eps
    if count == 1:
        output, total, _, _ = _norm_rows(input, residual, weight, bias, eps, rms)
        return output, total
    output, total, _, _ = _norm_rows(
        input.flatten(-count),
        None if residual is None else residual.flatten(-count),
        None if weight is None else weight.flatten(),
        None if bias is None else bias.flatten(),
        eps,
        rms,
    )
    return output.view(input.shape), total if residual is None else total.view(input.shape)
