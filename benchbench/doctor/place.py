"""The machine that is looked at: its files and what only a running process can tell."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchbench import machine as described
from benchbench.doctor.nvml import Graphics, graphics
from benchbench.doctor.probe import Probe, probe, told
from benchbench.files import Files, listed, processors
from benchbench.groups import Limits, limits

CPUS = "sys/devices/system/cpu"
_BOARDS = ("KVM", "QEMU", "VMware", "VirtualBox", "Virtual Machine", "HVM domU", "Bochs")
_SYSCTL = ("hw.nperflevels", "hw.perflevel0.physicalcpu", "hw.physicalcpu", "kern.hv_vmm_present")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where code is to be timed. Tests give it another tree of files."""

    files: Files
    system: str = "Linux"
    cpu: str = ""
    """The processor's name."""
    variables: Mapping[str, str] = field(default_factory=dict)
    allowed: tuple[int, ...] = ()
    """Logical processors that this process may use."""
    threads: int = 1
    """Threads of the runs to come."""
    libc: str = ""
    load: float | None = None
    """Runnable threads on average over the last minute."""
    plugged: bool | None = None
    """None where there is no battery, or nobody knows."""
    memory: tuple[int, int] | None = None
    """Bytes in all, and available."""
    swap_used: int | None = None
    sysctl: Mapping[str, str] = field(default_factory=dict)
    """What macOS says of itself, `lowpowermode` of `pmset -g` among it."""
    graphics: Graphics = field(default_factory=Graphics)
    probe: Probe | None = None

    @cached_property
    def cores(self) -> tuple[tuple[int, ...], ...]:
        """Allowed processors by physical core."""
        return self.by_core(self.allowed)

    def by_core(self, cpus: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Processors by physical core."""
        cores: dict[str, list[int]] = {}
        for cpu in cpus:
            siblings = self.files.text(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list")
            cores.setdefault(siblings or str(cpu), []).append(cpu)
        return tuple(tuple(group) for group in cores.values())

    @cached_property
    def kinds(self) -> tuple[tuple[int, ...], ...]:
        """Allowed processors by strength, strongest first: Intel's two kinds, or the capacity."""
        strong = processors(self.files.text("sys/devices/cpu_core/cpus"))
        weak = processors(self.files.text("sys/devices/cpu_atom/cpus"))
        if strong and weak:
            groups = [tuple(c for c in self.allowed if c in kind) for kind in (strong, weak)]
        elif not self.files.exists(CPUS):
            groups = []
        else:
            found = {c: self.files.number(f"{CPUS}/cpu{c}/cpu_capacity") for c in self.allowed}
            levels = sorted({c or 0 for c in found.values()}, reverse=True)
            groups = [tuple(c for c in found if (found[c] or 0) == level) for level in levels]
        return tuple(group for group in groups if group)

    @cached_property
    def nodes(self) -> tuple[tuple[int, ...], ...]:
        """Allowed processors by memory node."""
        groups = []
        for path in self.files.find("sys/devices/system/node/node[0-9]*"):
            cpus = processors(self.files.text(f"{path}/cpulist"))
            groups.append(tuple(cpu for cpu in cpus if cpu in self.allowed))
        return tuple(group for group in groups if group)

    @cached_property
    def best(self) -> tuple[int, ...]:
        """The most processors that share nothing: one of each core, all of one kind and node, and
        no more than the quota. The last cores, since the system's own work is on the first.
        """
        strong = self.kinds[0] if self.kinds else self.allowed
        nodes = self.nodes or (self.allowed,)
        each = [
            [core[0] for core in self.by_core(tuple(c for c in node if c in strong))]
            for node in nodes
        ]
        widest = max(each, key=len)
        cpus = sorted(widest)
        quota = self.limits.quota
        return tuple(cpus if quota is None else cpus[-max(1, int(quota)) :])

    @property
    def pinned(self) -> str:
        """The command that keeps benchbench on :attr:`best`."""
        return f"taskset -c {listed(self.best)} benchbench run"

    @cached_property
    def usable(self) -> int:
        """Physical cores that may be used, at most the control group's quota, at least 1."""
        quota = self.limits.quota
        cores = len(self.cores) or int(self.sysctl.get("hw.physicalcpu") or 1)
        return max(1, cores if quota is None else min(cores, int(quota)))

    @cached_property
    def limits(self) -> Limits:
        """What control groups grant."""
        return limits(self.files)

    @cached_property
    def guest(self) -> str:
        """Kind of virtual machine, empty where there is none."""
        if self.sysctl.get("kern.hv_vmm_present") == "1":
            return "macOS"
        kind = described.hypervisor(self.files.root)
        folder = "sys/class/dmi/id"
        board = " ".join(self.files.text(f"{folder}/{n}") for n in ("sys_vendor", "product_name"))
        known = next((mark for mark in _BOARDS if mark.lower() in board.lower()), "")
        return known or ("unnamed" if kind == "yes" else kind)

    @cached_property
    def container(self) -> str:
        """Kind of container, empty where there is none that can be recognised."""
        if self.variables.get("KUBERNETES_SERVICE_HOST"):
            return "Kubernetes"
        if self.files.exists("run/.containerenv"):
            return "Podman"
        if self.files.exists(".dockerenv"):
            return "Docker"
        groups = self.files.text("proc/1/cgroup")
        marks = {"kubepods": "Kubernetes", "docker": "Docker", "libpod": "Podman", "lxc": "LXC"}
        found = (name for mark, name in marks.items() if mark in groups)
        return next(found, self.variables.get("container", ""))

    @property
    def unreadable(self) -> str:
        """Why a file of ``/proc`` or ``/sys`` is missing."""
        if self.system != "Linux":
            return f"{self.system} does not say"
        return "the virtual machine does not say" if self.guest else "the kernel does not say"


def here(threads: int = 0, *, spin: bool = True, files: Files | None = None) -> Machine:
    """This machine; ``spin`` also works on it for about two seconds.

    What the system refuses to tell is left out.
    """
    import psutil

    from benchbench.resources import allowed_cpus, usable_cores

    files = files or Files()
    memory = told(psutil.virtual_memory)
    battery = told(getattr(psutil, "sensors_battery", lambda: None))
    system = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    return Machine(
        files=files,
        system=system,
        cpu=described.cpu_model(),
        variables=os.environ,
        allowed=tuple(allowed_cpus()),
        threads=threads or usable_cores(),
        libc=" ".join(platform.libc_ver()).strip(),
        load=told(lambda: os.getloadavg()[0]),
        plugged=None if battery is None else battery.power_plugged,
        memory=(int(memory.total), int(memory.available)) if memory else None,
        swap_used=told(_swap_used),
        sysctl=_sysctl() if system == "macOS" else {},
        graphics=graphics(files, _nvml()),
        probe=probe(files) if spin else None,
    )


def online(machine: Machine) -> tuple[int, ...]:
    """Logical processors of the whole machine, as far as the kernel says."""
    return processors(machine.files.text(f"{CPUS}/online"))


def _sysctl() -> dict[str, str]:
    found = {name: described.output(["sysctl", "-n", name]) for name in _SYSCTL}
    for line in described.output(["pmset", "-g"]).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "lowpowermode":
            found["lowpowermode"] = words[1]
    return found


def _swap_used() -> int | None:
    import warnings

    import psutil

    with warnings.catch_warnings():
        # It complains where the traffic cannot be read, which is not asked here.
        warnings.simplefilter("ignore", RuntimeWarning)
        return int(psutil.swap_memory().used)


def _nvml() -> Any:
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return None
    return pynvml
