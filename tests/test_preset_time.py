"""The estimate of a preset's time counts what takes time, and a sample of cases stands for all."""

import sys
from pathlib import Path

import pytest

import benchbench as bb
from benchbench.catalog import Catalog
from benchbench.contract import Case, PlannedCase

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import preset_time

SETTINGS = preset_time.settings_of("standard")


def contender(name, reason=None):
    return bb.Implementation(
        workload="a/b", name=name, build=lambda inputs: None, unavailable=lambda params: reason
    )


FOUND = [contender("eager"), contender("compiled"), contender("absent", "needs a library")]
ALL = Catalog(workloads={}, implementations={"a/b": {item.name: item for item in FOUND}})


def planned(n, *names):
    case = Case(workload="a/b", params={"n": n})
    return PlannedCase(case=case, baseline="eager", contenders=names)


def test_an_estimate_has_budget_warm_up_and_compiling():
    one = preset_time.estimate(planned(1, "eager"), SETTINGS, ALL)
    assert one == pytest.approx(0.4 + 0.2 + preset_time.CONTENDER)
    two = preset_time.estimate(planned(1, "eager", "compiled"), SETTINGS, ALL)
    assert two == pytest.approx(one + 0.2 + preset_time.CONTENDER + preset_time.COMPILED)
    assert preset_time.estimate(planned(1, "eager", "absent"), SETTINGS, ALL) == one
    alone = PlannedCase(
        case=Case(workload="a/b", params={"n": 1}),
        baseline="absent",
        contenders=("absent", "eager"),
    )
    assert preset_time.estimate(alone, SETTINGS, ALL) == 0.0


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_a_sample_stands_for_all(every):
    cases = [planned(n, "eager") for n in range(7)]
    chosen = preset_time.thinned(cases, every)
    assert len(chosen) == -(-7 // every)
    assert sum(weight for _, weight in chosen) == pytest.approx(7)


def test_settings_are_those_of_the_command_line():
    assert (SETTINGS.preset, SETTINGS.processes) == ("standard", 1)
    assert (SETTINGS.budget, SETTINGS.warmup) == (0.4, 0.2)
    assert preset_time.settings_of("quick") == bb.Settings(preset="quick", processes=1)
