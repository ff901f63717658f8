"""A build of a project, described so that a worker can import it beside another one; and copies of
implementations, which calibrate what is measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CANDIDATE = "candidate"
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two builds that a gate compares."""

    name: str
    """``candidate`` or ``baseline``: the suffix of its contenders, ``gelu@baseline``."""
    version: str = ""
    """What the table calls it: version, commit."""
    distribution: str = ""
    locations: tuple[tuple[str, str], ...] = ()
    """Top-level import name and the package's folder or the module's file."""
    plugins: tuple[tuple[str, str], ...] = ()
    """Plugin's name and its entry point (``package.module`` or ``package.module:object``), or the
    path of a one-file plugin."""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Side:
        """The side that ``to_json`` wrote."""
        return Side(
            name=data["name"],
            version=data.get("version", ""),
            distribution=data.get("distribution", ""),
            locations=tuple((name, path) for name, path in data.get("locations", ())),
            plugins=tuple((name, target) for name, target in data.get("plugins", ())),
        )


@dataclass(frozen=True, kw_only=True)
class Copy:
    """An implementation that takes part once more, as it is or slowed."""

    of: str
    """Id of the implementation, ``workload:name``."""
    suffix: str
    """The copy of ``workload:gelu`` is the contender ``gelu@suffix``."""
    slower: float = 0.0
    """Share of its own duration by which each call is prolonged."""
    pair: str = ""
    """Next to whom it is timed; the implementation's own pair, or itself, when empty."""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Copy:
        """The copy that ``to_json`` wrote."""
        return Copy(**data)


def entrant_name(contender: str, side: str) -> str:
    """Name of a contender's build in a case: ``gelu@baseline``."""
    return f"{contender}@{side}"


def split_name(entrant: str) -> tuple[str, str]:
    """Contender and side of an entrant; the side is empty for an ordinary contender."""
    contender, _, side = entrant.partition("@")
    return contender, side
