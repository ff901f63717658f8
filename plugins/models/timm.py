"""Networks of timm, by name: ``benchbench run models/timm -a model=resnet50d,levit_128``.

Weights are random, so nothing is downloaded. The listed names are examples; any model that timm
makes for images of the axis ``size`` will do. What ``swapped`` finds to replace are modules of
torch's own types; timm's norms that carry their activation are types of its own, and stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from torch import nn

import benchbench as bb
from benchbench.errors import suggestion
from benchbench_plugins import _functional as shared
from benchbench_plugins._common import optional
from benchbench_plugins.models import judge, zoo
from benchbench_plugins.models.ways import WAYS, build, reference, unavailable
from benchbench_plugins.models.zoo import Model

NAMES = ("vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "mobilenetv3_small_100")
WORKLOADS = ("models/timm", "models/timm-train")
"""Inference and training."""


def create(name: str) -> nn.Module:
    """timm's model of that name, random weights, 1000 classes.

    Raises:
        ValueError: timm has no such model.
    """
    timm: Any = optional("timm")[0]
    if not timm.is_model(name):
        known = timm.list_models()
        raise ValueError(
            f"timm {timm.__version__} has no model {name!r}.{suggestion(name, known)} "
            "timm.list_models() lists them; give another one with -a model=NAME"
        )
    return timm.create_model(name, pretrained=False, num_classes=1000)  # type: ignore[no-any-return]


@cache
def model_of(name: str) -> Model:
    """The model as the others are described."""
    return Model(
        name="timm",
        doc="A network of timm's, by name.",
        factory=partial(create, name),
        standard=None,
        needs="timm",
        **zoo.LARGE,
    )


ANY = model_of(NAMES[0])
"""What does not depend on the name."""


def make(params: bb.Params, seed: int, training: bool) -> bb.Inputs:
    """The network, an input and a target."""
    return zoo.make(model_of(str(params["model"])), params, seed, training=training)


def workloads() -> Iterator[bb.Workload]:
    """Inference and a training step, with the name as an axis."""
    for training, name in enumerate(WORKLOADS):
        yield _workload(name, bool(training))


def _workload(name: str, training: bool) -> bb.Workload:
    doc = "Forward, backward and a step of SGD with momentum" if training else "Inference"
    particular: dict[str, Any] = (
        {
            "tolerance": None,
            "check": partial(judge.check, True),
            "metrics": judge.metrics,
            "stateful": True,
        }
        if training
        else {"tolerance": judge.OUTPUT}
    )
    return bb.Workload(
        name=name,
        doc=f"Networks of timm's, by name. {doc}.",
        axes={"model": NAMES, **ANY.axes, "device": shared.DEVICES},
        open_axes=("model",),
        presets={
            "quick": [],
            "standard": [] if training else {},
            "full": {"model": NAMES, **ANY.axes},
            "batches": {"batch": zoo.BATCHES},
            "gpu": {"model": NAMES, **zoo.on_gpu(ANY)},
        },
        make=lambda params, seed: make(params, seed, training),
        reference=lambda inputs: reference(ANY, inputs, training),
        work=lambda params: model_of(str(params["model"])).work(params, training),
        baseline="eager",
        **particular,
    )


def implementations() -> Iterator[bb.Implementation]:
    """The same ways as for other networks."""
    from benchbench import fused

    for training, workload in enumerate(WORKLOADS):
        for way in WAYS:
            yield bb.Implementation(
                workload=workload,
                name=way.name,
                build=build(ANY, way, bool(training)),
                unavailable=unavailable(ANY, way),
                prepare=fused.build if way.swap else None,
                presets=way.presets(ANY),
                doc=way.doc,
            )
