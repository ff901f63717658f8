"""The CUDA batch norm in both layouts on the host executor, against float64."""

from __future__ import annotations

import sys

import cuda_cases
import pytest
import torch
from cuda_cases import TYPES, close, random, real

from benchbench.native_recipe import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None or sys.platform == "win32", reason="no C++ compiler"),
]
EPS = 1e-5
LAYOUTS = ["planes", "pixels"]
# (batch, channels, area): whole vectors, odd ones, single pixels, few and many rows and channels.
SHAPES = [(3, 5, 48), (4, 3, 49), (17, 16, 1), (2, 33, 30), (6, 1, 700), (2, 72, 64), (1, 2, 9)]
FUSED = {
    torch.float32: ["plain", "relu", "add relu"],
    torch.bfloat16: ["relu", "add relu"],
    torch.float16: ["plain", "relu"],
    torch.float64: ["plain", "add relu"],
}
FUSIONS = [(dtype, fused) for dtype, names in FUSED.items() for fused in names]
OWN = 400  # roundings of the truth itself, which is float64 too


def own(dtype):
    return OWN if dtype == torch.float64 else 0


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    return cuda_cases.load(pytestconfig.cache.mkdir("host_kernels"))


def stored(x, layout):
    """As it lies in memory."""
    return x if layout == "planes" else x.transpose(1, 2).contiguous()


def logical(x, layout):
    return x if layout == "planes" else x.transpose(1, 2)


class Problem:
    """One batch norm with all its tensors; (batch, channels, area)."""

    def __init__(
        self, kernels, shape, dtype, layout, fused, training=True, parameter=None, mean=0.5
    ):
        self.kernels, self.shape, self.dtype, self.layout = kernels, shape, dtype, layout
        self.relu, self.training = fused != "plain", training
        parameter = parameter or real(dtype)
        channels = shape[1]
        self.x = random(*shape, dtype=dtype, mean=mean)
        self.residual = random(*shape, dtype=dtype, seed=1) if "add" in fused else None
        self.w = kernels.copy(random(channels, dtype=parameter, seed=2))
        self.b = kernels.copy(random(channels, dtype=parameter, seed=3))
        self.running = [
            kernels.copy(random(channels, dtype=parameter, seed=4)),
            kernels.copy(random(channels, dtype=parameter, seed=5).abs() + 0.1),
        ]
        self.real = parameter == real(dtype)

    def put(self, x):
        return None if x is None else self.kernels.copy(stored(x, self.layout))

    def empty(self):
        batch, channels, area = self.shape
        order = (batch, channels, area) if self.layout == "planes" else (batch, area, channels)
        return self.kernels.aligned(order, self.dtype)

    def forward(self, launches=1):
        channels = self.shape[1]
        y = self.empty()
        mean, variance = (self.kernels.aligned((channels,), torch.float64) for _ in range(2))
        rstd = self.kernels.aligned((channels,), real(self.dtype))
        self.kernels(
            "batch_norm", TYPES[self.dtype], self.layout == "pixels", self.training, self.relu,
            *self.shape, EPS, self.put(self.x), self.put(self.residual), self.w, self.b,
            *(self.running if not self.training else (None, None)), self.real, y, mean, variance,
            rstd, self.kernels.pixel_workspace(channels), launches=launches,
        )  # fmt: skip
        self.y, self.mean, self.rstd = y, mean, rstd
        return logical(y, self.layout), mean, variance, rstd

    def backward(self, dy, parameters=True, launches=1):
        channels = self.shape[1]
        dx = self.empty()
        dr = self.empty() if self.residual is not None else None
        out = real(self.dtype) if self.real else self.dtype
        dw, db = (self.kernels.aligned((channels,), out) if parameters else None for _ in range(2))
        self.kernels(
            "batch_norm_backward", TYPES[self.dtype], self.layout == "pixels", self.training,
            self.relu, *self.shape, self.put(dy), self.put(self.x),
            self.y if self.residual is not None else None, self.w, self.b, self.real, self.mean,
            self.rstd, dx, dr, dw, db, self.kernels.pixel_workspace(channels),
            launches=launches,
        )  # fmt: skip
        return logical(dx, self.layout), None if dr is None else logical(dr, self.layout), dw, db

    def truth(self, dy=None):
        x = self.x.double().requires_grad_()
        w, b = (p.double().view(1, -1, 1).requires_grad_() for p in (self.w, self.b))
        mean, variance = (
            (x.mean((0, 2), keepdim=True), x.var((0, 2), unbiased=False, keepdim=True))
            if self.training
            else (p.double().view(1, -1, 1) for p in self.running)
        )
        y = (x - mean) / (variance + EPS).sqrt() * w + b
        r = None
        if self.residual is not None:
            r = self.residual.double().requires_grad_()
            y = y + r
        if self.relu:
            # Where the kernel's rounded output is zero, so is the gradient.
            y = y * (logical(self.y, self.layout) > 0) if dy is not None else y.relu()
        if dy is None:
            count = self.x.numel() // self.shape[1]
            bessel = count / max(count - 1, 1) if self.training else 1
            return y, mean.flatten(), variance.flatten() * bessel
        leaves = [x, w, b] + ([r] if r is not None else [])
        return torch.autograd.grad(y, leaves, dy.double())


@pytest.mark.parametrize(("dtype", "fused"), FUSIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_training(kernels, layout, shape, dtype, fused):
    problem = Problem(kernels, shape, dtype, layout, fused)
    y, mean, variance, _ = problem.forward()
    truth = problem.truth()
    close(y, truth[0], 32 + own(dtype))
    assert (mean - truth[1]).abs().max() < 1e-6
    assert ((variance - truth[2]).abs() / truth[2]).max() < 2e-6
    dy = random(*shape, dtype=dtype, seed=9)
    found, expected = problem.backward(dy), problem.truth(dy)
    close(found[0], expected[0], 32 + own(dtype))
    close(found[2], expected[1].flatten(), 64 + own(dtype))
    close(found[3], expected[2].flatten(), 64 + own(dtype))
    if "add" in fused:
        close(found[1], expected[3], 2)


@pytest.mark.parametrize(("dtype", "fused"), FUSIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_evaluation(kernels, layout, shape, dtype, fused):
    problem = Problem(kernels, shape, dtype, layout, fused, training=False)
    y, mean, variance, _ = problem.forward()
    truth = problem.truth()
    close(y, truth[0], 32 + own(dtype))
    assert torch.equal(mean, truth[1]) and torch.equal(variance, truth[2])
    dy = random(*shape, dtype=dtype, seed=9)
    found, expected = problem.backward(dy), problem.truth(dy)
    close(found[0], expected[0], 12 + own(dtype))
    close(found[2], expected[1].flatten(), 64 + own(dtype))
    without = problem.backward(dy, parameters=False)
    assert torch.equal(without[0], found[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_16_bit_parameters(kernels, layout, dtype):
    problem = Problem(kernels, (3, 24, 40), dtype, layout, "relu", parameter=dtype)
    close(problem.forward()[0], problem.truth()[0], 12)
    dy = random(3, 24, 40, dtype=dtype, seed=9)
    found, expected = problem.backward(dy), problem.truth(dy)
    close(found[2], expected[1].flatten(), 8)
    close(found[3], expected[2].flatten(), 8)


@pytest.mark.parametrize(
    ("layout", "shape", "dtype"),
    [
        # More than a block keeps on the chip, in one block and in a cluster of eight.
        ("planes", (2, 1, 3000), torch.float64),
        ("planes", (2, 1, 20_003), torch.float64),
        ("pixels", (2, 40, 600), torch.float32),
        ("pixels", (1, 3, 2001), torch.float64),
    ],
    ids=str,
)
@pytest.mark.parametrize("major", [8, 9])
def test_what_does_not_fit_on_the_chip_is_read_again(kernels, layout, shape, dtype, major):
    if layout == "pixels" and major == 8:
        pytest.skip("pixels use no clusters: the same on both")
    # A small chip, so that a small problem does not fit.
    kernels.device(processors=2, major=major, shared=64 * 1024)
    problem = Problem(kernels, shape, dtype, layout, "add relu")
    close(problem.forward()[0], problem.truth()[0], 16 + own(dtype))
    dy = random(*shape, dtype=dtype, seed=9)
    found, expected = problem.backward(dy), problem.truth(dy)
    for ours, theirs in zip(found, [expected[i] for i in (0, 3, 1, 2)], strict=True):
        close(ours, theirs.reshape(ours.shape), 400)
    kernels.device()


def test_without_cooperative_launches_there_are_two(kernels):
    kernels.device(cooperative=False)
    problem = Problem(kernels, (3, 20, 33), torch.float32, "pixels", "relu")
    close(problem.forward(launches=2)[0], problem.truth()[0], 12)
    dy = random(3, 20, 33, seed=9)
    close(problem.backward(dy, launches=2)[0], problem.truth(dy)[0], 32)
    kernels.device()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_mean_and_an_outlier_in_front_cost_no_accuracy(kernels, layout):
    problem = Problem(kernels, (4, 8, 300), torch.float32, layout, "plain", mean=1e4)
    y, mean, variance, _ = problem.forward()
    truth = problem.truth()
    assert ((variance - truth[2]).abs() / truth[2]).max() < 1e-5
    assert (mean - truth[1]).abs().max() < 1e-3
    problem = Problem(kernels, (4, 8, 300), torch.float32, layout, "plain", mean=0.0)
    problem.x[0, :, 0] = 300.0
    y, _, variance, _ = problem.forward()
    close(y, problem.truth()[0], 16)
    close(variance, problem.truth()[2], 2.0**33)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_in_every_schedule(kernels, layout):
    kernels.device(processors=3)
    found = set()
    for seed in range(5):
        kernels.executor.options(seed=seed, resident=1 + seed % 3)
        problem = Problem(kernels, (5, 6, 500), torch.float32, layout, "relu")
        y, mean, variance, _ = problem.forward()
        dx, _, dw, db = problem.backward(random(5, 6, 500, seed=9))
        found.add(tuple(t.contiguous().numpy().tobytes() for t in (y, mean, variance, dx, dw, db)))
    kernels.executor.options()
    kernels.device()
    assert len(found) == 1


def test_nothing(kernels):
    for layout in LAYOUTS:
        problem = Problem(kernels, (0, 4, 9), torch.float32, layout, "plain")
        problem.forward(launches=0)
