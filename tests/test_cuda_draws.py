"""The samplers' CUDA kernels on the host executor: the CPU's own draws, for the same key."""

from __future__ import annotations

import ctypes
import math
import sys

import cuda_cases
import numpy as np
import pytest
import torch
from cuda_cases import TYPES, word

from benchbench import native
from benchbench.native_recipe import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None or sys.platform == "win32", reason="no C++ compiler"),
]
KEY = 0x1234_5678_9ABC_DEF


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    return cuda_cases.load(pytestconfig.cache.mkdir("host_kernels"))


@pytest.fixture
def empty(kernels):
    """Makes arrays that end right at a page that nobody may touch."""
    return kernels.executor.empty


@pytest.mark.parametrize("n", [1, 3, 1000, 2**31 + 5, 2**32 - 1, 2**32, 2**47 + 9, 2**63 - 1])
@pytest.mark.parametrize("count", [0, 1, 15, 17, 31, 33, 500, 16_384, 16_385, 33_001])
def test_indices_are_those_of_the_cpu(kernels, empty, n, count):
    out = empty((count,), torch.int64)
    kernels("draw_uniform", n, KEY, count, out, launches=int(count > 0))
    assert torch.equal(out, native.load().draw_uniform(n, count, KEY))


@pytest.mark.parametrize("categories", [1, 7, 5_000])
def test_weighted_draws_are_those_of_the_cpu(kernels, empty, categories):
    rng = torch.Generator().manual_seed(categories)
    table = native.load().alias_table(torch.rand(categories, generator=rng))
    kept = empty((categories,), torch.int64).copy_(table)
    for count in (1, 40, 20_001):
        out = empty((count,), torch.int64)
        kernels("draw_alias", kept, categories, KEY, count, out)
        assert torch.equal(out, native.load().draw_alias(table, count, KEY))


@pytest.mark.parametrize("width", [1, 3, 4, 16, 20, 28, 80, 129])
@pytest.mark.parametrize("rows", [1, 50])
def test_rows_are_taken(kernels, empty, rows, width):
    rng = torch.Generator().manual_seed(width)
    x = torch.randint(0, 255, (rows, width), dtype=torch.uint8, generator=rng)
    index = torch.randint(rows, (77,), generator=rng)
    out = empty((77, width), torch.uint8)
    kernels(
        "take_rows",
        empty(x.shape, x.dtype).copy_(x),
        rows,
        width,
        empty((77,), torch.int64).copy_(index),
        77,
        out,
    )
    assert torch.equal(out, x[index])


def test_nothing_to_take_is_no_launch(kernels):
    kernels("take_rows", None, 3, 0, None, 5, None, launches=0)
    kernels("take_rows", None, 3, 8, None, 0, None, launches=0)


@pytest.mark.parametrize("wrong", [-1, 4, 2**40])
@pytest.mark.parametrize("width", [1, 4, 16])
def test_an_index_that_is_no_row_is_refused_and_nothing_is_read(kernels, empty, wrong, width):
    x, out = empty((4, width), torch.uint8), empty((3, width), torch.uint8)
    index = empty((3,), torch.int64).copy_(torch.tensor([0, wrong, 3]))
    function = kernels.executor.c["run_take_rows"]
    function.restype = ctypes.c_char_p
    error = function(*map(word, (x, 4, width, index, 3, out))).decode()
    assert "take_rows: an index is none of the rows" in error


@pytest.mark.parametrize(
    ("before", "after", "length"),
    [
        (44_100, 16_000, 700),
        (16_000, 44_100, 333),
        (1, 2, 1),
        (3, 1, 2_000),
        (1_000, 3, 30_000),  # a block's inputs do not fit: they are read from where they are
    ],
)
@pytest.mark.parametrize("signals", [1, 3])
def test_signals_are_resampled_as_on_the_cpu(kernels, empty, before, after, length, signals):
    from benchbench.fused import sampling

    rng = torch.Generator().manual_seed(length)
    x = torch.randn(signals, length, generator=rng)
    expected = sampling.resample(x, before, after)
    common = math.gcd(before, after)
    up, down = after // common, before // common
    taps, ahead = sampling._taps(up, down, torch.device("cpu"))
    kept = kernels.copy(taps)
    size = expected.shape[-1]
    assert size == -(-length * up // down)
    out = empty((signals, size), torch.float32)
    kernels(
        "resample", kept, up, down, taps.shape[1], ahead,
        empty(x.shape, torch.float32).copy_(x), signals, length, size, out,
    )  # fmt: skip
    torch.testing.assert_close(out, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 6, 8191, 8192, 20_003])
@pytest.mark.parametrize("squares", [False, True])
def test_bootstrap_sums_are_over_the_same_rows(kernels, empty, dtype, n, squares):
    rng = torch.Generator().manual_seed(n)
    x = torch.randn(n, generator=rng, dtype=torch.float64).to(dtype)
    replicates, middle = 3, 0.25
    counts, totals = native.load().bootstrap_counts(n, replicates, KEY)
    blocks = counts.shape[1]
    sums = empty((replicates, 2), torch.float64)
    kernels(
        "sum_draws",
        TYPES[dtype],
        empty((n,), dtype).copy_(x),
        n,
        blocks,
        replicates,
        empty(counts.shape, torch.int32).copy_(counts),
        squares,
        middle,
        KEY,
        empty((blocks, replicates, 2), torch.float64),
        sums,
        launches=2,
    )
    expected = native.load().bootstrap_sums(x, replicates, KEY, False, squares, middle)
    assert torch.equal(expected[:, 0], totals)
    spread = float(x.abs().sum()) + n * middle
    rounding = 1e-6 if dtype == torch.float32 else 1e-13
    np.testing.assert_allclose(sums[:, 0], expected[:, 1], atol=rounding * spread)
    np.testing.assert_allclose(sums[:, 1], expected[:, 2], rtol=1e-9)


def test_a_row_that_is_one_counts_its_draws(kernels, empty):
    """Exactly, so that not one draw can be another row's."""
    n = 8192 + 512 + 3
    for place in (0, 8191, 8192, 8192 + 511, n - 1):
        x = torch.zeros(n)
        x[place] = 1
        counts, _ = native.load().bootstrap_counts(n, 5, KEY)
        sums = empty((5, 2), torch.float64)
        kernels(
            "sum_draws", 0, x, n, counts.shape[1], 5, counts, False, 0.0, KEY,
            empty((counts.shape[1], 5, 2), torch.float64), sums, launches=2,
        )  # fmt: skip
        assert torch.equal(sums[:, 0], native.load().bootstrap_sums(x, 5, KEY)[:, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 50, 65_536, 66_001])
def test_exponential_weights_are_those_of_the_cpu(kernels, empty, dtype, n):
    rng = torch.Generator().manual_seed(n)
    x = torch.randn(n, generator=rng, dtype=torch.float64).to(dtype)
    chunks = kernels.size("draw_chunks", n)
    sums = empty((2, 2), torch.float64)
    kernels(
        "sum_exponential",
        TYPES[dtype],
        empty((n,), dtype).copy_(x),
        n,
        2,
        KEY,
        empty((chunks, 2, 2), torch.float64),
        sums,
        launches=2,
    )
    expected = native.load().bayesian_sums(x, 2, KEY)
    np.testing.assert_allclose(sums[:, 0], expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(sums[:, 1], expected[:, 1], atol=1e-6 * float(x.abs().sum()))
