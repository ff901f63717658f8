"""What the pytest plugin says of results, and of what cannot be imported; nothing is timed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_project import Pytest, runner

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Pytest:
    return runner(pytester, monkeypatch)


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
