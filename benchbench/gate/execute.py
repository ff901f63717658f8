"""Runs a gate's cases look by look, and turns what was measured into the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbench.controls import NULL, SLOWED
from benchbench.gate.measured import Measured, Pair
from benchbench.gate.methods import Emit, Method
from benchbench.gate.report import Control, GateReport, Line, Word
from benchbench.gate.select import Selection
from benchbench.sequential import Decision, Design, decide
from benchbench.sides import BASELINE, CANDIDATE, entrant_name

Decisions = dict[Pair, Decision]


def run_looks(method: Method, design: Design, emit: Emit) -> tuple[Decisions, Decisions]:
    """Measure until every pair is decided or the last look is taken.

    Returns the decisions, and those of the controls (contender ``x@null`` or ``x@slowed``).
    """
    decisions: Decisions = {}
    controls: Decisions = {}
    selection, measured = method.selection, method.measured
    pairs = selection.pairs
    open_pairs = set(pairs)
    for look, upto in enumerate(design.looks):
        method.measure(open_pairs, design.looks[look - 1] if look else 0, upto, emit)
        usable = {
            pair: known
            for pair in pairs
            if measured.sound(pair) and (known := method.evidence(pair)).count
        }
        decisions = decide(usable, design, look, decisions, family=len(pairs))
        present = {
            (case, entrant_name(name, side)): known
            for case, name in selection.controls
            for side in (NULL, SLOWED)
            if (known := method.control((case, name), side)).count
        }
        controls = decide(present, design, look, controls)
        open_pairs = {p for p, d in decisions.items() if d.word == "undecided"}
        for case, name in selection.controls:
            slow = controls.get((case, entrant_name(name, SLOWED)))
            if slow is not None and slow.word == "undecided" and (case, name) in usable:
                open_pairs.add((case, name))
        if not open_pairs:
            break
    return decisions, controls


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
    unit = next(iter(measured.of(pair, CANDIDATE).values())).unit
    return Line(
        case=case,
        contender=name,
        word=words.get(decision.word, open_word),
        unit=unit,
        candidate=measured.typical(pair, CANDIDATE),
        baseline=measured.typical(pair, BASELINE),
        ratio=decision.interval,
        adjusted=decision.adjusted,
        processes=decision.processes,
        times=measured.times(pair, CANDIDATE),
    )


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


def judge_controls(
    selection: Selection, decisions: Mapping[Pair, Decision], slower: float
) -> list[Control]:
    """The null must not be slower or faster, the copy slowed by ``slower`` must be slower."""
    found = []
    for case, name in selection.controls:
        null = decisions.get((case, entrant_name(name, NULL)))
        slow = decisions.get((case, entrant_name(name, SLOWED)))
        quiet = null is not None and null.word not in ("slower", "faster")
        found.append(
            Control(
                name=f"{name}: a copy against itself",
                case=case,
                ratio=null.interval if null else None,
                ok=quiet,
                text=_say(null, "as it must be" if quiet else "although the code is the same"),
            )
        )
        seen = slow is not None and slow.word == "slower"
        found.append(
            Control(
                name=f"{name}: a copy slowed by {100 * slower:g} %",
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
