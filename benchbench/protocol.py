"""What a worker and its parent say to each other: one JSON object a line, over pipes of their own.

Standard output and error belong to plugins; nothing that they print can reach these pipes. The
parent sends ``start`` first, then any of ``describe``, ``prepare``, ``run``, ``render`` and
``exit``; the worker answers with ``loading``, ``ready``, ``stage``, ``result``, ``note``,
``event``, ``done``, ``prepared``, ``catalogue``, ``rendered`` and ``error``.

``stage`` announcements are many and fall between timed samples, where a message would wake the
parent and take a core from the next sample. So a local worker writes them to a :class:`Board`, a
page of memory that both processes map, which the parent reads when it polls, or when the worker
died.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import struct
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from benchbench.records import to_json

STRAY_EXIT_CODE = 70
"""Exit code of a forked child that came back into the worker's own code."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as one line of ASCII."""
    return json.dumps(to_json(message), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in a line.

    Raises:
        ValueError: the line is not a JSON object with a ``type``.
    """
    message = json.loads(line)
    if not isinstance(message, dict) or "type" not in message:
        raise ValueError(f"not a message of the protocol: {line[:80]!r}")
    return message


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however often the pipe is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Lines:
    """Complete messages out of a descriptor, with a timeout."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = bytearray()
        self._searched = 0
        self.closed = False
        """True when the other side is gone and nothing is left to read."""

    def receive(self, timeout: float | None) -> dict[str, Any] | None:
        """Next message; None when none came in time or the other side is gone (``closed``).

        Raises:
            ValueError: a line is not a message.
        """
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                return decode(line)
            self._searched = len(self._buffer)
            if self.closed or not select.select([self.descriptor], [], [], timeout)[0]:
                return None
            try:
                data = os.read(self.descriptor, 1 << 16)
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self._buffer += data


class Board:
    """The worker's latest announcement, in a page that both processes map.

    Written by the worker alone. A sequence number is odd while a write is under way, so the reader
    can tell a torn text from a whole one.
    """

    SIZE = 4096
    _HEADER = struct.Struct("=QI")

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = _shared_file()
            os.ftruncate(descriptor, self.SIZE)
        self.descriptor = descriptor
        self._page = mmap.mmap(descriptor, self.SIZE)
        self._sequence = 0

    def write(self, message: Mapping[str, Any]) -> None:
        """Replace the announcement; about two microseconds."""
        data = encode(message)
        if len(data) > self.SIZE - self._HEADER.size:
            shortened = {k: str(v)[:400] for k, v in message.items()}
            data = encode(shortened)
        self._sequence += 1
        self._HEADER.pack_into(self._page, 0, self._sequence, 0)
        self._page[self._HEADER.size : self._HEADER.size + len(data)] = data
        self._sequence += 1
        self._HEADER.pack_into(self._page, 0, self._sequence, len(data))

    def read(self) -> dict[str, Any] | None:
        """The announcement if it is not the one that was read last, else None."""
        before, length = self._HEADER.unpack_from(self._page, 0)
        if before == self._sequence or before % 2:
            return None
        data = bytes(self._page[self._HEADER.size : self._HEADER.size + length])
        if self._HEADER.unpack_from(self._page, 0)[0] != before:
            return None
        try:
            message = decode(data)
        except ValueError:
            return None
        self._sequence = before
        return message

    def close(self) -> None:
        """Unmap the page."""
        with suppress(OSError, ValueError):
            self._page.close()
            os.close(self.descriptor)


def _shared_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("benchbench-board")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Channel:
    """The worker's end. Safe to use from threads; useless, on purpose, to a forked child.

    A child that a contender forked inherits these pipes and, when it returns out of the contender,
    the worker's whole program. ``after_fork`` closes the child's pipes, and :meth:`end_stray` ends
    the child at the first step that it takes in the worker's own code.
    """

    def __init__(self, reading: int, writing: int, board: Board | None = None) -> None:
        self._lines = Lines(reading)
        self._writing = writing
        self._board = board
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._depth = 0
        self._strays_read, self._strays_write = os.pipe()
        os.set_blocking(self._strays_read, False)
        for descriptor in (reading, writing):
            os.set_inheritable(descriptor, False)
        self._announced = ""
        self._forks = 0
        os.register_at_fork(after_in_parent=self._count_fork, after_in_child=self._after_fork)

    def _count_fork(self) -> None:
        self._forks += 1

    def _after_fork(self) -> None:
        self._depth += 1
        if self._depth > 2:  # a contender that forks in every call would double without end
            os._exit(STRAY_EXIT_CODE)
        if self._depth == 1:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (self._lines.descriptor, self._writing):
                with suppress(OSError):
                    os.dup2(null, descriptor, inheritable=False)
            os.close(null)

    def end_stray(self) -> None:
        """End this process at once when it is not the worker but a fork of it."""
        if os.getpid() != self._owner:
            with suppress(OSError):
                os.write(self._strays_write, self._announced.encode() + b"\n")
            os._exit(STRAY_EXIT_CODE)

    def strays(self, patience: float = 0.25) -> set[str]:
        """Contenders whose forked children came back into the worker's code since the last call.

        Waits ``patience`` seconds for the first one when there were forks: a child that comes back
        does so within microseconds of its parent, unless the machine is busy.
        """
        waiting = patience if self._forks else 0.0
        self._forks = 0
        if not select.select([self._strays_read], [], [], waiting)[0]:
            return set()
        return set(os.read(self._strays_read, 1 << 16).decode(errors="replace").split("\n")) - {""}

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; ends the process when the parent is gone."""
        self.end_stray()
        try:
            with self._lock:
                write_all(self._writing, encode(message))
        except BrokenPipeError:
            os._exit(0)

    def announce(self, message: Mapping[str, Any]) -> None:
        """Say what happens next without waking the parent."""
        self.end_stray()
        self._announced = str(message.get("contender", ""))
        if self._board is None:
            self.send(message)
        else:
            self._board.write(message)

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the parent closed the pipe."""
        return self._lines.receive(None)
