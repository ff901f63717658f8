"""The CUDA local response norm in both layouts on the host executor, against float64."""

from __future__ import annotations

import sys

import cuda_cases
import pytest
import torch
import torch.nn.functional as F
from cuda_cases import TYPES, close, random

from benchbench.native_recipe import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None or sys.platform == "win32", reason="no C++ compiler"),
]
LAYOUTS = ["planes", "pixels"]
# (batch, channels, area): whole vectors and odd ones, one channel, channels that are cut in walks,
# rows longer than a block's tile.
SHAPES = [(2, 5, 48), (3, 7, 9), (1, 1, 33), (1, 64, 50), (2, 96, 3), (1, 2100, 2)]


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    return cuda_cases.load(pytestconfig.cache.mkdir("host_kernels"))


def run(kernels, x, dy, layout, size, alpha=0.5, beta=0.75, k=1.0, offset=0):
    """y and dx; x and dy are (batch, channels, area) whatever the layout."""
    shape, t, pixels = x.shape, TYPES[x.dtype], layout == "pixels"

    def put(z):
        return kernels.copy(z.transpose(1, 2).contiguous() if pixels else z, offset)

    stored = put(x)
    y, dx = (kernels.aligned(stored.shape, x.dtype, offset) for _ in range(2))
    how = (size, alpha, beta, k)
    kernels("response_norm", t, pixels, *shape, *how, stored, y)
    kernels("response_norm_backward", t, pixels, *shape, *how, put(dy), stored, dx)
    return tuple(z.transpose(1, 2) if pixels else z for z in (y, dx))


def truth(x, dy, size, alpha=0.5, beta=0.75, k=1.0):
    leaf = x.double().requires_grad_()
    y = F.local_response_norm(leaf, size, alpha, beta, k)
    return y.detach(), torch.autograd.grad(y, leaf, dy.double())[0]


def agree(kernels, shape, dtype, layout, *how, units=32, **more):
    x, dy = (random(*shape, dtype=dtype, seed=s) for s in range(2))
    expected = truth(x, dy, *how)
    for ours, theirs in zip(run(kernels, x, dy, layout, *how, **more), expected, strict=True):
        close(ours, theirs, units + (200 if dtype == torch.float64 else 0))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_directions_to_a_few_roundings(kernels, layout, shape, dtype):
    agree(kernels, shape, dtype, layout, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 40])
def test_windows_of_any_size(kernels, layout, size):
    agree(kernels, (2, 24, 9), torch.float32, layout, size)
    agree(kernels, (1, 40, 16), torch.bfloat16, layout, size)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.6])
def test_exponents(kernels, beta, dtype):
    for layout in LAYOUTS:
        agree(kernels, (2, 6, 16), dtype, layout, 3, 0.8, beta, 2.0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 6, 16), (2, 8, 5)], ids=str)
def test_any_address(kernels, layout, shape):
    agree(kernels, shape, torch.float16, layout, 3, offset=1)


def test_windows_that_fill_the_shared_memory(kernels):
    """Fewer threads, then single elements instead of vectors, then an error that says so."""
    agree(kernels, (1, 64, 16), torch.bfloat16, "planes", 40, units=64)
    agree(kernels, (1, 450, 8), torch.bfloat16, "planes", 400, units=64)
    x = random(1, 3000, 2, dtype=torch.float64)
    with pytest.raises(AssertionError, match=r"window of \d+ channels does not fit .*smaller size"):
        run(kernels, x, x, "planes", 3000)


def test_a_zero_sum_is_a_nan_as_in_torch(kernels):
    x = torch.zeros(1, 3, 8)
    y, _ = run(kernels, x, x, "planes", 3, 1.0, 0.75, 0.0)
    assert y.isnan().all() and F.local_response_norm(x, 3, 1.0, 0.75, 0.0).isnan().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_in_every_schedule(kernels, layout):
    x, dy = (random(2, 24, 30, seed=s) for s in range(2))
    found = set()
    for seed in range(4):
        kernels.executor.options(seed=seed, resident=1 + seed % 3)
        found.add(tuple(t.contiguous().numpy().tobytes() for t in run(kernels, x, dy, layout, 5)))
    kernels.executor.options()
    assert len(found) == 1


def test_nothing(kernels):
    empty = torch.empty(0)
    kernels("response_norm", 0, False, 0, 3, 4, 5, 1e-4, 0.75, 1.0, empty, empty, launches=0)
