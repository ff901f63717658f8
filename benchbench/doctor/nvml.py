"""Asks NVIDIA's driver about its GPUs, by the module ``pynvml`` of nvidia-ml-py."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from benchbench.files import Files

T = TypeVar("T")

_SLOW = {
    "SwPowerCap": "its power limit",
    "HwSlowdown": "its hardware (heat or power)",
    "SyncBoost": "the slowest GPU of its group",
    "SwThermalSlowdown": "heat",
    "HwThermalSlowdown": "heat",
    "HwPowerBrakeSlowdown": "the power supply",
}
_BITS = {
    "GpuIdle": 0x1,
    "ApplicationsClocksSetting": 0x2,
    "SwPowerCap": 0x4,
    "HwSlowdown": 0x8,
    "SyncBoost": 0x10,
    "SwThermalSlowdown": 0x20,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}
"""NVML's reasons for the clock; the module is about to rename them, their numbers stay."""
_SM, _CHIP, _SLOWDOWN = 1, 0, 1
"""NVML's numbers of the clock, the sensor and the threshold."""


def slowing(reasons: int) -> tuple[str, ...]:
    """What holds clocks down, from NVML's mask of reasons for the clock."""
    return tuple(dict.fromkeys(why for name, why in _SLOW.items() if reasons & _BITS[name]))


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as its driver describes it; None: the driver does not say."""

    index: int
    name: str
    clock: int | None = None
    highest: int | None = None
    """MHz: now, and the most that it can."""
    idle: bool | None = None
    held: bool | None = None
    """Whether somebody set its clocks."""
    slowed: tuple[str, ...] | None = None
    """What holds its clocks down now."""
    limit: float | None = None
    default_limit: float | None = None
    """Watts."""
    temperature: int | None = None
    slows_at: int | None = None
    """Degrees Celsius."""
    persistent: bool | None = None
    split: bool | None = None
    """Whether it is split into instances (MIG)."""
    others: tuple[int, ...] | None = None
    """Processes that compute on it, without this one."""


@dataclass(frozen=True, kw_only=True)
class Graphics:
    """The machine's NVIDIA GPUs."""

    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""
    """Why they cannot be asked, empty where there are none."""
    command: str = ""


def graphics(files: Files, nvml: Any = None) -> Graphics:
    """Ask about every GPU.

    Args:
        files: where ``/dev/nvidia0`` and ``/proc/driver/nvidia`` show that there is one.
        nvml: the module ``pynvml``, or None where it is not installed.
    """
    present = files.exists("proc/driver/nvidia/version") or files.exists("dev/nvidia0")
    if nvml is None:
        if not present:
            return Graphics()
        return Graphics(
            trouble="there is one, but `nvidia-ml-py` is not installed",
            command="pip install nvidia-ml-py",
        )
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Graphics(trouble=f"the driver does not answer: {error}") if present else Graphics()
    try:
        return Graphics(gpus=tuple(_gpu(nvml, n) for n in range(nvml.nvmlDeviceGetCount())))
    except nvml.NVMLError as error:
        return Graphics(trouble=f"the driver does not answer: {error}")
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(question: Callable[[], T]) -> T | None:
        """An answer, or None where this GPU, driver or module knows none."""
        try:
            return question()
        except (nvml.NVMLError, AttributeError):
            return None

    name = ask(lambda: nvml.nvmlDeviceGetName(handle)) or "GPU"
    # Drivers before 535 know the old name only, and the module will lose it.
    reasons = ask(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if reasons is None:
        reasons = ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    split = ask(lambda: nvml.nvmlDeviceGetMigMode(handle))
    processes = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))

    def because(reason: str) -> bool:
        return bool((reasons or 0) & _BITS[reason])

    def watts(question: str) -> float | None:
        milli = ask(lambda: getattr(nvml, question)(handle))
        return None if milli is None else milli / 1000

    known = reasons is not None
    persistent = ask(lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
    return Gpu(
        index=index,
        name=name.decode() if isinstance(name, bytes) else str(name),
        clock=ask(lambda: int(nvml.nvmlDeviceGetClockInfo(handle, _SM))),
        highest=ask(lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, _SM))),
        idle=because("GpuIdle") if known else None,
        held=because("ApplicationsClocksSetting") if known else None,
        slowed=slowing(reasons or 0) if known else None,
        limit=watts("nvmlDeviceGetPowerManagementLimit"),
        default_limit=watts("nvmlDeviceGetPowerManagementDefaultLimit"),
        temperature=ask(lambda: int(nvml.nvmlDeviceGetTemperature(handle, _CHIP))),
        slows_at=ask(lambda: int(nvml.nvmlDeviceGetTemperatureThreshold(handle, _SLOWDOWN))),
        persistent=None if persistent is None else bool(persistent),
        split=None if split is None else bool(split[0]),
        others=None
        if processes is None
        else tuple(sorted(one.pid for one in processes if one.pid != os.getpid())),
    )
