"""Rules about NVIDIA GPUs. Each but the first is silent where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchbench.doctor.findings import Found, Rule, good, noisy, unknown
from benchbench.doctor.nvml import Gpu
from benchbench.doctor.place import Machine
from benchbench.files import listed

_NEAR = 5
"""Degrees below the point at which a GPU slows down that are too near."""


def _each(gpus: Sequence[Gpu], describe: Callable[[Gpu], str]) -> str:
    """What is said of all GPUs, those that are alike together."""
    words: dict[str, list[int]] = {}
    for gpu in gpus:
        words.setdefault(describe(gpu), []).append(gpu.index)
    if len(words) == 1:
        return next(iter(words))
    return "; ".join(f"GPU {listed(indices)}: {text}" for text, indices in words.items())


def _option(gpus: Sequence[Gpu]) -> str:
    return "-i " + ",".join(str(gpu.index) for gpu in gpus)


def present(machine: Machine) -> Found:
    """Whether GPUs can be asked."""
    graphics = machine.graphics
    if graphics.gpus:
        names: dict[str, int] = {}
        for gpu in graphics.gpus:
            names[gpu.name] = names.get(gpu.name, 0) + 1
        return good(", ".join(f"{count} x {name}" for name, count in names.items()))
    if graphics.trouble:
        why = "" if graphics.command else "the driver must work first (`nvidia-smi` says more)"
        return unknown(graphics.trouble, graphics.command, cannot=why)
    return good("no NVIDIA GPU")


def clocks(machine: Machine) -> Found | None:
    """Whether clocks are held."""
    gpus = machine.graphics.gpus
    if not gpus:
        return None

    def describe(gpu: Gpu) -> str:
        now = "clock not told" if gpu.clock is None else f"{gpu.clock} MHz"
        most = "" if gpu.highest is None else f" of {gpu.highest} MHz"
        return now + most + (", idle" if gpu.idle else "") + (", held" if gpu.held else "")

    read = _each(gpus, describe)
    free = [gpu for gpu in gpus if not _held(gpu)]
    if not free:
        return good(read)
    middle = min(gpu.highest or 0 for gpu in free) * 3 // 4
    command = f"sudo nvidia-smi {_option(free)} -lgc {middle}" if middle else ""
    if all(gpu.idle or gpu.idle is None for gpu in free):
        return unknown(f"{read}; an idle GPU does not tell whether its clock is locked", command)
    return noisy(read, command)


def _held(gpu: Gpu) -> bool:
    """Somebody set its clocks, or it works below its highest and nothing slows it."""
    if gpu.held:
        return True
    below = gpu.clock is not None and gpu.highest is not None and gpu.clock < gpu.highest
    return gpu.idle is False and gpu.slowed == () and below


def slowed(machine: Machine) -> Found | None:
    """Whether something holds clocks down."""
    gpus = machine.graphics.gpus
    if not gpus:
        return None
    if all(gpu.slowed is None for gpu in gpus):
        return unknown("the driver does not tell what slows it", cannot="this GPU cannot be asked")

    def describe(gpu: Gpu) -> str:
        return "nothing" if not gpu.slowed else "slowed by " + ", ".join(gpu.slowed)

    read = _each(gpus, describe)
    return noisy(read) if any(gpu.slowed for gpu in gpus) else good(read)


def heat(machine: Machine) -> Found | None:
    """Whether a GPU is nearly too hot."""
    gpus = machine.graphics.gpus
    if not gpus:
        return None
    if all(gpu.temperature is None for gpu in gpus):
        return unknown("temperature not told", cannot="this GPU cannot be asked")

    def describe(gpu: Gpu) -> str:
        now = "not told" if gpu.temperature is None else f"{gpu.temperature} C"
        return now + ("" if gpu.slows_at is None else f", slows down at {gpu.slows_at} C")

    near = any(
        gpu.temperature is not None
        and gpu.slows_at is not None
        and gpu.temperature > gpu.slows_at - _NEAR
        for gpu in gpus
    )
    read = _each(gpus, describe)
    return noisy(read) if near else good(read)


def power(machine: Machine) -> Found | None:
    """Whether the power limit was lowered."""
    gpus = machine.graphics.gpus
    if not gpus:
        return None
    if all(gpu.limit is None for gpu in gpus):
        return unknown("power limit not told", cannot="this GPU cannot be asked")

    def describe(gpu: Gpu) -> str:
        if gpu.limit is None:
            return "not told"
        default = gpu.default_limit
        return f"{gpu.limit:.0f} W" + ("" if default is None else f", {default:.0f} W by default")

    lower = [g for g in gpus if g.limit and g.default_limit and g.limit < g.default_limit]
    read = _each(gpus, describe)
    if not lower:
        return good(read)
    return noisy(read, f"sudo nvidia-smi {_option(lower)} -pl {lower[0].default_limit:.0f}")


def persistence(machine: Machine) -> Found | None:
    """Whether the driver stays loaded between processes."""
    gpus = machine.graphics.gpus
    if not gpus:
        return None
    if machine.system != "Linux" or all(gpu.persistent is None for gpu in gpus):
        return unknown("not told", cannot="this driver has no persistence mode")
    read = _each(gpus, lambda gpu: {True: "on", False: "off", None: "not told"}[gpu.persistent])
    off = [gpu for gpu in gpus if gpu.persistent is False]
    return noisy(read, f"sudo nvidia-smi {_option(off)} -pm 1") if off else good(read)


def sharing(machine: Machine) -> Found | None:
    """Whether others compute on a GPU."""
    gpus = machine.graphics.gpus
    if not gpus:
        return None
    if all(gpu.others is None for gpu in gpus):
        return unknown("processes not told", cannot="this GPU cannot be asked")

    def describe(gpu: Gpu) -> str:
        if gpu.others is None:
            return "not told"
        return "nobody" if not gpu.others else f"processes {', '.join(map(str, gpu.others))}"

    read = _each(gpus, describe)
    if not any(gpu.others for gpu in gpus):
        return good(read)
    free = [gpu for gpu in gpus if gpu.others == ()]
    command = f"CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={free[0].index}" if free else ""
    return noisy(read, f"{command} benchbench run" if command else "")


def instances(machine: Machine) -> Found | None:
    """Whether a GPU is split."""
    gpus = machine.graphics.gpus
    if not gpus:
        return None
    if all(gpu.split is None for gpu in gpus):
        return good("cannot be split")
    split = [gpu for gpu in gpus if gpu.split]
    read = _each(gpus, lambda gpu: "split" if gpu.split else "whole")
    return noisy(read, f"sudo nvidia-smi {_option(split)} -mig 0") if split else good(read)


PRESENT = Rule(
    name="gpu",
    reads="the driver, by nvidia-ml-py",
    noisy="never; unknown where there is a GPU that cannot be asked",
    effect="What the lines below would tell stays unknown.",
    mend="Install what asks the driver:",
    look=present,
)
CLOCKS = Rule(
    name="gpu clocks",
    reads="the clock now, the highest, and whether somebody set them",
    noisy="a GPU at work has its highest clock or is slowed, so nobody holds it",
    effect="The clock follows heat and power: kernels are slow after an idle gap and "
    "after hot ones.",
    mend="Lock it where it can stay (all gets slower, and steadier; `nvidia-smi -rgc` ends it):",
    look=clocks,
    host=True,
)
SLOWED = Rule(
    name="gpu slowed by",
    reads="the reasons for lower clocks",
    noisy="heat, power or another GPU holds clocks down now",
    effect="Kernels are slower by as much as clocks are, and not by the same for every kernel.",
    mend="Lock a lower clock, cool it, or end what else draws power.",
    look=slowed,
)
HEAT = Rule(
    name="gpu heat",
    reads="its temperature and where it slows down",
    noisy=f"{_NEAR} C or less are left",
    effect="It will slow down within the run, so later cases lose.",
    mend="Let it cool, or lock a lower clock.",
    look=heat,
)
POWER = Rule(
    name="gpu power",
    reads="the power limit and its default",
    noisy="it is lower than by default",
    effect="Heavy kernels reach the limit and lose clock, light ones do not: ratios change.",
    mend="Set the default again:",
    look=power,
    host=True,
)
PERSISTENCE = Rule(
    name="gpu persistence",
    reads="persistence mode",
    noisy="it is off",
    effect="The driver unloads between processes: each starts slowly, and locked clocks are lost.",
    mend="Keep the driver loaded:",
    look=persistence,
    host=True,
)
SHARING = Rule(
    name="gpu neighbours",
    reads="other processes that compute on it",
    noisy="there are any",
    effect="Kernels take turns with theirs and share caches, memory and power.",
    mend="End them, or take a GPU that is free.",
    look=sharing,
)
INSTANCES = Rule(
    name="gpu instances",
    reads="MIG mode",
    noisy="it is split",
    effect="An instance has a part of the processors and shares power and clocks with the others.",
    mend="Take the whole GPU (ends everybody's work on it):",
    look=instances,
    host=True,
)
