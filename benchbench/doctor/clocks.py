"""Rules about how fast the processor runs, and who decides that."""

from __future__ import annotations

from benchbench import machine as described
from benchbench.doctor.findings import Found, Rule, good, noisy, unknown
from benchbench.doctor.place import CPUS, Machine
from benchbench.doctor.probe import slowed_for_heat

_BROKEN = 150.0
"""Degrees above which a sensor is taken to be broken."""
_NEAR = 10.0
"""Degrees below the critical point that are too near."""
_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_SENSORS = ("x86_pkg", "cpu", "soc", "core", "tctl")


def _hidden(machine: Machine) -> Found:
    """Clocks that the kernel does not show."""
    if machine.system == "macOS":
        why = "macOS sets the clocks itself"
    elif machine.guest:
        why = "the virtual machine's host sets the clocks"
    else:
        why = f"{machine.system} shows no clock settings (firmware or kernel keep them)"
    return unknown(machine.unreadable, cannot=why)


def governor(machine: Machine) -> Found:
    """Whether the kernel is told to keep clocks up."""
    folders = machine.files.find(f"{CPUS}/cpufreq/policy*") or machine.files.find(
        f"{CPUS}/cpu[0-9]*/cpufreq"
    )
    names = {machine.files.text(f"{folder}/scaling_governor") for folder in folders} - {""}
    drivers = {machine.files.text(f"{folder}/scaling_driver") for folder in folders} - {""}
    if not names:
        return _hidden(machine)
    read = ", ".join(sorted(names)) + (f" ({', '.join(sorted(drivers))})" if drivers else "")
    if names == {"performance"}:
        return good(read)
    return noisy(read, f"echo performance | sudo tee /{CPUS}/cpu[0-9]*/cpufreq/scaling_governor")


def boost(machine: Machine) -> Found:
    """Whether clocks may rise above the nominal one."""
    state = described.turbo(machine.files.root / CPUS)
    if not state:
        return _hidden(machine)
    if state == "off":
        return good("off")
    if machine.files.exists(f"{CPUS}/intel_pstate/no_turbo"):
        return noisy("on", f"echo 1 | sudo tee /{CPUS}/intel_pstate/no_turbo")
    if machine.files.exists(f"{CPUS}/cpufreq/boost"):
        return noisy("on", f"echo 0 | sudo tee /{CPUS}/cpufreq/boost")
    return noisy("on", f"echo 0 | sudo tee /{CPUS}/cpufreq/policy*/boost")


def heat(machine: Machine) -> Found:
    """Whether cores were slowed for heat, or are about to be."""
    degrees, critical = _hottest(machine)
    count = slowed_for_heat(machine.files)
    now = machine.probe.hot if machine.probe else None
    words = []
    if degrees is not None:
        words.append(f"{degrees:.0f} C" + (f" of {critical:.0f} C" if critical else ""))
    if count is not None:
        words.append(f"cores were slowed {count} times since boot")
    if now:
        words.append(f"{now} times while the doctor looked")
    if not words:
        why = "its host cools it" if machine.guest else f"{machine.system} shows no sensor"
        return unknown(machine.unreadable, cannot=why)
    near = degrees is not None and critical is not None and degrees > critical - _NEAR
    return noisy("; ".join(words)) if now or near else good("; ".join(words))


def _hottest(machine: Machine) -> tuple[float | None, float | None]:
    """Degrees Celsius of the hottest sensor, a processor's if possible, and its critical point."""
    chips = [_chip(machine, path) for path in machine.files.find("sys/class/hwmon/hwmon*")]
    known = [chip for chip in chips if chip is not None]
    if known:
        return max(known, key=lambda chip: chip[0])
    zones = []
    for path in machine.files.find("sys/class/thermal/thermal_zone*"):
        milli = machine.files.number(f"{path}/temp")
        kind = machine.files.text(f"{path}/type").lower()
        if milli is not None and 0 < milli / 1000 < _BROKEN:
            # Other zones are batteries or disks, with limits of their own.
            zones.append((any(mark in kind for mark in _SENSORS), milli / 1000, path))
    if not zones:
        return None, None
    _, degrees, path = max(zones)
    points = [
        machine.files.number(point.replace("_type", "_temp"))
        for point in machine.files.find(f"{path}/trip_point_*_type")
        if machine.files.text(point) in ("critical", "hot")
    ]
    return degrees, min((point / 1000 for point in points if point and point > 0), default=None)


def _chip(machine: Machine, path: str) -> tuple[float, float | None] | None:
    """The hottest sensor of a processor's chip and its critical point; None for other chips."""
    if machine.files.text(f"{path}/name") not in _CHIPS:
        return None
    found = []
    for sensor in machine.files.find(f"{path}/temp*_input"):
        milli = machine.files.number(sensor)
        critical = machine.files.number(sensor.replace("_input", "_crit"))
        if milli is not None and 0 < milli / 1000 < _BROKEN:
            found.append((milli / 1000, critical / 1000 if critical else None))
    return max(found, key=lambda one: one[0], default=None)


def power(machine: Machine) -> Found:
    """Whether it runs on a battery or saves power."""
    profile = machine.files.text("sys/firmware/acpi/platform_profile")
    words = [f"profile {profile}"] if profile else []
    if machine.plugged is False:
        return noisy("; ".join(["on battery", *words]))
    if machine.plugged:
        words.insert(0, "on mains")
    if profile in ("low-power", "quiet", "cool"):
        command = "echo performance | sudo tee /sys/firmware/acpi/platform_profile"
        return noisy("; ".join(words), command)
    if machine.sysctl.get("lowpowermode") == "1":
        return noisy("; ".join([*words, "low power mode"]), "sudo pmset -a lowpowermode 0")
    if not words and not machine.files.exists("sys/class/power_supply"):
        return unknown(machine.unreadable)
    return good("; ".join(words) or "no battery")


def virtual(machine: Machine) -> Found:
    """Whether somebody else's machine runs this one."""
    if machine.guest:
        name = "" if machine.guest == "unnamed" else f" ({machine.guest})"
        return unknown(
            f"one{name}; who else is on its host cannot be seen",
            cannot="only a machine of its own or a dedicated host tells",
        )
    if machine.files.text("proc/cpuinfo") or machine.sysctl.get("kern.hv_vmm_present") == "0":
        return good("none")
    return unknown(machine.unreadable)


GOVERNOR = Rule(
    name="governor",
    reads="each processor's `scaling_governor`",
    noisy="any is other than `performance`",
    effect="Clocks rise only once there is work: first samples are slow, short ones vary.",
    mend="Let clocks stay up (until the next boot):",
    look=governor,
    host=True,
)
BOOST = Rule(
    name="boost",
    reads="`intel_pstate/no_turbo` or `cpufreq/boost`",
    noisy="it is on",
    effect="The clock depends on heat and on how many cores work: a hot case slows the next.",
    mend="Hold the nominal clock (all gets slower, and steadier; until the next boot):",
    look=boost,
    host=True,
)
HEAT = Rule(
    name="heat",
    reads="the processor's sensors, and `core_throttle_count`",
    noisy="a core was slowed while the doctor looked, or 10 C are left to the critical point",
    effect="Cores slow down once they are hot, so later cases lose.",
    mend="Let it cool, free its fans, or use fewer threads.",
    look=heat,
)
POWER = Rule(
    name="power",
    reads="the battery, `platform_profile`, and low power mode on macOS",
    noisy="it runs on battery or saves power",
    effect="Clocks are held down, and change when the charger comes or goes.",
    mend="Plug it in and choose the profile for performance.",
    look=power,
)
VIRTUAL = Rule(
    name="virtual machine",
    reads="the processor's flag `hypervisor` and the mainboard's name",
    noisy="never: what the host does is unknown from inside",
    effect="Other guests share its caches, memory and clocks, and come and go by the hour.",
    mend="",
    look=virtual,
)
