"""Models: whole networks, and ways to run them end to end.

``swapped`` replaces norms and activations by benchbench's own kernels, so that what a kernel gains
alone can be seen in a model. Weights are random with a fixed seed and equal for all contenders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import benchbench as bb
from benchbench_plugins.models import gan, judge, zoo
from benchbench_plugins.models.ways import WAYS, build, reference, unavailable
from benchbench_plugins.models.zoo import MODELS, Model

# float32 rounding passes through up to 20 layers, in another order in each way to run.
TOLERANCE = bb.Tolerance(factor=10, units=64)


def _inference(model: Model) -> bb.Workload:
    def metrics(output: Any, reference: Any) -> Mapping[str, float]:
        return {"Mparameters": zoo.count_parameters(model.factory) / 1e6}

    return bb.Workload(
        name=model.workload(training=False),
        doc=f"{model.doc} Inference: output in evaluation mode.",
        axes={**model.axes, "device": ("cpu", "cuda")},
        presets=_presets(model, model.quick),
        make=lambda params, seed: zoo.make(model, params, seed),
        reference=lambda inputs: reference(model, inputs, False),
        tolerance=TOLERANCE,
        work=lambda params: model.work(params, False),
        metrics=metrics,
        baseline="eager",
    )


def _training(model: Model) -> bb.Workload:
    return bb.Workload(
        name=model.workload(training=True),
        doc=f"{model.doc} Forward, backward and a step of SGD with momentum.",
        axes={**model.axes, "device": ("cpu", "cuda")},
        presets=_presets(model, model.quick_training),
        make=lambda params, seed: zoo.make(model, params, seed),
        reference=lambda inputs: reference(model, inputs, True),
        tolerance=None if model.kinked else TOLERANCE,
        check=lambda evidence: judge.check(model.kinked, evidence),
        metrics=judge.metrics if model.kinked else None,
        stateful=True,
        work=lambda params: model.work(params, True),
        baseline="eager",
    )


def _presets(model: Model, quick: zoo.Points | None) -> dict[str, Any]:
    return {
        "quick": [quick] if quick is not None else [],
        "standard": [model.standard] if model.standard is not None else [],
        "full": dict(model.axes),
    }


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """Inference of each model, and a training step of those that can be compared."""
    for model in MODELS:
        yield _inference(model)
        if model.trainable:
            yield _training(model)
    yield from gan.workloads()


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Each way to run each model that it applies to."""
    from benchbench import fused

    for model in MODELS:
        for training in (False, True) if model.trainable else (False,):
            for way in WAYS:
                if way.applies(model):
                    yield bb.Implementation(
                        workload=model.workload(training=training),
                        name=way.name,
                        build=build(model, way, training),
                        unavailable=unavailable(model, way),
                        prepare=fused.build if way.swap else None,
                        presets=way.presets(model),
                        doc=way.doc,
                    )
    yield from gan.implementations()
