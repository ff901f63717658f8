"""The simulation: the promises hold under noise of many kinds, and the noise is what it says."""

import math
import random
import statistics
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from benchbench.sequential import Design
from benchbench.simulate import (
    NOISE,
    Noise,
    characteristics,
    estimated,
    log_ratios,
    other_rules,
    process,
)
from benchbench.stats import blocks

QUIET = Noise(sample=0.0, placement=0.0, drift=0.0, machine=0.0)
WIDE = 16
"""Passes of a case with one contender in the gate's default budget."""


@given(st.floats(-0.5, 1.0), st.integers(1, 10))
def test_without_noise_every_process_says_the_truth(shift, passes):
    for value in log_ratios(shift, QUIET, 3, random.Random(1), passes=2 * passes):
        assert value == pytest.approx(math.log1p(shift))


@given(st.floats(-0.5, 0.5), st.floats(0.0, 2.0))
def test_what_both_sides_share_cancels(shift, machine):
    noise = Noise(sample=0.0, placement=0.0, drift=0.0, machine=machine)
    values = log_ratios(shift, noise, 3, random.Random(1))
    assert values == pytest.approx([math.log1p(shift)] * 3)


def test_a_steady_drift_cancels_in_abba_blocks():
    noise = Noise(sample=0.0, placement=0.0, drift=0.2, machine=0.0)
    values = log_ratios(0.0, noise, 200, random.Random(1))
    assert max(map(abs, values)) < 1e-3  # 20 % over a case leave 0.1 %: exp is not straight


@pytest.mark.parametrize("name", NOISE)
def test_unchanged_code_is_never_told_apart(name):
    found = characteristics(0.0, NOISE[name], cases=3000, passes=4)
    assert found.words["slower"] == found.words["faster"] == 0 and found.red == 0
    assert found.gates == 30 and found.cases == 3000
    assert 0.93 <= found.covered <= 0.99


@settings(max_examples=8, deadline=None)
@given(
    st.floats(0.0, 0.1), st.floats(0.0, 0.02), st.floats(0.0, 1.0), st.floats(0.0, 0.2),
    st.floats(0.0, 0.15), st.integers(0, 99),
)  # fmt: skip
def test_no_noise_makes_many_gates_red(sample, placement, drift, interrupted, ruined, seed):
    noise = Noise(
        sample=sample, placement=placement, drift=drift, interrupted=interrupted, ruined=ruined
    )
    found = characteristics(0.0, noise, cases=500, passes=4, seed=seed)
    assert found.red == 0


@pytest.mark.parametrize(
    ("shift", "name", "passes", "power"),
    [
        (0.03, "idle", WIDE, 0.85),
        (0.05, "idle", WIDE, 0.99),
        (0.05, "idle", 4, 0.99),
        (0.10, "idle", 4, 0.999),
        (0.05, "virtual", 32, 0.99),
        (0.05, "shared", WIDE, 0.90),
        (0.05, "contaminated", 4, 0.90),
        (0.05, "drifting", WIDE, 0.99),
    ],
)
def test_a_slow_down_is_found_in_a_gate_of_100(shift, name, passes, power):
    found = characteristics(shift, NOISE[name], cases=1000, passes=passes)
    assert found.share("slower") >= power
    assert found.share("same") <= 0.01 and found.words["faster"] == 0


def test_a_slow_down_of_the_margin_itself_is_called_slower_no_more_than_alpha():
    found = characteristics(0.02, Noise(), cases=2000, family=1)
    assert found.share("slower") <= Design.alpha + 3 * math.sqrt(Design.alpha / 2000)


def test_rules_in_use_tell_unchanged_code_apart():
    found = other_rules(0.0, NOISE["idle"], cases=400)
    assert found["Mann-Whitney 5 %"] > 0.2 and found["Welch t 5 %"] > 0.2
    assert other_rules(0.0, QUIET, cases=20)["median +5 %"] == 0.0


def test_noise_is_estimated_from_what_it_made():
    noise, rng = Noise(sample=0.02, placement=0.01, drift=0.0), random.Random(4)
    made = []
    for _ in range(400):
        times = [math.exp(value) for value in process(0.03, noise, 8, rng)]
        pairs = zip(blocks(times[8:]), blocks(times[:8]), strict=True)
        made.append([math.log(own / other) for own, other in pairs])
    found = estimated(made)
    assert found.sample == pytest.approx(noise.sample, rel=0.15)
    assert found.placement == pytest.approx(noise.placement, rel=0.3)
    with pytest.raises(ValueError, match="at least 3 processes"):
        estimated(made[:2])


@pytest.mark.parametrize("wrong", [{"sample": -1}, {"ruined": 1.5}, {"interrupted": -0.1}])
def test_noise_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Noise(**wrong)


def test_the_same_seed_gives_the_same_figures():
    one, other = (characteristics(0.03, Noise(), cases=50, seed=3) for _ in range(2))
    assert one == other
    spread = statistics.stdev(log_ratios(0.0, Noise(), 500, random.Random(2), passes=WIDE))
    assert 0.003 < spread < 0.006


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchbench.simulate", *arguments], capture_output=True, text=True
    )


def test_the_command_prints_a_line_for_each_shift():
    done = command("--cases", "40", "--family", "20", "--shift", "0.1", "--looks", "9,16")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-2].split()[:2] == ["0", "%"] and lines[-2].endswith("0 of 2")
    assert lines[-1].split()[0] == "10"
    wrong = command("--looks", "9,9")
    assert wrong.returncode == 2 and "rising counts" in wrong.stderr
