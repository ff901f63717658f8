"""github-action-benchmark's ``customSmallerIsBetter``: a JSON list of named values. Pure.

Format: the README of github.com/benchmark-action/github-action-benchmark. It takes a missing value
for 0, the best there is, so an entry without a time is left out and counted in the totals. A rise
of a total from 0 is an infinite ratio to the action, which any ``alert-threshold`` reports.
"""

from __future__ import annotations

from typing import Any

from benchbench.reports import text
from benchbench.reports.trackers.entries import (
    GATE_TOTALS,
    Entry,
    Tracked,
    clean,
    distinct,
    dump,
)
from benchbench.stats import Interval

NANO = 1e9
LISTED = 20
"""Contenders that a total names; a tooltip holds no more."""


def render(tracked: Tracked) -> str:
    """The totals, then a time and a ratio for each contender that has one."""
    items = [_total(tracked, name, n) for name, n in tracked.totals.items()]
    for entry in tracked.entries:
        items += _items(entry, tracked)
    names = distinct([item["name"] for item in items])
    return dump([{**item, "name": name} for item, name in zip(items, names, strict=True)])


def _total(tracked: Tracked, name: str, number: int) -> dict[str, Any]:
    words = GATE_TOTALS.get(name, ())
    lines = [_said(e) for e in tracked.entries if e.word in words]
    if name == "controls missed":
        lines = list(tracked.facts["controls missed"])
    if len(lines) > LISTED:
        lines = [*lines[:LISTED], f"and {len(lines) - LISTED} more"]
    return {
        "name": f"benchbench {tracked.source}: {name}",
        "unit": "controls" if name == "controls missed" else "contenders",
        "value": number,
        "extra": "\n".join(lines) or "none",
    }


def _said(entry: Entry) -> str:
    said = f"{entry.case} {entry.contender}: {entry.word}"
    return clean(f"{said}, {entry.reason}" if entry.reason else said)


def _items(entry: Entry, tracked: Tracked) -> list[dict[str, Any]]:
    if entry.time is None:
        return []
    name = f"{entry.case} {entry.contender}"
    seconds = entry.unit == "s"
    time = entry.time.map(lambda value: value * NANO) if seconds else entry.time
    unit = "ns" if seconds else entry.unit
    extra = _extra(entry)
    items = [{"name": name, "unit": unit, "value": time.estimate, **_range(time), "extra": extra}]
    if entry.ratio is not None:
        what = "over " + (entry.baseline if tracked.source == "run" else "the earlier build")
        items.append(
            {
                "name": f"{name} ({what})",
                "unit": "times",
                "value": entry.ratio.estimate,
                **_range(entry.ratio),
                "extra": extra,
            }
        )
    return items


def _range(found: Interval) -> dict[str, str]:
    """Half the interval's width, as the action reads it; nothing where none is claimed."""
    if not found.claimed:
        return {}
    half = max(found.high - found.estimate, found.estimate - found.low)
    return {"range": f"± {text.significant(half)}"}


def _extra(entry: Entry) -> str:
    assert entry.time is not None
    lines = [entry.word if not entry.reason else f"{entry.word}: {clean(entry.reason)}"]
    ends = [text.duration(end, entry.unit) for end in (entry.time.low, entry.time.high)]
    if entry.time.claimed:
        lines.append(f"{100 * entry.time.coverage:.1f} % interval {ends[0]} to {ends[1]}")
    if entry.values:
        lines.append(f"{len(entry.values)} processes")
    if entry.ratio is not None:
        lines.append(
            f"{text.significant(entry.ratio.estimate, 4)} "
            f"[{text.significant(entry.ratio.low, 4)}, {text.significant(entry.ratio.high, 4)}] "
            f"times {entry.baseline}"
        )
    return "\n".join([*lines, *map(clean, entry.notes)])
