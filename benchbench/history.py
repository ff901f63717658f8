"""A case over runs: advice, never a verdict; machines and days differ.

The truth is the runs' files. ``history.sqlite`` beside them holds a row for each case and contender
of each run, so that a question over thousands of runs does not read them all; it is brought up to
date on every question and made anew whenever it does not fit. It uses a rollback journal, not WAL,
which fails on network file systems.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from benchbench import store
from benchbench.errors import StoreError
from benchbench.stats import Interval, Row, summarise

FILE = "history.sqlite"
VERSION = 1
"""Goes up with every change of the tables or of what they hold; an older index is made anew."""
_TABLES = """
CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, changed INTEGER);
CREATE TABLE entries (
    file TEXT, run TEXT, started TEXT, commit_id TEXT, workload TEXT, case_id TEXT, contender TEXT,
    is_baseline INTEGER, status TEXT, unit TEXT,
    time REAL, time_low REAL, time_high REAL, time_coverage REAL,
    ratio REAL, ratio_low REAL, ratio_high REAL, ratio_coverage REAL
);
CREATE INDEX entries_by_workload ON entries (workload, case_id);
CREATE INDEX entries_by_case ON entries (case_id);
CREATE INDEX entries_by_file ON entries (file);
"""
_COLUMNS = 18


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One contender of one case in one run."""

    run: str
    started: str
    commit: str
    workload: str
    case: str
    contender: str
    status: str
    unit: str = "s"
    latency: Interval | None = None
    ratio: Interval | None = None
    """Over the baseline of the same run; None for the baseline itself."""


def entries(directory: Path, pattern: str, contenders: Sequence[str] = ()) -> list[Entry]:
    """Entries of the case, workload or kind ``pattern`` (or a glob of one); oldest run first."""
    with closing(_index(directory)) as index:
        names = [name for (name,) in index.execute("SELECT DISTINCT workload FROM entries")]
        chosen = [n for n in names if fnmatchcase(n, pattern) or n.split("/")[0] == pattern]
        marks = ",".join("?" * len(chosen))
        found = index.execute(
            f"SELECT * FROM entries WHERE case_id = ? OR workload IN ({marks}) "
            "ORDER BY run, case_id, contender",
            (pattern, *chosen),
        ).fetchall()
    return [
        entry
        for entry in map(_entry, found)
        if not contenders or any(fnmatchcase(entry.contender, p) for p in contenders)
    ]


def workloads(directory: Path) -> set[str]:
    """Names of all workloads in stored runs."""
    with closing(_index(directory)) as index:
        return {name for (name,) in index.execute("SELECT DISTINCT workload FROM entries")}


def _index(directory: Path) -> sqlite3.Connection:
    """The index, up to date; in memory where the directory cannot be written or is locked."""
    path = directory / FILE
    if directory.is_dir():
        for _ in range(2):
            try:
                return _updated(sqlite3.connect(path, timeout=10), directory)
            except sqlite3.OperationalError:  # read-only, locked, or no room
                break
            except sqlite3.DatabaseError:  # damaged, or no database at all
                with suppress(OSError):
                    path.unlink()
    return _updated(sqlite3.connect(":memory:"), directory)


def _updated(index: sqlite3.Connection, directory: Path) -> sqlite3.Connection:
    try:
        with index:
            index.execute("BEGIN IMMEDIATE")
            if index.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                for table in ("files", "entries"):
                    index.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in _TABLES.split(";"):
                    index.execute(statement)
                index.execute(f"PRAGMA user_version = {VERSION}")
            _update(index, directory)
    except BaseException:
        index.close()
        raise
    return index


def _update(index: sqlite3.Connection, directory: Path) -> None:
    """Read the files that are new or have grown; forget those that are gone."""
    known = {name: (size, changed) for name, size, changed in index.execute("SELECT * FROM files")}
    present: dict[str, tuple[int, int]] = {}
    for path in store.runs(directory):
        with suppress(OSError):
            status = path.stat()
            present[path.name] = (status.st_size, status.st_mtime_ns)
    for name in known:
        if known[name] != present.get(name):
            index.execute("DELETE FROM entries WHERE file = ?", (name,))
            index.execute("DELETE FROM files WHERE name = ?", (name,))
    for name, stamp in present.items():
        if known.get(name) == stamp:
            continue
        index.executemany(
            f"INSERT INTO entries VALUES ({','.join('?' * _COLUMNS)})",
            _records(directory / "runs" / name),
        )
        index.execute("INSERT INTO files VALUES (?, ?, ?)", (name, *stamp))


def _records(path: Path) -> list[tuple[object, ...]]:
    """Rows of one file; none when it cannot be read: a damaged run must not hide the others."""
    try:
        run = store.read(path)
    except StoreError:
        return []
    commit = str(run.header.get("environment", {}).get("commit", ""))
    started = str(run.header.get("started", ""))

    def figures(found: Interval | None) -> tuple[float | None, ...]:
        if found is None:
            return (None, None, None, None)
        return (found.estimate, found.low, found.high, found.coverage)

    def record(row: Row) -> tuple[object, ...]:
        facts = (path.name, run.id, started, commit, row.workload, row.case, row.contender)
        more = (row.contender == row.baseline, row.status, row.unit)
        return (*facts, *more, *figures(row.latency), *figures(row.ratio))

    return [record(row) for row in summarise(run) if row.role == "contender"]


def _entry(record: Sequence[object]) -> Entry:
    def interval(values: Sequence[object]) -> Interval | None:
        if values[0] is None:
            return None
        estimate, low, high, coverage = (float(str(value)) for value in values)
        return Interval(estimate=estimate, low=low, high=high, coverage=coverage)

    _, run, started, commit, workload, case, contender, is_baseline, status, unit = map(
        str, record[:10]
    )
    return Entry(
        run=run,
        started=started,
        commit=commit,
        workload=workload,
        case=case,
        contender=contender,
        status=status,
        unit=unit,
        latency=interval(record[10:14]),
        ratio=None if is_baseline == "1" else interval(record[14:18]),
    )
