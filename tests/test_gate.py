"""The gate: builds found and installed, loaded side by side, compared, judged."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchbench.contract import Case, PlannedCase, Result
from benchbench.errors import UsageError
from benchbench.gate import execute, project
from benchbench.gate.identical import Sources
from benchbench.gate.measured import Measured
from benchbench.gate.report import FORMATS, Control, GateReport, Line
from benchbench.gate.select import Selection
from benchbench.records import to_json
from benchbench.sequential import Decision
from benchbench.stats import Interval

HERE = Path(__file__).parent
GIT = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# What code a contender has.

FILES = {
    "__init__.py": "",
    "a.py": "from . import b\n",
    "b.py": "def f():\n    import pkg.c\n",
    "c.py": "C = 1\n",
    "apart.py": "import math\n",
}


@pytest.mark.parametrize(
    ("changed", "same"),
    [("apart.py", True), ("a.py", False), ("b.py", False), ("c.py", False), ("__init__.py", False)],
)
def test_the_code_of_a_contender_is_what_its_module_reaches(tmp_path, changed, same):
    old = write(tmp_path / "old" / "pkg", FILES)
    new = write(tmp_path / "new" / "pkg", {**FILES, changed: "X = 2\n" + FILES[changed]})
    before, after = (Sources({"pkg": str(folder)}).digest("pkg.a") for folder in (old, new))
    assert before and (before == after) == same


def test_files_that_are_not_python_belong_to_every_contender(tmp_path):
    old = write(tmp_path / "old" / "pkg", {**FILES, "kernel.cu": "a"})
    new = write(tmp_path / "new" / "pkg", {**FILES, "kernel.cu": "b"})
    digests = {Sources({"pkg": str(folder)}).digest("pkg.apart") for folder in (old, new)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    "code",
    ["import importlib\nimportlib.import_module('x')", "from importlib import import_module",
     "import sys\nsys.modules['x']", "__import__('x')"],
)  # fmt: skip
def test_a_module_that_imports_by_name_reaches_everything(tmp_path, code):
    folder = write(tmp_path / "pkg", {**FILES, "c.py": code})
    sources = Sources({"pkg": str(folder)})
    assert sources.imports_by_name() == ["pkg.c"]
    before = sources.digest("pkg.a")
    write(folder, {"apart.py": "import cmath\n"})
    assert Sources({"pkg": str(folder)}).digest("pkg.a") != before


def test_methods_called_modules_import_nothing(tmp_path):
    folder = write(tmp_path / "pkg", {"__init__.py": "def f(m):\n    return list(m.modules())\n"})
    assert Sources({"pkg": str(folder)}).imports_by_name() == []


def test_a_module_of_another_project_has_no_digest(tmp_path):
    assert Sources({"pkg": str(write(tmp_path / "pkg", FILES))}).digest("other.a") == ""


# Which project.


def test_importable_names_of_installed_files():
    files = ["pkg/__init__.py", "pkg/sub/a.py", "single.py", "native.cpython-311-x.so",
             "pkg-1.0.dist-info/METADATA", "../../bin/tool", "__pycache__/single.pyc",
             "__editable___pkg_finder.py"]  # fmt: skip
    assert project.importable(files) == {"pkg", "single", "native"}


def test_no_project_or_one_that_is_not_installed_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no project is found"):
        project.find_project(None, tmp_path)
    write(tmp_path, {"pyproject.toml": '[project]\nname = "no-such-project"\n'})
    with pytest.raises(UsageError, match=r"'no-such-project' is not installed.*pip install"):
        project.find_project(None, tmp_path)


# Judgement.

CASE = Case(workload="k/w", params={"n": 1})
PAIR = (CASE.id, "x")
SELECTION = Selection(
    cases=(PlannedCase(case=CASE, baseline="eager", contenders=("x",)),), lines=(), controls=(PAIR,)
)


def record(side, process=0, **fields):
    result = Result(
        case=CASE.id, workload="k/w", params={"n": 1}, contender=f"x@{side}", baseline="eager",
        process=process, **{"status": "ok", "samples": (1.0, 1.0), **fields},
    )  # fmt: skip
    return {"type": "result", **to_json(result)}


def measured(*records):
    found = Measured()
    for item in records:
        found.take(item)
    return found


@pytest.mark.parametrize(
    ("candidate", "baseline", "word", "reason"),
    [
        ({"status": "wrong", "reason": "off"}, {}, "wrong", "in this build only: off"),
        ({"status": "failed", "reason": "died"}, {}, "failed", "in this build only: died"),
        ({"status": "skipped", "reason": "no"}, {}, "failed", "in this build only: no"),
        ({"status": "failed", "reason": "a"}, {"status": "wrong", "reason": "b"}, "skipped",
         "in both builds: a"),
        ({}, {"status": "wrong", "reason": "b"}, "skipped", "the baseline cannot be compared"),
    ],
)  # fmt: skip
def test_what_only_the_candidate_fails_in_is_its_fault(candidate, baseline, word, reason):
    found = measured(record("candidate", **candidate), record("baseline", **baseline))
    (line,) = execute.lines(SELECTION, found, {})
    assert line.word == word and reason in line.reason


def test_ratios_pair_the_processes_that_measured_both():
    found = measured(
        record("candidate", 0, samples=(2.0, 2.0)),
        record("candidate", 1, samples=(2.0, 2.0)),
        record("baseline", 1, samples=(1.0, 1.0)),
    )
    assert found.logs(PAIR) == pytest.approx([0.6931471805599453])


def decision(word, not_slower=True):
    ratio = Interval(estimate=1.05, low=1.04, high=1.06, coverage=0.95)
    return Decision(word=word, look=0, interval=ratio, adjusted=0.01, not_slower=not_slower)


@pytest.mark.parametrize(
    ("null", "slowed", "good"),
    [
        ("same", "slower", [True, True]),
        ("undecided", "slower", [True, True]),
        ("slower", "slower", [False, True]),
        ("faster", "slower", [False, True]),
        ("same", "undecided", [True, False]),
        (None, None, [False, False]),
    ],
)
def test_controls_must_come_out_as_they_must(null, slowed, good):
    decisions = {
        (CASE.id, f"x@{name}"): decision(word)
        for name, word in (("null", null), ("slowed", slowed))
        if word
    }
    assert [c.ok for c in execute.judge_controls(SELECTION, decisions, 0.05)] == good


FACTS = {"mode": "m", "margin": 0.02, "alpha": 0.01, "looks": (9,), "candidate": "c",
         "baseline": "b"}  # fmt: skip


def control(ok):
    return Control(name="n", case="c", ratio=None, ok=ok, text="t")


@pytest.mark.parametrize(
    ("words", "controls", "verdict"),
    [
        (["same", "faster", "not slower", "unchanged", "new", "gone", "skipped"], [], "passed"),
        (["same", "slower"], [control(True)], "failed"),
        (["same", "inconclusive"], [control(True)], "inconclusive"),
        (["same", "slower"], [control(False)], "inconclusive"),
        (["wrong"], [control(False)], "failed"),
        (["failed", "inconclusive"], [], "failed"),
    ],
)
def test_the_verdict(words, controls, verdict):
    lines = [Line(case="c", contender=word, word=word) for word in words]
    assert execute.conclude(lines, controls, **FACTS).verdict == verdict


NASTY = "a|b <c> & \x00 \x1b[31m\n\"d' ]]>"
REPORT = GateReport(
    verdict="failed",
    summary="s",
    lines=(
        Line(case="k/w[n=1]", contender=NASTY, word="slower", reason=NASTY, candidate=2e-6,
             baseline=1e-6, processes=9,
             ratio=Interval(estimate=2.0, low=1.9, high=2.1, coverage=0.99)),
        Line(case="k/w[n=2]", contender="y", word="wrong", reason="off"),
        Line(case="k/w[n=3]", contender="z", word="inconclusive"),
        Line(case="k/w[n=4]", contender="u", word="unchanged"),
    ),
    controls=(control(True),),
    **FACTS,
)  # fmt: skip


def test_junit_is_xml_whatever_the_names_are():
    (suite,) = ElementTree.fromstring(FORMATS["junit"](REPORT))
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "1", "1", "1"]
    failure = suite[0].find("failure")
    assert failure is not None and "+100.0 % [+90.0, +110.0]" in failure.get("message", "")


def test_markdown_rows_keep_their_columns():
    rows = [row for row in FORMATS["markdown"](REPORT).splitlines() if row.startswith("| ")]
    assert {len(row.replace("\\|", "").split("|")) for row in rows} == {6}


def test_json_and_text_say_everything():
    data = json.loads(FORMATS["json"](REPORT))
    assert data["schema"] == 1 and data["lines"][0]["ratio"]["estimate"] == 2.0
    text = FORMATS["text"](REPORT)
    assert "slower  k/w[n=1]" in text and text.splitlines()[-1].startswith("failed: s (")
    names = {field.name for field in dataclasses.fields(GateReport)}
    assert set(data) == names | {"schema"}


# A project that is not ours, from end to end.


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """The example project with three commits: as it is, untouched, one operation 5 % slower."""
    folder = tmp_path_factory.mktemp("gated")
    source, site = folder / "source", folder / "site"
    shutil.copytree(HERE / "gated", source)

    def commit(message):
        subprocess.run([*GIT, "add", "-A"], cwd=source, check=True)
        subprocess.run([*GIT, "commit", "-qm", message, "--allow-empty"], cwd=source, check=True)

    subprocess.run([*GIT, "init", "-q"], cwd=source, check=True)
    commit("first")
    (source / "README").write_text("A line that no contender reads.\n")
    commit("words only")
    ops = source / "src" / "gated" / "ops.py"
    ops.write_text(ops.read_text().replace("TERMS = 20", "TERMS = 21"))
    commit("slower")

    def install():
        shutil.rmtree(site, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
        subprocess.run([*command, "--no-build-isolation", str(source)], check=True)
        for built in (source / "build", source / "src" / "gated.egg-info"):
            shutil.rmtree(built, ignore_errors=True)

    install()
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "BENCHBENCH_CACHE": str(folder / "cache"),
        "BENCHBENCH_STORE": str(folder / "store"),
        "BENCHBENCH_PLUGINS": "gated",
    }

    def gate(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "benchbench", "gate", *arguments],
            cwd=source, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    gate.install, gate.source, gate.environment = install, source, environment
    return gate


FAST = ("--looks", "9", "--budget", "0.03", "--threads", "1")


@pytest.mark.slow
def test_a_contender_that_became_five_percent_slower_is_found_and_an_unchanged_one_is_not_timed(
    gated, tmp_path
):
    emitted = tmp_path / "out" / "gate.json"
    done = gated("--baseline-rev", "HEAD~1", *FAST, "--emit", f"json={emitted}")
    assert done.returncode in (1, 4), done.stdout + done.stderr  # 4: a control lost to a neighbour
    lines = {line["contender"]: line for line in json.loads(emitted.read_text())["lines"]}
    # A machine that is busy may not be sure of 5 %, but it must not miss them silently.
    assert lines["ours"]["word"] == "slower" or (
        done.returncode == 4 and lines["ours"]["word"] == "inconclusive"
    )
    assert 1.02 < lines["ours"]["ratio"]["estimate"] < 1.10
    assert lines["plain"]["word"] == "unchanged"
    assert lines["eager"]["word"] in ("same", "inconclusive", "not slower")
    assert "slowed by 5 %" in done.stdout and "against itself" in done.stdout
    assert "both builds in one worker" in done.stdout


@pytest.mark.slow
def test_a_change_that_no_contender_reads_is_green_without_timing(gated):
    subprocess.run([*GIT, "checkout", "-q", "HEAD~1"], cwd=gated.source, check=True)
    gated.install()
    done = gated("--baseline-rev", "HEAD~1")
    subprocess.run([*GIT, "checkout", "-q", "-"], cwd=gated.source, check=True)
    gated.install()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was timed" in done.stdout and "3 unchanged" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give one baseline"),
        (("--baseline-rev", "HEAD", "--baseline", "last"), "give one baseline"),
        (("--baseline", "last"), "cannot be baselines"),
        (("--baseline", "last", "--preset", "full"), "preset cannot be given"),
        (("--baseline-rev", "HEAD", "--timer", "instructions", "--threads", "2"), "one thread"),
        (("--baseline-rev", "nonsense"), "has no revision 'nonsense'"),
        (("--baseline-rev", "HEAD", "gated/exponentail"), "Did you mean 'gated/exponential'"),
        (("--baseline-rev", "HEAD", "-c", "our"), "Did you mean 'ours'?"),
        (("--baseline-rev", "HEAD", "--looks", "5"), "fewer than 9 processes"),
        (("--baseline-rev", "HEAD", "--emit", "junitt=x"), "Did you mean 'junit'?"),
        (("--baseline-python", "/no/such/python"), "cannot be run"),
        (("--baseline-rev", "HEAD", "--project", "gatedd"), "Did you mean 'gated'?"),
    ],
)
def test_a_gate_that_would_compare_nothing_is_an_error(gated, arguments, words):
    done = gated(*arguments)
    assert done.returncode == 2 and words in done.stderr, done.stdout + done.stderr


@pytest.fixture
def slower(gated):
    """Makes the installed candidate half as fast: enough to be seen across processes, whatever
    else the machine does."""
    ops = gated.source / "src" / "gated" / "ops.py"

    def change():
        ops.write_text(re.sub("TERMS = .*", "TERMS = 42", ops.read_text()))
        gated.install()

    yield change
    subprocess.run(["git", "checkout", "-q", "."], cwd=gated.source, check=True)
    gated.install()


@pytest.mark.slow
def test_a_build_that_registers_operators_runs_in_a_process_of_its_own(gated, slower, tmp_path):
    bench = gated.source / "src" / "gated" / "bench.py"
    before = bench.read_text()
    bench.write_text(
        before + '\n\n@torch.library.custom_op("gated::twice", mutates_args=())\n'
        "def twice(x: torch.Tensor) -> torch.Tensor:\n    return x * 2.0\n"
    )
    slower()
    emitted = tmp_path / "gate.json"
    arguments = ("--baseline-rev", "HEAD~1", "-c", "ours", *FAST)
    done = gated(*arguments, "--emit", f"json={emitted}")
    assert done.returncode in (1, 4), done.stdout + done.stderr  # 4: a control lost to a neighbour
    report = json.loads(emitted.read_text())
    assert "registers torch operators in the namespace 'gated'" in report["notes"][0]
    assert "two processes in turn" in report["mode"] and report["margin"] == 0.05
    (line,) = report["lines"]
    # Half as fast; on a machine with many neighbours not every process sees it.
    assert line["word"] == "slower" or (done.returncode == 4 and line["word"] == "inconclusive")
    assert line["ratio"]["high"] > 1.3
    assert line["processes"] == 9
    assert len(report["controls"]) == 2 and all(c["ratio"] for c in report["controls"])


@pytest.mark.slow
def test_a_stored_run_is_a_baseline_by_its_ratios(gated, slower, tmp_path):
    def bench(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "benchbench", *arguments],
            cwd=gated.source, env=gated.environment, capture_output=True, text=True,
        )  # fmt: skip

    subprocess.run([*GIT, "checkout", "-q", "HEAD~1"], cwd=gated.source, check=True)
    gated.install()
    store = f"--store={tmp_path / 'store'}"
    few = bench("run", store, "-n", "2", "--budget", "0.02", "--threads", "1")
    assert few.returncode == 0, few.stderr
    refused = gated("--baseline", "last", store)
    assert refused.returncode == 2 and "has 2 processes" in refused.stderr
    run = bench("run", store, "-n", "9", "--budget", "0.02", "--threads", "1")
    assert run.returncode == 0, run.stderr
    subprocess.run([*GIT, "checkout", "-q", "-"], cwd=gated.source, check=True)
    slower()
    emitted = tmp_path / "gate.json"
    done = gated("--baseline", "last", store, "--looks", "9", "--emit", f"json={emitted}")
    assert done.returncode in (1, 4), done.stdout + done.stderr
    report = json.loads(emitted.read_text())
    lines = {line["contender"]: line for line in report["lines"]}
    # Half as fast; on a machine with many neighbours not every process sees it.
    assert lines["ours"]["word"] == "slower" or (
        done.returncode == 4 and lines["ours"]["word"] == "inconclusive"
    )
    assert lines["ours"]["ratio"]["estimate"] > 1.05
    assert lines["eager"]["word"] == "skipped"
    assert any("of their time then" in note for note in report["notes"])

    (path,) = (tmp_path / "store").rglob(f"*{report['run']}*.jsonl")
    text = path.read_text()
    foreign = tmp_path / "foreign.jsonl"
    header, rest = text.split("\n", 1)
    data = json.loads(header)
    data["environment"]["cpu"] = "another processor"
    foreign.write_text(json.dumps(data) + "\n" + rest)
    refused = gated("--baseline", str(foreign), store)
    assert refused.returncode == 2 and "another processor" in refused.stderr
    forced = gated("--baseline", str(foreign), store, "--force", "--looks", "9")
    assert forced.returncode in (0, 4), forced.stdout + forced.stderr
    assert "the machines differ: cpu: another processor against" in forced.stdout
