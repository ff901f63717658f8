"""quack-kernels: reductions over rows in CuTe-DSL, for Hopper and later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchbench_plugins.normalizations import EPS
from benchbench_plugins.peers.library import Kernel, Library


def _softmax(k: Any, backward: bool) -> Callable[..., Any]:
    # Its kernels take matrices.
    return lambda x: k.softmax(x.flatten(0, -2)).view(x.shape)


def _cross_entropy(k: Any, backward: bool) -> Callable[..., Any]:
    def loss(logits: Tensor, target: Tensor, hot: Tensor) -> Any:
        return k.cross_entropy(logits, target, reduction="mean")

    return loss


def _layer_norm(k: Any, backward: bool) -> Callable[..., Any]:
    from quack.rmsnorm import layernorm_fwd

    return lambda x, weight, bias: layernorm_fwd(x, weight, bias=bias, eps=EPS)


LIBRARY = Library(
    name="quack",
    module="quack",
    capability=(9, 0),
    kernels=(
        Kernel(
            workload="activations/softmax",
            doc="quack.softmax of the rows.",
            function=_softmax,
        ),
        Kernel(
            workload="normalizations/rms_norm",
            doc="quack.rmsnorm.",
            function=lambda k, backward: lambda x, weight: k.rmsnorm(x, weight, eps=EPS),
        ),
        Kernel(
            workload="normalizations/add_rms_norm",
            doc="quack.rmsnorm with a residual, whose sum is returned too.",
            function=lambda k, backward: (
                lambda x, residual, weight: k.rmsnorm(
                    x, weight, residual=residual, eps=EPS, prenorm=True
                )
            ),
        ),
        Kernel(
            workload="normalizations/layer_norm",
            doc="quack.rmsnorm.layernorm_fwd.",
            function=_layer_norm,
            autograd="its layer norm has no autograd",
            dtypes=("float32",),  # weights have to be float32, and here they have the dtype of x
        ),
        Kernel(
            workload="losses/cross-entropy",
            doc="quack.cross_entropy.",
            function=_cross_entropy,
            dtypes=("float32",),
        ),
    ),
)
