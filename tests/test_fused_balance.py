"""Balanced classes and gathered rows: every row in its place, whatever sizes and threads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from kernel_errors import assert_all_equal
from scipy import stats

from benchbench import fused

ALPHA = 1e-4
WIDTHS = [(), (1,), (3,), (5,), (20,), (129,), (300,), (2, 7), (0,)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(n, width, dtype=torch.float32):
    """Rows that say which ones they are, in every element."""
    rows = torch.arange(n).view(n, *[1] * len(width)).expand(n, *width)
    return rows.to(dtype).contiguous()


def number_of(rows):
    """Which rows they were."""
    flat = rows.reshape(len(rows), -1)
    assert (flat == flat[:, :1]).all(), "a row is torn"
    return flat[:, 0].long()


@pytest.fixture(params=[False, True], ids=["cached", "streamed"])
def streamed(request, stream_from):
    stream_from(0 if request.param else -1)
    return request.param


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3000),
    classes=st.integers(1, 400),
    width=st.sampled_from([w for w in WIDTHS if 0 not in w]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.int32]),
    seed=st.integers(0, 99),
)
def test_classes_come_out_alike(n, classes, width, dtype, seed):
    y = torch.randint(classes, (n,), generator=seeded(seed))
    x = numbered(n, width, dtype)
    counts = y.bincount()
    present = int((counts > 0).sum())
    rows, labels = fused.oversample(x, y, generator=seeded(seed))
    assert torch.equal(rows[:n], x) and torch.equal(labels[:n], y)
    assert len(rows) == len(labels) == present * int(counts.max())
    assert torch.equal(y[number_of(rows)], labels)
    assert set(labels.bincount()[counts > 0].tolist()) == {int(counts.max())}
    rows, labels = fused.undersample(x, y, generator=seeded(seed))
    least = int(counts[counts > 0].min())
    assert set(labels.bincount()[labels.unique()].tolist()) == {least}
    found = number_of(rows)
    assert len(found.unique()) == len(found) == present * least
    assert torch.equal(y[found], labels)


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_threads_and_streaming_change_nothing(threads, stream_from, width):
    n = 70_001 if width != (300,) else 20_001  # several portions of 16384 rows
    y = (torch.rand(n, generator=seeded(3)) < 0.2).long() + (
        torch.rand(n, generator=seeded(4)) < 0.05
    ).long()
    x = torch.randn(n, *width, generator=seeded(5))
    index = torch.randint(n, (n,), generator=seeded(6))

    def results():
        yield from fused.oversample(x, y, generator=seeded(7))
        yield from fused.undersample(x, y, generator=seeded(8))
        yield fused.take_rows(x, index)

    threads(1)
    one = list(results())
    assert torch.equal(one[4], x[index])
    for count, limit in ((2, -1), (3, 0), (1, 0)):
        threads(count)
        stream_from(limit)
        assert_all_equal(results(), one)


@pytest.mark.parametrize("offset", [0, 1, 3, 7])
def test_rows_land_at_any_address(streamed, offset):
    """Streaming stores need whole lines; rows of a view begin anywhere."""
    store = torch.randint(0, 255, (5_000 * 37 + 64,), generator=seeded(), dtype=torch.uint8)
    x = store[offset : offset + 5_000 * 37].view(5_000, 37)
    index = torch.randint(5_000, (9_999,), generator=seeded(1))
    assert torch.equal(fused.take_rows(x, index), x[index])


def test_rows_and_labels_with_strides():
    x = numbered(1000, (8,))[:, ::2]
    y = (torch.arange(2000) % 7 == 0).long()[::2]
    rows, labels = fused.oversample(x, y, generator=seeded())
    assert rows.shape[1] == 4
    assert torch.equal(y[number_of(rows)], labels)
    assert torch.equal(fused.take_rows(x, torch.arange(2000)[::2][:500]), x[::2])


def test_every_row_of_a_class_is_drawn_alike():
    n = 200_000
    y = torch.zeros(n, dtype=torch.int64)
    y[::50] = 1
    rows, _ = fused.oversample(numbered(n, ()), y, generator=seeded())
    drawn = rows[n:].long() // 50
    counted = drawn.bincount(minlength=4000).numpy()
    assert len(drawn) == n - 2 * 4000
    assert stats.chisquare(counted).pvalue > ALPHA
    # Successive draws, also over the border of two portions.
    pairs = (drawn[:-1] * 8 // 4000 * 8 + drawn[1:] * 8 // 4000).numpy()[::2]
    assert stats.chisquare(np.bincount(pairs, minlength=64)).pvalue > ALPHA


def test_every_row_is_kept_alike():
    n, rounds = 20_000, 30
    y = (torch.arange(n) % 5 == 0).long()
    kept = torch.zeros(n)
    for seed in range(rounds):
        rows, _ = fused.undersample(numbered(n, ()), y, generator=seeded(seed))
        kept[rows.long()] += 1
    common = kept[y == 0].view(-1, 160).sum(1).numpy()  # 4000 of 16000 each time
    variance = rounds * 160 * 0.25 * 0.75
    statistic = ((common - rounds * 160 * 0.25) ** 2 / variance).sum()
    assert ALPHA < stats.chi2.sf(statistic, len(common)) < 1 - ALPHA
    assert (kept[y == 1] == rounds).all()
