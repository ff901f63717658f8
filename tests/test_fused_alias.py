"""Alias tables: the exact weights at any size, the same table from any number of threads."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from benchbench import fused, native

ALPHA = 1e-4
UNIT = 2.0**-32
BLOCK = 8192
SIZES = st.one_of(
    st.integers(1, 200), st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5, 40_000])
)


def random_weights(n, seed, spread=1.0, zeros=0.0):
    rng = torch.Generator().manual_seed(seed)
    weights = torch.randn(n, generator=rng, dtype=torch.float64).mul_(spread).exp_()
    weights[torch.rand(n, generator=rng) < zeros] = 0
    weights[seed % n] = 1.5  # not all zero
    return weights


def table_of(weights):
    return native.load().alias_table(weights)


def held(table):
    """What each category has of all columns, and of how many columns it has something."""
    entries = table.numpy().view(np.uint64)
    n = len(entries)
    share = (entries & np.uint64(0xFFFFFFFF)).astype(np.float64) * UNIT
    other = (entries >> np.uint64(32)).astype(np.int64)
    assert other.max() < n
    mass = share.copy()
    np.add.at(mass, other, 1 - share)
    return mass, 1 + np.bincount(other, minlength=n)


def assert_exact(weights, table):
    exact = weights.double().numpy()
    exact = exact / exact.sum() * len(exact)
    mass, columns = held(table)
    # A share is cut to whole units; sums of 10^4 float64 numbers are off by 10^-14 of a column.
    assert (np.abs(mass - exact) <= (columns + 1) * UNIT + 1e-12 * exact).all()
    assert not (mass[exact == 0] > 0).any()


@settings(max_examples=60, deadline=None)
@given(
    n=SIZES,
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.0, 0.1, 1.0, 4.0]),
    zeros=st.sampled_from([0.0, 0.3, 0.999]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_tables_hold_the_weights(n, seed, spread, zeros, dtype):
    weights = random_weights(n, seed, spread, zeros).to(dtype)
    assert_exact(weights, table_of(weights))


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        [0.0, 0.0, 3.0],
        [1e9, 1.0, 1.0, 1e-9],
        [5e-324] * 3,
        [1e-310, 3e-310],
        [1e300, 1e305, 0.0],
        [1.0] * (2 * BLOCK) + [1e6],
        [1e6] + [1.0] * (2 * BLOCK),
        [0.0] * (2 * BLOCK) + [1.0] * 3,
        [1.0, 3.0] * BLOCK,
    ],
    ids=lambda weights: f"{len(weights)} from {weights[0]:g}",
)
def test_extreme_weights_are_held(weights):
    weights = torch.tensor(weights, dtype=torch.float64)
    assert_exact(weights, table_of(weights))


def test_columns_of_equal_weights_are_full():
    for n in (1, 7, 1000, 3 * BLOCK + 1):
        mass, columns = held(table_of(torch.full((n,), 0.3, dtype=torch.float64)))
        assert (columns == 2).all(), "each column's other category is its own"
        assert (mass == 1).all()


@settings(max_examples=25, deadline=None)
@given(n=SIZES, seed=st.integers(0, 100), power=st.integers(-900, 900))
def test_a_power_of_two_changes_nothing(n, seed, power):
    weights = random_weights(n, seed)
    scaled = weights * math.ldexp(1.0, power)
    assert torch.equal(table_of(weights), table_of(scaled))


@pytest.mark.parametrize("n", [5, BLOCK + 1, 100_003])
def test_threads_change_no_table(threads, n):
    for zeros in (0.0, 0.9):
        weights = random_weights(n, 3, 2.0, zeros)
        threads(1)
        one = table_of(weights)
        for count in (2, 3, 7):
            threads(count)
            assert torch.equal(table_of(weights), one)


def test_float32_weights_are_those_of_float64():
    weights = random_weights(20_000, 1).float()
    assert torch.equal(table_of(weights), table_of(weights.double()))


def test_light_and_heavy_categories_in_runs():
    """Blocks that are light or heavy altogether leave nothing to choose in them."""
    for parts in ([1.0, 9.0], [9.0, 1.0], [1.0, 9.0, 1.0], [9.0, 9.0, 1.0, 1.0, 9.0]):
        weights = torch.tensor(parts, dtype=torch.float64).repeat_interleave(BLOCK)
        weights *= random_weights(len(weights), 5, 0.1)
        assert_exact(weights, table_of(weights))


@pytest.mark.parametrize("categories", [1, 2, 300, 70_001])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 511, 513, 16_385, 200_000])
def test_draws_follow_the_table(categories, count):
    weights = random_weights(categories, 2, zeros=0.2)
    rng = torch.Generator().manual_seed(count)
    drawn = fused.AliasTable(weights).draw(count, generator=rng).numpy()
    assert drawn.shape == (count,)
    counted = np.bincount(drawn, minlength=categories)
    shares = (weights / weights.sum()).numpy()
    assert not counted[shares == 0].any()
    bins = np.arange(categories) * 50 // categories
    expected = np.bincount(bins, shares * count)
    seen = np.bincount(bins, counted, len(expected))
    kept = expected > 5
    if kept.sum() > 1:
        rest = [seen[~kept].sum()], [expected[~kept].sum()]
        if rest[1][0] > 5:
            seen, expected = np.append(seen[kept], rest[0]), np.append(expected[kept], rest[1])
        else:
            seen, expected = seen[kept], expected[kept] * seen[kept].sum() / expected[kept].sum()
        assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > ALPHA


def test_small_and_large_ranges_are_drawn_by_the_same_words():
    """Below 2^32 numbers the product is taken by vectors, above by one processor word."""
    seed, words = 11, native.load().draw_uniform(1 << 62, 4_000, 11)
    for n in (1, 3, 1000, 2**31 + 7, 2**32 - 1):
        drawn = native.load().draw_uniform(n, 4_000, seed)
        exact = [int(word) * n >> 62 for word in words]
        # The upper 62 of 64 bits decide but in one case of 2^62 / n.
        assert drawn.tolist() == exact
