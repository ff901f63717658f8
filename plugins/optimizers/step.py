"""One step of an optimizer over a real parameter list: ways to run the same algorithm.

A contender owns its parameters and its state; gradients are fixed and shared. What a step leaves is
checked on up to 128 numbers of every tensor, from all over it and the last one always: after ten
steps against torch's for-loop in float64, and in timed samples against a replay of as many steps
as were made. The algorithms are elementwise, so what happens to those numbers in float64 does not
depend on the others: following them takes milliseconds where the whole list would take seconds.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.optimizers.shapes import NAMES, parameter_list

STEPS = 10
WATCHED = 64
"""At least so many numbers of a tensor are watched, fewer than twice as many."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One algorithm with its settings."""

    name: str
    make: Callable[..., torch.optim.Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    passes: int
    """Compulsory passes: the gradient, the parameter and each state read; all but the gradient
    written."""
    quick: str = "resnet18"
    """Parameter list of a quick look; empty where it leaves the algorithm out."""

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"optimizers/{self.name}-step"


ALGORITHMS = (
    Algorithm(name="sgd", make=torch.optim.SGD, settings={"lr": 1e-2}, passes=3),
    Algorithm(
        name="momentum", make=torch.optim.SGD, settings={"lr": 1e-2, "momentum": 0.9}, passes=5
    ),
    Algorithm(
        name="nesterov",
        make=torch.optim.SGD,
        settings={"lr": 1e-2, "momentum": 0.9, "nesterov": True},
        passes=5,
        quick="",
    ),
    Algorithm(
        name="adam", make=torch.optim.Adam, settings={"lr": 1e-3}, passes=7, quick="resnet50"
    ),
    Algorithm(
        name="adamw",
        make=torch.optim.AdamW,
        settings={"lr": 1e-3, "weight_decay": 1e-2},
        passes=7,
    ),
    Algorithm(name="rmsprop", make=torch.optim.RMSprop, settings={"lr": 1e-3}, passes=5),
)
WAYS: Mapping[str, Mapping[str, Any]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"foreach": True, "capturable": True},
}


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Parameters and gradients, normal with deviations 0.05 and 0.01."""
    rng = torch.Generator().manual_seed(seed)
    shapes = parameter_list(str(params["parameters"]))
    device = str(params["device"])
    # One draw for all: generating 161 tensors one by one would take most of a quick look.
    total = sum(math.prod(shape) for shape in shapes)
    values = []
    for deviation in (0.05, 0.01):
        flat = torch.randn(total, generator=rng).mul_(deviation).to(device)
        parts = flat.split([math.prod(shape) for shape in shapes])
        values.append([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])
    return bb.Inputs({"parameters": values[0], "gradients": values[1]})


def watched(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Views of numbers spread evenly over each tensor, up to its last."""
    views = []
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        # Odd, so that the numbers fall on every lane of a vector register.
        stride = max(1, flat.numel() // WATCHED - 1) | 1
        views.append(flat[(flat.numel() - 1) % stride :: stride])
    return views


def thunk(algorithm: Algorithm, way: Mapping[str, Any], inputs: Any, compiled: bool) -> bb.Thunk:
    """A step of a fresh optimizer on copies of the parameters; returns the watched numbers."""
    parameters = [p.clone().requires_grad_(True) for p in inputs.parameters]
    for parameter, gradient in zip(parameters, inputs.gradients, strict=True):
        parameter.grad = gradient
    optimizer = algorithm.make(parameters, **algorithm.settings, **way)
    views = tuple(watched(parameters))
    step = torch.compile(optimizer.step) if compiled else optimizer.step

    def call() -> tuple[Tensor, ...]:
        step()
        return views

    return call


def replay(algorithm: Algorithm, inputs: Any, steps: int) -> tuple[Tensor, ...]:
    """The watched numbers after ``steps`` steps in float64, by torch's single-tensor loop."""
    starts = watched(inputs.parameters)
    # One long tensor: a step over hundreds of short ones is all overhead.
    whole = torch.cat(starts).double().requires_grad_(True)
    whole.grad = torch.cat(watched(inputs.gradients)).double()
    optimizer = algorithm.make([whole], **algorithm.settings, foreach=False)
    for _ in range(steps):
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
        return bb.Work(bytes=4.0 * algorithm.passes * count, items=count, item="parameter")

    settings = ", ".join(f"{name}={value}" for name, value in algorithm.settings.items())
    return bb.Workload(
        name=algorithm.workload,
        doc=f"One step of {algorithm.name} ({settings}) over a model's parameter list.",
        axes={"parameters": NAMES, "device": shared.DEVICES},
        presets={
            "quick": [{"parameters": (algorithm.quick,)}] if algorithm.quick else [],
            "standard": {"parameters": ("resnet50", "1000x1k")},
            "full": {"parameters": NAMES},
        },
        make=make,
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
            unavailable=shared.no_compiler,
            presets=("full",),
            doc="torch.compile of the foreach step; about a minute for 161 tensors.",
        )


def _builder(
    algorithm: Algorithm, way: Mapping[str, Any], *, compiled: bool
) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(algorithm, way, inputs, compiled)


def _unavailable(algorithm: Algorithm, way: str) -> Callable[[bb.Params], str | None]:
    options = WAYS[way]

    def unavailable(params: bb.Params) -> str | None:
        known = inspect.signature(algorithm.make).parameters
        for option in options:
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
        return shared.no_cuda(params)

    return unavailable
