"""How a worker has to be started so that its instructions can be counted. Parent side."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchbench.contract import Settings
from benchbench.errors import UsageError, suggestion
from benchbench.timers.instructions_callgrind import DIRECTORY, PREFIX, known_machine
from benchbench.timers.instructions_hardware import Hardware

TIMER = "instructions"
ROUTE = "BENCHBENCH_INSTRUCTIONS"
"""Environment variable: ``hardware`` or ``callgrind`` forces a route."""
NOTE = "BENCHBENCH_COUNTER"
"""Environment variable by which a worker learns how it is counted, to say so in its record."""
PROCESSES = 3
"""Fresh processes that suffice where counts hardly differ between them."""
MARGIN = 0.005
"""Differences of counts below 0.5 % are called the same: the heap's state alone makes them in small
operations (docs/measurement.md has the figures)."""
TIMEOUT = 1800.0
"""Seconds for a step under valgrind, where code runs 5 to 1000 times slower."""

Route = Literal["hardware", "callgrind"]

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "BENCHBENCH_ISA": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Environment variables that keep libraries off AVX-512, which valgrind does not know: those too
that look at /proc/cpuinfo or trust their own tables."""
_HINT = " under valgrind, which knows no AVX-512 (compile for x86-64-v3 to count it)"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a worker's command and environment get added, and what ends with it."""

    settings: Settings
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    hint: str = ""
    """What an illegal instruction in the worker most likely means."""

    def close(self) -> None:
        """Remove what the worker's valgrind wrote."""
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)


def launch(settings: Settings, base: Mapping[str, str] | None = None) -> Launch:
    """How to start a worker with these settings; nothing is added for timers of seconds.

    Raises:
        UsageError: instructions are asked for and cannot be counted here.
    """
    if settings.timer != TIMER:
        return Launch(settings=settings)
    base = os.environ if base is None else base
    settings = suited(settings)
    # Order of dictionaries and sets of text follows its hashes, and the work follows the order.
    environment = {"PYTHONHASHSEED": "0", "OMP_WAIT_POLICY": "passive"}
    if route(base) == "hardware":
        environment[NOTE] = "the processor's counter (perf_event_open)"
        return Launch(settings=settings, environment=environment)
    directory = Path(tempfile.mkdtemp(prefix="benchbench-callgrind-"))
    environment[DIRECTORY] = str(directory)
    # A GPU's driver maps more memory than valgrind can follow, and nothing here needs one.
    environment["CUDA_VISIBLE_DEVICES"] = ""
    environment[NOTE] = f"callgrind ({valgrind_version() or 'valgrind'})"
    hint = ""
    if "avx2" in _processor_flags():
        environment.update(narrowed(base))
        environment[NOTE] += ", which knows no AVX-512, so the code for AVX2 (or less) was counted"
        hint = _HINT
    prefix = (
        *_valgrind(),
        "-q",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={directory / PREFIX}.%p",
    )
    return Launch(
        settings=settings,
        prefix=prefix,
        environment=environment,
        directory=directory,
        hint=hint,
    )


def suited(settings: Settings) -> Settings:
    """The settings with which instructions are counted: one thread, no roof, patience.

    Raises:
        UsageError: more than one thread is asked for.
    """
    if settings.timer != TIMER:
        return settings
    if settings.threads > 1:
        raise UsageError(
            f"--timer {TIMER} counts on one thread, not {settings.threads}: threads that wait for "
            "each other spin, and the count would be the scheduler's; leave --threads out"
        )
    timeout = max(settings.timeout, TIMEOUT)
    return replace(settings, threads=1, roof=False, timeout=timeout)


def narrowed(base: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep libraries off AVX-512, unless ``base`` sets something narrower."""
    wide = ("512", "amx", "avx10")
    return {
        name: value
        for name, value in AVX2.items()
        if not base.get(name) or any(word in base[name].lower() for word in wide)
    }


def route(base: Mapping[str, str]) -> Route:
    """The route by which instructions can be counted here, hardware first.

    Raises:
        UsageError: there is none, with the reason of each.
    """
    routes: dict[Route, Callable[[], str | None]] = {
        "hardware": no_hardware,
        "callgrind": no_callgrind,
    }
    forced = base.get(ROUTE, "")
    reasons = []
    for name, reason_of in routes.items():
        if forced in ("", name):
            reason = reason_of()
            if reason is None:
                return name
            reasons.append(f"{name}: {reason}")
    if not reasons:
        raise UsageError(
            f"{ROUTE}={forced}: there is no such route.{suggestion(forced, routes)} "
            f"Routes: {', '.join(routes)}"
        )
    raise UsageError(f"--timer {TIMER} cannot count here: {'; '.join(reasons)}")


def no_hardware() -> str | None:
    """Why the processor's counters cannot be used, or None."""
    counter = Hardware()
    reason = counter.unavailable()
    counter.close()
    return reason


def no_callgrind() -> str | None:
    """Why valgrind cannot be used, or None."""
    if not _valgrind():
        return "valgrind is not installed; `apt install valgrind` (Linux) gets it"
    if not known_machine():
        return f"valgrind cannot be asked from here on {platform.machine()}"
    if valgrind_version() is None:
        return "`valgrind --version` fails; reinstall valgrind"
    return None


def valgrind_version() -> str | None:
    """``valgrind-3.19.0``, or None where it does not run."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [*_valgrind(), "--version"], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()
    return None


def _processor_flags() -> set[str]:
    """What ``/proc/cpuinfo`` of an x86 processor lists; empty elsewhere."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, flags = line.partition(":")
            if name.strip() == "flags":
                return set(flags.split())
    return set()


def _valgrind() -> tuple[str, ...]:
    found = shutil.which("valgrind")
    return (found,) if found else ()
