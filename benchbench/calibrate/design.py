"""What a calibration measures: copies of installed implementations against each other. Pure.

A pair is two copies of one implementation. In a null pair they are the same; in a slowed pair one
spins for a known share of its own duration. Both take the path of ordinary contenders through
build, check, warm-up and timing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchbench.contract import PlannedCase
from benchbench.sides import Copy, entrant_name

SHIFTS = (0.02, 0.03, 0.05, 0.10)
SHORTEST, LONGEST = 20e-6, 2e-3
"""Seconds a call of cases that are used. Shorter ones cannot be slowed by an exact share (a spin
ends at the next reading of the clock); longer ones take too long."""
CROWD = 25
"""Null pairs of one case in one round, at most."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured."""

    nulls: int = 300
    """Null pairs, over all rounds."""
    slowed: int = 40
    """Slowed pairs for each shift."""
    cases: int = 20
    rounds: int = 2
    """Independent repetitions, each with fresh processes; two at the least, to be compared."""

    def rounds_for(self, cases: int) -> int:
        """Rounds that it takes to have all null pairs."""
        return max(self.rounds, math.ceil(self.nulls / (cases * CROWD)))


@dataclass(frozen=True, kw_only=True)
class CopyPair:
    """Two copies of a case's baseline."""

    case: str
    number: int
    shift: float
    """Share by which the second is slowed; 0 in a null pair."""

    @property
    def suffixes(self) -> tuple[str, str]:
        """Of the two copies' names."""
        return f"one{self.number}", f"two{self.number}"

    def names(self, contender: str) -> tuple[str, str]:
        """Of the two entrants."""
        one, two = self.suffixes
        return entrant_name(contender, one), entrant_name(contender, two)

    def copies(self, identity: str) -> tuple[Copy, Copy]:
        """For the loader."""
        one, two = self.suffixes
        pair = f"copies {self.number}"
        return (
            Copy(of=identity, suffix=one, pair=pair),
            Copy(of=identity, suffix=two, pair=pair, slower=self.shift),
        )


def chosen(
    planned: Sequence[PlannedCase],
    latencies: Mapping[str, float],
    costs: Mapping[str, float],
    count: int,
) -> list[PlannedCase]:
    """Cases whose baseline takes neither too short nor too long, at most ``count``, as planned.

    Where there are more, those that the harness makes and checks soonest: the same minutes then
    give more verdicts.
    """
    fitting = [item for item in planned if SHORTEST <= latencies.get(item.case.id, 0.0) <= LONGEST]
    by_cost = sorted(fitting, key=lambda item: costs.get(item.case.id, 0.0))
    picked = {item.case.id for item in by_cost[:count]}
    return [item for item in fitting if item.case.id in picked]


def pairs_of_round(
    cases: Sequence[PlannedCase], effort: Effort, number: int, shifts: Sequence[float] = SHIFTS
) -> list[CopyPair]:
    """The pairs of round ``number`` (from 0), spread evenly over the cases."""
    rounds = effort.rounds_for(len(cases))
    found: list[CopyPair] = []
    # By workload: an implementation's copies are known in all of its cases.
    counted = dict.fromkeys((item.case.workload for item in cases), 0)
    turn = number
    for shift, total in ((0.0, effort.nulls), *((shift, effort.slowed) for shift in shifts)):
        for _ in range(total // rounds + (number < total % rounds)):
            case = cases[turn % len(cases)].case
            turn += 1
            found.append(CopyPair(case=case.id, number=counted[case.workload], shift=shift))
            counted[case.workload] += 1
    return found


def arranged(
    cases: Sequence[PlannedCase], pairs: Sequence[CopyPair], others: Mapping[str, Sequence[str]]
) -> list[PlannedCase]:
    """The cases with the entrants of the pairs, and with other contenders."""
    found = []
    for item in cases:
        names = [
            name
            for pair in pairs
            if pair.case == item.case.id
            for name in pair.names(item.baseline)
        ]
        rivals = [name for name in others.get(item.case.id, ()) if name != item.baseline]
        if names or rivals:
            untimed = () if rivals else (item.baseline,)
            found.append(
                replace(
                    item,
                    case=replace(item.case, untimed=untimed),
                    contenders=(item.baseline, *rivals, *names),
                )
            )
    return found
