"""Notice threads that a contender left behind and that go on working when nobody is called.

Such a thread finishes what a call only began, or takes processors and the interpreter from the
others while these are timed. Pools that sleep between calls are fine.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
WINDOW = 0.002
"""Seconds in which nothing is called and the threads' processor time is looked at."""
PATIENCE = 0.4
"""How long a pool may spin before it sleeps (OpenMP runtimes: a few ms to 200 ms)."""
SHARE = 0.5
"""Of a window: a thread that uses as much is busy."""


class Threads:
    """Whose threads there are, by who ran when they appeared.

    Needs the kernel's count of processor time for each thread in nanoseconds
    (``/proc/self/task/*/schedstat``); without it nothing is found.
    """

    def __init__(self) -> None:
        import torch

        # Torch's own pool belongs to nobody.
        torch.ones(1 << 18, device="cpu").mul_(2)
        self._known = self._present()
        self._owners: dict[str, str] = {}

    @staticmethod
    def _present() -> set[str]:
        try:
            return set(os.listdir(_TASKS))
        except OSError:
            return set()

    def note(self, name: str) -> None:
        """``name`` just ran: threads that are new are its own. About 10 us."""
        present = self._present()
        for task in present - self._known:
            self._owners[task] = name
        self._known = present

    def release(self) -> None:
        """A case is over: what its contenders started is nobody's in the next."""
        self._owners.clear()

    def restless(self) -> dict[str, str]:
        """Who has threads that stay busy while nothing is called, with the reason; ends them.

        Takes no time when nobody who is asked about has threads, else ``WINDOW``, and up to
        ``PATIENCE`` when one is busy.
        """
        tasks = [task for task in self._owners if task in self._present()]
        if not tasks:
            return {}
        started = time.monotonic()
        while True:
            busy = self._busy(tasks)
            if not busy or time.monotonic() - started > PATIENCE:
                break
        found = {}
        for task in busy:
            found[self._owners.pop(task)] = (
                "a thread that it started keeps a processor busy while nothing is called "
                f"({busy[task]:.0%} of the time, after {PATIENCE:g} s)"
            )
            _end(int(task))
        return found

    def _busy(self, tasks: list[str]) -> dict[str, float]:
        before = {task: _processor_time(task) for task in tasks}
        start = time.monotonic_ns()
        time.sleep(WINDOW)
        window = max(time.monotonic_ns() - start, 1)
        shares = {task: (_processor_time(task) - before[task]) / window for task in tasks}
        return {task: share for task, share in shares.items() if share > SHARE}


def _processor_time(task: str) -> int:
    """Nanoseconds that a thread has run; 0 when that is not known."""
    try:
        return int((_TASKS / task / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _end(native: int) -> None:
    """Ask a thread of Python's to end at its next instruction; others cannot be ended."""
    for thread in threading.enumerate():
        if thread.native_id == native and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            )
