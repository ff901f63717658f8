"""Works for about two seconds and watches what becomes of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchbench.files import Files, whole
from benchbench.groups import limits
from benchbench.resources import physical_cpus

SPIN = Path(__file__).with_name("spin.py")
CORES = 4
"""At most so many cores are looked at, one after another."""
ALONE, COPYING, TOGETHER = 0.25, 0.4, 0.4
"""Seconds of work: on each core, of copying, and on two cores at once."""
START = 0.3
"""Seconds in which two processes are certainly up."""
PATIENCE = 20.0
BUSIEST, BUSY = 3, 0.05
"""So many other processes are named, each with at least this share of a processor."""

Record = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Core:
    """A processor while it did the same work again and again."""

    cpu: int
    """-1 where processes cannot be pinned."""
    middle: float
    """Median time of the work in seconds."""
    jitter: float
    """(90th percentile - 10th) / median of the work's time."""
    share: float
    """Share of the time that the work got of the processor."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What became of the work, and what else happened meanwhile. None: it cannot be told."""

    seconds: float
    cores: tuple[Core, ...] = ()
    together: float | None = None
    """Rate of two cores at once over that of both alone: 1 where they share nothing."""
    copying: Core | None = None
    """A core while it copied memory that no cache holds."""
    reading: float | None = None
    """Seconds that one reading of the clock takes."""
    others: float | None = None
    """Processors' worth of time that others used."""
    busiest: tuple[tuple[str, float], ...] = ()
    """Other processes that used most, with their share of a processor."""
    stolen: float | None = None
    """Share of processor time that the hypervisor took."""
    throttled: int | None = None
    """Periods in which the control group's quota was used up."""
    swapped: int | None = None
    """Pages swapped in or out."""
    hot: int | None = None
    """How often cores were slowed for heat."""


def probe(files: Files) -> Probe:
    """Look at cores, at two of them at once, and at the clock.

    What cannot be started or measured is left out.
    """
    before = _counters(files)
    cpus = physical_cpus(CORES) or (-1,)
    alone = [(cpu, record) for cpu in cpus if (record := _spin(cpu, ALONE))]
    copies = _spin(cpus[-1], COPYING, "copy")
    together = _together(alone)
    reading = clock_reading()
    after = _counters(files)
    return Probe(
        seconds=after.moment - before.moment,
        cores=tuple(_core(cpu, record) for cpu, record in alone),
        together=together,
        copying=_core(cpus[-1], copies) if copies else None,
        reading=reading,
        others=_others(before, after),
        busiest=_busiest(before, after),
        stolen=_stolen(before, after),
        throttled=_grown(before.throttled, after.throttled),
        swapped=_grown(before.swapped, after.swapped),
        hot=_grown(before.hot, after.hot),
    )


def clock_reading(readings: int = 20000) -> float:
    """Seconds that one reading of ``perf_counter_ns`` takes, the interpreter's part included."""
    now = time.perf_counter_ns
    start = now()
    for _ in range(readings):
        now()
    return 1e-9 * (now() - start) / readings


def told(question: Callable[[], T]) -> T | None:
    """An answer of the operating system, None where it gives none."""
    try:
        return question()
    except (OSError, RuntimeError, AttributeError, NotImplementedError):
        return None


def slowed_for_heat(files: Files) -> int | None:
    """Sum of the cores' counters of slowing down for heat since boot."""
    pattern = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"
    known = [n for path in files.find(pattern) if (n := files.number(path)) is not None]
    return sum(known) if known else None


def _command(cpu: int, begin: float, seconds: float, work: str = "count") -> list[str]:
    return [sys.executable, "-I", "-S", str(SPIN), work, str(cpu), repr(begin), str(seconds)]


def _spin(cpu: int, seconds: float, work: str = "count") -> Record | None:
    """One process's record, or None where it could not work."""
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        command = _command(cpu, 0.0, seconds, work)
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
        record: Record = json.loads(done.stdout)
        return record
    return None


def _core(cpu: int, record: Record) -> Core:
    times = record["times"]
    middle = statistics.median(times)
    tenths = statistics.quantiles(times, n=10) if len(times) > 1 else [middle] * 9
    return Core(
        cpu=cpu,
        middle=middle,
        jitter=(tenths[8] - tenths[0]) / middle,
        share=min(1.0, record["share"]),
    )


def _rate(record: Record) -> float:
    return len(record["times"]) / float(record["seconds"])


def _together(alone: Sequence[tuple[int, Record]]) -> float | None:
    if len(alone) < 2:
        return None
    pair = alone[-2:]
    begin = time.monotonic() + START
    running: list[subprocess.Popen[bytes]] = []
    try:
        for cpu, _ in pair:
            command = _command(cpu, begin, TOGETHER)
            running.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            )
        records = [json.loads(one.communicate(timeout=PATIENCE)[0]) for one in running]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    finally:
        for one in running:
            one.kill()
            one.communicate()
    return sum(map(_rate, records)) / sum(_rate(record) for _, record in pair)


@dataclass(frozen=True, kw_only=True)
class _Counters:
    """Counters at one moment; the difference of two belongs to what happened in between."""

    moment: float
    own: float
    """Seconds of processor time of this process and of its children that have ended."""
    busy: float | None
    """Seconds of processor time of all processes, and with idle and stolen time."""
    total: float
    stolen: float | None
    processes: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    """Name and seconds of each process that can be seen."""
    throttled: int | None
    swapped: int | None
    hot: int | None


def _counters(files: Files) -> _Counters:
    import psutil

    times, own = told(psutil.cpu_times), os.times()
    parts = [getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")]
    stolen = getattr(times, "steal", None)
    vm = files.fields("proc/vmstat")
    pages = [whole(vm.get(name)) for name in ("pswpin", "pswpout")]
    processes = {}
    for one in told(lambda: list(psutil.process_iter(["name", "cpu_times"]))) or ():
        used = one.info["cpu_times"]
        if used is not None:
            processes[one.pid] = (str(one.info["name"]), used.user + used.system)
    return _Counters(
        moment=time.monotonic(),
        own=own.user + own.system + own.children_user + own.children_system,
        busy=None if times is None else sum(parts),
        total=sum(parts) + sum(getattr(times, n, 0.0) for n in ("idle", "iowait", "steal")),
        stolen=stolen,
        processes=processes,
        throttled=limits(files).throttled,
        swapped=None if None in pages else sum(n or 0 for n in pages),
        hot=slowed_for_heat(files),
    )


def _others(before: _Counters, after: _Counters) -> float | None:
    if before.busy is None or after.busy is None:
        return None
    used = after.busy - before.busy - (after.own - before.own)
    return max(0.0, used / (after.moment - before.moment))


def _stolen(before: _Counters, after: _Counters) -> float | None:
    total = after.total - before.total
    if before.stolen is None or after.stolen is None or total <= 0:
        return None
    return max(0.0, (after.stolen - before.stolen) / total)


def _busiest(before: _Counters, after: _Counters) -> tuple[tuple[str, float], ...]:
    seconds = after.moment - before.moment
    shares = [
        (f"{name} ({pid})", (used - before.processes[pid][1]) / seconds)
        for pid, (name, used) in after.processes.items()
        if pid in before.processes and pid != os.getpid()
    ]
    shares.sort(key=lambda item: -item[1])
    return tuple(item for item in shares[:BUSIEST] if item[1] >= BUSY)


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)
