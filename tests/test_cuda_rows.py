"""The CUDA row engine (layer norm, RMS norm, softmax) on the host executor, against float64."""

from __future__ import annotations

import ctypes
import math
import sys

import cuda_cases
import pytest
import torch
from cuda_cases import TYPES, WIDTHS, close, random, real

from benchbench.native_recipe import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None or sys.platform == "win32", reason="no C++ compiler"),
]
DTYPES = list(TYPES)
EPS = 1e-5


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    return cuda_cases.load(pytestconfig.cache.mkdir("host_kernels"))


def lengths(dtype):
    """Rows that reach every tier, as whole vectors and odd."""
    w = WIDTHS[dtype]
    return {
        "one": 1,
        "few": 3,
        "lanes8": 32 * w,
        "lanes8 odd": 17 * w + 1,
        "lanes32": 128 * w,
        "lanes32 odd": 100 * w - 1,
        "block": 129 * w,
        "block of several warps": 700 * w,
        "block odd": 300 * w + 3,
        "cluster of 2": 2049 * w,
        "cluster odd": 1500 * w + 1,
    }


LENGTHS = [(name, dtype) for dtype in DTYPES for name in lengths(dtype)]


def norm_truth(x, residual, w, b, rms):
    x = x.double()
    if residual is not None:
        x = (x + residual.double()).to(residual.dtype).double()
    mean = torch.zeros(x.shape[0], 1, dtype=torch.float64) if rms else x.mean(1, keepdim=True)
    rstd = ((x - mean).square().mean(1, keepdim=True) + EPS).rsqrt()
    y = (x - mean) * rstd
    if w is not None:
        y = y * w.double()
    if b is not None:
        y = y + b.double()
    return y, x, mean.flatten(), rstd.flatten()


def run_norm(kernels, x, residual=None, w=None, b=None, rms=False, offset=0, launches=1):
    rows, columns = x.shape
    dtype = x.dtype
    y = kernels.aligned(x.shape, dtype, offset)
    total = kernels.aligned(x.shape, dtype, offset) if residual is not None else None
    mean = kernels.aligned((0 if rms else rows,), torch.float64)
    rstd = kernels.aligned((rows,), real(dtype))
    flags = [None if p is None else p.dtype == real(dtype) for p in (w, b)]
    kernels(
        "row_norm", TYPES[dtype], rms, rows, columns, EPS, x, residual, w, bool(flags[0]), b,
        bool(flags[1]), y, total, mean, rstd, kernels.workspace(dtype, rows, columns),
        launches=launches,
    )  # fmt: skip
    return y, total, mean, rstd


@pytest.mark.parametrize(("tier", "dtype"), LENGTHS, ids=lambda v: str(v))
@pytest.mark.parametrize("rms", [False, True], ids=["layer", "rms"])
def test_norms_reach_every_tier(kernels, tier, dtype, rms):
    columns = lengths(dtype)[tier]
    rows = 2 if columns > 2000 else 5
    x = kernels.copy(random(rows, columns, dtype=dtype, mean=0.5))
    w, b = (kernels.copy(random(columns, dtype=real(dtype), seed=s)) for s in (1, 2))
    y, _, mean, rstd = run_norm(kernels, x, None, w, None if rms else b, rms)
    truth = norm_truth(x, None, w, None if rms else b, rms)
    # A row of one is all cancellation: 1/sqrt(eps) times the rounding of x - mean, which is zero.
    close(y, truth[0], 12)
    close(rstd, truth[3], 12)
    if not rms:
        # As exact as one float32 number of the deviations' size, whatever the mean is.
        assert (mean - truth[2]).abs().max() < (1.5e-7 if dtype != torch.float64 else 3e-16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rms", [False, True], ids=["layer", "rms"])
@pytest.mark.parametrize("columns", [24, 4 * 129 * 8, 1001])
def test_norms_with_a_residual_and_16_bit_parameters(kernels, dtype, rms, columns):
    x, r = (kernels.copy(random(7, columns, dtype=dtype, seed=s)) for s in (3, 4))
    w, b = (kernels.copy(random(columns, dtype=dtype, seed=s)) for s in (5, 6))
    y, total, _, _ = run_norm(kernels, x, r, w, b, rms)
    truth = norm_truth(x, r, w, b, rms)
    assert torch.equal(total, (x + r))
    close(y, truth[0], 12)


@pytest.mark.parametrize("offset", [1, 8])
@pytest.mark.parametrize("columns", [16, 1024, 5000, 7])
def test_norms_at_any_address(kernels, offset, columns):
    x = kernels.copy(random(6, columns, dtype=torch.bfloat16), offset=offset)
    w = kernels.copy(random(columns), offset=1)
    y, *_ = run_norm(kernels, x, None, w, None, offset=offset)
    close(y, norm_truth(x, None, w, None, False)[0], 4)


@pytest.mark.parametrize("major", [8, 9])
@pytest.mark.parametrize(
    ("dtype", "columns"), [(torch.float64, 2**14 + 6), (torch.float32, 2**16 + 2**13 + 1)], ids=str
)
def test_giant_rows_are_shared_by_the_grid(kernels, dtype, columns, major):
    kernels.device(processors=3, major=major)
    x = kernels.copy(random(2, columns, dtype=dtype, mean=2.0))
    y, _, mean, _ = run_norm(kernels, x)
    truth = norm_truth(x, None, None, None, False)
    close(y, truth[0], 16)
    assert (mean - truth[2]).abs().max() < (1.5e-7 if dtype != torch.float64 else 1e-15)
    kernels.device()


def test_a_large_mean_costs_no_accuracy(kernels):
    """In float32, 1e4 + noise of 1: one pass would lose all but three digits of the variance."""
    x = kernels.copy(random(4, 3000, mean=1e4))
    y, _, mean, _ = run_norm(kernels, x)
    truth = norm_truth(x, None, None, None, False)
    assert (y.double() - truth[0]).abs().max() < 2e-6
    assert ((mean - truth[2]).abs() / truth[2]).max() < 1e-9


def test_a_row_does_not_depend_on_the_batch(kernels):
    for columns in (100, 333, 5000):
        x = random(9, columns, dtype=torch.bfloat16)
        together, *_ = run_norm(kernels, kernels.copy(x))
        for i in (0, 1, 8):
            alone, *_ = run_norm(kernels, kernels.copy(x[i : i + 1]))
            assert torch.equal(alone[0], together[i])


def test_norms_of_nothing(kernels):
    run_norm(kernels, torch.empty(0, 8), launches=0)


def test_nan_stays_in_its_row(kernels):
    x = random(3, 40)
    x[1, 7] = math.nan
    y, *_ = run_norm(kernels, kernels.copy(x))
    assert y[1].isnan().all() and not y[[0, 2]].isnan().any()


@pytest.mark.parametrize("logarithm", [False, True], ids=["softmax", "log"])
@pytest.mark.parametrize(("tier", "dtype"), LENGTHS, ids=lambda v: str(v))
def test_softmax_reaches_every_tier(kernels, tier, dtype, logarithm):
    columns = lengths(dtype)[tier]
    rows = 2 if columns > 2000 else 5
    x = kernels.copy(random(rows, columns, dtype=dtype) * 4)
    y = kernels.aligned(x.shape, dtype)
    between = kernels.workspace(dtype, rows, columns)
    kernels("softmax", TYPES[dtype], logarithm, x, y, between, rows, columns)
    truth = (torch.log_softmax if logarithm else torch.softmax)(x.double(), 1)
    close(y, truth, 24 if dtype != torch.float64 else 100, floor=0.1)
    dy, dx = (
        kernels.copy(random(rows, columns, dtype=dtype, seed=1)),
        kernels.aligned(x.shape, dtype),
    )
    kernels("softmax_backward", TYPES[dtype], logarithm, dy, y, dx, between, rows, columns)
    kept, g = y.double(), dy.double()
    slope = (
        g - kept.exp() * g.sum(1, keepdim=True)
        if logarithm
        else kept * (g - (g * kept).sum(1, keepdim=True))
    )
    close(dx, slope, 24 if dtype != torch.float64 else 100)


def test_softmax_of_giant_rows(kernels):
    kernels.device(processors=2, major=8)
    x, dy = (kernels.copy(random(3, 9001, seed=s)) for s in range(2))
    y, dx = (kernels.aligned(x.shape, x.dtype) for _ in range(2))
    between = kernels.workspace(x.dtype, 3, 9001)
    kernels("softmax", 0, False, x, y, between, 3, 9001)
    kernels("softmax_backward", 0, False, dy, y, dx, between, 3, 9001)
    truth = torch.softmax(x.double(), 1)
    close(y, truth, 24)
    close(dx, truth * (dy.double() - (dy.double() * truth).sum(1, keepdim=True)), 32)
    kernels.device()


# How a mask lies over rows (2, 3, 4): the strides of its rows, 0 where it is broadcast.
BROADCAST = {"all": (0, 0, 0), "queries": (0, 0, 1), "batch": (1, 0, 0), "each": (12, 4, 1)}


@pytest.mark.parametrize("logarithm", [False, True], ids=["softmax", "log"])
@pytest.mark.parametrize("kind", ["keep", "add", "add real"])
@pytest.mark.parametrize(
    ("dtype", "columns", "broadcast", "scale"),
    [
        (torch.float32, 33, "queries", 0.5),
        (torch.bfloat16, 264, "each", 0.25),
        (torch.bfloat16, 3000, "batch", 2.0),
        (torch.float16, 40, "all", -1.0),
        (torch.float64, 7, "batch", 0.0),
    ],
    ids=str,
)
def test_softmax_with_scale_and_mask(kernels, dtype, columns, broadcast, scale, kind, logarithm):
    rows, sizes = 24, (2, 3, 4)
    x = kernels.copy(random(rows, columns, dtype=dtype))
    strides = [step * columns for step in BROADCAST[broadcast]]
    count = 1 + sum((n - 1) * step for n, step in zip(sizes, BROADCAST[broadcast], strict=True))
    values = random(count, columns, seed=7)
    kinds = {"keep": torch.bool, "add": dtype, "add real": real(dtype)}
    # In front of one that would be alone: every row keeps something.
    mask = values > -0.5 if kind == "keep" else values.to(kinds[kind])
    mask[:, 0] = 1
    stored = kernels.copy(mask)
    y, dx = kernels.aligned(x.shape, dtype), kernels.aligned(x.shape, dtype)
    between = kernels.workspace(dtype, rows, columns)
    three = ctypes.c_int64 * 3
    kernels(
        "masked_softmax", TYPES[dtype], logarithm, scale, 1 + list(kinds).index(kind), stored,
        three(*sizes), three(*strides), x, y, between, rows, columns,
    )  # fmt: skip
    rowwise = torch.as_strided(mask, (*sizes, columns), (*strides, 1)).reshape(rows, columns)
    e = x.double() * scale
    e = e.masked_fill(~rowwise, -math.inf) if kind == "keep" else e + rowwise.double()
    truth = (torch.log_softmax if logarithm else torch.softmax)(e, 1)
    there = truth.isfinite()
    assert torch.equal(y.isfinite(), there)
    close(y[there], truth[there], 64 if dtype != torch.float64 else 100, floor=0.3)
    dy = kernels.copy(random(rows, columns, dtype=dtype, seed=1))
    kernels(
        "masked_softmax_backward", TYPES[dtype], logarithm, scale, dy, y, dx, between, rows, columns
    )
    kept, g = y.double(), dy.double()
    slope = (
        g - kept.exp() * g.sum(1, keepdim=True)
        if logarithm
        else kept * (g - (g * kept).sum(1, keepdim=True))
    )
    close(dx, scale * slope.masked_fill(~there, 0), 48 if dtype != torch.float64 else 200)


@pytest.mark.parametrize("columns", [6, 300, 9000])
def test_softmax_with_infinities(kernels, columns):
    x = random(4, columns)
    x[0, : columns // 2] = -math.inf
    x[1] = -math.inf
    x[2, 3] = math.inf
    x[3, 2] = math.nan
    y = kernels.aligned(x.shape, x.dtype)
    x = kernels.copy(x)
    kernels("softmax", 0, False, x, y, kernels.workspace(x.dtype, 4, columns), 4, columns)
    truth = torch.softmax(x.double(), 1).float()
    torch.testing.assert_close(y, truth, equal_nan=True, rtol=1e-5, atol=1e-7)


def test_no_row_depends_on_the_schedule(kernels):
    for columns, major in ((300, 9), (9000, 9), (9000, 8)):
        kernels.device(processors=2, major=major)
        x = kernels.copy(random(3, columns))
        found = set()
        for seed in range(6):
            kernels.executor.options(seed=seed, resident=1 + seed % 3)
            found.add(run_norm(kernels, x)[0].numpy().tobytes())
        assert len(found) == 1
    kernels.executor.options()
    kernels.device()
