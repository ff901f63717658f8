"""Activations with parameters as functions, with torch's names, arguments and defaults.

What :mod:`benchbench.fused.activations` says of inputs, outputs and derivatives holds here too.
None works in place. Gradients are computed from the input.
"""

from __future__ import annotations

from torch import Tensor

from benchbench import native
from benchbench.fused._entries import entry

_KINDS: dict[str, int] = native.load().CURVES
_SOFTPLUS = _KINDS["softplus"]
_LOG_SIGMOID = _KINDS["log_sigmoid"]
_ELU = _KINDS["elu"]
_MISH = _KINDS["mish"]
_HARDSWISH = _KINDS["hardswish"]
_LEAKY_RELU = _KINDS["leaky_relu"]

_curve = entry("curve")
_prelu = entry("prelu")

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
"""Klambauer et al. 2017: they make mean 0 and variance 1 a fixed point."""


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``ln(1 + e^(beta x)) / beta``, and ``x`` where ``beta x`` is above ``threshold``."""
    return _curve(input, _SOFTPLUS, beta, threshold)  # type: ignore[no-any-return]


def logsigmoid(input: Tensor) -> Tensor:
    """``ln(sigmoid(x))`` without its underflow."""
    return _curve(input, _LOG_SIGMOID, 0.0, 0.0)  # type: ignore[no-any-return]


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``x``, or ``alpha (e^x - 1)`` where ``x`` is negative (Clevert et al. 2016)."""
    return _curve(input, _ELU, alpha, 1.0)  # type: ignore[no-any-return]


def selu(input: Tensor) -> Tensor:
    """ELU scaled so that mean 0 and variance 1 stay (Klambauer et al. 2017)."""
    return _curve(  # type: ignore[no-any-return]
        input, _ELU, SELU_ALPHA * SELU_SCALE, SELU_SCALE
    )


def mish(input: Tensor) -> Tensor:
    """``x tanh(softplus(x))`` (Misra 2020)."""
    return _curve(input, _MISH, 0.0, 0.0)  # type: ignore[no-any-return]


def hardswish(input: Tensor) -> Tensor:
    """``x relu6(x + 3) / 6`` (Howard et al. 2019)."""
    return _curve(input, _HARDSWISH, 0.0, 0.0)  # type: ignore[no-any-return]


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """``x``, or ``negative_slope x`` where ``x`` is negative."""
    return _curve(input, _LEAKY_RELU, negative_slope, 0.0)  # type: ignore[no-any-return]


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Leaky ReLU with learned slopes, differentiable in both arguments (He et al. 2015).

    Args:
        input: of any shape; its second dimension is that of channels.
        weight: one slope, or one for each channel; of the input's dtype or float32.

    Raises:
        RuntimeError: the number of slopes fits neither.
    """
    return _prelu(input, weight)  # type: ignore[no-any-return]
