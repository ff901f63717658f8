"""More normalizations: of rows and volumes, with an activation, far from zero, over processes.

Batch norm of (N, C) and of (N, C, D, H, W), with a momentum of None (running statistics are the
averages of all batches so far), instance norm of sequences and volumes, norms followed by an
activation, layer norm and batch norm of data whose mean is ten thousand times its deviation, and
SyncBatchNorm, which needs a process group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins import _functional as shared

EPS = 1e-5
GROUPS = 32
FAR = 1e4
"""Mean of the data whose deviation is one."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A norm as a function of x, weight and bias."""

    name: str
    doc: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    gpu: tuple[tuple[int, ...], ...]
    """Shapes that fill a large GPU."""
    others: dict[str, Callable[..., Any]] = field(default_factory=dict)
    fused: Callable[[Any], Callable[..., Any]] | None = None
    by_channel: bool = True
    """Weight and bias along dimension 1, or along the last."""
    dtypes: tuple[str, ...] = shared.DTYPES
    passes: tuple[int, int] = (2, 3)
    mean: float = 0.5
    deviation: float = 2.0
    tolerance: bb.Tolerance = bb.Tolerance()

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"normalizations/{self.name}"


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.batch_norm by the batch's statistics."""
    return F.batch_norm(x, None, None, weight, bias, True, 0.0, EPS)


def batch_norm_by_hand(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """var_mean over all but the channels, then one multiple and one sum."""
    others = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x, others, correction=0, keepdim=True)
    shape = (-1, *[1] * (x.dim() - 2))
    return (x - mean) * (weight.view(shape) * torch.rsqrt(variance + EPS)) + bias.view(shape)


def batch_norm_as_image(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The volume seen as an image of the same numbers, then F.batch_norm."""
    return batch_norm(x.flatten(3), weight, bias).view(x.shape)


def batch_norm_of_columns(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Rows seen as an image of one position in channels-last order, then F.batch_norm."""
    return batch_norm(x[:, :, None, None], weight, bias).flatten(1)


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.instance_norm without running statistics."""
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, EPS)


def instance_norm_as_group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.group_norm with one group for each channel."""
    return F.group_norm(x, x.shape[1], weight, bias, EPS)


def group_norm_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.group_norm, then F.silu."""
    return F.silu(F.group_norm(x, GROUPS, weight, bias, EPS))


def group_norm_silu_in_place(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same with SiLU in place."""
    return F.silu(F.group_norm(x, GROUPS, weight, bias, EPS), inplace=True)


def layer_norm_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.layer_norm, then F.gelu."""
    return F.gelu(F.layer_norm(x, x.shape[-1:], weight, bias, EPS))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.layer_norm."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, EPS)


def layer_norm_two_passes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The mean is taken away before squares are summed: as papers write it."""
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + EPS) * weight + bias


# Rounding x itself to float32 moves it by 5e-4 of its deviation; nobody can be closer.
OFFSET = bb.Tolerance(absolute=1e-2)
TASKS = (
    Task(
        name="batch_norm_1d",
        doc="Batch norm of rows (N, C) in training.",
        function=batch_norm,
        shapes=((4096, 1024), (256, 512)),
        gpu=((65536, 1024),),
        others={"by-hand": batch_norm_by_hand, "as-image": batch_norm_of_columns},
        fused=lambda k: lambda x, w, b: k.batch_norm(x, None, None, w, b, True, 0.0, EPS),
        dtypes=("float32",),
    ),
    Task(
        name="batch_norm_3d",
        doc="Batch norm of volumes (N, C, D, H, W) in training.",
        function=batch_norm,
        shapes=((2, 64, 8, 56, 56),),
        gpu=((16, 64, 16, 64, 64),),
        others={"by-hand": batch_norm_by_hand, "as-image": batch_norm_as_image},
        fused=lambda k: lambda x, w, b: k.batch_norm(x, None, None, w, b, True, 0.0, EPS),
        dtypes=("float32",),
    ),
    Task(
        name="instance_norm_1d",
        doc="Instance norm of sequences (N, C, L), statistics of each channel.",
        function=instance_norm,
        shapes=((32, 256, 1024),),
        gpu=((256, 256, 1024),),
        others={"as-group-norm": instance_norm_as_group_norm},
        fused=lambda k: lambda x, w, b: k.instance_norm(x, None, None, w, b, eps=EPS),
        dtypes=("float32",),
    ),
    Task(
        name="instance_norm_3d",
        doc="Instance norm of volumes (N, C, D, H, W), statistics of each channel.",
        function=instance_norm,
        shapes=((2, 32, 16, 64, 64),),
        gpu=((64, 32, 16, 64, 64),),
        others={"as-group-norm": instance_norm_as_group_norm},
        fused=lambda k: lambda x, w, b: k.instance_norm(x, None, None, w, b, eps=EPS),
        dtypes=("float32",),
    ),
    Task(
        name="group_norm_silu",
        doc=f"Group norm of (N, C, H, W) with {GROUPS} groups, then SiLU: diffusion models.",
        function=group_norm_silu,
        shapes=((2, 320, 64, 64), (2, 640, 32, 32)),
        gpu=((64, 320, 64, 64),),
        others={"in-place": group_norm_silu_in_place},
        dtypes=("float32", "bfloat16"),
        tolerance=bb.Tolerance(absolute=0.5),
    ),
    Task(
        name="layer_norm_gelu",
        doc="Layer norm over the last dimension, then GELU.",
        function=layer_norm_gelu,
        shapes=((4096, 768), (2048, 4096)),
        gpu=((16384, 4096),),
        by_channel=False,
        dtypes=("float32", "bfloat16"),
        tolerance=bb.Tolerance(absolute=0.5),
    ),
    Task(
        name="layer_norm_far",
        doc="Layer norm of rows with mean 1e4 and deviation 1, where squares cancel.",
        function=layer_norm,
        shapes=((4096, 768),),
        gpu=((16384, 4096),),
        others={"two-passes": layer_norm_two_passes},
        fused=lambda k: lambda x, w, b: k.layer_norm(x, x.shape[-1:], w, b, EPS),
        by_channel=False,
        dtypes=("float32",),
        mean=FAR,
        deviation=1.0,
        tolerance=OFFSET,
    ),
    Task(
        name="batch_norm_far",
        doc="Batch norm of images with mean 1e4 and deviation 1, where squares cancel.",
        function=batch_norm,
        shapes=((8, 64, 56, 56),),
        gpu=((64, 256, 56, 56),),
        others={"by-hand": batch_norm_by_hand},
        fused=lambda k: lambda x, w, b: k.batch_norm(x, None, None, w, b, True, 0.0, EPS),
        dtypes=("float32",),
        mean=FAR,
        deviation=1.0,
        tolerance=OFFSET,
    ),
)


def _shape(params: bb.Params) -> tuple[int, ...]:
    shape = params["shape"]
    assert isinstance(shape, tuple)
    return tuple(int(size) for size in shape)


def make(task: Task, params: bb.Params, seed: int) -> bb.Inputs:
    """x with the task's mean and deviation; weights around one, biases around zero."""
    rng, shape = torch.Generator().manual_seed(seed), _shape(params)
    width = shape[1:2] if task.by_channel else shape[-1:]
    values = {
        "x": shared.normal(shape, params, rng).mul_(task.deviation).add_(task.mean),
        "weight": shared.normal(width, params, rng).mul_(0.1).add_(1),
        "bias": shared.normal(width, params, rng),
    }
    if not shared.backward(params):
        return bb.Inputs(values)
    return bb.Inputs(values, wrt=tuple(values), cotangents=[shared.normal(shape, params, rng)])


CUMULATIVE = "normalizations/batch_norm_cumulative"
SYNC = "normalizations/sync_batch_norm"
IMAGES = ((8, 256, 28, 28), (8, 64, 112, 112))


def make_images(params: bb.Params, seed: int) -> bb.Inputs:
    """Images around 0.5."""
    rng = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": shared.normal(_shape(params), params, rng).mul_(2).add_(0.5)})


def module_thunk(factory: Callable[..., nn.Module], inputs: Any) -> bb.Thunk:
    """A fresh module in training; returns the output and copies of the running statistics."""
    x = inputs.x
    module: Any = factory(x.shape[1], momentum=None).to(x.device)
    if x.dtype == torch.float64:  # the reference
        module = module.double()

    def call() -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            y = module(x)
        return y, module.running_mean.clone(), module.running_var.clone()

    return call


def counted_thunk(inputs: Any) -> bb.Thunk:
    """F.batch_norm with a momentum of 1 / k, k counted in Python."""
    x = inputs.x
    mean, variance = (x.new_full((x.shape[1],), value) for value in (0.0, 1.0))
    weight, bias = (x.new_full((x.shape[1],), value) for value in (1.0, 0.0))
    count = 0

    def call() -> tuple[Tensor, Tensor, Tensor]:
        nonlocal count
        count += 1
        y = F.batch_norm(x, mean, variance, weight, bias, True, 1 / count, EPS)
        return y, mean.clone(), variance.clone()

    return call


def no_process_group(params: bb.Params) -> str | None:
    """Why SyncBatchNorm cannot run, or None."""
    if shared.no_cuda(params):
        return shared.no_cuda(params)
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return (
            "without a process group SyncBatchNorm is plain batch norm: there is nothing to "
            "synchronise; run the worker under torchrun on several GPUs"
        )
    if params["device"] == "cpu":
        return "SyncBatchNorm works on GPUs only; run it with device=cuda"
    return None


def workloads() -> Iterator[bb.Workload]:
    """Every norm of this module; a quick run takes them only when asked for by name."""
    for task in TASKS:
        yield _workload(task)
    for name, doc in (
        (CUMULATIVE, "Batch norm in training with momentum None: running averages of all batches."),
        (SYNC, "Batch norm over the batches of all processes."),
    ):
        yield bb.Workload(
            name=name,
            doc=doc,
            axes={"shape": IMAGES, "dtype": ("float32",), "device": shared.DEVICES},
            presets={
                "quick": [],
                "standard": {},
                "full": {"shape": IMAGES},
                "gpu": {"shape": ((64, 256, 56, 56),), "device": shared.CUDA},
            },
            make=make_images,
            reference=lambda inputs: module_thunk(nn.BatchNorm2d, inputs.double())(),
            renewed=(),  # its output depends on all batches so far
            work=lambda params: bb.Work(
                bytes=8.0 * math.prod(_shape(params)),
                items=math.prod(_shape(params)),
                item="element",
            ),
            baseline="module",
        )


def _workload(task: Task) -> bb.Workload:
    def work(params: bb.Params) -> bb.Work:
        return shared.traffic(params, math.prod(_shape(params)), *task.passes)

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
            "quick": [],
            "standard": {"direction": shared.DIRECTIONS[1:]},
            "full": {
                "shape": task.shapes,
                "dtype": task.dtypes,
                "direction": shared.DIRECTIONS,
            },
            "gpu": {
                "shape": task.gpu,
                "dtype": task.dtypes,
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


def implementations() -> Iterator[bb.Implementation]:
    """Eager, compiled, fused where a kernel takes such inputs, and other ways."""
    for task in TASKS:
        yield shared.functional(task.workload, "eager", task.function, doc="PyTorch, eager.")
        yield shared.compiled(task.workload, task.function, ("full",))
        if task.fused is not None:
            yield from shared.fused(task.workload, task.fused)
        for name, function in task.others.items():
            yield shared.functional(task.workload, name, function)
    for workload, name, build, doc in (
        (
            CUMULATIVE,
            "module",
            lambda inputs: module_thunk(nn.BatchNorm2d, inputs),
            "nn.BatchNorm2d(momentum=None), which reads its counter in each call.",
        ),
        (CUMULATIVE, "counted", counted_thunk, (counted_thunk.__doc__ or "").strip()),
    ):
        yield bb.Implementation(
            workload=workload, name=name, build=build, unavailable=shared.no_cuda, doc=doc
        )
    yield bb.Implementation(
        workload=SYNC,
        name="module",
        build=lambda inputs: module_thunk(nn.SyncBatchNorm, inputs),
        unavailable=no_process_group,
        doc="nn.SyncBatchNorm.",
    )
