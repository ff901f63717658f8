"""Two stored runs against each other. Pure.

The runs were not interleaved, so whatever changed the machine in between is in the raw times. What
both runs measured against the same baseline is compared as a ratio of ratios, in which it cancels;
the baseline itself has only its time.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchbench.contract import Run
from benchbench.machine import differences
from benchbench.stats import FEWEST, LEVEL, Figures, Interval, figures
from benchbench.verdict import Word, decide

MARGIN = 0.05
"""Wider than inside a run: two runs differ in more than the code."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One contender of one case, before and after."""

    case: str
    contender: str
    unit: str
    old: float
    """Time before: median over processes."""
    new: float
    change: Interval
    """New over old; below 1 is faster."""
    relative: bool
    """True when it is a ratio of ratios to the baseline, False when of times."""
    verdict: Word | None

    def text(self) -> str:
        """``+5.2 % [+1.0, +9.8]  inconclusive``."""

        def percent(value: float) -> str:
            return f"{100 * (value - 1):+.1f}"

        text = f"{percent(self.change.estimate):>6} %"
        if not self.change.claimed:
            return text + "  (too few processes for an interval)"
        text += f" [{percent(self.change.low)}, {percent(self.change.high)}]"
        return f"{text}  {self.verdict}" if self.verdict else text


def compare(old: Run, new: Run) -> list[Change]:
    """Every case and contender that both runs measured, by case.

    Only ratios of ratios get a verdict: a change of raw times may be the machine's.
    """
    before = figures(old)
    changes = []
    for key, after in figures(new).items():
        other = before.get(key)
        if other is None or other.unit != after.unit or not other.times or not after.times:
            continue
        changes.append(_change(key, other, after))
    return sorted(changes, key=lambda change: change.case)


def _change(key: tuple[str, str], old: Figures, new: Figures) -> Change:
    case, contender = key
    relative = (
        old.baseline == new.baseline
        and contender != new.baseline
        and bool(old.ratios and new.ratios)
    )
    pair = (old.ratios, new.ratios) if relative else (old.times, new.times)
    change = shift_interval(*pair).map(math.exp)
    judged = relative and change.claimed
    return Change(
        case=case,
        contender=contender,
        unit=new.unit,
        old=math.exp(statistics.median(old.times)),
        new=math.exp(statistics.median(new.times)),
        change=change,
        relative=relative,
        verdict=decide(change.low, change.high, MARGIN) if judged else None,
    )


def shift_interval(one: Sequence[float], other: Sequence[float], level: float = LEVEL) -> Interval:
    """By how much ``other`` lies above ``one``: Hodges-Lehmann, with the exact rank-sum interval.

    Median of all pairwise differences; the interval inverts the Mann-Whitney test (Hollander,
    Wolfe and Chicken, section 4.2 and 4.3). Below ``FEWEST`` values on a side none is claimed.
    """
    differences = sorted(b - a for a in one for b in other)
    estimate = statistics.median(differences)
    ranks, coverage = (0, 0.0)
    if min(len(one), len(other)) >= FEWEST:
        ranks, coverage = _rank_sum(len(one), len(other), level)
    return Interval(
        estimate=estimate,
        low=differences[ranks],
        high=differences[-1 - ranks],
        coverage=coverage,
    )


def _rank_sum(m: int, n: int, level: float) -> tuple[int, float]:
    """Differences to drop at each end, and the coverage left, exact.

    Number of arrangements of m and n values with each value of the Mann-Whitney statistic: the
    coefficients of the Gaussian binomial, one factor after the other.
    """
    total = m * n
    ways = [1] + [0] * total
    for i in range(1, m + 1):
        for value in range(total, n + i - 1, -1):
            ways[value] -= ways[value - n - i]
        for value in range(i, total + 1):
            ways[value] += ways[value - i]
    tail, rank, covered = 0, 0, 1.0
    for value in range(total // 2):
        tail += ways[value]
        now = 1.0 - 2.0 * tail / math.comb(m + n, m)
        if value and now < level:
            break
        rank, covered = value, now
    return rank, covered


def different_machines(old: Run, new: Run) -> list[str]:
    """In which identifying facts the machines of two runs differ."""

    def facts(run: Run) -> dict[str, object]:
        worker = run.processes[0].get("environment", {}) if run.processes else {}
        return {**run.header.get("environment", {}), **worker}

    return differences(facts(old), facts(new))
