"""One case in one process: build, check, warm up, time, audit."""

from __future__ import annotations

import logging
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from typing import Any

from benchbench import device, gpu, roof, rotation, signals
from benchbench.catalog import ask_unavailable
from benchbench.contract import (
    Case,
    Implementation,
    Result,
    Settings,
    Stage,
    Timer,
    Work,
    Workload,
)
from benchbench.correctness import Checker, Guard, explain
from benchbench.fingerprint import Shared
from benchbench.floors import floor_fault
from benchbench.heap import Heap
from benchbench.measure import Entrant, take_passes, warm_up
from benchbench.renewal import Renewal
from benchbench.structures import total_bytes
from benchbench.threads import Threads
from benchbench.timers.cuda import is_cuda

log = logging.getLogger("benchbench")

CHEAP_SECONDS = 0.005
"""Inputs and reference that took no longer are made anew in every process, to check again."""
TAIL_CALLS, MOST_TAIL_CALLS = 40, 200
"""Calls of each contender in a process where the slowest ones matter."""


def _for_single_calls(settings: Settings) -> Settings:
    """A sample is one call where the clock's resolution allows it, and there are many."""
    return replace(
        settings,
        sample_seconds=0.0,
        min_passes=max(settings.min_passes, TAIL_CALLS),
        max_passes=max(settings.max_passes, MOST_TAIL_CALLS),
    )


class CaseRun:
    """The case with everybody who takes part, and what was found of them."""

    guard: Guard
    timer: Timer | None = None
    threads: Threads | None = None
    gpu_record: gpu.Record | None = None

    def __init__(
        self,
        case: Case,
        workload: Workload,
        implementations: Sequence[Implementation],
        settings: Settings,
        process: int,
        heap: Heap,
    ) -> None:
        self.heap = heap
        self.case = case
        self.workload = workload
        self.settings = _for_single_calls(settings) if workload.tail else settings
        self.process = process
        self.entrants = [Entrant(name=i.name, implementation=i) for i in implementations]
        self.roof: Entrant | None = None
        self.work: Work | None = None
        self.renewal: Renewal | None = None
        self.copies: list[Shared] = []
        """Inputs that calls read in turn with the first ones, where the cache is to be cold."""
        self.reference_seconds = 0.0
        """What making the inputs and the reference took."""
        self.phases: dict[str, float] = {}
        # Placement in memory differs between processes, as it would between a user's runs.
        self.rng = random.Random(f"{settings.seed}/{process}/{case.id}")

    @property
    def alive(self) -> list[Entrant]:
        """Those that were not rejected."""
        return [entrant for entrant in self.entrants if entrant.alive]

    def _timed(self) -> list[Entrant]:
        """Those that are left and do not only stand by for the check."""
        return [entrant for entrant in self.alive if entrant.name not in self.case.untimed]

    def reject_all(self, stage: Stage, reason: str) -> None:
        """The case cannot be run, whoever takes part."""
        for entrant in self.entrants:
            entrant.reject("failed", stage, reason)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add up how long the blocks of this name took."""
        start = perf_counter_ns()
        try:
            yield
        finally:
            spent = (perf_counter_ns() - start) * 1e-9
            self.phases[name] = self.phases.get(name, 0.0) + spent

    def execute(self) -> None:
        """All phases, as long as anybody is left to take part."""
        with self.phase("build"):
            self._ask_availability()
        if not self.alive:
            return
        with self.phase("make"):
            checker = self._make()
        if checker is None:
            return
        with self.phase("build"):
            self._build(checker.inputs)
        with self.phase("check"):
            self._check(checker)
        if checker.broken:
            self.reject_all("check", checker.broken)
        if self.settings.cache == "cold" and self._timed():
            with self.phase("spread"):
                self._spread(checker.inputs)
        if not self._timed():
            return
        with self.phase("warm-up"):
            self._warm_up()
            self._see_threads("warm-up")
        with self.phase("time"):
            self._time(checker)
        with self.phase("verify"):
            self._see_threads("time")
            checker.verify_inputs(self.alive)
            self._verify_copies()
            self._see_floor()
        if checker.broken:
            self.reject_all("time", checker.broken)
        racers = [*self.entrants, *([self.roof] if self.roof else [])]
        if self.timer is not None and self.timer.unit == "s":
            self.phases["timed"] = sum(entrant.timed for entrant in racers)

    def _ask_availability(self) -> None:
        for entrant in self.entrants:
            assert entrant.implementation is not None
            self.guard.announce(entrant.name, "build")
            reason = ask_unavailable(entrant.implementation.unavailable, self.case.params)
            if reason is not None:
                entrant.reject("skipped", "", reason)
        self.guard.restore()

    def _make(self) -> Checker | None:
        """Inputs, reference and cost; None when the workload cannot provide them."""
        workload, params, seed = self.workload, self.case.params, self.case.seed

        def make() -> Any:
            return workload.make(params, seed)

        what = "make"
        try:
            self.guard.announce("", "make")
            start = perf_counter_ns()
            shared = Shared(make())
            self.guard.restore()
            reference = None
            if workload.reference is not None:
                what = "reference"
                reference = workload.reference(shared.inputs)
            self.reference_seconds = (perf_counter_ns() - start) * 1e-9
            checker = Checker(
                workload, params, shared, make, reference, self.guard, weigh=self.process == 0
            )
            changed = shared.changed(content=False)
            if changed:
                self.reject_all("make", f"the workload's reference changed the input {changed!r}")
                return None
            if workload.work is not None:
                what = "work"
                self.work = workload.work(params)
        except BaseException as error:
            self.guard.see_device(error)
            self.reject_all("make", f"the workload's {what} raised {explain(error)}")
            return None
        finally:
            self.guard.restore()
        checker.built = self.entrants
        self.renewal = Renewal(
            workload, params, seed, shared, self.guard.attempt, self.guard.restore
        )
        return checker

    def _build(self, inputs: Any) -> None:
        """Build every contender, in an order that is random per process."""
        for entrant in self.rng.sample(self.alive, len(self.alive)):
            implementation = entrant.implementation
            assert implementation is not None
            start = perf_counter_ns()
            thunk = self.guard.attempt(entrant, "build", partial(implementation.build, inputs))
            entrant.signals["build"] = (perf_counter_ns() - start) * 1e-9
            if not entrant.alive:
                continue
            if not callable(thunk):
                entrant.reject(
                    "failed", "build", f"build returned {type(thunk).__name__}, not a callable"
                )
            entrant.thunk = thunk

    def _check(self, checker: Checker) -> None:
        """The baseline first, since its own error says how far the others may be off."""
        order = self.rng.sample(self.alive, len(self.alive))
        order.sort(key=lambda entrant: entrant.name != self.workload.baseline)
        for entrant in order:
            if entrant.alive and not checker.broken:
                checker.check(entrant)
        if checker.weigh:
            self.heap.forget()
        if self.process == 0 and not checker.broken:
            self._renew(checker)

    def _renew(self, checker: Checker) -> None:
        """Call everybody on other values, while no thread of theirs takes the interpreter."""
        if self.renewal is not None and self.timer is not None:
            self._see_threads("check")
            self.renewal.examine(self.alive, self.timer, "check", self.rng, checker.first)

    def _break(self, checker: Checker, take: Callable[[Entrant], Any]) -> None:
        """The same among timed samples: in the first process, and where that costs little."""
        costly = self.reference_seconds > CHEAP_SECONDS
        if self.renewal is None or self.timer is None or (costly and self.process):
            return
        self.renewal.examine(
            self._timed(),
            self.timer,
            "audit",
            self.rng,
            checker.first,
            look_ups=False,
            take=take,
        )

    def _spread(self, inputs: Any) -> None:
        """Let calls go round so many equal sets of inputs that none is in the cache in its turn."""
        number, reason = 0, "a state that each call reads and writes cannot be cold"
        if not self.workload.stateful:
            cache, free = device.last_cache(self.case.device), device.free_memory(self.case.device)
            number, reason = rotation.count(total_bytes(inputs), cache, free)
        if reason:
            for entrant in self.entrants:
                entrant.reject("skipped", "", f"--cache cold: {reason}")
            return
        self.guard.announce("", "make")
        for _ in range(number - 1):
            self.copies.append(Shared(self.workload.make(self.case.params, self.case.seed)))
            self.guard.restore()
        copies = [shared.inputs for shared in self.copies]
        for entrant in self._timed():
            assert entrant.implementation is not None and entrant.thunk is not None
            step = partial(rotation.over, entrant.implementation, entrant.thunk, inputs, copies)
            entrant.thunk = self.guard.attempt(entrant, "build", step)
            entrant.signals["input_sets"] = float(number)
        if self.renewal is not None:
            self.renewal.spread(copies)

    def _verify_copies(self) -> None:
        if any(shared.changed(content=True) for shared in self.copies):
            for entrant in self.alive:
                entrant.reject(
                    "wrong",
                    "time",
                    "a set of inputs changed while it and others were timed; with --cache hot the "
                    "one who writes to them is named",
                )

    def _warm_up(self) -> None:
        assert self.timer is not None
        timer = self.timer
        racers = self._timed()
        if not is_cuda(self.case.device):
            self.heap.reserve(entrant.signals.get("output_bytes", 0.0) for entrant in racers)
        if self.settings.roof and timer.unit == "s":
            self.roof = self._build_roof()
            if self.roof is not None:
                racers = [*racers, self.roof]
        for entrant in self.rng.sample(racers, len(racers)):
            step = partial(warm_up, entrant, timer, self.settings)
            self.guard.attempt(entrant, "warm-up", step)

    def _build_roof(self) -> Entrant | None:
        where = self.case.device
        entrant = Entrant(name=roof.name(self.work, where), role="roof")
        cold = rotation.TIMES * device.last_cache(where) if self.copies else 0
        entrant.thunk = self.guard.attempt(
            entrant,
            "build",
            lambda: roof.build(self.work, where, device.free_memory(where), cold),
        )
        return None if entrant.alive and entrant.thunk is None else entrant

    def _see_threads(self, stage: Stage) -> None:
        """Reject those whose threads go on while nothing is called."""
        restless = self.threads.restless() if self.threads is not None else {}
        for entrant in self.entrants:
            if entrant.name in restless:
                entrant.reject("wrong", stage, restless[entrant.name])

    def _see_floor(self) -> None:
        """Reject those that are faster than the bytes can be moved.

        Unless the baseline is too: then the workload states more bytes than it takes.
        """
        if self.timer is None or self.timer.unit != "s":
            return
        faults = {
            entrant.name: floor_fault(entrant.samples, self.work, self.case.device)
            for entrant in self._timed()
        }
        if not faults.get(self.workload.baseline):
            for entrant in self._timed():
                if faults[entrant.name]:
                    entrant.reject("wrong", "time", faults[entrant.name])

    def _time(self, checker: Checker) -> None:
        assert self.timer is not None
        racers = self._timed()
        if self.roof is not None and self.roof.alive:
            racers.append(self.roof)
        take_passes(
            self.rng.sample(racers, len(racers)),
            self.timer,
            self.settings,
            self.rng,
            self.guard.attempt,
            checker.audit,
            checker.poison,
            partial(self._break, checker),
            None if self.gpu_record is None else self.gpu_record.look,
        )

    def results(self) -> list[Result]:
        """A row for each contender, and one for the roof."""
        everyone = [*self.entrants, *([self.roof] if self.roof is not None else [])]
        return [self._result(entrant) for entrant in everyone]

    def _device_signals(self, entrant: Entrant, measured: dict[str, float]) -> tuple[str, ...]:
        """Add what only a device has to a row's signals; gives its notes."""
        words = []
        if entrant.kept:
            measured["host"] = statistics.median(entrant.kept)
            measured["starved"] = entrant.starved / len(entrant.kept)
            if measured["starved"] > 0.5:
                words.append("host-bound")
        if self.gpu_record is not None:
            measured.update(self.gpu_record.signals())
            measured["throttled"] = min(1.0, entrant.throttled / len(entrant.samples))
            if entrant.throttled:
                words.append(self.gpu_record.note())
        if entrant.timer:
            words.append(f"by {entrant.timer}")
            if self.process == 0:
                log.info(
                    "%s: %s is timed by %s: %s",
                    self.case.id,
                    entrant.name,
                    entrant.timer,
                    entrant.remark,
                )
        return tuple(words)

    def _result(self, entrant: Entrant) -> Result:
        measured = dict(entrant.signals)
        notes: tuple[str, ...] = ()
        timer = self.timer
        if entrant.samples and timer is not None and timer.unit != "s":
            # What the system does to time it does not do to counts.
            measured.update(audited=entrant.audited, doubtful=entrant.doubtful)
        elif entrant.samples:
            per_call = signals.summarise(entrant.total, entrant.sampled)
            measured.update(per_call, audited=entrant.audited, doubtful=entrant.doubtful)
            measured["tail"] = float(self.workload.tail)
            notes = signals.notes(per_call, entrant.timed / max(entrant.sampled, 1))
            notes += self._device_signals(entrant, measured)
        return Result(
            case=self.case.id,
            workload=self.case.workload,
            params=self.case.params,
            contender=entrant.name,
            baseline=self.workload.baseline,
            process=self.process,
            status=entrant.status,
            role=entrant.role,
            reason=entrant.reason,
            stage=entrant.stage,
            seed=self.case.seed,
            timer=entrant.timer or ("" if timer is None else timer.name),
            unit="s" if timer is None else timer.unit,
            calls=entrant.calls if entrant.samples else 0,
            samples=tuple(entrant.samples),
            errors=entrant.errors,
            metrics=entrant.metrics,
            signals=measured,
            notes=notes,
            work=self.work,
        )
