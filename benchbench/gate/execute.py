"""Runs a gate's cases look by look, and turns what was measured into the report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchbench import supervise
from benchbench.contract import Engine, Result, Settings
from benchbench.controls import NULL, SLOWDOWN, SLOWED
from benchbench.gate.report import Control, GateReport, Line, Word
from benchbench.gate.select import Pair, Selection, arranged
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.sequential import Decision, Design, decide
from benchbench.sides import BASELINE, CANDIDATE, entrant_name
from benchbench.stats import log_ratio

Found = dict[tuple[str, str], dict[int, Result]]
"""Results by case and entrant, then by process."""


class Measured:
    """What the gate's workers have said so far."""

    def __init__(self) -> None:
        self.found: Found = {}

    def take(self, record: Mapping[str, Any]) -> None:
        """Keep a result record; others are ignored."""
        if record.get("type") == "result":
            result = result_from_json({k: v for k, v in record.items() if k != "type"})
            by_process = self.found.setdefault((result.case, result.contender), {})
            by_process[result.process] = result

    def of(self, pair: Pair, side: str) -> dict[int, Result]:
        """Results of one side of a pair, by process."""
        return self.found.get((pair[0], entrant_name(pair[1], side)), {})

    def logs(self, pair: Pair, side: str = CANDIDATE) -> list[float]:
        """``ln(side / baseline)`` of each process that measured both."""
        own, other = self.of(pair, side), self.of(pair, BASELINE)
        values = []
        for process in sorted(own.keys() & other.keys()):
            value = log_ratio(own[process].samples, other[process].samples)
            if value is not None:
                values.append(value)
        return values

    def fault(self, pair: Pair, side: str) -> Result | None:
        """The first result that makes this side of the pair unusable, or None."""
        results = list(self.of(pair, side).values())
        for status in ("wrong", "failed", "quarantined", "skipped"):
            for result in results:
                if result.status == status:
                    return result
        return None


def run_looks(
    selection: Selection,
    *,
    design: Design,
    settings: Settings,
    engine: Engine,
    options: LoaderOptions,
    baselines: Mapping[str, str],
    emit: Callable[[Mapping[str, Any]], None],
) -> tuple[Measured, dict[Pair, Decision], dict[Pair, Decision]]:
    """Measure until every pair is decided or the last look is taken.

    Returns what was measured, the decisions, and those of the controls (contender ``x@null`` or
    ``x@slowed``).
    """
    measured = Measured()
    decisions: dict[Pair, Decision] = {}
    controls: dict[Pair, Decision] = {}
    pairs = selection.pairs
    open_pairs = set(pairs)

    def keep(record: Mapping[str, Any]) -> None:
        measured.take(record)
        emit(record)

    for look, upto in enumerate(design.looks):
        first = design.looks[look - 1] if look else 0
        supervise.execute(
            arranged(selection, baselines, open_pairs),
            settings=replace(settings, processes=upto),
            engine=engine,
            options=options,
            emit=keep,
            first=first,
        )
        usable = {p: logs for p in pairs if (logs := _usable(measured, p))}
        decisions = decide(usable, design, look, decisions, family=len(pairs))
        control_logs = {
            (case, entrant_name(name, side)): measured.logs((case, name), side)
            for case, name in selection.controls
            for side in (NULL, SLOWED)
        }
        present = {key: logs for key, logs in control_logs.items() if logs}
        controls = decide(present, design, look, controls)
        open_pairs = {p for p, d in decisions.items() if d.word == "undecided"}
        for case, name in selection.controls:
            slow = controls.get((case, entrant_name(name, SLOWED)))
            if slow is not None and slow.word == "undecided" and (case, name) in usable:
                open_pairs.add((case, name))
        if not open_pairs:
            break
    return measured, decisions, controls


def _usable(measured: Measured, pair: Pair) -> list[float]:
    if measured.fault(pair, CANDIDATE) or measured.fault(pair, BASELINE):
        return []
    return measured.logs(pair)


def lines(
    selection: Selection, measured: Measured, decisions: Mapping[Pair, Decision]
) -> list[Line]:
    """A line for each pair, timed or not."""
    return [
        *(_line(pair, measured, decisions.get(pair)) for pair in selection.pairs),
        *selection.lines,
    ]


def _line(pair: Pair, measured: Measured, decision: Decision | None) -> Line:
    case, name = pair
    if decision is None:
        word, reason = _unmeasured(pair, measured)
        return Line(case=case, contender=name, word=word, reason=reason)
    words: dict[str, Word] = {"slower": "slower", "faster": "faster", "same": "same"}
    open_word: Word = "not slower" if decision.not_slower else "inconclusive"
    sides = [measured.of(pair, side) for side in (CANDIDATE, BASELINE)]
    candidate, baseline = (_median(results) for results in sides)
    unit = next(iter(sides[0].values())).unit
    return Line(
        case=case,
        contender=name,
        word=words.get(decision.word, open_word),
        unit=unit,
        candidate=candidate,
        baseline=baseline,
        ratio=decision.interval,
        adjusted=decision.adjusted,
        processes=decision.processes,
    )


def _median(results: Mapping[int, Result]) -> float:
    medians = [math.log(statistics.median(r.samples)) for r in results.values() if r.samples]
    return math.exp(statistics.median(medians))


def _unmeasured(pair: Pair, measured: Measured) -> tuple[Word, str]:
    """Why a pair has no times. What only the candidate fails in is the candidate's fault."""
    ours, theirs = measured.fault(pair, CANDIDATE), measured.fault(pair, BASELINE)
    if ours is None and theirs is None:
        return "inconclusive", "no process measured both sides"
    if ours is None:
        assert theirs is not None
        return "skipped", f"the baseline cannot be compared with: {theirs.reason}"
    if theirs is not None:
        return "skipped", f"in both builds: {ours.reason}"
    word: Word = "wrong" if ours.status == "wrong" else "failed"
    return word, f"in this build only: {ours.reason}"


def judge_controls(selection: Selection, decisions: Mapping[Pair, Decision]) -> list[Control]:
    """The null must not be slower or faster, the slowed copy must be slower."""
    found = []
    for case, name in selection.controls:
        null = decisions.get((case, entrant_name(name, NULL)))
        slow = decisions.get((case, entrant_name(name, SLOWED)))
        quiet = null is not None and null.word not in ("slower", "faster")
        found.append(
            Control(
                name=f"{name}: the baseline against itself",
                case=case,
                ratio=null.interval if null else None,
                ok=quiet,
                text=_say(null, "as it must be" if quiet else "although the code is the same"),
            )
        )
        seen = slow is not None and slow.word == "slower"
        found.append(
            Control(
                name=f"{name}: the baseline slowed by {100 * SLOWDOWN:g} %",
                case=case,
                ratio=slow.interval if slow else None,
                ok=seen,
                text=_say(slow, "found" if seen else "not found"),
            )
        )
    return found


def _say(decision: Decision | None, outcome: str) -> str:
    if decision is None:
        return f"not measured, {outcome}"
    return (
        f"{100 * (decision.interval.estimate - 1):+.1f} % "
        f"[{100 * (decision.interval.low - 1):+.1f}, {100 * (decision.interval.high - 1):+.1f}], "
        f"{decision.word}, {outcome}"
    )


def conclude(all_lines: Sequence[Line], controls: Sequence[Control], **facts: Any) -> GateReport:
    """The report with its verdict.

    A null that fires or a slow-down that is missed says that this machine cannot tell now: then
    slower and faster mean nothing, and the gate is inconclusive rather than red.
    """
    wrong = [line for line in all_lines if line.word in ("wrong", "failed")]
    slower = [line for line in all_lines if line.word == "slower"]
    undecided = [line for line in all_lines if line.word == "inconclusive"]
    lost = [control for control in controls if not control.ok]
    if wrong:
        verdict, summary = "failed", f"{len(wrong)} wrong or failed in this build only"
    elif lost:
        verdict = "inconclusive"
        summary = (
            f"{len(lost)} of {len(controls)} controls did not come out as they must, so this "
            "machine cannot tell a change of this size now"
        )
    elif slower:
        verdict, summary = "failed", f"{len(slower)} slower than the baseline"
    elif undecided:
        verdict = "inconclusive"
        summary = f"a slow-down cannot be excluded for {len(undecided)}"
    else:
        verdict, summary = "passed", "nothing is slower than the baseline"
    return GateReport(
        verdict=verdict,  # type: ignore[arg-type]
        summary=summary,
        lines=tuple(all_lines),
        controls=tuple(controls),
        **facts,
    )
