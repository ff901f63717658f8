"""The pytest plugin, as a project uses it: a pytest of its own, worker processes of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

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


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Pytest:
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


def test_verdicts(run: Pytest, pytester: pytest.Pytester) -> None:
    """With scripted times; tests/test_ci_guide.py has real ones."""
    pytester.makeconftest(SCRIPTED)
    result = run(
        """
pytestmark = pytest.mark.benchbench(processes=7, most=7, family=1)

def test_slower(benchbench, factors):
    factors.update(candidate=2.0, noise=0.1)
    benchbench.compare(twice, old, inputs=make).assert_not_slower()

@pytest.mark.benchbench(margin=0.9)
def test_equal(benchbench, factors):
    factors["slowed"] = 3.25
    verdict = benchbench.compare(new, old, inputs=functools.partial(make, size=4000))
    verdict.assert_same()
    verdict.assert_not_slower()
    print("run", verdict.run)
    assert verdict.word == "same" and verdict.timed and 0.5 < verdict.ratio < 2
"""
    )
    result.assert_outcomes(failed=1, passed=1)
    text = result.stdout.str()
    assert "'twice is no slower than old' does not hold" in text
    failure = re.search(r"twice takes (\S+) times the time of old \[(\S+), (\S+):.*: slower", text)
    assert failure is not None
    ratio, low, high = (float(number) for number in failure.groups())
    assert 1.02 < low <= ratio <= high and 1.5 < ratio < 3
    result.stdout.fnmatch_lines(
        [
            "*= benchbench =*",
            "test_pairs.py::test_slower: twice against old: slower, * 7 processes in * s",
            "test_pairs.py::test_equal: new against old: same, * 7 processes in * s",
            "stored in *results: benchbench show last",
        ]
    )
    # The failure is shown where the test made the claim, not inside benchbench.
    assert "pytest_plugin.py" not in text and "pairs.py:" not in text.replace("test_pairs.py:", "")
    run_id = re.search(r"^run (\S+)$", text, re.MULTILINE)
    assert run_id is not None
    shown = subprocess.run(
        [sys.executable, "-m", "benchbench", "show", run_id.group(1)],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pair/test_equal" in shown.stdout and "7 processes" in shown.stdout
    assert "within, 90 %" in shown.stdout and "2 same, 1 slower" in shown.stdout


def test_wrong_results_fail_with_the_reason(run: Pytest) -> None:
    result = run(
        """
def test_wrong(benchbench):
    benchbench.compare(unsorted, old, inputs=make)

def test_changes_its_input(benchbench):
    benchbench.compare(in_place, old, inputs=make)

def test_raises(benchbench):
    benchbench.compare(raises, old, inputs=make)

def test_no_inputs(benchbench):
    benchbench.compare(new, old, inputs=raises)

def test_counts_its_calls(benchbench):
    benchbench.compare(new, Counting(), inputs=make, controls="none")
"""
    )
    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines(
        [
            "*WrongResult: unsorted is wrong (check): the largest relative error of its float32 "
            "output is *, allowed is *",
            "*WrongResult: in_place is wrong (check): it changed the shared input '[[]0[]]'*",
            "*WrongResult: raises is failed (check): ValueError: not for these numbers*",
            "*WrongResult: new and old cannot be compared: ValueError: not for these numbers*",
            "*WrongResult: Counting is wrong (audit): *",
            "*if what Counting returns depends on earlier calls, let each call start*check=None*",
            "test_pairs.py::test_wrong: unsorted is wrong*",
        ]
    )


def test_what_cannot_be_imported_says_what_to_do(run: Pytest) -> None:
    result = run(
        """
def test_lambda(benchbench):
    benchbench.compare(lambda x: x, old, inputs=make)

def test_closure(benchbench):
    def inner(x):
        return x
    benchbench.compare(new, functools.partial(inner), inputs=make)

def test_no_function(benchbench):
    benchbench.compare(new, old, inputs=(1, 2))

def test_mistyped_rule(benchbench):
    benchbench.compare(new, old, inputs=make, proceses=5)

def test_too_few(benchbench):
    benchbench.compare(new, old, inputs=make, processes=3, most=5)

def test_mistyped_timer(benchbench):
    benchbench.compare(new, old, inputs=make, timer="wal")
"""
    )
    result.assert_outcomes(failed=6)
    result.stdout.fnmatch_lines(
        [
            "*UsageError: the candidate is a lambda (test_pairs.py:*)*functools.partial",
            "*UsageError: the baseline 'inner' is defined inside 'test_closure' (test_pairs.py:*",
            "*UsageError: inputs must be callable, not a tuple. It is called with a seed*",
            "*UsageError: benchbench has no rule 'proceses'. Did you mean 'processes'*",
            "*UsageError: processes=3 with most=5 can decide nothing*",
            "*UsageError: there is no timer 'wal'. Did you mean 'wall'*",
        ]
    )


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [("fail", "failed"), ("xfail", "xfailed"), ("skip", "skipped"), ("pass", "passed"), ("", "")],
)
def test_inconclusive(run: Pytest, pytester: pytest.Pytester, policy: str, outcome: str) -> None:
    pytester.makeconftest(UNDECIDED)
    tests = """
def test_claim(benchbench):
    benchbench.compare(new, old, inputs=make).assert_not_slower()
"""
    if policy == "pass":
        pytester.makeini("[pytest]\nbenchbench_inconclusive = pass\n")
        result = run(tests)
    else:
        result = run(tests, *([f"--benchbench-inconclusive={policy}"] if policy else []))
    result.assert_outcomes(**{outcome or "failed": 1})
    if policy not in ("pass", "skip"):
        result.stdout.fnmatch_lines(["*9 processes do not tell whether new is no slower than old*"])
    result.stdout.fnmatch_lines(
        [
            "*test_claim: new against old: inconclusive, *",
            "*test_claim: inconclusive: 9 processes do not tell whether new is no slower than old*",
        ]
    )


def test_a_marker_says_what_becomes_of_an_open_claim(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(UNDECIDED)
    tests = """
pytestmark = pytest.mark.benchbench(inconclusive="pass")

@pytest.mark.benchbench(inconclusive="xfail")
def test_nearest(benchbench):
    benchbench.compare(new, old, inputs=make).assert_not_slower()

def test_outer(benchbench):
    benchbench.compare(new, old, inputs=make).assert_not_slower()

@pytest.mark.benchbench(inconclusive="ignore")
def test_mistyped(benchbench):
    benchbench.compare(new, old, inputs=make)
"""
    result = run(tests)
    result.assert_outcomes(xfailed=1, passed=1, failed=1)
    result.stdout.fnmatch_lines(["*inconclusive = ignore is none of fail, xfail, skip, pass*"])
    run("", "--benchbench-inconclusive=fail").assert_outcomes(failed=3)


def test_the_tests_of_a_session_share_the_error_of_failing(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(SCRIPTED)
    tests = """
@pytest.mark.parametrize("number", range(5))
def test_slower(benchbench, factors, number):
    factors["candidate"] = 1.1
    benchbench.compare(new, old, inputs=make).assert_not_slower()

def test_faster(benchbench, factors):
    factors["candidate"] = 0.9
    benchbench.compare(new, old, inputs=make).assert_faster()
"""
    result = run(tests)
    result.assert_outcomes(failed=5, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*::test_slower[[]0[]]: new against old: slower, 1.100 * 16 processes in * s",
            "*::test_faster: new against old: faster, 0.900 * 9 processes in * s",
        ]
    )
    result = run("", "-k", "slower and 3")
    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(["*::test_slower[[]3[]]: * 9 processes in * s"])


def test_a_session_can_share_its_controls(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(SCRIPTED)
    result = run(
        """
def test_missed(benchbench, factors):
    factors["slowed"] = 1.0
    verdict = benchbench.compare(new, old, inputs=make)
    assert [control.ok for control in verdict.controls] == [True, False]

def test_first(benchbench):
    verdict = benchbench.compare(new, old, inputs=make)
    verdict.assert_same()
    assert [control.ok for control in verdict.controls] == [True, True]

def test_second(benchbench):
    verdict = benchbench.compare(new, old, inputs=make, margin=0.03)
    assert verdict.controls == () and "controls as they must be: " in str(verdict)

def test_narrower(benchbench):
    assert benchbench.compare(new, old, inputs=make, margin=0.01).controls

def test_each(benchbench):
    assert benchbench.compare(new, old, inputs=make, controls="each").controls
""",
        "-o",
        "benchbench_rules=controls=session",
    )
    result.assert_outcomes(passed=5)


def test_a_control_that_is_off_is_no_failure_of_the_test(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(SCRIPTED)
    tests = """
def test_null(benchbench, factors):
    factors.update(candidate=1.3, null=0.95)
    benchbench.compare(new, old, inputs=make).assert_not_slower()
"""
    result = run(tests, "--benchbench-inconclusive=xfail")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_null: new against old: inconclusive, 1.300 times the time*a control did not *",
            "*inconclusive: this machine cannot tell now whether new is no slower than old: *",
            "*control WRONG: old: a copy against itself: -5.0 % *",
        ]
    )


def test_a_mistyped_policy_is_refused_before_any_test(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\nbenchbench_inconclusive = xfial\n")
    result = run("def test_nothing(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*benchbench_inconclusive = xfial is none of*'xfail'?*"])


def test_rules_come_from_the_ini_file_the_markers_the_call_and_the_command_line(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
import pytest
from benchbench import pairs

@pytest.fixture(autouse=True)
def shown(monkeypatch):
    def compare(*args, rules, **more):
        print("rules", rules.processes, rules.most, rules.margin, rules.threads)
        return pairs.Verdict(candidate="new", baseline="old")
    monkeypatch.setattr(pairs, "compare", compare)
"""
    )
    pytester.makeini(
        "[pytest]\nbenchbench_rules =\n  processes=9\n  most=10\n  margin=0.1\n  threads=2\n"
    )
    result = run(
        """
pytestmark = pytest.mark.benchbench(margin=0.2, most=11, threads=3)

@pytest.mark.benchbench(margin=0.3, threads=4)
def test_it(benchbench):
    benchbench.compare(new, old, inputs=make, threads=5)
""",
        "--benchbench-rule=threads=1",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["rules 9 11 0.3 1"])
    for mistyped, said in (("treads=1", "*Did you mean 'threads'*"), ("threads", "*NAME=VALUE*")):
        refused = run("", f"--benchbench-rule={mistyped}")
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines([said])


def test_comparisons_of_several_pytest_processes_wait_for_each_other(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
import os, pathlib, time, pytest
from benchbench import pairs

@pytest.fixture(autouse=True)
def recorded(monkeypatch, pytestconfig):
    def compare(*args, **rules):
        start = time.monotonic()
        time.sleep(0.3)
        name = pytestconfig.rootpath / f"{os.getpid()}.span"
        name.write_text(f"{start} {time.monotonic()}")
        return pairs.Verdict(candidate="new", baseline="old")
    monkeypatch.setattr(pairs, "compare", compare)
"""
    )
    pytester.makepyfile(
        test_pairs=FUNCTIONS
        + """
def test_it(benchbench, pytestconfig):
    import os, time
    (pytestconfig.rootpath / f"{os.getpid()}.ready").touch()
    while len(list(pytestconfig.rootpath.glob("*.ready"))) < 3:
        time.sleep(0.01)
    benchbench.compare(new, old, inputs=make)
"""
    )
    command = [sys.executable, "-m", "pytest", "-p", "benchbench.pytest_plugin"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    spans = sorted(
        tuple(float(n) for n in file.read_text().split()) for file in pytester.path.glob("*.span")
    )
    assert len(spans) == 3
    assert all(one[1] <= other[0] for one, other in pairwise(spans)), spans
    assert any("s for another comparison on this machine to end" in text for text in outputs)


def test_without_timing_results_are_still_compared(run: Pytest) -> None:
    result = run(
        """
def test_right(benchbench):
    verdict = benchbench.compare(twice, old, inputs=make)
    verdict.assert_faster(by=1000)
    assert verdict.word is None and not verdict.timed

def test_wrong(benchbench):
    benchbench.compare(unsorted, old, inputs=make).assert_not_slower()
""",
        "--benchbench-skip",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*WrongResult: unsorted is wrong*",
            "*twice against old: results agree, not timed",
            "not timed, because of --benchbench-skip",
        ]
    )


def test_the_marker_selects_and_the_fixture_implies_it(run: Pytest) -> None:
    result = run(
        """
def test_plain(): pass
def test_timed(benchbench): raise AssertionError("left out")
""",
        "-m",
        "not benchbench",
        "--strict-markers",
    )
    result.assert_outcomes(passed=1, deselected=1)


def test_how_outputs_are_compared(run: Pytest) -> None:
    result = run(
        """
def words(seed):
    return {"text": "b a c"}

def split(text):
    return sorted(text.split())

def split_backwards(text):
    return sorted(text.split())[::-1]

def same_set(one, other):
    return set(one) == set(other)

def names_the_first(one, other):
    return None if one == other else f"it begins with {one[0]}"

def half(x):
    return x.astype(np.float16).astype(np.float32)

def copied(x):
    return x.copy()

def exact(x):
    assert x.dtype == np.float64
    return x

def only_single(x):
    if x.dtype != np.float32:
        raise TypeError("float32 only")
    return x * np.float32(3)

def test_words(benchbench):
    benchbench.compare(split_backwards, split, inputs=words)

def test_check(benchbench):
    benchbench.compare(split_backwards, split, inputs=words, check=same_set)

def test_check_gives_a_reason(benchbench):
    benchbench.compare(split_backwards, split, inputs=words, check=names_the_first)

def test_no_check(benchbench):
    benchbench.compare(unsorted, old, inputs=make, check=None)

def test_reference(benchbench):
    benchbench.compare(half, copied, inputs=make, reference=exact)

def test_no_double(benchbench):
    benchbench.compare(only_single, only_single, inputs=make)
    benchbench.compare(unsorted, only_single, inputs=make)
""",
        "--benchbench-skip",
    )
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines(
        [
            "*output[[]0[]] of split is a str, which cannot be compared as numbers: pass check=*",
            "*split_backwards is wrong (check): it begins with c",
            "*half is wrong (check): *",
            "*unsorted is wrong (check): *",
            "*only_single cannot be computed in float64 (TypeError: float32 only)*tolerance=*",
        ]
    )


LAYOUTS = {
    "prepend": ([], "tests/conftest.py", "from helper import scale\n", "tests/helper.py"),
    "importlib": (
        ["--import-mode=importlib"],
        "tests/inner/__init__.py",
        "from .helper import scale\n",
        "tests/inner/helper.py",
    ),
    "pythonpath": (
        ["-o", "pythonpath=lib"],
        "tests/conftest.py",
        "from helper import scale\n",
        "lib/helper.py",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_test_module_is_imported_as_pytest_did(
    run: Pytest, pytester: pytest.Pytester, layout: str
) -> None:
    options, marker_file, imports, helper = LAYOUTS[layout]
    files = {
        marker_file: "",
        helper: "def scale(x):\n    return 2 * x\n",
        str(Path(marker_file).parent / "test_layout.py"): imports
        + "def make(seed): return (1.5 + seed,)\n"
        + "class Doubler:\n    @staticmethod\n    def double(x): return x + x\n"
        + "def test_it(benchbench):\n"
        + "    benchbench.compare(Doubler.double, scale, inputs=make).assert_not_slower()\n",
    }
    for name, text in files.items():
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run("", *options, "--benchbench-skip").assert_outcomes(passed=1)


def test_a_test_module_that_cannot_be_imported_again_says_why(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_once="""
import sys

if "benchbench.worker" in str(sys.modules["__main__"].__spec__):
    raise RuntimeError("only pytest may import this")

def make(seed): return 1.0
def one(x): return x
def other(x): return x + 0

def test_it(benchbench):
    benchbench.compare(one, other, inputs=make)
"""
    )
    result = run("", "--benchbench-skip")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*one and other cannot be compared: PluginError: the candidate cannot be imported in a "
            "fresh process: RuntimeError: only pytest may import this. What its module needs*"
        ]
    )


def test_start_up_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import benchbench.pytest_plugin\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert loaded == ["benchbench", "benchbench.pytest_plugin"]


def test_the_entry_point_is_declared() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    section = text.partition("[project.entry-points.pytest11]\n")[2].partition("\n\n")[0]
    assert section == 'benchbench = "benchbench.pytest_plugin"'
