"""The compiled kernels: find the sources, use what is prebuilt, or compile on first use.

Three places, in this order: a library that was built into the installation
(``pip install --no-build-isolation``), one in the cache directory, or a fresh compile into it. The
cache key hashes sources, flags, torch, compiler and architecture, so a library is never used with
anything but what it was made for.

``BENCHBENCH_BUILD=0`` never compiles, ``1`` always compiles anew, ``auto`` (the default) compiles
when nothing fits.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from benchbench.catalog_cache import cache_directory
from benchbench.errors import NativeError
from benchbench.native_recipe import MODULE, Recipe, compiler, recipe, source_root

log = logging.getLogger("benchbench")

MEND = "then run `benchbench build`"
_LOCK_NOTICE = 2.0


@cache
def load() -> ModuleType:
    """The library, compiled if need be; also registers ``torch.ops.benchbench``.

    Raises:
        NativeError: it cannot be built or loaded; the message says how to mend it.
    """
    import torch  # noqa: F401  (its libraries must be loaded before ours)

    found = prebuilt()
    path = found if found is not None and _mode() != "1" else build()
    return _import(path)


def unavailable() -> str | None:
    """Why the kernels cannot be used, or None. Looks at files only; compiles nothing."""
    if prebuilt() is not None:
        return None
    if source_root() is None:
        return "the kernels' sources are not installed; reinstall benchbench"
    if _mode() == "0":
        return "the kernels are not built and BENCHBENCH_BUILD=0 forbids it; unset it, " + MEND
    if compiler() is None:
        return f"no C++ compiler found; install g++ or set CXX, {MEND}"
    return _remembered_failure()


def prebuilt() -> Path | None:
    """A library that fits this environment, from the installation or the cache, or None."""
    plan = _recipe_or_none()
    if plan is None:
        return None
    installed = Path(__file__).parent / f"{MODULE}.so"
    stamp = Path(__file__).parent / f"{MODULE}.json"
    if installed.exists() and stamp.exists():
        try:
            if json.loads(stamp.read_text()).get("key") == plan.key:
                return installed
        except (OSError, ValueError):
            pass
        log.info(
            "%s was built for another torch or from other sources; it is ignored", installed.name
        )
    cached = _library(plan)
    return cached if cached.exists() else None


def build(*, verbose: bool = False, force: bool = False) -> Path:
    """Compile into the cache and return the library's path; nothing to do when it is there.

    Args:
        verbose: log the compiler's commands.
        force: compile even if the library is there or failed to compile before.

    Raises:
        NativeError: there is no compiler, no source, or the compile failed. A failure is
            remembered for these sources and this compiler, and raised again without an attempt.
    """
    from filelock import FileLock, Timeout

    plan = _recipe_or_none()
    if plan is None:
        raise NativeError(f"the fused kernels cannot be built: {unavailable()}")
    target = _library(plan)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.parent / "lock")
    try:
        lock.acquire(timeout=_LOCK_NOTICE)
    except Timeout:
        log.info("waiting for another process that compiles the kernels in %s", target.parent)
        # The lock belongs to a process and dies with it, so this cannot wait on a stale one.
        lock.acquire()
    try:
        fresh = force or (_mode() == "1" and target not in _built_here())
        if target.exists() and not fresh:
            return target
        remembered = _remembered_failure()
        if remembered and not fresh:
            raise NativeError(remembered)
        if _mode() == "0":
            raise NativeError(
                f"the fused kernels are not built for this environment ({target} does not exist) "
                "and BENCHBENCH_BUILD=0 forbids it; unset it, " + MEND
            )
        log.info(
            "compiling the fused kernels (%d units, about a minute, once) into %s",
            len(plan.sources),
            target.parent,
        )
        started = time.monotonic()
        compile_library(plan, target, verbose=verbose)
        _built_here().add(target)
        log.info("compiled the fused kernels in %.0f s", time.monotonic() - started)
        return target
    finally:
        lock.release()


def compile_library(plan: Recipe, target: Path, *, verbose: bool = False) -> None:
    """Compile ``plan`` into ``target`` with ninja; objects stay beside it for the next time.

    Raises:
        NativeError: with the compiler's first errors and the path of the whole log.
    """
    work = target.parent
    work.mkdir(parents=True, exist_ok=True)
    failure = work / "failed.txt"
    failure.unlink(missing_ok=True)
    partial = target.with_suffix(".part")
    (work / "build.ninja").write_text(plan.ninja(partial))
    command = [*_ninja(), "-C", str(work), *(["-v"] if verbose else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (work / "build.log").write_text(done.stdout)
    if verbose:
        log.info("%s", done.stdout)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if "error" in line.lower()]
        first = "; ".join(lines[:3]) or done.stdout[-500:]
        reason = (
            f"the fused kernels do not compile here: {first} (whole log: {work / 'build.log'}; "
            "mend what it says and run `benchbench build`)"
        )
        failure.write_text(reason)
        raise NativeError(reason)
    partial.replace(target)


def streaming_copy() -> Any:
    """A copier with streaming stores when the library is already there, else None."""
    if prebuilt() is None:
        return None
    try:
        return getattr(load(), "streaming_copy", None)
    except NativeError:
        return None


def _mode() -> str:
    mode = os.environ.get("BENCHBENCH_BUILD", "auto").lower()
    return mode if mode in ("0", "1") else "auto"


@cache
def _built_here() -> set[Path]:
    """Libraries that this process has compiled: ``BENCHBENCH_BUILD=1`` compiles once each."""
    return set()


@cache
def _recipe_or_none() -> Recipe | None:
    if source_root() is None or compiler() is None:
        return None
    return recipe()


def _library(plan: Recipe) -> Path:
    return cache_directory() / "native" / plan.key / f"{MODULE}.so"


def _remembered_failure() -> str | None:
    plan = _recipe_or_none()
    if plan is None:
        return None
    failure = _library(plan).parent / "failed.txt"
    return failure.read_text() if failure.exists() else None


def _ninja() -> list[str]:
    beside = Path(sys.executable).with_name("ninja")
    if beside.exists():
        return [str(beside)]
    found = shutil.which("ninja")
    if found:
        return [found]
    raise NativeError("ninja is not installed; run `pip install ninja`, " + MEND)


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise NativeError(f"{path} is no extension module of this Python; run `benchbench build`")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise NativeError(
            f"{path} cannot be loaded: {error}. Delete {path.parent} and run `benchbench build`"
        ) from error
    return module
