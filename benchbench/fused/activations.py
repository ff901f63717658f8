"""Activations as functions, with torch's names, arguments and defaults.

Importing this module loads the kernels. Inputs may be float32, bfloat16, float16 or float64 and of
any strides; outputs of elementwise functions keep the memory order of dense inputs. All compute in
float32 (float64 for float64) and answer in the input's dtype; autocast leaves them alone, softmax
included. They are differentiable once: a second derivative raises.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchbench.fused._entries import entry

_relu = entry("relu")
_sigmoid = entry("sigmoid")
_tanh = entry("tanh")
_gelu = entry("gelu")
_gelu_tanh = entry("gelu_tanh")
_silu = entry("silu")
_bias_relu = entry("bias_relu")
_bias_gelu = entry("bias_gelu")
_bias_gelu_tanh = entry("bias_gelu_tanh")
_bias_silu = entry("bias_silu")
_swiglu = entry("swiglu")
_geglu = entry("geglu")
_geglu_tanh = entry("geglu_tanh")
_reglu = entry("reglu")
_softmax = entry("softmax")
_log_softmax = entry("log_softmax")


def relu(input: Tensor) -> Tensor:
    """``max(x, 0)``; a nan stays one."""
    return _relu(input)  # type: ignore[no-any-return]


def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + e^-x)``."""
    return _sigmoid(input)  # type: ignore[no-any-return]


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return _tanh(input)  # type: ignore[no-any-return]


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x Phi(x)``, or its approximation by tanh.

    Raises:
        ValueError: ``approximate`` is neither ``none`` nor ``tanh``.
    """
    if approximate == "none":
        return _gelu(input)  # type: ignore[no-any-return]
    _check_approximate(approximate)
    return _gelu_tanh(input)  # type: ignore[no-any-return]


def silu(input: Tensor) -> Tensor:
    """``x sigmoid(x)``, also called swish."""
    return _silu(input)  # type: ignore[no-any-return]


def bias_relu(input: Tensor, bias: Tensor) -> Tensor:
    """``relu(x + b)``; ``input`` is (..., n), ``bias`` (n,), of its dtype or float32."""
    return _bias_relu(input, bias)  # type: ignore[no-any-return]


def bias_gelu(input: Tensor, bias: Tensor, approximate: str = "none") -> Tensor:
    """``gelu(x + b)``; ``input`` is (..., n), ``bias`` (n,), of its dtype or float32."""
    if approximate == "none":
        return _bias_gelu(input, bias)  # type: ignore[no-any-return]
    _check_approximate(approximate)
    return _bias_gelu_tanh(input, bias)  # type: ignore[no-any-return]


def bias_silu(input: Tensor, bias: Tensor) -> Tensor:
    """``silu(x + b)``; ``input`` is (..., n), ``bias`` (n,), of its dtype or float32."""
    return _bias_silu(input, bias)  # type: ignore[no-any-return]


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``; equal shapes."""
    return _swiglu(gate, up)  # type: ignore[no-any-return]


def geglu(gate: Tensor, up: Tensor, approximate: str = "none") -> Tensor:
    """``gelu(gate) * up``; equal shapes."""
    if approximate == "none":
        return _geglu(gate, up)  # type: ignore[no-any-return]
    _check_approximate(approximate)
    return _geglu_tanh(gate, up)  # type: ignore[no-any-return]


def reglu(gate: Tensor, up: Tensor) -> Tensor:
    """``relu(gate) * up``; equal shapes."""
    return _reglu(gate, up)  # type: ignore[no-any-return]


def softmax(input: Tensor, dim: int = -1, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax along ``dim``. Another dimension than the last costs a transposed copy.

    Args:
        dtype: converts the input first, as torch does.

    Raises:
        IndexError: ``input`` has no dimension ``dim``.
    """
    return _along(_softmax, input, dim, dtype)


def log_softmax(input: Tensor, dim: int = -1, dtype: torch.dtype | None = None) -> Tensor:
    """Logarithm of :func:`softmax`, without its underflow."""
    return _along(_log_softmax, input, dim, dtype)


def _along(
    function: Callable[[Tensor], Tensor], input: Tensor, dim: int, dtype: torch.dtype | None
) -> Tensor:
    x = input if dtype is None else input.to(dtype)
    if dim in (-1, x.dim() - 1):
        return function(x)
    return function(x.movedim(dim, -1)).movedim(-1, dim)


def _check_approximate(approximate: str) -> None:
    if approximate != "tanh":
        raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
