"""Batch norm, alone and fused with a residual and ReLU; planes (NCHW) and channels last.

In training the output is the normalised batch *and* copies of the running statistics. These belong
to the contender and are updated on every call. With a momentum of 1 an update replaces them by the
statistics of the batch, so they are the same after any number of calls, and every timed call can be
checked. The update costs what it costs with any momentum; the copies are two values a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared

SHAPES = (
    (8, 256, 28, 28),
    (8, 256, 56, 56),
    (8, 64, 112, 112),
    (8, 512, 28, 28),
    (32, 1024, 14, 14),
    (32, 2048, 7, 7),
)
EPS = 1e-5
GAP = 0.1
"""Half width of the interval around zero that ReLU's arguments leave out; see :func:`leave_gap`."""

Function = Callable[..., Tensor]
"""From x, residual or None, weight, bias, running mean, running variance, training to y."""

FUSIONS = {
    "batch_norm": (False, False, "Batch norm of (N, C, H, W)."),
    "batch_norm_relu": (False, True, "Batch norm, then ReLU."),
    "batch_norm_add_relu": (
        True,
        True,
        "Batch norm, residual add, ReLU: the end of a residual block.",
    ),
}
"""Name to whether there is a residual and a ReLU, and the doc."""


def eager(residual: bool, relu: bool) -> Function:
    """PyTorch's operators, one after the other."""

    def function(
        x: Tensor,
        r: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        training: bool,
    ) -> Tensor:
        y = F.batch_norm(x, mean, variance, weight, bias, training, 1.0, EPS)
        if r is not None:
            y = y + r
        return F.relu(y) if relu else y

    return function


def inplace(residual: bool, relu: bool) -> Function:
    """The same with the add and the ReLU in place, as torchvision's models have them."""

    def function(
        x: Tensor,
        r: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        training: bool,
    ) -> Tensor:
        y = F.batch_norm(x, mean, variance, weight, bias, training, 1.0, EPS)
        if r is not None:
            y += r
        return F.relu_(y) if relu else y

    return function


def ours(residual: bool, relu: bool) -> Function:
    """benchbench's own kernel."""
    from benchbench import fused

    def function(
        x: Tensor,
        r: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        training: bool,
    ) -> Tensor:
        rest = (mean, variance, weight, bias, training, 1.0, EPS)
        if r is not None:
            return fused.batch_norm_add_relu(x, r, *rest)  # type: ignore[no-any-return]
        return (fused.batch_norm_relu if relu else fused.batch_norm)(x, *rest)  # type: ignore[no-any-return]

    return function


def compiled(residual: bool, relu: bool) -> Function:
    """torch.compile of the baseline: fullgraph, static shapes."""
    return shared.compile_function(eager(residual, relu))


def leave_gap(values: dict[str, Any]) -> None:
    """Move what ReLU would see closer to zero than ``GAP`` away from it.

    ReLU's derivative jumps at zero. There the last rounding decides the side, and with it the whole
    gradient of an element: one such element among a million would call honest contenders wrong.
    """
    x, residual = values["x"].double(), values.get("residual")
    mean, variance = values["mean"].double(), values["variance"].double()
    if values["training"]:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    scale = (values["weight"].double() / torch.sqrt(variance + EPS)).view(-1, 1, 1)
    before = (x - mean.view(-1, 1, 1)) * scale + values["bias"].double().view(-1, 1, 1)
    if residual is not None:
        before += residual.double()
    away = torch.where(before.abs() < GAP, torch.copysign(torch.full_like(x, 2 * GAP), before), 0.0)
    # x moves less than one value in ten, and its statistics much less than the gap.
    if residual is not None:
        residual += away.to(residual.dtype)
    else:
        values["x"] += (away / scale).to(values["x"].dtype)


def make(residual: bool, relu: bool, params: bb.Params, seed: int) -> bb.Inputs:
    """x (and a residual) of the case's shape and layout, parameters and statistics by channel."""
    rng = torch.Generator().manual_seed(seed)
    shape: Any = params["shape"]
    device = str(params["device"])
    layout = torch.channels_last if params["layout"] == "channels_last" else torch.contiguous_format

    def image() -> Tensor:
        return shared.normal(shape, params, rng).contiguous(memory_format=layout)

    # Parameters and statistics stay float32 beside 16-bit data, as under autocast.
    values: dict[str, Any] = {
        "x": image().mul_(2).add_(0.5),
        "weight": torch.rand(shape[1], generator=rng).add_(0.5).to(device),
        "bias": torch.randn(shape[1], generator=rng).to(device),
        "mean": torch.randn(shape[1], generator=rng).to(device),
        "variance": torch.rand(shape[1], generator=rng).add_(0.5).to(device),
        "training": params["mode"] == "train",
    }
    names = ["x", "weight", "bias"]
    if residual:
        values["residual"] = image()
        names.append("residual")
    if not shared.backward(params):
        return bb.Inputs(values)
    if relu:
        leave_gap(values)
    return bb.Inputs(values, wrt=names, cotangents=[image()])


def thunk(function: Function, inputs: bb.Inputs) -> bb.Thunk:
    """One call: output, copies of the running statistics in training, and gradients."""
    x, weight, bias = inputs.x, inputs.weight, inputs.bias
    residual = inputs.get("residual")
    mean, variance = inputs.mean.clone(), inputs.variance.clone()
    training = inputs.training

    def forward() -> Any:
        y = function(x, residual, weight, bias, mean, variance, training)
        return (y, mean.clone(), variance.clone()) if training else y

    if not inputs.backward:
        return forward
    targets = [inputs[name] for name in inputs.wrt]
    cotangents = inputs.cotangents

    def forward_backward() -> Any:
        y = function(x, residual, weight, bias, mean, variance, training)
        gradients = torch.autograd.grad(y, targets, cotangents)
        statistics = (mean.clone(), variance.clone()) if training else ()
        return (y.detach(), *statistics, *gradients)

    return forward_backward


def workloads() -> Iterator[bb.Workload]:
    """Batch norm and its two fusions."""
    for name, (residual, relu, doc) in FUSIONS.items():
        yield _workload(name, residual, relu, doc)


def _workload(name: str, residual: bool, relu: bool, doc: str) -> bb.Workload:
    def work(params: bb.Params) -> bb.Work:
        shape: Any = params["shape"]
        more = int(residual)
        return shared.traffic(params, math.prod(shape), 2 + more, 3 + more)

    quick = {
        "batch_norm": {"layout": ("nchw", "channels_last")},
        "batch_norm_relu": {"mode": ("train", "eval")},
        "batch_norm_add_relu": {"direction": ("forward+backward",)},
    }
    return bb.Workload(
        name=f"normalizations/{name}",
        doc=doc,
        axes={
            "shape": SHAPES,
            "layout": ("nchw", "channels_last"),
            "mode": ("train", "eval"),
            "dtype": shared.DTYPES,
            "direction": shared.DIRECTIONS,
            "device": shared.DEVICES,
        },
        presets={
            "quick": quick[name],
            "standard": [
                {"layout": ("nchw", "channels_last"), "direction": shared.DIRECTIONS[1:]},
                {"shape": SHAPES[1:2], "layout": ("channels_last",)},
                {"mode": ("eval",)},
                {"dtype": ("bfloat16",), "layout": ("channels_last",)},
            ],
            "full": {
                "shape": SHAPES,
                "layout": ("nchw", "channels_last"),
                "mode": ("train", "eval"),
                "dtype": shared.DTYPES,
                "direction": shared.DIRECTIONS,
            },
            "gpu": {
                "shape": ((128, 256, 56, 56), (256, 512, 28, 28)),
                "layout": ("nchw", "channels_last"),
                "dtype": ("bfloat16",),
                "direction": shared.DIRECTIONS,
                "device": shared.CUDA,
            },
        },
        make=lambda params, seed: make(residual, relu, params, seed),
        reference=lambda inputs: thunk(eager(residual, relu), inputs.double())(),
        work=work,
        baseline="eager",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Eager, in place, compiled, fused."""
    from benchbench import fused

    for name, (residual, relu, _) in FUSIONS.items():
        workload = f"normalizations/{name}"
        yield _implementation(workload, "eager", eager, residual, relu)
        if relu:
            yield _implementation(workload, "in-place", inplace, residual, relu)
        yield _implementation(
            workload,
            "compiled",
            compiled,
            residual,
            relu,
            unavailable=shared.no_compiler,
            presets=("full",),
        )
        yield _implementation(
            workload,
            "fused",
            ours,
            residual,
            relu,
            unavailable=shared.no_kernels,
            prepare=fused.build,
        )


def _implementation(
    workload: str,
    name: str,
    factory: Callable[[bool, bool], Function],
    residual: bool,
    relu: bool,
    **options: Any,
) -> bb.Implementation:
    return bb.Implementation(
        workload=workload,
        name=name,
        build=lambda inputs: thunk(factory(residual, relu), inputs),
        doc=(factory.__doc__ or "").strip(),
        **{"unavailable": shared.no_cuda, **options},
    )
