"""The CUDA group norm (instance norm: one channel a group) in both layouts on the host executor."""

from __future__ import annotations

import sys

import cuda_cases
import pytest
import torch
import torch.nn.functional as F
from cuda_cases import TYPES, close, random, real
from hypothesis import given, settings, strategies as st

from benchbench.native_recipe import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None or sys.platform == "win32", reason="no C++ compiler"),
]
EPS = 1e-5
LAYOUTS = ["planes", "pixels"]
# (batch, channels, groups, area): what a lane, a few, a warp, a block and a cluster have; single,
# odd positions; one channel a group, one group, more groups than a tile has; planes cut and whole.
SHAPES = {
    "a lane": (5, 6, 2, 1),
    "a few lanes": (4, 8, 2, 9),
    "a warp": (3, 6, 3, 49),
    "whole vectors": (2, 16, 4, 64),
    "a block": (2, 40, 2, 130),
    "cut planes": (2, 4, 1, 500),
    "instances": (3, 9, 9, 33),
    "a cluster": (1, 2, 2, 4101),
    "a cluster, cut unevenly": (1, 3, 1, 1500),
    "tiles": (2, 72, 36, 11),
    "wide": (1, 601, 1, 5),
}


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    return cuda_cases.load(pytestconfig.cache.mkdir("host_kernels"))


class Problem:
    """One group norm, (batch, channels, groups, area), with its tensors."""

    def __init__(self, kernels, shape, dtype, layout, parameter=None, mean=0.5, offset=0):
        self.kernels, self.shape, self.dtype, self.layout = kernels, shape, dtype, layout
        self.offset = offset
        batch, channels, _, area = shape
        parameter = parameter or real(dtype)
        self.parameter = parameter
        self.x = random(batch, channels, area, dtype=dtype, mean=mean)
        self.w = kernels.copy(random(channels, dtype=parameter, seed=2))
        self.b = kernels.copy(random(channels, dtype=parameter, seed=3))

    def put(self, x):
        stored = x if self.layout == "planes" else x.transpose(1, 2).contiguous()
        return self.kernels.copy(stored, self.offset)

    def empty(self):
        batch, channels, _, area = self.shape
        order = (batch, channels, area) if self.layout == "planes" else (batch, area, channels)
        return self.kernels.aligned(order, self.dtype, self.offset)

    def logical(self, x):
        return x if self.layout == "planes" else x.transpose(1, 2)

    def forward(self, launches=1):
        batch, _, groups, _ = self.shape
        t, pixels = TYPES[self.dtype], self.layout == "pixels"
        y = self.empty()
        mean, variance = (self.kernels.aligned((batch, groups), torch.float64) for _ in range(2))
        rstd = self.kernels.aligned((batch, groups), real(self.dtype))
        size = self.kernels.size("group_bytes", t, *self.shape)
        self.kernels(
            "group_norm", t, pixels, *self.shape, EPS, self.put(self.x), self.w, self.b,
            self.parameter == real(self.dtype), y, mean, variance, rstd,
            self.kernels.executor.empty((size,), torch.uint8), launches=launches,
        )  # fmt: skip
        self.mean, self.rstd = mean, rstd
        return self.logical(y), mean, variance, rstd

    def backward(self, dy, wanted=(True, True), launches=2):
        t, pixels, channels = TYPES[self.dtype], self.layout == "pixels", self.shape[1]
        dx = self.empty()
        dw, db = (self.kernels.aligned((channels,), self.parameter) if w else None for w in wanted)
        rows = self.kernels.size("group_rows", t, pixels, *self.shape)
        self.kernels(
            "group_norm_backward", t, pixels, *self.shape, self.put(dy), self.put(self.x), self.w,
            self.parameter == real(self.dtype), self.mean, self.rstd, dx, dw, db,
            self.kernels.aligned((2, rows, channels), real(self.dtype)), launches=launches,
        )  # fmt: skip
        return self.logical(dx), dw, db

    def truth(self, dy=None):
        leaves = [t.double().requires_grad_() for t in (self.x, self.w, self.b)]
        y = F.group_norm(leaves[0], self.shape[2], *leaves[1:], EPS)
        if dy is not None:
            return torch.autograd.grad(y, leaves, dy.double())
        grouped = leaves[0].detach().view(self.shape[0], self.shape[2], -1)
        return y.detach(), grouped.mean(2), grouped.var(2, unbiased=False)

    def check(self, dy, own):
        y, mean, variance, _ = self.forward()
        truth = self.truth()
        close(y, truth[0], 32 + own)
        assert (mean - truth[1]).abs().max() < 1e-6
        assert ((variance - truth[2]).abs() / truth[2]).max() < 2e-6
        found, expected = self.backward(dy), self.truth(dy)
        close(found[0], expected[0], 32 + own)
        close(found[1], expected[1], 64 + own)
        close(found[2], expected[2], 64 + own)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_directions_to_a_few_roundings(kernels, layout, name, dtype):
    batch, channels, _, area = shape = SHAPES[name]
    dy = random(batch, channels, area, dtype=dtype, seed=9)
    own = 800 if dtype == torch.float64 else 0  # the truth's own roundings
    Problem(kernels, shape, dtype, layout).check(dy, own)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_parameters_have_gradients_of_their_type(kernels, dtype, layout):
    problem = Problem(kernels, (3, 24, 3, 40), dtype, layout, parameter=dtype)
    close(problem.forward()[0], problem.truth()[0], 12)
    dy = random(3, 24, 40, dtype=dtype, seed=9)
    found, expected = problem.backward(dy), problem.truth(dy)
    assert found[1].dtype == dtype
    close(found[1], expected[1], 8)
    close(found[2], expected[2], 8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)], ids=str)
def test_what_is_not_wanted_costs_no_launch(kernels, layout, wanted):
    problem = Problem(kernels, (2, 12, 3, 130), torch.float32, layout)
    problem.forward()
    dy = random(2, 12, 130, seed=9)
    found, expected = problem.backward(dy, wanted, launches=1 + any(wanted)), problem.truth(dy)
    close(found[0], expected[0], 32)
    for i, there in enumerate(wanted):
        assert (found[1 + i] is not None) == there
        if there:
            close(found[1 + i], expected[1 + i], 64)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 8, 2, 40), (2, 16, 4, 64), (1, 2, 2, 4104)], ids=str)
def test_any_address(kernels, layout, shape):
    problem = Problem(kernels, shape, torch.bfloat16, layout, offset=1)
    batch, channels, _, area = shape
    problem.check(random(batch, channels, area, dtype=torch.bfloat16, seed=9), 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("major", [8, 9])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 4, 2, 3000), torch.float64),
        ((2, 3, 1, 2001), torch.float32),
        ((9, 64, 2, 99), torch.float32),
    ],
    ids=str,
)
def test_what_does_not_fit_on_the_chip_is_read_again(kernels, layout, shape, dtype, major):
    kernels.device(processors=2, major=major, shared=64 * 1024)
    problem = Problem(kernels, shape, dtype, layout)
    batch, channels, _, area = shape
    problem.check(random(batch, channels, area, dtype=dtype, seed=9), 1600)
    kernels.device()


def test_giant_groups_are_shared_by_the_grid(kernels):
    kernels.device(processors=3, major=8)
    problem = Problem(kernels, (1, 2, 1, 4501), torch.float32, "planes")
    close(problem.forward()[0], problem.truth()[0], 16)
    kernels.device()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_mean_and_an_outlier_in_front_cost_no_accuracy(kernels, layout):
    problem = Problem(kernels, (2, 8, 2, 300), torch.float32, layout, mean=1e4)
    _, mean, variance, _ = problem.forward()
    truth = problem.truth()
    assert ((variance - truth[2]).abs() / truth[2]).max() < 1e-5
    assert ((mean - truth[1]).abs() / truth[1]).max() < 1e-9
    problem = Problem(kernels, (2, 8, 2, 300), torch.float32, layout, mean=0.0)
    problem.x[:, ::4, 0] = 300.0
    y, _, variance, _ = problem.forward()
    close(y, problem.truth()[0], 16)
    close(variance, problem.truth()[2], 2.0**33)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 6, 3, 49), (2, 4, 2, 900), (1, 2, 1, 4101)], ids=str)
def test_the_same_in_every_schedule(kernels, layout, shape):
    kernels.device(processors=3)
    batch, channels, _, area = shape
    found = set()
    for seed in range(4):
        kernels.executor.options(seed=seed, resident=1 + seed % 3)
        problem = Problem(kernels, shape, torch.float32, layout)
        results = [*problem.forward(), *problem.backward(random(batch, channels, area, seed=9))]
        found.add(tuple(t.contiguous().numpy().tobytes() for t in results))
    kernels.executor.options()
    kernels.device()
    assert len(found) == 1


def test_nan_stays_in_its_group(kernels):
    for layout in LAYOUTS:
        problem = Problem(kernels, (2, 6, 3, 20), torch.float32, layout)
        problem.x[1, 2, 7] = torch.nan
        y = problem.forward()[0].contiguous().view(2, 3, -1)
        assert y[1, 1].isnan().all()
        assert y.isnan().sum() == y[1, 1].numel()


def test_nothing(kernels):
    for layout in LAYOUTS:
        problem = Problem(kernels, (0, 4, 2, 9), torch.float32, layout)
        problem.forward(launches=0)


def test_groups_too_wide_for_pixels_are_told(kernels):
    fits = kernels.executor.c.group_fits
    assert [fits(*map(cuda_cases.word, pair)) for pair in [(1024, 1), (2048, 2), (2048, 1)]] == [
        1,
        1,
        0,
    ]


@given(
    by=st.integers(1, 2**31 - 1) | st.integers(1, 70),
    n=st.integers(0, 2**31 - 1),
    beyond=st.sampled_from([0, 2**33]),
)
@settings(max_examples=300, deadline=None)
def test_division_by_multiplication(kernels, by, n, beyond):
    n += beyond
    assert kernels.size("quotient", n, by, max(n, by, 2**31 - 1 if not beyond else 0)) == n // by
    edge = n // by * by  # the last that has this quotient, and the first
    for m in (edge, max(edge - 1, 0)):
        assert kernels.size("quotient", m, by, max(n, by)) == m // by
