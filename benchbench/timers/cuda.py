"""Time of the GPU's own clock, checked against the host's."""

from __future__ import annotations

from itertools import repeat
from time import perf_counter_ns
from typing import Any

from benchbench.contract import Sample, Thunk

AHEAD_CYCLES = 2_000_000
"""About a millisecond of idling kernel: the host queues the first calls behind it, so that the
stream does not wait for the host at the start of the region."""
LATE_SECONDS = 50e-6
"""Work that still runs this long (or 5 % of the sample) after the end event is on another stream.
A device synchronisation after an event wait costs about 10 us by itself."""


class CudaEventTimer:
    """CUDA events around the calls, on the current stream.

    The stream is kept busy ahead of the region, so a sample measures the GPU where the GPU is the
    slower side, and the host's launches where those are. A sample is doubtful when the events saw
    more time than the host's clock can hold, or when work went on after the end event.
    """

    name = "cuda-events"
    unit = "s"
    doc = "CUDA events around the calls, checked against the host clock"

    def __init__(self, torch: Any = None) -> None:
        self._torch = torch

    def unavailable(self, device: str) -> str | None:
        """Only CUDA devices, and only where torch finds one."""
        if device.split(":")[0] != "cuda":
            return f"it times CUDA devices, not {device}"
        if not self._module().cuda.is_available():
            return "torch finds no CUDA device here"
        return None

    def _module(self) -> Any:
        if self._torch is None:
            import torch

            self._torch = torch
        return self._torch

    def sample(self, thunk: Thunk, calls: int) -> Sample:
        """Queue ``calls`` calls between two events; the time is the GPU's between them."""
        cuda = self._module().cuda
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        counter = repeat(None, calls - 1)
        cuda.synchronize()
        begun = perf_counter_ns()
        cuda._sleep(AHEAD_CYCLES)
        start.record()
        for _ in counter:
            thunk()
        output = thunk()
        end.record()
        end.synchronize()
        ended = perf_counter_ns()
        cuda.synchronize()
        drained = perf_counter_ns()
        elapsed = start.elapsed_time(end) * 1e-3
        host = (ended - begun) * 1e-9
        late = (drained - ended) * 1e-9
        doubtful = ""
        if elapsed > host * 1.01 + 5e-6:
            doubtful = f"the events saw {elapsed:.3g} s, the host's clock only {host:.3g} s"
        elif late > max(LATE_SECONDS, 0.05 * elapsed):
            doubtful = f"work went on for {late:.3g} s after the end event, on another stream"
        return Sample(elapsed=elapsed, calls=calls, output=output, doubtful=doubtful)
