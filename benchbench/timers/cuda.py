"""Time of the GPU's own clock, checked against the host's; and the host's, for whoever waits.

A sample is a number of regions. Ahead of each the stream is kept busy by an idling kernel, for
twice as long as the host is expected to need for queuing the calls, so that the GPU finds all of
them queued and never waits for a launch. Whether that succeeded is known: the event behind the
idling kernel must not have come when the last call was queued.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from time import perf_counter_ns
from typing import Any

from benchbench.contract import Sample, Thunk

LATE_SECONDS = 50e-6
"""Work that still runs this long (or 5 % of the sample) after the end event is on another stream.
A device synchronisation after an event wait costs about 10 us by itself."""
AHEAD_LEAST, AHEAD_MOST = 100e-6, 20e-3
"""Seconds of idling ahead of a region; calls that take the host longer cannot be hidden."""
FIRST_GUESS = 30e-6
"""Seconds that a call is expected to keep the host until one was seen."""
QUEUED = 256
"""Most calls of a region. About 1000 launches fit into a stream's queue; then the host waits."""
MISSES = 3
"""Samples in a row in which the GPU overtook the host, after which its time counts too."""
RATE_CYCLES = 4_000_000
"""Of the idling kernels that find how fast its clock is; 2 ms at 2 GHz."""
EVENT_SLACK = 10e-6
HOST_SLACK = 5e-3
"""What the host's clock may see beyond the events: it is woken late when others take its core."""


@dataclass(kw_only=True)
class _Pace:
    """How the host keeps up with the GPU in the calls of one thunk."""

    host: float = FIRST_GUESS
    """Seconds of a call."""
    queued: int = QUEUED
    misses: int = 0
    open: bool = False
    """True once the launches were found impossible to hide."""


@dataclass(kw_only=True)
class _Region:
    """What was seen of calls between two events, in seconds."""

    elapsed: float
    total: float
    """By the events, the idling ahead included."""
    host: float
    """The same by the host's clock."""
    kept: float
    """From the first call to the return of the last."""
    hidden: bool
    output: Any


class CudaTimer:
    """What timers of CUDA devices share. Torch is imported when a device is first asked for.

    Args:
        torch: a stand-in for torch, for tests.
    """

    unit = "s"

    def __init__(self, torch: Any = None) -> None:
        self._torch = torch

    @property
    def torch(self) -> Any:
        """The module, or its stand-in."""
        if self._torch is None:
            import torch

            self._torch = torch
        return self._torch

    def unavailable(self, device: str) -> str | None:
        """Only CUDA devices, and only where torch finds one."""
        if not is_cuda(device):
            return f"it times CUDA devices, not {device}"
        found = self.torch.cuda.is_available()
        return None if found else f"torch finds no CUDA device here for {device}"


class CudaEventTimer(CudaTimer):
    """CUDA events around the calls, on the current stream, with launches hidden.

    A sample is the GPU's time. Where the host cannot queue the calls ahead (one that waits for the
    GPU itself, or makes more launches than fit into the queue), nothing idles ahead, the sample
    contains the host's part, and says so (``starved``). ``host`` has the time that the calls kept
    the host in either case.

    A sample is doubtful when the events and the host's clock contradict each other, when work went
    on after the end event, or when the GPU overtook a host that usually keeps ahead.
    """

    name = "cuda-events"
    doc = "CUDA events around calls that are queued ahead, checked against the host clock"

    def __init__(self, torch: Any = None) -> None:
        super().__init__(torch)
        self._events: tuple[Any, Any, Any] | None = None
        self._rate = 0.0
        """Cycles of the idling kernel in a second."""
        self._paces: dict[int, _Pace] = {}

    def forget(self) -> None:
        """Whose calls were timed is gone; other thunks may get its place in memory."""
        self._paces.clear()

    def sample(self, thunk: Thunk, calls: int) -> Sample:
        """Queue ``calls`` calls behind idling kernels; the time is the GPU's between events."""
        cuda = self.torch.cuda
        pace = self._paces.setdefault(id(thunk), _Pace())
        was_open = pace.open
        cuda.synchronize()
        regions: list[_Region] = []
        left = calls
        while left:
            count = left if pace.open else min(left, pace.queued)
            regions.append(self._region(cuda, thunk, count, pace))
            left -= count
            if len(regions) > 1:
                regions[-2].output = None  # each output but the last is freed at once
        ended = perf_counter_ns()
        cuda.synchronize()
        late = (perf_counter_ns() - ended) * 1e-9
        starved = not all(region.hidden for region in regions)
        pace.misses = pace.misses + 1 if starved else 0
        pace.open = pace.open or pace.misses >= MISSES
        elapsed = sum(region.elapsed for region in regions)
        doubtful = _contradiction(regions)
        if not doubtful and late > max(LATE_SECONDS, 0.05 * elapsed):
            doubtful = f"work went on for {late:.3g} s after the end event, on another stream"
        if not doubtful and starved and not was_open:
            doubtful = "the GPU was done before the host had queued its calls"
        return Sample(
            elapsed=elapsed,
            calls=calls,
            output=regions[-1].output,
            doubtful=doubtful,
            host=sum(region.kept for region in regions),
            starved=starved,
        )

    def _region(self, cuda: Any, thunk: Thunk, count: int, pace: _Pace) -> _Region:
        first, start, end = self._three_events(cuda)
        cycles = 0
        if not pace.open:
            ahead = min(AHEAD_MOST, AHEAD_LEAST + 2.0 * count * pace.host)
            cycles = int(ahead * self._cycles_per_second(cuda))
        counter = repeat(None, count - 1)
        begun = perf_counter_ns()
        first.record()
        if cycles:
            cuda._sleep(cycles)
        start.record()
        called = perf_counter_ns()
        for _ in counter:
            thunk()
        output = thunk()
        returned = perf_counter_ns()
        end.record()
        hidden = cycles > 0 and not start.query()
        end.synchronize()
        ended = perf_counter_ns()
        kept = (returned - called) * 1e-9
        region = _Region(
            elapsed=start.elapsed_time(end) * 1e-3,
            total=first.elapsed_time(end) * 1e-3,
            host=(ended - begun) * 1e-9,
            kept=kept,
            hidden=hidden,
            output=output,
        )
        idled = region.total - region.elapsed
        if cycles and idled > 0:
            # The clock rises under load: the same cycles are over sooner then.
            self._rate = max(self._rate, cycles / idled)
        if hidden:
            pace.host = kept / count
        elif not pace.open:
            pace.host = min(max(2 * pace.host, kept / count), AHEAD_MOST)
            pace.queued = max(1, count // 4)
        return region

    def _three_events(self, cuda: Any) -> tuple[Any, Any, Any]:
        """Made once: an event is created when it is first recorded, which takes time."""
        if self._events is None:
            first, start, end = (cuda.Event(enable_timing=True) for _ in range(3))
            self._events = first, start, end
            for event in self._events:
                event.record()
        return self._events

    def _cycles_per_second(self, cuda: Any) -> float:
        if not self._rate:
            first, start, _ = self._three_events(cuda)
            for _ in range(3):  # the clock rises meanwhile
                first.record()
                cuda._sleep(RATE_CYCLES)
                start.record()
                start.synchronize()
                seconds = first.elapsed_time(start) * 1e-3
                self._rate = max(self._rate, RATE_CYCLES / max(seconds, 1e-6))
        return self._rate


class CudaHostTimer(CudaTimer):
    """The host's clock from before the calls until the device is done: what a caller waits.

    For a service that answers one request after the other; it contains launches, copies and the
    wait for the device, about 10 us for an empty one.
    """

    name = "cuda-host"
    host_clock = True
    doc = "perf_counter_ns around the calls and a synchronisation of the device"

    def sample(self, thunk: Thunk, calls: int) -> Sample:
        """Call ``thunk`` ``calls`` times, waiting for the device after each call."""
        wait = self.torch.cuda.synchronize
        counter = repeat(None, calls - 1)
        wait()
        start = perf_counter_ns()
        for _ in counter:
            thunk()
            wait()
        output = thunk()
        wait()
        end = perf_counter_ns()
        return Sample(elapsed=(end - start) * 1e-9, calls=calls, output=output)


def is_cuda(device: str) -> bool:
    """True for ``cuda`` and ``cuda:1``."""
    return device.split(":")[0] == "cuda"


def _contradiction(regions: list[_Region]) -> str:
    """How two clocks differ by more than they may, or an empty text."""
    total, host = (sum(getattr(region, name) for region in regions) for name in ("total", "host"))
    slack = EVENT_SLACK * len(regions)
    if total > 1.01 * host + slack:
        return f"the events saw {total:.3g} s, the host's clock only {host:.3g} s"
    if host > 1.25 * total + HOST_SLACK + slack:
        return f"the events saw only {total:.3g} s, the host's clock {host:.3g} s"
    return ""
