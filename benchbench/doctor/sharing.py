"""Rules about what is shared with others: processor time, memory, and the limits on both."""

from __future__ import annotations

from contextlib import suppress

from benchbench.doctor.findings import Found, Rule, good, noisy, unknown
from benchbench.doctor.place import Machine, online
from benchbench.doctor.spin import BYTES as COPIED

MUCH = 0.2
"""Processors' worth of time that others may use."""
OF_MANY = 0.02
"""And the share of all processors, where that is more: on many, others rarely meet us."""
STOLEN = 0.01
JITTER, SHARE, APART = 0.05, 0.97, 0.05
COPYING = 0.10
ALONE = 0.9
"""Rate of two cores at once over that of both alone that is still good."""
HALVES = 0.75
"""Rate below which two processors are taken for two threads of one core."""
LEAST = 1 << 30
"""Bytes that should be available."""
GIB = float(1 << 30)


def neighbours(machine: Machine) -> Found:
    """Whether others use the processors."""
    words = []
    others = machine.probe.others if machine.probe else None
    if machine.probe is not None and others is not None:
        names = ", ".join(f"{name} {share:.1f}" for name, share in machine.probe.busiest)
        words.append(f"others use {others:.1f} processors" + (f": {names}" if names else ""))
    waiting = _waiting(machine)
    if machine.load is not None:
        words.append(f"load {machine.load:.1f}")
    if waiting is not None:
        words.append(f"tasks waited {waiting:.0f} % of 10 s")
    if not words:
        return unknown(machine.unreadable)
    much = max(MUCH, OF_MANY * len(online(machine)))
    # A load of 1 may be whoever called us.
    busy = others >= much if others is not None else (machine.load or 0.0) >= 1 + much
    return noisy("; ".join(words)) if busy else good("; ".join(words))


def _waiting(machine: Machine) -> float | None:
    """Percent of the last 10 s in which some task waited for a processor."""
    for line in machine.files.text("proc/pressure/cpu").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "some":
            with suppress(ValueError):
                return float(rest.split()[0].removeprefix("avg10="))
    return None


def stolen(machine: Machine) -> Found:
    """Whether the hypervisor takes processor time away."""
    first = machine.files.text("proc/stat").partition("\n")[0].split()
    share = None
    if len(first) >= 9 and first[0] == "cpu":
        # user nice system idle iowait irq softirq steal; guests' time is contained in user's.
        numbers = [float(text) for text in first[1:9]]
        share = numbers[7] / sum(numbers) if sum(numbers) else None
    now = machine.probe.stolen if machine.probe else None
    if share is None and now is None:
        return unknown(machine.unreadable)
    words = [f"{100 * now:.1f} % now"] if now is not None else []
    words += [f"{100 * share:.1f} % since boot"] if share is not None else []
    worst = now if now is not None else share or 0.0
    read = ", ".join(words)
    if worst < STOLEN:
        return good(read)
    return noisy(read, cannot="only the host can; take another machine, or another hour")


def _unseen() -> Found:
    return unknown("not looked at", "benchbench doctor --spin", mend="Let it work for 2 s:")


def spin(machine: Machine) -> Found:
    """Whether the same work always takes the same time."""
    cores = machine.probe.cores if machine.probe else ()
    if not cores:
        if machine.probe is None:
            return _unseen()
        return unknown("no process could be started")
    jitter = max(cores, key=lambda core: core.jitter)
    share = min(cores, key=lambda core: core.share)
    middles = sorted(core.middle for core in cores)
    apart = middles[-1] / middles[0] - 1
    words = [f"the same work varies by {100 * jitter.jitter:.0f} %{_on(jitter.cpu)}"]
    if share.share < SHARE:
        words.append(f"got {100 * share.share:.0f} % of its time{_on(share.cpu)}")
    if len(cores) > 1:
        words.append(f"{len(cores)} cores are {100 * apart:.0f} % apart")
    bad = jitter.jitter > JITTER or share.share < SHARE or apart > APART
    return noisy("; ".join(words)) if bad else good("; ".join(words))


def _on(cpu: int) -> str:
    return f" on processor {cpu}" if cpu >= 0 else ""


def copying(machine: Machine) -> Found:
    """Whether copying memory always takes the same time."""
    if machine.probe is None:
        return _unseen()
    core = machine.probe.copying
    if core is None:
        return unknown("no process could be started")
    speed = COPIED / core.middle / 1e9
    read = f"copying {COPIED >> 20} MiB varies by {100 * core.jitter:.0f} %; {speed:.1f} GB/s"
    return noisy(read) if core.jitter > COPYING else good(read)


def together(machine: Machine) -> Found:
    """Whether two cores work as fast at once as alone."""
    if machine.probe is None:
        return _unseen()
    rate = machine.probe.together
    if rate is None:
        return unknown("fewer than two cores could be looked at")
    read = f"two cores at once do {100 * rate:.0f} % of what they do alone"
    if rate >= ALONE:
        return good(read)
    if rate < HALVES and (machine.probe.others or 0.0) < MUCH and machine.usable > 1:
        # Nobody else is there, so they are in each other's way. A virtual machine hides that.
        half = f"benchbench run --threads {machine.usable // 2}"
        return noisy(f"{read}: they share one core, it seems", half, mend="Use half of them:")
    return noisy(read)


def quota(machine: Machine) -> Found:
    """Whether a control group stops this process once it has used its time."""
    limits = machine.limits
    if not limits.readable:
        if machine.system != "Linux":
            return good(f"none: {machine.system} has no control groups")
        return unknown(machine.unreadable)
    if limits.quota is None:
        return good("none")
    read = f"{limits.quota:g} processors in each {1000 * limits.period:g} ms"
    if limits.periods:
        read += f"; used up in {100 * (limits.throttled or 0) / limits.periods:.1f} % of periods"
    now = machine.probe.throttled if machine.probe else None
    if now:
        read += f", {now} times while the doctor looked"
    if machine.allowed and len(machine.allowed) <= limits.quota and not now:
        return good(read)
    if limits.quota < 1 or len(machine.cores) < 2:
        return noisy(read, cannot="whoever started the container must grant a whole processor")
    return noisy(read, machine.pinned)


def memory(machine: Machine) -> Found:
    """Whether memory is short."""
    limits = machine.limits
    room, words = [], []
    if machine.memory is not None:
        total, available = machine.memory
        room.append(available)
        words.append(f"{available / GIB:.1f} of {total / GIB:.1f} GiB available")
    if limits.memory is not None:
        left = max(0, limits.memory - (limits.memory_used or 0))
        room.append(left)
        words.append(f"the container may use {left / GIB:.1f} GiB more")
    if not room:
        return unknown(machine.unreadable)
    return noisy("; ".join(words)) if min(room) < LEAST else good("; ".join(words))


def swap(machine: Machine) -> Found:
    """Whether memory is moved to disk and back."""
    moved = machine.probe.swapped if machine.probe else None
    if machine.swap_used is None and moved is None:
        return unknown(machine.unreadable)
    words = []
    if machine.swap_used is not None:
        words.append(f"{machine.swap_used / GIB:.1f} GiB in use" if machine.swap_used else "unused")
    if moved:
        words.append(f"{moved} pages moved while the doctor looked")
    read = "; ".join(words) or "nothing moved"
    return noisy(read, "sudo swapoff -a") if moved else good(read)


NEIGHBOURS = Rule(
    name="neighbours",
    reads="processor time of other processes while the doctor looks; load; `/proc/pressure/cpu`",
    noisy=f"others use {MUCH:g} of a processor, or {100 * OF_MANY:g} % of all where that is more",
    effect="Timed code waits for others and loses its caches to them, now on one side, now on the "
    "other.",
    mend="End them, or wait until they are done.",
    look=neighbours,
)
STEAL = Rule(
    name="steal",
    reads="stolen time in `/proc/stat`, while the doctor looks and since boot",
    noisy=f"{100 * STOLEN:g} % or more",
    effect="The virtual machine stands still while its host runs others, in the middle of samples.",
    mend="",
    look=stolen,
)
SPIN = Rule(
    name="steadiness",
    reads="a fixed piece of work, again and again, 0.25 s on each of up to 4 cores",
    noisy=f"its 10th and 90th percentiles are {100 * JITTER:g} % apart, it gets less than "
    f"{100 * SHARE:g} % of its core, or cores differ by {100 * APART:g} %",
    effect="This much of every sample is not the code's; intervals get as wide.",
    mend="Mend what else is noisy here; if nothing is, take more processes (`--processes`).",
    look=spin,
)
MEMORY_SPEED = Rule(
    name="memory speed",
    reads=f"copies of {COPIED >> 20} MiB on one core for 0.4 s",
    noisy=f"their 10th and 90th percentiles are more than {100 * COPYING:g} % apart",
    effect="What is limited by memory varies as much: most elementwise code with large tensors.",
    mend="End whoever else uses memory; on a shared host only a machine of its own helps.",
    look=copying,
)
TOGETHER = Rule(
    name="two at once",
    reads="the same work on two cores at once, against each alone",
    noisy=f"both together do less than {100 * ALONE:g} % of it",
    effect="Code with several threads is slower than it would be on cores of its own.",
    mend="The cores are hyperthreads, busy or limited: see those lines; else use fewer threads.",
    look=together,
)
QUOTA = Rule(
    name="quota",
    reads="`cpu.max` or `cpu.cfs_quota_us` of this process's control groups, and how often it was "
    "used up",
    noisy="this process may run on more processors than it may use up",
    effect="Once the time is used up all threads stand still until the next period.",
    mend="Stay on as many processors as are granted, then it cannot be used up:",
    look=quota,
)
MEMORY = Rule(
    name="memory",
    reads="available memory, and what the control group has left",
    noisy=f"less than {LEAST / GIB:g} GiB is left",
    effect="The kernel drops caches, swaps, or kills workers.",
    mend="End other programs, or raise the container's limit.",
    look=memory,
)
SWAP = Rule(
    name="swap",
    reads="swap in use, and pages moved while the doctor looks",
    noisy="pages are moved",
    effect="A sample that touches a page on disk waits for the disk.",
    mend="Free memory, then take swap back (needs that much memory):",
    look=swap,
    host=True,
)
