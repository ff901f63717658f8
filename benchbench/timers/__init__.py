"""Timers take samples; they never own the loop over repetitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchbench.contract import Timer, Workload
from benchbench.errors import UsageError, suggestion
from benchbench.timers.cuda import CudaEventTimer, CudaHostTimer
from benchbench.timers.graph import CudaGraphTimer
from benchbench.timers.instructions import InstructionTimer
from benchbench.timers.wall import WallTimer


def builtin() -> dict[str, Timer]:
    """The timers that come with benchbench, by name, in order of preference."""
    timers: tuple[Timer, ...] = (
        WallTimer(),
        CudaEventTimer(),
        CudaGraphTimer(),
        CudaHostTimer(),
        InstructionTimer(),
    )
    return {timer.name: timer for timer in timers}


def choose(name: str, device: str, timers: Mapping[str, Timer]) -> Timer:
    """The timer called ``name``, or with ``auto`` the first that can time on ``device``.

    Raises:
        UsageError: there is no such timer, or it cannot time on this device.
    """
    if name != "auto":
        if name not in timers:
            raise UsageError(
                f"--timer {name}: there is no such timer.{suggestion(name, timers)} "
                f"Timers: {', '.join(timers)}"
            )
        reason = timers[name].unavailable(device)
        if reason is not None:
            raise UsageError(f"--timer {name} cannot time on {device}: {reason}")
        return timers[name]
    for timer in timers.values():
        if timer.unavailable(device) is None:
            return timer
    raise UsageError(f"no timer can time on {device}: {_reasons(timers.values(), device)}")


def suited(timer: Timer, workload: Workload, asked: str, timers: Mapping[str, Timer]) -> Timer:
    """The timer that can time this workload: ``timer`` itself, nearly always.

    Slowest calls are what somebody waits for, so with ``auto`` they are timed until the device is
    done. A graph replays kernels and not what Python does between them, so it cannot advance a
    state; the event timer takes its place.
    """
    if asked == "auto" and workload.tail and timer.name == CudaEventTimer.name:
        return timers.get(CudaHostTimer.name, timer)
    if workload.stateful and getattr(timer, "replays", False):
        return timers.get(CudaEventTimer.name, timer)
    return timer


def _reasons(timers: Iterable[Timer], device: str) -> str:
    """Why none can, those that share a reason together."""
    names: dict[str | None, list[str]] = {}
    for timer in timers:
        names.setdefault(timer.unavailable(device), []).append(timer.name)
    return "; ".join(f"{', '.join(who)}: {reason}" for reason, who in names.items())
