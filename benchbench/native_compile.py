"""Run a recipe: ninja, its log, and an error that says what to do."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchbench.errors import NativeError
from benchbench.native_recipe import Recipe

MEND = "then run `benchbench build`"
_MEMORY_PER_JOB = 1.5 * 2**30
"""Bytes. A unit with torch's headers takes 1.3 GiB in g++ 12."""
_KEEP_OBJECTS = 30 * 24 * 3600.0
"""Seconds that objects of other builds are kept, for going back and forth between revisions."""


def compile_library(
    plan: Recipe, target: Path, work: Path, *, journal: Path | None = None, verbose: bool = False
) -> float:
    """Compile ``plan`` into ``target`` and write what it is beside it (``.json``).

    Args:
        plan: what to compile.
        target: the library; it appears whole or not at all.
        work: folder of objects; those that fit are reused. The caller guards it with a lock.
        journal: where the compiler's output goes; beside the target when left out.
        verbose: print the compiler's commands and output as they come.

    Returns:
        Seconds that it took.

    Raises:
        NativeError: with the compiler's first errors and the path of the whole log.
    """
    started = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = work / f"{target.name}.{plan.key}"
    (work / "build.ninja").write_text(plan.ninja(partial))
    command = [*_ninja(), "-C", str(work), "-j", str(jobs())]
    journal = journal or target.with_suffix(".log")
    output = _run([*command, "-v"] if verbose else command, echo=verbose)
    journal.write_text("".join(output.lines))
    if output.code != 0:
        raise NativeError(_complaint(output.lines, journal))
    seconds = time.monotonic() - started
    stamp = {**plan.facts, "fits": plan.fits, "toolchain": plan.toolchain, "seconds": seconds}
    target.with_suffix(".json").write_text(json.dumps(stamp, indent=1))
    # Linked in the folder of objects, so this may cross file systems: move, then rename.
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.move(partial, beside)
    beside.replace(target)
    _prune(work, {unit.object for unit in plan.units})
    return seconds


def jobs() -> int:
    """How many units are compiled at once: ``MAX_JOBS``, or what processors and memory allow."""
    asked = os.environ.get("MAX_JOBS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, min(processors, int(_memory() / _MEMORY_PER_JOB)))


class _Output:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.code = 0


def _run(command: list[str], *, echo: bool) -> _Output:
    output = _Output()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                output.lines.append(line)
                if echo:
                    print(line, end="", file=sys.stderr, flush=True)
        except BaseException:
            process.terminate()  # ninja ends its compilers
            raise
    output.code = process.returncode
    return output


def _complaint(lines: list[str], journal: Path) -> str:
    errors = [line.strip() for line in lines if "error" in line.lower()]
    # Without a compiler's error (it was killed, the disk is full) the end of the log says most.
    first = "; ".join(errors[:3] or [line.strip() for line in lines[-3:]])
    return (
        f"the fused kernels do not compile here: {first}. The whole log is {journal}. "
        "Mend what it says or choose another compiler with CXX, then run `benchbench build`"
    )


def _ninja() -> list[str]:
    spec = importlib.util.find_spec("ninja")
    if spec is not None and spec.origin:
        import ninja

        binary = Path(ninja.BIN_DIR) / "ninja"
        if binary.exists():
            return [str(binary)]
    found = shutil.which("ninja") or shutil.which("ninja-build")
    if found:
        return [found]
    raise NativeError(
        "the fused kernels cannot be built: ninja is not installed; "
        f"run `pip install ninja`, {MEND}"
    )


def _memory() -> float:
    """Bytes that are free for compilers, or plenty when the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return float("inf")


def _prune(work: Path, used: set[str]) -> None:
    limit = time.time() - _KEEP_OBJECTS
    for file in work.glob("*.o"):
        if file.name not in used and file.stat().st_mtime < limit:
            file.unlink(missing_ok=True)
