"""Rules of a comparison of two callables, what it found, and what may be claimed of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from benchbench.errors import UsageError, suggestion
from benchbench.verdict import MARGIN, Word

LOOKS = (9, 16, 24)
"""Processes after which it is decided whether more are needed."""
FEWEST = 5
ERROR = 0.05
"""Chance that a comparison's interval misses the true ratio, over all looks together."""


class VerdictError(AssertionError):
    """What was claimed of two callables does not hold."""


class WrongResult(VerdictError):
    """The two do not compute the same, change their inputs, or one of them failed."""


class Inconclusive(VerdictError):
    """The measurements neither support what was claimed nor contradict it."""


def _raise(message: str) -> None:
    __tracebackhide__ = True
    raise Inconclusive(message)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a comparison is measured and decided."""

    processes: int = LOOKS[0]
    """Fresh processes at first, the replicates; at least 5."""
    most: int = LOOKS[-1]
    """An undecided comparison gets more processes, up to so many."""
    margin: float = MARGIN
    """Differences up to this share are no difference."""
    budget: float = 0.4
    """Timed seconds in each process, for both together."""
    warmup: float = 0.2
    """Most seconds of warm-up for each in each process."""
    threads: int = 0
    """Intra-op threads; 0 takes the physical cores that this process may use."""
    device: str = "cpu"
    """Where the inputs are; decides the clock."""
    timer: str = "auto"
    """``instructions`` counts them in place of time."""
    timeout: float = 180.0
    """Seconds that one step may take before its process is killed."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.processes < FEWEST:
            raise UsageError(
                f"processes={self.processes} gives no interval, and no verdict without one: take "
                f"{FEWEST} or more, better {LOOKS[0]}"
            )
        if self.margin < 0:
            raise UsageError(f"the margin must not be negative, it is {self.margin}")

    @staticmethod
    def of(given: Mapping[str, Any]) -> Rules:
        """Rules from names and values; text is read as the rule's type.

        Raises:
            UsageError: there is no such rule, or a value is none for it.
        """
        types = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Rules)}
        read = {}
        for name, value in given.items():
            if name not in types:
                raise UsageError(
                    f"benchbench has no rule {name!r}.{suggestion(name, types)} "
                    f"The rules are {', '.join(types)}"
                )
            try:
                read[name] = types[name](value)
            except (TypeError, ValueError):
                raise UsageError(
                    f"{name}={value!r} is no value for this rule: give {types[name].__name__}"
                ) from None
        return Rules(**read)

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of processes after which it is decided."""
        more = (look for look in LOOKS if self.processes < look < self.most)
        last = (self.most,) if self.most > self.processes else ()
        return (self.processes, *more, *last)

    @property
    def level(self) -> float:
        """Level of the intervals: whichever look decides, an error stays below ``ERROR`` in all.

        The error is shared out equally (Bonferroni), which holds for any dependence of the looks.
        """
        return 1.0 - ERROR / len(self.looks)


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds of one call (or the timer's unit), with the interval over processes."""

    name: str
    estimate: float
    low: float
    high: float
    unit: str = "s"

    def __str__(self) -> str:
        from benchbench.reports.text import duration

        return (
            f"{self.name} {duration(self.estimate, self.unit)} "
            f"[{duration(self.low, self.unit)}, {duration(self.high, self.unit)}]"
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a comparison found.

    ``ratio`` is the candidate's time over the baseline's, below 1 is faster; ``interval`` is around
    it. Without timing (``timed`` is False) ``word`` is None, the figures are ``nan``, and the
    assertions hold, since there is nothing that could contradict them.
    """

    candidate: str
    baseline: str
    word: Word | None = None
    ratio: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    coverage: float = 0.0
    """Chance that an interval made like this one encloses the true ratio."""
    margin: float = MARGIN
    processes: int = 0
    times: tuple[Time, ...] = ()
    """Of the candidate and of the baseline."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Of the candidate's output, see :class:`benchbench.Result`."""
    notes: tuple[str, ...] = ()
    run: str = ""
    """Id of the stored run."""
    path: Path = Path()
    """Its file."""
    inconclusive: Callable[[str], None] = field(default=_raise, repr=False, compare=False)
    """Called with the message when an assertion can be neither confirmed nor refuted."""

    @property
    def timed(self) -> bool:
        """False when only the results were compared."""
        return bool(self.times)

    @property
    def what(self) -> str:
        """What was measured: time, or what the timer counts."""
        units = {time.unit for time in self.times} - {"s"}
        return units.pop() if units else "time"

    def assert_not_slower(self) -> None:
        """The candidate takes at most ``1 + margin`` times as long.

        Raises:
            VerdictError: the whole interval lies above that.
            Inconclusive: the interval encloses it.
        """
        __tracebackhide__ = True
        self._claim("no slower than", above=1.0 + self.margin)

    def assert_faster(self, by: float | None = None) -> None:
        """The baseline takes at least ``by`` times as long; by default beyond the margin.

        Raises:
            VerdictError: the whole interval contradicts that.
            Inconclusive: the interval encloses it.
        """
        __tracebackhide__ = True
        factor = 1.0 + self.margin if by is None else by
        if factor < 1.0:
            raise UsageError(f"by={by}: it is the factor by which it is faster, at least 1")
        self._claim(f"at least {factor:g} times as fast as", above=1.0 / factor)

    def assert_same(self) -> None:
        """The two take the same time, within the margin.

        Raises:
            VerdictError: the whole interval lies outside the margin.
            Inconclusive: part of it does.
        """
        __tracebackhide__ = True
        upper = 1.0 + self.margin
        self._claim("as fast as", above=upper, least=1.0 / upper)

    def _claim(self, claim: str, *, above: float, least: float = 0.0) -> None:
        """The ratio is claimed to lie between ``least`` and ``above``."""
        __tracebackhide__ = True
        if not self.timed:
            return
        low, high = self.interval
        if least <= low and high <= above:
            return
        bound = f"between {least:.4g} and {above:.4g}" if least else f"at most {above:.4g}"
        if low > above or high < least:
            raise VerdictError(
                f"'{self.candidate} is {claim} {self.baseline}' does not hold: the ratio "
                f"would be {bound}.\n{self}"
            )
        self.inconclusive(
            f"{self.processes} processes do not tell whether {self.candidate} is {claim} "
            f"{self.baseline} (the ratio would be {bound}).\n{self}\n"
            "More processes (most=), a larger budget= or a quieter machine narrow the interval"
        )

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if not self.timed:
            return f"{self.candidate} against {self.baseline}: results agree, not timed"
        low, high = self.interval
        return (
            f"{self.candidate} against {self.baseline}: {self.word}, {self.ratio:.3f} times the "
            f"{self.what} [{low:.3f}, {high:.3f}], {self.processes} processes"
        )

    def __str__(self) -> str:
        if not self.timed:
            return self.line
        low, high = self.interval
        lines = [
            f"{self.word}: {self.candidate} takes {self.ratio:.3f} times the {self.what} of "
            f"{self.baseline} [{low:.3f}, {high:.3f}: {100 * self.coverage:.1f} % interval over "
            f"{self.processes} processes; margin {100 * self.margin:g} %]",
            *(f"  {time}" for time in self.times),
        ]
        if self.errors:
            lines.append(
                f"  largest relative error {self.errors.get('max', 0.0):.2g}, allowed "
                f"{self.errors.get('allowed', 0.0):.2g}"
            )
        lines += [f"  {note}" for note in self.notes]
        if self.run:
            lines.append(f"  all of it: benchbench show {self.run}")
        return "\n".join(lines)
