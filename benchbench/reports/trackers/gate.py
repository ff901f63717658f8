"""What a gate has for a tracker. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchbench.reports.trackers.entries import GATE_TOTALS, Entry, Tracked, clean, count, sound
from benchbench.stats import FEWEST, FEWEST_COUNTED, Interval, order_statistic_interval

if TYPE_CHECKING:
    from benchbench.gate.report import GateReport, Line


def of_gate(report: GateReport) -> Tracked:
    """The candidate's times, with the ratio to the earlier build.

    A control that did not come out as it must says that no ratio of this gate means anything: then
    there are none, every verdict is inconclusive, and ``controls missed`` is not 0.
    """
    missed = [control for control in report.controls if not control.ok]
    entries = [_entry(line, trusted=not missed) for line in report.lines]
    return Tracked(
        source="gate",
        entries=tuple(entries),
        totals={**count(entries, GATE_TOTALS), "controls missed": len(missed)},
        started=report.started,
        environment=report.environment,
        facts={
            "run": report.run,
            "verdict": report.verdict,
            "summary": clean(report.summary),
            "candidate": clean(report.candidate),
            "baseline": clean(report.baseline),
            "controls missed": [clean(f"{c.name}, {c.case}: {c.text}") for c in missed],
        },
    )


_DECIDED = ("slower", "faster", "same", "not slower")


def _entry(line: Line, *, trusted: bool) -> Entry:
    word, reason = str(line.word), line.reason
    if not trusted and word in _DECIDED:
        word, reason = "inconclusive", f"{word}, but a control did not come out as it must"
    time = None
    if line.times:
        fewest = FEWEST if line.unit == "s" else FEWEST_COUNTED
        time = order_statistic_interval(line.times, fewest=fewest)
    elif line.candidate is not None:
        time = Interval(estimate=line.candidate, low=line.candidate, high=line.candidate)
    return sound(
        Entry(
            case=line.case,
            contender=line.contender,
            word=word,
            reason=reason,
            unit=line.unit,
            time=time,
            ratio=line.ratio if trusted else None,
            values=line.times,
            baseline="the earlier build",
        )
    )
