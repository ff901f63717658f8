"""A GPU that exists in virtual time only: streams, events, idling kernels and graphs of torch.cuda.

The host's clock advances by what its calls cost, the device's by what was launched. Events, queue
and captures behave as CUDA documents them: an event is there when all before it is done, a launch
waits while about a thousand are pending, and a capture refuses whatever waits for the device.
"""

from __future__ import annotations

from contextlib import contextmanager

PENDING = 1024


class FakeGpu:
    """Stands for the module torch, of which timers use ``cuda`` and ``zeros``."""

    def __init__(self, cycles_per_second=2e9):
        self.now = 0.0
        self.end = 0.0
        self.other_end = 0.0
        """When work on another stream is done, for which no event waits."""
        self.cycles_per_second = cycles_per_second
        self.pending = []
        self.capturing = None
        self.broken = ""
        self.skew = 1.0
        """By how much events lie about time."""
        self.available = True
        self.log = []
        self.cuda = self
        self.streams = [Stream()]
        self.current = self.streams[0]
        self.default = self.current
        self.generator_captured = False
        self.CUDAGraph = lambda: Graph(self)

    # The host.

    def perf_counter_ns(self):
        self.now += 40e-9
        return round(self.now * 1e9)

    def work(self, seconds):
        """The host computes."""
        self.now += seconds

    def launch(self, seconds, host=5e-6):
        """A kernel on the current stream."""
        self.now += host
        self.fail_if_broken()
        if self.capturing is not None:
            self.capturing.kernels.append(seconds)
            return
        self.pending = [end for end in self.pending if end > self.now]
        if len(self.pending) >= PENDING:
            self.now = self.pending[-PENDING]
        self.end = max(self.end, self.now) + seconds
        self.pending.append(self.end)

    def launch_elsewhere(self, seconds):
        """A kernel on a stream for which nobody waits."""
        self.now += 5e-6
        self.other_end = max(self.other_end, self.now) + seconds

    def read_back(self):
        """What ``.item()`` does."""
        if self.capturing is not None:
            self.capturing.invalid = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.now = max(self.now, self.end) + 8e-6

    def fail_if_broken(self):
        if self.broken:
            raise RuntimeError(self.broken)

    # torch and torch.cuda.

    def zeros(self, size, device):
        self.launch(1e-6)

    def is_available(self):
        return self.available

    def is_initialized(self):
        return self.available

    def synchronize(self):
        self.fail_if_broken()
        if self.capturing is not None:
            self.capturing.invalid = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.now = max(self.now + 5e-6, self.end, self.other_end)
        self.log.append("device wait")

    def _sleep(self, cycles):
        self.log.append("idle")
        self.launch(cycles / self.cycles_per_second, host=3e-6)

    def Event(self, enable_timing):
        assert enable_timing
        return Event(self)

    def Stream(self):
        self.streams.append(Stream())
        return self.streams[-1]

    def current_stream(self):
        return self.current

    def set_stream(self, stream):
        self.current = stream

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before


class Stream:
    pass


class Event:
    def __init__(self, gpu):
        self.gpu, self.at = gpu, None

    def record(self):
        self.gpu.now += 1e-6
        self.gpu.fail_if_broken()
        self.at = max(self.gpu.end, self.gpu.now)

    def query(self):
        self.gpu.now += 1e-6
        return self.gpu.now >= self.at

    def synchronize(self):
        self.gpu.fail_if_broken()
        self.gpu.now = max(self.gpu.now + 2e-6, self.at)

    def elapsed_time(self, other):
        return (other.at - self.at) * 1e3 * self.gpu.skew


class Graph:
    def __init__(self, gpu):
        self.gpu, self.kernels, self.invalid = gpu, [], False

    def capture_begin(self):
        gpu = self.gpu
        assert gpu.current is not gpu.default, "a capture needs a stream of its own"
        assert gpu.capturing is None
        gpu.capturing = self
        gpu.generator_captured = True

    def capture_end(self):
        gpu = self.gpu
        assert gpu.capturing is self
        gpu.capturing = None
        if self.invalid:  # as in torch, the generator is left believing in the capture
            raise RuntimeError("CUDA error: operation failed due to a previous error in capture")
        gpu.generator_captured = False

    def replay(self):
        gpu = self.gpu
        gpu.now += 10e-6
        gpu.log.append(f"replay {len(self.kernels)}")
        gpu.end = max(gpu.end, gpu.now) + 2e-6 + sum(self.kernels)
