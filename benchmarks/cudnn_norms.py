"""Layer norm and RMS norm of rows through nvidia-cudnn-frontend, for ``gpu_kernels.py``.

A graph is planned once for a shape and a dtype. Differentiable; mean and reciprocal deviation
are kept for the backward pass, as cuDNN wants them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cudnn
import torch
from torch import Tensor

TYPES = {
    torch.float32: cudnn.data_type.FLOAT,
    torch.float16: cudnn.data_type.HALF,
    torch.bfloat16: cudnn.data_type.BFLOAT16,
}


@cache
def handle() -> Any:
    """cuDNN's, made when it is first needed."""
    return cudnn.create_handle()


class Plan:
    """A graph with its tensors by name."""

    def __init__(self) -> None:
        float32 = cudnn.data_type.FLOAT
        self.graph = cudnn.pygraph(
            handle=handle(), intermediate_data_type=float32, compute_data_type=float32
        )
        self.tensors: dict[str, Any] = {}
        self.workspace = torch.empty(0)

    def take(self, name: str, like: Tensor, **more: Any) -> Any:
        """An input of that tensor's shape, strides and dtype."""
        self.tensors[name] = self.graph.tensor(
            name=name,
            dim=list(like.shape),
            stride=list(like.stride()),
            data_type=TYPES[like.dtype],
            **more,
        )
        return self.tensors[name]

    def give(self, name: str, tensor: Any, dtype: torch.dtype) -> None:
        """An output."""
        self.tensors[name] = tensor.set_output(True).set_data_type(TYPES[dtype])

    def build(self, device: torch.device) -> None:
        """Choose how it runs."""
        self.graph.validate()
        self.graph.build_operation_graph()
        self.graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        self.graph.check_support()
        self.graph.build_plans()
        size = max(1, self.graph.get_workspace_size())
        self.workspace = torch.empty(size, dtype=torch.uint8, device=device)

    def __call__(self, **values: Tensor) -> None:
        """Run on tensors by name, outputs among them, in the current stream."""
        if self.workspace.is_cuda:
            stream = torch.cuda.current_stream(self.workspace.device).cuda_stream
            cudnn.set_stream(handle=handle(), stream=stream)
        given = {self.tensors[name]: value for name, value in values.items()}
        self.graph.execute(given, self.workspace, handle=handle())


PLANS: dict[tuple[Any, ...], Plan] = {}


def forward_plan(rms: bool, x: Tensor, weight: Tensor, bias: Tensor | None, eps: Tensor) -> Plan:
    """Norm of (rows, n, 1, 1) with what a backward pass needs."""
    key = ("forward", rms, x.shape, x.dtype, x.device)
    if key not in PLANS:
        plan = Plan()
        phase = cudnn.norm_forward_phase.TRAINING
        given = {
            "input": plan.take("x", x),
            "scale": plan.take("weight", weight),
            "epsilon": plan.take("eps", eps, is_pass_by_value=True),
        }
        if bias is not None:
            given["bias"] = plan.take("bias", bias)
        norm = plan.graph.rmsnorm if rms else plan.graph.layernorm
        y, *kept = norm(name="norm", norm_forward_phase=phase, **given)
        plan.give("y", y, x.dtype)
        for name, tensor in zip(("rstd",) if rms else ("mean", "rstd"), kept, strict=True):
            plan.give(name, tensor, torch.float32)
        plan.build(x.device)
        PLANS[key] = plan
    return PLANS[key]


def backward_plan(rms: bool, dy: Tensor, x: Tensor, weight: Tensor, rstd: Tensor) -> Plan:
    """Gradients of input, weight and, of a layer norm, bias."""
    key = ("backward", rms, x.shape, x.dtype, x.device)
    if key not in PLANS:
        plan = Plan()
        given = {
            "grad": plan.take("dy", dy),
            "input": plan.take("x", x),
            "scale": plan.take("weight", weight),
            "inv_variance": plan.take("rstd", rstd),
        }
        if rms:
            found = plan.graph.rmsnorm_backward(name="gradient", has_dbias=False, **given)
        else:
            given["mean"] = plan.take("mean", rstd)
            found = plan.graph.layernorm_backward(name="gradient", **given)
        for name, tensor in zip(("dx", "dw", "db")[: 3 - rms], found, strict=False):
            plan.give(name, tensor, x.dtype)
        plan.build(x.device)
        PLANS[key] = plan
    return PLANS[key]


class Norm(torch.autograd.Function):
    """Of rows (rows, n); ``bias`` is None for an RMS norm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        rms = bias is None
        rows, n = x.shape
        deep, w = x.contiguous().view(rows, n, 1, 1), weight.view(1, n, 1, 1)
        b = None if bias is None else bias.view(1, n, 1, 1)
        epsilon = torch.full((1, 1, 1, 1), eps)  # the host's: passed by value
        rstd = torch.empty(rows, 1, 1, 1, device=x.device)
        values = {"x": deep, "weight": w, "eps": epsilon, "y": torch.empty_like(deep), "rstd": rstd}
        if b is not None:
            values |= {"bias": b, "mean": torch.empty_like(rstd)}
        forward_plan(rms, deep, w, b, epsilon)(**values)
        ctx.save_for_backward(deep, w, rstd, *([] if rms else [values["mean"]]))
        return values["y"].view(rows, n)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w, rstd, *mean = ctx.saved_tensors
        dy = grad.contiguous().view(x.shape)
        values = {"dy": dy, "x": x, "weight": w, "rstd": rstd}
        values |= {"dx": torch.empty_like(x), "dw": torch.empty_like(w)}
        if mean:
            values |= {"mean": mean[0], "db": torch.empty_like(w)}
        backward_plan(not mean, dy, x, w, rstd)(**values)
        db = values["db"].view(-1) if mean else None
        return values["dx"].view(grad.shape), values["dw"].view(-1), db, None


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``F.layer_norm`` of (rows, n) over n."""
    return Norm.apply(x, weight, bias, eps)  # type: ignore[no-any-return]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``F.rms_norm`` of (rows, n) over n."""
    return Norm.apply(x, weight, None, eps)  # type: ignore[no-any-return]
