"""Functions of transformer blocks: gates packed in one tensor, softmax with scale and mask.

Importing this module loads the kernels. Inputs may be float32, bfloat16, float16 or float64; all
compute in float32 (float64 for float64) and answer in the input's dtype. Differentiable once.
"""

from __future__ import annotations

from torch import Tensor

from benchbench.fused._entries import entry

_packed_gate = entry("packed_gate")
_masked_softmax = entry("masked_softmax")
_RELU, _GELU, _GELU_TANH, _SILU = 0, 3, 4, 5
"""The library's numbers of activations."""


def packed_swiglu(input: Tensor) -> Tensor:
    """``silu(gate) * up`` for ``gate, up = input.chunk(2, -1)``, which are read where they lie.

    Args:
        input: (..., 2 n); one linear layer's output, the gates in front.

    Returns:
        (..., n). The gradient of ``input`` is written as one tensor too.

    Raises:
        RuntimeError: the last dimension is odd, or the dtype is not supported.
    """
    return _packed_gate(input, _SILU)  # type: ignore[no-any-return]


def packed_geglu(input: Tensor, approximate: str = "none") -> Tensor:
    """``gelu(gate) * up``; see :func:`packed_swiglu`.

    Raises:
        ValueError: ``approximate`` is neither ``none`` nor ``tanh``.
    """
    if approximate == "none":
        return _packed_gate(input, _GELU)  # type: ignore[no-any-return]
    if approximate != "tanh":
        raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
    return _packed_gate(input, _GELU_TANH)  # type: ignore[no-any-return]


def packed_reglu(input: Tensor) -> Tensor:
    """``relu(gate) * up``; see :func:`packed_swiglu`."""
    return _packed_gate(input, _RELU)  # type: ignore[no-any-return]


def masked_softmax(input: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """Softmax of ``scale * input`` over the last dimension, where the mask lets elements take part.

    Args:
        input: (..., n), at least one dimension.
        mask: anything that broadcasts to the input: bool, True where an element takes part, or of
            the input's dtype (or float32), which is added to the scaled input. It gets no gradient.
        scale: in front of the input.

    Returns:
        Like the input. A row in which nothing takes part is nan, as in torch.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit, or a mask that asks for a gradient;
            the message says which.
    """
    return _masked_softmax(input, mask, scale, False)  # type: ignore[no-any-return]


def masked_log_softmax(input: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """Logarithm of :func:`masked_softmax`, without its underflow. -inf gets no gradient."""
    return _masked_softmax(input, mask, scale, True)  # type: ignore[no-any-return]
