"""Builds that one process cannot hold: two workers at a time, which take each case in turn.

Both stay alive over all cases, on the same processors; while one works the other sleeps. Who goes
first in a case alternates between processes. The sides have memory of their own, so what placement
does to one of them does not cancel, and the margin is wider. The controls run in a third worker, in
the baseline's environment: the null is then subject to all that the candidate is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from benchbench import supervise
from benchbench.catalog import Description, ImplementationInfo, WorkloadInfo
from benchbench.contract import Connection, PlannedCase, Settings, WorkerSpec
from benchbench.controls import NULL, SLOWED, controls_of
from benchbench.engines.local import LocalEngine
from benchbench.gate.builds import Builds, Code
from benchbench.gate.measured import Measured, Pair
from benchbench.gate.methods import APART, Asked, Emit, Record, renamed, upto
from benchbench.gate.project import Build
from benchbench.gate.select import arranged, asked_for, select
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.resources import physical_cpus, usable_cores
from benchbench.sequential import Contrast, Signs
from benchbench.sides import BASELINE, CANDIDATE, entrant_name, split_name

CONTROL = "control"


class Elsewhere(LocalEngine):
    """Starts workers in a build's own environment, on given processors."""

    def __init__(self, build: Build, cpus: Collection[int]) -> None:
        self._build = build
        self._cpus = cpus

    def start(self, spec: WorkerSpec) -> Connection:
        """Start one fresh worker process."""
        here = replace(spec, interpreter=self._build.interpreter, path=self._build.path)
        with _pinned(self._cpus):
            return super().start(here)


@contextmanager
def _pinned(cpus: Collection[int]) -> Iterator[None]:
    """A process started now inherits these processors; this one gets its own back."""
    if not cpus or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class InTurn:
    """See :class:`benchbench.gate.methods.Method`.

    Raises:
        UsageError, PlanError: the selection matches nothing.
        WorkerDied: a worker cannot be started in one of the environments.
    """

    margin = APART

    def __init__(self, asked: Asked, builds: Builds, options: LoaderOptions, why: str) -> None:
        threads = asked.settings.threads or usable_cores()
        self.settings = replace(asked.settings, threads=threads)
        cpus = physical_cpus(threads)
        pinned = f"pinned to processors {_ranges(cpus)}" if cpus else "not pinned"
        self.mode = f"two processes in turn, {pinned}"
        self.notes = (f"the builds do not run in one process: {why}",)
        self._engines = {
            CANDIDATE: Elsewhere(builds.candidate, cpus),
            BASELINE: Elsewhere(builds.baseline, cpus),
            CONTROL: Elsewhere(builds.baseline, cpus),
        }
        files = [target for _, target in builds.baseline.side.plugins if target.endswith(".py")]
        there = replace(options, files=tuple(files))
        self.description, _ = ours = self._describe(CANDIDATE, options)
        theirs = self._describe(BASELINE, there)
        planned = plan(
            self.description,
            asked.patterns,
            preset=asked.preset,
            axes=asked.axes,
            contenders=asked.contenders,
            seed=asked.settings.seed,
        )
        # Only what the project itself contributes is its business; the rest is the same anyway or
        # belongs to another distribution.
        own = _Own(builds, ours[0].workloads, theirs[0].workloads)
        self.selection = select(
            planned,
            own.has,
            own.unchanged,
            asked.settings.seed,
            asked_for(planned, asked.contenders),
        )
        workloads = {item.case.id: item.case.workload for item in planned}
        copies = sorted({f"{workloads[case]}:{name}" for case, name in self.selection.controls})
        self.slower = asked.slower(APART)
        self._options = {
            CANDIDATE: ours[1],
            BASELINE: theirs[1],
            CONTROL: replace(
                theirs[1], controls=tuple(c for of in copies for c in controls_of(of, self.slower))
            ),
        }
        self.options = ours[1]
        self.measured = Measured(interleaved=False)

    def _describe(self, side: str, options: LoaderOptions) -> tuple[Description, LoaderOptions]:
        settings = Settings(timeout=self.settings.timeout)
        data = supervise.describe(self._engines[side], options, settings)
        description = Description.from_json(data)
        blocked = tuple(dict.fromkeys((*options.blocked, *description.blocked)))
        return description, replace(options, blocked=blocked)

    def measure(self, open_pairs: Collection[Pair], first: int, processes: int, emit: Emit) -> None:
        """See :class:`benchbench.gate.methods.Method`."""
        executions = {
            side: self._execution(side, open_pairs, first, processes, emit)
            for side in self._engines
        }
        for process in range(first, processes):
            order = [c.case.id for c in executions[CANDIDATE].queues[process]]
            queue = executions[CONTROL].queues[process]
            executions[CONTROL].queues[process] = deque(
                sorted(queue, key=lambda item: order.index(item.case.id))
            )
            self._run(executions, process, [c.case.id for c in queue])
        executions[CANDIDATE].close()

    def _run(
        self, executions: dict[str, supervise.Execution], process: int, controls: Collection[str]
    ) -> None:
        steps = {side: execution.steps(process) for side, execution in executions.items()}
        try:
            for number, item in enumerate(list(executions[CANDIDATE].queues[process])):
                sides = [CANDIDATE, BASELINE]
                if (process + number) % 2:
                    sides.reverse()
                if item.case.id in controls:
                    sides.append(CONTROL)
                for side in sides:
                    next(steps[side])
            for generator in steps.values():
                for _ in generator:
                    pass
        finally:
            for generator in steps.values():
                generator.close()

    def _execution(
        self,
        side: str,
        open_pairs: Collection[Pair],
        first: int,
        processes: int,
        emit: Emit,
    ) -> supervise.Execution:
        def entrants(pair: Pair) -> list[str]:
            if side != CONTROL:
                return [pair[1]]
            wanted = (NULL, SLOWED) if pair in self.selection.controls else ()
            return [entrant_name(pair[1], copy) for copy in wanted]

        def keep(record: Record) -> None:
            if record.get("type") == "progress" and side != CANDIDATE:
                return
            if record.get("type") in ("process", "event"):
                record = {**record, "side": side}
            record = renamed(record, lambda name: _sided(name, side))
            self.measured.take(record)
            emit(record)

        cases: list[PlannedCase] = arranged(self.selection, open_pairs, entrants)
        return supervise.Execution(
            cases,
            upto(self.settings, processes),
            self._engines[side],
            self._options[side],
            keep,
            first=first,
        )

    def evidence(self, pair: Pair) -> Contrast:
        """The ratio of both sides' medians in the processes of one number."""
        return Signs(self.measured.logs(pair))

    def control(self, pair: Pair, side: str) -> Contrast:
        """The copy over what it is a copy of."""
        return Signs(self.measured.logs(pair, side))


def _sided(name: str, side: str) -> str:
    """Copies keep their names; a baseline that stands by for a control is nobody's."""
    return name if split_name(name)[1] else entrant_name(name, side)


def _ranges(cpus: Collection[int]) -> str:
    return ", ".join(map(str, sorted(cpus)))


class _Own:
    """What the project contributes on each side."""

    def __init__(
        self,
        builds: Builds,
        here: Mapping[str, WorkloadInfo],
        there: Mapping[str, WorkloadInfo],
    ) -> None:
        self._names = [
            {name for name, _ in build.side.plugins}
            for build in (builds.candidate, builds.baseline)
        ]
        self._workloads = (here, there)
        self._code: Callable[[str, str], bool] = Code(builds).same

    def _contenders(self, build: int, workload: str) -> dict[str, ImplementationInfo]:
        info = self._workloads[build].get(workload)
        if info is None:
            return {}
        return {
            name: item
            for name, item in info.contenders.items()
            if item.provider.plugin in self._names[build]
        }

    def has(self, item: PlannedCase) -> tuple[Collection[str], Collection[str]]:
        """Contenders of both sides."""
        workload = item.case.workload
        return self._contenders(0, workload), self._contenders(1, workload)

    def unchanged(self, workload: str, contender: str) -> bool:
        """True when nothing that a contender consists of has changed."""
        here, there = (self._contenders(build, workload)[contender] for build in (0, 1))
        return self._code(here.module, there.module)
