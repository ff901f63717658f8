"""Warm-up, calibration and interleaved passes over the contenders of one case.

Knows timers and thunks; knows nothing of workloads, references or plugins.
"""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic_ns, perf_counter_ns
from typing import Any

from benchbench import outputs, signals
from benchbench.contract import Implementation, Role, Settings, Stage, Status, Thunk, Timer
from benchbench.structures import Spec

BATCH_SECONDS = 1e-3
"""Length of a warm-up batch: long enough to be read well, short enough for many in the budget."""
TICKS = 1000
"""Least length of a sample in ticks of the clock."""
LONGEST = 3
"""How many times its least length a sample may take in all, the device's and the host's part."""
RETAKES = 3
UNCOUNTED = (3, 20)
"""Least and most calls before anything is counted."""
COUNT = 2_000_000
MOST_COUNTED = 256
"""A sample of counts is about ``COUNT`` long, but no more calls than this: what ran before a sample
(an audit, the collector) costs its first call some hundred instructions more or less."""


@dataclass(kw_only=True)
class Entrant:
    """A contender on its way through a case; the one mutable object of the runner."""

    name: str
    implementation: Implementation | None = None
    role: Role = "contender"
    thunk: Thunk | None = None
    status: Status = "ok"
    reason: str = ""
    stage: Stage = ""
    made: int = 0
    """Calls made since it was built."""
    per_call: float = 0.0
    """Seconds, from warm-up."""
    cost: float = 0.0
    """Seconds that a call takes in all, from warm-up: more than ``per_call`` where what is timed
    is the device's part alone."""
    calls: int = 1
    """Calls per sample."""
    samples: list[float] = field(default_factory=list)
    total: signals.Reading = field(default_factory=signals.Reading)
    timed: float = 0.0
    sampled: int = 0
    """Calls in all timed samples, retaken ones included."""
    doubtful: int = 0
    kept: list[float] = field(default_factory=list)
    """Seconds that a call kept the host, one entry a sample, where that is not what was timed."""
    starved: int = 0
    """Samples in which the device waited for the host."""
    throttled: int = 0
    """Samples of passes in which the device's clock was held down."""
    timer: str = ""
    """The timer that took the samples in place of the one that was asked, and why."""
    remark: str = ""
    audited: int = 0
    specs: tuple[Spec, ...] = ()
    errors: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    signals: dict[str, float] = field(default_factory=dict)

    @property
    def pair(self) -> str:
        """What it is paired with; see :class:`benchbench.contract.Implementation`."""
        return self.implementation.pair if self.implementation is not None else ""

    @property
    def alive(self) -> bool:
        """True while nothing has been found against it."""
        return self.status == "ok"

    def reject(self, status: Status, stage: Stage, reason: str) -> None:
        """Take it out of the case; the first reason stands."""
        if self.alive:
            self.status, self.stage = status, stage
            self.reason = " ".join(reason.split())
            self.samples.clear()

    def call(self) -> Any:
        """One call, counted."""
        assert self.thunk is not None
        self.made += 1
        return self.thunk()


Attempt = Callable[[Entrant, Stage, Callable[[], Any]], Any]
"""``attempt(entrant, stage, step)``: announce, run the step, keep what it raises to the entrant."""


def warm_up(entrant: Entrant, timer: Timer, settings: Settings) -> None:
    """Call until times no longer fall and page faults stop, at most ``settings.warmup`` seconds.

    Times have settled when the best of the last three batches is not 3 % below the best of all
    earlier ones: a rule that a noisy neighbour cannot keep from being met. A single call is enough
    when it takes longer than the whole warm-up. Leaves ``per_call`` (the least of the last three)
    and ``calls``. Where the timer does not take time, see :func:`settle`.
    """
    assert entrant.thunk is not None
    if timer.unit != "s":
        settle(entrant, timer, settings)
        return
    batches: list[float] = []
    costs: list[float] = []
    calls, spent, disagreed = 1, 0.0, 0
    while True:
        faults = signals.minor_faults()
        start = monotonic_ns()
        sample = timer.sample(entrant.thunk, calls)
        wall = (monotonic_ns() - start) * 1e-9
        faults = signals.minor_faults() - faults
        entrant.made += calls
        elapsed = sample.elapsed
        del sample
        spent += wall
        fault = _clocks_disagree(timer, elapsed, wall)
        disagreed = disagreed + 1 if fault else 0
        if disagreed > RETAKES:
            entrant.reject("quarantined", "warm-up", f"{disagreed} batches in a row: {fault}")
            return
        if fault:
            continue  # from a time that is far too short would follow far too many calls
        batches.append(elapsed / calls)
        costs.append(wall / calls)
        faulting = faults * signals.FAULT_SECONDS > 0.01 * elapsed
        if spent >= settings.warmup or (not faulting and _settled(batches)):
            break
        if elapsed < BATCH_SECONDS:
            wanted = math.ceil(calls * BATCH_SECONDS / max(elapsed, 1e-9))
            calls = min(max(wanted, calls + 1), calls * 20)
            if elapsed < BATCH_SECONDS / 2:
                batches.clear()  # too short to be compared with the longer ones that follow
    entrant.per_call = max(min(batches[-3:]), 1e-10)
    entrant.cost = max(min(costs[-3:]), entrant.per_call)
    entrant.calls = calibrate(entrant.per_call, settings.sample_seconds)
    if not getattr(timer, "host_clock", False) and settings.sample_seconds > 0:
        # Where the host queues for longer than the device works, samples are long enough sooner.
        entrant.calls = min(
            entrant.calls, max(1, math.ceil(LONGEST * settings.sample_seconds / entrant.cost))
        )


def settle(entrant: Entrant, timer: Timer, settings: Settings) -> None:
    """Warm-up for a timer of counts, which need no long samples. Leaves ``calls``, a power of two.

    Calls until what is done once (code made ready, memory asked for) is done: 3 times at the least,
    20 at the most, ``settings.warmup`` seconds in between.
    """
    least, most = UNCOUNTED
    start = perf_counter_ns()
    for made in range(1, most + 1):
        entrant.call()
        if made >= least and (perf_counter_ns() - start) * 1e-9 > settings.warmup:
            break
    assert entrant.thunk is not None
    per_call = timer.sample(entrant.thunk, 1).elapsed
    entrant.made += 1
    entrant.calls = 1
    while entrant.calls < MOST_COUNTED and entrant.calls * per_call < COUNT:
        entrant.calls *= 2


def _settled(batches: Sequence[float]) -> bool:
    return len(batches) >= 5 and min(batches[-3:]) > 0.97 * min(batches[:-3])


def calibrate(per_call: float, sample_seconds: float, tick: float | None = None) -> int:
    """Calls per sample: at least ``sample_seconds`` and a thousand ticks of the clock."""
    from benchbench.timers.wall import resolution

    least = max(sample_seconds, TICKS * (resolution(20) if tick is None else tick))
    return max(1, math.ceil(least / per_call))


def count_passes(entrants: Sequence[Entrant], settings: Settings) -> int:
    """Passes that fit the budget: even, since two make one ABBA block, and within the limits."""
    cost = sum(entrant.calls * max(entrant.cost, entrant.per_call) for entrant in entrants)
    least = settings.min_passes + settings.min_passes % 2
    most = max(least, settings.max_passes - settings.max_passes % 2)
    fitting = int(settings.budget / cost) if cost > 0 else most
    return min(most, max(least, fitting - fitting % 2))


def order(entrants: Sequence[Entrant], index: int) -> list[Entrant]:
    """Order of pass ``index``: rotated by one for each block, forward and then reversed.

    Entrants of one pair stay next to each other, and change places inside the pair from block to
    block too.
    """
    units: dict[object, list[Entrant]] = {}
    for entrant in entrants:
        units.setdefault(entrant.pair or id(entrant), []).append(entrant)
    rotated = [e for unit in _rotated([*units.values()], index // 2) for e in unit]
    return rotated[::-1] if index % 2 else rotated


def _rotated(units: Sequence[list[Entrant]], block: int) -> list[list[Entrant]]:
    shift = block % len(units)
    inside = block // len(units)
    turned = [[*unit[s:], *unit[:s]] for unit in units for s in [inside % len(unit)]]
    return [*turned[shift:], *turned[:shift]]


@contextmanager
def collector_held() -> Iterator[None]:
    """No garbage collection while samples are taken, but between passes.

    The worker froze what plugins and torch allocated at import, so a collection looks at the
    objects of the case alone (well under a millisecond; 50 ms otherwise).
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def take_passes(
    entrants: Sequence[Entrant],
    timer: Timer,
    settings: Settings,
    rng: random.Random,
    attempt: Attempt,
    audit: Callable[[Entrant, Any, outputs.Glance], None],
    before_audit: Callable[[Entrant], None],
    between: Callable[[Callable[[Entrant], Any]], None] | None = None,
    watch: Callable[[], bool] | None = None,
) -> None:
    """One sample of every entrant in each pass, until the budget is used.

    Each contender is audited once, on the output of the last call of a sample of a random pass.
    An entrant that fails leaves the following passes and its samples are dropped; those of the
    others stay aligned.

    Args:
        entrants: warmed up, in an order that is random per process.
        timer: takes the samples.
        settings: budget and limits.
        rng: chooses the passes that are audited.
        attempt: runs one step of an entrant and rejects the entrant when it raises.
        audit: checks an output that came out of a timed region, and what its memory held then.
        before_audit: poisons free memory ahead of such a region.
        between: a check of everybody after a pass that is chosen at random. It gets a function
            that takes one more sample of an entrant, which does not count, and gives its output.
        watch: looks at the device before the first and after each pass; True when its clock was
            held down since.
    """
    least = settings.min_passes + settings.min_passes % 2
    # The budget is in seconds; a count is as good after one block as after twenty.
    passes = count_passes(entrants, settings) if timer.unit == "s" else least
    break_after = rng.randrange(least)
    audits = {e.name: rng.randrange(passes) for e in entrants if e.role == "contender"}
    meter = signals.Meter()
    ledger = Ledger(entrants)
    spent = 0.0

    def one(entrant: Entrant, index: int) -> float:
        audited = audits.get(entrant.name) == index
        if audited:
            before_audit(entrant)
        step = partial(_sample, entrant, timer, meter, ledger, glance=audited)
        elapsed, output, seen = attempt(entrant, "time", step) or (0.0, None, ())
        ledger.verify(entrant)
        if audited and entrant.alive:
            audit(entrant, output, seen)
            ledger.leave_out_the_rejected()
            entrant.audited += 1
        return float(elapsed)

    def uncounted(entrant: Entrant) -> Any:
        # The same way to the same call, so that nobody can tell it from a timed one.
        before = len(entrant.samples)
        taken = attempt(entrant, "time", partial(_sample, entrant, timer, meter, ledger))
        ledger.verify(entrant)
        if entrant.alive and len(entrant.samples) > before:
            entrant.samples.pop()
            ledger.unnote(entrant)
        return None if taken is None else taken[1]

    if watch is not None:
        watch()
    try:
        with collector_held():
            for index in range(passes):
                # A machine that slowed down must not stretch the case without end.
                if index % 2 == 0 and index >= least and spent > 1.5 * settings.budget:
                    break
                for entrant in order(entrants, index):
                    if entrant.alive:
                        spent += one(entrant, index)
                # Young objects only, which all of this case's are: packages that contenders import
                # late (scikit-learn, torchvision) make a full collection cost 100 ms.
                gc.collect(1)
                if watch is not None and watch():
                    for entrant in entrants:
                        entrant.throttled += entrant.alive
                if index == break_after and between is not None:
                    between(uncounted)
                    ledger.leave_out_the_rejected()
        for entrant in entrants:
            if entrant.alive and entrant.role == "contender" and not entrant.audited:
                audits[entrant.name] = -1
                one(entrant, -1)
                if entrant.samples:
                    entrant.samples.pop()  # taken for the audit alone, outside the passes
                    ledger.unnote(entrant)
    finally:
        meter.close()


def _sample(
    entrant: Entrant,
    timer: Timer,
    meter: signals.Meter,
    ledger: Ledger,
    *,
    glance: bool = False,
) -> tuple[float, Any, outputs.Glance]:
    """One sample into the entrant's record; doubtful ones are taken again, three times at most.

    Returns the time of all that were taken, the output of the last call and, if asked for, what lay
    in its memory when the call returned.
    """
    thunk, calls = entrant.thunk, entrant.calls
    assert thunk is not None
    taken = 0.0
    for _ in range(1 + RETAKES):
        before = meter.read()
        begun = monotonic_ns()
        sample = timer.sample(thunk, calls)
        host = (monotonic_ns() - begun) * 1e-9
        seen = outputs.glance(sample.output) if glance else ()
        entrant.total += meter.read() - before
        entrant.made += calls
        entrant.sampled += calls
        taken += sample.elapsed
        doubtful = sample.doubtful or _clocks_disagree(timer, sample.elapsed, host)
        if not doubtful:
            entrant.samples.append(sample.elapsed / calls)
            ledger.note(entrant)
            entrant.timed += sample.elapsed
            if sample.host:
                entrant.kept.append(sample.host / calls)
            entrant.starved += sample.starved
            if sample.taken_by:
                entrant.timer, entrant.remark = sample.taken_by, sample.remark
            return taken, sample.output, seen
        entrant.doubtful += 1
    entrant.reject("quarantined", "time", f"{RETAKES + 1} samples in a row: {doubtful}")
    return taken, None, ()


def _clocks_disagree(timer: Timer, elapsed: float, host: float) -> str:
    """Why a second clock, read around the sample, does not bear it out, or an empty text.

    No sample is longer than the time in which it was taken; one of the host's own clock is hardly
    shorter (a tenth, and what a process waits for when it is interrupted between two readings).
    """
    if not getattr(timer, "host_clock", False):  # the GPU's has a check of its own
        return ""
    if 0.9 * host - 2e-4 <= elapsed <= 1.01 * host + 1e-4:
        return ""
    return f"the timer saw {elapsed:.3g} s, a second clock {host:.3g} s"


class Ledger:
    """What was measured and of whom, beside the entrants, which a contender's code may reach."""

    def __init__(self, entrants: Sequence[Entrant]) -> None:
        self._entrants = tuple(entrants)
        self._rows = {id(e): (e.thunk, e.calls, e.alive, tuple(e.samples)) for e in entrants}

    def note(self, entrant: Entrant) -> None:
        """A sample was just added."""
        thunk, calls, alive, samples = self._rows[id(entrant)]
        self._rows[id(entrant)] = (thunk, calls, alive, (*samples, entrant.samples[-1]))

    def unnote(self, entrant: Entrant) -> None:
        """The last sample was not to count."""
        thunk, calls, alive, samples = self._rows[id(entrant)]
        self._rows[id(entrant)] = (thunk, calls, alive, samples[:-1])

    def leave_out_the_rejected(self) -> None:
        """An audit may have rejected whoever it found guilty."""
        for entrant in self._entrants:
            if not entrant.alive:
                self._rows[id(entrant)] = (entrant.thunk, entrant.calls, False, ())

    def verify(self, ran: Entrant) -> None:
        """Reject the entrant that just ran when a record of anybody is not as it was noted."""
        for entrant in self._entrants:
            thunk, calls, alive, samples = self._rows[id(entrant)]
            if entrant is ran and not entrant.alive:
                self._rows[id(entrant)] = (entrant.thunk, entrant.calls, False, ())
                continue
            same = entrant.thunk is thunk and entrant.calls == calls and entrant.alive == alive
            if same and (not alive or tuple(entrant.samples) == samples):
                continue
            entrant.thunk, entrant.calls, entrant.samples = thunk, calls, list(samples)
            entrant.status = "ok" if alive else entrant.status
            whose = "its own" if entrant is ran else f"{entrant.name}'s"
            ran.reject("wrong", "time", f"it changed {whose} record of what was measured")
            self._rows[id(ran)] = (*self._rows[id(ran)][:2], False, ())
