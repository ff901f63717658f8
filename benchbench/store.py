"""One append-only file of JSON lines for each run: the truth about it.

The header first, then a line for everything that happens, flushed as it happens; ``end`` last. A
run that was killed has no ``end`` and perhaps half a last line, which is left out when it is read.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchbench.contract import Result, Run
from benchbench.errors import StoreError, UsageError, suggestion
from benchbench.records import result_from_json, to_json

SCHEMA = 1
STORED = ("run", "process", "result", "event", "resume", "end")
"""Types of lines; anything else that a run emits is for the eye only."""


def default_directory() -> Path:
    """``BENCHBENCH_STORE``, or ``.benchbench`` in the working directory."""
    return Path(os.environ.get("BENCHBENCH_STORE") or ".benchbench")


def new_id() -> str:
    """UTC time to the second, milliseconds and two random letters: sorts by time."""
    now = datetime.now(timezone.utc)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03x}{secrets.token_hex(1)}"


class Writer:
    """Appends lines to a run's file; each is handed to the operating system at once.

    So a killed benchbench loses nothing that was written. Only a machine that loses power can.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _end_torn_line(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"results cannot be written to {path}: {error.strerror}. "
                "Choose another directory with --store"
            ) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; types that are not stored are ignored.

        Raises:
            StoreError: the disk is full or the file has gone.
        """
        if record.get("type") not in STORED:
            return
        try:
            self._file.write(json.dumps(to_json(record), separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"results cannot be written to {self.path}: {error.strerror}. What was written "
                "before is safe; free some space and go on with --resume"
            ) from error

    def close(self, status: str) -> None:
        """Write the last line (``complete`` or ``interrupted``) and close."""
        if not self._file.closed:
            self.append({"type": "end", "status": status, "ended": now()})
            self._file.close()


def now() -> str:
    """UTC time in ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _end_torn_line(path: Path) -> None:
    """A file that was cut in the middle of a line gets a new line to append to."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def create(directory: Path, header: Mapping[str, Any]) -> Writer:
    """Start a run's file in ``directory/runs`` and write its header."""
    identity = str(header["id"])
    writer = Writer(directory / "runs" / f"{identity}.jsonl")
    writer.append({"type": "run", "schema": SCHEMA, **header})
    return writer


def read(path: Path) -> Run:
    """The run in ``path``.

    Raises:
        StoreError: it cannot be read, has no header, or is of a newer schema.
    """
    header: dict[str, Any] = {}
    results: dict[tuple[str, str, int], Result] = {}
    processes: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    complete = False
    for line, record in _records(path):
        kind = record.get("type")
        if kind == "run" and not header:
            header = record
            if int(record.get("schema", 0)) > SCHEMA:
                raise StoreError(
                    f"{path} was written by a newer benchbench (schema {record['schema']}, this "
                    f"one reads {SCHEMA}). Upgrade benchbench to read it"
                )
        elif kind == "result":
            try:
                result = result_from_json(record)
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(f"{path}, line {line}: no result can be read: {error}") from error
            # A case that was measured again after a crash replaces what the first attempt said.
            results[result.case, result.contender, result.process] = result
        elif kind == "process":
            processes.append(record)
        elif kind in ("event", "resume"):
            events.append(record)
            complete = complete and kind != "resume"
        elif kind == "end":
            complete = record.get("status") == "complete"
    if not header:
        raise StoreError(f"{path} has no header, so it is no run of benchbench")
    return Run(
        id=str(header.get("id", path.stem)),
        header=header,
        results=tuple(results.values()),
        processes=tuple(processes),
        events=tuple(events),
        complete=complete,
    )


def _records(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # torn by a kill; the result was not complete
        if isinstance(record, dict):
            yield number, record


def runs(directory: Path) -> list[Path]:
    """Files of all runs in ``directory``, oldest first."""
    return sorted((directory / "runs").glob("*.jsonl"))


def find(directory: Path, name: str) -> Path:
    """The file of a run: ``last``, an id or its beginning, or a path.

    Raises:
        UsageError: there is none, or the beginning fits several.
    """
    direct = Path(name)
    if direct.suffix == ".jsonl" and direct.is_file():
        return direct
    known = runs(directory)
    if not known:
        raise UsageError(
            f"there are no runs in {directory / 'runs'}. `benchbench run` makes one; "
            "--store names another directory"
        )
    if name == "last":
        return known[-1]
    matches = [path for path in known if path.stem.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    stems = [path.stem for path in known]
    if matches:
        raise UsageError(f"{name!r} fits {len(matches)} runs: {', '.join(p.stem for p in matches)}")
    raise UsageError(
        f"there is no run {name!r} in {directory / 'runs'}.{suggestion(name, stems)} "
        f"The last one is {stems[-1]}"
    )


def done(run: Run) -> set[tuple[str, str, int]]:
    """Case, contender and process of every stored result: what ``--resume`` need not repeat."""
    return {(r.case, r.contender, r.process) for r in run.results}


def resume_conflicts(run: Run, header: Mapping[str, Any]) -> list[str]:
    """Why ``run`` cannot be continued under ``header``; empty when it can."""
    conflicts = []
    for name in ("settings", "cases", "plugins"):
        old, new = run.header.get(name), to_json(header.get(name))
        if name == "plugins":
            old, new = _versions(old or ()), _versions(new or ())
        if old != new:
            conflicts.append(f"{name}: {_first_difference(old, new)}")
    return conflicts


def _versions(plugins: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"{p['provider']['distribution']}:{p['provider']['plugin']}": p["provider"]["version"]
        for p in plugins
    }


def _first_difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *new]:
            if old.get(key) != new.get(key):
                return f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
    if isinstance(old, list) and isinstance(new, list):
        return f"{len(old)} before, {len(new)} now, or in another order"
    return f"was {old!r}, now {new!r}"
