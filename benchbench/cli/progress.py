"""Progress of a run: one line that changes on a terminal, sparse lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

_SPARSE_SECONDS = 30.0


class Progress:
    """Takes the records of a run and tells people where it is."""

    def __init__(self, processes: int, stream: TextIO | None = None) -> None:
        self._processes = processes
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._last = 0.0
        self._process = -1
        self._shown = False

    def update(self, record: Mapping[str, Any]) -> None:
        """Show a ``progress`` record, or print the text of an event."""
        if record["type"] == "event" and record.get("text"):
            self.say(str(record["text"]))
        elif record["type"] == "progress":
            self._show(record)

    def say(self, text: str) -> None:
        """Print a line above the progress."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Remove the line."""
        self._clear()

    def _show(self, record: Mapping[str, Any]) -> None:
        if record["done"] >= record["total"]:
            return
        left = record.get("seconds_left")
        remaining = f", {minutes(left)} left" if left else ""
        process = int(record["process"])
        place = f"process {process + 1} of {self._processes}"
        count = f"{record['done']}/{record['total']}"
        now = time.monotonic()
        if self._live:
            self._clear()
            line = f"{place}  {count}{remaining}  {record['case']}"
            print(line[:110], end="", file=self._stream, flush=True)
            self._shown = True
        elif process != self._process or now - self._last > _SPARSE_SECONDS:
            self._process, self._last = process, now
            print(f"{place}: {count} cases done{remaining}", file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._live and self._shown:
            print("\r\033[K", end="", file=self._stream, flush=True)
            self._shown = False


def minutes(seconds: float) -> str:
    """``1 min 20 s``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
