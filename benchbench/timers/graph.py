"""Time of kernels alone: calls are captured in a CUDA graph, and replays of it are timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from time import perf_counter_ns
from typing import Any

from benchbench.contract import Sample, Thunk
from benchbench.timers.cuda import CudaEventTimer, CudaTimer

CAPTURED = 64
"""Most calls in a graph (more only where inputs rotate among more sets): launching a graph leaves
a gap of some microseconds, and it is shared by that many."""
BEFORE = 3
"""Calls on the capturing stream before a capture: what is set up in the first call cannot be
captured."""


@dataclass(kw_only=True)
class _Captured:
    """Calls of one thunk in a graph, or why they cannot be captured."""

    thunk: Thunk
    calls: int = 0
    replay: Callable[[], Any] | None = None
    output: Any = None
    host: float = 0.0
    """Seconds that a direct call keeps the host."""
    reason: str = ""


class CudaGraphTimer(CudaTimer):
    """CUDA graph replays between events: the kernels without their launches.

    What waits for the device, copies from pageable memory or draws from a generator of its own
    cannot be captured. Such a contender is timed by the event timer, and its samples name that
    timer and the reason. Replays write into one output, so states that Python advances would stand
    still: stateful workloads are not for this timer.

    Args:
        events: times the replays, and whatever cannot be captured.
        torch: a stand-in for torch, for tests.
    """

    name = "cuda-graph"
    replays = True
    doc = "replays of a CUDA graph of the calls: kernels without their launches"

    def __init__(self, events: CudaEventTimer | None = None, torch: Any = None) -> None:
        super().__init__(torch)
        self._events = CudaEventTimer(torch) if events is None else events
        self._graphs: dict[int, _Captured] = {}
        self._stream: Any = None

    def forget(self) -> None:
        """Drop the graphs and the memory that they hold."""
        self._graphs.clear()
        self._events.forget()

    def sample(self, thunk: Thunk, calls: int) -> Sample:
        """Replay graphs of at least ``calls`` calls; the time is scaled to ``calls``."""
        found = self._captured(thunk, calls)
        if found.replay is None:
            sample = self._events.sample(thunk, calls)
            return replace(sample, taken_by=self._events.name, remark=found.reason)
        replays = -(-calls // found.calls)
        sample = self._events.sample(found.replay, replays)
        return replace(
            sample,
            elapsed=sample.elapsed * calls / (replays * found.calls),
            calls=calls,
            output=found.output,
            host=found.host * calls,
        )

    def _captured(self, thunk: Thunk, calls: int) -> _Captured:
        found = self._graphs.get(id(thunk))
        if found is not None and (found.reason or found.calls >= self._wanted(thunk, calls)):
            return found
        # The thunk is kept with its graph, so that its identity stays its own.
        self._graphs.pop(id(thunk), None)
        found = self._capture(thunk, self._wanted(thunk, calls))
        self._graphs[id(thunk)] = found
        return found

    @staticmethod
    def _wanted(thunk: Thunk, calls: int) -> int:
        """A power of two, so that a growing number of calls is captured a few times only; at least
        one call for each set of inputs, or replays would meet warm ones.
        """
        period = int(getattr(thunk, "period", 1))
        return max(period, 1 << (min(calls, CAPTURED).bit_length() - 1))

    def _capture(self, thunk: Thunk, calls: int) -> _Captured:
        cuda = self.torch.cuda
        if self._stream is None:
            self._stream = cuda.Stream()
        side, current = self._stream, cuda.current_stream()
        cuda.synchronize()
        try:
            with cuda.stream(side):
                host = _warm(thunk)
                cuda.synchronize()
                graph = cuda.CUDAGraph()
                output = _record(graph, thunk, calls)
        except Exception as error:
            cuda.set_stream(current)
            self._mend(cuda, side)
            cuda.synchronize()  # raises where it was no refusal but a fault of the device
            why = (str(error).strip() or type(error).__name__).split("\n")[0][:200]
            return _Captured(thunk=thunk, reason=f"it cannot be captured in a CUDA graph: {why}")
        cuda.set_stream(current)
        return _Captured(thunk=thunk, calls=calls, replay=graph.replay, output=output, host=host)

    def _mend(self, cuda: Any, side: Any) -> None:
        """After a capture that failed torch's generator still believes that it is captured, and
        refuses to draw. A capture that succeeds sets that right.
        """
        try:
            with cuda.stream(side):
                _record(cuda.CUDAGraph(), lambda: self.torch.zeros(1, device="cuda"), 1)
        except Exception:
            self._stream = None  # a stream that cannot be mended is not used again


def _warm(thunk: Thunk) -> float:
    """Seconds that a call keeps the host, after what it sets up in the first."""
    seconds = []
    for _ in range(BEFORE):
        begun = perf_counter_ns()
        thunk()
        seconds.append((perf_counter_ns() - begun) * 1e-9)
    return statistics.median(seconds)


def _record(graph: Any, thunk: Thunk, calls: int) -> Any:
    """Capture the calls; gives the last output. A capture is ended whatever happens in it."""
    counter = repeat(None, calls - 1)
    graph.capture_begin()
    fault: BaseException | None = None
    output = None
    try:
        for _ in counter:
            thunk()
        output = thunk()
    except BaseException as error:
        fault = error
    try:
        graph.capture_end()
    except Exception as error:
        fault = fault or error
    if fault is not None:
        raise fault
    return output
