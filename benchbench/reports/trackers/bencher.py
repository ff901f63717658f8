"""Bencher Metric Format: a JSON object of benchmarks, each an object of measures. Pure.

Format: bencher.dev/docs/reference/bencher-metric-format. ``latency`` is Bencher's own measure, in
nanoseconds; ``instructions`` is its own too. The others are made by Bencher at the first upload.
"""

from __future__ import annotations

from benchbench.reports.trackers.entries import MARKED, Entry, Tracked, distinct, dump
from benchbench.stats import Interval

Metric = dict[str, float]
NANO = 1e9


def render(tracked: Tracked) -> str:
    """A benchmark for each contender of each case, and one with the totals."""
    names = distinct(
        [f"benchbench {tracked.source}", *(f"{e.case} {e.contender}" for e in tracked.entries)]
    )
    totals = {slug(name): {"value": float(n)} for name, n in tracked.totals.items()}
    document = {
        name: _measures(entry, tracked.source)
        for name, entry in zip(names[1:], tracked.entries, strict=True)
    }
    return dump({**document, names[0]: totals})


def _measures(entry: Entry, source: str) -> dict[str, Metric]:
    measures: dict[str, Metric] = {}
    if entry.time is not None:
        if entry.unit == "s":
            measures["latency"] = _metric(entry.time.map(lambda seconds: seconds * NANO))
        else:
            measures[slug(entry.unit)] = _metric(entry.time)
    if entry.ratio is not None:
        measures["ratio" if source == "run" else "gate-ratio"] = _metric(entry.ratio)
    if entry.time is None or entry.word in MARKED:
        measures[slug(entry.word)] = {"value": 1.0}
    return measures


def _metric(found: Interval) -> Metric:
    """The bounds only where an interval is claimed."""
    if not found.claimed:
        return {"value": found.estimate}
    return {"value": found.estimate, "lower_value": found.low, "upper_value": found.high}


def slug(text: str) -> str:
    """``wrong or failed`` -> ``wrong-or-failed``: how Bencher names a measure in its addresses."""
    return "-".join(text.split())
