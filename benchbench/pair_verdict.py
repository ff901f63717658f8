"""What a comparison of two callables found, and what may be claimed of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchbench.claims import (
    Claim,
    Inconclusive,
    Rules,
    Standing,
    VerdictError,
    can_fail,
    followed,
    needed,
    standing,
    taken,
)
from benchbench.errors import UsageError
from benchbench.stats import Interval, order_statistic_interval

if TYPE_CHECKING:
    from benchbench.gate.report import Control

Word = Literal["faster", "slower", "same", "not slower", "inconclusive"]


def _raise(message: str) -> None:
    __tracebackhide__ = True
    raise Inconclusive(message)


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
    """What a comparison found so far.

    A claim (``assert_...``) that is open is measured further, up to the rules' ``most`` processes.
    Without timing (``timed`` is False) ``word`` is None, the figures are ``nan``, and the
    assertions hold, since there is nothing that could contradict them.
    """

    candidate: str
    baseline: str
    rules: Rules = field(default_factory=Rules)
    logs: Mapping[int, float] = field(default_factory=dict)
    """``ln(candidate / baseline)``, by number of the process that measured both."""
    attempted: int = 0
    """Processes that were started."""
    times: tuple[Time, ...] = ()
    """Of the candidate and of the baseline."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Of the candidate's output, see :class:`benchbench.Result`."""
    controls: tuple[Control, ...] = ()
    """The baseline against itself, and against itself slowed; see :mod:`benchbench.controls`."""
    pending: bool = False
    """A control may still come out right with more processes."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    """How long it took."""
    run: str = ""
    """Id of the stored run."""
    path: Path = Path()
    """Its file."""
    more: Callable[[Callable[[Verdict], bool]], Verdict] | None = field(
        default=None, repr=False, compare=False
    )
    """Measures look after look until the given question is answered or the last look is taken."""
    inconclusive: Callable[[str], None] = field(default=_raise, repr=False, compare=False)
    """Called with the message when an assertion can be neither confirmed nor refuted."""

    @property
    def timed(self) -> bool:
        """False when only the results were compared."""
        return bool(self.times)

    @property
    def processes(self) -> int:
        """Processes that measured both."""
        return len(self.logs)

    @property
    def margin(self) -> float:
        """Differences up to this share are no difference."""
        return self.rules.margin

    @property
    def what(self) -> str:
        """What was measured: time, or what the timer counts."""
        units = {time.unit for time in self.times} - {"s"}
        return units.pop() if units else "time"

    @property
    def ratio(self) -> float:
        """The candidate's time over the baseline's: median over processes; below 1 is faster."""
        return self._interval.estimate

    @property
    def interval(self) -> tuple[float, float]:
        """Around the ratio. A claim holds when all of it lies within the claim's bounds."""
        return self._interval.low, self._interval.high

    @property
    def coverage(self) -> float:
        """Chance that an interval made like this one encloses the true ratio."""
        return self._interval.coverage

    @property
    def _interval(self) -> Interval:
        """The one that inverts the sign test of the last look, at what that look may spend."""
        if not self.logs:
            return Interval(estimate=math.nan, low=math.nan, high=math.nan)
        design = self.rules.design
        looks = list(taken(self.logs, self.attempted, design))
        values = looks[-1] if looks and looks[-1] else list(self.logs.values())
        share = design.spending[max(len(looks), 1) - 1]
        level = 1.0 - 2.0 * design.beta * share
        return order_statistic_interval(values, level, fewest=1).map(math.exp)

    @property
    def lost(self) -> bool:
        """A control did not come out as it must, so nothing can be said of the two."""
        return not self.pending and any(not control.ok for control in self.controls)

    @property
    def word(self) -> Word | None:
        """Of this comparison alone, with the rules' margin; None without timing."""
        if not self.timed:
            return None
        found = followed(self.logs, self.attempted, self.rules.design)
        if found is None or any(not control.ok for control in self.controls):
            return "inconclusive"
        if found.word == "undecided":
            return "not slower" if found.not_slower else "inconclusive"
        return found.word

    def decided(self) -> Verdict:
        """Measured until ``word`` is faster, slower or same, or the last look is taken."""
        if self.more is None or not self.timed:
            return self
        return self.more(
            lambda found: (
                found.lost or (not found.pending and found.word in ("faster", "slower", "same"))
            )
        )

    def assert_not_slower(self) -> None:
        """The candidate takes at most ``1 + margin`` times as long.

        Raises:
            VerdictError: it is shown to take longer.
            Inconclusive: neither is shown, or a control did not come out as it must.
        """
        __tracebackhide__ = True
        self._claim(Claim(text="no slower than", most=1.0 + self.margin))

    def assert_faster(self, by: float | None = None) -> None:
        """The baseline takes at least ``by`` times as long; by default beyond the margin.

        Raises:
            VerdictError: it is shown not to be so.
            Inconclusive: neither is shown, or a control did not come out as it must.
        """
        __tracebackhide__ = True
        factor = 1.0 + self.margin if by is None else by
        if factor < 1.0:
            raise UsageError(f"by={by}: it is the factor by which it is faster, at least 1")
        self._claim(Claim(text=f"at least {factor:g} times as fast as", most=1.0 / factor))

    def assert_same(self) -> None:
        """The two take the same time, within the margin.

        Raises:
            VerdictError: they are shown to differ by more.
            Inconclusive: neither is shown, or a control did not come out as it must.
        """
        __tracebackhide__ = True
        upper = 1.0 + self.margin
        self._claim(Claim(text="as fast as", most=upper, least=1.0 / upper))

    def standing(self, claim: Claim) -> Standing:
        """Whether a claim holds, fails or is open, controls apart."""
        return standing(claim, self.logs, self.attempted, self.rules)

    def _claim(self, claim: Claim) -> None:
        """Measure until the claim is settled, and raise unless it holds."""
        __tracebackhide__ = True
        if not self.timed:
            return

        def settled(verdict: Verdict) -> bool:
            return verdict.lost or (not verdict.pending and verdict.standing(claim) != "open")

        found = self
        if self.more is not None and not settled(self):
            found = replace(self.more(settled), inconclusive=self.inconclusive)
        found._judge(claim)

    def _judge(self, claim: Claim) -> None:
        __tracebackhide__ = True
        what = f"{self.candidate} is {claim.text} {self.baseline}"
        if any(not control.ok for control in self.controls):
            self.inconclusive(
                f"this machine cannot tell now whether {what}: a control did not come out as it "
                f"must.\n{self}\nA quieter machine, a wider margin= or more processes (most=) "
                "help; `benchbench doctor` names what disturbs"
            )
            return
        now = self.standing(claim)
        if now == "holds":
            return
        if now == "fails":
            raise VerdictError(
                f"'{what}' does not hold: the ratio would be {claim.bounds}.\n{self}"
            )
        self.inconclusive(
            f"{self.processes} processes do not tell whether {what} (the ratio would be "
            f"{claim.bounds}).\n{self}\n{self._remedy()}"
        )

    def _remedy(self) -> str:
        if not can_fail(self.rules):
            least = needed(self.rules)
            return (
                f"Among {self.rules.family} comparisons that share the error no claim fails with "
                f"fewer than {least} processes: take most={least} or more"
            )
        return "More processes (most=), a larger budget= or a quieter machine narrow the interval"

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if not self.timed:
            return f"{self.candidate} against {self.baseline}: results agree, not timed"
        low, high = self.interval
        lost = ", a control did not come out as it must" if self.lost else ""
        return (
            f"{self.candidate} against {self.baseline}: {self.word}, {self.ratio:.3f} times the "
            f"{self.what} [{low:.3f}, {high:.3f}], {self.processes} processes in "
            f"{self.seconds:.0f} s{lost}"
        )

    def __str__(self) -> str:
        if not self.timed:
            return self.line
        low, high = self.interval
        lines = [
            f"{self.candidate} takes {self.ratio:.3f} times the {self.what} of {self.baseline} "
            f"[{low:.3f}, {high:.3f}: {100 * self.coverage:.1f} % interval over {self.processes} "
            f"processes]: {self.word} (margin {100 * self.margin:g} %)",
            *(f"  {time}" for time in self.times),
            *(
                f"  control {'as it must be' if c.ok else 'WRONG'}: {c.name}: {c.text}"
                for c in self.controls
            ),
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
