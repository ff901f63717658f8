"""FlagGems: torch's operators in Triton.

It is made to take the place of torch's own operators, which would change those of its rivals too.
So its functions are called by name. Those that stand for a single operator then have no autograd
and run forward only. Left out: ``fused_add_rms_norm``, which writes over both of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchbench_plugins._group_norm import GROUPS
from benchbench_plugins.normalizations import EPS
from benchbench_plugins.peers.library import Kernel, Library, planes_only

FORWARD = "called by name its operator has no autograd"


def _operator(name: str, *rest: Any, **settings: Any) -> Callable[..., Callable[..., Any]]:
    """``flag_gems.NAME`` of x with further arguments."""
    return lambda k, backward: lambda x: getattr(k, name)(x, *rest, **settings)


def _layer_norm(k: Any, backward: bool) -> Callable[..., Any]:
    return lambda x, weight, bias: k.layer_norm(x, list(weight.shape), weight, bias, EPS)[0]


def _group_norm(k: Any, backward: bool) -> Callable[..., Any]:
    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        n, c, h, w = x.shape
        return k.group_norm(x, weight, bias, n, c, h * w, GROUPS, EPS)[0]

    return norm


def _instance_norm(k: Any, backward: bool) -> Callable[..., Any]:
    return lambda x, weight, bias: k.instance_norm(x, weight, bias, eps=EPS)


def _cross_entropy(k: Any, backward: bool) -> Callable[..., Any]:
    return lambda logits, target, hot: k.cross_entropy_loss(logits, target)


_OPERATORS: tuple[tuple[str, str, Callable[..., Callable[..., Any]]], ...] = (
    ("relu", "relu", _operator("relu")),
    ("sigmoid", "sigmoid", _operator("sigmoid")),
    ("tanh", "tanh", _operator("tanh")),
    ("gelu", "gelu", _operator("gelu")),
    ("gelu_tanh", "gelu", _operator("gelu", approximate="tanh")),
    ("silu", "silu", _operator("silu")),
    ("elu", "elu", _operator("elu")),
    ("softplus", "softplus", _operator("softplus")),
    ("log_sigmoid", "log_sigmoid", _operator("log_sigmoid")),
    ("glu", "glu", _operator("glu", -1)),
    ("softmax", "softmax", _operator("softmax", -1, False)),
    ("log_softmax", "log_softmax", _operator("log_softmax", -1, False)),
)
"""Workload, function, and how to call it."""

LIBRARY = Library(
    name="flag-gems",
    module="flag_gems",
    kernels=(
        *(
            Kernel(
                workload=f"activations/{task}",
                doc=f"flag_gems.{name}.",
                function=function,
                autograd=FORWARD,
            )
            for task, name, function in _OPERATORS
        ),
        Kernel(
            workload="activations/swiglu",
            doc="flag_gems.silu_and_mul.",
            function=lambda k, backward: k.silu_and_mul,
        ),
        Kernel(
            workload="activations/geglu",
            doc="flag_gems.gelu_and_mul.",
            function=lambda k, backward: k.gelu_and_mul,
        ),
        Kernel(
            workload="normalizations/layer_norm",
            doc="flag_gems.layer_norm.",
            function=_layer_norm,
            autograd=FORWARD,
        ),
        Kernel(
            workload="normalizations/rms_norm",
            doc="flag_gems.rms_norm.",
            function=lambda k, backward: (
                lambda x, weight: k.rms_norm(x, list(weight.shape), weight, EPS)
            ),
        ),
        Kernel(
            workload="normalizations/group_norm",
            doc="flag_gems.group_norm.",
            function=_group_norm,
            autograd=FORWARD,
            unfit=planes_only,
        ),
        Kernel(
            workload="normalizations/instance_norm",
            doc="flag_gems.instance_norm.",
            function=_instance_norm,
            unfit=planes_only,
        ),
        Kernel(
            workload="losses/cross-entropy",
            doc="flag_gems.cross_entropy_loss.",
            function=_cross_entropy,
            dtypes=("float32",),
        ),
        Kernel(
            workload="losses/mse",
            doc="flag_gems.mse_loss.",
            function=lambda k, backward: k.mse_loss,
            autograd=FORWARD,
            dtypes=("float32",),
        ),
    ),
)
