"""How a gate measures its two sides: the interface, and what the three ways share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.gate.measured import Measured, Pair
from benchbench.gate.select import Selection
from benchbench.plugins import LoaderOptions
from benchbench.sequential import Contrast

Record = Mapping[str, Any]
Emit = Callable[[Record], None]

APART = 0.05
"""Margin where the sides do not run in one process: what differs between processes does not
cancel."""
CONTROL = 2.5
"""The positive control is slower by so many margins."""


class Method(Protocol):
    """One way to measure both sides."""

    @property
    def mode(self) -> str:
        """For the report: how they ran."""

    @property
    def margin(self) -> float:
        """What differences are worth, unless the user says otherwise."""

    @property
    def slower(self) -> float:
        """By how much the positive control is slower."""

    @property
    def selection(self) -> Selection:
        """What is compared."""

    @property
    def measured(self) -> Measured:
        """What is known so far."""

    @property
    def settings(self) -> Settings:
        """How it is measured; the number of processes is the design's."""

    @property
    def options(self) -> LoaderOptions:
        """Which plugins the candidate's workers load."""

    @property
    def description(self) -> Description:
        """What those plugins contribute."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the report should know."""

    def measure(self, open_pairs: Collection[Pair], first: int, processes: int, emit: Emit) -> None:
        """Run processes ``first`` to ``processes`` over the pairs that are undecided.

        ``emit`` takes every record that is to be stored or shown.
        """

    def evidence(self, pair: Pair) -> Contrast:
        """What is known of a pair."""

    def control(self, pair: Pair, side: str) -> Contrast:
        """What is known of a control (``null`` or ``slowed``) of a pair."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants compared."""

    patterns: tuple[str, ...]
    preset: str
    contenders: tuple[str, ...]
    axes: Mapping[str, list[str]]
    margin: float | None
    """None takes the method's."""
    settings: Settings

    def slower(self, usual: float) -> float:
        """By how much the positive control is slower, where the method's margin is ``usual``."""
        return CONTROL * (usual if self.margin is None else self.margin)


def renamed(record: Record, name: Callable[[str], str]) -> Record:
    """A result record under another contender's name; other records as they are."""
    if record.get("type") != "result":
        return record
    return {**record, "contender": name(record["contender"])}


def upto(settings: Settings, processes: int) -> Settings:
    """The same settings for so many processes."""
    return replace(settings, processes=processes)
