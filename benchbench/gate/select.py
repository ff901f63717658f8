"""Which contenders of which cases a gate compares. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from benchbench.catalog import Description
from benchbench.contract import PlannedCase
from benchbench.controls import NULL, SLOWED
from benchbench.errors import PlanError
from benchbench.gate.report import Line
from benchbench.sides import BASELINE, CANDIDATE, entrant_name, split_name

CONTROLS = 2
"""Pairs that carry a null and a positive control."""

Pair = tuple[str, str]
"""Case id and contender."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is compared, and what is not and why."""

    cases: tuple[PlannedCase, ...]
    """Planned as usual; the contenders of each are those to be paired."""
    lines: tuple[Line, ...]
    """Pairs that need no timing: unchanged, new, gone."""
    controls: tuple[Pair, ...]

    @property
    def pairs(self) -> list[Pair]:
        """Everything that is timed, controls apart."""
        return [(c.case.id, name) for c in self.cases for name in c.contenders]


def ordinary(description: Description) -> Description:
    """The description without the contenders of sides."""
    workloads = {
        name: replace(
            workload,
            contenders={n: info for n, info in workload.contenders.items() if "@" not in n},
        )
        for name, workload in description.workloads.items()
    }
    return replace(description, workloads=workloads)


def select(
    planned: Sequence[PlannedCase],
    description: Description,
    unchanged: Callable[[str, str], bool],
    seed: int,
    only: Collection[str] = (),
) -> Selection:
    """Pair what both builds have.

    Args:
        planned: the ordinary plan.
        description: with the contenders of both sides.
        unchanged: takes a workload and a contender; True when its code is the same in both.
        seed: chooses the pairs that carry the controls.
        only: contenders that were asked for by name or glob are already the only ones in
            ``planned``, except for the workload's baseline, which is compared when it is in
            ``only`` or nothing was asked for.

    Raises:
        PlanError: no case is matched, so a gate could only be green by not looking.
    """
    cases, lines = [], []
    for item in planned:
        sides = _sides(description, item.case.workload)
        names = []
        for name in item.contenders:
            if only and name == item.baseline and name not in only:
                continue
            here, there = name in sides[CANDIDATE], name in sides[BASELINE]
            if here and there and unchanged(item.case.workload, name):
                lines.append(Line(case=item.case.id, contender=name, word="unchanged"))
            elif here and there:
                names.append(name)
            elif here:
                lines.append(Line(case=item.case.id, contender=name, word="new"))
        gone = sides[BASELINE] - sides[CANDIDATE]
        lines += [
            Line(case=item.case.id, contender=name, word="gone", reason="the baseline has it")
            for name in sorted(gone)
        ]
        if names:
            cases.append(replace(item, contenders=tuple(names)))
    if not cases and not any(line.word == "unchanged" for line in lines):
        raise PlanError(
            "no contender of any selected case is in both builds, so there is nothing to compare"
            + (f" ({len(lines)} are only in one)" if lines else "")
            + ". `benchbench list -v` shows what the candidate contributes; --project names "
            "another distribution"
        )
    pairs = [(c.case.id, name) for c in cases for name in c.contenders]
    chosen = random.Random(seed).sample(pairs, min(CONTROLS, len(pairs)))
    return Selection(cases=tuple(cases), lines=tuple(lines), controls=tuple(chosen))


def _sides(description: Description, workload: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {CANDIDATE: set(), BASELINE: set()}
    for entrant in description.workloads[workload].contenders:
        name, side = split_name(entrant)
        if side in found:
            found[side].add(name)
    return found


def arranged(
    selection: Selection, baselines: Mapping[str, str], open_pairs: Collection[Pair]
) -> list[PlannedCase]:
    """Cases with the entrants that are to be timed: both sides of each open pair, and controls.

    The workload's own baseline comes along unpaired and untimed: what the others may be off by
    follows from its error.
    """
    cases = []
    for item in selection.cases:
        entrants: list[str] = []
        for name in item.contenders:
            pair = (item.case.id, name)
            if pair not in open_pairs:
                continue
            sides = [CANDIDATE, BASELINE]
            if pair in selection.controls:
                sides += [NULL, SLOWED]
            entrants += [entrant_name(name, side) for side in sides]
        if entrants:
            baseline = baselines[item.case.workload]
            cases.append(
                replace(
                    item,
                    case=replace(item.case, untimed=(baseline,)),
                    contenders=(baseline, *entrants),
                )
            )
    return cases
