"""Two stored runs against each other. Pure.

The runs were not interleaved, so bounds are wide on purpose: the interval of the new run over that
of the old, end against end.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchbench.contract import Run
from benchbench.machine import differences
from benchbench.stats import Interval, Row, summarise
from benchbench.verdict import Word, decide

MARGIN = 0.05
"""Wider than inside a run, since drift between the runs is not cancelled."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One contender of one case, before and after."""

    case: str
    contender: str
    unit: str
    old: Interval
    new: Interval
    ratio: Interval
    """New time over old; below 1 is faster."""
    verdict: Word | None

    def text(self) -> str:
        """``+5.2 % [+1.0, +9.8] inconclusive``."""

        def percent(value: float) -> str:
            return f"{100 * (value - 1):+.1f}"

        text = f"{percent(self.ratio.estimate):>6} %"
        if self.verdict is None:
            return text + "  (too few processes for bounds)"
        return f"{text} [{percent(self.ratio.low)}, {percent(self.ratio.high)}]  {self.verdict}"


def compare(old: Run, new: Run) -> list[Change]:
    """Every case and contender that both runs measured, in the order of the new run."""
    before = {(row.case, row.contender): row for row in summarise(old)}
    changes = []
    for row in summarise(new):
        other = before.get((row.case, row.contender))
        if other is not None and row.role == "contender" and row.unit == other.unit:
            change = _change(other, row)
            if change is not None:
                changes.append(change)
    return changes


def _change(old: Row, new: Row) -> Change | None:
    if old.latency is None or new.latency is None:
        return None
    claimed = old.latency.claimed and new.latency.claimed
    ratio = Interval(
        estimate=new.latency.estimate / old.latency.estimate,
        low=new.latency.low / old.latency.high,
        high=new.latency.high / old.latency.low,
        coverage=min(old.latency.coverage, new.latency.coverage) if claimed else 0.0,
    )
    return Change(
        case=new.case,
        contender=new.contender,
        unit=new.unit,
        old=old.latency,
        new=new.latency,
        ratio=ratio,
        verdict=decide(ratio.low, ratio.high, MARGIN) if claimed else None,
    )


def different_machines(old: Run, new: Run) -> list[str]:
    """In which identifying facts the machines of two runs differ."""

    def facts(run: Run) -> dict[str, object]:
        worker = run.processes[0].get("environment", {}) if run.processes else {}
        return {**run.header.get("environment", {}), **worker}

    return differences(facts(old), facts(new))
