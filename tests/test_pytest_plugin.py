"""The pytest plugin, as a project uses it: a pytest of its own, worker processes of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from pytest_project import FUNCTIONS, SCRIPTED, UNDECIDED, Pytest, runner

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Pytest:
    return runner(pytester, monkeypatch)


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
