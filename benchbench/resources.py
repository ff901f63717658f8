"""What this process may use of the machine: cores and memory, container limits included."""

from __future__ import annotations

import os

from benchbench.files import Files
from benchbench.groups import limits

_FILES = Files()


def allowed_cpus() -> list[int]:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores(files: Files = _FILES) -> int:
    """Physical cores among the allowed processors, at most the quota of the process's control
    groups, at least 1.
    """
    count = len({_core(files, cpu) for cpu in allowed_cpus()})
    quota = limits(files).quota
    return max(1, count if quota is None else min(count, int(quota)))


def physical_cpus(count: int, files: Files = _FILES) -> tuple[int, ...]:
    """One allowed processor of each of ``count`` cores, the last ones first: interrupts and other
    work of the system tend to be on the first. Fewer where there are fewer; none where processes
    cannot be pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return ()
    cores: dict[str, int] = {}
    for cpu in allowed_cpus():
        cores.setdefault(_core(files, cpu), cpu)
    return tuple(sorted(sorted(cores.values())[-count:]))


def available_memory(files: Files = _FILES) -> int:
    """Bytes that can still be used without swapping, at most what the control groups have left."""
    import psutil

    available = int(psutil.virtual_memory().available)
    granted = limits(files)
    if granted.memory is None:
        return available
    return min(available, max(granted.memory - (granted.memory_used or 0), 0))


def _core(files: Files, cpu: int) -> str:
    siblings = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    return files.text(siblings) or str(cpu)
