"""The backward of the CUDA norms over rows on the host executor, against float64, in every tier."""

from __future__ import annotations

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


def shapes(dtype):
    """Rows and columns that reach every tier, as whole vectors and odd."""
    w = WIDTHS[dtype]
    return {
        "one": (3, 1),
        "lanes8": (70, 30 * w),
        "lanes8 odd": (33, 9 * w + 1),
        "lanes32": (21, 128 * w),
        "lanes32 odd": (9, 40 * w + 3),
        "block": (11, 300 * w),
        "block odd": (5, 200 * w - 1),
        "cluster of 2": (5, 1030 * w),
        "cluster odd": (3, 1100 * w + 1),
    }


SHAPES = [(name, dtype) for dtype in DTYPES for name in shapes(dtype)]


def forward(x, w, rms):
    """Statistics as the forward writes them, and the truth as a function of leaves."""
    x = x.double()
    mean = torch.zeros(x.shape[0], dtype=torch.float64) if rms else x.mean(1)
    rstd = ((x - mean[:, None]).square().mean(1) + EPS).rsqrt()
    return mean, rstd


def truth(x, w, dy, dsum, rms):
    leaf = x.double().requires_grad_()
    weight = (torch.ones(x.shape[1]) if w is None else w).double().requires_grad_()
    bias = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    mean = 0 if rms else leaf.mean(1, keepdim=True)
    rstd = ((leaf - mean).square().mean(1, keepdim=True) + EPS).rsqrt()
    y = (leaf - mean) * rstd * weight + bias
    dx, dw, db = torch.autograd.grad(y, [leaf, weight, bias], dy.double())
    return (dx if dsum is None else dx + dsum.double()), dw, db


def run(kernels, x, w, dy, dsum=None, rms=False, need=(True, True), out=None, offset=0):
    rows, columns = x.shape
    dtype = x.dtype
    mean, rstd = forward(x, w, rms)
    mean, rstd = kernels.copy(mean), kernels.copy(rstd.to(real(dtype)))
    out = out or real(dtype)
    dx = kernels.aligned(x.shape, dtype, offset)
    dw, db = (kernels.aligned((columns,), out) if wanted else None for wanted in need)
    kernels(
        "row_norm_backward", TYPES[dtype], rms, rows, columns, dy, x, dsum, w,
        w is not None and w.dtype == real(dtype), mean, rstd, dx, dw, db, out == real(dtype),
        kernels.gradient_partial(dtype, rows, columns), kernels.workspace(dtype, rows, columns),
        launches=1 + any(need),
    )  # fmt: skip
    return dx, dw, db


@pytest.mark.parametrize(("tier", "dtype"), SHAPES, ids=lambda v: str(v))
@pytest.mark.parametrize("rms", [False, True], ids=["layer", "rms"])
def test_gradients_in_every_tier(kernels, tier, dtype, rms):
    shape = shapes(dtype)[tier]
    x = kernels.copy(random(*shape, dtype=dtype, mean=0.5))
    dy = kernels.copy(random(*shape, dtype=dtype, seed=1))
    w = kernels.copy(random(shape[1], dtype=real(dtype), seed=2))
    found = run(kernels, x, w, dy, rms=rms)
    expected = truth(x, w, dy, None, rms)
    # A single element: the exact gradient is (nearly) zero, so nothing but rounding is left.
    if tier == "one":
        assert (found[0].double() - expected[0]).abs().max() < 1e-3
    else:
        close(found[0], expected[0], 24)
    close(found[1], expected[1], 64)
    close(found[2], expected[2], 64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("need", [(True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("shape", [(40, 48), (6, 4000)], ids=str)
def test_what_is_not_wanted_is_not_computed(kernels, dtype, need, shape):
    x, dy = (kernels.copy(random(*shape, dtype=dtype, seed=s)) for s in range(2))
    dsum = kernels.copy(random(*shape, dtype=dtype, seed=2))
    found = run(kernels, x, None, dy, dsum=dsum, need=need)
    expected = truth(x, None, dy, dsum, False)
    close(found[0], expected[0], 24)
    for i, wanted in enumerate(need):
        if wanted:
            close(found[1 + i], expected[1 + i], 64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_weights_have_gradients_of_their_type(kernels, dtype):
    x, dy = (kernels.copy(random(50, 264, dtype=dtype, seed=s)) for s in range(2))
    w = kernels.copy(random(264, dtype=dtype, seed=2))
    found = run(kernels, x, w, dy, out=dtype)
    for ours, theirs in zip(found, truth(x, w, dy, None, False), strict=True):
        close(ours, theirs, 6)


@pytest.mark.parametrize("offset", [1, 8])
@pytest.mark.parametrize("shape", [(9, 16), (4, 1024), (3, 5000)], ids=str)
def test_any_address(kernels, offset, shape):
    x, dy = (
        kernels.copy(random(*shape, dtype=torch.bfloat16, seed=s), offset=offset) for s in range(2)
    )
    found = run(kernels, x, None, dy, offset=offset)
    for ours, theirs in zip(found, truth(x, None, dy, None, False), strict=True):
        close(ours, theirs, 64 if ours.dtype == torch.float32 else 8)


@pytest.mark.parametrize("major", [8, 9])
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(torch.float64, (5, 2**14 + 6)), (torch.float32, (2, 2**15 + 2**13 + 1))],
    ids=str,
)
def test_giant_rows(kernels, dtype, shape, major):
    kernels.device(processors=3, major=major)
    x, dy = (kernels.copy(random(*shape, dtype=dtype, seed=s)) for s in range(2))
    w = kernels.copy(random(shape[1], dtype=real(dtype), seed=2))
    found = run(kernels, x, w, dy)
    for ours, theirs in zip(found, truth(x, w, dy, None, False), strict=True):
        close(ours, theirs, 64)
    kernels.device()


def test_many_rows_are_shared_by_few_blocks(kernels):
    kernels.device(processors=2)
    for shape in ((3000, 8), (500, 1032)):
        x, dy = (kernels.copy(random(*shape, seed=s)) for s in range(2))
        found = run(kernels, x, None, dy)
        for ours, theirs in zip(found, truth(x, None, dy, None, False), strict=True):
            close(ours, theirs, 400)
    kernels.device()


def test_no_rows_give_zeros(kernels):
    empty = torch.empty(0, 24)
    dw, db = kernels.aligned((24,), torch.float32), kernels.aligned((24,), torch.float32)
    partial = kernels.gradient_partial(torch.float32, 0, 24)
    kernels(
        "row_norm_backward", 0, False, 0, 24, empty, empty, None, None, False, None, None, empty,
        dw, db, True, partial, None,
    )  # fmt: skip
    assert not dw.any() and not db.any()


@pytest.mark.parametrize("shape", [(200, 24), (30, 1500), (3, 9000), (12, 20_000)], ids=str)
def test_gradients_are_the_same_in_every_schedule(kernels, shape):
    kernels.device(processors=2)
    x, dy = (kernels.copy(random(*shape, seed=s)) for s in range(2))
    found = set()
    for seed in range(6):
        kernels.executor.options(seed=seed, resident=1 + seed % 3)
        found.add(tuple(t.numpy().tobytes() for t in run(kernels, x, None, dy)))
    kernels.executor.options()
    kernels.device()
    assert len(found) == 1
