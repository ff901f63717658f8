"""What stands below the tables: what the columns mean, and how it went."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from benchbench.contract import Run
from benchbench.reports import text
from benchbench.stats import Row, margin_of

NOTES = {
    "page faults": "memory was mapped in anew on every call",
    "stolen time": "the hypervisor gave the processor to others",
    "system time": "the kernel took over 10 % of the time",
    "preempted": "other processes took the core",
}
"""Notes of :mod:`benchbench.signals` in plain words."""


def closing(run: Run, rows: Sequence[Row]) -> list[str]:
    """Legend, counts of outcomes and verdicts, and plugins that failed; a line each."""
    contenders = [row for row in rows if row.role == "contender"]
    names = {"ok": "measured", "skipped": "unavailable"}
    counts = {
        status: sum(row.status == status for row in contenders)
        for status in ("ok", "skipped", "wrong", "failed", "quarantined")
    }
    cases = len({row.case for row in contenders})
    lines = _legend(run, contenders)
    lines.append(
        f"{cases} case{'s' if cases != 1 else ''}: "
        + ", ".join(f"{n} {names.get(s, s)}" for s, n in counts.items() if n or s == "ok")
    )
    verdicts = Counter(str(row.verdict) for row in contenders if row.verdict)
    if verdicts:
        words = ("faster", "same", "slower", "inconclusive")
        lines.append("against the baseline: " + ", ".join(f"{verdicts[w]} {w}" for w in words))
    failed = [p for p in run.header.get("plugins", []) if p.get("status") == "failed"]
    for plugin in failed:
        provider = plugin["provider"]
        lines.append(
            f"plugin {provider['plugin']} ({provider['distribution']} {provider['version']}) "
            f"failed: {plugin['reason']}"
        )
    return lines


def _legend(run: Run, rows: Sequence[Row]) -> list[str]:
    measured = [row for row in rows if row.latency is not None]
    coverages = [row.latency.coverage for row in measured if row.latency]
    coverage = statistics.multimode(coverages)[0] if coverages else 0.0
    floors = [process["floor"] for process in run.processes if "floor" in process]
    parts = []
    if coverage:
        parts.append(
            f"± and [ ] are {100 * coverage:.3g} % intervals over processes; a verdict needs the "
            f"whole interval beyond, or within, {100 * margin_of(run):g} %"
        )
    else:
        parts.append("a quick look: fewer than 5 processes give no interval and no verdict")
    if any(row.roof_share is not None for row in measured):
        parts.append("roof: speed of copying the compulsory bytes = 100 %")
    if any(row.errors for row in measured):
        parts.append(
            "error: largest relative error against float64, in rounding steps of the dtype (eps) "
            "where it is small; in brackets the baseline's"
        )
    present = {note for row in measured for note in row.notes}
    known = [f"{note}: {meaning}" for note, meaning in NOTES.items() if note in present]
    if known:
        parts.append("; ".join(known))
    if floors:
        parts.append(f"an empty call takes {text.duration(min(floors))}")
    return parts
