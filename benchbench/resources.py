"""What this process may use of the machine: cores and memory, container limits included."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")


def allowed_cpus() -> list[int]:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores(cpus: Path = _CPUS, cgroup: Path = _CGROUP) -> int:
    """Physical cores among the allowed processors, at most the container's quota, at least 1."""
    cores = set()
    for cpu in allowed_cpus():
        siblings = cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.add(_read(siblings) or str(cpu))
    quota = _cpu_quota(cgroup)
    count = len(cores)
    return max(1, count if quota is None else min(count, int(quota)))


def physical_cpus(count: int, cpus: Path = _CPUS) -> tuple[int, ...]:
    """One allowed processor of each of ``count`` cores, the last ones first: interrupts and other
    work of the system tend to be on the first. Fewer where there are fewer; none where processes
    cannot be pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return ()
    cores: dict[str, int] = {}
    for cpu in allowed_cpus():
        siblings = cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.setdefault(_read(siblings) or str(cpu), cpu)
    return tuple(sorted(sorted(cores.values())[-count:]))


def _cpu_quota(cgroup: Path) -> float | None:
    """Processors' worth of time that the container grants, or None without a limit."""
    version_1 = (_read(cgroup / "cpu" / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
    return quota(_read(cgroup / "cpu.max") or " ".join(version_1))


def quota(limit: str) -> float | None:
    """Processors' worth of time in ``QUOTA PERIOD`` (``max 100000``, ``-1 100000``: no limit)."""
    try:
        granted, period = (float(part) for part in limit.split())
    except ValueError:
        return None
    return granted / period if granted > 0 and period > 0 else None


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that can still be used without swapping, at most what the container has left."""
    import psutil

    available = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),  # version 2
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            left = int(_read(cgroup / limit)) - int(_read(cgroup / used))
        except ValueError:
            continue
        available = min(available, max(left, 0))
    return available


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
