"""A sample of cases stands for all, and the report adds up what was measured."""

import sys
from pathlib import Path

import pytest

import benchbench as bb
from benchbench.contract import Case, PlannedCase

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import preset_time

SETTINGS = preset_time.settings_of("standard")


def planned(n, workload="a/b"):
    case = Case(workload=workload, params={"n": n})
    return PlannedCase(case=case, baseline="eager", contenders=("eager",))


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_a_sample_stands_for_all(every):
    cases = [planned(n) for n in range(7)]
    chosen = preset_time.thinned(cases, every)
    assert len(chosen) == -(-7 // every)
    assert sum(weight for _, weight in chosen) == pytest.approx(7)


def test_the_report_adds_up_kinds_and_names_the_dearest():
    chosen = [(planned(1), 2.0), (planned(2), 1.0), (planned(3, "c/d"), 1.0)]
    seconds = {chosen[0][0].case.id: 10.0, chosen[1][0].case.id: 30.5}
    lines = list(preset_time.report("standard", chosen, seconds))
    assert "preset standard, one process" in lines[0]
    words = [line.split() for line in lines]
    assert ["a", "3", "cases", "50.5", "s"] in words
    assert ["c", "1", "cases", "0.0", "s"] in words
    assert any(line.split()[:5] == ["all", "4", "cases", "50.5", "s"] for line in lines)
    assert "1 cases were not run" in lines
    assert [line.split()[0] for line in lines[-2:]] == ["30.50", "10.00"]


def test_settings_are_those_of_the_command_line():
    assert (SETTINGS.preset, SETTINGS.processes) == ("standard", 1)
    assert (SETTINGS.budget, SETTINGS.warmup) == (0.4, 0.2)
    assert preset_time.settings_of("quick") == bb.Settings(preset="quick", processes=1)
