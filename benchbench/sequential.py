"""Verdicts on many cases at several looks, with an error rate that is fixed beforehand. Pure.

Each case is tested by its processes: how many of their log-ratios lie beyond a bound. That count is
binomial whatever the noise looks like (the sign test; W. J. Conover, Practical Nonparametric
Statistics, 3rd ed., section 3.4), so a process that a neighbour ruined counts once, however far
off it is. Signed ranks (section 5.7 there) see more where nobody was ruined: 3 of 24 that fall
short of the margin by a hair cost the sign test its verdict, and them nothing. But they give a
ruined process the largest rank: with 3 of 24 and a true slow-down of 5 % their p is 0.01, that of
the sign test 0.0001. So from 16 processes on both are taken, and share the error.

Looks share out the error (Bonferroni over looks), and cases share each look's part by Holm's method
(S. Holm, Scandinavian Journal of Statistics 6, 1979, pages 65 to 70), so the chance of any false
verdict in the family over all looks is at most ``alpha``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal, Protocol, TypeVar

from benchbench.comparison import shift_interval
from benchbench.stats import Interval, order_statistic_interval
from benchbench.verdict import MARGIN

K = TypeVar("K", bound=Hashable)
Standing = Literal["slower", "faster", "same", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """Fixed before the first process starts.

    The sign test has floors: 9 processes reach ``p = 1/512`` at best, so a first look at 9 can
    decide a case by itself but rarely in a large family; 16 reach ``1/65536``.

    Raises:
        ValueError: a field makes no sense; the text names it.
    """

    looks: tuple[int, ...] = (9, 16, 24)
    """Processes so far at each look."""
    margin: float = MARGIN
    alpha: float = 0.01
    """Chance of any false "slower" in the family, over all looks; the same for "faster"."""
    beta: float = 0.01
    """Chance for one case to be called "same", or not slower, when it is beyond the margin."""
    spending: tuple[float, ...] = (0.2, 0.3, 0.5)
    """Share of ``alpha`` and ``beta`` at each look. The first share of 0.01 is just above the floor
    of 9 processes; the last look has most, since it has the most evidence."""

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 1:
            raise ValueError(f"looks must be rising counts of processes, not {self.looks}")
        if len(self.spending) != len(self.looks) or not math.isclose(sum(self.spending), 1.0):
            raise ValueError(f"spending must be a share for each look, in all 1: {self.spending}")
        if not all(0 < value < 0.5 for value in (self.alpha, self.beta)):
            raise ValueError(f"alpha and beta lie between 0 and 0.5: {self.alpha}, {self.beta}")
        if self.margin <= 0:
            raise ValueError(f"margin must be above 0, it is {self.margin}")


def evenly_rising(looks: int) -> tuple[float, ...]:
    """Shares of the error for any number of looks: in proportion to 1, 2, 3, ..."""
    total = looks * (looks + 1) / 2
    return tuple((look + 1) / total for look in range(looks))


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is known of one case after a look."""

    word: Standing
    look: int
    """Index of the look at which it was decided, or of the last one taken."""
    interval: Interval
    """Of the ratio (candidate over baseline), at 95 %."""
    adjusted: float
    """Holm's p of the side on which the estimate lies (slower or faster), at this look."""
    not_slower: bool
    """A slow-down beyond the margin is excluded, be it the same or faster."""
    processes: int = 0


def sign_p(values: Sequence[float], bound: float) -> float:
    """One-sided p of "the median is at most ``bound``": the chance of so many values above it.

    A value on the bound counts against rejection.
    """
    above = sum(value > bound for value in values)
    count = len(values)
    return sum(math.comb(count, k) for k in range(above, count + 1)) / 2.0**count


def signed_rank_p(values: Sequence[float], bound: float) -> float:
    """One-sided p of "symmetric about at most ``bound``": Wilcoxon's signed ranks, exact.

    Values that are equally far from the bound, and those on it, are ranked against rejection.
    """
    ranked = sorted((abs(value - bound), value <= bound) for value in values)
    below = sum(rank for rank, (_, under) in enumerate(ranked, 1) if under)
    return _rank_sums(len(values))[below]


@lru_cache(maxsize=64)
def _rank_sums(count: int) -> tuple[float, ...]:
    """Chance of a sum up to 0, 1, 2, ... of ranks 1 to ``count`` that are each in or out."""
    ways = [1]
    for rank in range(1, count + 1):
        longer = [*ways, *([0] * rank)]
        for total, number in enumerate(ways):
            longer[total + rank] += number
        ways = longer
    return tuple(reached / 2**count for reached in accumulate(ways))


def holm(p_values: Mapping[K, float], family: int) -> dict[K, float]:
    """Holm's adjusted p of each hypothesis, in a family of ``family`` (those absent have p = 1)."""
    adjusted: dict[K, float] = {}
    largest = 0.0
    for rank, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (max(family, len(p_values)) - rank) * p))
        adjusted[key] = largest
    return adjusted


class Contrast(Protocol):
    """What the processes say of one case. All on the scale of ``ln(candidate / baseline)``."""

    @property
    def count(self) -> int:
        """Processes, of the side that has fewer."""

    def above(self, bound: float) -> float:
        """One-sided p of "the truth is at most ``bound``"."""

    def below(self, bound: float) -> float:
        """One-sided p of "the truth is at least ``bound``"."""

    def interval(self) -> Interval:
        """Estimate and 95 % interval."""


RANKED = 16
"""Processes from which on signed ranks are looked at too."""
SIGN_SHARE = 0.55
"""The sign test's share of the error there: 16 that agree still decide in a family of 100."""


@dataclass(frozen=True)
class Signs:
    """Each process measured both sides: its log-ratios by the sign test, and by signed ranks."""

    logs: Sequence[float]
    ranked: bool = True
    """Without, the sign test alone: then the order-statistic interval at the same level is the
    set of bounds that are not rejected."""

    @property
    def count(self) -> int:
        """Processes."""
        return len(self.logs)

    def above(self, bound: float) -> float:
        """See :class:`Contrast`."""
        return self._beyond(self.logs, bound)

    def below(self, bound: float) -> float:
        """See :class:`Contrast`."""
        return self._beyond([-value for value in self.logs], -bound)

    def _beyond(self, values: Sequence[float], bound: float) -> float:
        """The smaller p of both tests, each for its share of the error.

        Ranks count only where the interval lies beyond the bound too: who reads it must find the
        verdict in it.
        """
        signs = sign_p(values, bound)
        if not self.ranked or len(values) < RANKED:
            return signs
        both = signs / SIGN_SHARE
        if order_statistic_interval(values).low > bound:
            both = min(both, signed_rank_p(values, bound) / (1.0 - SIGN_SHARE))
        return min(1.0, both)

    def interval(self) -> Interval:
        """Median with the order-statistic interval."""
        return order_statistic_interval(self.logs)


@dataclass(frozen=True)
class Ranks:
    """Sides that were measured in different processes: the exact rank-sum test.

    (Mann-Whitney; M. Hollander, D. A. Wolfe and E. Chicken, Nonparametric Statistical Methods, 3rd
    ed., section 4.1.) It supposes that both sides spread alike.
    """

    baseline: Sequence[float]
    candidate: Sequence[float]

    @property
    def count(self) -> int:
        """Processes of the side that has fewer."""
        return min(len(self.baseline), len(self.candidate))

    def above(self, bound: float) -> float:
        """See :class:`Contrast`."""
        return self._p(bound, "greater")

    def below(self, bound: float) -> float:
        """See :class:`Contrast`."""
        return self._p(bound, "less")

    def _p(self, bound: float, alternative: str) -> float:
        from scipy import stats

        rank_sum: Any = stats.mannwhitneyu
        shifted = [value - bound for value in self.candidate]
        found = rank_sum(shifted, self.baseline, alternative=alternative, method="exact")
        return float(found.pvalue)

    def interval(self) -> Interval:
        """Hodges-Lehmann shift with the interval that inverts the test."""
        return shift_interval(self.baseline, self.candidate)


def least_p(baseline: int, candidate: int) -> float:
    """Smallest p that :class:`Ranks` can give with so many processes on each side."""
    return 1.0 / math.comb(baseline + candidate, candidate)


def decide(
    logs: Mapping[K, Sequence[float] | Contrast],
    design: Design,
    look: int,
    earlier: Mapping[K, Decision] | None = None,
    family: int | None = None,
) -> dict[K, Decision]:
    """Where each case stands at look ``look``.

    Args:
        logs: ``ln(candidate / baseline)`` of each process, for every case of the family, or what
            else is known of it. A case of which processes were lost may have fewer than the look
            has.
        design: of the whole sequence.
        look: index into ``design.looks``.
        earlier: decisions of the look before; those that are decided stand.
        family: number of cases when it is larger than ``logs`` (some could not be measured).
    """
    earlier = earlier or {}
    upper = math.log1p(design.margin)
    open_cases = {
        key: contrast
        for key, given in logs.items()
        if (contrast := _contrast(given)).count
        and (key not in earlier or earlier[key].word == "undecided")
    }
    size = max(family or 0, len(logs))
    alpha = design.alpha * design.spending[look]
    beta = design.beta * design.spending[look]
    slower = holm({key: known.above(upper) for key, known in open_cases.items()}, size)
    faster = holm({key: known.below(-upper) for key, known in open_cases.items()}, size)
    decisions = {key: earlier[key] for key in logs if key in earlier and key not in open_cases}
    for key, known in open_cases.items():
        under = known.below(upper) <= beta
        over = known.above(-upper) <= beta
        word: Standing = "undecided"
        if slower[key] <= alpha:
            word = "slower"
        elif faster[key] <= alpha:
            word = "faster"
        elif under and over:
            word = "same"
        interval = known.interval().map(math.exp)
        decisions[key] = Decision(
            word=word,
            look=look,
            interval=interval,
            adjusted=slower[key] if interval.estimate >= 1 else faster[key],
            not_slower=word != "slower"
            and (under or word == "faster" or (key in earlier and earlier[key].not_slower)),
            processes=known.count,
        )
    return decisions


def _contrast(given: Sequence[float] | Contrast) -> Contrast:
    return Signs(given) if isinstance(given, Sequence) else given
