"""Every hook from end to end: a run through real workers with a plugin that uses all of them."""

import json
from pathlib import Path

import pytest

from benchbench import supervise
from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions, load

ZOO = Path(__file__).parent / "zoo"
BRIEF = Settings(
    processes=2, budget=0.0, min_passes=2, max_passes=2, sample_seconds=0.0, warmup=0.0, threads=1
)


def run(settings, engine, *files):
    options = LoaderOptions(files=tuple(str(ZOO / file) for file in files), allowed=())
    description = Description.from_json(supervise.describe(LocalEngine(), options, settings))
    records = []
    supervise.execute(
        plan(description, ["hooks"]),
        settings=settings,
        engine=engine,
        options=options,
        emit=records.append,
    )
    return records


def of_type(records, kind):
    return [record for record in records if record["type"] == kind]


@pytest.fixture
def observed(tmp_path, monkeypatch):
    path = tmp_path / "observed"
    monkeypatch.setenv("ZOO_OBSERVED", str(path))
    return path


def test_a_plugin_that_uses_every_hook(observed):
    from dataclasses import replace

    twin = load(LoaderOptions(files=(str(ZOO / "every_hook.py"),), allowed=())).catalog.engines[
        "twin"
    ]
    records = run(replace(BRIEF, timer="coarse"), twin, "every_hook.py")
    results = [r for r in of_type(records, "result") if r["role"] == "contender"]
    assert {(r["contender"], r["process"], r["status"]) for r in results} == {
        (name, process, "ok") for name in ("eager", "maximum") for process in (0, 1)
    }
    assert {r["timer"] for r in results} == {"coarse"}
    assert [p["environment"]["weather"] for p in of_type(records, "process")] == ["dry", "dry"]
    seen = [json.loads(line) for line in observed.read_text().splitlines()]
    cases = [s for s in seen if s["hook"] == "run_case"]
    assert [s["when"] for s in cases] == ["before", "after"] * 2
    assert [s["process"] for s in cases if s["when"] == "before"] == [0, 1]
    watched = [s["contender"] for s in seen if s["hook"] == "result"]
    assert sorted(set(watched)) == ["eager", "maximum", "roof:copy"]


def test_a_hook_around_cases_that_raises_costs_nobody_a_row(observed):
    records = run(BRIEF, LocalEngine(), "every_hook.py", "breaks_run_case.py")
    results = [r for r in of_type(records, "result") if r["role"] == "contender"]
    assert [r["status"] for r in results] == ["ok"] * 4
    told = [r["text"] for r in of_type(records, "event") if r.get("kind") == "hook"]
    assert len(told) == 2  # once a process
    assert "breaks_run_case" in told[0] and "the power meter is not connected" in told[0]
