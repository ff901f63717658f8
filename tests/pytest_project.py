"""A project whose tests use the pytest plugin: functions for them, and a pytest of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Pytest = Callable[..., pytest.RunResult]

FUNCTIONS = """
import functools
import operator

import numpy as np
import pytest

def make(seed, size=2000):
    return (np.random.default_rng(seed).standard_normal(size).astype(np.float32),)

def old(x):
    return np.sort(x)

def new(x):
    return np.sort(x)

def twice(x):
    np.sort(x)
    return np.sort(x)

def unsorted(x):
    return np.array(x)

def in_place(x):
    x.sort()
    return np.array(x)

def raises(x):
    raise ValueError("not for these numbers")

class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return np.sort(x) + np.float32(self.calls)
"""

UNDECIDED = """
import pytest
from benchbench import pairs

VERDICT = pairs.Verdict(
    candidate="new", baseline="old", logs={process: 0.01 * process for process in range(9)},
    attempted=9, seconds=12.0,
    times=(pairs.Time(name="new", estimate=1.0, low=1.0, high=1.0),),
)

@pytest.fixture(autouse=True)
def undecided(monkeypatch):
    monkeypatch.setattr(pairs, "compare", lambda *args, **rules: VERDICT)
"""


SCRIPTED = f"""
import sys
import pytest
sys.path.insert(0, {str(Path(__file__).parent)!r})
from scripted_times import ScriptedTimes
import benchbench.engines.local

FACTORS = {{}}

def times(role, process):
    factor = FACTORS.get(role, 1.05 if role == "slowed" else 1.0)
    noise = FACTORS.get("noise", 1e-4) if role == "candidate" else 0.0
    return 1e-3 * factor * (1.0 + noise * (process % 3))

@pytest.fixture(autouse=True)
def factors(monkeypatch):
    FACTORS.clear()
    monkeypatch.setattr(benchbench.engines.local, "LocalEngine", lambda: ScriptedTimes(times))
    return FACTORS
"""


def runner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Pytest:
    """Run pytest with the plugin on the given tests; the functions above come first."""
    # Installed or not, under the entry point's name or not: here it is loaded one way.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("BENCHBENCH_STORE", "results")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(tests: str = "", *options: str) -> pytest.RunResult:
        if tests:
            pytester.makepyfile(test_pairs=FUNCTIONS + tests)
        return pytester.runpytest_subprocess("-p", "benchbench.pytest_plugin", "-rA", *options)

    return run
