"""Machines for the doctor: trees of files, and a probe that found nothing."""

from __future__ import annotations

from dataclasses import replace

from benchbench.doctor.place import Machine
from benchbench.doctor.probe import Core, Probe
from benchbench.doctor.rules import diagnose
from benchbench.files import Files, listed

CPU = "sys/devices/system/cpu"
GROUPS = "sys/fs/cgroup"
GIB = 1 << 30
QUIET = Probe(
    seconds=2.0,
    cores=(Core(cpu=0, middle=1e-3, jitter=0.01, share=1.0),) * 2,
    together=1.0,
    copying=Core(cpu=0, middle=5e-3, jitter=0.01, share=1.0),
    reading=50e-9,
    others=0.0,
    stolen=0.0,
    throttled=0,
    swapped=0,
    hot=0,
)


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Files(root)


def cores(count, threads=1):
    """A processor of ``count`` cores; the second threads are numbered after all the first."""
    tree = {f"{CPU}/online": f"0-{count * threads - 1}"}
    for core in range(count):
        siblings = listed(core + count * n for n in range(threads))
        for n in range(threads):
            tree[f"{CPU}/cpu{core + count * n}/topology/thread_siblings_list"] = siblings
    return tree


def says(machine):
    return {one.name: one for one in diagnose(machine).findings}


def a_laptop(root):
    """Four cores with two threads each and four weak ones; on battery, warm, powersave."""
    tree = cores(4, 2) | {
        f"{CPU}/online": "0-11",
        "sys/devices/cpu_core/cpus": "0-7",
        "sys/devices/cpu_atom/cpus": "8-11",
        f"{CPU}/intel_pstate/no_turbo": "0",
        "proc/cpuinfo": "flags : fpu sse avx2",
        "proc/stat": "cpu 1000 0 500 9000 10 0 5 0 0 0",
        "proc/pressure/cpu": "some avg10=12.50 avg60=1.0 avg300=0 total=1",
        "proc/sys/kernel/randomize_va_space": "2",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "sys/firmware/acpi/platform_profile": "balanced",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet",
        "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm",
        "sys/class/thermal/thermal_zone0/type": "BAT0",
        "sys/class/thermal/thermal_zone0/temp": "99000",
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone1/temp": "95000",
        "sys/class/thermal/thermal_zone1/trip_point_0_type": "critical",
        "sys/class/thermal/thermal_zone1/trip_point_0_temp": "100000",
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "7",
        "sys/devices/system/node/node0/cpulist": "0-11",
        f"{GROUPS}/cgroup.controllers": "cpu memory",
        "proc/self/cgroup": "0::/user.slice/session-2.scope",
        f"{GROUPS}/user.slice/session-2.scope/cpu.max": "max 100000",
    }
    for cpu in range(8, 12):
        tree[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = str(cpu)
    for cpu in range(12):
        tree[f"{CPU}/cpufreq/policy{cpu}/scaling_governor"] = "powersave"
        tree[f"{CPU}/cpufreq/policy{cpu}/scaling_driver"] = "intel_pstate"
    return Machine(
        files=plant(root, tree),
        allowed=tuple(range(12)),
        threads=8,
        libc="glibc 2.39",
        load=3.5,
        plugged=False,
        memory=(16 * GIB, 9 * GIB),
        swap_used=0,
        probe=replace(QUIET, others=1.4, busiest=(("firefox (812)", 1.1),), reading=1.2e-6),
    )
