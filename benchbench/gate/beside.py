"""Both builds in one worker, on the same input buffers: the way that a gate takes if it can."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from benchbench import supervise
from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.controls import NULL, SLOWED, controls_of
from benchbench.engines.local import LocalEngine
from benchbench.gate.builds import Builds, Code
from benchbench.gate.measured import Measured, Pair
from benchbench.gate.methods import Asked, Emit, Record, upto
from benchbench.gate.select import arranged, asked_for, by_sides, ordinary, select
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.sequential import Contrast, Signs
from benchbench.sideload import prefix
from benchbench.sides import BASELINE, CANDIDATE, entrant_name
from benchbench.verdict import MARGIN


class Conflict(Exception):
    """The builds cannot be loaded beside each other. Says why."""


class Beside:
    """See :class:`benchbench.gate.methods.Method`.

    Raises:
        Conflict: a build cannot be loaded beside the other.
        UsageError, PlanError: the selection matches nothing.
    """

    mode = "both builds in one worker, on the same inputs"
    notes: tuple[str, ...] = ()

    def __init__(self, asked: Asked, builds: Builds, options: LoaderOptions, margin: float) -> None:
        self.margin = margin
        self.settings = asked.settings
        options = replace(options, sides=(builds.candidate.side, builds.baseline.side))
        description = Description.from_json(
            supervise.describe(LocalEngine(), options, Settings(timeout=asked.settings.timeout))
        )
        sides = [p for p in description.plugins if "@" in p.provider.plugin]
        for side in sides:
            if side.status == "failed":
                raise Conflict(side.reason)
        self.description = replace(
            description, plugins=tuple(p for p in description.plugins if p not in sides)
        )
        planned = plan(
            ordinary(description),
            asked.patterns,
            preset=asked.preset,
            axes=asked.axes,
            contenders=asked.contenders,
            seed=asked.settings.seed,
        )
        code = Code(builds)

        def unchanged(workload: str, contender: str) -> bool:
            contenders = description.workloads[workload].contenders
            here, there = (
                contenders[entrant_name(contender, side)].module.removeprefix(prefix(side))
                for side in (CANDIDATE, BASELINE)
            )
            return code.same(here, there)

        self.selection = select(
            planned,
            by_sides(description),
            unchanged,
            asked.settings.seed,
            asked_for(planned, asked.contenders),
        )
        workloads = {item.case.id: item.case.workload for item in planned}
        copies = {
            f"{workloads[case]}:{entrant_name(name, BASELINE)}"
            for case, name in self.selection.controls
        }
        self.slower = asked.slower(margin)
        self.options = replace(
            options,
            blocked=tuple(dict.fromkeys((*options.blocked, *description.blocked))),
            controls=tuple(c for of in sorted(copies) for c in controls_of(of, self.slower)),
        )
        self.measured = Measured()

    def _entrants(self, pair: Pair) -> list[str]:
        sides = [CANDIDATE, BASELINE]
        if pair in self.selection.controls:
            sides += [NULL, SLOWED]
        return [entrant_name(pair[1], side) for side in sides]

    def measure(self, open_pairs: Collection[Pair], first: int, processes: int, emit: Emit) -> None:
        """See :class:`benchbench.gate.methods.Method`."""

        def keep(record: Record) -> None:
            self.measured.take(record)
            emit(record)

        supervise.execute(
            arranged(self.selection, open_pairs, self._entrants),
            settings=upto(self.settings, processes),
            engine=LocalEngine(),
            options=self.options,
            emit=keep,
            first=first,
        )

    def evidence(self, pair: Pair) -> Contrast:
        """The ratio in each process."""
        return Signs(self.measured.logs(pair))

    def control(self, pair: Pair, side: str) -> Contrast:
        """The copy over what it is a copy of."""
        return Signs(self.measured.logs(pair, side))


def margin_of(timer: str) -> float:
    """What a difference is worth between two builds in one process."""
    from benchbench.timers import instructions_launch as instructions

    return instructions.MARGIN if timer == instructions.TIMER else MARGIN
