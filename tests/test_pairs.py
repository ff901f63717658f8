"""Claims about a comparison, and what a callable's copy in float64 is."""

from __future__ import annotations

import functools
import importlib
import math
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

import benchbench as bb
from benchbench import pairs
from benchbench.errors import UsageError
from benchbench.pair_plugin import bind, copied, in_double
from benchbench.pairs import Inconclusive, Rules, Time, Verdict, VerdictError
from benchbench.stats import interval
from benchbench.verdict import decide


def verdict(low: float, high: float, margin: float = 0.02) -> Verdict:
    time = Time(name="new", estimate=1e-5, low=1e-5, high=1e-5)
    return Verdict(
        candidate="new",
        baseline="old",
        word=decide(low, high, margin),
        ratio=(low * high) ** 0.5,
        interval=(low, high),
        margin=margin,
        times=(time,),
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


ratios = st.floats(0.3, 3.0)


@given(ratios, ratios, st.floats(0.0, 0.5))
def test_claims_agree_with_the_three_way_verdict(one: float, other: float, margin: float) -> None:
    low, high = sorted((one, other))
    found = verdict(low, high, margin)
    same, slower, faster = (
        outcome(found.assert_same),
        outcome(found.assert_not_slower),
        outcome(found.assert_faster),
    )
    assert (same == "holds") == (found.word == "same")
    assert (slower == "fails") == (found.word == "slower")
    assert (same == "fails") == (found.word in ("faster", "slower"))
    if found.word == "faster":
        assert slower == "holds"
    if faster == "holds":
        assert found.word == "faster" or high == 1 / (1 + margin)
    if found.word == "same":
        assert (slower == "holds" and faster != "holds") or low == high == 1 / (1 + margin)


@pytest.mark.parametrize(
    ("low", "high", "by", "expected"),
    [
        (0.4, 0.5, 2.0, "holds"),
        (0.4, 0.51, 2.0, "inconclusive"),
        (0.51, 0.6, 2.0, "fails"),
        (1.2, 1.3, 1.0, "fails"),
    ],
)
def test_faster_by_a_factor(low: float, high: float, by: float, expected: str) -> None:
    assert outcome(lambda: verdict(low, high).assert_faster(by=by)) == expected


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"by=0\.8.*at least 1"):
        verdict(0.9, 1.0).assert_faster(by=0.8)


def test_without_times_every_claim_holds() -> None:
    found = Verdict(candidate="new", baseline="old")
    assert outcome(found.assert_same) == outcome(found.assert_not_slower) == "holds"
    assert outcome(lambda: found.assert_faster(by=9)) == "holds"
    assert str(found) == "new against old: results agree, not timed"


def test_counts_are_not_called_times() -> None:
    counted = Time(name="new", estimate=1e4, low=1e4, high=1e4, unit="instructions")
    found = replace(verdict(1.2, 1.3), times=(counted,))
    assert "times the instructions of old" in str(found)
    assert "times the time of old" in str(verdict(1.2, 1.3))


def test_looks_go_up_to_the_most() -> None:
    assert Rules().looks == (9, 16, 24)
    assert Rules(processes=5).looks == (5, 9, 16, 24)
    assert Rules(processes=5, most=12).looks == (5, 9, 12)
    assert Rules(processes=30).looks == (30,)
    assert Rules.of({"processes": "7", "margin": "0.1", "device": "cuda"}) == Rules(
        processes=7, margin=0.1, device="cuda"
    )


def test_looks_together_keep_the_error_of_one() -> None:
    """On simulated processes whose true ratio is the margin itself: every word is an error."""
    rules, random, errors = Rules(), Random(5), 0
    for _ in range(300):
        logs = [math.log(1.02) + random.gauss(0, 0.01) for _ in range(rules.looks[-1])]
        for look in rules.looks:
            found = interval(logs[:look], rules.level).map(math.exp)
            if decide(found.low, found.high, 0.02) != "inconclusive":
                assert found.coverage >= rules.level
                errors += 1
                break
    assert Rules(processes=9, most=9).level == 0.95 and rules.level > 0.98
    # 5 % would be 15; three looks at 95 % each make about 30.
    assert errors <= 18


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"margn": 1}, "'margin'"),
        ({"budget": "much"}, "give float"),
        ({"processes": 2}, "interval"),
    ],
)
def test_rules_that_are_none(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Rules.of(given)


def double(x: float) -> float:
    return 2 * x


def wrong(x: float) -> float:
    return 3 * x


def one(seed: int) -> float:
    return 1.0 + seed


def test_compare_without_pytest(tmp_path: Path) -> None:
    found = pairs.compare(double, double, inputs=one, timed=False, store=tmp_path, name="twins")
    assert not found.timed and found.path.is_file() and found.path.parent == tmp_path / "runs"
    with pytest.raises(pairs.WrongResult, match="wrong is wrong"):
        pairs.compare(wrong, double, inputs=one, timed=False, store=tmp_path)


MOODY = """
from pathlib import Path

# Every other process that imports this is slow.
COUNT = len(list(Path(__file__).parent.glob("*.seen")))
Path(__file__).with_name(f"{COUNT}.seen").touch()
SLOW = COUNT % 2

def steady(n):
    return sum(range(n))

def moody(n):
    for _ in range(2 * SLOW):
        sum(range(n))
    return sum(range(n))

def make(seed):
    return 1000
"""


def test_an_undecided_comparison_gets_more_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "moody_module.py").write_text(MOODY)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("moody_module")
    rules = Rules(processes=5, most=6, margin=0.4, budget=0.01, warmup=0.01, threads=1)
    found = pairs.compare(
        module.moody, module.steady, inputs=module.make, rules=rules, store=tmp_path
    )
    assert found.word == "inconclusive" and found.processes == 6
    assert found.interval[0] < 1.4 < found.interval[1]
    with pytest.raises(Inconclusive, match="6 processes do not tell whether moody is no slower"):
        found.assert_not_slower()


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
