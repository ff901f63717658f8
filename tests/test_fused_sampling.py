"""The sampler kernels: known answers, exact laws, the same result with any threads and vectors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from benchbench import fused, native

ALPHA = 1e-4
SETS = native.load().build_info()["instruction_sets"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [  # kat_vectors of the Random123 distribution, philox4x32 with 10 rounds
        (0, [0] * 4, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (2**64 - 1, [2**32 - 1] * 4, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            0xA4093822_299F31D0 & 0xFFFFFFFF_FFFFFFFF,
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            None,
        ),
    ],
)
def test_the_generator_gives_the_known_answers(key, counter, words):
    if words is None:  # the key is written low word first: a4093822 299f31d0
        key = 0xA4093822 | 0x299F31D0 << 32
        words = [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert native.load().philox(key, counter) == words


def test_vectors_make_the_words_of_the_generator(isa):
    n, seed = 1 << 62, 77
    drawn = native.load().draw_uniform(n, 70, seed)
    for i in (0, 1, 15, 16, 31, 32, 47, 69):
        counter = i // 32 * 16 + i % 16
        low = 2 * (i % 32 // 16)
        words = native.load().philox(seed, [counter, 0, 0, 3])
        assert int(drawn[i]) == (words[low] | words[low + 1] << 32) * n >> 64


def results(generator_seed=3):
    x = torch.randn(30_011, generator=seeded(9), dtype=torch.float32).exp_()
    labels = (torch.rand(5_003, generator=seeded(2)) < 0.2).long()
    rows = torch.randn(5_003, 7, generator=seeded(4))
    g = seeded(generator_seed)
    yield fused.bootstrap(x, 33, generator=g)
    yield fused.bootstrap(x.double(), 9, "std", generator=g)
    yield fused.poisson_bootstrap(x, 17, "var", generator=g)
    yield fused.bayesian_bootstrap_mean(x, 5, generator=g)
    yield fused.draw(1000, 70_001, generator=g)
    yield fused.AliasTable(x).draw(40_001, generator=g)
    yield from fused.oversample(rows, labels, generator=g)
    yield from fused.undersample(rows, labels, generator=g)
    yield fused.resample(x.view(1, -1), 441, 160)


def test_results_depend_on_the_seed_alone(threads):
    threads(1)
    one = list(results())
    threads(3)
    assert all(torch.equal(a, b) for a, b in zip(one, results(), strict=True))
    others = list(results(4))
    assert not any(torch.equal(a, b) for a, b in zip(one[:6], others[:6], strict=True))


@pytest.mark.skipif(len(SETS) < 2, reason="this processor has one instruction set only")
def test_instruction_sets_agree():
    found = []
    for name in SETS:
        native.load().choose_instruction_set(name)
        found.append(list(results()))
    native.load().choose_instruction_set(SETS[0])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            if a.is_floating_point():
                torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)
            else:
                assert torch.equal(a, b)


@pytest.mark.parametrize(("n", "p"), [(20, 0.3), (1000, 0.004), (1000, 0.5), (10**6, 0.92)])
def test_binomials_follow_their_law(n, p):
    drawn = np.array(native.load().binomials(40_000, 11, n, p))
    assert drawn.min() >= 0 and drawn.max() <= n
    low, high = stats.binom.ppf([0.001, 0.999], n, p).astype(int)
    edges = np.unique(np.linspace(low, high, 40).astype(int))
    cells = np.searchsorted(edges, drawn)
    shares = np.diff(np.concatenate([[0.0], stats.binom.cdf(edges, n, p), [1.0]]))
    counted = np.bincount(cells, minlength=len(shares))
    assert stats.chisquare(counted, shares * len(drawn)).pvalue > ALPHA


@pytest.mark.parametrize("mean", [0.7, 9.5, 10.5, 300.0, 1e6])
def test_poisson_numbers_follow_their_law(mean):
    drawn = np.concatenate([native.load().poissons(40_000, seed, mean) for seed in range(10)])
    low, high = stats.poisson.ppf([0.001, 0.999], mean).astype(int)
    edges = np.unique(np.linspace(low, high, 40).astype(int))
    shares = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]]))
    counted = np.bincount(np.searchsorted(edges, drawn), minlength=len(shares))
    assert stats.chisquare(counted, shares * len(drawn)).pvalue > ALPHA


@pytest.mark.parametrize("rows", [1, 2, 3, 100, 8191, 8192, 8193, 20_001])
def test_every_row_is_drawn_alike(isa, rows):
    """The sum of a one in one row counts how often it was drawn."""
    draws = 400
    expected = 0.0
    statistic = 0.0
    places = sorted({0, rows // 2, rows - 1, min(rows - 1, 8191), min(rows - 1, 8192)})
    for place in places:
        x = torch.zeros(rows, dtype=torch.float64)
        x[place] = 1
        counted = fused.bootstrap(x, draws, generator=seeded(place)).sum() * rows
        expected = draws
        statistic += float((counted - expected) ** 2 / expected)
    if rows == 1:
        assert statistic == 0
    else:
        assert stats.chi2.sf(statistic, len(places)) > ALPHA


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_replicates_scatter_as_theory_says(isa, dtype):
    x = torch.randn(9_001, generator=seeded(1)).mul_(0.5).exp_().to(dtype)
    error = float(x.double().std(correction=0)) / math.sqrt(len(x))
    for function in (fused.bootstrap, fused.poisson_bootstrap, fused.bayesian_bootstrap_mean):
        means = function(x, 2000, generator=seeded(8))
        assert means.dtype == dtype and means.shape == (2000,)
        z = ((means.double() - x.double().mean()) / error).numpy()
        assert abs(z.mean()) * math.sqrt(2000) < 4
        assert stats.chi2.sf((z**2).sum(), 2000) > ALPHA < stats.chi2.cdf((z**2).sum(), 2000)


def test_the_spread_of_a_set_is_that_of_its_rows():
    x = torch.arange(1000, dtype=torch.float64) + 1e6
    found = fused.bootstrap(x, 300, "var", generator=seeded())
    assert abs(float(found.mean()) / float(x.var(correction=0)) - 1) < 0.01
    again = fused.bootstrap(x, 300, "std", generator=seeded())
    torch.testing.assert_close(again, found.sqrt())


def test_exponential_weights_are_exponential():
    # Weights of single rows: with x = 1 in one row the mean is Beta(1, n - 1).
    x = torch.zeros(50, dtype=torch.float64)
    x[17] = 1
    found = fused.bayesian_bootstrap_mean(x, 20_000, generator=seeded()).numpy()
    assert stats.kstest(found, stats.beta(1, 49).cdf).pvalue > ALPHA


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40).filter(
        lambda w: sum(w) > 1e-3
    )
)
def test_alias_tables_hold_the_weights(weights):
    n = len(weights)
    exact = np.array(weights) / sum(weights)
    table = native.load().alias_table(torch.tensor(weights, dtype=torch.float64)).numpy()
    share = (table & 0xFFFFFFFF) / 2**32
    other = table.view(np.uint64) >> np.uint64(32)
    held = share / n
    np.add.at(held, other.astype(int), (1 - share) / n)
    np.testing.assert_allclose(held, exact, atol=2e-9)


def test_weighted_draws_pass_chi_square(isa):
    weights = torch.randn(5_000, generator=seeded()).exp_()
    weights[::7] = 0
    drawn = fused.AliasTable(weights).draw(400_000, generator=seeded(1)).numpy()
    counted = np.bincount(drawn, minlength=5_000)
    exact = (weights / weights.sum()).double().numpy()
    assert counted[exact == 0].sum() == 0
    kept = exact > 0
    shares = exact[kept] / exact[kept].sum()
    assert stats.chisquare(counted[kept], shares * counted.sum()).pvalue > ALPHA


def test_categories_beyond_float32_are_reached():
    n = (1 << 24) + 1
    drawn = fused.AliasTable(torch.ones(n)).draw(1_000_000, generator=seeded()).numpy()
    halves = np.bincount((drawn >= n // 2).astype(int), minlength=2)
    assert stats.chisquare(halves).pvalue > ALPHA
    assert stats.chisquare(np.bincount(drawn % 64, minlength=64)).pvalue > ALPHA


def test_a_sampler_feeds_a_data_loader():
    data = torch.utils.data.TensorDataset(torch.arange(10))
    sampler = fused.AliasSampler(torch.tensor([0.0] * 9 + [1.0]), 7, generator=seeded())
    assert len(sampler) == 7
    loader = torch.utils.data.DataLoader(data, sampler=sampler, batch_size=4)
    assert torch.cat([batch[0] for batch in loader]).tolist() == [9] * 7


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(0, 400),
    st.sampled_from([(), (1,), (3,), (4,), (20,), (2, 5), (129,)]),
    st.sampled_from([torch.float32, torch.float64, torch.uint8, torch.int64, torch.bfloat16]),
)
def test_rows_are_taken(n, count, shape, dtype):
    x = torch.randint(0, 100, (n, *shape), generator=seeded(n)).to(dtype)
    index = torch.randint(n, (count,), generator=seeded(count))
    assert torch.equal(fused.take_rows(x, index), x[index])
    native.load().stream_from(0)  # every output is streamed
    try:
        assert torch.equal(fused.take_rows(x, index), x[index])
    finally:
        native.load().stream_from(-1)


def test_classes_are_balanced():
    y = torch.tensor([2, 0, 0, 0, 2, 0, 4, 0])
    x = torch.arange(8.0).view(8, 1) * torch.ones(1, 3)
    rows, labels = fused.oversample(x, y, generator=seeded())
    assert torch.equal(rows[:8], x) and torch.equal(labels[:8], y)
    assert labels.bincount().tolist() == [5, 0, 5, 0, 5]
    assert torch.equal(y[rows[:, 0].long()], labels)
    rows, labels = fused.undersample(x, y, generator=seeded())
    assert labels.tolist() == [0, 2, 4]
    assert torch.equal(y[rows[:, 0].long()], labels)


@pytest.mark.parametrize(
    ("before", "after"), [(44100, 16000), (48000, 44100), (8000, 48000), (10, 4)]
)
def test_tones_pass_and_aliases_do_not(isa, before, after):
    low = min(before, after)
    time = torch.arange(max(before * 2, 4000), dtype=torch.float64) / before
    size = (len(time) * after + before - 1) // before
    window = torch.kaiser_window(after, beta=20.0, periodic=False, dtype=torch.float64)
    for share in (0.05, 0.3, 0.42):
        tone = torch.cos(2 * math.pi * share * low * time).float()
        found = fused.resample(tone, before, after)
        assert found.shape == (size,)
        exact = torch.cos(
            2 * math.pi * share * low * torch.arange(size, dtype=torch.float64) / after
        )
        middle = slice(size // 4, 3 * size // 4)
        error = (found.double() - exact)[middle].abs().max()
        assert error < 3e-6, (share, error)
    if after < before and before > 100:
        for share in (0.53, 0.7, 0.95):
            frequency = share * after
            if frequency < before / 2:
                tone = torch.cos(2 * math.pi * frequency * time).float()
                found = fused.resample(tone, before, after)[after // 2 : after // 2 + after]
                level = (found.double() * window).abs().max()
                assert 20 * math.log10(float(level)) < -120, (share, level)


def test_signals_in_a_batch_are_resampled_alone():
    x = torch.randn(2, 3, 5_000, generator=seeded())
    whole = fused.resample(x, 3, 2)
    assert whole.shape == (2, 3, 3334)
    assert torch.equal(whole[1, 2], fused.resample(x[1, 2], 3, 2))
    assert torch.equal(fused.resample(x, 7, 7), x)
    assert fused.resample(x[..., :0], 3, 2).shape == (2, 3, 0)
    strided = x.transpose(0, 1)
    assert torch.equal(fused.resample(strided, 3, 2), whole.transpose(0, 1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fused.bootstrap(torch.ones(3).int(), 2), "convert the input with .float()"),
        (lambda: fused.bootstrap(torch.ones(3, 1), 2), "one dimension"),
        (lambda: fused.bootstrap(torch.ones(0), 2), "at least one value"),
        (lambda: fused.bootstrap(torch.ones(3), -2), "between 0 and"),
        (lambda: fused.bootstrap(torch.ones(3), 2, "median"), "mean, var or std"),
        (lambda: fused.draw(0, 3), "at least one number"),
        (lambda: fused.AliasTable(torch.tensor([1.0, -1.0])), "not negative"),
        (lambda: fused.AliasTable(torch.zeros(4)), "not all zero"),
        (lambda: fused.AliasTable(torch.tensor([1.0, math.inf])), "finite"),
        (lambda: fused.AliasTable(torch.tensor([1.0, math.nan])), "finite"),
        (lambda: fused.AliasSampler(torch.ones(3), 0), "must be positive"),
        (lambda: fused.take_rows(torch.ones(3, 2), torch.tensor([3])), "3 rows"),
        (lambda: fused.take_rows(torch.ones(3, 2), torch.tensor([-1])), "from -1"),
        (lambda: fused.take_rows(torch.ones(3, 2), torch.tensor([1.0])), "int64"),
        (lambda: fused.oversample(torch.ones(3, 2), torch.tensor([0, 1])), "each of the 3"),
        (
            lambda: fused.oversample(torch.ones(2, 2), torch.tensor([0, -1])),
            "number classes from 0",
        ),
        (lambda: fused.resample(torch.ones(3).double(), 3, 2), "float32"),
        (lambda: fused.resample(torch.ones(3), 0, 2), "must be positive"),
    ],
)
def test_errors_say_what_to_do(call, words):
    with pytest.raises((RuntimeError, ValueError), match="(?s)" + words):
        call()
