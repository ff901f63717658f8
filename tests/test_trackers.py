"""Files for trackers: what each tracker requires of them, and that nothing unsound looks fast."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st
from synthetic import measured, result, run

from benchbench import store
from benchbench.gate.report import FORMATS, Control, GateReport, Line
from benchbench.records import to_json
from benchbench.reports import builtin
from benchbench.reports.trackers import FORMATS as TRACKERS
from benchbench.reports.trackers.entries import Entry, Tracked, distinct
from benchbench.reports.trackers.pytest_benchmark import figures_of
from benchbench.stats import Interval

CASE = "shapes/area[n=64,dtype=float32]"
PARAMS = {"n": 64, "dtype": "float32"}
ODD = "\x00\ud800\n|\"'</script>é"


def a_run(**header):
    rows = measured({"eager": 1.0, "fused": 0.5, "roof:copy": 0.4}, params=PARAMS)
    for process in range(6):
        rows += [
            result("liar", process, [1e-9] * 8, params=PARAMS, status="wrong", reason="it differs"),
            result("crash", process, params=PARAMS, status="failed", reason=f"ValueError: {ODD}"),
            result("gpu", process, params=PARAMS, status="skipped", reason="needs a GPU"),
        ]
    return run(rows, **header)


def line(contender, word, factor=1.0, **fields):
    return Line(
        case=CASE,
        contender=contender,
        word=word,
        candidate=1e-5 * factor,
        baseline=1e-5,
        processes=9,
        times=tuple(1e-5 * factor * (1 + 0.001 * n) for n in range(-4, 5)),
        ratio=Interval(estimate=factor, low=0.99 * factor, high=1.01 * factor, coverage=0.96),
        **fields,
    )


def a_gate(*, ok=True, lines=()):
    return GateReport(
        verdict="failed",
        summary="1 slower than the baseline",
        mode="both builds in one process",
        margin=0.02,
        alpha=0.01,
        looks=(9, 16, 24),
        candidate="p 2",
        baseline="p 1",
        lines=lines
        or (
            line("quick", "same"),
            line("slow", "slower", 1.1),
            line("unsure", "inconclusive", 0.9),
            Line(case=CASE, contender="liar", word="wrong", reason="in this build only: off"),
            Line(case=CASE, contender="gone", word="gone", reason="the baseline has it"),
            Line(case=CASE, contender="old", word="unchanged"),
        ),
        controls=(Control(name="a copy", case=CASE, ratio=None, ok=ok, text="found"),),
        started="2025-01-02T03:04:05+00:00",
        environment={"cpu": "Example CPU", "system": "Linux 6.1", "commit": "0123456789ab+"},
    )


def of_run(name, given=None):
    return strictly(builtin()[name].render(given or a_run()))


def of_gate(name, given=None):
    return strictly(FORMATS[name](given or a_gate()))


def strictly(text):
    """JSON as a strict reader takes it: no NaN, no half of a surrogate pair, no name twice."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    def once(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), "a name twice"
        return dict(pairs)

    content = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
    json.dumps(content, ensure_ascii=False).encode()
    return content


# What each tracker requires.


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_bencher(content):
    """bencher.dev's schema of BMF, and its limits of names."""
    assert isinstance(content, dict) and content
    for name, measures in content.items():
        assert 0 < len(name.encode()) <= 1024
        assert isinstance(measures, dict) and measures
        for measure, metric in measures.items():
            assert 0 < len(measure) <= 64
            assert {"value"} <= set(metric) <= {"value", "lower_value", "upper_value"}
            assert all(map(is_number, metric.values()))
            low, high = (metric.get(f"{end}_value", metric["value"]) for end in ("lower", "upper"))
            assert low <= metric["value"] <= high
    return content


def check_action(content):
    """github-action-benchmark's BenchmarkResult: texts and a number, which must not be missing."""
    assert isinstance(content, list) and content
    for item in content:
        assert {"name", "unit", "value"} <= set(item) <= {"name", "unit", "value", "range", "extra"}
        assert is_number(item["value"])
        assert all(isinstance(item[key], str) for key in set(item) - {"value"})
        if "range" in item:
            assert item["range"].startswith("± ") and float(item["range"][2:]) >= 0
    found = {item["name"]: item for item in content}
    assert len(found) == len(content), "a series is known by its name"
    return found


STATS = {
    "min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "iqr_outliers",
    "stddev_outliers", "outliers", "ld15iqr", "hd15iqr", "ops", "total", "data", "iterations",
}  # fmt: skip


def check_pytest(content):
    """What pytest-benchmark's comparison and the trackers that read its files use."""
    for key in ("machine_info", "commit_info"):
        assert isinstance(content[key], dict)
    assert {"node", "machine", "system", "python_version", "cpu"} <= set(content["machine_info"])
    assert {"id", "time", "dirty", "branch"} <= set(content["commit_info"])
    assert isinstance(content["datetime"], str) and isinstance(content["version"], str)
    found = {bench["fullname"]: bench for bench in content["benchmarks"]}
    assert len(found) == len(content["benchmarks"])
    for bench in content["benchmarks"]:
        assert set(bench) == {
            "group", "name", "fullname", "params", "param", "extra_info", "options", "stats",
        }  # fmt: skip
        assert bench["params"] is None or all(isinstance(v, str) for v in bench["params"].values())
        stats = bench["stats"]
        assert set(stats) == STATS
        assert all(is_number(v) for key, v in stats.items() if key not in ("outliers", "data"))
        assert stats["rounds"] == len(stats["data"])
        assert 0 < stats["min"] <= stats["median"] <= stats["max"]
    return found


CHECKS = {
    "bencher": check_bencher,
    "github-action-benchmark": check_action,
    "pytest-benchmark": check_pytest,
}


def test_every_format_is_checked_here():
    assert set(CHECKS) == set(TRACKERS) <= set(builtin()) & set(FORMATS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_run_and_a_gate_are_as_the_tracker_requires(name):
    CHECKS[name](of_run(name))
    CHECKS[name](of_gate(name))
    CHECKS[name](of_gate(name, a_gate(lines=(Line(case=CASE, contender="u", word="unchanged"),))))
    CHECKS[name](of_run(name, run([])))


# Values and units.


def test_bencher_holds_nanoseconds_with_the_interval():
    content = check_bencher(of_run("bencher"))
    (summary,) = [
        s for s in json.loads(builtin()["json"].render(a_run()))["summary"]
        if s["contender"] == "fused"
    ]  # fmt: skip
    fused = content[f"{CASE} fused"]
    assert fused["latency"] == {
        "value": pytest.approx(1e9 * summary["time"]),
        "lower_value": pytest.approx(1e9 * summary["time_low"]),
        "upper_value": pytest.approx(1e9 * summary["time_high"]),
    }
    assert fused["ratio"]["value"] == pytest.approx(0.5, rel=0.02)
    assert "ratio" not in content[f"{CASE} eager"]
    assert not any("roof" in name for name in content)


def test_too_few_processes_claim_no_bounds():
    content = check_bencher(of_run("bencher", run(measured({"eager": 1.0}, processes=2))))
    assert set(content["shapes/area[n=1024] eager"]["latency"]) == {"value"}
    items = check_action(
        of_run("github-action-benchmark", run(measured({"eager": 1.0}, processes=2)))
    )
    assert "range" not in items["shapes/area[n=1024] eager"]


def test_the_gate_sends_the_candidate_and_the_ratio_to_the_earlier_build():
    content = check_bencher(of_gate("bencher"))
    slow = content[f"{CASE} slow"]
    assert slow["latency"]["value"] == pytest.approx(1.1e4)
    assert slow["gate-ratio"] == pytest.approx(
        {"value": 1.1, "lower_value": 1.089, "upper_value": 1.111}
    )
    items = check_action(of_gate("github-action-benchmark"))
    assert items[f"{CASE} slow"]["unit"] == "ns"
    ratio = items[f"{CASE} slow (over the earlier build)"]
    assert (ratio["value"], ratio["unit"]) == (1.1, "times")
    assert float(ratio["range"][2:]) == pytest.approx(0.011)
    bench = check_pytest(of_gate("pytest-benchmark"))["shapes/area::slow[n=64,dtype=float32]"]
    assert bench["stats"]["median"] == pytest.approx(1.1e-5)
    assert bench["extra_info"]["gate_ratio"] == 1.1 and bench["extra_info"]["word"] == "slower"
    assert bench["params"] == {"n": "64", "dtype": "float32"} and bench["group"] == CASE


def test_instructions_are_not_taken_for_seconds():
    counted = [
        replace(r, unit="instructions", samples=tuple(round(1e9 * s) for s in r.samples))
        for r in measured({"eager": 1.0, "fused": 0.5}, params=PARAMS)
    ]
    given = run(counted)
    assert set(check_bencher(of_run("bencher", given))[f"{CASE} eager"]) == {"instructions"}
    items = check_action(of_run("github-action-benchmark", given))
    assert items[f"{CASE} eager"]["unit"] == "instructions"
    content = of_run("pytest-benchmark", given)
    assert check_pytest(content) == {}
    assert {left["contender"] for left in content["benchbench"]["not_measured"]} == {
        "eager",
        "fused",
    }
    assert "instructions" in content["benchbench"]["not_measured"][0]["reason"]


# What is not sound.


def test_what_is_wrong_or_missing_has_no_time_and_is_counted():
    bencher = check_bencher(of_run("bencher"))
    assert bencher[f"{CASE} liar"] == {"wrong": {"value": 1.0}}
    assert bencher[f"{CASE} crash"] == {"failed": {"value": 1.0}}
    assert bencher[f"{CASE} gpu"] == {"skipped": {"value": 1.0}}
    assert {name: m["value"] for name, m in bencher["benchbench run"].items()} == {
        "wrong-or-failed": 2, "not-measured": 1, "inconclusive": 0,
    }  # fmt: skip
    items = check_action(of_run("github-action-benchmark"))
    assert not any(name.startswith(f"{CASE} {bad}") for name in items for bad in ("liar", "crash"))
    total = items["benchbench run: wrong or failed"]
    assert total["value"] == 2 and f"{CASE} liar: wrong, it differs" in total["extra"]
    assert items["benchbench run: inconclusive"]["value"] == 0
    content = of_run("pytest-benchmark")
    assert not any("liar" in name for name in check_pytest(content))
    left = {entry["contender"]: entry for entry in content["benchbench"]["not_measured"]}
    assert set(left) == {"liar", "crash", "gpu"} and left["gpu"]["reason"] == "needs a GPU"
    assert content["benchbench"]["totals"]["wrong or failed"] == 2


def test_what_a_gate_did_not_time_is_counted_too():
    bencher = check_bencher(of_gate("bencher"))
    assert bencher[f"{CASE} old"] == {"unchanged": {"value": 1.0}}
    assert bencher[f"{CASE} gone"] == {"gone": {"value": 1.0}}
    assert set(bencher[f"{CASE} unsure"]) == {"latency", "gate-ratio", "inconclusive"}
    totals = {name: metric["value"] for name, metric in bencher["benchbench gate"].items()}
    assert totals == {
        "slower": 1, "wrong-or-failed": 1, "not-measured": 1, "inconclusive": 1, "unchanged": 1,
        "controls-missed": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_a_missed_control_leaves_no_ratio_and_no_verdict(name):
    text = json.dumps(of_gate(name, a_gate(ok=False)))
    for claim in ("gate-ratio", "gate_ratio", "over the earlier build", '"same"', '"slower"}'):
        assert claim not in text
    assert "controls" in text and "inconclusive" in text


def test_a_missed_control_is_counted():
    bencher = check_bencher(of_gate("bencher", a_gate(ok=False)))["benchbench gate"]
    assert bencher["controls-missed"]["value"] == 1
    assert bencher["slower"]["value"] == 0 and bencher["inconclusive"]["value"] == 3
    items = check_action(of_gate("github-action-benchmark", a_gate(ok=False)))
    assert "a copy" in items["benchbench gate: controls missed"]["extra"]


def test_what_an_interrupted_run_did_not_reach_is_not_measured():
    whole = a_run()
    part = replace(whole, results=tuple(r for r in whole.results if r.contender != "fused"))
    bencher = check_bencher(of_run("bencher", part))
    assert bencher[f"{CASE} fused"] == {"not-measured": {"value": 1.0}}
    assert bencher["benchbench run"]["not-measured"]["value"] == 2


def test_what_was_only_checked_is_not_measured():
    rows = [replace(r, samples=()) for r in measured({"eager": 1.0})]
    bencher = check_bencher(of_run("bencher", run(rows)))
    assert bencher["shapes/area[n=1024] eager"] == {"not-measured": {"value": 1.0}}


NUMBER = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0, 5e-324, 1e308])
SPAN = st.builds(
    Interval, estimate=NUMBER, low=NUMBER, high=NUMBER, coverage=st.sampled_from([0.0, 0.95])
)
TEXT = (
    st.text(st.characters(), max_size=30) | st.just(ODD) | st.sampled_from(["é" * 600, "a b", ""])
)
LINES = st.lists(
    st.builds(
        Line,
        case=TEXT | st.just(CASE),
        contender=TEXT,
        word=st.sampled_from(
            ["slower", "faster", "same", "not slower", "inconclusive", "unchanged", "wrong",
             "failed", "skipped", "new", "gone"]
        ),
        reason=TEXT,
        unit=st.sampled_from(["s", "instructions"]),
        candidate=st.none() | NUMBER,
        baseline=st.none() | NUMBER,
        ratio=st.none() | SPAN,
        times=st.lists(st.floats(1e-9, 10) | st.just(1e308), max_size=7).map(tuple),
    ),
    max_size=6,
)  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
@settings(max_examples=60, deadline=None)
@given(lines=LINES, ok=st.booleans())
def test_odd_names_and_numbers_are_still_what_the_tracker_requires(name, lines, ok):
    report = replace(a_gate(ok=ok), lines=tuple(lines), summary=ODD, environment={"cpu": ODD})
    CHECKS[name](of_gate(name, report))


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT | st.sampled_from(["a", "a #2", "b"]), max_size=8))
def test_names_are_distinct_whole_and_short(names):
    found = distinct(names)
    assert len(set(found)) == len(names)
    assert all(
        0 < len(name.encode()) <= 1024 and name.isprintable() for name in found if name.isascii()
    )


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z")), min_size=1, max_size=40))
def test_a_plain_name_stays_as_it_is(name):
    if len(name.split()) == 1 and name.isprintable():
        assert distinct([name]) == [name]


def test_an_altered_name_is_the_same_in_every_run():
    (alone,) = distinct(["a\nb"])
    assert distinct(["c", "a\nb", "a b"])[1] == alone != "a b"


# pytest-benchmark's figures.


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=30))
def test_the_figures_are_those_of_the_rounds(rounds):
    found = figures_of(rounds)
    assert found["mean"] == pytest.approx(statistics.fmean(rounds))
    assert found["ops"] == pytest.approx(1 / found["mean"])
    assert found["min"] <= found["ld15iqr"] <= found["hd15iqr"] <= found["max"]
    assert found["iqr"] == pytest.approx(found["q3"] - found["q1"], abs=1e-12)
    assert found["outliers"] == f"{found['stddev_outliers']};{found['iqr_outliers']}"


@pytest.mark.parametrize(
    ("rounds", "quartiles"),
    [([1], (1, 1)), ([1, 2], (1, 2)), ([1, 2, 3], (1.25, 2.75)), ([1, 2, 3, 4, 5], (1.75, 4.25)),
     ([6, 7, 15, 36, 39, 40, 41, 42, 43, 47, 49], (20.25, 42.75)),
     ([7, 15, 36, 39, 40, 41], (15, 40))],
)  # fmt: skip
def test_quartiles(rounds, quartiles):
    found = figures_of([float(r) for r in rounds])
    assert (found["q1"], found["q3"]) == quartiles


def test_pytest_benchmark_compares_what_we_wrote(tmp_path):
    pytest.importorskip("pytest_benchmark", reason="the tracker itself, where it is installed")
    for name in ("before", "after"):
        (tmp_path / f"{name}.json").write_text(builtin()["pytest-benchmark"].render(a_run()))
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "before.json", "after.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fused[n=64,dtype=float32] (after)" in done.stdout and "WARNING" not in done.stderr


# Through the command.


@pytest.mark.parametrize("name", CHECKS)
def test_a_stored_run_is_shown_for_a_tracker(name, tmp_path):
    from benchbench.cli import main

    given = a_run()
    writer = store.create(tmp_path, dict(given.header))
    for r in given.results:
        writer.append({"type": "result", **to_json(r)})
    writer.close("complete")
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit) as ended:
        main(["show", "last", "--store", str(tmp_path), "-f", name, "-o", str(out)])
    assert not ended.value.code
    CHECKS[name](strictly(out.read_text()))


def test_a_tracker_is_given_entries_only():
    """The seam for further trackers: a renderer is a pure function of what is tracked."""
    entry = Entry(case=CASE, contender="x", word="measured")
    for render, _ in TRACKERS.values():
        tracked = Tracked(source="run", entries=(entry,), totals={"not measured": 0})
        assert render(tracked) == render(tracked)
