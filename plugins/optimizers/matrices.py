"""One step of Adafactor and of Muon, whose updates depend on whole tensors.

After ten steps every tensor is compared with float64. Timed samples are audited on one tensor of
each shape, another one each time, since following all in float64 would take longer than timing.

Muon orthogonalizes each update by Newton-Schulz iterations, which torch makes in bfloat16. What
that loses is the column ``parameter_error``: the distance of the parameters from those that the
same iterations in float64 lead to, relative to their length, for the worst tensor.
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
from benchbench_plugins.optimizers.algorithms import MAXIMIZE, PENALTY, PLAIN, Algorithm, Switch
from benchbench_plugins.optimizers.shapes import parameter_list
from benchbench_plugins.optimizers.step import DEVIATIONS, STEPS, WAYS, give, normal_lists, watched

ADAFACTOR = Algorithm(
    name="adafactor",
    make=torch.optim.Adafactor,
    # The first eps is that of the parameter's dtype by default, which would make the float64
    # reference another algorithm.
    settings={"lr": 1e-2, "eps": (2.0**-23, 1e-3)},
    passes=4,  # the parameter is also read for its norm, before the update is known
    standard=("blocks-128x4",),
    switches={
        "clipping": Switch(options={"d": 4.0}),
        "beta2-decay": Switch(options={"beta2_decay": -0.5}),
        **PENALTY,
        **MAXIMIZE,
    },
)
MUON = Algorithm(
    name="muon",
    make=torch.optim.Muon,
    # A weight decay that can be seen beside what bfloat16 loses of the updates.
    settings={"lr": 1e-2, "weight_decay": 1.0},
    passes=5,
    standard=("blocks-128x4",),
    switches={
        "momentum": Switch(options={"nesterov": False}),
        "no-weight-decay": Switch(options={"weight_decay": 0.0}),
        "match-rms-adamw": Switch(options={"adjust_lr_fn": "match_rms_adamw"}),
        "spectral-unclamped": Switch(options={"adjust_lr_fn": "spectral_unclamped"}),
    },
)
LISTS: Mapping[str, tuple[str, ...]] = {
    "adafactor": ("blocks-128x4", "blocks-256x2", "resnet18"),
    "muon": ("blocks-128x4", "blocks-256x2"),
}
COARSE = 0.02
"""Relative error of Muon's updates that bfloat16 may make; measured 0.006."""


def make(algorithm: Algorithm, params: bb.Params, seed: int) -> bb.Inputs:
    """Parameters, normal with deviation 0.05, and the optimizer's options.

    ``turns`` are two sets of gradients that steps take in turn, with deviation 0.01: with always
    the same ones Nesterov's momentum would have the direction of any other, and averages of
    squares any rate of decay.
    """
    shapes = parameter_list(str(params["parameters"]))
    deviations = (*DEVIATIONS, DEVIATIONS[-1])
    parameters, *turns = normal_lists(shapes, deviations, str(params["device"]), seed)
    options = algorithm.options(str(params["switch"]))
    return bb.Inputs({"parameters": parameters, "turns": turns, "options": options})


def _stepping(
    inputs: Any,
    positions: Sequence[int],
    dtype: torch.dtype,
    make_step: Callable[[list[Tensor]], Callable[[], Any]],
) -> bb.Thunk:
    """A thunk over copies of some parameters, each step with the next gradients.

    It returns the watched numbers.
    """
    parameters = [inputs.parameters[i].to(dtype, copy=True) for i in positions]
    turns = cycle([[gradients[i].to(dtype) for i in positions] for gradients in inputs.turns])
    for parameter in parameters:
        parameter.requires_grad_(True)
    views, step = tuple(watched(parameters)), make_step(parameters)

    def call() -> tuple[Tensor, ...]:
        give(parameters, next(turns))
        step()
        return views

    return call


def thunk(
    algorithm: Algorithm, way: Mapping[str, Any], inputs: Any, compiled: bool = False
) -> bb.Thunk:
    """A step of torch's optimizer on copies of the parameters; returns the watched numbers."""

    def make_step(parameters: list[Tensor]) -> Callable[[], Any]:
        step = algorithm.make(parameters, **inputs.options, **way).step
        return torch.compile(step) if compiled else step

    return _stepping(inputs, range(len(inputs.parameters)), torch.float32, make_step)


def orthogonalize(updates: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Newton-Schulz iterations (Jordan et al. 2024) on matrices (batch, rows, columns).

    They move every singular value towards 1: ``X <- a X + (b A + c A^2) X`` with ``A = X X^T``.
    Made in the dtype of ``updates``, on the shorter side.
    """
    defaults = {k: v.default for k, v in inspect.signature(torch.optim.Muon).parameters.items()}
    a, b, c = options.get("ns_coefficients", defaults["ns_coefficients"])
    tall = updates.shape[-2] > updates.shape[-1]
    x = updates.mT if tall else updates
    length = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    x = x / length.clamp(min=options.get("eps", defaults["eps"]))
    for _ in range(options.get("ns_steps", defaults["ns_steps"])):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def adjusted_rate(options: Mapping[str, Any], rows: int, columns: int) -> float:
    """Muon's learning rate for a matrix; see ``adjust_lr_fn`` in torch's documentation."""
    rate = float(options["lr"])
    rule = options.get("adjust_lr_fn")
    if rule == "match_rms_adamw":
        return rate * 0.2 * math.sqrt(max(rows, columns))
    ratio = rows / columns
    return rate * math.sqrt(ratio if rule == "spectral_unclamped" else max(1.0, ratio))


def muon_by_shape(parameters: Sequence[Tensor], options: Mapping[str, Any], dtype: torch.dtype):  # type: ignore[no-untyped-def]
    """A function that makes a step of Muon, the iterations in ``dtype``.

    Matrices of one shape are one batch, so that their products are one call.
    """
    mu, nesterov = float(options.get("momentum", 0.95)), bool(options.get("nesterov", True))
    shrink = 1 - float(options["lr"]) * float(options["weight_decay"])
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    for parameter in parameters:
        groups.setdefault(tuple(parameter.shape), []).append(parameter)
    state = [
        (members, torch.zeros_like(torch.stack(members)), adjusted_rate(options, *shape))
        for shape, members in groups.items()
    ]

    @torch.no_grad()
    def step() -> None:
        for members, average, rate in state:
            gradients = torch.stack([member.grad for member in members])  # type: ignore[misc]
            average.lerp_(gradients, 1 - mu)
            update = gradients.lerp_(average, mu) if nesterov else average
            found = orthogonalize(update.to(dtype), options)
            torch._foreach_mul_(members, shrink)
            torch._foreach_add_(members, list(found.to(members[0].dtype)), alpha=-rate)

    return step


def muon_thunk(inputs: Any, dtype: torch.dtype) -> bb.Thunk:
    """Our own step of Muon, batched by shape, on copies of the parameters."""
    return _stepping(
        inputs,
        range(len(inputs.parameters)),
        torch.float32,
        lambda parameters: muon_by_shape(parameters, inputs.options, dtype),
    )


def replay(
    algorithm: Algorithm, inputs: Any, steps: int, positions: Sequence[int]
) -> tuple[Tensor, ...]:
    """The watched numbers of some tensors after ``steps`` steps in float64.

    Adafactor's by torch's single-tensor loop; Muon's by the iterations above, since torch's round
    to bfloat16 whatever they are given.
    """

    def make_step(parameters: list[Tensor]) -> Callable[[], Any]:
        if algorithm is MUON:
            return muon_by_shape(parameters, inputs.options, torch.float64)
        return algorithm.make(parameters, **inputs.options, foreach=False).step

    call = _stepping(inputs, positions, torch.float64, make_step)
    for _ in range(steps):
        numbers = call()
    return numbers  # type: ignore[no-any-return]


def reference(algorithm: Algorithm, inputs: Any) -> tuple[Tensor, ...]:
    """Every tensor after ten steps."""
    return replay(algorithm, inputs, STEPS, range(len(inputs.parameters)))


def followed(inputs: Any, calls: int) -> list[int]:
    """One tensor of each shape, another one for another number of calls."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, parameter in enumerate(inputs.parameters):
        by_shape.setdefault(tuple(parameter.shape), []).append(i)
    return [members[calls * 7919 % len(members)] for members in by_shape.values()]


def update_error(inputs: Any, output: Sequence[Tensor], wanted: Sequence[Tensor], at: Any) -> float:
    """Length of the error of all updates so far, relative to their length; the worst tensor's."""
    starts = watched([inputs.parameters[i] for i in at])
    errors = [
        float((output[i].double() - w).norm() / (w - start.to(w)).norm())
        for i, w, start in zip(at, wanted, starts, strict=True)
    ]
    return max(errors)


def check(algorithm: Algorithm, evidence: bb.Evidence) -> str | None:
    """Every call so far must have made its step: compare the sum of all updates.

    In float32 an update is exact to a few rounding steps, and so is the parameter that it is added
    to. A step that was left out is one part in as many as were made, so that Muon, with bfloat16's
    error, can be caught at one in 50, and exactly one in ten right after it was built.
    """
    at = followed(evidence.inputs, evidence.calls)
    wanted = [w.cpu() for w in replay(algorithm, evidence.inputs, evidence.calls, at)]
    output = [o.cpu() for o in evidence.output]
    error = update_error(evidence.inputs, output, wanted, at)
    rounding = 64 * torch.finfo(torch.float32).eps * math.sqrt(evidence.calls)
    allowed = COARSE if algorithm is MUON else max(rounding, 1e-4)
    if not error <= allowed:
        return (
            f"after {evidence.calls} steps the updates are off by {error:.2g} of their length, "
            f"allowed is {allowed:.2g}: not every call made the step"
        )
    return None


def workloads() -> Iterator[bb.Workload]:
    """Adafactor and Muon."""
    for algorithm in (ADAFACTOR, MUON):
        yield _workload(algorithm)


def _workload(algorithm: Algorithm) -> bb.Workload:
    lists, switches = LISTS[algorithm.name], tuple(algorithm.switches)

    def work(params: bb.Params) -> bb.Work:
        shapes = parameter_list(str(params["parameters"]))
        count = sum(math.prod(shape) for shape in shapes)
        flops = 0.0
        if algorithm is MUON:
            for rows, columns in shapes:
                short, long = sorted((rows, columns))
                flops += 5 * (4.0 * short * short * long + 2.0 * short**3)
        return bb.Work(
            bytes=4.0 * algorithm.passes * count, flops=flops, items=count, item="parameter"
        )

    def metrics(output: Any, reference: Any) -> dict[str, float]:
        errors = [
            float((o.double() - r).norm() / r.norm())
            for o, r in zip(output, reference, strict=True)
        ]
        return {"parameter_error": max(errors)}

    settings = ", ".join(f"{name}={value}" for name, value in algorithm.settings.items())
    return bb.Workload(
        name=algorithm.workload,
        doc=f"One step of {algorithm.name} ({settings}) over matrices of transformer blocks.",
        axes={"parameters": lists, "switch": (PLAIN, *switches), "device": shared.DEVICES},
        presets={
            "quick": [],
            "standard": {"parameters": algorithm.standard},
            "full": [{"parameters": lists}, {"switch": switches}],
            "gpu": {"parameters": ("blocks-2048x4",), "device": shared.CUDA},
        },
        make=lambda params, seed: make(algorithm, params, seed),
        reference=lambda inputs: reference(algorithm, inputs),
        # torch's own iterations are in bfloat16; others may be off by four times what those are.
        tolerance=bb.Tolerance(absolute=1e-2) if algorithm is MUON else bb.Tolerance(),
        check=lambda evidence: check(algorithm, evidence),
        check_calls=STEPS,
        stateful=True,
        metrics=metrics,
        work=work,
        baseline="for-loop",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Adafactor: for-loop, foreach, compiled; Muon: torch's, and batched by shape."""
    for name in ("for-loop", "foreach"):
        way = WAYS[name]
        yield bb.Implementation(
            workload=ADAFACTOR.workload,
            name=name,
            build=_builder(ADAFACTOR, way),
            unavailable=shared.no_cuda,
            doc=f"torch.optim.Adafactor with {', '.join(f'{k}={v}' for k, v in way.items())}.",
        )
    yield bb.Implementation(
        workload=MUON.workload,
        name="for-loop",
        build=_builder(MUON, {}),
        unavailable=shared.no_cuda,
        doc="torch.optim.Muon: bfloat16, matrix by matrix.",
    )
    for name, dtype in (("batched", torch.bfloat16), ("batched-float32", torch.float32)):
        yield bb.Implementation(
            workload=MUON.workload,
            name=name,
            build=_muon_builder(dtype),
            unavailable=shared.no_cuda,
            doc=f"Matrices of one shape as a batch, products in {str(dtype).split('.')[1]}.",
        )
    for algorithm, way in ((ADAFACTOR, WAYS["foreach"]), (MUON, {})):
        yield bb.Implementation(
            workload=algorithm.workload,
            name="compiled",
            build=_builder(algorithm, way, compiled=True),
            unavailable=shared.no_compiler,
            presets=("full",),
            doc="torch.compile of torch's step.",
        )


def _builder(
    algorithm: Algorithm, way: Mapping[str, Any], *, compiled: bool = False
) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(algorithm, way, inputs, compiled)


def _muon_builder(dtype: torch.dtype) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: muon_thunk(inputs, dtype)
