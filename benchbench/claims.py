"""Rules of a comparison of two callables, and when a claim about it holds or fails. Pure.

A claim is tested by counting: how many processes have a ratio beyond the claim's bound. That is the
sign test that a gate uses (:mod:`benchbench.sequential`), at the same looks. Each look spends a
share of the error that was fixed beforehand, so the sum over looks bounds the chance of a wrong
answer to any one claim, whenever the measuring ends and whatever is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from benchbench.errors import UsageError, suggestion
from benchbench.sequential import Decision, Design, Signs, decide, evenly_rising
from benchbench.verdict import MARGIN

LOOKS = Design().looks
"""Processes after which it is decided whether more are needed."""
CONTROLS = ("each", "session", "none")
SLOWED = 2.5
"""The positive control is slower by so many margins, as a gate's."""

Standing = Literal["holds", "fails", "open"]


class VerdictError(AssertionError):
    """What was claimed of two callables does not hold."""


class WrongResult(VerdictError):
    """The two do not compute the same, change their inputs, or one of them failed."""


class Inconclusive(VerdictError):
    """The measurements neither support what was claimed nor contradict it."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a comparison is measured and decided.

    Raises:
        UsageError: a rule makes no sense, or so few processes could never decide anything.
    """

    processes: int = LOOKS[0]
    """Fresh processes at first, the replicates."""
    most: int = LOOKS[-1]
    """An undecided claim gets more processes, up to so many."""
    margin: float = MARGIN
    """Differences up to this share are no difference."""
    alpha: float = Design().alpha
    """Chance that any claim of the family fails wrongly, over all looks."""
    beta: float = Design().beta
    """Chance that one claim holds wrongly, over all looks."""
    family: int = 0
    """Comparisons that share ``alpha``; 0 takes the tests of the session, 1 without a session."""
    controls: str = CONTROLS[0]
    """``each`` comparison carries its controls, the first of a ``session`` does, or ``none``."""
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
        if self.controls not in CONTROLS:
            raise UsageError(
                f"controls={self.controls!r} is none of {', '.join(CONTROLS)}."
                f"{suggestion(self.controls, CONTROLS)}"
            )
        if self.family < 0:
            raise UsageError(
                f"family={self.family}: it is the number of comparisons that share the error, or "
                "0 for all tests of the session"
            )
        try:
            design = self.design
        except ValueError as error:
            raise UsageError(f"these rules are no design of a comparison: {error}") from None
        if 2.0 ** -design.looks[-1] > self.beta * design.spending[-1]:
            least = math.ceil(-math.log2(self.beta))
            raise UsageError(
                f"processes={self.processes} with most={self.most} can decide nothing: "
                f"{design.looks[-1]} processes that all agree are chance once in "
                f"{2 ** design.looks[-1]}, and {self.beta * design.spending[-1]:.2g} is what the "
                f"last look may spend of beta={self.beta:g}. Take most={least + 1} or more, better "
                f"{LOOKS[-1]}"
            )

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
    def design(self) -> Design:
        """Looks, margin and error, with the share of each look."""
        return Design(
            looks=self.looks,
            margin=self.margin,
            alpha=self.alpha,
            beta=self.beta,
            spending=_shares(self.looks, min(self.alpha, self.beta)),
        )

    @property
    def slowed(self) -> float:
        """By how much the positive control is slower."""
        return SLOWED * self.margin


def _shares(looks: tuple[int, ...], error: float) -> tuple[float, ...]:
    """Shares of the error: rising, but the first look has what its processes need to agree.

    The sign test of n processes reaches 2^-n at best. Where more than half would be needed, the
    first look decides nothing and the error is kept for the others.
    """
    if looks == LOOKS:
        return Design().spending
    rising = evenly_rising(len(looks))
    needed = 2.0 ** -looks[0] / error * (1 + 1e-9)
    if len(looks) == 1 or not rising[0] < needed <= 0.5:
        return rising
    rest = (1.0 - needed) / sum(rising[1:])
    return (needed, *(rest * share for share in rising[1:]))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The ratio of candidate to baseline lies between two bounds."""

    text: str
    """``the candidate is ... the baseline``."""
    most: float
    least: float = 0.0

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        if self.least:
            return f"between {self.least:.4g} and {self.most:.4g}"
        return f"at most {self.most:.4g}"


def taken(logs: Mapping[int, float], processes: int, design: Design) -> Iterator[list[float]]:
    """The values of each look that was taken, from the first look on.

    Args:
        logs: by number of the process; some may have been lost.
        processes: how many have run.
        design: has the looks.
    """
    for upto in design.looks:
        if upto > processes:
            return
        yield [value for process, value in sorted(logs.items()) if process < upto]


def standing(claim: Claim, logs: Mapping[int, float], processes: int, rules: Rules) -> Standing:
    """Whether a claim holds, fails, or is open after the looks that were taken.

    The first look that decides it does so for good.

    Args:
        claim: what is claimed.
        logs: ``ln(candidate / baseline)`` of each process.
        processes: how many have run.
        rules: of the comparison.
    """
    design = rules.design
    upper = math.log(claim.most)
    lower = math.log(claim.least) if claim.least else None
    for look, values in enumerate(taken(logs, processes, design)):
        known = Signs(values, ranked=False)
        beta = design.beta * design.spending[look]
        alpha = design.alpha * design.spending[look] / max(1, rules.family)
        if known.below(upper) <= beta and (lower is None or known.above(lower) <= beta):
            return "holds"
        if known.above(upper) <= alpha or (lower is not None and known.below(lower) <= alpha):
            return "fails"
    return "open"


def followed(logs: Mapping[int, float], processes: int, design: Design) -> Decision | None:
    """Where one ratio stands after the looks that were taken; None before the first."""
    decisions: dict[str, Decision] = {}
    for look, values in enumerate(taken(logs, processes, design)):
        decisions = decide(
            {"": Signs(values, ranked=False)} if values else {}, design, look, decisions
        )
    return decisions.get("")


def needed(rules: Rules) -> int:
    """Fewest processes, in one look, with which a claim can fail, given who shares the error."""
    return math.ceil(-math.log2(rules.alpha / max(1, rules.family)))


def can_fail(rules: Rules) -> bool:
    """True when so many processes are enough for a claim to fail at one of the looks."""
    return any(
        2.0**-look <= rules.alpha * share / max(1, rules.family)
        for look, share in zip(rules.looks, rules.design.spending, strict=True)
    )
