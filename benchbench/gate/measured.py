"""What a gate's workers have said so far, by pair and side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from benchbench.contract import Result
from benchbench.records import result_from_json
from benchbench.sides import BASELINE, CANDIDATE, entrant_name
from benchbench.stats import log_ratio

Pair = tuple[str, str]
"""Case id and contender."""

FAULTS = ("wrong", "failed", "quarantined", "skipped")


class Measured:
    """Results by case and entrant, then by process.

    Args:
        interleaved: samples of both sides were taken in turn in one process, so that those of one
            pass belong together. Otherwise a process of one side and a process of the other do.
    """

    def __init__(self, *, interleaved: bool = True) -> None:
        self._interleaved = interleaved
        self._found: dict[tuple[str, str], dict[int, Result]] = {}

    def take(self, record: Mapping[str, Any]) -> None:
        """Keep a result record; others are ignored."""
        if record.get("type") == "result":
            self.keep(result_from_json({k: v for k, v in record.items() if k != "type"}))

    def keep(self, result: Result) -> None:
        """Keep a result."""
        self._found.setdefault((result.case, result.contender), {})[result.process] = result

    def of(self, pair: Pair, side: str) -> dict[int, Result]:
        """Results of one side of a pair, by process."""
        return self._found.get((pair[0], entrant_name(pair[1], side)), {})

    def logs(self, pair: Pair, side: str = CANDIDATE, against: str = BASELINE) -> list[float]:
        """``ln(side / against)`` of each process that measured both."""
        own, other = self.of(pair, side), self.of(pair, against)
        return self._ratios(own, other)

    def relative(self, pair: Pair, side: str, baseline: str) -> list[float]:
        """``ln(contender / baseline)`` of each process of one side."""
        return self._ratios(self.of(pair, side), self.of((pair[0], baseline), side))

    def _ratios(self, own: Mapping[int, Result], other: Mapping[int, Result]) -> list[float]:
        values = []
        for process in sorted(own.keys() & other.keys()):
            one, two = own[process].samples, other[process].samples
            value = log_ratio(one, two) if self._interleaved else _log_of_medians(one, two)
            if value is not None:
                values.append(value)
        return values

    def fault(self, pair: Pair, side: str) -> Result | None:
        """The first result that makes this side of the pair unusable, or None."""
        results = list(self.of(pair, side).values())
        for status in FAULTS:
            for result in results:
                if result.status == status:
                    return result
        return None

    def sound(self, pair: Pair, sides: Iterable[str] = (CANDIDATE, BASELINE)) -> bool:
        """No process found anything wrong with these sides."""
        return not any(self.fault(pair, side) for side in sides)

    def times(self, pair: Pair, side: str) -> tuple[float, ...]:
        """One call's median in each process that timed this side, in the order of processes."""
        results = self.of(pair, side)
        return tuple(statistics.median(r.samples) for _, r in sorted(results.items()) if r.samples)

    def typical(self, pair: Pair, side: str) -> float | None:
        """Median over processes of one call."""
        logs = [math.log(time) for time in self.times(pair, side)]
        return math.exp(statistics.median(logs)) if logs else None


def _log_of_medians(one: tuple[float, ...], two: tuple[float, ...]) -> float | None:
    if not one or not two or min(*one, *two) <= 0:
        return None
    return math.log(statistics.median(one) / statistics.median(two))
