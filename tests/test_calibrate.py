"""The harness measuring itself: pairs whose truth is known, and what the card says of them."""

import json
import math
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from scipy import stats as scipy_stats

from benchbench.calibrate.card import FORMATS, Card, at_most, make_lines, reproducibility
from benchbench.calibrate.design import SHIFTS, CopyPair, Effort, arranged, chosen, pairs_of_round
from benchbench.calibrate.load import neighbours
from benchbench.calibrate.measure import Observed, Round
from benchbench.contract import Case, PlannedCase
from benchbench.resources import allowed_cpus
from benchbench.sequential import Design, decide

CASES = [
    PlannedCase(
        case=Case(workload=f"k/{name}", params={"n": n}), baseline="eager", contenders=("eager",)
    )
    for name in "ab"
    for n in (1, 2)
]
IDS = [item.case.id for item in CASES]


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 5))
def test_rounds_share_out_the_pairs(nulls, slowed, rounds):
    effort = Effort(nulls=nulls, slowed=slowed, rounds=rounds)
    total = [
        pair
        for number in range(effort.rounds_for(len(CASES)))
        for pair in pairs_of_round(CASES, effort, number)
    ]
    shifts = [pair.shift for pair in total]
    assert shifts.count(0.0) == nulls
    assert all(shifts.count(shift) == slowed for shift in SHIFTS)


def test_copies_of_one_workload_have_names_of_their_own_in_a_round():
    pairs = pairs_of_round(CASES, Effort(nulls=40, slowed=10), 0)
    workload = {item.case.id: item.case.workload for item in CASES}
    names = [(workload[pair.case], pair.suffixes) for pair in pairs]
    assert len(set(names)) == len(names)


def test_cases_are_those_whose_calls_are_neither_too_short_nor_too_long():
    latencies = dict(zip(IDS, (1e-6, 1e-4, 1e-3, 1.0), strict=True))
    costs = dict(zip(IDS, (0.1, 0.3, 0.2, 0.1), strict=True))
    assert [item.case.id for item in chosen(CASES, latencies, costs, 9)] == IDS[1:3]
    assert [item.case.id for item in chosen(CASES, latencies, costs, 1)] == IDS[2:3]


def test_a_case_lists_its_own_copies_and_its_baseline_stands_by():
    pairs = [CopyPair(case=IDS[0], number=0, shift=0.05), CopyPair(case=IDS[1], number=1, shift=0)]
    first, second = arranged(CASES, pairs, {})
    assert first.contenders == ("eager", "eager@one0", "eager@two0")
    assert first.case.untimed == ("eager",) and second.contenders[1] == "eager@one1"
    (timed, *_) = arranged(CASES, pairs, {IDS[0]: ("eager", "rival")})
    assert timed.contenders[:2] == ("eager", "rival") and timed.case.untimed == ()


# The card.

DESIGN = Design()


def observed(shift, sd, rng, processes=24):
    logs = [rng.gauss(math.log1p(shift), sd) for _ in range(processes)]
    pair = CopyPair(case=IDS[0], number=0, shift=shift)
    decision = decide({pair: logs}, DESIGN, 2, family=100)[pair]
    return Observed(pair=pair, logs=tuple(logs), decision=decision)


def rounds(sd=0.004, bias=0.0, seed=1):
    rng = random.Random(seed)
    made = []
    for number in range(2):
        nulls = [observed(0.0, sd, rng) for _ in range(250)]
        slowed = [observed(shift, sd, rng) for shift in SHIFTS for _ in range(20)]
        ratio = tuple(rng.gauss(0.5 + bias * number, sd) for _ in range(9))
        made.append(
            Round(
                observed=(*nulls, *slowed),
                gates=(False, False),
                contenders={(IDS[0], "rival"): ratio},
            )
        )
    return made


def standings(found, load=0):
    lines, _ = make_lines(found, DESIGN, load)
    return {re.split(":| called| that a second", line.name)[0]: line for line in lines}


def test_a_quiet_machine_keeps_the_promises():
    lines, counts = make_lines(rounds(), DESIGN, 0)
    assert {line.standing for line in lines} <= {"met", "shown"}, lines
    assert counts["null"] == {"same": 500}
    assert 0.3 < counts["noise"]["spread p50"] < 0.5
    assert counts["slowed 5 %"]["slower"] == 40


def test_a_machine_that_cannot_tell_misses_them():
    found = standings(rounds(sd=0.08))
    assert found["+5 %"].standing == "missed" and found["+10 %"].standing == "missed"
    biased = [
        Round(observed=tuple(observed(0.06, 0.004, random.Random(i)) for i in range(5)), gates=())
    ]
    relabelled = Round(
        observed=tuple(
            Observed(
                pair=CopyPair(case=IDS[0], number=0, shift=0.0), logs=o.logs, decision=o.decision
            )
            for o in biased[0].observed
        ),
        gates=(True,),
    )
    found = standings([relabelled])
    assert found["A/A"].standing == "missed" and "5 of 5" in found["A/A"].found
    assert found["gates of 100 unchanged cases that are red"].found.startswith("1 of 1")


def test_a_ratio_that_changes_between_rounds_is_seen():
    still = reproducibility(rounds(bias=0.0), 0.015)
    assert len(still.others) == 1 and still.others[0] < 0.015
    assert len(still.copies) > 300 and still.copies[-1] < 0.015
    (moved,) = reproducibility(rounds(bias=0.1), 0.015).others
    assert moved > 0.05
    assert standings(rounds(bias=0.1))["other contenders' ratios known to 1.5 %"].standing != "met"


def test_a_ratio_that_is_not_known_well_is_counted_apart():
    found = reproducibility(rounds(sd=0.05), 0.015)
    assert len(found.wide) == 1 and not found.others
    line = standings(rounds(sd=0.05))["other contenders' ratios known to 1.5 %"]
    assert line.standing == "too few" and line.found.endswith("1 more have wider intervals")


@given(st.integers(0, 50), st.integers(1, 500))
def test_the_bound_of_a_rate_is_the_exact_one(hits, trials):
    hits = min(hits, trials)
    bound = scipy_stats.binomtest(hits, trials).proportion_ci(0.9, "exact").high
    assert at_most(hits, trials) == pytest.approx(bound)


def test_cards_are_written_in_every_format():
    lines, counts = make_lines(rounds(), DESIGN, 1)
    card = Card(
        machine={"cpu": "A|B", "usable_cores": 2}, load=1, design=DESIGN, settings={"threads": 2},
        cases=tuple(IDS), rounds=2, lines=tuple(lines), counts=counts, notes=("n",),
    )  # fmt: skip
    text = FORMATS["text"](card)
    assert "1 processor kept busy" in text and "A/A" in text
    rows = [row for row in FORMATS["markdown"](card).splitlines() if row.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
    assert json.loads(FORMATS["json"](card))["counts"]["null"] == {"same": 500}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads processor time from /proc")
def test_a_neighbour_keeps_a_processor_busy_and_goes():
    def ticks(pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13]))

    def children():
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))

    before = children()
    with neighbours(1) as cpus:
        (pid,) = children() - before
        assert cpus == (allowed_cpus()[-1],) and os.sched_getaffinity(pid) == set(cpus)
        deadline = time.monotonic() + 20
        while ticks(pid) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ticks(pid) >= 5
    assert children() == before


PLUGIN = """
import torch, benchbench as bb

def make(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})

scale = bb.Workload(
    name="calibrated/scale", make=make, baseline="eager", axes={"n": (200_000,)},
    reference=lambda inputs: inputs.double().x.sin())

@bb.hookimpl
def benchbench_workloads():
    return [scale]

@bb.hookimpl
def benchbench_implementations():
    return [bb.Implementation(workload="calibrated/scale", name=name,
                              build=lambda inputs: inputs.thunk(torch.sin))
            for name in ("eager", "again")]
"""


@pytest.mark.slow
def test_the_command_measures_and_says_what_is_too_little(tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    emitted = tmp_path / "cards" / "card.json"
    environment = {**os.environ, "BENCHBENCH_PLUGINS": "", "BENCHBENCH_STORE": str(tmp_path / "s")}
    command = [sys.executable, "-m", "benchbench", "calibrate", "--plugin", str(plugin)]
    command += ["--nulls", "6", "--slowed", "2", "--looks", "9", "--threads", "1"]
    done = subprocess.run(
        [*command, "--emit", f"json={emitted}"], env=environment, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    card = json.loads(emitted.read_text())
    assert card["cases"] == ["calibrated/scale[n=200000]"] and len(card["runs"]) == 2
    lines = {line["name"].split(":")[0]: line for line in card["lines"]}
    assert lines["A/A"]["found"].startswith("0 of 6")
    assert lines["gates of 100 unchanged cases that are red"]["standing"] == "too few"
    assert sum(card["counts"]["null"].values()) == 6
    # Nine processes cannot confirm a slow-down in a family of 100 (the sign test ends at 1/512).
    assert "slower" not in card["counts"]["slowed 10 %"]
    measured = card["counts"]["slowed 10 %"]["measured"]
    assert len(measured) == 2 and all(map(math.isfinite, measured))

    # Rounds that are on disk are not measured again, and say the same.
    one, other = card["runs"]
    added = [*command, "--emit", f"json={emitted}", "--add", one, "--add", other]
    done = subprocess.run(added, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "round" not in done.stderr, done.stderr
    again = json.loads(emitted.read_text())
    assert sorted(again["runs"]) == sorted(card["runs"])
    assert again["counts"] == card["counts"]
    for wrong, words in (
        (["--add", one, "--add", one], "the same round"),
        (["--add", one, "--load", "1"], "load: 0 against 1"),
        (["--add", one, "--margin", "0.04"], "looks, margin, alpha or threads"),
        (["--add", "nothing"], "nothing"),
    ):
        refused = subprocess.run(
            [*command, *wrong], env=environment, capture_output=True, text=True
        )
        assert refused.returncode == 2 and words in refused.stderr


@pytest.mark.slow
def test_cases_that_do_not_fit_are_an_error(tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN.replace("200_000", "2"))
    environment = {**os.environ, "BENCHBENCH_PLUGINS": "", "BENCHBENCH_STORE": str(tmp_path / "s")}
    command = [sys.executable, "-m", "benchbench", "calibrate", "--plugin", str(plugin)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "nothing to calibrate with" in done.stderr
