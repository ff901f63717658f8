"""Timers take samples; they never own the loop over repetitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchbench.contract import Timer
from benchbench.errors import UsageError, suggestion
from benchbench.timers.cuda import CudaEventTimer
from benchbench.timers.instructions import InstructionTimer
from benchbench.timers.wall import WallTimer


def builtin() -> dict[str, Timer]:
    """The timers that come with benchbench, by name, in order of preference."""
    timers: tuple[Timer, ...] = (WallTimer(), CudaEventTimer(), InstructionTimer())
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


def _reasons(timers: Iterable[Timer], device: str) -> str:
    return "; ".join(f"{timer.name}: {timer.unavailable(device)}" for timer in timers)
