"""Rules about which processors this process has, and what it does with them."""

from __future__ import annotations

import math

from benchbench.doctor.findings import Found, Rule, good, noisy, unknown
from benchbench.doctor.place import CPUS, Machine, online
from benchbench.doctor.sharing import MUCH
from benchbench.files import listed, processors


def siblings(machine: Machine) -> Found:
    """Whether two hardware threads share a core."""
    present = online(machine)
    shown = machine.files.find(f"{CPUS}/cpu[0-9]*/topology/thread_siblings_list")
    if not shown:
        return unknown(machine.unreadable)
    shared = [core for core in machine.cores if len(core) > 1]
    count = f"{len(machine.allowed)} processors on {len(machine.cores)} cores"
    if shared:
        return noisy(f"on: {count}", machine.pinned)
    theirs = {
        sibling
        for cpu in machine.allowed
        for sibling in processors(
            machine.files.text(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list")
        )
        if sibling != cpu and sibling in present
    }
    if not theirs:
        return good(f"off, or not shown: {count}")
    read = f"on, one used of each core; the others are {listed(theirs)}"
    if machine.probe is None or (machine.probe.others or 0.0) < MUCH:
        return good(read)
    return noisy(f"{read}, and others are busy", f"echo off | sudo tee /{CPUS}/smt/control")


def kinds(machine: Machine) -> Found:
    """Whether cores are of different strength."""
    levels = machine.sysctl.get("hw.nperflevels", "")
    if levels.isdigit():
        if int(levels) < 2:
            return good("all alike")
        fast = machine.sysctl.get("hw.perflevel0.physicalcpu", "")
        return noisy(
            f"{levels} kinds of core, {fast or 'some'} of them fast",
            f"benchbench run --threads {fast}" if fast else "",
        )
    groups = machine.kinds
    if not groups:
        return unknown(machine.unreadable)
    if len(groups) == 1:
        return good("all alike")
    read = f"{len(groups)} kinds: processors " + " and ".join(listed(group) for group in groups)
    return noisy(read, machine.pinned)


def nodes(machine: Machine) -> Found:
    """Whether memory is nearer to some processors than to others."""
    if machine.system == "macOS":
        return good("one")
    if not machine.nodes:
        return unknown(machine.unreadable)
    if len(machine.nodes) == 1:
        return good("one")
    read = " and ".join(listed(node) for node in machine.nodes)
    return noisy(f"{len(machine.nodes)}: processors {read}", machine.pinned)


def allowed(machine: Machine) -> Found:
    """Which processors this process may use."""
    if not machine.allowed:
        return unknown(machine.unreadable)
    mine, everyone = len(machine.allowed), online(machine)
    of = f" of {len(everyone)}" if everyone else ""
    read = f"{mine}{of}: processor{'s' * (mine > 1)} {listed(machine.allowed)}"
    if mine > 1:
        return good(read)
    if len(everyone) <= 1:
        return noisy(read, cannot="the machine has no other")
    granted = tuple(cpu for cpu in machine.limits.cpus or everyone if cpu in everyone)
    if len(granted) <= 1:
        return noisy(read, cannot="the control group allows no other, ask whoever started it")
    return noisy(read, f"taskset -c {listed(granted)} benchbench run")


def threads(machine: Machine) -> Found:
    """Whether each thread has a core."""
    cores, mine = machine.usable, machine.threads
    others = (machine.probe.others if machine.probe else None) or 0.0
    read = f"{mine} thread{'s' * (mine > 1)} on {cores} core{'s' * (cores > 1)}"
    if mine > cores:
        return noisy(read, f"benchbench run --threads {cores}")
    busy = math.ceil(others - MUCH) if others >= MUCH else 0
    total = max(cores, len(machine.by_core(online(machine))))
    left = max(1, min(cores, total - busy))
    if mine > left:
        return noisy(
            f"{read}, of which others keep {min(busy, cores)} busy",
            f"benchbench run --threads {left}",
        )
    return good(read)


SIBLINGS = Rule(
    name="hyperthreads",
    reads="`thread_siblings_list` of the allowed processors",
    noisy="two of them share a core, or others are busy and may use the other half",
    effect="Two threads on one core are little faster than one, and which meet is chance.",
    mend="Use one processor of each core:",
    look=siblings,
)
KINDS = Rule(
    name="kinds of core",
    reads="`cpu_core` and `cpu_atom`, `cpu_capacity`; `hw.nperflevels` on macOS",
    noisy="there are strong and weak ones",
    effect="A run's speed depends on which kind of core it lands on.",
    mend="Use the strong ones alone:",
    look=kinds,
)
NODES = Rule(
    name="memory nodes",
    reads="`/sys/devices/system/node`",
    noisy="the allowed processors are on more than one",
    effect="Memory on the other node is slower, and where an output lies is chance.",
    mend="Stay on one node:",
    look=nodes,
)
ALLOWED = Rule(
    name="processors",
    reads="the affinity of this process (`taskset`, cpuset, `docker --cpuset-cpus`)",
    noisy="there is only one",
    effect="The harness, the kernel and the timed code take turns on one processor.",
    mend="Allow it more:",
    look=allowed,
)
THREADS = Rule(
    name="threads",
    reads="the threads of a run (`--threads`) against cores, quota and what others use",
    noisy="there are more threads than cores that are free",
    effect="All threads wait for the one that has to share: several times slower, and rarely twice "
    "the same.",
    mend="Use no more threads than free cores:",
    look=threads,
)
