"""Images from 1920x1080 to 640x480: speed, and distance to an antialiased reference.

``samplers/image-1920x1080-to-640x480`` admits what filters before it drops pixels: at least 30 dB
(china) or 37 dB (flower) from the reference. What samples without a filter competes in the
``-draft`` workload with a floor of 15 dB, which a flipped, shifted or empty image misses. Filters
differ by design, so the columns tell the rest: ``psnr`` is the distance to the triangle filter in
float64, which is no judgement of taste.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.quality import array, psnr
from benchbench_plugins.samplers.shared import cpu_only, host, missing, needs

if TYPE_CHECKING:
    import scipy.sparse
    import torch

FILTERED = "samplers/image-1920x1080-to-640x480"
DRAFT = "samplers/image-1920x1080-to-640x480-draft"
SOURCE, TARGET = (1080, 1920), (480, 640)
# Decibels that every sensible filter reaches and no unfiltered sampling does (measured: area,
# Lanczos and bicubic 35.7 to 40.3 and 40.6 to 44.3; without a filter 24.6 and 34.0 at the best).
FLOORS = {"china": 30.0, "flower": 37.0}
DRAFT_FLOORS = {"china": 15.0, "flower": 15.0}

Condition = Callable[[bb.Params], str | None]
Contribution = tuple[Callable[[bb.Inputs], bb.Thunk], tuple[str, ...], Condition, str]


@lru_cache(maxsize=4)
def photograph(picture: str) -> np.ndarray:
    """One of scikit-learn's two photographs, mirrored about its edges to (1080, 1920, 3) uint8.

    Tiled and not enlarged, so that it keeps the fine detail which makes aliases visible.
    """
    from sklearn.datasets import load_sample_image

    tile = load_sample_image(f"{picture}.jpg")
    height, width = tile.shape[:2]
    down, right = -(-SOURCE[0] // height), -(-SOURCE[1] // width)
    row = np.concatenate([tile[:, :: (1, -1)[i % 2]] for i in range(right)], 1)
    whole = np.concatenate([row[:: (1, -1)[i % 2]] for i in range(down)], 0)
    return np.ascontiguousarray(whole[: SOURCE[0], : SOURCE[1]])


def triangle(size: int, target: int) -> scipy.sparse.csr_array:
    """Weights (target, size) of the antialiased linear filter along one side.

    Pixel ``i`` of the result is centred on ``(i + 1/2) * size / target``; the weight of a source
    pixel falls linearly to nothing over ``size / target`` pixels on each side, cut at the border
    and normalised (Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989, chapter 3).
    """
    from scipy.sparse import csr_array

    scale = size / target
    centre = (np.arange(target) + 0.5)[:, None] * scale
    distance = np.abs(np.arange(size) + 0.5 - centre) / scale
    weights = np.maximum(0, 1 - distance)
    return csr_array(weights / weights.sum(1, keepdims=True))


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """``x``: the photograph (1080, 1920, 3), 0 to 255 as uint8 or float32. The seed is not used:
    a photograph is what it is."""
    import torch

    x = torch.from_numpy(photograph(str(params["picture"])).copy())
    dtype = {"uint8": torch.uint8, "float32": torch.float32}[str(params["dtype"])]
    return bb.Inputs({"x": x.to(dtype).to(str(params["device"])), "seed": seed})


def ideal(inputs: bb.Inputs) -> np.ndarray:
    """The triangle filter in float64: (480, 640, 3)."""
    x = array(inputs.x).astype(np.float64)
    down, right = triangle(SOURCE[0], TARGET[0]), triangle(SOURCE[1], TARGET[1])
    rows = (down @ x.reshape(SOURCE[0], -1)).reshape(TARGET[0], SOURCE[1], 3)
    turned = rows.transpose(1, 0, 2).reshape(SOURCE[1], -1)
    return (right @ turned).reshape(TARGET[1], TARGET[0], 3).transpose(1, 0, 2)


def check(evidence: bb.Evidence, *, floors: Mapping[str, float]) -> str | None:
    """Shape, dtype, range and a least signal-to-noise ratio in dB."""
    output = array(evidence.output)
    expected = (*TARGET, 3)
    if output.shape != expected or str(output.dtype) != evidence.params["dtype"]:
        return (
            f"output is {output.dtype} {output.shape}, "
            f"expected {evidence.params['dtype']} {expected}"
        )
    if not np.isfinite(output).all():
        return "some pixels are not finite"
    # Filters with negative lobes overshoot at edges, by less than a fifth of the range.
    if output.min() < -50 or output.max() > 305:
        return f"pixels from {output.min()} to {output.max()}, outside 0 to 255"
    found, floor = psnr(output, evidence.reference), floors[str(evidence.params["picture"])]
    if found < floor:
        hint = f"; without a filter it belongs to {DRAFT}" if floors is FLOORS else ""
        return f"{found:.1f} dB from the antialiased reference, at least {floor:g} wanted{hint}"
    return None


def metrics(output: Any, reference: np.ndarray) -> dict[str, float]:
    """``psnr``: against :func:`ideal`, in dB; ``worst``: largest error of a pixel, of 255."""
    image = array(output)
    worst = float(np.abs(image.astype(np.float64) - reference).max())
    return {"psnr": psnr(image, reference), "worst": worst}


def work(params: bb.Params) -> bb.Work:
    """Source read once, result written once; items are images."""
    size = 4 if params["dtype"] == "float32" else 1
    pixels = SOURCE[0] * SOURCE[1] + TARGET[0] * TARGET[1]
    return bb.Work(bytes=3.0 * size * pixels, items=1.0, item="image")


def workloads() -> Iterator[bb.Workload]:
    """With filtering demanded, and without."""
    common = {
        "make": make,
        "baseline": "torch",
        "reference": ideal,
        "tolerance": None,
        "metrics": metrics,
        "work": work,
        "axes": {
            "dtype": ("uint8", "float32"),
            "picture": ("china", "flower"),
            "device": ("cpu", "cuda"),
        },
        "presets": {
            "quick": {},
            "standard": {"dtype": ("uint8", "float32"), "picture": ("china", "flower")},
            "gpu": {"dtype": ("float32",), "device": ("cuda",)},
        },
    }
    yield bb.Workload(
        name=FILTERED,
        doc="A photograph made smaller with a filter, judged against the triangle filter.",
        check=partial(check, floors=FLOORS),
        **common,
    )
    yield bb.Workload(
        name=DRAFT,
        doc="The same without a filter: pixels are picked or interpolated, and detail aliases.",
        check=partial(check, floors=DRAFT_FLOORS),
        **{**common, "presets": {**common["presets"], "quick": []}},
    )


def no_picture(params: bb.Params) -> str | None:
    """Why there is no photograph, or None. scikit-learn reads its JPEG files with Pillow."""
    return missing("sklearn.datasets", "PIL.Image")


def _planes(x: torch.Tensor) -> torch.Tensor:
    """(H, W, C) as (1, C, H, W) without a copy, which torch knows as channels-last."""
    return x.permute(2, 0, 1)[None]


def _torch(mode: str, antialias: bool = False) -> Callable[[bb.Inputs], bb.Thunk]:
    """torch interpolate, in the dtype of the input."""

    def build(inputs: bb.Inputs) -> bb.Thunk:
        from torch.nn.functional import interpolate

        x = _planes(inputs.x)
        settings: dict[str, Any] = {} if mode == "nearest" else {"antialias": antialias}
        return lambda: interpolate(x, TARGET, mode=mode, **settings)[0].permute(1, 2, 0)

    return build


def _torch_float(function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Something torch does in float32 only; uint8 is converted, and rounded back."""

    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch

        x = _planes(inputs.x)
        if x.dtype == torch.float32:
            return lambda: function(x)[0].permute(1, 2, 0)

        def call() -> torch.Tensor:
            made = function(x.to(torch.float32))
            return made.round_().clamp_(0, 255).to(torch.uint8)[0].permute(1, 2, 0)

        return call

    return build


def _area(x: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import interpolate

    return interpolate(x, TARGET, mode="area")


def _bilinear(x: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import interpolate

    return interpolate(x, TARGET, mode="bilinear", antialias=True)


def _torchvision(inputs: bb.Inputs) -> bb.Thunk:
    from torchvision.transforms.v2 import functional

    x = _planes(inputs.x)
    return lambda: functional.resize(x, list(TARGET), antialias=True)[0].permute(1, 2, 0)


def _pillow(name: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch
        from PIL import Image

        image, method = Image.fromarray(host(inputs.x)), Image.Resampling[name]
        size = TARGET[::-1]
        return lambda: torch.from_numpy(np.array(image.resize(size, method)))

    return build


def _opencv(name: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import cv2
        import torch

        x, method, size = host(inputs.x), getattr(cv2, name), TARGET[::-1]
        return lambda: torch.from_numpy(cv2.resize(x, size, interpolation=method))

    return build


def _uint8_alone(params: bb.Params) -> str | None:
    if params["dtype"] != "uint8":
        return "Pillow has no colour images in float32: run it with dtype=uint8"
    return cpu_only(params)


def _uint8_on_cpu(params: bb.Params) -> str | None:
    """torch on a GPU has no uint8 kernels for these modes."""
    if params["device"] == "cuda" and params["dtype"] == "uint8":
        return "torch resizes uint8 on the CPU only: run it with dtype=float32"
    return None


def _anywhere(params: bb.Params) -> None:
    """No condition."""


def implementations() -> Iterator[bb.Implementation]:
    """Every contender of both workloads; the draft has the baseline too, to compare with."""
    opencv, pillow, vision = ("cv2",), ("PIL.Image",), ("torchvision.transforms.v2",)
    baseline = (_torch("bilinear", True), (), _uint8_on_cpu, "interpolate, bilinear, antialiased.")
    filtered: dict[str, Contribution] = {
        "torch": baseline,
        "torch-bicubic": (
            _torch("bicubic", True),
            (),
            _uint8_on_cpu,
            "interpolate, bicubic, antialiased.",
        ),
        "torch-area": (
            _torch_float(_area),
            (),
            _anywhere,
            "interpolate, area, in float32 (uint8 is converted there and back).",
        ),
        "torch-float": (
            _torch_float(_bilinear),
            (),
            _anywhere,
            "as torch, but in float32 whatever the input (uint8 is converted there and back).",
        ),
        "torchvision": (
            _torchvision,
            vision,
            _uint8_on_cpu,
            "transforms.v2 resize, bilinear, antialiased.",
        ),
        "pillow": (_pillow("BILINEAR"), pillow, _uint8_alone, "Image.resize, bilinear."),
        "pillow-lanczos": (_pillow("LANCZOS"), pillow, _uint8_alone, "Image.resize, Lanczos."),
        "opencv-area": (_opencv("INTER_AREA"), opencv, cpu_only, "cv2.resize, INTER_AREA."),
    }
    draft: dict[str, Contribution] = {
        "torch": baseline,
        "torch-nearest": (_torch("nearest"), (), _anywhere, "interpolate, nearest."),
        "torch-bilinear": (
            _torch("bilinear"),
            (),
            _uint8_on_cpu,
            "interpolate, bilinear between the four nearest pixels.",
        ),
        "torch-bicubic": (
            _torch("bicubic"),
            (),
            _uint8_on_cpu,
            "interpolate, bicubic between the sixteen nearest pixels.",
        ),
        "pillow-nearest": (_pillow("NEAREST"), pillow, _uint8_alone, "Image.resize, nearest."),
        "opencv-linear": (_opencv("INTER_LINEAR"), opencv, cpu_only, "cv2.resize, INTER_LINEAR."),
    }
    for workload, contenders in ((FILTERED, filtered), (DRAFT, draft)):
        for name, (build, packages, condition, doc) in contenders.items():
            yield bb.Implementation(
                workload=workload,
                name=name,
                build=build,
                unavailable=partial(_unavailable, needs(*packages, on=condition)),
                doc=doc,
            )


def _unavailable(peer: Condition, params: bb.Params) -> str | None:
    """The contender's own reason first, then that of the photograph, which all need."""
    return peer(params) or no_picture(params)
