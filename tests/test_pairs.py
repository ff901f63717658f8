"""Claims about a comparison, and what a callable's copy in float64 is."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scripted_times import ScriptedTimes, Times

import benchbench as bb
from benchbench import pairs, store
from benchbench.claims import Claim, standing
from benchbench.errors import UsageError
from benchbench.gate.report import Control
from benchbench.pair_plugin import bind, copied, in_double
from benchbench.pairs import Inconclusive, Rules, Time, Verdict, VerdictError


def verdict(ratios: Sequence[float], **rules: object) -> Verdict:
    """Of one ratio for each process; one look unless the rules say otherwise."""
    given = {"processes": len(ratios), "most": len(ratios), **rules}
    return Verdict(
        candidate="new",
        baseline="old",
        rules=Rules.of(given),
        logs={process: math.log(ratio) for process, ratio in enumerate(ratios)},
        attempted=len(ratios),
        times=(Time(name="new", estimate=1e-5, low=1e-5, high=1e-5),),
    )


def outcome(claim: object) -> str:
    assert callable(claim)
    try:
        claim()
    except Inconclusive:
        return "inconclusive"
    except VerdictError:
        return "fails"
    return "holds"


ratios = st.integers(800, 1250).map(lambda thousandths: thousandths / 1000 + 3e-5)


@given(st.sampled_from((9, 16, 24)).flatmap(lambda n: st.lists(ratios, min_size=n, max_size=n)))
def test_claims_agree_with_the_word_of_a_gate(values: list[float]) -> None:
    found = verdict(values, processes=9, most=24)
    same, slower, faster = (
        outcome(found.assert_same),
        outcome(found.assert_not_slower),
        outcome(found.assert_faster),
    )
    assert (same == "holds") == (found.word == "same")
    assert (slower == "fails") == (found.word == "slower")
    assert (same == "fails") == (found.word in ("faster", "slower"))
    assert (faster == "holds") == (found.word == "faster")
    assert (slower == "holds") == (found.word in ("faster", "same", "not slower"))


@given(st.lists(ratios, min_size=7, max_size=30), st.integers(800, 1250))
def test_a_claim_holds_when_the_whole_interval_lies_within_it(
    values: list[float], thousandths: int
) -> None:
    found = verdict(values)
    claim = Claim(text="", most=thousandths / 1000)
    low, high = found.interval
    assert low <= found.ratio <= high and found.coverage >= 0.98
    assert (found.standing(claim) == "holds") == (high < claim.most)
    assert (found.standing(claim) == "fails") == (low > claim.most)


@pytest.mark.parametrize(
    ("low", "high", "by", "expected"),
    [
        (0.4, 0.49, 2.0, "holds"),
        (0.4, 0.51, 2.0, "inconclusive"),
        (0.51, 0.6, 2.0, "fails"),
        (1.2, 1.3, 1.0, "fails"),
    ],
)
def test_faster_by_a_factor(low: float, high: float, by: float, expected: str) -> None:
    values = [low, *[(low + high) / 2] * 7, high]
    assert outcome(lambda: verdict(values).assert_faster(by=by)) == expected


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"by=0\.8.*at least 1"):
        verdict([0.9] * 9).assert_faster(by=0.8)


def test_without_times_every_claim_holds() -> None:
    found = Verdict(candidate="new", baseline="old")
    assert outcome(found.assert_same) == outcome(found.assert_not_slower) == "holds"
    assert outcome(lambda: found.assert_faster(by=9)) == "holds"
    assert str(found) == "new against old: results agree, not timed" and found.word is None


def test_counts_are_not_called_times() -> None:
    counted = Time(name="new", estimate=1e4, low=1e4, high=1e4, unit="instructions")
    found = replace(verdict([1.25] * 9), times=(counted,))
    assert "times the instructions of old" in str(found)
    assert "times the time of old" in str(verdict([1.25] * 9))


def test_looks_go_up_to_the_most() -> None:
    assert Rules().looks == (9, 16, 24)
    assert Rules(processes=5).looks == (5, 9, 16, 24)
    assert Rules(processes=7, most=12).looks == (7, 9, 12)
    assert Rules(processes=30).looks == (30,)
    assert Rules.of({"processes": "7", "margin": "0.1", "device": "cuda"}) == Rules(
        processes=7, margin=0.1, device="cuda"
    )


@pytest.mark.parametrize("looks", [(9, 24), (9, 48), (12, 24), (9, 16), (5, 24), (16, 64)])
def test_each_design_spends_its_error_and_can_decide_at_its_first_look(
    looks: tuple[int, int],
) -> None:
    rules = Rules(processes=looks[0], most=looks[1])
    design = rules.design
    assert sum(design.spending) == pytest.approx(1.0)
    if looks[0] >= 9:
        clear = Claim(text="", most=0.9)
        logs = dict.fromkeys(range(looks[0]), math.log(0.8))
        assert standing(clear, logs, looks[0], rules) == "holds"


def test_looks_together_keep_the_error() -> None:
    """On simulated processes whose true ratio is the bound itself: every answer is an error."""
    rules, random = Rules(alpha=0.05, beta=0.05), Random(5)
    claim = Claim(text="", most=1.02)
    counts = {"holds": 0, "fails": 0, "open": 0}
    for _ in range(1000):
        logs = {p: math.log(1.02) + random.gauss(0, 0.01) for p in range(rules.looks[-1])}
        counts[standing(claim, logs, rules.looks[-1], rules)] += 1
    # Either error would be 50 at the most; three looks at 5 % each would make about 100.
    assert 10 < counts["holds"] <= 60 and 10 < counts["fails"] <= 60


def test_a_session_keeps_the_error_of_failing() -> None:
    """Every comparison of a session lies on its bound, so every claim that fails is an error."""
    size, random, wrong = 20, Random(7), 0
    rules = Rules(alpha=0.1, family=size)
    claim = Claim(text="", most=1.02)
    for _ in range(200):
        session = (
            {p: math.log(1.02) + random.gauss(0, 0.01) for p in range(24)} for _ in range(size)
        )
        wrong += any(standing(claim, logs, 24, rules) == "fails" for logs in session)
    # 20 at the most; without sharing about 170.
    assert 2 <= wrong <= 30


def test_a_family_shares_the_error_of_failing_and_not_that_of_holding() -> None:
    slow, fast = [1.25] * 9, [0.8] * 9
    for family, expected in ((1, "fails"), (100, "inconclusive")):
        rules = {"processes": 9, "most": 24, "family": family}
        assert outcome(verdict(slow, **rules).assert_not_slower) == expected
        assert outcome(verdict(fast, **rules).assert_not_slower) == "holds"
        assert outcome(verdict([1.25] * 16, **rules).assert_not_slower) == "fails"
    with pytest.raises(Inconclusive, match=r"Among 100 comparisons .* take most=14"):
        verdict(slow, family=100).assert_not_slower()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"margn": 1}, "'margin'"),
        ({"budget": "much"}, "give float"),
        ({"processes": 2, "most": 6}, "can decide nothing.* most=8 or more"),
        ({"margin": 0}, "margin must be above 0"),
        ({"controls": "sesion"}, "'session'"),
        ({"family": -1}, "family=-1"),
        ({"processes": 0}, "looks"),
        ({"alpha": 0.7}, "alpha"),
    ],
)
def test_rules_that_are_none(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Rules.of(given)


def test_a_control_that_comes_out_wrong_leaves_every_claim_open() -> None:
    wrong = Control(name="old: a copy against itself", case="c", ratio=None, ok=False, text="+9 %")
    found = replace(verdict([0.8] * 9), controls=(wrong,))
    assert found.word == "inconclusive" and found.lost
    for claim in (found.assert_not_slower, found.assert_same, found.assert_faster):
        assert outcome(claim) == "inconclusive"
    with pytest.raises(Inconclusive, match=r"(?s)a control did not .*WRONG: old: a copy.*\+9 %"):
        found.assert_not_slower()
    assert "a control did not come out" in found.line


def double(x: float) -> float:
    return 2 * x


def twice(x: float) -> float:
    return x + x


def wrong(x: float) -> float:
    return 3 * x


def one(seed: int) -> float:
    return 1.0 + seed


def test_compare_without_pytest(tmp_path: Path) -> None:
    found = pairs.compare(double, double, inputs=one, timed=False, store=tmp_path, name="twins")
    assert not found.timed and found.path.is_file() and found.path.parent == tmp_path / "runs"
    with pytest.raises(pairs.WrongResult, match="wrong is wrong"):
        pairs.compare(wrong, double, inputs=one, timed=False, store=tmp_path)


def scripted(directory: Path, times: Times, **rules: object) -> tuple[Verdict, ScriptedTimes]:
    engine = ScriptedTimes(times)
    given = Rules.of({"processes": 9, "most": 24, **rules})
    found = pairs.compare(double, wrong, inputs=one, rules=given, store=directory, engine=engine)
    return found, engine


def usual(candidate: float) -> Times:
    """Sound controls, a baseline of 1 ms, and a little noise that is the same every time."""

    def times(role: str, process: int) -> float:
        random = Random(f"{role}{process}")
        factor = {"candidate": candidate, "slowed": 1.05}.get(role, 1.0)
        return 1e-3 * factor * math.exp(random.gauss(0, 0.002))

    return times


def test_a_claim_takes_as_many_looks_as_it_needs(tmp_path: Path) -> None:
    def moody(role: str, process: int) -> float:
        slow = 1.3 if role == "candidate" and process < 2 else 1.0
        return slow * usual(0.9)(role, process)

    found, engine = scripted(tmp_path, moody)
    assert engine.processes == list(range(9)) and found.processes == 9
    assert found.word == "inconclusive"
    found.assert_not_slower()  # two of nine are not: that needs a second look
    assert engine.processes == list(range(16))
    found.assert_faster()
    with pytest.raises(VerdictError, match=r"(?s)at most 0\.8333.* 9 processes"):
        found.assert_faster(by=1.2)
    assert engine.processes == list(range(16)), "what is known is not measured again"
    assert outcome(lambda: found.assert_faster(by=1 / 0.9)) == "inconclusive"
    assert engine.processes == list(range(24))
    assert found.decided().processes == 24
    run = store.read(found.path)
    assert run.complete and {r.process for r in run.results} == set(range(24))


def test_a_word_can_be_had_without_a_claim(tmp_path: Path) -> None:
    found, engine = scripted(tmp_path, usual(1.0))
    assert found.word == "same" and found.decided().processes == 9
    found, engine = scripted(tmp_path, usual(1.02))
    assert found.decided().word == "inconclusive" and engine.processes == list(range(24))


def test_controls_ride_with_a_comparison_and_do_not_take_of_its_budget(tmp_path: Path) -> None:
    found, engine = scripted(tmp_path, usual(1.1), budget=0.5)
    assert [control.ok for control in found.controls] == [True, True] and not found.pending
    assert set(engine.budgets) == {1.0}
    assert found.word == "slower"
    names = {result.contender for result in store.read(found.path).results}
    assert names == {"double", "wrong", "wrong@null", "wrong@slowed"}
    bare, engine = scripted(tmp_path, usual(1.1), budget=0.5, controls="none")
    assert bare.controls == () and set(engine.budgets) == {0.5}
    assert bare.logs == found.logs


@pytest.mark.parametrize(
    ("role", "factor", "processes"),
    [("null", 1.1, 9), ("slowed", 1.0, 9), ("slowed", 1.02, 24), ("null", 0.0, 9)],
)
def test_a_control_that_is_off_makes_the_comparison_inconclusive(
    tmp_path: Path, role: str, factor: float, processes: int
) -> None:
    def times(asked: str, process: int) -> float:
        if asked == role:
            return factor * usual(1.0)("", process)
        return usual(1.1)(asked, process)

    found, engine = scripted(tmp_path, times)
    with pytest.raises(Inconclusive, match="this machine cannot tell now whether double is no"):
        found.assert_not_slower()
    assert engine.processes == list(range(processes))
    assert found.decided().word == "inconclusive"


def test_a_control_that_needs_more_processes_gets_them(tmp_path: Path) -> None:
    def times(role: str, process: int) -> float:
        hasty = role == "slowed" and process == 3
        return usual(1.1)("baseline" if hasty else role, process)

    found, engine = scripted(tmp_path, times)
    assert found.pending and not found.lost
    assert outcome(found.assert_not_slower) == "fails"
    assert engine.processes == list(range(16))


def test_processes_that_measured_nothing_are_missing_and_not_invented(tmp_path: Path) -> None:
    def times(role: str, process: int) -> float:
        return 0.0 if role == "candidate" and process == 4 else usual(0.8)(role, process)

    found, engine = scripted(tmp_path, times)
    assert found.processes == 8 and 4 not in found.logs
    found.assert_not_slower()
    assert engine.processes == list(range(16))


def test_functions_of_torch_are_called_what_users_call_them(tmp_path: Path) -> None:
    engine = ScriptedTimes(usual(1.0))
    found = pairs.compare(torch.tanh, torch.sigmoid, inputs=one, store=tmp_path, engine=engine)
    assert (found.candidate, found.baseline) == ("tanh", "sigmoid")


class Counting:
    """Says how many copies of it were called before."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: float) -> float:
        self.calls += 1
        return x


def test_what_is_timed_is_a_copy_for_each() -> None:
    from benchbench.pair_plugin import build

    original = Counting()
    first, second = (build(original, 1.0) for _ in range(2))
    assert first() == second() == 1.0 and first() == 1.0
    assert original.calls == 0


@pytest.mark.parametrize("controls", ["each", "none"])
def test_real_workers_measure_the_pair_and_its_controls(tmp_path: Path, controls: str) -> None:
    rules = Rules(
        processes=2, most=8, margin=0.9, budget=0.02, warmup=0.02, threads=1, controls=controls
    )
    found = pairs.compare(double, twice, inputs=one, rules=rules, store=tmp_path)
    assert found.processes == 2 and found.timed and 0.2 < found.ratio < 5
    assert len(found.controls) == (2 if controls == "each" else 0)
    names = {r.contender for r in store.read(found.path).results if r.status == "ok" and r.samples}
    assert names == {"double", "twice"} | (
        {"twice@null", "twice@slowed"} if controls == "each" else set()
    )


class Point(NamedTuple):
    x: object
    name: str


@dataclass(frozen=True)
class Holder:
    weight: object


def test_float64_reaches_everything_that_holds_numbers() -> None:
    x = torch.ones(3, requires_grad=True)
    value = {
        "tuple": (x, np.ones(2, np.float32), 1),
        "point": Point(torch.ones(2, dtype=torch.complex64), "p"),
        "list": [torch.ones(2, dtype=torch.bfloat16), torch.arange(3)],
        "holder": Holder(torch.ones(1)),
        "dtype": torch.float32,
        "inputs": bb.Inputs({"x": torch.ones(2)}),
    }
    new = in_double(value)
    assert new["tuple"][0].dtype == torch.float64 and new["tuple"][0].requires_grad
    assert new["tuple"][1].dtype == np.float64 and new["tuple"][2] == 1
    assert new["point"].x.dtype == torch.complex128 and new["point"].name == "p"
    assert [t.dtype for t in new["list"]] == [torch.float64, torch.int64]
    assert new["holder"].weight.dtype == torch.float64
    assert new["dtype"] == torch.float64 and new["inputs"].x.dtype == torch.float64
    assert x.dtype == torch.float32 and value["list"][1] is not new["list"][1]
    same = copied(value)
    assert same["tuple"][0].dtype == torch.float32 and same["tuple"][0] is not x


def test_float64_reaches_modules_methods_and_bound_arguments() -> None:
    layer = torch.nn.Linear(2, 2)
    x = torch.ones(1, 2, dtype=torch.float64)
    scaled = functools.partial(torch.mul, torch.full((2,), 3.0))
    for function in (layer, layer.forward, scaled):
        assert in_double(function)(x).dtype == torch.float64
    assert layer.weight.dtype == torch.float32
    lock = (threading.Lock(),)
    assert copied(lock) == lock


def test_how_inputs_become_arguments() -> None:
    def show(*arguments: object, **keywords: object) -> tuple[object, object]:
        return arguments, keywords

    assert bind(show, (1, 2))() == ((1, 2), {})
    assert bind(show, {"a": 1})() == ((), {"a": 1})
    assert bind(show, [1, 2])() == (([1, 2],), {})
    assert bind(show, bb.Inputs({"a": 1, "b": 2}, arguments=["b"]))() == ((2,), {})
