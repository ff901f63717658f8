"""A case over runs, read from their files: advice, never a verdict; machines and days differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from benchbench import store
from benchbench.errors import StoreError
from benchbench.reports import text
from benchbench.stats import Interval, summarise


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One contender of one case in one run."""

    run: str
    commit: str
    case: str
    contender: str
    status: str
    unit: str = "s"
    latency: Interval | None = None
    ratio: Interval | None = None

    def text(self) -> str:
        """One line: run, commit, time, spread, speed-up."""
        if self.latency is None:
            return f"{self.run}  {self.commit:<13}  {self.status}"
        shown = (
            f"{self.run}  {self.commit:<13}  {text.duration(self.latency.estimate, self.unit):>9}"
            f"  {text.spread(self.latency):>8}"
        )
        return shown + (f"  {text.speedup(self.ratio)}" if self.ratio is not None else "")


def entries(directory: Path, pattern: str, contenders: Sequence[str] = ()) -> list[Entry]:
    """Entries of cases whose id, or whose workload, matches ``pattern``; oldest run first.

    Files that cannot be read are passed over: one damaged run must not hide the others.
    """
    found: list[Entry] = []
    for path in store.runs(directory):
        try:
            run = store.read(path)
        except StoreError:
            continue
        commit = str(run.header.get("environment", {}).get("commit", ""))
        for row in summarise(run):
            wanted = row.case == pattern or fnmatchcase(row.workload, pattern)
            if not wanted or row.role != "contender":
                continue
            if contenders and not any(fnmatchcase(row.contender, p) for p in contenders):
                continue
            found.append(
                Entry(
                    run=run.id,
                    commit=commit,
                    case=row.case,
                    contender=row.contender,
                    status=row.status,
                    unit=row.unit,
                    latency=row.latency,
                    ratio=None if row.contender == row.baseline else row.ratio,
                )
            )
    return found


def workloads(directory: Path) -> set[str]:
    """Names of all workloads in stored runs."""
    names: set[str] = set()
    for path in store.runs(directory):
        try:
            names.update(result.workload for result in store.read(path).results)
        except StoreError:
            continue
    return names
