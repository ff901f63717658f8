"""What the operating system saw while a contender was timed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import resource


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Counters at one moment; the difference of two belongs to what ran between them."""

    minor_faults: int = 0
    major_faults: int = 0
    user: float = 0.0
    system: float = 0.0
    switches: int = 0
    preemptions: int = 0
    stolen: int = 0
    ticks: int = 0
    """Clock ticks of all processors, ``stolen`` ones (taken by the hypervisor) among them."""

    def __sub__(self, other: Reading) -> Reading:
        return Reading(**{name: value - getattr(other, name) for name, value in vars(self).items()})

    def __add__(self, other: Reading) -> Reading:
        return Reading(**{name: value + getattr(other, name) for name, value in vars(self).items()})


class Meter:
    """Reads the counters of this process and machine; about 10 us, outside timed regions."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = -1
        with suppress(OSError):
            self._stat = os.open(stat, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def close(self) -> None:
        """Close what it reads from."""
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1

    def read(self) -> Reading:
        """Counters now; zeros where the system has none."""
        if sys.platform == "win32":
            return Reading()
        stolen, ticks = self._machine_ticks()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Reading(
            minor_faults=usage.ru_minflt,
            major_faults=usage.ru_majflt,
            user=usage.ru_utime,
            system=usage.ru_stime,
            switches=usage.ru_nvcsw + usage.ru_nivcsw,
            preemptions=usage.ru_nivcsw,
            stolen=stolen,
            ticks=ticks,
        )

    def _machine_ticks(self) -> tuple[int, int]:
        if self._stat < 0:
            return 0, 0
        with suppress(OSError, ValueError):
            first = os.pread(self._stat, 256, 0).split(b"\n", 1)[0].split()
            # cpu user nice system idle iowait irq softirq steal guest guest_nice; guest time is
            # contained in user time.
            numbers = [int(n) for n in first[1:9]]
            if len(numbers) == 8:
                return numbers[7], sum(numbers)
        return 0, 0


def minor_faults() -> int:
    """Minor page faults of this process so far."""
    if sys.platform == "win32":
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def summarise(total: Reading, calls: int) -> dict[str, float]:
    """The signals of a row: counts per call, times as shares."""
    calls = max(calls, 1)
    busy = total.user + total.system
    return {
        "minor_faults": total.minor_faults / calls,
        "context_switches": total.switches / calls,
        "preemptions": total.preemptions / calls,
        "system": total.system / busy if busy > 0 else 0.0,
        "steal": total.stolen / total.ticks if total.ticks > 0 else 0.0,
    }


FAULT_SECONDS = 0.25e-6
"""What a minor fault costs at the least: a kernel entry and zeroing 4 KiB."""


def notes(signals: Mapping[str, float], seconds_per_call: float) -> tuple[str, ...]:
    """Short words for what a reader should know of a row.

    ``page faults`` when they cost over 2 % of the time, ``stolen time`` over 1 %, ``system time``
    over 10 %, ``preempted`` when other processes took the core more than 100 times a second.
    """
    words = []
    if signals.get("minor_faults", 0.0) * FAULT_SECONDS > 0.02 * seconds_per_call:
        words.append("page faults")
    if signals.get("steal", 0.0) > 0.01:
        words.append("stolen time")
    if signals.get("system", 0.0) > 0.10:
        words.append("system time")
    if signals.get("preemptions", 0.0) > 100 * seconds_per_call:
        words.append("preempted")
    return tuple(words)


class PeakMemory:
    """Growth of this process's resident memory at its highest, while a block runs.

    Freed heap is handed back to the kernel first, so that what the block uses has to become
    resident again and is seen, whoever allocates it: torch, numpy or a contender's own code. None
    where the kernel does not let a process reset its own peak.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._before: int | None = None

    def __enter__(self) -> PeakMemory:
        with suppress(OSError, AttributeError, ValueError):
            import ctypes

            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _status("VmRSS")
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError, ValueError):
            if self._before is not None:
                self.bytes = max(0, _status("VmHWM") - self._before)


class CudaPeakMemory(PeakMemory):
    """Growth of what torch's CUDA allocator holds at its highest, while a block runs."""

    def __enter__(self) -> CudaPeakMemory:
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *exception: object) -> None:
        import torch

        torch.cuda.synchronize()
        if self._before is not None:
            self.bytes = max(0, torch.cuda.max_memory_allocated() - self._before)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}")
