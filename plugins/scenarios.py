"""Scenarios: every network where it is used, from a request on the host to an answer on the host.

The offline scenario (a batch in, a batch out) is what the module ``models`` runs. Here requests
come one at a time, and the table has p90 and p99 beside the median. A network of images gets a
frame as a camera gives it, (720, 1280, 3) uint8; any other gets one row of its input in float32.
The answer is the probabilities of the classes, or the output of a regression. The axis ``stage``
splits it:

- ``prepare`` resizes and normalises a frame, and copies to the device;
- ``infer`` runs the network;
- ``answer`` makes probabilities and copies to the host;
- ``whole`` is everything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins._common import optional
from benchbench_plugins.models import judge, ways
from benchbench_plugins.models.zoo import MODELS, Model, reseeded

SIZE = 224
STAGES = ("whole", "prepare", "infer", "answer")
IN_STANDARD = ("resnet18",)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NEAR = {"prepare": 0.02, "infer": 1e-3, "answer": 1e-5, "whole": 0.05}
"""Allowed length of the difference to float64, over the length of the answer. Pixels that are
rounded to 8 bits after resizing are 0.3 % off; what becomes of that depends on the network."""
NEAR_ROWS = {"prepare": 0.0, "infer": 1e-4, "answer": 1e-5, "whole": 1e-4}
"""The same for networks whose input needs no resizing."""


def _name(model: Model) -> str:
    return f"models/{model.name}-online"


def frame() -> Tensor:
    """scikit-learn's photograph of a temple, mirrored about its edges to (720, 1280, 3) uint8."""
    from benchbench_plugins.samplers.image import photograph

    return torch.from_numpy(photograph("china")[:720, :1280].copy())


def make(model: Model, params: bb.Params, seed: int) -> bb.Inputs:
    """A network in evaluation mode, the input of the stage, and how requests become inputs."""
    device, stage = torch.device(str(params["device"])), str(params["stage"])
    network = reseeded(model.factory, seed).eval()
    if model.images:
        _calibrate(network, seed)
        request = frame().roll(int(seed) % 640, 1)
        ready = prepared(request, device)
    else:
        shape = model.input({axis: values[0] for axis, values in model.axes.items()})
        rng = torch.Generator().manual_seed(seed)
        request = torch.randn((1, *shape[1:]), generator=rng)
        ready = request.to(device)
    network = network.to(device)
    x = ready if stage == "infer" else request
    if stage == "answer":
        with torch.no_grad():
            x = network(ready)
    return bb.Inputs({"x": x, "model": network, "stage": stage, "device": str(device)})


def _calibrate(model: nn.Module, seed: int) -> None:
    """Running statistics of noise: with fresh ones deep networks overflow or answer nothing."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
            if isinstance(module, nn.Dropout):
                module.eval()
        model(torch.randn(4, 3, SIZE, SIZE, generator=rng))
        model.eval()


def _normalised(pixels: Tensor) -> Tensor:
    """(1, 3, h, w) in [0, 255] to zero mean and unit deviation by channel."""
    scale = [1 / (255 * deviation) for deviation in DEVIATION]
    shift = [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)]
    make_row = pixels.new_tensor if pixels.is_floating_point() else torch.tensor
    return pixels * make_row(scale).view(1, 3, 1, 1) + make_row(shift).view(1, 3, 1, 1)


def prepared(picture: Tensor, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Resized in floating point with an antialiased linear filter, normalised, on the device."""
    pixels = picture.permute(2, 0, 1)[None].to(dtype)
    small = F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)
    return _normalised(small).to(device)


def prepared_in_bytes(picture: Tensor, device: torch.device) -> Tensor:
    """Resized as 8-bit pixels, whose channels lie side by side; a quarter of the bytes."""
    small = F.interpolate(
        picture.permute(2, 0, 1)[None], (SIZE, SIZE), mode="bilinear", antialias=True
    )
    return _normalised(small.to(device).float())


def prepared_by_pillow(picture: Tensor, device: torch.device) -> Tensor:
    """Resized by Pillow, as most data loaders do."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray(picture.numpy()).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
    return _normalised(pixels.to(device).float())


def copied(row: Tensor, device: torch.device) -> Tensor:
    """A row of the input on the device; on the CPU it is where it has to be."""
    return row.to(device)


def answered(output: Tensor, classes: int) -> Tensor:
    """Probabilities of the classes on the host, or the output of a regression."""
    return (output.softmax(1) if classes else output).cpu()


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a request is answered."""

    name: str
    doc: str
    prepare: Callable[[Tensor, torch.device], Tensor] = prepared
    """Of frames; rows are copied."""
    channels_last: bool = False
    compile: bool = False
    swap: bool = False
    needs: str = ""
    images_only: bool = False

    def applies(self, model: Model) -> bool:
        """Whether the way means anything for the model."""
        return (model.images or not self.images_only) and (model.swappable or not self.swap)

    def network(self, model: nn.Module) -> Any:
        """The network set up for this way; the shared one is not changed."""
        if self.channels_last or self.swap:
            model = copy.deepcopy(model)
        if self.swap:
            ways.swap(model)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        return torch.compile(model, dynamic=False) if self.compile else model

    def preparation(self, model: Model) -> Callable[[Tensor, torch.device], Tensor]:
        """From a request to an input of the network."""
        if not model.images:
            return copied
        if not self.channels_last:
            return self.prepare
        return lambda x, device: self.prepare(x, device).contiguous(
            memory_format=torch.channels_last
        )


WAYS = (
    Way(name="eager", doc="PyTorch eager; frames are resized in float32."),
    Way(
        name="bytes",
        doc="Resized as 8-bit pixels.",
        prepare=prepared_in_bytes,
        images_only=True,
    ),
    Way(
        name="pillow",
        doc="Resized by Pillow.",
        prepare=prepared_by_pillow,
        needs="PIL",
        images_only=True,
    ),
    Way(
        name="channels-last",
        doc="8-bit pixels, then channels last.",
        prepare=prepared_in_bytes,
        channels_last=True,
        images_only=True,
    ),
    Way(
        name="channels-last-swapped",
        doc="The same with benchbench's norms and activations.",
        prepare=prepared_in_bytes,
        channels_last=True,
        swap=True,
        images_only=True,
    ),
    Way(
        name="swapped",
        doc="benchbench's norms and activations; frames as 8-bit pixels.",
        prepare=prepared_in_bytes,
        swap=True,
    ),
    Way(
        name="compiled",
        doc="torch.compile; frames as 8-bit pixels.",
        prepare=prepared_in_bytes,
        compile=True,
    ),
)


def _builder(model: Model, way: Way) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        device, x, network = torch.device(inputs.device), inputs.x, way.network(inputs.model)
        ready = way.preparation(model)

        def prepare() -> Tensor:
            # A contender hands out memory of its own, also where nothing has to be copied.
            made = ready(x, device)
            return made.clone() if made is x else made

        def infer() -> Tensor:
            with torch.no_grad():
                return network(x)  # type: ignore[no-any-return]

        def answer() -> Tensor:
            made = answered(x, model.classes)
            return made.clone() if made is x else made

        def whole() -> Tensor:
            with torch.no_grad():
                return answered(network(ready(x, device)), model.classes)

        return {"prepare": prepare, "infer": infer, "answer": answer, "whole": whole}[inputs.stage]

    return build


def reference(model: Model, inputs: Any) -> Tensor:
    """The eager way in float64."""
    x, stage, device = inputs.x, inputs.stage, torch.device(inputs.device)
    if stage == "answer":
        return answered(x.double(), model.classes)
    with torch.no_grad():
        if stage != "infer":
            x = prepared(x, device, torch.float64) if model.images else x.to(device)
        if stage == "prepare":
            return x  # type: ignore[no-any-return]
        output = copy.deepcopy(inputs.model).double()(x.double())
        return output if stage == "infer" else answered(output, model.classes)


def check(model: Model, evidence: bb.Evidence) -> str | None:
    """Shape, and the distance to float64."""
    output, wanted = evidence.output, evidence.reference
    if not isinstance(output, Tensor) or output.shape != wanted.shape:
        return f"the output is no tensor of shape {tuple(wanted.shape)}"
    stage = str(evidence.params["stage"])
    if stage in ("whole", "answer") and output.device.type != "cpu":
        return f"the answer is on {output.device}, not on the host"
    off = metrics(output, wanted)["off"]
    limit = (NEAR if model.images else NEAR_ROWS)[stage]
    if not off <= limit:
        return f"it is {off:.2g} of its length off float64, allowed is {limit:g}"
    return None


def metrics(output: Tensor, wanted: Tensor) -> dict[str, float]:
    """``off``: distance to float64 over the length of the answer."""
    return {"off": judge.off(output, wanted)}


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """One for each network."""
    for model in MODELS:
        yield _workload(model)


def _workload(model: Model) -> bb.Workload:
    what = "A frame of 720x1280" if model.images else "A row of its input"
    stages = {"stage": STAGES}
    return bb.Workload(
        name=_name(model),
        doc=f"{model.doc} {what} to its answer, one at a time.",
        make=lambda params, seed: make(model, params, seed),
        baseline="eager",
        reference=lambda inputs: reference(model, inputs),
        tolerance=None,
        check=lambda evidence: check(model, evidence),
        metrics=metrics,
        tail=True,
        work=lambda params: bb.Work(items=1.0, item="request"),
        axes={**stages, "device": ("cpu", "cuda")},
        presets={
            "quick": [],
            "standard": [stages] if model.name in IN_STANDARD else [],
            "full": stages,
            "gpu": {**stages, "device": ("cuda",)},
        },
    )


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Each way for each network that it applies to."""
    from benchbench import fused

    for model in MODELS:
        for way in WAYS:
            if way.applies(model):
                yield bb.Implementation(
                    workload=_name(model),
                    name=way.name,
                    build=_builder(model, way),
                    unavailable=_unavailable(model, way),
                    prepare=fused.build if way.swap else None,
                    presets=("full",) if way.compile else None,
                    doc=way.doc,
                )


def _unavailable(model: Model, way: Way) -> Callable[[bb.Params], str | None]:
    packages = [model.needs, "sklearn.datasets" if model.images else "", way.needs]

    def reason(params: bb.Params) -> str | None:
        for package in filter(None, packages):
            missing = optional(package)[1]
            if missing:
                return missing
        if way.swap:
            return shared.no_kernels(params)
        return shared.no_compiler(params) if way.compile else shared.no_cuda(params)

    return reason
