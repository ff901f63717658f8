"""Time of the host's monotonic clock."""

from __future__ import annotations

from itertools import repeat

# Bound when this module is imported, before any plugin: replacing ``time.perf_counter_ns`` later
# changes nothing here.
from time import perf_counter_ns

from benchbench.contract import Sample, Thunk


class WallTimer:
    """Wall clock of the host, for work that is done when the call returns."""

    name = "wall"
    unit = "s"
    host_clock = True
    doc = "perf_counter_ns around the calls; CPU only"

    def unavailable(self, device: str) -> str | None:
        """Only the CPU: elsewhere a call returns before its work is done."""
        if device == "cpu":
            return None
        return f"a call on {device} returns before its work is done"

    def sample(self, thunk: Thunk, calls: int) -> Sample:
        """Call ``thunk`` ``calls`` times in a row; each output but the last is freed at once."""
        counter = repeat(None, calls - 1)
        start = perf_counter_ns()
        for _ in counter:
            thunk()
        output = thunk()
        end = perf_counter_ns()
        return Sample(elapsed=(end - start) * 1e-9, calls=calls, output=output)


def empty() -> None:
    """Does nothing: what a call costs by itself."""


def floor(repeats: int = 7, calls: int = 20_000) -> float:
    """Seconds of an empty call under the wall timer: the least that any contender can show."""
    timer = WallTimer()
    return min(timer.sample(empty, calls).elapsed / calls for _ in range(repeats))


def resolution(readings: int = 200) -> float:
    """The clock's tick in seconds: the least step between two readings that differ."""
    steps = []
    for _ in range(readings):
        first = second = perf_counter_ns()
        while second == first:
            second = perf_counter_ns()
        steps.append(second - first)
    return min(steps) * 1e-9
