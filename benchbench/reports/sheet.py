"""What a table shows, before anybody draws it: shared by the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchbench.contract import Run, format_value
from benchbench.records import case_from_json
from benchbench.reports import legend, text
from benchbench.stats import Row, summarise

COLUMNS = (
    "contender",
    "time",
    "per call",
    "±",
    "p90",
    "p99",
    "speed-up",
    "fewer",
    "verdict",
    "host",
    "roof",
    "rate",
    "error",
    "memory",
)
NOTES = "notes"
METRIC = "metric:"
"""Prefix of the columns that a workload's own quality figures get."""
NOISY = 0.10
"""Half-width of a ratio's interval from which on a row is marked."""


def title(column: str) -> str:
    """What stands above a column."""
    return column.removeprefix(METRIC)


def is_number(column: str) -> bool:
    """True for columns that are aligned to the right."""
    return column in {
        "time",
        "per call",
        "±",
        "p90",
        "p99",
        "host",
        "roof",
        "rate",
        "memory",
    } or column.startswith(METRIC)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A contender's cells, by column."""

    cells: dict[str, str]
    tone: str = ""
    """``baseline``, ``faster``, ``slower`` or empty."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One case: measured contenders by speed, then the others with their reasons."""

    label: str
    lines: tuple[Line, ...]
    remarks: tuple[tuple[str, str, str], ...] = ()
    """Contenders that share a status and a reason; status; reason."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One workload."""

    title: str
    constants: str
    """Axes that have one value in all cases, as text."""
    columns: tuple[str, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole run."""

    heading: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    closing: tuple[str, ...] = ()
    rows: tuple[Row, ...] = field(default=(), repr=False)


def document(run: Run) -> Document:
    """Everything that a table of ``run`` shows."""
    rows = summarise(run)
    # Processes run the cases in orders of their own; people read them in the order of the plan.
    planned = [case_from_json(planned["case"]).id for planned in run.header.get("cases", ())]
    place = {case: index for index, case in enumerate(planned)}
    by_workload: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda r: (r.workload, place.get(r.case, len(place)))):
        by_workload.setdefault(row.workload, []).append(row)
    return Document(
        heading=tuple(_heading(run)),
        sheets=tuple(_sheet(name, members) for name, members in by_workload.items()),
        closing=tuple(legend.closing(run, rows)),
        rows=tuple(rows),
    )


def _sheet(name: str, rows: Sequence[Row]) -> Sheet:
    axes = list(dict.fromkeys(axis for row in rows for axis in row.params))
    varying = [a for a in axes if len({format_value(r.params.get(a, "")) for r in rows}) > 1]
    constants = _axes_text(rows[0], [axis for axis in axes if axis not in varying])
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    groups = tuple(_group(members, varying) for members in cases.values())
    lines = [line for group in groups for line in group.lines]
    used = dict.fromkeys(column for line in lines for column, cell in line.cells.items() if cell)
    metrics = [column for column in used if column.startswith(METRIC)]
    columns = tuple(c for c in (*COLUMNS, *metrics, NOTES) if c in used or c == "contender")
    return Sheet(title=name, constants=constants, columns=columns, groups=groups)


def _axes_text(row: Row, axes: Iterable[str]) -> str:
    return "  ".join(f"{a}={format_value(row.params[a])}" for a in axes if a in row.params)


def _group(rows: Sequence[Row], varying: Sequence[str]) -> Group:
    contenders = [row for row in rows if row.role == "contender"]
    measured = [row for row in contenders if row.latency is not None]
    measured.sort(key=lambda row: row.latency.estimate if row.latency else 0.0)
    others = [row for row in contenders if row.latency is None]
    same: dict[tuple[str, str], list[str]] = {}
    for row in sorted(others, key=lambda row: (row.status == "skipped", row.contender)):
        reason = row.reason or ("checked, not timed" if row.status == "ok" else "no reason given")
        same.setdefault((_status_text(row), reason), []).append(row.contender)
    return Group(
        label=_axes_text(rows[0], varying),
        lines=tuple(_line(row) for row in measured),
        remarks=tuple((", ".join(names), *why) for why, names in same.items()),
    )


def _status_text(row: Row) -> str:
    if row.status == "skipped":
        return "unavailable"
    return f"{row.status.upper()} ({row.stage})" if row.stage else row.status.upper()


def _line(row: Row) -> Line:
    assert row.latency is not None
    is_baseline = row.contender == row.baseline
    counted = row.unit != "s"
    ratio = "fewer" if counted else "speed-up"
    verdict = (legend.COUNTED if counted else {}).get(row.verdict or "", row.verdict or "")
    cells = {
        "contender": row.contender,
        "per call" if counted else "time": text.duration(row.latency.estimate, row.unit),
        "±": text.spread(row.latency),
        **{name: text.duration(value, row.unit) for name, value in row.quantiles.items()},
        ratio: "",
        "verdict": "baseline" if is_baseline else verdict,
        "host": text.duration(row.signals["host"]) if row.signals.get("host") else "",
        "roof": "",
        "rate": "",
        "memory": text.size(row.signals["peak_memory"]) if row.signals.get("peak_memory") else "",
        NOTES: ", ".join(_notes(row)),
        **{f"{METRIC}{name}": text.metric(value) for name, value in row.metrics.items()},
    }
    if row.ratio is not None and not is_baseline:
        cells[ratio] = text.speedup(row.ratio)
    if row.roof_share is not None:
        cells["roof"] = text.percent(row.roof_share.estimate)
    elif row.throughput is not None and row.work is not None:
        cells["rate"] = f"{text.large(row.throughput)} {row.work.item}/s"
    if row.flops is not None:
        cells["rate"] = f"{text.large(row.flops)}FLOP/s"
    if "max" in row.errors:
        beside = None if is_baseline else row.baseline_errors.get("max")
        cells["error"] = text.error(row.errors["max"], row.errors.get("eps", 0.0), beside)
    tone = "baseline" if is_baseline else row.verdict if row.verdict in ("faster", "slower") else ""
    return Line(cells=cells, tone=tone or "")


def _notes(row: Row) -> list[str]:
    notes = list(row.notes)
    if row.ratio is not None and row.ratio.claimed:
        half = max(row.ratio.high / row.ratio.estimate, row.ratio.estimate / row.ratio.low) - 1
        if half > NOISY:
            notes.insert(0, "noisy")
    if row.processes < row.attempted:
        notes.append(f"{row.processes} of {row.attempted} processes")
    return notes


def _heading(run: Run) -> list[str]:
    machine = run.header.get("environment", {})
    settings = run.header.get("settings", {})
    worker = run.processes[0].get("environment", {}) if run.processes else {}
    caches = "  ".join(f"{name} {size}" for name, size in machine.get("caches", {}).items())
    devices = ", ".join(device["name"] for device in worker.get("devices", []))
    state = worker.get("gpu", {})
    if devices and state.get("driver"):
        limit = f", {state['power_limit']:.0f} W" if state.get("power_limit") else ""
        devices += f" (driver {state['driver']}{limit})"
    heading = [
        "  ".join(
            part
            for part in (
                str(machine.get("cpu", "unknown processor")),
                text.counted(machine.get("usable_cores", "?"), "core"),
                caches,
                devices,
            )
            if part
        ),
        f"torch {worker.get('torch', '?')}  {text.counted(worker.get('threads', '?'), 'thread')}  "
        f"python {machine.get('python', '?')}  {machine.get('system', '')}",
        f"run {run.id}  preset {settings.get('preset', '?')}  {_process_text(run)}",
    ]
    if not run.complete:
        heading.append(f"INTERRUPTED: `benchbench run --resume {run.id}` carries on")
    return heading


def _process_text(run: Run) -> str:
    measured = len({result.process for result in run.results})
    asked = run.header.get("settings", {}).get("processes", measured)
    # Processes that come look by look end where all is decided.
    if measured == asked or (run.complete and run.header.get("looks")):
        return f"{measured} process{'es' if measured != 1 else ': a quick look'}"
    return f"{measured} of {asked} processes"
