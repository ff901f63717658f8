"""The rounds of a calibration: looks as a gate takes them, on pairs whose truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchbench import supervise
from benchbench.calibrate.design import CopyPair, Effort, arranged, pairs_of_round
from benchbench.contract import Engine, PlannedCase, Result, Run, Settings
from benchbench.errors import UsageError
from benchbench.plugins import LoaderOptions
from benchbench.records import planned_from_json, result_from_json
from benchbench.sequential import Decision, Design, decide
from benchbench.stats import log_ratio

FAMILY = 100
"""Cases of a gate: null pairs are judged in families of so many, a slowed one among as many."""
Record = Mapping[str, Any]
Emit = Callable[[Record], None]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A pair, what was measured of it and what a gate would have said."""

    pair: CopyPair
    logs: tuple[float, ...]
    """``ln(second / first)`` of each process."""
    decision: Decision | None


@dataclass(frozen=True, kw_only=True)
class Round:
    """One repetition."""

    observed: tuple[Observed, ...]
    gates: tuple[bool, ...]
    """For each family of null pairs, whether any was called slower or faster."""
    contenders: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    """``ln(contender / baseline)`` of each process, of contenders that are not copies."""
    faults: tuple[str, ...] = ()
    """Rows that could not be measured."""


class _Rows:
    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[int, Result]] = {}
        self.faults: list[str] = []

    def take(self, record: Record) -> None:
        if record.get("type") != "result":
            return
        self.keep(result_from_json({k: v for k, v in record.items() if k != "type"}))

    def keep(self, result: Result) -> None:
        if result.status == "ok" and result.samples:
            self.found.setdefault((result.case, result.contender), {})[result.process] = result
        elif result.status not in ("ok", "skipped"):
            self.faults.append(f"{result.case} {result.contender}: {result.reason}")

    def logs(self, case: str, one: str, other: str, upto: float = math.inf) -> tuple[float, ...]:
        first, second = (self.found.get((case, name), {}) for name in (one, other))
        values = [
            log_ratio(second[p].samples, first[p].samples)
            for p in sorted(first.keys() & second.keys())
            if p < upto
        ]
        return tuple(value for value in values if value is not None)


def run_round(
    number: int,
    cases: Sequence[PlannedCase],
    effort: Effort,
    design: Design,
    *,
    settings: Settings,
    engine: Engine,
    options: LoaderOptions,
    emit: Emit,
) -> Round:
    """Measure one round.

    Args:
        number: of the round, from 0; it has pairs, processes and orders of its own.
        cases: with the contenders that are measured beside the copies.
        effort: how many pairs.
        design: of the gate that is calibrated.
        settings: of the workers.
        engine: starts them.
        options: which plugins they load.
        emit: takes every record.
    """
    pairs = pairs_of_round(cases, effort, number)
    names = {item.case.id: item.baseline for item in cases}
    identity = {item.case.id: f"{item.case.workload}:{item.baseline}" for item in cases}
    options = replace(
        options, controls=tuple(copy for pair in pairs for copy in pair.copies(identity[pair.case]))
    )
    settings = replace(settings, seed=settings.seed + number)
    rows = _Rows()
    families = _families(pairs, settings.seed)
    open_pairs = set(pairs)
    decisions: dict[CopyPair, Decision] = {}

    def keep(record: Record) -> None:
        rows.take(record)
        emit(record)

    for look, upto in enumerate(design.looks):
        others = {item.case.id: item.contenders for item in cases} if not look else {}
        supervise.execute(
            arranged(cases, [p for p in pairs if p in open_pairs], others),
            settings=replace(settings, processes=upto),
            engine=engine,
            options=options,
            emit=keep,
            first=design.looks[look - 1] if look else 0,
        )
        logs = {pair: rows.logs(pair.case, *pair.names(names[pair.case])) for pair in pairs}
        decisions = _decisions(logs, families, design, look, decisions)
        open_pairs = {pair for pair in pairs if logs[pair] and decisions[pair].word == "undecided"}
        if not open_pairs:
            break
    return _concluded(rows, cases, pairs, families, decisions)


def again(run: Run) -> Round:
    """A round that was measured before, decided anew from its run file.

    Raises:
        UsageError: the run is no calibration's, or was interrupted.
    """
    facts = run.header.get("calibration")
    if not facts:
        raise UsageError(
            f"run {run.id} is no round of a calibration; `benchbench history` lists runs"
        )
    if not run.complete:
        raise UsageError(
            f"run {run.id}, a round of a calibration, was interrupted, so it cannot be added: its "
            "pairs have too few processes"
        )
    number, design = facts["round"], Design(**_tuples(facts["design"]))
    cases = [planned_from_json(data) for data in run.header["cases"]]
    pairs = pairs_of_round(cases, Effort(**facts["effort"]), number)
    names = {item.case.id: item.baseline for item in cases}
    rows = _Rows()
    for result in run.results:
        rows.keep(result)
    families = _families(pairs, run.header["settings"]["seed"] + number)
    decisions: dict[CopyPair, Decision] = {}
    for look, upto in enumerate(design.looks):
        logs = {pair: rows.logs(pair.case, *pair.names(names[pair.case]), upto) for pair in pairs}
        decisions = _decisions(logs, families, design, look, decisions)
    return _concluded(rows, cases, pairs, families, decisions)


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}


def _concluded(
    rows: _Rows,
    cases: Sequence[PlannedCase],
    pairs: Sequence[CopyPair],
    families: Sequence[Sequence[CopyPair]],
    decisions: Mapping[CopyPair, Decision],
) -> Round:
    names = {item.case.id: item.baseline for item in cases}
    contenders = {
        (item.case.id, name): values
        for item in cases
        for name in item.contenders
        if name != item.baseline and (values := rows.logs(item.case.id, item.baseline, name))
    }
    logs = {pair: rows.logs(pair.case, *pair.names(names[pair.case])) for pair in pairs}
    return Round(
        observed=tuple(
            Observed(pair=pair, logs=logs[pair], decision=decisions.get(pair)) for pair in pairs
        ),
        gates=tuple(
            any(decisions[p].word in ("slower", "faster") for p in family if p in decisions)
            for family in families
            if len(family) == FAMILY
        ),
        contenders=contenders,
        faults=tuple(dict.fromkeys(rows.faults)),
    )


def _families(pairs: Sequence[CopyPair], seed: int) -> list[list[CopyPair]]:
    """Null pairs in random families of :data:`FAMILY`, as many as are full, and the rest."""
    nulls = [pair for pair in pairs if not pair.shift]
    nulls = random.Random(seed).sample(nulls, len(nulls))
    return [nulls[i : i + FAMILY] for i in range(0, len(nulls), FAMILY)]


def _decisions(
    logs: Mapping[CopyPair, Sequence[float]],
    families: Sequence[Collection[CopyPair]],
    design: Design,
    look: int,
    earlier: Mapping[CopyPair, Decision],
) -> dict[CopyPair, Decision]:
    found: dict[CopyPair, Decision] = {}
    for family in families:
        found |= decide({p: logs[p] for p in family}, design, look, earlier, family=FAMILY)
    for pair, values in logs.items():
        if pair.shift:
            found |= decide({pair: values}, design, look, earlier, family=FAMILY)
    return found
