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


def _operator(task: str, *rest: Any, name: str = "", **settings: Any) -> Kernel:
    """An activation by a single operator of x and further arguments; ``name`` if it is another."""
    name = name or task
    return Kernel(
        workload=f"activations/{task}",
        doc=f"flag_gems.{name}.",
        function=lambda k, backward: lambda x: getattr(k, name)(x, *rest, **settings),
        autograd=FORWARD,
    )


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


LIBRARY = Library(
    name="flag-gems",
    module="flag_gems",
    kernels=(
        _operator("relu"),
        _operator("sigmoid"),
        _operator("tanh"),
        _operator("gelu"),
        _operator("gelu_tanh", name="gelu", approximate="tanh"),
        _operator("silu"),
        _operator("elu"),
        _operator("softplus"),
        _operator("log_sigmoid"),
        _operator("glu", -1),
        _operator("softmax", -1, False),
        _operator("log_softmax", -1, False),
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
