"""Progress of a run: one line that changes on a terminal, sparse lines in a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

_SPARSE_SECONDS = 30.0
_CLEAR = "\r\033[K"


class Progress:
    """Takes the records of a run and tells people where it is.

    Args:
        processes: of the run.
        stream: where to; standard error when left out.
        verbose: also say how each case ended, and what lost workers printed.
    """

    def __init__(
        self, processes: int, stream: TextIO | None = None, *, verbose: bool = False
    ) -> None:
        self._processes = processes
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._verbose = verbose
        self._last = 0.0
        self._process = -1
        self._shown = False
        self._noted: set[str] = set()

    def update(self, record: Mapping[str, Any]) -> None:
        """Show a ``progress`` record, or print the text of an event."""
        kind = record["type"]
        if kind == "progress":
            self._show(record)
        elif kind == "event" and record.get("text"):
            if record.get("kind") == "note" and record["text"] in self._noted:
                return  # each worker has found the same
            self._noted.add(record["text"])
            self.say(str(record["text"]))
            if self._verbose and record.get("log"):
                self.say(str(record["log"]).rstrip())
        elif self._verbose and kind == "event" and record.get("kind") == "case":
            self.say(
                f"  {record['case']}, process {record['process'] + 1}: {record['seconds']:.2f} s"
            )
        elif self._verbose and kind == "result" and record["status"] != "ok":
            self.say(f"  {record['contender']} {record['status']}: {record['reason']}")

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
            line = f"{place}  {count}{remaining}  {record['case']}"
            width = shutil.get_terminal_size().columns - 1
            print(_CLEAR + line[:width], end="", file=self._stream, flush=True)
            self._shown = True
        elif process != self._process or now - self._last > _SPARSE_SECONDS:
            self._process, self._last = process, now
            print(f"{place}: {count} cases done{remaining}", file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._live and self._shown:
            print(_CLEAR, end="", file=self._stream, flush=True)
            self._shown = False


def minutes(seconds: float) -> str:
    """``1 min 20 s``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
