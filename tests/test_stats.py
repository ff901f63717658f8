"""Figures of a table against figures worked out by hand, by scipy, or by simulation."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st
from synthetic import measured, result, run

from benchbench.stats import (
    HODGES_LEHMANN,
    binomial_coverage,
    blocks,
    hodges_lehmann,
    interval,
    log_ratio,
    order_statistic_interval,
    summarise,
)

values = st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=40)
times = st.floats(1e-7, 10.0)


def by_name(rows):
    return {row.contender: row for row in rows}


# Intervals


@pytest.mark.parametrize(
    ("count", "rank", "coverage"),
    [(5, 1, 0.9375), (6, 1, 0.96875), (9, 2, 0.9609375), (12, 3, 0.961426)],
)
def test_order_statistic_interval_reaches_the_exact_coverage(count, rank, coverage):
    found = order_statistic_interval([float(i) for i in range(count)])
    assert (found.low, found.high) == (rank - 1, count - rank)
    assert found.coverage == pytest.approx(coverage, abs=1e-6)


def test_coverage_agrees_with_scipy():
    from scipy.stats import binom

    for count in (5, 6, 7, 12, 15, 30):
        for rank in range(1, count // 2 + 1):
            exact = binom.cdf(count - rank, count, 0.5) - binom.cdf(rank - 1, count, 0.5)
            assert binomial_coverage(count, rank) == pytest.approx(exact)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_values_claim_no_interval(count):
    found = order_statistic_interval([1.0] * count)
    assert not found.claimed
    assert found.coverage == 0.0


def test_no_values_are_refused():
    with pytest.raises(ValueError):
        order_statistic_interval([])


def test_signed_rank_interval_inverts_scipys_test():
    """Points inside the interval are not rejected at 5 %, points outside are."""
    from scipy.stats import wilcoxon

    rng = random.Random(4)
    for count in (16, 20, 24):
        sample = [rng.gauss(0.3, 1.0) for _ in range(count)]
        found = hodges_lehmann(sample)
        assert 0.95 <= found.coverage < 0.97
        for point, inside in (
            (found.low + 1e-6, True),
            (found.high - 1e-6, True),
            (found.low - 1e-6, False),
            (found.high + 1e-6, False),
        ):
            p = wilcoxon([v - point for v in sample], method="exact").pvalue
            assert (p > 1 - found.coverage + 1e-9) == inside


def test_the_rank_estimate_takes_over_at_sixteen():
    few = [float(i) for i in range(HODGES_LEHMANN - 1)]
    many = [*few, 100.0]
    assert interval(few) == order_statistic_interval(few)
    assert interval(many) == hodges_lehmann(many)
    assert interval(many).high < 20, "one bad process in sixteen must not move the interval"


@pytest.mark.parametrize("count", [6, 9, 12, 16, 24])
@pytest.mark.parametrize("shape", ["normal", "heavy", "skewed"])
def test_intervals_cover_as_often_as_they_say(count, shape):
    if shape == "skewed" and count >= HODGES_LEHMANN:
        shape = "heavy"  # the signed-rank interval assumes symmetry
    rng = random.Random(f"{count}{shape}")
    draw = {
        "normal": lambda: rng.gauss(0.0, 1.0),
        "heavy": lambda: rng.gauss(0.0, 1.0) / max(rng.random(), 1e-9),
        "skewed": lambda: rng.lognormvariate(0.0, 1.5) - 1.0,
    }[shape]
    trials, covered, claimed = 2000, 0, 0.0
    for _ in range(trials):
        found = interval([draw() for _ in range(count)])
        covered += found.low <= 0.0 <= found.high
        claimed = found.coverage
    spread = 4 * math.sqrt(claimed * (1 - claimed) / trials)
    assert abs(covered / trials - claimed) < spread


@given(values, st.randoms(use_true_random=False))
def test_order_of_processes_does_not_matter(sample, rng):
    shuffled = list(sample)
    rng.shuffle(shuffled)
    assert interval(sample) == interval(shuffled)


@given(values, st.floats(-5.0, 5.0))
def test_a_shift_moves_the_whole_interval(sample, shift):
    found, moved = interval(sample), interval([v + shift for v in sample])
    for one, other in ((found.estimate, moved.estimate), (found.low, moved.low)):
        assert other == pytest.approx(one + shift, abs=1e-9)
    assert moved.coverage == found.coverage


@given(values)
def test_estimates_lie_in_their_interval(sample):
    found = interval(sample)
    assert found.low <= found.estimate <= found.high or found.low == pytest.approx(found.high)


@given(values)
def test_negation_mirrors_the_interval(sample):
    found, mirror = interval(sample), interval([-v for v in sample])
    assert mirror.low == pytest.approx(-found.high, abs=1e-12)
    assert mirror.estimate == pytest.approx(-found.estimate, abs=1e-12)


def test_mapping_keeps_the_ends_in_order():
    found = order_statistic_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).map(lambda v: 1 / v)
    assert (found.low, found.high) == (pytest.approx(1 / 6), 1.0)


# Blocks and pairs


def test_two_passes_are_a_block_and_a_lone_one_its_own():
    assert blocks([1.0, 3.0, 5.0, 7.0, 9.0]) == [2.0, 6.0, 9.0]
    assert blocks([]) == []


def test_a_ratio_is_the_median_over_blocks():
    # Blocks of the ratio: 2, 2, 8. Unpaired medians would say 4.5 / 1.5 = 3.
    own, other = [2.0, 4.0, 4.0, 8.0, 16.0, 8.0], [1.0, 2.0, 3.0, 3.0, 1.0, 2.0]
    assert math.exp(log_ratio(own, other)) == pytest.approx(2.0)


@given(st.lists(st.tuples(times, times), min_size=1, max_size=20), st.floats(0.01, 100.0))
def test_ratios_scale_with_the_contender_and_flip_with_the_sides(pairs, factor):
    own, other = [a for a, _ in pairs], [b for _, b in pairs]
    log = log_ratio(own, other)
    assert log_ratio([a * factor for a in own], other) == pytest.approx(
        log + math.log(factor), abs=1e-9
    )
    assert log_ratio(other, own) == pytest.approx(-log, abs=1e-9)


def test_no_pairs_no_ratio():
    assert log_ratio([], [1.0]) is None


# Rows


def test_ratios_are_not_moved_by_what_all_contenders_share():
    rows = by_name(summarise(run(measured({"eager": 1.0, "fused": 0.5, "twin": 1.0}))))
    assert rows["fused"].ratio.estimate == pytest.approx(0.5, rel=0.01)
    assert rows["fused"].verdict == "faster"
    assert rows["twin"].ratio.estimate == pytest.approx(1.0, rel=0.01)
    assert rows["twin"].verdict == "same"
    assert rows["fused"].ratio.coverage == pytest.approx(0.96875)
    raw = rows["eager"].latency
    assert raw.high / raw.low > 1.05, "raw times are spread by far more than ratios"


def test_the_baseline_has_no_verdict():
    row = by_name(summarise(run(measured({"eager": 1.0, "fused": 0.5}))))["eager"]
    assert row.verdict is None
    assert row.ratio.estimate == 1.0


def test_verdicts_flip_when_the_baseline_changes_sides():
    results = measured({"a": 1.0, "b": 0.8}, baseline="a")
    flipped = [replace(r, baseline="b") for r in results]
    assert by_name(summarise(run(results)))["b"].verdict == "faster"
    assert by_name(summarise(run(flipped)))["a"].verdict == "slower"


def test_latency_is_the_median_over_processes_of_medians():
    results = [result("eager", p, [1e-3 * (p + 1)] * 4) for p in range(6)]
    results[5] = result("eager", 5, [9.0, 6e-3, 6e-3, 6e-3])
    latency = summarise(run(results))[0].latency
    assert latency.estimate == pytest.approx(math.sqrt(3e-3 * 4e-3))
    assert (latency.low, latency.high) == (pytest.approx(1e-3), pytest.approx(6e-3))


@pytest.mark.parametrize("processes", [1, 4])
def test_a_quick_look_has_figures_but_no_interval_and_no_verdict(processes):
    results = measured({"eager": 1.0, "fused": 0.5}, processes=processes)
    row = by_name(summarise(run(results)))["fused"]
    assert row.ratio.estimate == pytest.approx(0.5, rel=0.02)
    assert not row.ratio.claimed
    assert row.verdict is None


def test_share_of_roof_is_the_copys_time_over_the_contenders():
    rows = by_name(summarise(run(measured({"eager": 2.0, "fused": 1.25, "roof:copy": 1.0}))))
    assert rows["eager"].roof_share.estimate == pytest.approx(0.5, rel=0.01)
    assert rows["fused"].roof_share.estimate == pytest.approx(0.8, rel=0.01)
    assert rows["roof:copy"].role == "roof"


def test_throughput_counts_items_a_second():
    row = summarise(run([result("eager", p, [2e-3] * 4) for p in range(6)]))[0]
    assert row.throughput == pytest.approx(1024 / 2e-3)
    assert row.flops == pytest.approx(2048 / 2e-3)


def test_other_units_than_seconds_have_no_throughput():
    row = summarise(run([result("eager", 0, [5000.0], unit="instructions")]))[0]
    assert row.latency.estimate == pytest.approx(5000.0)
    assert row.throughput is None
    assert row.flops is None


@pytest.mark.parametrize("status", ["wrong", "failed"])
def test_wrong_in_one_process_is_wrong_in_the_table(status):
    results = measured({"eager": 1.0, "liar": 0.1})
    index = next(i for i, r in enumerate(results) if r.contender == "liar" and r.process == 3)
    results[index] = replace(
        results[index], status=status, reason="not what was asked", stage="audit", samples=()
    )
    row = by_name(summarise(run(results)))["liar"]
    assert (row.status, row.reason, row.stage) == (status, "not what was asked", "audit")
    assert row.latency is None
    assert row.verdict is None


def test_quarantined_in_one_process_loses_that_process_only():
    results = measured({"eager": 1.0, "fused": 0.5}, processes=7)
    results = [
        replace(r, status="quarantined", samples=(), reason="clocks disagree")
        if r.contender == "fused" and r.process == 2
        else r
        for r in results
    ]
    row = by_name(summarise(run(results)))["fused"]
    assert (row.status, row.processes, row.attempted) == ("ok", 6, 7)
    assert row.verdict == "faster"


def test_without_a_baseline_there_is_a_time_and_no_ratio():
    results = [
        r if r.contender != "eager" else replace(r, status="failed", samples=(), reason="broken")
        for r in measured({"eager": 1.0, "fused": 0.5})
    ]
    rows = by_name(summarise(run(results)))
    assert rows["fused"].latency is not None
    assert rows["fused"].ratio is None
    assert rows["fused"].verdict is None


def test_the_largest_error_of_any_process_is_shown():
    results = measured({"eager": 1.0, "fused": 0.5})
    results[7] = replace(results[7], errors={"max": 0.25, "rms": 0.1})
    row = by_name(summarise(run(results)))[results[7].contender]
    assert row.errors["max"] == 0.25


def test_the_baselines_error_beside_it_is_of_the_same_dtype():
    results = measured({"eager": 1.0, "fused": 0.5})
    results = [
        replace(r, errors={"max": 1e-5})
        if r.contender == "eager"
        else replace(r, errors={"max": 3e-3, "baseline_max": 3e-3, "baseline_rms": 1e-3})
        for r in results
    ]
    rows = by_name(summarise(run(results)))
    assert rows["fused"].baseline_errors == {"max": 3e-3, "rms": 1e-3}
    assert rows["eager"].errors == {"max": 1e-5}


def test_notes_of_most_processes_are_the_rows_notes():
    results = [
        result("eager", p, [1e-3] * 2, notes=("page faults",) + (("odd",) if p == 0 else ()))
        for p in range(6)
    ]
    assert summarise(run(results))[0].notes == ("page faults",)


def test_cases_are_kept_apart():
    results = [
        *measured({"eager": 1.0, "fused": 0.5}, params={"n": 1}),
        *measured({"eager": 1.0, "fused": 2.0}, params={"n": 2}),
    ]
    verdicts = [row.verdict for row in summarise(run(results)) if row.contender == "fused"]
    assert verdicts == ["faster", "slower"]


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_order_and_scale_with_the_clock(factor, rng):
    results = measured({"eager": 1.0, "fused": 0.9, "roof:copy": 0.5}, passes=4)
    scaled = [replace(r, samples=tuple(s * factor for s in r.samples)) for r in results]
    rng.shuffle(scaled)
    before, after = by_name(summarise(run(results))), by_name(summarise(run(scaled)))
    for name, row in before.items():
        assert after[name].latency.estimate == pytest.approx(row.latency.estimate * factor)
        assert after[name].ratio.low == pytest.approx(row.ratio.low)
        assert after[name].roof_share.high == pytest.approx(row.roof_share.high)
        assert after[name].verdict == row.verdict


def test_identical_code_is_not_called_different():
    """200 simulated runs of the same code under process placement and drift: no false verdict."""
    wrong = 0
    for seed in range(200):
        results = measured({"eager": 1.0, "twin": 1.0}, processes=9, passes=4, seed=seed)
        wrong += by_name(summarise(run(results)))["twin"].verdict in ("faster", "slower")
    assert wrong == 0


def test_a_true_difference_of_five_percent_is_found():
    found = 0
    for seed in range(100):
        results = measured({"eager": 1.0, "slow": 1.05}, processes=9, passes=4, seed=seed)
        found += by_name(summarise(run(results)))["slow"].verdict == "slower"
    assert found >= 95


def test_the_time_of_a_row_is_robust_to_one_bad_process():
    results = measured({"eager": 1.0, "fused": 0.5}, processes=9)
    bad = [
        replace(r, samples=tuple(s * 3 for s in r.samples))
        if r.contender == "fused" and r.process == 4
        else r
        for r in results
    ]
    assert by_name(summarise(run(bad)))["fused"].ratio.estimate == pytest.approx(0.5, rel=0.01)
