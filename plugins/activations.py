"""Activations: elementwise, with a bias, gated, and softmax.

Shapes are those of transformers: (4096, 768) and (4096, 3072) are BERT's hidden and inner sizes,
(2048, 11008) the gate of a 7B LLaMA, (1024, 50257) GPT-2's vocabulary; (32, 128) is small enough
that the call costs more than the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

import benchbench as bb
from benchbench_plugins import _activation_more as more, _functional as shared
from benchbench_plugins._activation_tasks import TASKS, Task


def make(task: Task, params: bb.Params, seed: int) -> bb.Inputs:
    """Standard normal inputs times two, so that the tails are visited too; slopes around 1/4."""
    rng = torch.Generator().manual_seed(seed)
    shape: Any = params["shape"]
    names = task.arguments.split()
    parts = {"bias": shape[-1:], "slope": shape[1:2]}
    values = {name: shared.normal(parts.get(name, shape), params, rng).mul_(2) for name in names}
    if "slope" in values:
        values["slope"].mul_(0.05).add_(0.25)
    if not shared.backward(params):
        return bb.Inputs(values)
    return bb.Inputs(values, wrt=names, cotangents=[shared.normal(shape, params, rng)])


def work(task: Task, params: bb.Params) -> bb.Work:
    """2 passes forward and 3 backward; 3 and 5 for gated ones."""
    shape: Any = params["shape"]
    gated = task.arguments == "gate up"
    return shared.traffic(params, math.prod(shape), 3 if gated else 2, 5 if gated else 3)


def _workload(task: Task) -> bb.Workload:
    quick = [{"dtype": (d,), "direction": (way,)} for d, way in task.quick]
    both_ways = shared.DIRECTIONS[1:]
    standard: list[dict[str, Any]] = [{"direction": both_ways}]
    if task.quick:  # what most people use
        standard += [{}, {"dtype": ("bfloat16",), "direction": both_ways}]
    if len(task.quick) > 1:
        standard.append({"shape": task.shapes[1:2]})
    if task.name == "silu":  # elsewhere a call costs the same
        standard.append({"shape": ((32, 128),)})
    return bb.Workload(
        name=task.workload,
        doc=task.doc,
        axes={
            "shape": task.shapes,
            "dtype": shared.DTYPES,
            "direction": shared.DIRECTIONS,
            "device": shared.DEVICES,
        },
        presets={
            "quick": quick,
            "standard": standard,
            "full": {
                "shape": task.shapes,
                "dtype": shared.DTYPES,
                "direction": shared.DIRECTIONS,
            },
            "gpu": {
                "shape": ((16384, 4096),),
                "dtype": ("bfloat16", "float32"),
                "direction": shared.DIRECTIONS,
                "device": shared.CUDA,
            },
        },
        make=lambda params, seed: make(task, params, seed),
        reference=shared.in_float64(task.exact or task.function),
        work=lambda params: work(task, params),
        metrics=shared.ulp,
        baseline="eager",
    )


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """A workload for each activation."""
    for task in TASKS:
        yield _workload(task)
    yield from more.workloads(_workload)


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
    yield from more.implementations()
