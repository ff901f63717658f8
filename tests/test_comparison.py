from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from synthetic import MACHINE, measured, run

from benchbench.comparison import compare, different_machines, shift_interval

lists = st.lists(st.floats(-10, 10), min_size=1, max_size=12)


def changes(old, new):
    return {c.contender: c for c in compare(run(old), run(new, identity="20250103-000000-ffff"))}


def test_a_slower_machine_is_not_a_slower_contender():
    old = measured({"eager": 1.0, "fused": 0.5}, seed=1)
    new = measured({"eager": 1.0, "fused": 0.5}, base=14e-6, seed=2)
    found = changes(old, new)
    assert found["fused"].verdict == "same"
    assert found["fused"].change.estimate == pytest.approx(1.0, rel=0.01)
    assert found["eager"].change.estimate == pytest.approx(1.4, rel=0.2)
    assert found["eager"].verdict is None, "raw times of two runs decide nothing"


@pytest.mark.parametrize(("factor", "verdict"), [(1.1, "slower"), (0.9, "faster")])
def test_a_changed_contender_is_seen(factor, verdict):
    old = measured({"eager": 1.0, "fused": 0.5}, seed=1)
    new = measured({"eager": 1.0, "fused": 0.5 * factor}, base=14e-6, seed=2)
    change = changes(old, new)["fused"]
    assert change.verdict == verdict
    assert change.change.estimate == pytest.approx(factor, rel=0.01)
    assert verdict in change.text()


def test_another_baseline_leaves_only_times():
    old = measured({"a": 1.0, "b": 0.5}, baseline="a", seed=1)
    new = [replace(r, baseline="b") for r in measured({"a": 1.0, "b": 0.5}, seed=2)]
    assert not any(c.relative or c.verdict for c in changes(old, new).values())


def test_few_processes_give_no_interval():
    old = measured({"eager": 1.0, "fused": 0.5}, processes=3)
    change = changes(old, old)["fused"]
    assert change.verdict is None
    assert "too few processes" in change.text()


def test_what_only_one_run_has_is_left_out():
    old = measured({"eager": 1.0, "fused": 0.5})
    new = measured({"eager": 1.0, "other": 0.5})
    assert list(changes(old, new)) == ["eager"]


def test_a_contender_that_turned_wrong_is_left_out():
    old = measured({"eager": 1.0, "fused": 0.5})
    new = [
        replace(r, status="wrong", samples=(), reason="no") if r.contender == "fused" else r
        for r in old
    ]
    assert list(changes(old, new)) == ["eager"]


def test_rank_sum_interval_inverts_scipys_test():
    from scipy.stats import mannwhitneyu

    rng = random.Random(3)
    for m, n in ((5, 5), (6, 6), (6, 9), (12, 7)):
        one = [rng.gauss(0, 1) for _ in range(m)]
        other = [rng.gauss(0.5, 1) for _ in range(n)]
        found = shift_interval(one, other)
        assert found.coverage >= 0.95
        for point, inside in (
            (found.low + 1e-9, True),
            (found.high - 1e-9, True),
            (found.low - 1e-9, False),
            (found.high + 1e-9, False),
        ):
            p = mannwhitneyu([v - point for v in other], one, method="exact").pvalue
            assert (p > 1 - found.coverage + 1e-9) == inside


def test_coverage_is_what_is_said():
    rng = random.Random(9)
    trials, covered, said = 1500, 0, 0.0
    for _ in range(trials):
        found = shift_interval(
            [rng.gauss(0, 1) for _ in range(6)], [rng.gauss(0, 1) for _ in range(6)]
        )
        covered += found.low <= 0 <= found.high
        said = found.coverage
    assert abs(covered / trials - said) < 4 * math.sqrt(said * (1 - said) / trials)


@given(lists, lists)
def test_swapping_sides_mirrors_the_shift(one, other):
    there, back = shift_interval(one, other), shift_interval(other, one)
    assert back.estimate == pytest.approx(-there.estimate)
    assert back.low == pytest.approx(-there.high)


def test_machines_that_differ_are_named():
    old = measured({"eager": 1.0})
    one, same = run(old), run(old, identity="b")
    other = run(old, environment={**MACHINE, "cpu": "Another CPU"})
    assert different_machines(one, same) == []
    assert different_machines(one, other) == ["cpu: Example CPU against Another CPU"]
