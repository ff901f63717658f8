"""The parent's rules: who is blamed, what is run again, what ends a run. With scripted workers."""

import os
import signal
import time
from collections import deque
from pathlib import Path

import pytest

from benchbench.catalog import Description
from benchbench.contract import Case, PlannedCase, Settings
from benchbench.engines.local import LocalEngine
from benchbench.errors import BenchbenchError, UsageError, WorkerDied
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.supervise import describe, execute, render
from benchbench.watch import crash_place

ZOO = Path(__file__).parent / "zoo" / "runtime"
SETTINGS = Settings(processes=2, timeout=0.5, memory_limit=1000)


def planned(n, names=("base", "a", "b")):
    return PlannedCase(
        case=Case(workload="t/w", params={"n": n}), baseline=names[0], contenders=tuple(names)
    )


def stage(case, contender, what="check"):
    return {"type": "stage", "case": case, "contender": contender, "stage": what}


class Script:
    """A worker that follows rules: ``fate(contender, case, process)`` says how a step ends."""

    def __init__(self, engine, spec):
        self.engine, self.spec = engine, spec
        self.out = deque()
        self.memory = 10
        self.dead = ""
        self.killed = False
        for plugin in engine.plugins:
            if plugin not in spec.plugins["blocked"]:
                self.out.append({"type": "loading", "plugin": plugin})
                if plugin in engine.deadly:
                    self.out.append(engine.deadly[plugin])
                    return
        self.out.append({"type": "loading", "plugin": ""})
        self.out.append({"type": "ready", "process": spec.process, "environment": {}, "floor": 0.0})

    def send(self, message):
        self.engine.sent.append((self.spec.process, message))
        if message["type"] == "prepare":
            self._prepare(message)
        elif message["type"] == "run":
            self._run(message)
        elif message["type"] == "describe":
            names = [{"provider": {"plugin": p}, "status": "ok"} for p in self.engine.plugins]
            self.out.append({"type": "catalogue", "description": {"plugins": names}})

    def _prepare(self, message):
        for identity in message["ids"]:
            if identity in self.engine.unpreparable:
                self.out.append(stage("", identity, "prepare"))
                self.out.append("segmentation fault")
                return
        failures = {i: "no compiler" for i in message["ids"] if i in self.engine.failing}
        self.out.append({"type": "note", "text": "compiling"})
        self.out.append({"type": "prepared", "ids": [], "failures": failures})

    def _run(self, message):
        data = message["case"]
        case = Case(workload=data["case"]["workload"], params=data["case"]["params"])
        names = [*data["contenders"], *(["roof:copy"] if message["roof"] else [])]
        for name in ("", *names):
            fate = self.engine.fate(name, case.params["n"], self.spec.process)
            if fate != "silent death":
                self.out.append(stage(case.id, name, "check" if name else "make"))
            if fate:
                self.out.append(fate)
                return
        for name in names:
            self.out.append(
                {
                    "type": "result", "case": case.id, "workload": "t/w", "params": case.params,
                    "contender": name, "baseline": "base", "process": message["process"],
                    "status": "ok", "samples": [1.0],
                }
            )  # fmt: skip
        self.out.append({"type": "done", "case": case.id, "seconds": 0.1, "phases": {}})

    def receive(self, timeout):
        if not self.out:
            time.sleep(min(timeout, 0.02))
            return None
        entry = self.out.popleft()
        if isinstance(entry, dict):
            return entry
        if entry == "hang":
            return None
        if entry == "memory":
            self.memory = 5000
            self.out.appendleft("hang")
            return None
        raise WorkerDied(entry, "last words")

    def resident_bytes(self):
        return self.memory

    def log(self):
        return "last words"

    def close(self, timeout=5.0):
        self.engine.closed += 1

    def kill(self):
        self.engine.closed += 1


class ScriptedEngine:
    name = "scripted"

    def __init__(self, fate=lambda name, n, process: "", plugins=(), deadly=None):
        self.fate, self.plugins, self.deadly = fate, plugins, deadly or {}
        self.unpreparable, self.failing = set(), set()
        self.sent, self.started, self.closed = [], [], 0

    def unavailable(self):
        return None

    def start(self, spec):
        self.started.append(spec)
        return Script(self, spec)


def run(engine, cases, settings=SETTINGS, done=()):
    records = []
    execute(
        cases,
        settings=settings,
        engine=engine,
        options=LoaderOptions(),
        emit=lambda record: records.append(dict(record)),
        done=done,
    )
    return records


def rows(records):
    return {
        (r["params"]["n"], r["contender"], r["process"]): r
        for r in records
        if r["type"] == "result"
    }


def events(records, kind):
    return [r for r in records if r["type"] == "event" and r["kind"] == kind]


def test_every_case_runs_in_every_process_in_an_order_of_its_own():
    engine = ScriptedEngine()
    records = run(engine, [planned(n) for n in range(8)], Settings(processes=3, memory_limit=1000))
    assert len(rows(records)) == 8 * 4 * 3  # three contenders and the roof
    orders = [
        [m["case"]["case"]["params"]["n"] for p, m in engine.sent if m["type"] == "run" and p == i]
        for i in range(3)
    ]
    assert [sorted(order) for order in orders] == [list(range(8))] * 3
    assert len({tuple(order) for order in orders}) > 1
    assert len(engine.started) == engine.closed == 3


def test_preparation_happens_once_and_before_any_case():
    engine = ScriptedEngine()
    records = run(engine, [planned(1), planned(2)])
    assert [m["type"] for _, m in engine.sent].count("prepare") == 1
    assert engine.sent[0][1]["type"] == "prepare"
    assert sorted(p["n"] for p in engine.sent[0][1]["params"]["t/w:a"]) == [1, 2]
    assert [e["text"] for e in events(records, "note")] == ["compiling"]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("segmentation fault", "segmentation fault"),
        ("hang", "it hung: no progress for 0.5 s"),
        ("memory", "it used 4.66e-06 GiB of memory, more than the limit of 9.31e-07 GiB"),
    ],
)
def test_the_contender_announced_last_is_blamed_and_the_case_run_again_without_it(end, words):
    def fate(name, n, process):
        return end if (name, n) == ("a", 1) else ""

    engine = ScriptedEngine(fate)
    records = run(engine, [planned(1), planned(2)])
    found = rows(records)
    assert len(found) == 2 * 4 * 2
    bad = [key for key, row in found.items() if row["status"] != "ok"]
    assert sorted(bad) == [(1, "a", 0), (1, "a", 1)]
    for key in bad:
        assert words in found[key]["reason"] and found[key]["stage"] == "check"
    assert len(engine.started) == 3  # it cost one worker, in the first process only
    assert len(events(records, "died")) == 1
    assert events(records, "died")[0]["log"] == "last words"
    restarts = [(r["process"], r["restart"]) for r in records if r["type"] == "process"]
    assert sorted(restarts) == [(0, 0), (0, 1), (1, 0)]


def test_the_baseline_may_be_the_culprit():
    engine = ScriptedEngine(lambda name, n, process: "abort" if name == "base" else "")
    found = rows(run(engine, [planned(1)]))
    assert found[1, "base", 0]["status"] == "failed"
    assert found[1, "a", 0]["status"] == found[1, "b", 1]["status"] == "ok"


def test_a_crash_in_a_later_process_only_costs_nothing_of_the_earlier():
    engine = ScriptedEngine(lambda name, n, p: "abort" if (name, p) == ("b", 1) else "")
    found = rows(run(engine, [planned(1)]))
    assert [found[1, "b", p]["status"] for p in (0, 1)] == ["ok", "failed"]


def test_the_roof_may_crash_too():
    engine = ScriptedEngine(lambda name, n, process: "abort" if name == "roof:copy" else "")
    found = rows(run(engine, [planned(1)]))
    assert {key[1] for key in found} == {"base", "a", "b"}
    assert {row["status"] for row in found.values()} == {"ok"}


def test_a_crash_while_inputs_are_made_fails_all_contenders_of_the_case():
    engine = ScriptedEngine(lambda name, n, p: "abort" if (name, n) == ("", 1) else "")
    found = rows(run(engine, [planned(1), planned(2)]))
    assert {row["status"] for key, row in found.items() if key[0] == 1} == {"failed"}
    assert {row["stage"] for key, row in found.items() if key[0] == 1} == {"make"}
    assert {row["status"] for key, row in found.items() if key[0] == 2} == {"ok"}


def test_deaths_that_nobody_announced_fail_the_case_and_end():
    engine = ScriptedEngine(lambda name, n, p: "silent death" if n == 1 and not name else "")
    found = rows(run(engine, [planned(1), planned(2)]))
    assert {row["status"] for key, row in found.items() if key[0] == 1} == {"failed"}
    assert {row["status"] for key, row in found.items() if key[0] == 2} == {"ok"}
    assert len(engine.started) == 5  # three attempts, then on


def test_one_that_crashes_everywhere_is_given_up():
    engine = ScriptedEngine(lambda name, n, process: "abort" if name == "a" else "")
    found = rows(run(engine, [planned(n) for n in range(10)]))
    mine = [row for key, row in found.items() if key[1] == "a"]
    assert len(mine) == 20 and {row["status"] for row in mine} == {"failed"}
    assert sum("not run again after it cost 3 workers" in row["reason"] for row in mine) >= 14
    assert len(engine.started) == 5


def test_everything_crashing_ends_too():
    engine = ScriptedEngine(lambda name, n, process: "abort" if name else "")
    found = rows(run(engine, [planned(n) for n in range(4)]))
    assert len(found) == 4 * 3 * 2 and {row["status"] for row in found.values()} == {"failed"}


def test_no_row_is_emitted_twice():
    engine = ScriptedEngine(lambda name, n, process: "abort" if name in ("a", "b") else "")
    records = run(engine, [planned(1)])
    keys = [(r["contender"], r["process"]) for r in records if r["type"] == "result"]
    assert len(keys) == len(set(keys)) == 8


def test_a_failed_preparation_fails_the_contender_everywhere():
    engine = ScriptedEngine()
    engine.failing = {"t/w:a"}
    engine.unpreparable = {"t/w:b"}
    records = run(engine, [planned(1), planned(2)])
    found = rows(records)
    for n in (1, 2):
        assert "no compiler" in found[n, "a", 1]["reason"]
        assert "prepare took the worker down: segmentation" in found[n, "b", 0]["reason"]
        assert found[n, "a", 0]["stage"] == found[n, "b", 1]["stage"] == "prepare"
        assert found[n, "base", 0]["status"] == "ok"


def test_a_plugin_that_kills_workers_is_left_out_and_told():
    engine = ScriptedEngine(
        plugins=("good", "bad", "ugly"), deadly={"bad": "abort", "ugly": "hang"}
    )
    records = run(engine, [planned(1)])
    assert [e["plugin"] for e in events(records, "blocked")] == ["bad", "ugly"]
    assert {row["status"] for row in rows(records).values()} == {"ok"}
    runs = [m for _, m in engine.sent if m["type"] == "run"]
    assert "it hung" in runs[0]["blocked"]["ugly"]


def test_the_description_survives_too_and_names_the_plugin():
    engine = ScriptedEngine(plugins=("good", "bad"), deadly={"bad": "abort"})
    described = describe(engine, LoaderOptions(), SETTINGS)
    assert [p["status"] for p in described["plugins"]] == ["ok", "failed"]
    assert described["plugins"][1]["reason"] == (
        "it took the worker down while it was loaded: abort"
    )
    assert list(described["blocked"]) == ["bad"]


def test_workers_that_die_with_nobody_to_blame_end_the_run():
    engine = ScriptedEngine(plugins=("",), deadly={"": "illegal instruction"})
    with pytest.raises(WorkerDied, match=r"3 workers in a row died.*illegal instruction"):
        run(engine, [planned(1)])
    assert len(engine.started) == 3


def test_an_engine_that_cannot_is_refused():
    engine = ScriptedEngine()
    engine.unavailable = lambda: "no cluster"
    with pytest.raises(UsageError, match="'scripted' cannot start workers here: no cluster"):
        run(engine, [planned(1)])


def test_what_is_done_is_not_run_again_and_what_is_half_done_is():
    done = [(planned(1).case.id, name, 0) for name in ("base", "a", "b")]
    done += [(planned(2).case.id, "base", 0)]
    engine = ScriptedEngine()
    found = rows(run(engine, [planned(1), planned(2)], done=done))
    assert {key[0] for key in found if key[2] == 0} == {2}
    assert {key[0] for key in found if key[2] == 1} == {1, 2}
    everything = [(planned(n).case.id, c, p) for n in (1, 2) for c in ["base", "a", "b"]
                  for p in (0, 1)]  # fmt: skip
    engine = ScriptedEngine()
    assert run(engine, [planned(1), planned(2)], done=everything) == []
    assert engine.started == []


def test_progress_counts_up_to_the_total():
    records = [
        r for r in run(ScriptedEngine(), [planned(1), planned(2)]) if r["type"] == "progress"
    ]
    assert records[0]["done"] == 0 and records[0]["seconds_left"] is None
    assert (records[-1]["done"], records[-1]["total"], records[-1]["case"]) == (4, 4, "")
    counts = [r["done"] for r in records]
    assert counts == sorted(counts)


def test_an_interrupt_ends_the_worker():
    engine = ScriptedEngine()

    def interrupt(record):
        if record["type"] == "result":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(
            [planned(1)],
            settings=SETTINGS,
            engine=engine,
            options=LoaderOptions(),
            emit=interrupt,
        )
    assert engine.closed == 1


def test_the_place_of_a_crash_is_the_innermost_frame_of_a_plugin():
    log = (
        "noise\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call "
        'first):\n  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at\n'
        '  File "/home/me/mine.py", line 9 in call\n'
        '  File "/x/site-packages/benchbench/worker.py", line 1 in run\n'
    )
    assert crash_place(log) == " at mine.py:9"
    assert crash_place("Killed") == ""


REAL = Settings(
    processes=2, budget=0.02, sample_seconds=0.001, warmup=0.02, threads=2, max_passes=4
)


def test_a_worker_killed_from_outside_costs_nobody_more_than_its_case():
    engine = LocalEngine()
    options = LoaderOptions(files=(str(ZOO / "arena.py"),), allowed=())
    cases = plan(Description.from_json(describe(engine, options, REAL)), preset="standard")
    killed = []

    class Killing(LocalEngine):
        def start(self, spec):
            self.connection = super().start(spec)
            return self.connection

    engine = Killing()
    records = []

    def emit(record):
        records.append(dict(record))
        if record["type"] == "progress" and record["done"] == 1 and not killed:
            killed.append(engine.connection.pid)
            os.kill(engine.connection.pid, signal.SIGKILL)

    execute(cases, settings=REAL, engine=engine, options=options, emit=emit)
    found = {(r["case"], r["contender"], r["process"]): r["status"]
             for r in records if r["type"] == "result"}  # fmt: skip
    assert killed
    assert len(found) == 2 * 3 * 2 and set(found.values()) == {"ok"}


def test_a_report_that_takes_its_worker_down_is_an_error_that_says_so(tmp_path):
    from benchbench import store

    header = {"id": store.new_id(), "command": "", "settings": {}, "environment": {},
              "plugins": [], "cases": []}  # fmt: skip
    store.create(tmp_path, header).close("complete")
    (path,) = store.runs(tmp_path)
    plugin = tmp_path / "crashes.py"
    plugin.write_text(
        "import os\nimport benchbench as bb\n"
        "@bb.hookimpl\ndef benchbench_reports():\n"
        "    return [bb.Report(name='boom', render=lambda run: os.abort()),\n"
        "            bb.Report(name='fine', render=lambda run: 'fine')]\n"
    )
    options = LoaderOptions(files=(str(plugin),), allowed=())
    assert render(LocalEngine(), options, "fine", str(path)) == "fine"
    with pytest.raises(BenchbenchError, match=r"the report 'boom' cannot show .*abort \(SIGABRT"):
        render(LocalEngine(), options, "boom", str(path))
