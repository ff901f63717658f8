"""Group and instance norm of images; planes (NCHW) and channels last.

Torch has kernels for one layout or the other, so going through another norm or another layout can
be faster than the function that bears the name. Those ways are contenders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared

EPS = 1e-5
GROUPS = 32
"""Of group norm, as in diffusion models. Channels that it does not divide are one group."""

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From x (N, C, H, W), weight (C,) and bias (C,) to y."""


def groups_of(x: Tensor) -> int:
    """Number of groups of group norm for x's channels."""
    return GROUPS if x.shape[1] % GROUPS == 0 else 1


def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.group_norm."""
    return F.group_norm(x, groups_of(x), weight, bias, EPS)


def group_norm_of_planes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.group_norm of a contiguous copy, brought back to the layout of x."""
    layout = _layout(x)
    return group_norm(x.contiguous(), weight, bias).contiguous(memory_format=layout)


def group_norm_as_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each group is a row of F.layer_norm; scale and shift by channel follow."""
    rows = x.reshape(x.shape[0], groups_of(x), -1)
    y = F.layer_norm(rows, rows.shape[-1:], None, None, EPS).view(x.shape)
    scaled = torch.addcmul(bias.view(-1, 1, 1), y, weight.view(-1, 1, 1))
    return scaled.contiguous(memory_format=_layout(x))


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.instance_norm without running statistics."""
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, EPS)


def instance_norm_as_group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.group_norm with one group for each channel."""
    return F.group_norm(x, x.shape[1], weight, bias, EPS)


def instance_norm_by_hand(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Variance and mean over the plane in one operator, then scale and shift."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    scale = weight.view(-1, 1, 1) * torch.rsqrt(variance + EPS)
    return (x - mean) * scale + bias.view(-1, 1, 1)


def ours(k: Any) -> Function:
    """benchbench's own group norm."""
    return lambda x, weight, bias: k.group_norm(x, groups_of(x), weight, bias, EPS)  # type: ignore[no-any-return]


def ours_by_instance(k: Any) -> Function:
    """benchbench's own instance norm."""
    return lambda x, weight, bias: k.instance_norm(x, None, None, weight, bias, eps=EPS)  # type: ignore[no-any-return]


def direct(k: Any) -> Function:
    """The group norm kernel alone."""
    return lambda x, weight, bias: k.group_norm(x, groups_of(x), weight, bias, EPS)[0]  # type: ignore[no-any-return]


def direct_by_instance(k: Any) -> Function:
    """The same with one channel a group."""
    return lambda x, weight, bias: k.group_norm(x, x.shape[1], weight, bias, EPS)[0]  # type: ignore[no-any-return]


OURS = {"group_norm": (ours, direct), "instance_norm": (ours_by_instance, direct_by_instance)}
"""Workload to its ``fused`` and ``fused-direct``."""


def _layout(x: Tensor) -> torch.memory_format:
    planes = x.is_contiguous()
    return torch.contiguous_format if planes else torch.channels_last


TASKS: tuple[tuple[str, str, Function, tuple[tuple[int, ...], ...], dict[str, Function]], ...] = (
    (
        "group_norm",
        f"Group norm of (N, C, H, W) with {GROUPS} groups.",
        group_norm,
        ((2, 320, 64, 64), (2, 640, 32, 32), (8, 320, 64, 64)),
        {"planes": group_norm_of_planes, "as-layer-norm": group_norm_as_layer_norm},
    ),
    (
        "instance_norm",
        "Instance norm of (N, C, H, W), statistics of each plane.",
        instance_norm,
        ((8, 64, 56, 56), (4, 32, 256, 256)),
        {"as-group-norm": instance_norm_as_group_norm, "by-hand": instance_norm_by_hand},
    ),
)
"""Name, doc, baseline, shapes, other contenders."""


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Images around 0.5 in the case's layout; weights and biases by channel."""
    rng = torch.Generator().manual_seed(seed)
    shape: Any = params["shape"]
    layout = torch.channels_last if params["layout"] == "channels_last" else torch.contiguous_format

    def image() -> Tensor:
        return shared.normal(shape, params, rng).contiguous(memory_format=layout)

    values = {
        "x": image().mul_(2).add_(0.5),
        "weight": shared.normal(shape[1:2], params, rng).mul_(0.1).add_(1),
        "bias": shared.normal(shape[1:2], params, rng),
    }
    if not shared.backward(params):
        return bb.Inputs(values)
    return bb.Inputs(values, wrt=tuple(values), cotangents=[image()])


def work(params: bb.Params) -> bb.Work:
    """2 passes forward and 3 backward: a group fits in cache."""
    shape: Any = params["shape"]
    return shared.traffic(params, math.prod(shape), 2, 3)


def only_planes(params: bb.Params) -> str | None:
    """Why instance norm cannot be done as group norm, or None."""
    if params["layout"] == "channels_last":
        return (
            "torch's group norm of channels-last images is less exact than the tolerance; "
            "choose layout=nchw"
        )
    return shared.no_cuda(params)


def workloads() -> Iterator[bb.Workload]:
    """Group norm and instance norm; a quick run takes them only when asked for by name."""
    layouts = ("nchw", "channels_last")
    for name, doc, function, shapes, _ in TASKS:
        yield bb.Workload(
            name=f"normalizations/{name}",
            doc=doc,
            axes={
                "shape": shapes,
                "layout": layouts,
                "dtype": shared.DTYPES,
                "direction": shared.DIRECTIONS,
                "device": shared.DEVICES,
            },
            presets={
                "quick": (),
                "standard": [
                    {"layout": layouts, "direction": shared.DIRECTIONS[1:]},
                    {"layout": layouts[1:], "dtype": ("bfloat16",)},
                ],
                "full": {
                    "shape": shapes,
                    "layout": layouts,
                    "dtype": shared.DTYPES,
                    "direction": shared.DIRECTIONS,
                },
                "gpu": {
                    "shape": ((-(-(2**26) // math.prod(shapes[0][1:])), *shapes[0][1:]),),
                    "layout": layouts,
                    "dtype": ("bfloat16",),
                    "direction": shared.DIRECTIONS,
                    "device": shared.CUDA,
                },
            },
            make=make,
            reference=shared.in_float64(function),
            work=work,
            baseline="eager",
        )


def implementations() -> Iterator[bb.Implementation]:
    """Eager, compiled, fused, and ways through other norms."""
    for name, _, function, _, others in TASKS:
        workload = f"normalizations/{name}"
        yield shared.functional(workload, "eager", function)
        yield shared.compiled(workload, function, ("full",))
        through_dispatcher, past_it = OURS[name]
        yield from shared.fused(workload, through_dispatcher, direct=past_it)
        for other, way in others.items():
            contender = shared.functional(workload, other, way)
            if way is instance_norm_as_group_norm:
                contender = replace(contender, unavailable=only_planes)
            yield contender
