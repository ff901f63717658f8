"""Files of runs: written line by line, read whole, torn or foreign."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from synthetic import measured, result, run

from benchbench import history, store
from benchbench.errors import StoreError, UsageError
from benchbench.records import to_json


def write(directory, given, *, status="complete"):
    """The run as a file, the way a run writes it."""
    writer = store.create(directory, given.header)
    for process in given.processes:
        writer.append({"type": "process", **process})
    for r in given.results:
        writer.append({"type": "result", **to_json(r)})
    if status:
        writer.close(status)
    return writer.path


def test_what_is_read_is_what_was_written(tmp_path):
    before = run(measured({"eager": 1.0, "fused": 0.5}, params={"shape": (8, 64), "on": True}))
    after = store.read(write(tmp_path, before))
    assert after.results == before.results
    assert after.id == before.id
    assert after.complete
    assert after.header["environment"] == before.header["environment"]
    assert [p["process"] for p in after.processes] == list(range(6))


def test_numbers_that_json_lacks_survive(tmp_path):
    odd = result("eager", 0, [1e-3], metrics={"steps": math.inf}, errors={"max": math.nan})
    read = store.read(write(tmp_path, run([odd]))).results[0]
    assert read.metrics["steps"] == math.inf
    assert math.isnan(read.errors["max"])


def test_each_line_is_in_the_file_at_once(tmp_path):
    writer = store.create(tmp_path, run([]).header)
    for count in range(1, 4):
        writer.append({"type": "result", **to_json(result("eager", count, [1.0]))})
        assert len(store.read(writer.path).results) == count


def test_a_killed_writer_loses_nothing(tmp_path):
    """The process that writes is ended at once after its last append, with no clean-up."""
    script = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from benchbench import store
        writer = store.create(Path({str(tmp_path)!r}), {{"id": "killed"}})
        for i in range(100):
            writer.append({{"type": "event", "kind": "case", "number": i}})
        os.kill(os.getpid(), 9)
    """)
    subprocess.run([sys.executable, "-c", script], check=False)
    found = store.read(store.find(tmp_path, "last"))
    assert len(found.events) == 100
    assert not found.complete


def test_a_torn_last_line_costs_that_line_only(tmp_path):
    path = write(tmp_path, run(measured({"eager": 1.0})), status="")
    whole = path.read_bytes()
    path.write_bytes(whole[:-25])
    assert len(store.read(path).results) == 5
    assert not store.read(path).complete


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_after_its_header_can_be_read_and_continued(tmp_path, data):
    path = tmp_path / "runs" / "20250102-030405-abcd.jsonl"
    path.unlink(missing_ok=True)
    write(tmp_path, run(measured({"eager": 1.0}, processes=3, passes=2)))
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    cut = data.draw(st.integers(start, len(whole)))
    path.write_bytes(whole[:cut])
    before = store.read(path)
    lines = whole[:cut].split(b"\n")
    expected = sum(json.loads(line)["type"] == "result" for line in lines[:-1])
    # A last line whose new line alone is missing is whole.
    assert len(before.results) in (expected, expected + 1)
    writer = store.Writer(path)
    writer.append({"type": "result", **to_json(result("late", 9, [1.0]))})
    writer.close("complete")
    after = store.read(path)
    assert after.complete
    assert after.results[-1].contender == "late"
    assert after.results[:-1] == before.results


def test_a_repeated_result_replaces_the_first(tmp_path):
    writer = store.create(tmp_path, run([]).header)
    for value in (1.0, 2.0):
        writer.append({"type": "result", **to_json(result("eager", 0, [value]))})
    assert [r.samples for r in store.read(writer.path).results] == [(2.0,)]


def test_progress_is_not_stored(tmp_path):
    writer = store.create(tmp_path, run([]).header)
    before = writer.path.read_text()
    writer.append({"type": "progress", "done": 1})
    assert writer.path.read_text() == before


def test_a_newer_file_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text(json.dumps({"type": "run", "schema": store.SCHEMA + 1, "id": "x"}) + "\n")
    with pytest.raises(StoreError, match="Upgrade"):
        store.read(path)


def test_fields_and_records_of_the_future_are_passed_over(tmp_path):
    path = write(tmp_path, run(measured({"eager": 1.0})), status="")
    future = {"type": "result", **to_json(result("eager", 7, [1.0])), "colour": "blue"}
    with path.open("a") as file:
        file.write(json.dumps({"type": "weather", "rain": True}) + "\n")
        file.write(json.dumps(future) + "\n")
    assert len(store.read(path).results) == 7


def test_other_files_are_no_runs(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text("hello\n")
    with pytest.raises(StoreError, match="no header"):
        store.read(path)
    with pytest.raises(StoreError, match="cannot be read"):
        store.read(tmp_path / "absent.jsonl")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--store"):
        store.create(tmp_path / "file", {"id": "x"})


def test_runs_are_found_by_id_beginning_path_and_last(tmp_path):
    ids = ["20250101-000000-aaaa", "20250102-000000-bbbb"]
    paths = [write(tmp_path, run(measured({"eager": 1.0}), identity=i)) for i in ids]
    assert store.find(tmp_path, "last") == paths[1]
    assert store.find(tmp_path, ids[0]) == paths[0]
    assert store.find(tmp_path, "20250101") == paths[0]
    assert store.find(tmp_path, str(paths[0])) == paths[0]
    with pytest.raises(UsageError, match="2 runs"):
        store.find(tmp_path, "2025")
    with pytest.raises(UsageError, match="Did you mean '20250102-000000-bbbb'"):
        store.find(tmp_path, "20250102-000000-bbbc")
    with pytest.raises(UsageError, match="no runs"):
        store.find(tmp_path / "empty", "last")


def test_ids_sort_by_time_and_never_repeat():
    ids = []
    for _ in range(20):
        ids.append(store.new_id())
        time.sleep(0.002)
    assert len(set(ids)) == 20 and sorted(ids) == ids
    assert all(len(i) == len("20250102-030405-3e7ab") for i in ids)


def test_the_directory_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCHBENCH_STORE", raising=False)
    assert str(store.default_directory()) == ".benchbench"
    monkeypatch.setenv("BENCHBENCH_STORE", str(tmp_path))
    assert store.default_directory() == tmp_path


# Resuming


def test_a_run_is_continued_under_the_same_header():
    given = run(measured({"eager": 1.0}))
    assert store.resume_conflicts(given, given.header) == []
    assert store.done(given) == {(given.results[0].case, "eager", p) for p in range(6)}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("settings", {"budget": 9.0}, "budget was None, now 9.0"),
        ("cases", [], "cases: 1 before, 0 now"),
    ],
)
def test_a_run_is_not_continued_under_another_header(field, value, named):
    given = run(measured({"eager": 1.0}), settings={})
    (conflict,) = store.resume_conflicts(given, {**given.header, field: value})
    assert named in conflict


def test_another_version_of_a_plugin_is_a_conflict():
    def plugins(version):
        return [{"provider": {"plugin": "p", "distribution": "pack", "version": version}}]

    given = run(measured({"eager": 1.0}), plugins=plugins("1"))
    assert store.resume_conflicts(given, {**given.header, "plugins": plugins("1")}) == []
    (conflict,) = store.resume_conflicts(given, {**given.header, "plugins": plugins("2")})
    assert "pack:p was '1', now '2'" in conflict


# History


def several(tmp_path, count=3):
    for day in range(1, count + 1):
        given = run(
            measured({"eager": 1.0, "fused": 0.5}, base=day * 1e-5, seed=day),
            identity=f"2025010{day}-000000-aaaa",
            started=f"2025-01-0{day}T00:00:00+00:00",
        )
        write(tmp_path, given)


@pytest.mark.parametrize("pattern", ["shapes", "shapes/area", "sha*/area", "shapes/area[n=1024]"])
def test_a_case_over_runs(tmp_path, pattern):
    several(tmp_path)
    found = history.entries(tmp_path, pattern, ["fused"])
    assert [e.run[:8] for e in found] == ["20250101", "20250102", "20250103"]
    assert all(e.ratio.estimate == pytest.approx(0.5, rel=0.01) for e in found)
    assert found[2].latency.estimate > 1.5 * found[0].latency.estimate
    assert all(e.ratio is None for e in history.entries(tmp_path, pattern, ["eager"]))


def test_the_index_follows_the_files(tmp_path):
    several(tmp_path, 2)
    assert len(history.entries(tmp_path, "shapes")) == 4
    several(tmp_path, 3)
    assert len(history.entries(tmp_path, "shapes")) == 6
    store.find(tmp_path, "20250101").unlink()
    assert len(history.entries(tmp_path, "shapes")) == 4
    assert history.workloads(tmp_path) == {"shapes/area"}


def test_a_run_that_grew_is_read_again(tmp_path):
    path = write(tmp_path, run(measured({"eager": 1.0})), status="")
    assert [e.contender for e in history.entries(tmp_path, "shapes")] == ["eager"]
    writer = store.Writer(path)
    for r in measured({"fused": 0.5}):
        writer.append({"type": "result", **to_json(r)})
    assert [e.contender for e in history.entries(tmp_path, "shapes")] == ["eager", "fused"]


@pytest.mark.parametrize("damage", [b"no database at all, only text" * 99, b""])
def test_a_damaged_index_is_made_anew(tmp_path, damage):
    several(tmp_path)
    (tmp_path / history.FILE).write_bytes(damage)
    assert len(history.entries(tmp_path, "shapes")) == 6


def test_an_index_of_another_version_is_made_anew(tmp_path, monkeypatch):
    several(tmp_path)
    assert len(history.entries(tmp_path, "shapes")) == 6
    monkeypatch.setattr(history, "VERSION", history.VERSION + 1)
    assert len(history.entries(tmp_path, "shapes")) == 6


def test_an_index_that_cannot_be_written_is_not_needed(tmp_path):
    several(tmp_path)
    (tmp_path / history.FILE).mkdir()
    assert len(history.entries(tmp_path, "shapes")) == 6


def test_a_damaged_run_does_not_hide_the_others(tmp_path):
    several(tmp_path)
    (tmp_path / "runs" / "20240101-000000-dead.jsonl").write_text("half a li")
    assert len(history.entries(tmp_path, "shapes")) == 6


def test_what_failed_is_in_the_history_too(tmp_path):
    broken = [
        replace(r, status="failed", samples=(), reason="no") for r in measured({"eager": 1.0})
    ]
    write(tmp_path, run(broken))
    (entry,) = history.entries(tmp_path, "shapes")
    assert (entry.status, entry.latency) == ("failed", None)
