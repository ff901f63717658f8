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
PAUSE = 0.005
"""Seconds in which work that goes on after a call has returned shows."""
PATIENCE = 0.4
"""How long a pool may spin before it sleeps (OpenMP runtimes: a few ms to 200 ms)."""
SHARE = 0.5
"""Of a window: a thread that uses as much, or waits as long for a processor, is busy."""


class Threads:
    """Whose threads there are, by who ran when they appeared.

    Needs the kernel's list of threads with their state and processor time
    (``/proc/self/task/*/stat`` and ``schedstat``: Linux); without it nothing is found.
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
            return set(os.listdir(_TASKS))  # noqa: PTH208 - names only, and soon
        except OSError:
            return set()

    def note(self, name: str) -> None:
        """``name`` just ran: threads that are new are its own. About 10 us."""
        present = self._present()
        for task in present - self._known:
            self._owners[task] = name
        self._known = present

    def owned_by(self, name: str) -> list[str]:
        """Threads that appeared when ``name`` ran and are there still."""
        mine = [task for task, owner in self._owners.items() if owner == name]
        return [task for task in mine if task in self._present()] if mine else []

    def let_finish(self, name: str) -> bool:
        """Give threads that ``name`` started time for what they still do; True when it has any.

        ``PAUSE`` seconds, and up to ``PATIENCE`` while one of them runs or waits for a processor.
        """
        if not self.owned_by(name):
            return False
        started = time.monotonic()
        time.sleep(PAUSE)
        while any(_runs(task) for task in self.owned_by(name)):
            if time.monotonic() - started > PATIENCE:
                break
            time.sleep(WINDOW)
        return True

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
                f"({busy[task]:.0%} of the time, {PATIENCE:g} s after the last call)"
            )
            _end(int(task))
        return found

    def _busy(self, tasks: list[str]) -> dict[str, float]:
        before = {task: _processor_time(task) for task in tasks}
        start = time.monotonic_ns()
        time.sleep(WINDOW)
        window = max(time.monotonic_ns() - start, 1)
        shares = {task: (_processor_time(task) - before[task]) / window for task in tasks}
        return {
            task: min(share, 1.0) for task, share in shares.items() if share > SHARE or _runs(task)
        }


def _runs(task: str) -> bool:
    """True for a thread that runs or waits for a processor, whatever else the machine does."""
    try:
        # The state follows the name in parentheses, which may hold anything.
        return (_TASKS / task / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    except (OSError, IndexError):
        return False


def _processor_time(task: str) -> int:
    """Nanoseconds that a thread has run or waited to run; 0 when that is not known."""
    try:
        ran, waited = (_TASKS / task / "schedstat").read_text().split()[:2]
        return int(ran) + int(waited)
    except (OSError, ValueError, IndexError):
        return 0


def _end(native: int) -> None:
    """Ask a thread of Python's to end at its next instruction; others cannot be ended."""
    for thread in threading.enumerate():
        if thread.native_id == native and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            )
