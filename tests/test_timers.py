"""Timers, what the system saw, and how samples are arranged."""

import mmap
import random
import time

import pytest
import torch

from benchbench.contract import Sample, Settings, Timer
from benchbench.errors import UsageError
from benchbench.measure import Entrant, calibrate, count_passes, order, take_passes, warm_up
from benchbench.signals import Meter, PeakMemory, Reading, notes, summarise
from benchbench.timers import builtin, choose
from benchbench.timers.cuda import CudaEventTimer
from benchbench.timers.wall import WallTimer, floor, resolution


def test_the_wall_timer_calls_as_often_as_it_says_and_keeps_the_last_output():
    calls = []
    sample = WallTimer().sample(lambda: calls.append(1) or len(calls), 7)
    assert (sample.calls, sample.output, len(calls)) == (7, 7, 7)
    assert WallTimer().sample(lambda: None, 1).calls == 1


def test_the_wall_timer_measures_time():
    assert 0.02 <= WallTimer().sample(lambda: time.sleep(0.01), 2).elapsed < 2.0


def test_replacing_the_clock_changes_nothing(monkeypatch):
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 0)
    assert WallTimer().sample(lambda: time.sleep(0.01), 1).elapsed >= 0.01


def test_an_empty_call_and_a_tick_are_positive():
    assert 0 < floor(2, 1000) < 1e-4
    assert 0 < resolution(10) < 1e-3


def test_auto_takes_the_first_timer_that_can():
    timers = builtin()
    assert all(isinstance(timer, Timer) for timer in timers.values())
    assert choose("auto", "cpu", timers).name == "wall"


@pytest.mark.parametrize(
    ("name", "device", "words"),
    [
        ("wal", "cpu", "Did you mean 'wall'?"),
        ("wall", "cuda", "a call on cuda returns before its work is done"),
        ("cuda-events", "cpu", "it times CUDA devices, not cpu"),
        ("auto", "xpu", "no timer can time on xpu: wall: "),
        ("auto", "xpu", "cuda-events, cuda-graph, cuda-host: it times CUDA devices, not xpu; "),
    ],
)
def test_a_timer_that_cannot_is_refused_with_the_reason(name, device, words):
    with pytest.raises(UsageError, match=words.replace("?", "[?]")):
        choose(name, device, builtin())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_events_on_a_gpu():
    x = torch.randn(1 << 24, device="cuda")
    timer = CudaEventTimer()
    timer.sample(lambda: x + 1, 3)
    sample = timer.sample(lambda: x + 1, 20)
    assert 0 < sample.elapsed < 1.0 and not sample.doubtful


def test_the_meter_sees_page_faults():
    meter = Meter()
    before = meter.read()
    block = mmap.mmap(-1, 32 << 20)  # not from a heap, which may have kept what others gave back
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    seen = meter.read() - before
    meter.close()
    assert seen.minor_faults >= len(block) // 4096 // 600  # huge pages fault once for 512 pages
    assert seen.user + seen.system > 0


def test_signals_are_per_call_and_shares():
    total = Reading(minor_faults=10, user=3.0, system=1.0, switches=4, stolen=5, ticks=100)
    row = summarise(total, 2)
    assert row["minor_faults"] == 5 and row["context_switches"] == 2
    assert row["system"] == 0.25 and row["steal"] == 0.05
    assert summarise(Reading(), 0)["steal"] == 0.0


@pytest.mark.parametrize(
    ("signals", "seconds", "words"),
    [
        ({"minor_faults": 4096}, 0.005, ("page faults",)),
        ({"minor_faults": 1}, 0.005, ()),
        ({"steal": 0.02}, 1e-3, ("stolen time",)),
        ({"system": 0.3}, 1e-3, ("system time",)),
        ({"preemptions": 0.5}, 1e-3, ("preempted",)),
        ({"steal": 0.001, "system": 0.01, "preemptions": 1e-4}, 1e-3, ()),
    ],
)
def test_notes_say_what_a_reader_should_know(signals, seconds, words):
    assert notes(signals, seconds) == words


def test_peak_memory_is_that_of_the_block():
    x = torch.ones(4 << 20)
    with PeakMemory() as peak:
        y = x * 2 + 1  # a temporary and a result of 16 MiB each
    del y
    if peak.bytes is None:
        pytest.skip("this kernel does not let a process reset its peak")
    assert 30 << 20 <= peak.bytes <= 40 << 20


class Scripted:
    """A timer that takes no time: what each thunk returns is what a call of it costs."""

    name, unit = "scripted", "s"

    def __init__(self):
        self.log = []

    def unavailable(self, device):
        return None

    def sample(self, thunk, calls):
        cost = thunk()
        self.log.append((cost, calls))
        return Sample(elapsed=cost * calls, calls=calls, output=cost)


def entrant(name, cost=0.01, role="contender"):
    made = Entrant(name=name, role=role, thunk=lambda: cost)
    made.per_call, made.calls = cost, 1
    return made


def run(entrants, settings, timer=None, **hooks):
    def attempt(who, stage, step):
        try:
            return step()
        except RuntimeError as error:
            who.reject("failed", stage, str(error))

    taken = []
    take_passes(
        entrants,
        timer or Scripted(),
        settings,
        random.Random(0),
        attempt,
        hooks.get("audit", lambda who, output, glance: taken.append(who.name)),
        hooks.get("before", lambda who: None),
    )
    return taken


def test_two_passes_are_an_abba_block_and_blocks_rotate():
    a, b, c = entrants = [entrant(name) for name in "abc"]
    names = ["".join(e.name for e in order(entrants, index)) for index in range(6)]
    assert names == ["abc", "cba", "bca", "acb", "cab", "bac"]
    # Over the blocks every contender stands at every place equally often.
    for place in range(3):
        assert sorted(name[place] for name in names) == ["a", "a", "b", "b", "c", "c"]
    assert [a, b, c] == entrants


@pytest.mark.parametrize(
    ("budget", "least", "most", "expected"),
    [(1.0, 2, 40, 32), (0.0, 2, 40, 2), (0.0, 3, 40, 4), (100.0, 2, 40, 40), (100.0, 2, 7, 6)],
)
def test_passes_fit_the_budget_and_are_even(budget, least, most, expected):
    settings = Settings(budget=budget, min_passes=least, max_passes=most)
    entrants = [entrant("a", 0.01), entrant("b", 0.02)]
    assert count_passes(entrants, settings) == expected - expected % 2


def test_every_pass_has_one_sample_of_each_and_each_is_audited_once():
    entrants = [entrant("a"), entrant("b"), entrant("roof:copy", role="roof")]
    taken = run(entrants, Settings(budget=0.2))
    assert {len(e.samples) for e in entrants} == {6}
    assert sorted(taken) == ["a", "b"]


def test_a_slow_machine_ends_the_case_at_the_least_number_of_passes():
    slow = entrant("a", 0.01)
    slow.thunk = lambda: 5.0  # it took 0.01 s in warm-up
    taken = run([slow], Settings(budget=1.0, min_passes=4))
    assert len(slow.samples) == 4 and taken == ["a"]


def test_audits_after_a_case_that_ended_early_blame_nobody():
    many = [entrant(name) for name in "abcd"]
    for slow in many:
        slow.thunk = lambda: 5.0  # it took 0.01 s in warm-up
    taken = run(many, Settings(budget=1.0))
    assert sorted(taken) == ["a", "b", "c", "d"]
    assert [(e.status, e.reason, len(e.samples)) for e in many] == [("ok", "", 2)] * 4


def test_one_that_fails_on_the_way_leaves_the_others_aligned():
    bad, good = entrant("bad"), entrant("good")
    calls = []

    def fail():
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("third time")
        return 0.01

    bad.thunk = fail
    run([bad, good], Settings(budget=0.2))
    assert bad.samples == [] and bad.reason == "third time"
    assert len(good.samples) == 10


class Doubtful(Scripted):
    """Every sample of the first ``bad`` is doubtful."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def sample(self, thunk, calls):
        self.bad -= 1
        return Sample(elapsed=0.01, calls=calls, doubtful="clocks disagree" * (self.bad >= 0))


def test_doubtful_samples_are_taken_again_and_counted():
    mine = entrant("a")
    run([mine], Settings(budget=0.0), Doubtful(2))
    assert len(mine.samples) == 2 and mine.doubtful == 2 and mine.alive


def test_a_contender_of_doubtful_samples_alone_is_quarantined():
    mine = entrant("a")
    run([mine], Settings(budget=0.0), Doubtful(100))
    assert (mine.status, mine.samples) == ("quarantined", [])
    assert "4 samples in a row: clocks disagree" in mine.reason


def test_calibration_reaches_the_sample_time_and_a_thousand_ticks():
    assert calibrate(1e-3, 0.01, tick=1e-9) == 10
    assert calibrate(1.0, 0.01, tick=1e-9) == 1
    assert calibrate(1.0, 0.0, tick=0.5) == 500


def test_one_slow_call_is_warm_up_enough():
    timer = Scripted()
    mine = Entrant(name="a", thunk=lambda: time.sleep(0.05) or 0.05)
    warm_up(mine, timer, Settings(warmup=0.02))
    assert len(timer.log) == 1
    assert (mine.per_call, mine.calls, mine.made) == (0.05, 1, 1)


def test_warm_up_goes_on_while_times_fall():
    costs = iter([0.05, 0.04, 0.03, 0.02, 0.01, 0.008] + [0.008] * 100)
    mine = Entrant(name="a", thunk=lambda: next(costs))
    timer = Scripted()
    warm_up(mine, timer, Settings(warmup=60.0))
    assert 8 <= len(timer.log) <= 12
    assert mine.per_call == 0.008
