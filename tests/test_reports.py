"""What a person or a program reads of a run whose figures are known."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, strategies as st
from synthetic import measured, result, run

from benchbench.reports import builtin, text
from benchbench.reports.sheet import document
from benchbench.reports.table import draw
from benchbench.stats import Interval


def example(**header):
    """Two cases of one workload, with a roof, a wrong, a failed and an unavailable contender."""
    results = []
    for n, factor in ((64, 0.8), (4096, 0.5)):
        params = {"n": n, "dtype": "float32"}
        rows = measured(
            {"eager": 1.0, "fused": factor, "slow": 1.5, "roof:copy": 0.4}, params=params, seed=n
        )
        results += [
            replace(
                r,
                metrics={} if r.role == "roof" else {"ulp": 1.5},
                signals={"peak_memory": 3 * 2**20},
                notes=("page faults",) if r.contender == "slow" else (),
            )
            for r in rows
        ]
        for process in range(6):
            results += [
                result(
                    "liar", process, params=params, status="wrong", stage="audit",
                    reason="a timed output differs",
                ),
                result(
                    "crash", process, params=params, status="failed", stage="build",
                    reason="ValueError: no [such] thing",
                ),
                result("gpu", process, params=params, status="skipped", reason="needs a GPU"),
            ]  # fmt: skip
    results += measured({"torch": 1.0, "other": 2.0}, workload="paint/wall", baseline="torch")
    return run(results, **header)


def render(name, given=None):
    return builtin()[name].render(given or example())


@pytest.fixture(autouse=True)
def in_a_pipe(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


# Numbers


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (3.21e-10, "0.321 ns"),
        (1.234e-8, "12.3 ns"),
        (9.996e-6, "10.0 µs"),
        (1.2345e-5, "12.3 µs"),
        (9.9999e-4, "1.00 ms"),
        (0.25, "250 ms"),
        (12.0, "12.0 s"),
        (4321.0, "4320 s"),
    ],
)
def test_durations_have_three_digits_and_a_unit(seconds, shown):
    assert text.duration(seconds) == shown


@given(st.floats(1e-9, 1e3))
def test_a_shown_duration_is_the_duration(seconds):
    number, unit = text.duration(seconds).split()
    factor = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert float(number) * factor == pytest.approx(seconds, rel=6e-3)
    assert len(number.replace(".", "")) <= 4


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((1.2e-7, 1.2e-7), "1.0 eps"),
        ((6.0e-8, 1.2e-7, 1.2e-7), "0.50 eps (1.0)"),
        ((1.2e-9, 1.2e-7, 1.2e-7), "<0.1 eps (1.0)"),
        ((0.5, 1.2e-7, 1.2e-7), "5.0e-01 (1.2e-07)"),
        ((0.0, 1.2e-7, 1.2e-7), "exact (1.0)"),
        ((0.25,), "2.5e-01"),
    ],
)
def test_errors_stand_beside_the_baselines(given, shown):
    assert text.error(*given) == shown


def test_spread_and_speedup():
    claimed = Interval(estimate=0.5, low=0.4, high=0.505, coverage=0.96)
    assert text.spread(claimed) == "±20 %"
    assert text.spread(replace(claimed, high=50.0)) == ">999 %"
    assert text.speedup(claimed) == "2.00x [1.98, 2.50]"
    assert text.speedup(replace(claimed, coverage=0.0)) == "2.00x"
    assert text.spread(replace(claimed, coverage=0.0)) == ""


def test_one_is_not_many():
    assert text.counted(1, "core") == "1 core"
    assert [text.counted(n, "core") for n in (0, 2, "?")] == ["0 cores", "2 cores", "? cores"]


def test_sizes_rates_and_other_units():
    assert text.size(3 * 2**20) == "3.00 MiB"
    assert text.size(0) == "0 B"
    assert text.large(1.5e9) == "1.50 G"
    assert text.duration(12345.0, "instructions") == "12.3 k instr"


# Table


def line_of(shown, contender):
    return next(line for line in shown.splitlines() if line.startswith(contender + " "))


def test_the_table_is_sorted_by_speed_within_each_case():
    shown = render("table")
    first = shown.index("n=64")
    assert first < shown.index("fused", first) < shown.index("eager", first)
    assert shown.index("eager", first) < shown.index("slow", first) < shown.index("n=4096")


def test_an_axis_with_one_value_stands_in_the_title():
    lines = render("table").splitlines()
    assert "shapes/area  dtype=float32" in lines
    assert "n=64" in lines
    assert "n=4096" in lines


def test_a_row_has_time_ratio_verdict_roof_error_memory():
    row = line_of(render("table"), "fused")
    for part in ("µs", "x [", "faster", " %", "eps", "3.00 MiB", "1.5"):
        assert part in row, part
    assert "baseline" in line_of(render("table"), "eager")
    assert "page faults" in line_of(render("table"), "slow")


def test_roofs_are_not_contenders():
    assert "roof:copy" not in render("table")


def test_what_was_not_measured_is_explained_below_once():
    lines = [line.strip() for line in render("table").splitlines()]
    assert lines.count("liar WRONG (audit): a timed output differs") == 1
    assert lines.count("crash FAILED (build): ValueError: no [such] thing") == 1
    assert lines.count("gpu unavailable: needs a GPU") == 1


def test_cases_stand_in_the_order_of_the_plan():
    given = example()
    backwards = replace(given, results=tuple(reversed(given.results)))
    shown = render("table", backwards)
    assert shown.index("n=64") < shown.index("n=4096")


def test_contenders_with_the_same_reason_share_a_line():
    results = measured({"eager": 1.0})
    for name in ("one", "two"):
        results += [result(name, p, status="skipped", reason="not installed") for p in range(6)]
    assert "  one, two unavailable: not installed\n" in render("table", run(results))


def test_heading_and_legend_say_what_was_done():
    shown = render("table")
    for part in (
        "Example CPU  2 cores",
        "torch 2.11.0  2 threads",
        "run 20250102-030405-abcd",
        "6 processes",
        "96.9 % intervals",
        "an empty call takes 40.0 ns",
        "3 cases: 8 measured, 2 unavailable, 2 wrong, 2 failed",
        "against the baseline: 2 faster, 0 same, 3 slower, 0 inconclusive",
        "page faults: memory was mapped in anew",
    ):
        assert part in shown, part


def test_a_quick_look_says_so_and_gives_no_verdict():
    shown = render("table", run(measured({"eager": 1.0, "fused": 0.5}, processes=1)))
    assert "1 process: a quick look" in shown
    assert "no interval and no verdict" in shown
    assert "faster" not in shown
    assert "±" not in shown
    assert "1.99x " in line_of(shown, "fused")


def test_an_interrupted_run_says_how_to_go_on():
    given = replace(run(measured({"eager": 1.0})), complete=False)
    assert "benchbench run --resume 20250102-030405-abcd" in render("table", given)


def test_a_failed_plugin_stays_in_the_table():
    provider = {"plugin": "bad", "distribution": "bad-pack", "version": "3"}
    given = example(
        plugins=[{"provider": provider, "status": "failed", "reason": "no such module"}]
    )
    assert "plugin bad (bad-pack 3) failed: no such module" in render("table", given)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_rows_fit_the_width_and_no_cell_is_cut(width):
    shown = draw(document(example()), width)
    assert "…" not in shown
    tables = [line for line in shown.splitlines() if "µs" in line]
    assert tables
    if width >= 80:
        assert max(map(len, tables)) <= width
    for column in ("contender", "time", "speed-up", "verdict"):
        assert column in shown
    if width < 100:
        assert "left out for want of width: rate, memory" in shown


def test_long_names_and_brackets_are_shown_as_they_are():
    name = "a-very-long-contender-name-that-somebody-chose"
    shown = draw(document(run(measured({"eager": 1.0, name: 0.5}))), 80)
    assert name in shown


def test_noisy_rows_are_marked():
    results = measured({"eager": 1.0, "fused": 0.5}, noise=0.2)
    assert "noisy" in line_of(render("table", run(results)), "fused")
    steady = measured({"eager": 1.0, "fused": 0.5}, noise=0.001)
    assert "noisy" not in line_of(render("table", run(steady)), "fused")


def test_processes_that_are_missing_are_counted():
    results = [
        replace(r, status="quarantined", samples=(), reason="clocks")
        if (r.contender, r.process) == ("fused", 0)
        else r
        for r in measured({"eager": 1.0, "fused": 0.5}, processes=7)
    ]
    assert "6 of 7 processes" in line_of(render("table", run(results)), "fused")


def test_a_pipe_gets_no_escape_sequences():
    assert "\x1b" not in render("table")


def test_an_empty_run_is_no_error():
    for name in builtin():
        assert render(name, run([]))


# Markdown, CSV, JSON


def test_markdown_tables_are_well_formed():
    shown = render("markdown")
    tables = [line for line in shown.splitlines() if line.startswith("|")]
    widths = {}
    for line in tables:
        widths.setdefault(line.count("|"), []).append(line)
    assert "### shapes/area" in shown
    assert "- `liar` WRONG (audit): a timed output differs" in shown
    heads = [i for i, line in enumerate(tables) if line.startswith("| contender")]
    assert all(tables[i + 1].startswith("| ---") for i in heads)
    for start, end in zip(heads, [*heads[1:], len(tables)], strict=True):
        assert len({line.count("|") for line in tables[start:end]}) == 1


class Page(HTMLParser):
    """Checks that elements nest, and keeps what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.rows = [], [], []

    def handle_starttag(self, tag, attrs):
        self.fetched += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "hr"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1].append(data)


def test_html_is_one_well_formed_page_that_fetches_nothing():
    name = "<b>&name"
    page = Page()
    shown = render("html", run(measured({"eager": 1.0, name: 0.5})))
    page.feed(shown)
    assert page.open == []
    assert page.fetched == []
    assert "url(" not in shown
    assert "script" not in shown
    assert [row[0] for row in page.rows] == ["contender", name, "eager"]
    assert "liar WRONG (audit) [n=64]: a timed output differs" in render("html")


def test_csv_has_every_contender_in_full_precision():
    given = example()
    rows = list(csv.DictReader(io.StringIO(render("csv", given))))
    fused = next(r for r in rows if (r["contender"], r["axis:n"]) == ("fused", "4096"))
    assert float(fused["ratio"]) == pytest.approx(0.5, rel=0.01)
    assert len(fused["time"]) > 12
    assert float(fused["ratio_low"]) <= float(fused["ratio"]) <= float(fused["ratio_high"])
    assert float(fused["coverage"]) == 0.96875
    assert fused["verdict"] == "faster"
    assert fused["metric:ulp"] == "1.5"
    assert fused["distribution"] == "shapes-pack"
    liar = next(r for r in rows if r["contender"] == "liar")
    assert (liar["status"], liar["time"]) == ("wrong", "")


def test_json_has_the_summary_and_every_sample():
    given = example()
    data = json.loads(render("json", given))
    assert data["id"] == given.id
    assert len(data["results"]) == len(given.results)
    assert data["results"][0]["samples"] == list(given.results[0].samples)
    assert {"eager", "fused", "liar"} <= {row["contender"] for row in data["summary"]}
    assert data["environment"]["cpu"] == "Example CPU"
