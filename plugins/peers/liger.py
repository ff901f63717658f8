"""liger-kernel: Triton kernels for training language models.

Some of its backward passes write gradients over the tensors that forward was given, as is right
where nobody reads those again. Contenders share their inputs, so these get copies of their own,
which are timed; the text of each says so. Its GEGLU is by tanh, for which there is no workload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchbench_plugins._group_norm import GROUPS
from benchbench_plugins.normalizations import EPS
from benchbench_plugins.peers.library import Kernel, Library, planes_only


def _swiglu(k: Any, backward: bool) -> Callable[..., Any]:
    if not backward:
        return k.liger_swiglu  # type: ignore[no-any-return]
    return lambda gate, up: k.liger_swiglu(gate.clone(), up.clone())


def _cross_entropy(k: Any, backward: bool) -> Callable[..., Any]:
    def loss(logits: Tensor, target: Tensor, hot: Tensor) -> Any:
        return k.liger_cross_entropy(logits.clone() if backward else logits, target)

    return loss


def _layer_norm(k: Any, backward: bool) -> Callable[..., Any]:
    return lambda x, weight, bias: k.liger_layer_norm(x, weight, bias, EPS)


def _rms_norm(k: Any, backward: bool) -> Callable[..., Any]:
    # in_place would write the gradient of x over the one of the output, which is shared too.
    return lambda x, weight: k.liger_rms_norm(x, weight, EPS, in_place=False)


def _add_rms_norm(k: Any, backward: bool) -> Callable[..., Any]:
    return lambda x, residual, weight: k.liger_fused_add_rms_norm(
        x, residual, weight, EPS, in_place=False
    )


def _group_norm(k: Any, backward: bool) -> Callable[..., Any]:
    return lambda x, weight, bias: k.liger_group_norm(x, weight, bias, x.shape[1], GROUPS, EPS)


LIBRARY = Library(
    name="liger",
    module="liger_kernel.transformers.functional",
    kernels=(
        Kernel(
            workload="activations/swiglu",
            doc="liger_swiglu; with backward on copies, since that overwrites gate and up.",
            function=_swiglu,
        ),
        Kernel(
            workload="activations/softmax",
            doc="liger_softmax.",
            function=lambda k, backward: k.liger_softmax,
        ),
        Kernel(
            workload="activations/squared_relu",
            doc="liger_relu_squared.",
            function=lambda k, backward: k.liger_relu_squared,
        ),
        Kernel(workload="normalizations/layer_norm", doc="liger_layer_norm.", function=_layer_norm),
        Kernel(
            workload="normalizations/rms_norm",
            doc="liger_rms_norm, not in place.",
            function=_rms_norm,
        ),
        Kernel(
            workload="normalizations/add_rms_norm",
            doc="liger_fused_add_rms_norm, not in place.",
            function=_add_rms_norm,
        ),
        Kernel(
            workload="normalizations/group_norm",
            doc="liger_group_norm.",
            function=_group_norm,
            unfit=planes_only,
        ),
        Kernel(
            workload="losses/cross-entropy",
            doc="liger_cross_entropy; with backward on a copy, since forward writes the gradient "
            "over the logits.",
            function=_cross_entropy,
            dtypes=("float32",),
        ),
    ),
)
