"""Normalizations: layer, RMS, batch, group, instance and local response norm, and fusions.

Shapes: (4096, 768) is BERT's, (2048, 4096) a 7B LLaMA's; batch norm's are the stages of ResNet-50,
local response norm's the two of AlexNet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _batch_norm, _functional as shared, _group_norm, _norm_more

ROWS = ((4096, 768), (4096, 1024), (2048, 4096), (2048, 8192), (4096, 769), (32, 128))
GPU_ROWS = ((16384, 4096), (65536, 1024), (2048, 32768))
LOCAL = ((8, 256, 27, 27), (8, 96, 55, 55))
EPS = 1e-5
COARSE = bb.Tolerance(absolute=0.5)
"""Torch sums the gradient of a 16-bit weight in 16 bits: over 4096 rows 0.2 is lost. As everywhere,
contenders may be off by four times as much as torch is, in float32 by four times very little."""


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.layer_norm."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, EPS)


def layer_norm_by_hand(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean, variance, scale: as papers write it, one operator for each symbol."""
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + EPS) * weight + bias


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """F.rms_norm."""
    return F.rms_norm(x, x.shape[-1:], weight, EPS)


def rms_norm_by_hand(x: Tensor, weight: Tensor) -> Tensor:
    """x rsqrt(mean(x^2) + eps) weight: as model code writes it."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum, then F.layer_norm of it; both are returned."""
    total = x + residual
    return F.layer_norm(total, x.shape[-1:], weight, bias, EPS), total


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The sum, then F.rms_norm of it; both are returned."""
    total = x + residual
    return F.rms_norm(total, x.shape[-1:], weight, EPS), total


def local_response_norm(x: Tensor) -> Tensor:
    """F.local_response_norm over 5 channels, with AlexNet's constants."""
    return F.local_response_norm(x, 5, 1e-4, 0.75, 2.0)


def local_response_norm_shifted(x: Tensor) -> Tensor:
    """Squares padded by two channels, five shifted views added up."""
    padded = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
    channels = x.shape[1]
    total = padded[:, :channels]
    for shift in range(1, 5):
        total = total + padded[:, shift : shift + channels]
    return x * (2.0 + 1e-4 / 5 * total).pow(-0.75)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One workload over rows."""

    name: str
    function: Callable[..., Any]
    doc: str
    arguments: tuple[str, ...]
    """``x`` and ``residual`` have the case's shape, ``weight`` and ``bias`` its last dimension."""
    passes: tuple[int, int]
    """Compulsory passes over the elements, forward and backward."""
    fused: Callable[[Any], Callable[..., Any]] | None = None
    direct: Callable[[Any], Callable[..., Any]] | None = None
    shapes: tuple[tuple[int, ...], ...] = ROWS
    gpu: tuple[tuple[int, ...], ...] = GPU_ROWS
    dtypes: tuple[str, ...] = shared.DTYPES
    quick: tuple[str, ...] = ("forward",)
    compiled: tuple[str, ...] | None = ("full",)
    """Presets with torch.compile: it takes seconds, and a standard run has ten minutes."""
    others: tuple[tuple[str, Callable[..., Any]], ...] = ()
    others_inexact: Literal["", "gradient", "output"] = ""
    """What is wrong in 16 bits because the others round intermediate results."""
    tolerance: bb.Tolerance = bb.Tolerance()

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"normalizations/{self.name}"


TASKS = (
    Task(
        name="layer_norm",
        function=layer_norm,
        doc="Layer norm over the last dimension, with weight and bias.",
        arguments=("x", "weight", "bias"),
        passes=(2, 3),
        fused=lambda k: lambda x, w, b: k.layer_norm(x, x.shape[-1:], w, b, EPS),
        direct=lambda k: lambda x, w, b: k.row_norm(x, w, b, EPS, False),
        quick=("forward", "forward+backward"),
        compiled=None,
        others=(("by-hand", layer_norm_by_hand),),
        others_inexact="output",
        tolerance=COARSE,
    ),
    Task(
        name="rms_norm",
        function=rms_norm,
        doc="RMS norm over the last dimension, with a weight.",
        arguments=("x", "weight"),
        passes=(2, 3),
        fused=lambda k: lambda x, w: k.rms_norm(x, x.shape[-1:], w, EPS),
        direct=lambda k: lambda x, w: k.row_norm(x, w, None, EPS, True),
        others=(("by-hand", rms_norm_by_hand),),
        compiled=shared.SLOWER,
    ),
    Task(
        name="add_layer_norm",
        function=add_layer_norm,
        doc="Residual add, then layer norm; the sum is returned for the next residual.",
        arguments=("x", "residual", "weight", "bias"),
        passes=(4, 5),
        tolerance=COARSE,
        fused=lambda k: lambda x, r, w, b: k.add_layer_norm(x, r, x.shape[-1:], w, b, EPS),
        direct=lambda k: lambda x, r, w, b: k.add_row_norm(x, r, w, b, EPS, False),
    ),
    Task(
        name="add_rms_norm",
        function=add_rms_norm,
        doc="Residual add, then RMS norm; the sum is returned for the next residual.",
        arguments=("x", "residual", "weight"),
        passes=(4, 5),
        fused=lambda k: lambda x, r, w: k.add_rms_norm(x, r, x.shape[-1:], w, EPS),
        quick=(),
        direct=lambda k: lambda x, r, w: k.add_row_norm(x, r, w, None, EPS, True),
    ),
    Task(
        name="local_response_norm",
        function=local_response_norm,
        doc="Local response norm over 5 channels, as in AlexNet.",
        arguments=("x",),
        passes=(2, 3),
        shapes=LOCAL,
        gpu=((256, 96, 55, 55),),
        fused=lambda k: lambda x: k.local_response_norm(x, 5, 1e-4, 0.75, 2.0),
        direct=lambda k: lambda x: k.response_norm(x, 5, 1e-4, 0.75, 2.0),
        dtypes=("float32",),  # torch has no 16-bit kernel for it on the CPU
        others=(("shifted-sum", local_response_norm_shifted),),
    ),
)


def make(task: Task, params: bb.Params, seed: int) -> bb.Inputs:
    """Standard normal rows; weights around one, as in a trained model."""
    rng = torch.Generator().manual_seed(seed)
    shape: Any = params["shape"]
    values = {}
    for name in task.arguments:
        values[name] = shared.normal(
            shape[-1:] if name in ("weight", "bias") else shape, params, rng
        )
        if name == "weight":
            values[name].mul_(0.1).add_(1)
    if not shared.backward(params):
        return bb.Inputs(values)
    outputs = 2 if "residual" in task.arguments else 1
    cotangents = [shared.normal(shape, params, rng) for _ in range(outputs)]
    return bb.Inputs(values, wrt=task.arguments, cotangents=cotangents)


def _workload(task: Task) -> bb.Workload:
    def work(params: bb.Params) -> bb.Work:
        shape: Any = params["shape"]
        return shared.traffic(params, math.prod(shape), *task.passes)

    return bb.Workload(
        name=task.workload,
        doc=task.doc,
        axes={
            "shape": task.shapes,
            "dtype": task.dtypes,
            "direction": shared.DIRECTIONS,
            "device": shared.DEVICES,
        },
        presets={
            "quick": [{"direction": task.quick}] if task.quick else [],
            "standard": [
                {"direction": shared.DIRECTIONS},
                {"shape": task.shapes[1:2], "direction": shared.DIRECTIONS[1:]},
                {"dtype": task.dtypes[1:2] or task.dtypes, "direction": shared.DIRECTIONS[1:]},
            ],
            "full": {
                "shape": task.shapes,
                "dtype": task.dtypes,
                "direction": shared.DIRECTIONS,
            },
            "gpu": {
                "shape": task.gpu,
                "dtype": task.dtypes[1:2] or task.dtypes,
                "direction": shared.DIRECTIONS,
                "device": shared.CUDA,
            },
        },
        make=lambda params, seed: make(task, params, seed),
        reference=shared.in_float64(task.function),
        tolerance=task.tolerance,
        work=work,
        baseline="eager",
    )


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """Norms over rows, local response norm, batch norm and its fusions, group and instance norm."""
    for task in TASKS:
        yield _workload(task)
    yield from _batch_norm.workloads()
    yield from _group_norm.workloads()
    yield from _norm_more.workloads()


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Eager, compiled, fused, and what people write by hand."""
    for task in TASKS:
        yield shared.functional(task.workload, "eager", task.function, doc="PyTorch, eager.")
        yield shared.compiled(task.workload, task.function, task.compiled)
        if task.fused is not None:
            yield from shared.fused(task.workload, task.fused, direct=task.direct)
        for name, function in task.others:
            yield shared.functional(task.workload, name, function, inexact=task.others_inexact)
    yield from _batch_norm.implementations()
    yield from _group_norm.implementations()
    yield from _norm_more.implementations()
