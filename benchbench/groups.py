"""What control groups grant this process: processor time and memory."""

from __future__ import annotations

from dataclasses import dataclass

from benchbench.files import Files, processors, whole

_GROUPS = "sys/fs/cgroup"
_UNLIMITED = 1 << 60
"""Version 1 writes no limit as a number near 2^63."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The tightest limits of the control groups that hold this process."""

    readable: bool = False
    quota: float | None = None
    """Processors' worth of time; None without a limit."""
    period: float = 0.1
    """Seconds after which the quota is granted anew."""
    periods: int | None = None
    throttled: int | None = None
    """Periods with a quota so far, and those in which it was used up."""
    cpus: tuple[int, ...] = ()
    """Logical processors that the groups allow; empty where they do not say."""
    memory: int | None = None
    memory_used: int | None = None
    """Bytes, without files in cache that can be dropped; None without a limit."""


def quota(limit: str) -> float | None:
    """Processors' worth of time in ``QUOTA PERIOD`` (``max 100000``, ``-1 100000``: no limit)."""
    try:
        granted, period = (float(part) for part in limit.split())
    except ValueError:
        return None
    return granted / period if granted > 0 and period > 0 else None


def limits(files: Files) -> Limits:
    """Read version 2 or version 1, in this process's group and those around it."""
    cpu, memory = _folders(files, "cpu"), _folders(files, "memory")
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    sets = [
        files.text(f"{folder}/{name}") for folder in _folders(files, "cpuset") for name in names
    ]
    cpus = next((found for text in sets if (found := processors(text))), ())
    if not cpu and not memory:
        return Limits(cpus=cpus)
    quotas = []
    for folder in cpu:
        text = files.text(f"{folder}/cpu.max") or " ".join(
            files.text(f"{folder}/cpu.cfs_{part}_us") for part in ("quota", "period")
        )
        granted = quota(text)
        if granted is not None:
            quotas.append((granted, float(text.split()[1]) / 1e6, folder))
    granted, period, where = min(quotas, default=(None, 0.1, ""))
    times = files.fields(f"{where}/cpu.stat") if where else {}
    sizes = []
    for folder in memory:
        limit = files.number(f"{folder}/memory.max")
        limit = files.number(f"{folder}/memory.limit_in_bytes") if limit is None else limit
        if limit is not None and limit < _UNLIMITED:
            used = files.number(f"{folder}/memory.current")
            used = files.number(f"{folder}/memory.usage_in_bytes") if used is None else used
            stat = files.fields(f"{folder}/memory.stat")
            # Files that nobody has touched for a while are dropped before anything is refused.
            cache = whole(stat.get("total_inactive_file", stat.get("inactive_file")))
            used = max(0, (used or 0) - (cache or 0))
            sizes.append((limit - used, limit, used))
    _, limit, used = min(sizes, default=(0, None, None))
    return Limits(
        readable=True,
        cpus=cpus,
        quota=granted,
        period=period,
        periods=whole(times.get("nr_periods")),
        throttled=whole(times.get("nr_throttled")),
        memory=limit,
        memory_used=used,
    )


def _folders(files: Files, controller: str) -> list[str]:
    """Folders of this process's group for a controller and of all groups around it."""
    unified = files.exists(f"{_GROUPS}/cgroup.controllers")
    base, inside = (_GROUPS, "/") if unified else ("", "/")
    for line in files.text("proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            base, inside = f"{_GROUPS}/{controller}", path
            break
        if not controllers and unified:
            inside = path
    if not base:
        base = f"{_GROUPS}/{controller}"
    # A container sees its own group as the root of the mount, whatever the path says.
    steps = [part for part in inside.split("/") if part not in ("", "..")]
    folders = ["/".join([base, *steps[:count]]) for count in range(len(steps), -1, -1)]
    return [folder for folder in folders if files.exists(folder)]
