"""The JSON of ``pytest --benchmark-json``. Pure.

The unit of replication is the process, so a *round* is a process and its time the process's median:
``rounds`` is the number of processes, ``stddev`` and ``iqr`` are between processes. The figures
are those that pytest-benchmark computes from its rounds; its quartiles are the second and third
method of en.wikipedia.org/wiki/Quartile, for even and odd counts, its outliers Tukey's fences.

Times are seconds and cannot be anything else, so contenders without a time, and those counted in
instructions, are not in ``benchmarks``: ``benchbench.not_measured`` lists them with the reason.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchbench import __version__
from benchbench.reports.trackers.entries import Entry, Tracked, clean, distinct, dump


def render(tracked: Tracked) -> str:
    """A benchmark for each contender that was timed, in the group of its case."""
    kept: list[tuple[Entry, dict[str, Any]]] = []
    left: list[dict[str, str]] = []
    for entry in tracked.entries:
        stats, why = _stats(entry)
        if stats is None:
            left.append(
                {
                    "case": clean(entry.case),
                    "contender": clean(entry.contender),
                    "word": entry.word,
                    "reason": clean(entry.reason or why),
                }
            )
        else:
            kept.append((entry, stats))
    names = distinct([f"{e.contender}[{e.point}]" for e, _ in kept])
    full = distinct([f"{e.workload}::{e.contender}[{e.point}]" for e, _ in kept])
    return dump(
        {
            "machine_info": _machine(tracked.environment),
            "commit_info": _commit(tracked.environment),
            "benchmarks": [
                _benchmark(entry, stats, name, fullname, tracked.source)
                for (entry, stats), name, fullname in zip(kept, names, full, strict=True)
            ],
            "datetime": tracked.started,
            "version": f"benchbench {__version__}",
            "benchbench": {
                "source": tracked.source,
                **tracked.facts,
                "totals": tracked.totals,
                "not_measured": left,
            },
        }
    )


def _benchmark(
    entry: Entry, stats: Mapping[str, Any], name: str, fullname: str, source: str
) -> dict[str, Any]:
    ratio = entry.ratio
    claimed = ratio is not None and ratio.claimed
    extra = {
        "word": entry.word,
        "reason": clean(entry.reason),
        "baseline": entry.baseline,
        "ratio" if source == "run" else "gate_ratio": ratio.estimate if ratio else None,
        "ratio_low": ratio.low if ratio is not None and claimed else None,
        "ratio_high": ratio.high if ratio is not None and claimed else None,
        "notes": "; ".join(map(clean, entry.notes)),
    }
    return {
        "group": clean(entry.case),
        "name": name,
        "fullname": fullname,
        "params": _params(entry.point),
        "param": clean(entry.point) or None,
        "extra_info": {key: value for key, value in extra.items() if value not in (None, "")},
        "options": {},
        "stats": stats,
    }


def _params(point: str) -> dict[str, str] | None:
    pairs = [part.partition("=") for part in clean(point).split(",")]
    if not all(axis and sign for axis, sign, _ in pairs):
        return None
    return {axis: value for axis, _, value in pairs}


def _stats(entry: Entry) -> tuple[dict[str, Any] | None, str]:
    """The figures of the rounds, or None and why there are none."""
    if entry.unit != "s":
        return None, f"counted in {entry.unit}, and this format holds seconds"
    if entry.time is None or not entry.values:
        return None, "not timed"
    try:
        found = figures_of(entry.values)
    except OverflowError:
        found = {}
    if not found or not all(math.isfinite(v) for v in found.values() if isinstance(v, float)):
        return None, "its times have no finite mean, deviation and rate"
    return found, ""


def figures_of(rounds: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's ``stats`` of the rounds' times, which are seconds."""
    ordered = sorted(rounds)
    count, total = len(ordered), math.fsum(ordered)
    mean = statistics.mean(ordered)
    deviation = statistics.stdev(ordered) if count > 1 else 0.0
    low, high = lower_quartile(ordered), lower_quartile(ordered[::-1])
    fences = (low - 1.5 * (high - low), high + 1.5 * (high - low))
    inside = [value for value in ordered if fences[0] <= value <= fences[1]] or ordered
    strays = sum(abs(value - mean) > deviation for value in ordered) if count > 1 else 0
    beyond = sum(not fences[0] <= value <= fences[1] for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": count,
        "median": statistics.median(ordered),
        "iqr": high - low,
        "q1": low,
        "q3": high,
        "iqr_outliers": beyond,
        "stddev_outliers": strays,
        "outliers": f"{strays};{beyond}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": count / total if total else 0.0,
        "total": total,
        "data": list(rounds),
        "iterations": 1,
    }


def lower_quartile(ordered: Sequence[float]) -> float:
    """Of values in order; of values in reverse order the upper one."""
    count = len(ordered)
    if count == 1:
        return ordered[0]
    if count % 2 == 0:
        return statistics.median(ordered[: count // 2])
    at, rest = divmod(count, 4)
    if rest == 1:
        return 0.25 * ordered[at - 1] + 0.75 * ordered[at]
    return 0.75 * ordered[at] + 0.25 * ordered[at + 1]


def _machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    system, _, release = str(environment.get("system", "")).partition(" ")
    cpu = str(environment.get("cpu", ""))
    python = str(environment.get("python", ""))
    return {
        "node": "",
        "processor": cpu,
        "machine": str(environment.get("machine", "")),
        "python_compiler": "",
        "python_implementation": "",
        "python_implementation_version": python,
        "python_version": python,
        "python_build": [],
        "release": release,
        "system": system,
        "cpu": {
            "brand_raw": cpu,
            "arch_string_raw": str(environment.get("machine", "")),
            "count": environment.get("logical_cpus", 0),
        },
    }


def _commit(environment: Mapping[str, Any]) -> dict[str, Any]:
    commit = str(environment.get("commit", ""))
    return {
        "id": commit.removesuffix("+") or "unversioned",
        "time": None,
        "author_time": None,
        "dirty": commit.endswith("+"),
        "project": "",
        "branch": "",
    }
