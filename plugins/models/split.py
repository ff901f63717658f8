"""A training step split: forward with the loss, backward, and the optimizer, each on its own.

The workloads ``-train`` make whole steps; here the axis ``part`` takes one of its three parts.
Backward runs through one graph again and again, so what freeing and building it costs is in
forward. The optimizer has the same gradients in every step, so that what any number of them leaves
is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.models import judge, zoo
from benchbench_plugins.models.judge import LEARNING_RATE, MOMENTUM
from benchbench_plugins.models.ways import WAYS, Way, prepared, unavailable, watched
from benchbench_plugins.models.zoo import MODELS, Model

PARTS = ("forward", "backward", "optimizer")
IN_STANDARD = ("resnet18", "transformer-block")


def name_of(model: Model) -> str:
    """The workload's name."""
    return f"{model.workload(training=True)}-split"


def make(model: Model, params: bb.Params, seed: int) -> bb.Inputs:
    """As for a training step, and the part."""
    inputs = zoo.make(model, params, seed, training=True)
    return bb.Inputs({**inputs, "part": str(params["part"])})


def thunk(model: Model, network: Any, inputs: Any) -> bb.Thunk:
    """One part of a step of ``network``; see :func:`check` for what each returns."""
    x, target, loss_of = inputs.x, inputs.target, model.loss
    if inputs.part == "forward":
        return lambda: {"loss": loss_of(network(x), target).detach()}
    parameters = list(network.parameters())
    places = watched(len(parameters))
    loss = loss_of(network(x), target)
    if inputs.part == "backward":

        def backward() -> dict[str, Any]:
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
            return {"gradients": tuple(gradients[place] for place in places)}

        return backward
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)
    views = tuple(parameters[place].detach() for place in places)

    def step() -> dict[str, Any]:
        optimizer.step()
        return {"parameters": views}

    return step


def reference(model: Model, inputs: Any) -> dict[str, Any]:
    """In float64: the loss, and the watched gradients and parameters before the first step."""
    double, network = inputs.double(), prepared(WAYS[0], inputs, True).double()
    loss = model.loss(network(double.x), double.target)
    every = list(network.parameters())
    parameters = [every[place] for place in watched(len(every))]
    gradients = torch.autograd.grad(loss, parameters)
    return {
        "loss": loss.detach(),
        "gradients": gradients,
        "starts": tuple(parameter.detach() for parameter in parameters),
    }


def travelled(steps: int) -> float:
    """How far ``steps`` steps of SGD with momentum go, in learning rates times the gradient.

    The sum of (1 - m^k) / (1 - m) for k from 1 to ``steps``.
    """
    return (steps - MOMENTUM * (1 - MOMENTUM**steps) / (1 - MOMENTUM)) / (1 - MOMENTUM)


def check(model: Model, evidence: bb.Evidence) -> str | None:
    """The loss, the watched gradients, or where as many steps as were made have led."""
    output, wanted = evidence.output, evidence.reference
    limit = judge.KINKED if model.kinked else judge.SMOOTH
    part = str(evidence.params["part"])
    if part == "forward":
        return judge.check_loss(judge.LOSS, output, wanted)
    if part == "backward":
        return judge.check_gradients(limit, output, wanted)
    way = LEARNING_RATE * travelled(evidence.calls)
    for position, (parameter, start, gradient) in enumerate(
        zip(output["parameters"], wanted["starts"], wanted["gradients"], strict=True)
    ):
        error = float((_double(parameter) - (_double(start) - way * _double(gradient))).norm())
        length = way * float(_double(gradient).norm())
        rounding = judge.EPS * evidence.calls * float(_double(start).norm())
        if not error <= limit * length + 4 * rounding:
            return (
                f"after {evidence.calls} steps its parameter {position} of {len(wanted['starts'])} "
                f"is off by {error / length:.2g} of its way, allowed is {limit:g}"
            )
    return None


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double().cpu()


def work(model: Model, params: bb.Params) -> bb.Work:
    """Products of the part; for the optimizer, five passes over the parameters."""
    whole, forward = model.work(params, True), model.work(params, False)
    if params["part"] == "optimizer":
        count = float(zoo.count_parameters(model.factory))
        return bb.Work(bytes=20 * count, items=count, item="parameter")
    flops = forward.flops if params["part"] == "forward" else whole.flops - forward.flops
    return bb.Work(flops=flops, items=whole.items, item=whole.item)


def workloads() -> Iterator[bb.Workload]:
    """One for each model."""
    for model in MODELS:
        yield _workload(model)


def _workload(model: Model) -> bb.Workload:
    parts = {"part": PARTS}
    return bb.Workload(
        name=name_of(model),
        doc=f"{model.doc} One part of a training step.",
        axes={**parts, **model.axes, "device": shared.DEVICES},
        presets={
            "quick": [],
            "standard": [parts] if model.name in IN_STANDARD else [],
            "full": {**parts, **model.axes},
            "gpu": {**parts, **zoo.on_gpu(model)},
        },
        make=lambda params, seed: make(model, params, seed),
        reference=lambda inputs: reference(model, inputs),
        tolerance=None,
        check=lambda evidence: check(model, evidence),
        stateful=True,
        work=lambda params: work(model, params),
        baseline="eager",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Ways that are not compiled: a compiled graph cannot be run backward twice."""
    from benchbench import fused

    for model in MODELS:
        for way in WAYS:
            if way.applies(model, training=True) and not way.compile:
                yield bb.Implementation(
                    workload=name_of(model),
                    name=way.name,
                    build=_builder(model, way),
                    unavailable=unavailable(model, way),
                    prepare=fused.build if way.swap else None,
                    doc=way.doc,
                )


def _builder(model: Model, way: Way) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(model, prepared(way, inputs, True), inputs)
