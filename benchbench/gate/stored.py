"""A stored run as the baseline: its cases are measured again and compared ratio by ratio.

Nothing of the two sides is interleaved, so times are not compared: whatever the machine did in
between is in them. Each contender is compared by its ratio to the workload's own baseline in the
same process, in which a faster or slower machine cancels. The controls are copies of contenders in
the new run: they show what this machine can tell now, not how it has changed since.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from dataclasses import replace

from benchbench import supervise
from benchbench.catalog import Description
from benchbench.comparison import different_machines
from benchbench.contract import PlannedCase, Run, Settings
from benchbench.controls import NULL, SLOWED, controls_of
from benchbench.engines.local import LocalEngine
from benchbench.errors import PlanError, UsageError
from benchbench.gate.measured import Measured, Pair
from benchbench.gate.methods import APART, Asked, Emit, Record, renamed, upto
from benchbench.gate.report import Line
from benchbench.gate.select import Selection, arranged, asked_for, select
from benchbench.plan import select_contenders, select_workloads
from benchbench.plugins import LoaderOptions
from benchbench.records import planned_from_json, settings_from_json
from benchbench.sequential import Contrast, Design, Ranks, Signs, least_p
from benchbench.sides import BASELINE, CANDIDATE, entrant_name, split_name
from benchbench.stats import FEWEST

_SAME = ("threads", "timer", "seed", "sample_seconds", "min_passes", "budget", "warmup")
"""Settings that are the stored run's."""


def settings_of(run: Run, settings: Settings) -> Settings:
    """The settings with which the stored run's cases are measured again."""
    then = settings_from_json(run.header["settings"])
    return replace(settings, **{name: getattr(then, name) for name in _SAME})


class Stored:
    """See :class:`benchbench.gate.methods.Method`.

    Args:
        asked: what is compared; settings as :func:`settings_of` gives them.
        run: the baseline.
        description: of what is installed here.
        options: of the loader.
        force: compare runs of different machines.
        environment: of this machine, as a run's header has it.
        design: must be able to decide with the stored run's processes.

    Raises:
        UsageError: the run is of another machine, or has too few processes to decide anything.
        PlanError: nothing that was asked for is in the run.
    """

    margin = APART

    def __init__(
        self,
        asked: Asked,
        run: Run,
        description: Description,
        options: LoaderOptions,
        *,
        force: bool,
        environment: Record,
        design: Design,
    ) -> None:
        self.mode = "one run after the other, by the ratio to the baseline of each workload"
        self._run = run
        self._force = force
        self.description = description
        self.settings = asked.settings
        self.measured = Measured()
        self._differs: list[str] = []
        self._header = {"environment": environment}
        self._compare_machines(replace(run, processes=()), self._header)
        found = _found(run)
        planned = _planned(run, description, asked)
        if not any(
            found.get(item.case.id, set()) & (set(item.contenders) - {item.baseline})
            for item in planned
        ):
            raise PlanError(
                f"run {run.id} has no contender beside the workloads' own baselines that is "
                "installed here, so there is nothing to compare. `benchbench history` lists runs; "
                "those of a gate between two builds cannot be baselines"
            )
        self.selection = select(
            planned,
            lambda item: (
                description.workloads[item.case.workload].contenders,
                found.get(item.case.id, ()),
            ),
            lambda workload, contender: False,
            asked.settings.seed,
            asked_for(planned, asked.contenders),
        )
        self._yardsticks = {item.case.id: item.baseline for item in self.selection.cases}
        self.selection = _without_yardsticks(self.selection, self._yardsticks)
        for result in run.results:
            if result.role == "contender" and not split_name(result.contender)[1]:
                self.measured.keep(
                    replace(result, contender=entrant_name(result.contender, BASELINE))
                )
        self._check_processes(run, design)
        workloads = {item.case.id: item.case.workload for item in planned}
        copies = sorted({f"{workloads[case]}:{name}" for case, name in self.selection.controls})
        self.slower = asked.slower(APART)
        self.options = replace(
            options, controls=tuple(c for of in copies for c in controls_of(of, self.slower))
        )

    def _compare_machines(self, run: Run, header: Record, worker: Record | None = None) -> None:
        here = Run(id="here", header=header, processes=() if worker is None else (worker,))
        differs = different_machines(run, here)
        if differs and not self._force:
            raise UsageError(
                f"run {run.id} is of another machine ({'; '.join(differs)}), so it says nothing "
                "about the code here; measure a baseline on this one (--baseline-rev), or give "
                "--force"
            )
        self._differs += [text for text in differs if text not in self._differs]

    @property
    def notes(self) -> tuple[str, ...]:
        """In what the machines differ, and how far the yardsticks have moved."""
        drift = self._drift()
        differs = (f"the machines differ: {text}" for text in self._differs)
        return (*differs, *([drift] if drift else []))

    def _check_processes(self, run: Run, design: Design) -> None:
        stored = max(len(self._relative(pair, BASELINE)) for pair in self.selection.pairs)
        level = design.alpha * design.spending[-1]
        if stored < FEWEST or least_p(stored, design.looks[-1]) > level:
            raise UsageError(
                f"run {run.id} has {stored} processes, with which no change can be told from "
                f"chance; measure a baseline with more: benchbench run --processes 9"
            )

    def _entrants(self, pair: Pair) -> list[str]:
        copies = (NULL, SLOWED) if pair in self.selection.controls else ()
        names = [pair[1], *(entrant_name(pair[1], copy) for copy in copies)]
        return [self._yardsticks[pair[0]], *names]

    def measure(self, open_pairs: Collection[Pair], first: int, processes: int, emit: Emit) -> None:
        """See :class:`benchbench.gate.methods.Method`."""

        def keep(record: Record) -> None:
            # The file gets ordinary rows: this run may be somebody's baseline.
            if record.get("type") == "process":  # what only a worker knows of this machine
                self._compare_machines(self._run, self._header, record)
            self.measured.take(renamed(record, _candidate))
            emit(record)

        supervise.execute(
            arranged(self.selection, open_pairs, self._entrants),
            settings=upto(self.settings, processes),
            engine=LocalEngine(),
            options=self.options,
            emit=keep,
            first=first,
        )

    def _relative(self, pair: Pair, side: str) -> list[float]:
        return self.measured.relative(pair, side, self._yardsticks[pair[0]])

    def evidence(self, pair: Pair) -> Contrast:
        """Ratios to the workload's baseline, now against then."""
        return Ranks(self._relative(pair, BASELINE), self._relative(pair, CANDIDATE))

    def control(self, pair: Pair, side: str) -> Contrast:
        """The copy over what it is a copy of, in the same process."""
        return Signs(self.measured.logs(pair, side, CANDIDATE))

    def _drift(self) -> str:
        moved = []
        for case, name in self._yardsticks.items():
            then, now = (self.measured.typical((case, name), s) for s in (BASELINE, CANDIDATE))
            if then and now:
                moved.append(100 * (now / then - 1))
        if not moved:
            return ""
        return (
            f"the workloads' baselines take {statistics.median(moved):+.1f} % of their time then "
            f"({min(moved):+.1f} to {max(moved):+.1f}); that cancels in the ratios"
        )


def _candidate(name: str) -> str:
    return name if split_name(name)[1] else entrant_name(name, CANDIDATE)


def _found(run: Run) -> dict[str, set[str]]:
    """Contenders that the run measured soundly, by case."""
    found: dict[str, set[str]] = {}
    bad = {(r.case, r.contender) for r in run.results if r.status != "ok"}
    for result in run.results:
        ordinary = result.role == "contender" and not split_name(result.contender)[1]
        if ordinary and result.samples and (result.case, result.contender) not in bad:
            found.setdefault(result.case, set()).add(result.contender)
    return found


def _planned(run: Run, description: Description, asked: Asked) -> list[PlannedCase]:
    """The run's own cases, those that were asked for and still exist."""
    wanted = {info.name for info in select_workloads(description, asked.patterns)}
    found = []
    for data in run.header["cases"]:
        item = planned_from_json(data)
        if item.case.workload not in wanted:
            continue
        names = select_contenders(
            description.workloads[item.case.workload], asked.contenders, asked.preset
        )
        found.append(replace(item, contenders=names))
    found = [item for item in found if item.contenders]
    if not found:
        raise PlanError(
            f"run {run.id} has no case of what is selected here, so there is nothing to compare; "
            f"`benchbench show {run.id}` lists what it has"
        )
    return found


def _without_yardsticks(selection: Selection, yardsticks: Mapping[str, str]) -> Selection:
    """The selection without each workload's own baseline, which nothing can be compared by."""
    cases, lines = [], list(selection.lines)
    for item in selection.cases:
        case = item.case.id
        names = tuple(name for name in item.contenders if name != yardsticks[case])
        if len(names) < len(item.contenders):
            lines.append(
                Line(
                    case=case,
                    contender=yardsticks[case],
                    word="skipped",
                    reason="the others are compared by their ratio to it",
                )
            )
        if names:
            cases.append(replace(item, contenders=names))
    kept = {(item.case.id, name) for item in cases for name in item.contenders}
    return Selection(
        cases=tuple(cases),
        lines=tuple(lines),
        controls=tuple(pair for pair in selection.controls if pair in kept),
    )
