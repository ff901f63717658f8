"""Counts instructions instead of time: a second opinion that neighbours and clocks cannot move.

One timer, two routes: the processor's counters where the kernel gives them, else valgrind's
callgrind, under which the engine then starts the worker
(:mod:`benchbench.timers.instructions_launch`).
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, repeat, starmap
from typing import Any, Protocol

from benchbench.contract import Sample, Thunk
from benchbench.timers.instructions_callgrind import Callgrind
from benchbench.timers.instructions_hardware import Hardware
from benchbench.timers.wall import empty

FLOOR_READINGS = 5


class Counter(Protocol):
    """A way to count the instructions of this process."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot count here, or None."""

    def count(self, consume: Callable[[], Any]) -> tuple[int, Any, str]:
        """Instructions of ``consume()``, what it returned, why that is in doubt (or ``""``)."""


class InstructionTimer:
    """User-mode instructions of a call, in all threads of the process.

    What the calling itself takes is counted on an empty function, in the same way and for as many
    calls, and subtracted. The calls are made from C (``starmap``): a call in bytecode would adapt
    itself to what was called last, and take another number of instructions.

    Args:
        counters: routes in order of preference.
    """

    name = "instructions"
    unit = "instructions"
    doc = "user-mode instructions, by hardware counters or valgrind's callgrind; CPU only"

    def __init__(self, counters: Sequence[Counter] | None = None) -> None:
        self._counters = (Callgrind(), Hardware()) if counters is None else tuple(counters)
        self._chosen: Counter | None = None
        self._floors: dict[int, int] = {}

    def unavailable(self, device: str) -> str | None:
        """Only the CPU, and only where one of the routes is open."""
        if device != "cpu":
            return f"it counts instructions of the CPU, not of {device}"
        reasons = []
        for counter in () if self._chosen is not None else self._counters:
            reason = counter.unavailable()
            if reason is None:
                self._chosen = counter
                break
            reasons.append(f"{counter.name}: {reason}")
        return None if self._chosen is not None else "; ".join(reasons)

    def sample(self, thunk: Thunk, calls: int) -> Sample:
        """Count ``calls`` calls in a row; each output but the last is freed at once.

        Raises:
            RuntimeError: :meth:`unavailable` was not asked, or gave a reason.
            BenchbenchError: the counter cannot be read.
        """
        reason = self.unavailable("cpu")
        if self._chosen is None:
            raise RuntimeError(f"instructions cannot be counted here: {reason}")
        if calls not in self._floors:
            readings = [
                self._chosen.count(_calling(empty, calls))[0] for _ in range(FLOOR_READINGS)
            ]
            # The first ones pay for what is done once: lazy binding, specialised bytecode.
            self._floors[calls] = round(statistics.median(readings[2:]))
        count, output, doubt = self._chosen.count(_calling(thunk, calls))
        # Never zero: ratios are taken of logarithms.
        elapsed = float(max(count - self._floors[calls], 1))
        return Sample(elapsed=elapsed, calls=calls, output=output, doubtful=doubt)


def _calling(thunk: Thunk, calls: int) -> Callable[[], Any]:
    return partial(_consume, starmap(thunk, repeat((), calls)), calls - 1)


def _consume(results: Any, before_last: int) -> Any:
    deque(islice(results, before_last), maxlen=0)
    return next(results)
