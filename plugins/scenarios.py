"""Scenarios: a network where it is used, from a frame on the host to an answer on the host.

The offline scenario (a batch in, a batch out) is what the module ``models`` runs. Here a single
frame comes as a camera gives it, (720, 1280, 3) uint8, and leaves as the probabilities of the
classes; the table has p90 and p99 beside the median. The axis ``stage`` splits it: ``prepare``
resizes, normalises and copies to the device, ``infer`` runs the network, ``whole`` is everything.
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

NETWORKS = ("resnet18", "mobilenet_v2")
SIZE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NEAR = {"prepare": 0.02, "infer": 1e-3, "whole": 0.05}
"""Allowed length of the difference to float64, over the length of the answer. Pixels that are
rounded to 8 bits after resizing are 0.3 % off; what becomes of that depends on the network."""


def _name(network: str) -> str:
    return f"models/{network.replace('_', '-')}-online"


def frame() -> Tensor:
    """scikit-learn's photograph of a temple, mirrored about its edges to (720, 1280, 3) uint8."""
    from benchbench_plugins.samplers.image import photograph

    return torch.from_numpy(photograph("china")[:720, :1280].copy())


def make(network: str, params: bb.Params, seed: int) -> bb.Inputs:
    """A network in evaluation mode, the frame, and the frame made ready."""
    from torchvision import models

    device = str(params["device"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(models, network)(weights=None).eval()
    _calibrate(model, seed)
    picture = frame().roll(int(seed) % 640, 1)
    ready = prepared(picture, torch.device(device))
    return bb.Inputs(
        {
            "x": ready if params["stage"] == "infer" else picture,
            "model": model.to(device),
            "stage": params["stage"],
            "device": device,
        }
    )


def _calibrate(model: nn.Module, seed: int) -> None:
    """Running statistics of noise: with fresh ones deep networks overflow or answer nothing."""
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


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a frame is answered."""

    name: str
    doc: str
    prepare: Callable[[Tensor, torch.device], Tensor] = prepared
    channels_last: bool = False
    compile: bool = False
    swap: bool = False
    needs: str = ""

    def network(self, model: nn.Module) -> Any:
        """The network set up for this way; the shared one is not changed."""
        if self.channels_last or self.swap:
            model = copy.deepcopy(model)
        if self.swap:
            from benchbench import fused

            fused.swap(model)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        return torch.compile(model, dynamic=False) if self.compile else model


WAYS = (
    Way(name="eager", doc="Resized in float32, PyTorch eager."),
    Way(name="bytes", doc="Resized as 8-bit pixels.", prepare=prepared_in_bytes),
    Way(name="pillow", doc="Resized by Pillow.", prepare=prepared_by_pillow, needs="PIL"),
    Way(
        name="channels-last",
        doc="8-bit pixels, then channels last.",
        prepare=prepared_in_bytes,
        channels_last=True,
    ),
    Way(
        name="channels-last-swapped",
        doc="The same with benchbench's norms and activations.",
        prepare=prepared_in_bytes,
        channels_last=True,
        swap=True,
    ),
    Way(
        name="compiled", doc="8-bit pixels, torch.compile.", prepare=prepared_in_bytes, compile=True
    ),
)


def _builder(way: Way) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        device, x, network = torch.device(inputs.device), inputs.x, way.network(inputs.model)

        def prepare() -> Tensor:
            ready = way.prepare(x, device)
            if way.channels_last:
                ready = ready.contiguous(memory_format=torch.channels_last)
            return ready

        def infer() -> Tensor:
            with torch.no_grad():
                return network(x)  # type: ignore[no-any-return]

        def whole() -> Tensor:
            with torch.no_grad():
                return network(prepare()).softmax(1).cpu()  # type: ignore[no-any-return]

        return {"prepare": prepare, "infer": infer, "whole": whole}[inputs.stage]

    return build


def reference(inputs: Any) -> Tensor:
    """The eager way in float64."""
    x = inputs.x
    device = torch.device(inputs.device)
    with torch.no_grad():
        if inputs.stage != "infer":
            x = prepared(x, device, torch.float64)
        if inputs.stage == "prepare":
            return x
        logits = copy.deepcopy(inputs.model).double()(x.double())
        return logits if inputs.stage == "infer" else logits.softmax(1)


def check(evidence: bb.Evidence) -> str | None:
    """Shape, and the distance to float64."""
    output, wanted = evidence.output, evidence.reference
    if not isinstance(output, Tensor) or output.shape != wanted.shape:
        return f"the output is no tensor of shape {tuple(wanted.shape)}"
    stage = str(evidence.params["stage"])
    if stage == "whole" and output.device.type != "cpu":
        return f"the answer is on {output.device}, not on the host"
    off = float((output.double().cpu() - wanted.cpu()).norm() / wanted.norm())
    if not off <= NEAR[stage]:
        return f"it is {off:.2g} of its length off float64, allowed is {NEAR[stage]:g}"
    return None


def metrics(output: Tensor, wanted: Tensor) -> dict[str, float]:
    """``off``: distance to float64 over the length of the answer."""
    return {"off": float((output.double().cpu() - wanted.cpu()).norm() / wanted.norm())}


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """One for each network."""
    for network in NETWORKS:
        yield bb.Workload(
            name=_name(network),
            doc=f"A frame of 720x1280 to torchvision's {network}'s answer, one at a time.",
            make=lambda params, seed, network=network: make(network, params, seed),
            baseline="eager",
            reference=reference,
            tolerance=None,
            check=check,
            metrics=metrics,
            tail=True,
            work=lambda params: bb.Work(items=1.0, item="frame"),
            axes={"stage": ("whole", "prepare", "infer"), "device": ("cpu", "cuda")},
            presets={
                "quick": [],
                "standard": {"stage": ("whole", "prepare", "infer")},
            },
        )


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Each way for each network."""
    from benchbench import fused

    for network in NETWORKS:
        for way in WAYS:
            yield bb.Implementation(
                workload=_name(network),
                name=way.name,
                build=_builder(way),
                unavailable=_unavailable(way),
                prepare=fused.build if way.swap else None,
                presets=shared.SLOWER if way.compile else None,
                doc=way.doc,
            )


def _unavailable(way: Way) -> Callable[[bb.Params], str | None]:
    def reason(params: bb.Params) -> str | None:
        for package in ("torchvision", "sklearn.datasets", *([way.needs] if way.needs else [])):
            missing = optional(package)[1]
            if missing:
                return missing
        if way.swap:
            return shared.no_kernels(params)
        return shared.no_compiler(params) if way.compile else shared.no_cuda(params)

    return reason
