"""Models: whole networks, and ways to run them end to end.

``swapped`` replaces norms and activations by benchbench's own kernels, so that what a kernel gains
alone can be seen in a model. Weights are random with a fixed seed and equal for all contenders.
"""

from __future__ import annotations

from collections.abc import Iterator

import benchbench as bb
from benchbench_plugins.models import zoo
from benchbench_plugins.models.ways import WAYS, build, reference, unavailable
from benchbench_plugins.models.zoo import MODELS, Model


def _workload(model: Model, *, training: bool) -> bb.Workload:
    quick = model.quick_training if training else model.quick
    return bb.Workload(
        name=model.workload(training=training),
        doc=model.doc
        + (
            " Forward, backward and a step of SGD with momentum."
            if training
            else " Inference: logits in evaluation mode."
        ),
        axes={**model.axes, "device": ("cpu", "cuda")},
        presets={
            "quick": [quick] if quick is not None else [],
            "standard": model.standard,
            "full": dict(model.axes),
        },
        make=lambda params, seed: zoo.make(model, params, seed),
        reference=lambda inputs: reference(model, inputs, training),
        # float32 rounding passes through up to 20 layers, in another order in each way to run.
        # Training is compared after one step: batch norm over small batches amplifies rounding,
        # and after two steps float32 is already 2 % off float64 in ResNet-18.
        tolerance=bb.Tolerance(factor=10, units=64, absolute=0.01 if training else None),
        stateful=training,
        work=lambda params: model.work(params, training),
        baseline="eager",
    )


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """Inference and a training step of each model."""
    for model in MODELS:
        yield _workload(model, training=False)
        yield _workload(model, training=True)


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
