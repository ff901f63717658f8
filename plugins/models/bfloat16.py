"""Models in bfloat16: products under autocast, or everything converted. A table of its own.

A bfloat16 product keeps 8 bits, so these workloads have a tolerance of their own: contenders are
compared with the model in float64, and may be off by four times as much as eager autocast is. The
float32 model runs along, so that the table says what the lower precision brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.models import judge, zoo
from benchbench_plugins.models.ways import Way, build, reference, unavailable
from benchbench_plugins.models.zoo import MODELS, Model

TOLERANCE = bb.Tolerance(factor=4, units=64, absolute=0.1)
"""Of the output, relative to |reference| + rms(reference); ResNet-50, the deepest, is 0.022 off."""
IN_STANDARD = ("transformer-block", "resnet18")

WAYS = (
    Way(name="autocast", doc="PyTorch, eager, under bfloat16 autocast.", autocast=True),
    Way(name="float32", doc="The same model in float32."),
    Way(
        name="converted",
        doc="Weights in bfloat16; the input is converted in each call.",
        convert=True,
    ),
    Way(
        name="compiled",
        doc="torch.compile under autocast, static shapes.",
        autocast=True,
        compile=True,
    ),
    Way(
        name="channels-last",
        doc="Autocast, weights and input in channels-last order.",
        autocast=True,
        channels_last=True,
    ),
    Way(
        name="swapped",
        doc="Autocast, norms and activations replaced by benchbench's kernels.",
        autocast=True,
        swap=True,
    ),
)


def name_of(model: Model, training: bool) -> str:
    """The workload's name."""
    return f"{model.workload(training=training)}-bf16"


def workloads() -> Iterator[bb.Workload]:
    """Inference and a training step of each model."""
    for model in MODELS:
        for training in (False, True):
            yield _workload(model, training)


def _workload(model: Model, training: bool) -> bb.Workload:
    def check(evidence: bb.Evidence) -> str | None:
        return judge.check(model.kinked, evidence, coarse=True)

    doc = "Forward, backward and a step of SGD" if training else "Inference"
    in_standard = model.name in IN_STANDARD and not training
    particular: dict[str, Any] = (
        {"tolerance": None, "check": check, "metrics": judge.metrics, "stateful": True}
        if training
        else {"tolerance": TOLERANCE, "metrics": metrics}
    )
    return bb.Workload(
        name=name_of(model, training),
        doc=f"{model.doc} {doc} with products in bfloat16.",
        axes={**model.axes, "device": shared.DEVICES},
        presets={
            "quick": [],
            "standard": [_smallest(model)] if in_standard else [],
            "full": dict(model.axes),
            "gpu": zoo.on_gpu(model),
        },
        make=lambda params, seed: zoo.make(model, params, seed, training=training),
        reference=lambda inputs: reference(model, inputs, training),
        work=lambda params: model.work(params, training),
        baseline="autocast",
        **particular,
    )


def _smallest(model: Model) -> dict[str, Any]:
    """One batch size of the standard preset."""
    assert model.standard is not None
    return {axis: values[-1:] for axis, values in model.standard.items()}


def metrics(output: Any, wanted: Any) -> Mapping[str, float]:
    """``off``: distance to float64 over the length of the output."""
    return {"off": judge.off(output, wanted)}


def implementations() -> Iterator[bb.Implementation]:
    """Each way to run each model that it applies to."""
    from benchbench import fused

    for model in MODELS:
        for training in (False, True):
            for way in WAYS:
                if way.applies(model, training):
                    yield bb.Implementation(
                        workload=name_of(model, training),
                        name=way.name,
                        build=build(model, way, training),
                        unavailable=_unavailable(model, way),
                        prepare=fused.build if way.swap else None,
                        presets=("full",) if way.compile else None,
                        doc=way.doc,
                    )


def _unavailable(model: Model, way: Way) -> Callable[[bb.Params], str | None]:
    ordinary = unavailable(model, replace(way, autocast=False, convert=False))

    def reason(params: bb.Params) -> str | None:
        return ordinary(params) or _no_bfloat16(params) or no_kernel(params)

    def no_kernel(params: bb.Params) -> str | None:
        if way.convert and model.name == "alexnet-2012" and params["device"] == "cpu":
            return "torch has no local response norm of bfloat16 on the CPU; choose device=cuda"
        return None

    return reason


def _no_bfloat16(params: bb.Params) -> str | None:
    """Why products in bfloat16 cannot be made on the device, or None."""
    if str(params["device"]).startswith("cuda") and not torch.cuda.is_bf16_supported():
        return "this CUDA device has no bfloat16"
    return None
