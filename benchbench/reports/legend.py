"""What stands below the tables: what the columns mean, and how it went."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from benchbench.contract import Run
from benchbench.reports import text
from benchbench.roof import PRODUCT
from benchbench.stats import FEWEST, FEWEST_COUNTED, Row, margin_of

COUNTED = {"faster": "fewer", "slower": "more"}
"""Verdicts on counts, which are of no speed."""
NOTES = {
    "page faults": "memory was mapped in anew on every call",
    "stolen time": "the hypervisor gave the processor to others",
    "system time": "the kernel took over 10 % of the time",
    "preempted": "other processes took the core",
    "host-bound": "the GPU waited for the host between calls",
    "throttled": "the GPU's driver held its clock down while samples were taken",
    "by cuda-events": "it cannot be captured in a CUDA graph",
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
        shown = COUNTED if any(row.unit != "s" for row in contenders if row.verdict) else {}
        lines.append(
            "against the baseline: "
            + ", ".join(f"{verdicts[word]} {shown.get(word, word)}" for word in words)
        )
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
    counted = any(row.unit == "instructions" for row in measured)
    parts = []
    if coverage:
        parts.append(
            f"± and [ ] are {100 * coverage:.3g} % intervals over processes; a verdict needs the "
            f"whole interval beyond, or within, {100 * margin_of(run):g} %"
        )
    else:
        fewest = FEWEST_COUNTED if counted else FEWEST
        parts.append(f"a quick look: fewer than {fewest} processes give no interval and no verdict")
    if counted:
        counter = run.processes[0].get("environment", {}).get("counter") if run.processes else None
        parts.append(
            "instr: instructions in user mode, one thread, an empty call's subtracted; they say "
            "nothing of memory, caches or time" + (f"; counted by {counter}" if counter else "")
        )
        parts.append("fewer: the baseline's count over the contender's")
    if any(row.roof_share is not None for row in measured):
        product = any(result.contender == PRODUCT for result in run.results)
        parts.append(
            "roof: speed of copying the compulsory bytes = 100 %"
            + ("; where arithmetic decides, of a bf16 matrix product" if product else "")
        )
    if any(row.signals.get("host") for row in measured):
        parts.append("host: how long a call keeps the host; time is the GPU's")
    if run.header.get("settings", {}).get("cache") == "cold":
        parts.append("cold: calls go round input sets of five times the last cache")
    if any(row.errors for row in measured):
        parts.append(
            "error: largest relative error against float64, in rounding steps of the dtype (eps) "
            "where it is small; in brackets the baseline's"
        )
    present = {note.partition(" (")[0] for row in measured for note in row.notes}
    known = [f"{note}: {meaning}" for note, meaning in NOTES.items() if note in present]
    if known:
        parts.append("; ".join(known))
    if floors and not counted:
        parts.append(f"an empty call takes {text.duration(min(floors))}")
    return parts
