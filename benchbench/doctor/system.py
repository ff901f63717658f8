"""Rules about the clock, addresses, pages, the allocator and the environment's variables."""

from __future__ import annotations

from benchbench import machine as described
from benchbench.doctor.findings import Found, Rule, good, noisy, unknown
from benchbench.doctor.place import Machine

SLOW_CLOCK = 500e-9
"""Seconds that a reading of the clock may take, Python's part included."""
_CLOCK = "sys/devices/system/clocksource/clocksource0"
_PAGES = "sys/kernel/mm/transparent_hugepage"

SLOWING = {
    "CUDA_LAUNCH_BLOCKING": "every launch waits for its kernel",
    "GOMP_SPINCOUNT": "threads wait in another way than by default",
    "KMP_BLOCKTIME": "threads wait in another way than by default",
    "MALLOC_CHECK_": "glibc checks its heap",
    "MALLOC_PERTURB_": "glibc fills every block",
    "MKL_VERBOSE": "each call is printed",
    "ONEDNN_VERBOSE": "each call is printed",
    "PYTHONDEVMODE": "Python's debug allocator",
    "PYTHONMALLOC": "another allocator of Python",
    "PYTHONTRACEMALLOC": "each allocation is recorded",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "each output is allocated by the driver",
    "TORCH_SHOW_DISPATCH_TRACE": "each call is printed",
}
"""Variables that workers inherit, and what they do."""

_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")


def clock(machine: Machine) -> Found:
    """Whether reading the clock is cheap."""
    source = machine.files.text(f"{_CLOCK}/current_clocksource")
    reading = machine.probe.reading if machine.probe else None
    words = [source] if source else []
    if reading is not None:
        words.append(f"{1e9 * reading:.0f} ns to read")
    if not words:
        return unknown(machine.unreadable)
    slow = source in ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")
    if not (slow or (reading is not None and reading > SLOW_CLOCK)):
        return good(", ".join(words))
    if source != "tsc" and "tsc" in machine.files.text(f"{_CLOCK}/available_clocksource").split():
        return noisy(", ".join(words), f"echo tsc | sudo tee /{_CLOCK}/current_clocksource")
    return noisy(", ".join(words), cannot="the kernel offers no faster clock")


def addresses(machine: Machine) -> Found:
    """Whether each process has another layout of memory."""
    level = machine.files.number("proc/sys/kernel/randomize_va_space")
    personality = machine.files.text("proc/self/personality")
    if level is None and not personality:
        return unknown(machine.unreadable)
    # ADDR_NO_RANDOMIZE of personality(2), as `setarch -R` and debuggers set it.
    if personality and int(personality.split()[0], 16) & 0x0040000:
        return noisy("off for this process", cannot="start it without `setarch -R` or debugger")
    if level == 0:
        return noisy("off", "sudo sysctl kernel.randomize_va_space=2")
    return good("on")


def huge_pages(machine: Machine) -> Found:
    """Whether the kernel decides by itself which memory gets huge pages."""
    state = described.chosen(machine.files.text(f"{_PAGES}/enabled"))
    if not state:
        if machine.system == "macOS":
            return good("macOS has none")
        return unknown(machine.unreadable)
    if state != "always":
        return good(state)
    return noisy(state, f"echo madvise | sudo tee /{_PAGES}/enabled")


def allocator(machine: Machine) -> Found:
    """Whether outputs are taken from a heap that is kept."""
    variables = machine.variables
    preload = variables.get("LD_PRELOAD", "")
    name = next((name for name in _ALLOCATORS if name in preload), "")
    if name:
        return good(f"{name}, by LD_PRELOAD")
    from benchbench.engines.local import ALLOCATOR

    own = [name for name, value in ALLOCATOR.items() if variables.get(name, value) != value]
    if "glibc.malloc" in variables.get("GLIBC_TUNABLES", ""):
        own.append("GLIBC_TUNABLES")
    if machine.libc.startswith("glibc"):
        if own:
            return noisy(f"{machine.libc}; set by you: {', '.join(own)}", f"unset {' '.join(own)}")
        return good(f"{machine.libc}; workers keep their heap ({', '.join(ALLOCATOR)})")
    why = "workers can keep the heap of glibc only"
    return unknown(machine.libc or "not glibc", cannot=why)


def slowing(machine: Machine) -> Found:
    """Whether the environment slows code down."""
    found = [name for name in SLOWING if machine.variables.get(name, "") not in ("", "0")]
    if not found:
        return good("none set")
    read = "; ".join(f"{name}: {SLOWING[name]}" for name in found)
    return noisy(read, f"unset {' '.join(found)}")


CLOCK = Rule(
    name="clock",
    reads="`current_clocksource`, and how long a reading takes",
    noisy=f"a reading takes over {1e9 * SLOW_CLOCK:g} ns, or it is hpet, acpi_pm or jiffies",
    effect="Short samples contain more of the clock than of the code.",
    mend="Take the processor's own counter (until the next boot):",
    look=clock,
    host=True,
)
ADDRESSES = Rule(
    name="random addresses",
    reads="`randomize_va_space` and `/proc/self/personality`",
    noisy="they are off",
    effect="All processes share one layout, lucky or not, so more processes do not show its bias.",
    mend="Let each process have a layout of its own:",
    look=addresses,
    host=True,
)
PAGES = Rule(
    name="huge pages",
    reads="`transparent_hugepage/enabled`",
    noisy="`always`",
    effect="Large outputs get huge pages or not by chance of what is free, and move in the "
    "background.",
    mend="Give them to those who ask (until the next boot):",
    look=huge_pages,
    host=True,
)
ALLOCATION = Rule(
    name="allocator",
    reads="the C library, `LD_PRELOAD`, `MALLOC_*` and `GLIBC_TUNABLES`",
    noisy="your variables replace the thresholds that workers set for glibc",
    effect="Each output over 32 MiB is given back and faulted in anew: up to 30 times slower.",
    mend="Leave the thresholds to the workers:",
    look=allocator,
)
VARIABLES = Rule(
    name="variables",
    reads=", ".join(f"`{name}`" for name in SLOWING),
    noisy="any is set, and not to 0",
    effect="Workers inherit them, and what is timed is not what users run.",
    mend="Unset them:",
    look=slowing,
)
