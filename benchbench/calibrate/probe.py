"""A short run ahead of a calibration: how long calls take, and what the harness itself costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchbench import supervise
from benchbench.calibrate.card import Line
from benchbench.contract import Engine, PlannedCase, Settings
from benchbench.plugins import LoaderOptions

Record = Mapping[str, Any]
FLOOR, HARNESS = 150e-9, 0.05
PROCESSES = 3
"""So that the median is of a process that is not the first, which compiles."""


@dataclass(kw_only=True)
class Probe:
    """What the short run found."""

    latencies: dict[str, float] = field(default_factory=dict)
    """Seconds a call of each case's baseline."""
    contenders: dict[str, list[str]] = field(default_factory=dict)
    """Who was measured soundly in each case."""
    spent: dict[str, list[float]] = field(default_factory=dict)
    """Seconds beyond what contenders take to be built, warmed up and sampled, by case; of each
    process."""
    floor: float = 0.0
    """Seconds of an empty call in a timed region."""
    environment: dict[str, Any] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Keep what is of use."""
        kind = record.get("type")
        if kind == "process":
            self.floor = float(record["floor"])
            self.environment = dict(record["environment"])
        elif kind == "event" and record.get("kind") == "case":
            phases = record["phases"]
            own = sum(phases.get(name, 0.0) for name in ("build", "warm-up", "timed"))
            self.spent.setdefault(record["case"], []).append(record["seconds"] - own)
        elif kind == "result" and record["status"] == "ok" and record["samples"]:
            sound = self.contenders.setdefault(record["case"], [])
            if record["contender"] not in sound:
                sound.append(record["contender"])
            if record["contender"] == record["baseline"]:
                self.latencies[record["case"]] = statistics.median(record["samples"])

    @property
    def harness(self) -> dict[str, float]:
        """The same of the typical process."""
        return {case: statistics.median(spent) for case, spent in self.spent.items()}

    def lines(self) -> list[Line]:
        """The harness's own cost."""
        harness = self.harness
        short = [harness[c] for c, t in self.latencies.items() if t < 1e-3]
        lines = [
            Line(
                name="an empty Python call in a timed region",
                goal=f"at most {1e9 * FLOOR:g} ns",
                found=f"{1e9 * self.floor:.0f} ns",
                standing="met" if self.floor <= FLOOR else "missed",
            )
        ]
        if short:
            typical = statistics.median(short)
            lines.append(
                Line(
                    name="harness time for a case and process, calls under 1 ms (median of cases)",
                    goal=f"at most {1e3 * HARNESS:g} ms",
                    found=f"{1e3 * typical:.0f} ms of {len(short)} cases "
                    f"({1e3 * min(short):.0f} to {1e3 * max(short):.0f})",
                    standing="met" if typical <= HARNESS else "missed",
                )
            )
        return lines


def probe(
    planned: Sequence[PlannedCase],
    settings: Settings,
    engine: Engine,
    options: LoaderOptions,
    tell: Callable[[Record], None],
) -> Probe:
    """Run the cases shortly."""
    found = Probe()

    def keep(record: Record) -> None:
        found.take(record)
        tell(record)

    supervise.execute(
        planned,
        settings=replace(settings, processes=PROCESSES, budget=0.0),
        engine=engine,
        options=options,
        emit=keep,
    )
    return found
