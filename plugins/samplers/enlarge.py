"""Images three times as large: speed, and what of a photograph comes back.

A photograph is made three times smaller by averaging 3x3 pixels, and contenders enlarge it. The
original is what they are compared with: ``psnr`` in dB and ``ssim`` (structural similarity). Detail
that the average lost cannot come back, so both have a ceiling that nobody reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.image import photograph
from benchbench_plugins.samplers.quality import array, psnr
from benchbench_plugins.samplers.shared import cpu_only, host, missing, needs

WORKLOAD = "samplers/image-enlarge-x3"
FACTOR = 3
SIZE = (426, 639)
"""Of the result: one of scikit-learn's photographs, cut to multiples of three."""
FLOORS = {"china": 20.0, "flower": 28.0}
"""Decibels that every sensible enlargement reaches; one shifted by two pixels does not."""


def original(picture: str) -> np.ndarray:
    """The photograph (426, 639, 3) uint8."""
    return photograph(picture)[: SIZE[0], : SIZE[1]]


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """``x`` (142, 213, 3): means of 3x3 pixels, rounded, uint8 or float32. No seed is used."""
    import torch

    large = original(str(params["picture"])).astype(np.float64)
    rows, columns = SIZE[0] // FACTOR, SIZE[1] // FACTOR
    small = large.reshape(rows, FACTOR, columns, FACTOR, 3).mean((1, 3)).round()
    dtype = {"uint8": torch.uint8, "float32": torch.float32}[str(params["dtype"])]
    x = torch.from_numpy(small).to(dtype).to(str(params["device"]))
    return bb.Inputs({"x": x, "picture": params["picture"]})


def ssim(output: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity of the luma (Wang, Bovik, Sheikh, Simoncelli 2004).

    Gaussian windows of deviation 1.5 cut off at 5 pixels; K1 = 0.01, K2 = 0.03; range 255; windows
    that leave the image are not counted.
    """
    from scipy.ndimage import gaussian_filter

    weights = np.array([0.299, 0.587, 0.114])
    a, b = (image.astype(np.float64) @ weights for image in (output, reference))
    blur = partial(gaussian_filter, sigma=1.5, truncate=5 / 1.5)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    likeness /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(likeness[5:-5, 5:-5].mean())


def check(evidence: bb.Evidence) -> str | None:
    """Shape, dtype, range and a least signal-to-noise ratio."""
    output = array(evidence.output)
    expected = (*SIZE, 3)
    if output.shape != expected or str(output.dtype) != evidence.params["dtype"]:
        return (
            f"output is {output.dtype} {output.shape}, "
            f"expected {evidence.params['dtype']} {expected}"
        )
    if not np.isfinite(output).all():
        return "some pixels are not finite"
    if output.min() < -80 or output.max() > 335:
        return f"pixels from {output.min()} to {output.max()}, far outside 0 to 255"
    found, floor = psnr(output, evidence.reference), FLOORS[str(evidence.params["picture"])]
    if found < floor:
        return f"{found:.1f} dB from the photograph, at least {floor:g} wanted"
    return None


def metrics(output: Any, reference: np.ndarray) -> dict[str, float]:
    """``psnr`` in dB and ``ssim`` (at most 1), both against the photograph."""
    image = array(output)
    return {"psnr": psnr(image, reference), "ssim": ssim(image, reference)}


def _torch(mode: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch
        from torch.nn.functional import interpolate

        x = inputs.x
        options = {} if mode in ("nearest-exact", "area") else {"align_corners": False}

        def call() -> torch.Tensor:
            channels = x.permute(2, 0, 1)[None]
            if x.dtype != torch.uint8 or mode != "area":
                large = interpolate(channels, size=SIZE, mode=mode, **options)
            else:
                large = interpolate(channels.float(), size=SIZE, mode=mode).round_().to(x.dtype)
            return large[0].permute(1, 2, 0).contiguous()

        return call

    return build


@bb.implementation(WORKLOAD, "torch-repeat")
def torch_repeat(inputs: bb.Inputs) -> bb.Thunk:
    """Each pixel nine times by expand: nearest without any arithmetic."""
    x = inputs.x
    rows, columns = x.shape[:2]

    def call() -> Any:
        wide = x[:, None, :, None].expand(rows, FACTOR, columns, FACTOR, 3)
        return wide.reshape(*SIZE, 3)

    return call


def _pillow(filter_name: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch
        from PIL import Image

        image, kind = Image.fromarray(host(inputs.x)), Image.Resampling[filter_name]
        return lambda: torch.from_numpy(np.array(image.resize(SIZE[::-1], kind)))

    return build


def _opencv(flag: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import cv2
        import torch

        x, kind = host(inputs.x), getattr(cv2, flag)
        return lambda: torch.from_numpy(cv2.resize(x, SIZE[::-1], interpolation=kind))

    return build


@bb.implementation(WORKLOAD, "scipy-zoom", unavailable=cpu_only)
def scipy_zoom(inputs: bb.Inputs) -> bb.Thunk:
    """scipy.ndimage.zoom with cubic splines, on the grid of pixel areas."""
    import torch
    from scipy.ndimage import zoom

    x = host(inputs.x)

    def call() -> torch.Tensor:
        large = zoom(x.astype(np.float32), (FACTOR, FACTOR, 1), grid_mode=True, mode="grid-mirror")
        if x.dtype == np.uint8:
            large = large.clip(0, 255).round().astype(np.uint8)
        return torch.from_numpy(np.ascontiguousarray(large))

    return call


def uint8_only(params: bb.Params) -> str | None:
    """Reason for Pillow, whose colour images have 8 bits."""
    if params["dtype"] != "uint8":
        return "Pillow has no colour images in float32: run it with dtype=uint8"
    return cpu_only(params) or missing("PIL.Image")


def workloads() -> Iterator[bb.Workload]:
    """One, of two photographs."""

    def work(params: bb.Params) -> bb.Work:
        size = 4 if params["dtype"] == "float32" else 1
        pixels = SIZE[0] * SIZE[1]
        return bb.Work(bytes=3.0 * size * pixels * (1 + 1 / FACTOR**2), items=1.0, item="image")

    yield bb.Workload(
        name=WORKLOAD,
        doc="A photograph of 213x142 enlarged to 639x426, compared with what it was made from.",
        make=make,
        baseline="torch",
        reference=lambda inputs: original(inputs.picture),
        tolerance=None,
        check=check,
        metrics=metrics,
        work=work,
        axes={
            "dtype": ("uint8", "float32"),
            "picture": ("china", "flower"),
            "device": ("cpu", "cuda"),
        },
        presets={
            "quick": [],
            "standard": {},
            "full": {"dtype": ("uint8", "float32")},
            "gpu": {"dtype": ("float32",), "device": ("cuda",)},
        },
    )


def implementations() -> Iterator[bb.Implementation]:
    """torch, Pillow, OpenCV, scipy; all need scikit-learn's photographs."""
    anywhere = partial(needs, "sklearn.datasets", on=lambda params: None)
    for name, mode in (
        ("torch", "bilinear"),
        ("torch-bicubic", "bicubic"),
        ("torch-nearest", "nearest-exact"),
        ("torch-area", "area"),
    ):
        yield bb.Implementation(
            workload=WORKLOAD,
            name=name,
            build=_torch(mode),
            unavailable=anywhere(),
            doc=f"torch.nn.functional.interpolate, mode {mode}.",
        )
    yield from (torch_repeat, scipy_zoom)
    for name, filter_name in (
        ("pillow", "BILINEAR"),
        ("pillow-bicubic", "BICUBIC"),
        ("pillow-lanczos", "LANCZOS"),
    ):
        yield bb.Implementation(
            workload=WORKLOAD,
            name=name,
            build=_pillow(filter_name),
            unavailable=uint8_only,
            doc=f"PIL.Image.resize, {filter_name.lower()}.",
        )
    for name, flag in (("opencv", "INTER_LINEAR"), ("opencv-cubic", "INTER_CUBIC")):
        yield bb.Implementation(
            workload=WORKLOAD,
            name=name,
            build=_opencv(flag),
            unavailable=needs("cv2"),
            doc=f"cv2.resize, {flag}.",
        )
