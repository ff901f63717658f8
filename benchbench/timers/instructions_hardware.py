"""Instructions counted by the processor, through Linux's ``perf_event_open``.

User mode only (``exclude_kernel``), all threads: those that exist when the counter is opened, and
by inheritance those that they start (man page perf_event_open(2)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_CALL = {"x86_64": 298, "amd64": 298, "aarch64": 241, "ppc64le": 319, "s390x": 331, "riscv64": 241}
INSTRUCTIONS = (0, 1)
"""``PERF_TYPE_HARDWARE``, ``PERF_COUNT_HW_INSTRUCTIONS``."""
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
_ENABLED_AND_RUNNING = 0b11
_CLOSE_ON_EXEC = 8
_READING = struct.Struct("=QQQ")
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")

Open = Callable[[int], int]
"""Descriptor of a counter for one thread id (0 for the caller's); raises OSError."""
Read = Callable[[int, int], bytes]


def open_counter(thread: int, event: tuple[int, int] = INSTRUCTIONS) -> int:
    """Open a running counter of user-mode events of a thread and of those that it starts.

    Args:
        thread: its id; 0 for the caller.
        event: ``type`` and ``config`` of ``perf_event_attr``.

    Raises:
        OSError: the kernel or the machine has none to give.
    """
    number = _CALL.get(platform.machine().lower())
    if sys.platform != "linux" or number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
    # The first version of perf_event_attr, 64 bytes, which every kernel takes.
    kind, config = event
    attributes = struct.pack(
        "=IIQQQQQIIQ", kind, 64, config, 0, 0, _ENABLED_AND_RUNNING, flags, 0, 0, 0
    )
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(thread), ctypes.c_int(-1), ctypes.c_int(-1))
    found = int(
        libc.syscall(ctypes.c_long(number), attributes, *arguments, ctypes.c_ulong(_CLOSE_ON_EXEC))
    )
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def explain(error: OSError, paranoid: Path = _PARANOID) -> str:
    """What the kernel's refusal means and how to mend it, in one line."""
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
        return (
            "this machine offers no instruction counter (perf_event_open: "
            f"{error.strerror}), as virtual machines often do not; only its host can mend that"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        level = ""
        with suppress(OSError):
            level = f" is {paranoid.read_text().strip()}"
        return (
            f"the kernel refuses hardware counters ({error.strerror}; kernel.perf_event_paranoid"
            f"{level}); `sudo sysctl kernel.perf_event_paranoid=2` allows them, in a container "
            "also --cap-add PERFMON"
        )
    if error.errno == errno.ENOSYS:
        return "hardware counters need perf_event_open, which this system does not have"
    return f"perf_event_open failed: {error.strerror}"


def threads() -> list[int]:
    """Ids of this process's threads; 0 (the caller) where the system does not list them."""
    with suppress(OSError):
        return sorted(int(task.name) for task in Path("/proc/self/task").iterdir())
    return [0]


class Hardware:
    """Counts in this process; opens its counters when first asked.

    Args:
        opener: opens a counter for a thread.
        reader: reads a descriptor.
        list_threads: gives the threads that exist.
    """

    name = "hardware"

    def __init__(
        self,
        opener: Open = open_counter,
        reader: Read = os.read,
        list_threads: Callable[[], Iterable[int]] = threads,
    ) -> None:
        self._open = opener
        self._read = reader
        self._threads = list_threads
        self._counters: Sequence[int] = ()

    def unavailable(self) -> str | None:
        """Why there is no counter, or None; opens the counters."""
        if self._counters:
            return None
        opened: list[int] = []
        try:
            for thread in self._threads():
                try:
                    opened.append(self._open(thread))
                except ProcessLookupError:
                    continue  # it ended meanwhile
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            return explain(error)
        self._counters = tuple(opened)
        return None if opened else "no thread of this process could be counted"

    def count(self, consume: Callable[[], Any]) -> tuple[int, Any, str]:
        """Instructions of ``consume()``, what it returned, and why the count is in doubt."""
        before = self._readings()
        output = consume()
        after = self._readings()
        total = sum(new[0] - old[0] for old, new in zip(before, after, strict=True))
        doubt = ""
        for old, new in zip(before, after, strict=True):
            # Inherited counters add up the times of several threads, both of them alike.
            if new[1] - old[1] != new[2] - old[2]:
                doubt = "the processor's counter was lent to another program for a part of the time"
        return total, output, doubt

    def _readings(self) -> list[tuple[int, int, int]]:
        """Count, time enabled and time running of every counter."""
        return [
            _READING.unpack(self._read(descriptor, _READING.size)) for descriptor in self._counters
        ]

    def close(self) -> None:
        """Give the counters back."""
        for descriptor in self._counters:
            os.close(descriptor)
        self._counters = ()
