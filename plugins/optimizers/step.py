"""One step of an optimizer over a real parameter list: ways to run the same algorithm.

A contender owns its parameters and its state; gradients are fixed and shared. What a step leaves is
checked on up to 128 numbers of every tensor, from all over it and the last one always: after ten
steps against torch's for-loop in float64, and in timed samples against a replay of as many steps
as were made. The algorithms are elementwise, so what happens to those numbers in float64 does not
depend on the others: following them takes milliseconds where the whole list would take seconds.

What changes the result (AMSGrad, Nesterov, maximize, decoupled weight decay, ...) is a value of the
axis ``switch``; what only changes how it is computed (foreach, fused, capturable) is a contender.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.optimizers.algorithms import ALGORITHMS, PLAIN, Algorithm
from benchbench_plugins.optimizers.shapes import NAMES, parameter_list

STEPS = 10
WATCHED = 64
"""At least so many numbers of a tensor are watched, fewer than twice as many."""
DEVIATIONS = (0.05, 0.01)
"""Of parameters and gradients."""
SECOND = 1e-4
"""Deviation of the second set of gradients, where steps take two in turn: a hundredth of the first,
so that averages of squares fall as well as rise."""


WAYS: Mapping[str, Mapping[str, Any]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"foreach": True, "capturable": True},
}


def make(algorithm: Algorithm, params: bb.Params, seed: int) -> bb.Inputs:
    """Parameters and gradients, normal with deviations 0.05 and 0.01.

    ``turns`` are the sets of gradients that steps take in turn: one, or two; ``options`` are the
    optimizer's arguments.
    """
    switch = str(params["switch"])
    deviations = (*DEVIATIONS, SECOND) if algorithm.alternates(switch) else DEVIATIONS
    shapes = parameter_list(str(params["parameters"]))
    parameters, *turns = normal_lists(shapes, deviations, str(params["device"]), seed)
    return bb.Inputs(
        {"parameters": parameters, "turns": turns, "options": algorithm.options(switch)}
    )


def normal_lists(
    shapes: Sequence[tuple[int, ...]], deviations: Sequence[float], device: str, seed: int
) -> list[list[Tensor]]:
    """A list of normal tensors for each deviation, of the same shapes."""
    rng = torch.Generator().manual_seed(seed)
    # One draw for all: generating 161 tensors one by one would take most of a quick look.
    sizes = [math.prod(shape) for shape in shapes]
    lists = []
    for deviation in deviations:
        flat = torch.randn(sum(sizes), generator=rng).mul_(deviation).to(device)
        parts = flat.split(sizes)
        lists.append([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])
    return lists


def watched(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Views of numbers spread evenly over each tensor, up to its last."""
    views = []
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        # Odd, so that the numbers fall on every lane of a vector register.
        stride = max(1, flat.numel() // WATCHED - 1) | 1
        views.append(flat[(flat.numel() - 1) % stride :: stride])
    return views


def thunk(
    algorithm: Algorithm, way: Mapping[str, Any], inputs: Any, compiled: bool = False
) -> bb.Thunk:
    """A step of a fresh optimizer on copies of the parameters; returns the watched numbers."""
    parameters = [p.clone().requires_grad_(True) for p in inputs.parameters]
    give(parameters, inputs.turns[0])
    optimizer = algorithm.make(parameters, **inputs.options, **way)
    views = tuple(watched(parameters))
    step = torch.compile(optimizer.step) if compiled else optimizer.step

    def call() -> tuple[Tensor, ...]:
        step()
        return views

    if len(inputs.turns) == 1:
        return call
    turns = cycle(inputs.turns)

    def call_with_the_next_gradients() -> tuple[Tensor, ...]:
        give(parameters, next(turns))
        return call()

    return call_with_the_next_gradients


def give(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Make these the parameters' gradients; nothing is copied."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def replay(algorithm: Algorithm, inputs: Any, steps: int) -> tuple[Tensor, ...]:
    """The watched numbers after ``steps`` steps in float64, by torch's single-tensor loop."""
    starts = watched(inputs.parameters)
    # One long tensor: a step over hundreds of short ones is all overhead.
    whole = torch.cat(starts).double().requires_grad_(True)
    turns = cycle(torch.cat(watched(gradients)).double() for gradients in inputs.turns)
    optimizer = algorithm.make([whole], **inputs.options, foreach=False)
    for _ in range(steps):
        whole.grad = next(turns)
        optimizer.step()
    return tuple(whole.detach().split([start.numel() for start in starts]))


def check(algorithm: Algorithm, evidence: bb.Evidence) -> str | None:
    """Every call so far must have made its step: compare with a replay of as many.

    Each step rounds a parameter once and its update a few times, so the error may grow by four
    rounding steps a call; a single step that was left out is far beyond that.
    """
    expected = replay(algorithm, evidence.inputs, evidence.calls)
    allowed = 4 * torch.finfo(torch.float32).eps * (evidence.calls + 1)
    for output, wanted in zip(evidence.output, expected, strict=True):
        scale = wanted.abs() + wanted.square().mean().sqrt()
        error = float(((output.cpu().double() - wanted.cpu()).abs() / scale.cpu()).max())
        if not error <= allowed:
            return (
                f"after {evidence.calls} steps the parameters are off by {error:.2g}, allowed is "
                f"{allowed:.2g}: not every call made the step"
            )
    return None


def workloads() -> Iterator[bb.Workload]:
    """A workload for each algorithm."""
    for algorithm in ALGORITHMS:
        yield _workload(algorithm)


def _workload(algorithm: Algorithm) -> bb.Workload:
    def work(params: bb.Params) -> bb.Work:
        shapes = parameter_list(str(params["parameters"]))
        count = sum(math.prod(shape) for shape in shapes)
        passes = algorithm.passes + algorithm.switch(str(params["switch"])).passes
        return bb.Work(bytes=4.0 * passes * count, items=count, item="parameter")

    settings = ", ".join(f"{name}={value}" for name, value in algorithm.settings.items())
    switches = tuple(algorithm.switches)
    return bb.Workload(
        name=algorithm.workload,
        doc=f"One step of {algorithm.name} ({settings}) over a model's parameter list.",
        axes={"parameters": NAMES, "switch": (PLAIN, *switches), "device": shared.DEVICES},
        presets={
            "quick": [{"parameters": (algorithm.quick,)}] if algorithm.quick else [],
            "standard": {"parameters": algorithm.standard},
            "full": [
                {"parameters": NAMES},
                {"parameters": ("resnet18",), "switch": switches},
            ],
            "gpu": {"parameters": ("resnet50", "one-64M"), "device": shared.CUDA},
        },
        make=lambda params, seed: make(algorithm, params, seed),
        reference=lambda inputs: replay(algorithm, inputs, STEPS),
        check=lambda evidence: check(algorithm, evidence),
        check_calls=STEPS,
        stateful=True,
        work=work,
        baseline="for-loop",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Each way to run each algorithm."""
    for algorithm in ALGORITHMS:
        for name, way in WAYS.items():
            yield bb.Implementation(
                workload=algorithm.workload,
                name=name,
                build=_builder(algorithm, way, compiled=False),
                unavailable=_unavailable(algorithm, name),
                presets=shared.SLOWER if name == "capturable" else None,
                doc=f"torch.optim with {', '.join(f'{k}={v}' for k, v in way.items())}.",
            )
        yield bb.Implementation(
            workload=algorithm.workload,
            name="compiled",
            build=_builder(algorithm, {"foreach": True}, compiled=True),
            unavailable=_unavailable(algorithm, "foreach", compiled=True),
            presets=("full",),
            doc="torch.compile of the foreach step; about a minute for 161 tensors.",
        )


def _builder(
    algorithm: Algorithm, way: Mapping[str, Any], *, compiled: bool
) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(algorithm, way, inputs, compiled)


def _unavailable(
    algorithm: Algorithm, way: str, *, compiled: bool = False
) -> Callable[[bb.Params], str | None]:
    options = WAYS[way]

    def unavailable(params: bb.Params) -> str | None:
        known = inspect.signature(algorithm.make).parameters
        switched = algorithm.switch(str(params["switch"])).options
        for option in (*options, *switched):
            if option not in known:
                return (
                    f"torch.optim.{algorithm.make.__name__} has no option {option!r} in torch "
                    f"{torch.__version__}"
                )
        if "capturable" in options and str(params["device"]) == "cpu":
            return (
                "capturable is for steps recorded in a CUDA graph; torch refuses it on the CPU. "
                "Run it with device=cuda"
            )
        if options.get("foreach") and algorithm.settings.get("nesterov"):
            return (
                "torch's foreach step adds Nesterov's momentum into the gradients themselves, so "
                "it cannot be repeated on gradients that contenders share"
            )
        return shared.no_compiler(params) if compiled else shared.no_cuda(params)

    return unavailable
