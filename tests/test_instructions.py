"""Instruction counts: both routes, what a worker gets for them, and a run from end to end."""

import csv
import errno
import io
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import measured, run as synthetic_run

from benchbench import store
from benchbench.comparison import different_machines
from benchbench.contract import Sample, Settings, Timer
from benchbench.errors import BenchbenchError, UsageError
from benchbench.measure import COUNT, MOST_COUNTED, UNCOUNTED, Entrant, warm_up
from benchbench.reports import builtin as builtin_reports
from benchbench.stats import FEWEST_COUNTED, summarise
from benchbench.timers import builtin, choose, instructions_launch as launching
from benchbench.timers.instructions import InstructionTimer
from benchbench.timers.instructions_callgrind import DIRECTORY, Callgrind, parse
from benchbench.timers.instructions_hardware import Hardware, explain, open_counter

ZOO = Path(__file__).parent / "zoo"


class Counting:
    """A counter by which calling costs 10 and a call of ``work`` 1000 instructions."""

    name = "counting"

    def __init__(self, reason=None, doubt=""):
        self.reason, self.doubt, self.made = reason, doubt, 0

    def unavailable(self):
        return self.reason

    def count(self, consume):
        before = self.made
        output = consume()
        return 10 + 1000 * (self.made - before), output, self.doubt

    def work(self):
        self.made += 1
        return self.made


# The timer


def test_a_count_is_that_of_the_calls_without_the_calling():
    counter = Counting()
    timer = InstructionTimer([counter])
    assert isinstance(timer, Timer) and timer.unavailable("cpu") is None
    sample = timer.sample(counter.work, 3)
    assert (sample.elapsed, sample.calls, sample.output) == (3000.0, 3, 3)
    assert timer.sample(counter.work, 1).elapsed == 1000.0


def test_a_call_that_does_nothing_counts_as_one_instruction():
    counter = Counting()
    assert InstructionTimer([counter]).sample(lambda: None, 5).elapsed == 1.0


def test_outputs_but_the_last_are_freed_at_once():
    alive = set()

    class Output:
        def __init__(self):
            assert not alive, "the output before is still held"
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    sample = InstructionTimer([Counting()]).sample(Output, 4)
    assert alive == {id(sample.output)}


def test_what_a_call_raises_comes_through():
    with pytest.raises(ZeroDivisionError):
        InstructionTimer([Counting()]).sample(lambda: 1 / 0, 2)


def test_a_doubt_of_the_counter_quarantines_the_sample():
    assert InstructionTimer([Counting(doubt="shared")]).sample(int, 1).doubtful == "shared"


def test_the_first_route_that_is_open_counts():
    second = Counting()
    timer = InstructionTimer([Counting("no such thing"), second])
    assert timer.unavailable("cpu") is None
    assert timer.sample(second.work, 1).elapsed == 1000.0


def test_every_closed_route_gives_its_reason():
    timer = InstructionTimer([Counting("none here"), Counting("not allowed")])
    assert timer.unavailable("cpu") == "counting: none here; counting: not allowed"
    with pytest.raises(RuntimeError, match="not allowed"):
        timer.sample(int, 1)


def test_only_the_cpu_is_counted_and_auto_never_counts():
    timer = builtin()["instructions"]
    assert timer.unavailable("cuda") == "it counts instructions of the CPU, not of cuda"
    assert choose("auto", "cpu", builtin()).name == "wall"


# The processor's counters


def test_hardware_counts_add_up_over_threads(tmp_path):
    values = {7: iter([(100, 5, 5), (150, 9, 9)]), 8: iter([(1000, 2, 2), (1200, 4, 4)])}
    opened = []

    def opener(thread):
        if thread == 13:
            raise ProcessLookupError  # it ended while it was asked for
        opened.append(thread)
        return {11: 7, 12: 8}[thread]

    def reader(descriptor, size):
        return struct.pack("=QQQ", *next(values[descriptor]))[:size]

    counter = Hardware(opener, reader, lambda: [11, 12, 13])
    assert counter.unavailable() is None and counter.unavailable() is None
    assert opened == [11, 12]
    assert counter.count(lambda: "done") == (250, "done", "")


def test_a_counter_that_was_lent_out_is_in_doubt():
    readings = iter([(0, 0, 0), (500, 10, 6)])
    counter = Hardware(
        lambda thread: 3, lambda descriptor, size: struct.pack("=QQQ", *next(readings)), lambda: [1]
    )
    assert counter.unavailable() is None
    assert "lent to another program" in counter.count(int)[2]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "virtual machines often do not"),
        (errno.EACCES, "perf_event_paranoid is 4); `sudo sysctl kernel.perf_event_paranoid=2`"),
        (errno.EPERM, "--cap-add PERFMON"),
        (errno.ENOSYS, "which this system does not have"),
        (errno.EMFILE, "perf_event_open failed: Too many open files"),
    ],
)
def test_a_refusal_says_why_and_how_to_mend_it(code, words, tmp_path):
    (tmp_path / "paranoid").write_text("4\n")
    text = explain(OSError(code, os.strerror(code)), tmp_path / "paranoid")
    assert words in text and "\n" not in text

    def refused(thread):
        raise OSError(code, os.strerror(code))

    assert Hardware(refused, list_threads=lambda: [0]).unavailable() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="perf_event_open is Linux's")
def test_the_kernel_understands_how_it_is_asked():
    software, cpu_clock = 1, 0
    try:
        counter = Hardware(lambda thread: open_counter(thread, (software, cpu_clock)))
        assert counter.unavailable() is None
    except AssertionError:
        pytest.skip(f"this kernel gives no counter at all: {counter.unavailable()}")
    elapsed, output, _ = counter.count(lambda: sum(range(300_000)))
    counter.close()
    assert output == sum(range(300_000))
    assert 10_000 < elapsed < 10**10  # nanoseconds


def test_this_machine_counts_or_says_why_not():
    counter = Hardware()
    reason = counter.unavailable()
    if reason is not None:
        assert len(reason) > 30 and "\n" not in reason
        return
    few, many = (counter.count(lambda n=n: sum(range(n)))[0] for n in (100_000, 200_000))
    assert 1.8 < many / few < 2.2
    counter.close()


# Callgrind


def test_the_summary_of_a_dump_is_read():
    text = "version: 1\nevents: Ir\nfn=(1) f\n1 5\n\nsummary: 4711\ntotals: 9999\n"
    assert parse(text) == 4711
    with pytest.raises(BenchbenchError, match="has no line 'summary:'"):
        parse("events: Ir\ntotals: 3\n")


def test_outside_valgrind_callgrind_is_not_there(tmp_path):
    assert "not started under valgrind" in Callgrind("").unavailable()
    if launching.known_machine():
        assert "does not answer" in Callgrind(str(tmp_path)).unavailable()


# Starting workers


@pytest.fixture
def routes(monkeypatch):
    """Says which routes are open: ``routes(hardware=None, callgrind="not installed")``."""

    def set_routes(hardware, callgrind):
        monkeypatch.setattr(launching, "no_hardware", lambda: hardware)
        monkeypatch.setattr(launching, "no_callgrind", lambda: callgrind)

    return set_routes


COUNTED = Settings(timer="instructions")


def test_nothing_is_added_for_timers_of_seconds():
    launch = launching.launch(Settings(threads=4))
    assert (launch.prefix, dict(launch.environment)) == ((), {})
    assert launch.settings == Settings(threads=4)


def test_hardware_comes_first_and_needs_no_valgrind(routes):
    routes(None, None)
    launch = launching.launch(COUNTED, {})
    assert launch.prefix == () and launch.directory is None
    assert launch.environment["PYTHONHASHSEED"] == "0"
    assert "ATEN_CPU_CAPABILITY" not in launch.environment
    assert (launch.settings.threads, launch.settings.roof) == (1, False)


def test_under_callgrind_the_worker_is_kept_off_what_valgrind_does_not_know(routes, monkeypatch):
    routes("none", None)
    monkeypatch.setattr(launching, "_processor_flags", lambda: {"avx2", "avx512f"})
    launch = launching.launch(COUNTED, {"ATEN_CPU_CAPABILITY": "default"})
    try:
        assert "--tool=callgrind" in launch.prefix
        assert launch.directory.is_dir()
        assert launch.environment[DIRECTORY] == str(launch.directory)
        assert launch.environment["BENCHBENCH_ISA"] == "avx2"
        assert launch.environment["CUDA_VISIBLE_DEVICES"] == ""
        assert "ATEN_CPU_CAPABILITY" not in launch.environment  # narrower already
        assert "AVX2" in launch.environment[launching.NOTE]
    finally:
        launch.close()
    assert not launch.directory.exists()


def test_a_processor_without_avx2_is_not_told_to_use_it(routes, monkeypatch):
    routes("none", None)
    monkeypatch.setattr(launching, "_processor_flags", set)
    launch = launching.launch(COUNTED, {})
    launch.close()
    assert "ATEN_CPU_CAPABILITY" not in launch.environment
    assert "AVX2" not in launch.environment[launching.NOTE]


@pytest.mark.parametrize("value", ["avx512", "AVX512_CORE_AMX", "avx10_1_512"])
def test_wider_choices_of_the_user_are_narrowed(value):
    assert launching.narrowed({"ONEDNN_MAX_CPU_ISA": value})["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_where_nothing_counts_the_reasons_are_given(routes):
    routes("no counter here", "valgrind is not installed")
    with pytest.raises(UsageError) as caught:
        launching.launch(COUNTED, {})
    assert str(caught.value) == (
        "--timer instructions cannot count here: hardware: no counter here; "
        "callgrind: valgrind is not installed"
    )


def test_a_route_can_be_forced_and_a_mistyped_one_is_an_error(routes):
    routes(None, None)
    assert launching.route({launching.ROUTE: "callgrind"}) == "callgrind"
    with pytest.raises(UsageError, match=r"Did you mean 'callgrind'[?]"):
        launching.route({launching.ROUTE: "calgrind"})
    routes("none here", None)
    with pytest.raises(UsageError, match=r"hardware: none here$"):
        launching.route({launching.ROUTE: "hardware"})


def test_several_threads_are_refused():
    with pytest.raises(UsageError, match="counts on one thread, not 4"):
        launching.suited(Settings(timer="instructions", threads=4))


def test_a_missing_valgrind_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "apt install valgrind" in launching.no_callgrind()


# Warm-up


class Costs:
    """Counts what a thunk returns."""

    name = unit = "instructions"

    def unavailable(self, device):
        return None

    def sample(self, thunk, calls):
        cost = sum(thunk() for _ in range(calls))
        return Sample(elapsed=float(cost), calls=calls, output=cost)


@pytest.mark.parametrize(
    ("cost", "calls"), [(10, MOST_COUNTED), (COUNT // 3, 4), (COUNT, 1), (50 * COUNT, 1)]
)
def test_short_calls_are_counted_many_at_once(cost, calls):
    entrant = Entrant(name="a", thunk=lambda: cost)
    warm_up(entrant, Costs(), Settings(warmup=0.0))
    assert entrant.calls == calls
    assert entrant.made == UNCOUNTED[0] + 1


# Tables


def counted_run(processes=3):
    rows = measured(
        {"eager": 1.0, "lean": 0.5},
        processes=processes,
        passes=2,
        base=1.24e6,
        noise=0.0,
        unit="instructions",
        timer="instructions",
    )
    return synthetic_run(rows, margin=launching.MARGIN)


@pytest.mark.parametrize("name", ["table", "markdown", "html"])
def test_tables_show_instructions_and_no_speed(name):
    text = builtin_reports()[name].render(counted_run())
    if name == "html":
        text = re.sub(r"<[^>]*>", " ", text.rpartition("</style>")[2])
    assert "M instr" in text and "fewer" in text and "per call" in text
    for word in ("speed-up", "faster", "an empty call takes", "µs", "GFLOP", "roof"):
        assert word not in text


def test_machines_read_the_unit():
    rows = list(csv.DictReader(io.StringIO(builtin_reports()["csv"].render(counted_run()))))
    assert {row["unit"] for row in rows} == {"instructions"}
    assert all(row["items_per_second"] == row["flop_per_second"] == "" for row in rows)


def test_three_processes_give_the_range_and_fewer_give_nothing():
    (row,) = (r for r in summarise(counted_run()) if r.contender == "lean")
    assert (row.verdict, row.ratio.coverage) == ("faster", 0.75)
    (row,) = (r for r in summarise(counted_run(FEWEST_COUNTED - 1)) if r.contender == "lean")
    assert row.verdict is None


def test_counts_of_different_routes_are_those_of_different_machines():
    one, other = (
        replace(counted_run(), processes=({"process": 0, "environment": {"counter": route}},))
        for route in ("callgrind (valgrind-3.19.0)", "the processor's counter")
    )
    assert different_machines(one, one) == []
    assert any("counter" in line for line in different_machines(one, other))


# From end to end


def test_a_machine_that_cannot_count_says_so_before_it_starts_anything(tmp_path):
    environment = {"PATH": "/nonexistent", launching.ROUTE: "callgrind"}
    done = subprocess.run(
        [sys.executable, "-m", "benchbench", "run", "counted", "--timer", "instructions"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **environment, "BENCHBENCH_STORE": str(tmp_path / "store")},
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "benchbench: --timer instructions cannot count here: callgrind: valgrind is not installed; "
        "`apt install valgrind` (Linux) gets it"
    ]
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(
    launching.no_callgrind() is not None, reason=str(launching.no_callgrind() or "")
)
def test_a_run_counts_every_thread_the_same_each_time(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchbench", "run", "counted", "--timer", "instructions"),
            *("-n", "1", "--plugin", str(ZOO / "counted.py")),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "BENCHBENCH_CACHE": str(tmp_path / "cache"),
            "BENCHBENCH_STORE": str(tmp_path / "store"),
            "BENCHBENCH_PLUGINS": "",
            launching.ROUTE: "callgrind",
            "TMPDIR": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    run = store.read(store.find(tmp_path / "store", "last"))
    samples = {r.contender: r.samples for r in run.results}
    assert {(r.unit, r.timer, r.role) for r in run.results} == {
        ("instructions", "instructions", "contender")
    }
    # 65536 numbers in vectors of 8: at least a load, an addition and a store for each.
    assert all(25_000 < count < 250_000 for count in samples["once"])
    for counts in samples.values():
        assert len(counts) == 2 and max(counts) < 1.05 * min(counts)
    assert samples["again"][0] == pytest.approx(samples["once"][0], rel=0.05)
    assert samples["four-times"][0] == pytest.approx(4 * samples["once"][0], rel=0.1)
    assert samples["threaded"][0] > samples["four-times"][0]
    assert run.processes[0]["environment"]["threads"] == 1
    assert "counted by callgrind (valgrind-" in done.stdout
    assert not list(tmp_path.glob("benchbench-callgrind-*"))
    assert not any("steal" in r.signals or "system" in r.signals for r in run.results)
