"""What every tracker's file is made of: one entry for each contender of each case. Pure.

A tracker draws a line through one number of each commit and knows no "we cannot tell". So an entry
has a time only where the contender was right and was timed; every other one keeps its word and the
reason, and is counted in the totals, which are there when they are 0 too: a tracker can watch them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchbench.contract import Run
from benchbench.records import planned_from_json
from benchbench.stats import Interval, Row, figures, summarise

TOTALS: Mapping[str, tuple[str, ...]] = {
    "wrong or failed": ("wrong", "failed"),
    "not measured": ("skipped", "quarantined", "gone", "new", "not measured"),
    "inconclusive": ("inconclusive",),
}
"""What is counted of every source, and the words that are counted."""
GATE_TOTALS: Mapping[str, tuple[str, ...]] = {
    "slower": ("slower",),
    **TOTALS,
    "unchanged": ("unchanged",),
}
MARKED = frozenset(word for words in TOTALS.values() for word in words) | {"unchanged"}
"""Words whose contender needs a mark of its own, since its time is missing or undecided."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One contender of one case."""

    case: str
    contender: str
    word: str
    """The gate's verdict; of a run, ``baseline``, ``measured``, the verdict or the status."""
    reason: str = ""
    unit: str = "s"
    """Of ``time`` and ``values``: ``s`` or ``instructions``."""
    time: Interval | None = None
    """One call. None where there is no time that means something."""
    ratio: Interval | None = None
    """Over the baseline: of a run the contender that is it, of a gate the earlier build."""
    values: tuple[float, ...] = ()
    """The time of each process."""
    baseline: str = ""
    notes: tuple[str, ...] = ()

    @property
    def workload(self) -> str:
        """``kind/task`` of the case."""
        return self.case.partition("[")[0]

    @property
    def point(self) -> str:
        """``axis=value,...`` of the case."""
        return self.case.partition("[")[2].removesuffix("]")


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What a run or a gate has for a tracker."""

    source: Literal["run", "gate"]
    entries: tuple[Entry, ...]
    totals: Mapping[str, int]
    started: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else a reader should know: the run's id, the gate's verdict and controls."""


def of_run(run: Run) -> Tracked:
    """What a stored run has for a tracker: its contenders, without roofs and controls.

    What was planned and has no result, because the run was interrupted, is not measured.
    """
    known = figures(run)
    rows = [row for row in summarise(run) if row.role == "contender"]
    entries = [_of_row(row, known[row.case, row.contender].times) for row in rows]
    entries += [
        Entry(case=case, contender=name, word="not measured", reason="the run ended before")
        for case, name in _planned(run)
        if (case, name) not in known
    ]
    workers = run.processes[0].get("environment", {}) if run.processes else {}
    return Tracked(
        source="run",
        entries=tuple(entries),
        totals=count(entries, TOTALS),
        started=str(run.header.get("started", "")),
        environment={**run.header.get("environment", {}), **workers},
        facts={"run": run.id, "complete": run.complete},
    )


def _of_row(row: Row, logs: Sequence[float]) -> Entry:
    word: str = row.status
    if row.status == "ok" and row.latency is None:
        word = "not measured"
    elif row.status == "ok":
        word = "baseline" if row.contender == row.baseline else row.verdict or "measured"
    return sound(
        Entry(
            case=row.case,
            contender=row.contender,
            word=word,
            reason=row.reason or ("checked, not timed" if word == "not measured" else ""),
            unit=row.unit,
            time=row.latency,
            ratio=row.ratio if row.contender != row.baseline else None,
            values=tuple(math.exp(log) for log in logs),
            baseline=row.baseline,
            notes=row.notes,
        )
    )


def _planned(run: Run) -> list[tuple[str, str]]:
    cases = [planned_from_json(data) for data in run.header.get("cases", ())]
    return [(planned.case.id, name) for planned in cases for name in planned.contenders]


def count(entries: Iterable[Entry], totals: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """How many entries have one of each total's words; 0 is said too."""
    words = [entry.word for entry in entries]
    return {name: sum(word in counted for word in words) for name, counted in totals.items()}


def sound(entry: Entry) -> Entry:
    """The entry without what is no positive number; where that is its time, it is not measured."""
    time, ratio = _positive(entry.time), _positive(entry.ratio)
    values = tuple(v for v in entry.values if 0 < v < LARGEST)
    if time is not None or entry.time is None:
        return replace(entry, time=time, ratio=ratio, values=values if time else ())
    reason = f"its time is {entry.time.estimate}, which is no time"
    word = entry.word if entry.word in MARKED else "not measured"
    return replace(entry, word=word, reason=reason, time=None, ratio=None, values=())


LARGEST = 1e290
"""Seconds beyond which nanoseconds are no number any more."""


def _positive(found: Interval | None) -> Interval | None:
    if found is None or not 0 < found.estimate < LARGEST:
        return None
    if not 0 < found.low <= found.estimate <= found.high < LARGEST:
        return Interval(estimate=found.estimate, low=found.estimate, high=found.estimate)
    return found


_ILLEGAL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters and halves of surrogate pairs, which some readers of JSON refuse."""
LONGEST = 1024
"""Bytes of a name that every tracker takes."""


def clean(text: str) -> str:
    """One line of text that every reader takes."""
    return _ILLEGAL.sub("?", " ".join(text.split()))


def distinct(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """The names, cleaned, no longer than ``longest`` bytes, and no two alike.

    Names that had to be altered end in a digest of the original, so that they are the same in every
    run. Equal ones, which a catalogue does not allow, are numbered.
    """
    taken: set[str] = set()
    found = []
    for name in names:
        suffix, shown = "", clean(name)
        if shown != name or not shown or len(shown.encode()) > longest:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
            suffix = f" #{digest[:12]}"
        unique, number = _fit(shown, suffix, longest), 1
        while unique in taken:
            number += 1
            unique = _fit(shown, f"{suffix} #{number}", longest)
        taken.add(unique)
        found.append(unique)
    return found


def _fit(name: str, suffix: str, longest: int) -> str:
    room = longest - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def dump(document: Any) -> str:
    """JSON that any reader takes: ASCII, without NaN, infinities and halves of surrogate pairs."""
    return json.dumps(_whole(document), indent=1, allow_nan=False) + "\n"


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value
