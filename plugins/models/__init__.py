"""Models: whole networks, and ways to run them end to end.

The preset ``batches`` sweeps the batch size: ``benchbench run models/resnet18 -p batches`` shows
samples a second for each. ``swapped`` replaces norms and activations by benchbench's own kernels,
so that what a kernel gains alone can be seen in a model, and ``swapped-NAME`` by those of another
contender. Weights are random with a fixed seed and equal for all contenders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import benchbench as bb
from benchbench_plugins.models import bfloat16, contenders, gan, judge, saved, split, timm, zoo
from benchbench_plugins.models.ways import WAYS, build, reference, unavailable
from benchbench_plugins.models.zoo import MODELS, Model

_PARTS = (split, bfloat16, contenders, timm, gan)


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
        tolerance=judge.OUTPUT,
        work=lambda params: model.work(params, False),
        metrics=metrics,
        baseline="eager",
    )


def _training(model: Model) -> bb.Workload:
    def smooth(output: Any, reference: Any) -> Mapping[str, float]:
        return saved.metrics(output)

    return bb.Workload(
        name=model.workload(training=True),
        doc=f"{model.doc} Forward, backward and a step of SGD with momentum.",
        axes={**model.axes, "device": ("cpu", "cuda")},
        presets=_presets(model, model.quick_training, training=True),
        make=lambda params, seed: zoo.make(model, params, seed, training=True),
        reference=lambda inputs: reference(model, inputs, True),
        tolerance=None if model.kinked else judge.OUTPUT,
        check=lambda evidence: judge.check(model.kinked, evidence),
        metrics=judge.metrics if model.kinked else smooth,
        stateful=True,
        work=lambda params: model.work(params, True),
        baseline="eager",
    )


def _presets(model: Model, quick: zoo.Points | None, *, training: bool = False) -> dict[str, Any]:
    in_standard = model.standard is not None and (model.train_in_standard or not training)
    return {
        "quick": [quick] if quick is not None else [],
        "standard": [model.standard] if in_standard else [],
        "full": dict(model.axes),
        "batches": {"batch": zoo.BATCHES},
        "gpu": zoo.on_gpu(model),
    }


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """Inference and a training step of each model, in float32 and in bfloat16."""
    for model in MODELS:
        yield _inference(model)
        yield _training(model)
    for part in _PARTS:
        yield from part.workloads()


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Each way to run each model that it applies to."""
    from benchbench import fused

    for model in MODELS:
        for training in (False, True):
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
    for part in _PARTS:
        yield from part.implementations()
