"""Verdicts on a family of cases over several looks."""

import math
import random

import pytest
from hypothesis import given, strategies as st
from scipy import stats as scipy_stats

from benchbench.sequential import (
    RANKED,
    Design,
    Ranks,
    Signs,
    decide,
    evenly_rising,
    holm,
    least_p,
    sign_p,
    signed_rank_p,
)  # fmt: skip

DESIGN = Design()
values = st.lists(st.floats(-1, 1), min_size=1, max_size=30)


@given(values, st.floats(-1, 1))
def test_the_sign_test_is_the_binomial_one(sample, bound):
    above = sum(value > bound for value in sample)
    expected = scipy_stats.binomtest(above, len(sample), alternative="greater").pvalue
    assert sign_p(sample, bound) == pytest.approx(expected)


@given(st.sets(st.integers(-1000, 1000).filter(bool), min_size=1, max_size=40), st.floats(-1, 1))
def test_signed_ranks_are_those_of_wilcoxon(numbers, bound):
    numbers = sorted({abs(n): n for n in numbers}.values())  # no ties: those are ours to rank
    sample = [n + bound for n in numbers]
    expected = scipy_stats.wilcoxon(numbers, alternative="greater", method="exact").pvalue
    assert signed_rank_p(sample, bound) == pytest.approx(expected)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_ties_of_signed_ranks_never_help_to_reject(sample):
    apart = [n + 1e-6 * (i + 1) * (1 if n > 0 else -1) for i, n in enumerate(sample)]
    assert signed_rank_p(sample, 0) >= signed_rank_p(apart, 0) - 1e-12


@given(st.lists(st.floats(-1, 1), min_size=RANKED, max_size=30), st.floats(-1, 1))
def test_ranks_reject_only_where_the_interval_does(sample, bound):
    known = Signs(sample)
    alone = Signs(sample, ranked=False)
    assert alone.above(bound) == sign_p(sample, bound)
    if not known.interval().low > bound:
        assert known.above(bound) >= alone.above(bound)
    assert Signs([-v for v in sample]).below(-bound) == known.above(bound)


def test_ranks_see_what_falls_short_by_a_hair_and_signs_what_was_ruined():
    short = [0.01 + 0.001 * i for i in range(21)] + [-0.0001, -0.0002, -0.0003]
    ruined = [0.01 + 0.001 * i for i in range(22)] + [-0.4, -0.5]
    for sample in (short, ruined):
        assert Signs(sample).above(0.0) < 5e-5
    assert sign_p(short, 0.0) > 1e-4 and signed_rank_p(ruined, 0.0) > 1e-4


def test_both_tests_together_keep_the_level():
    rng = random.Random(5)
    p = [Signs([rng.gauss(0, 1) for _ in range(24)]).above(0.0) for _ in range(4000)]
    for level in (0.01, 0.05, 0.1):
        hits = sum(value <= level for value in p)
        assert scipy_stats.binomtest(hits, len(p), level, alternative="greater").pvalue > 1e-3


def test_holm_of_a_textbook_example():
    # Sorted p times 4, 3, 2, 1, made monotone.
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, 4)
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


@given(st.dictionaries(st.integers(), st.floats(0, 1), min_size=1), st.integers(0, 50))
def test_holm_is_monotone_and_never_below_p(p_values, family):
    adjusted = holm(p_values, family)
    ordered = [adjusted[key] for key in sorted(p_values, key=p_values.__getitem__)]
    assert ordered == sorted(ordered)
    assert all(p_values[key] <= adjusted[key] <= 1 for key in p_values)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"looks": ()}, "looks"),
        ({"looks": (9, 9, 16)}, "looks"),
        ({"looks": (9,)}, "spending"),
        ({"alpha": 0.0}, "alpha"),
        ({"beta": 0.6}, "beta"),
        ({"margin": 0.0}, "margin"),
        ({"spending": (0.5, 0.5, 0.5)}, "spending"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        Design(**wrong)


@given(st.integers(1, 9))
def test_shares_of_the_error_sum_to_one(looks):
    shares = evenly_rising(looks)
    assert math.isclose(sum(shares), 1) and list(shares) == sorted(shares)


def draw(effect, sd, count, rng):
    """Log-ratios of ``count`` processes."""
    return [math.log1p(effect) + rng.gauss(0, sd) for _ in range(count)]


def run(samples):
    """Decisions after all looks."""
    decisions = {}
    for look, upto in enumerate(DESIGN.looks):
        seen = {key: logs[:upto] for key, logs in samples.items()}
        decisions = decide(seen, DESIGN, look, decisions)
    return decisions


@given(st.integers(0, 2**32), st.floats(-0.1, 0.1))
def test_swapping_the_sides_swaps_the_verdict(seed, effect):
    rng = random.Random(seed)
    samples = {"a": draw(effect, 0.01, 24, rng), "b": draw(0, 0.01, 24, rng)}
    swapped = {key: [-x for x in logs] for key, logs in samples.items()}
    opposite = {"slower": "faster", "faster": "slower", "same": "same", "undecided": "undecided"}
    ours, theirs = run(samples), run(swapped)
    assert {key: opposite[d.word] for key, d in ours.items()} == {
        key: d.word for key, d in theirs.items()
    }


def test_what_was_decided_stays_and_lost_processes_are_no_evidence():
    sure = decide({"a": [0.001] * 9, "b": [0.0] * 3}, DESIGN, 0)
    assert sure["a"].word == "same" and sure["a"].not_slower and sure["a"].processes == 9
    assert sure["b"].word == "undecided" and not sure["b"].not_slower
    later = decide({"a": [0.2] * 16, "b": [0.0] * 3}, DESIGN, 1, sure)
    assert later["a"] == sure["a"] and later["b"].word == "undecided"


def test_a_large_family_needs_more_processes():
    logs = [0.05] * 9
    assert decide({"a": logs}, DESIGN, 0)["a"].word == "slower"
    assert decide({"a": logs}, DESIGN, 0, family=100)["a"].word == "undecided"
    assert decide({"a": [0.05] * 16}, DESIGN, 1, family=100)["a"].word == "slower"


def test_faster_or_the_same_is_not_slower_though_undecided():
    decision = decide({"a": [-0.019, -0.03] * 4 + [-0.02]}, DESIGN, 0)["a"]
    assert decision.word == "undecided" and decision.not_slower


# Sides that were measured in different processes.


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12, unique=True), st.floats(-0.5, 0.5))
def test_ranks_are_antisymmetric_and_have_the_floor_of_their_counts(sample, bound):
    one, other = sample, [value + 5.0 for value in sample]
    ranks, turned = Ranks(one, other), Ranks(other, one)
    assert ranks.above(bound) == pytest.approx(least_p(len(one), len(other)))
    assert ranks.above(bound) == pytest.approx(turned.below(-bound))
    assert ranks.interval().estimate == pytest.approx(5.0, abs=2.0)


def test_ranks_decide_like_signs_do_by_margin_and_family():
    rng = random.Random(3)
    then = [rng.gauss(0, 0.005) for _ in range(9)]
    logs = {shift: [rng.gauss(shift, 0.005) for _ in range(9)] for shift in (0.0, 0.1, -0.1)}
    design = Design(looks=(9,), spending=(1.0,), margin=0.05)
    found = decide({shift: Ranks(then, now) for shift, now in logs.items()}, design, 0)
    assert [found[shift].word for shift in (0.0, 0.1, -0.1)] == ["same", "slower", "faster"]
    few = decide({0: Ranks(then[:3], logs[0.1])}, design, 0, family=100)
    assert few[0].word == "undecided"
