"""Which contenders of which cases a gate compares. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from benchbench.catalog import Description
from benchbench.contract import PlannedCase
from benchbench.errors import PlanError
from benchbench.gate.measured import Pair
from benchbench.gate.report import Line
from benchbench.sides import BASELINE, CANDIDATE, split_name

CONTROLS = 2
"""Pairs that carry a null and a positive control."""

Has = Callable[[PlannedCase], tuple[Collection[str], Collection[str]]]
"""Contenders that the candidate and the baseline have for a case."""


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
    has: Has,
    unchanged: Callable[[str, str], bool],
    seed: int,
    only: Collection[str] = (),
) -> Selection:
    """Pair what both builds have.

    Args:
        planned: the ordinary plan.
        has: what each side offers.
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
        ours, theirs = has(item)
        names = []
        for name in item.contenders:
            if only and name == item.baseline and name not in only:
                continue
            here, there = name in ours, name in theirs
            if here and there and unchanged(item.case.workload, name):
                lines.append(Line(case=item.case.id, contender=name, word="unchanged"))
            elif here and there:
                names.append(name)
            elif here:
                lines.append(Line(case=item.case.id, contender=name, word="new"))
        lines += [
            Line(case=item.case.id, contender=name, word="gone", reason="the baseline has it")
            for name in sorted(set(theirs) - set(ours))
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


def by_sides(description: Description) -> Has:
    """What both sides have by a description that knows ``gelu@candidate`` and ``gelu@baseline``."""

    def has(item: PlannedCase) -> tuple[set[str], set[str]]:
        found: dict[str, set[str]] = {CANDIDATE: set(), BASELINE: set()}
        for entrant in description.workloads[item.case.workload].contenders:
            name, side = split_name(entrant)
            if side in found:
                found[side].add(name)
        return found[CANDIDATE], found[BASELINE]

    return has


def asked_for(planned: Sequence[PlannedCase], contenders: Sequence[str]) -> list[str]:
    """Contenders of the plan that match what was asked for; none when nothing was."""
    names = {name for item in planned for name in item.contenders}
    return [name for name in names if any(fnmatchcase(name, c) for c in contenders)]


def arranged(
    selection: Selection,
    open_pairs: Collection[Pair],
    entrants: Callable[[Pair], Sequence[str]],
) -> list[PlannedCase]:
    """Cases with the entrants that are to be timed for the open pairs.

    The workload's own baseline comes along, untimed unless it is among the entrants: what the
    others may be off by follows from its error.
    """
    cases = []
    for item in selection.cases:
        timed = [
            entrant
            for name in item.contenders
            if (item.case.id, name) in open_pairs
            for entrant in entrants((item.case.id, name))
        ]
        if timed:
            rest = [entrant for entrant in timed if entrant != item.baseline]
            untimed = () if item.baseline in timed else (item.baseline,)
            cases.append(
                replace(
                    item,
                    case=replace(item.case, untimed=untimed),
                    contenders=(item.baseline, *rest),
                )
            )
    return cases
