"""The compiled kernels: use what is built, or compile them on first use.

Three places, in this order: a library that was built into the installation
(``pip install --no-build-isolation``), one in the cache directory, or a fresh compile into it. A
library is used only where it fits: same sources, torch, Python and processor. The cache's key
hashes compiler, flags, CUDA and architectures too.

``BENCHBENCH_BUILD`` decides what happens when nothing fits: ``auto`` (the default) compiles where
there is a compiler; ``0`` never compiles, the kernels are unavailable; ``1`` insists, so that a
kernel which cannot be built is a failure and no unavailable contender (for CI).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from benchbench.catalog_cache import cache_directory
from benchbench.errors import NativeError, UsageError
from benchbench.native_compile import MEND, compile_library
from benchbench.native_recipe import (
    MODULE,
    Recipe,
    compiler,
    fits,
    recipe,
    source_root,
    torch_version,
)

log = logging.getLogger("benchbench")

_LOCK_NOTICE = 2.0
"""Seconds of waiting for another process before saying so."""
_NO_COMPILER = f"no C++ compiler found; install g++ (apt install g++) or set CXX, {MEND}"
_FORBIDDEN = f"the kernels are not built and BENCHBENCH_BUILD=0 forbids it; unset it, {MEND}"
_NO_SOURCES = "the kernels' sources are not installed; reinstall benchbench"


@cache
def load() -> ModuleType:
    """The library, compiled if need be; also registers ``torch.ops.benchbench``.

    Raises:
        NativeError: it cannot be built or loaded; the message says how to mend it.
    """
    import torch  # noqa: F401  (our library finds torch's by name among those already loaded)

    path = prebuilt() or build()
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise NativeError(f"{path} is no extension module of this Python; run `benchbench build`")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise NativeError(
            f"the fused kernels in {path} cannot be loaded: {error}. "
            "Run `benchbench build --force` to compile them anew"
        ) from error
    return module


def unavailable() -> str | None:
    """Why the kernels cannot be used, or None. Looks at files only; compiles nothing."""
    if mode() == "1" or prebuilt() is not None:
        return None
    return _obstacle() or _remembered_failure()


def unavailable_on_cuda() -> str | None:
    """Why the CUDA kernels cannot be used, or None. Loads a library that is there; compiles none.

    The library may have been built where there was no nvcc, and then has those for the CPU only.
    """
    reason = unavailable()
    if reason is not None:
        return reason
    if prebuilt() is None:
        found = str(_recipe().facts["cuda"])
        return None if not found.startswith("none: ") else f"no CUDA kernels: {found[6:]}"
    try:
        if load().build_info()["cuda"]:
            return None
    except NativeError as error:
        return str(error)
    return (
        "the kernels were built without CUDA; `pip install 'benchbench[cuda]'` for nvcc, then "
        "`benchbench build --force`"
    )


def prebuilt() -> Path | None:
    """A library that fits this environment, from the installation or the cache, or None."""
    wanted = _fits()
    if wanted is None:
        return None
    for installed in sorted(_package().glob(f"{MODULE}*.so")):
        reason = _mismatch(installed, wanted)
        if reason is None:
            return installed
        _tell_once(f"{installed} is ignored: {reason}")
    # Any compiler's library will do; without one there is no exact key to ask for.
    for cached in sorted((cache_directory() / "native").glob(f"{wanted}-*/{MODULE}.so")):
        return cached
    return None


def build(*, verbose: bool = False, force: bool = False) -> Path:
    """Compile into the cache and return the library's path; nothing to do when it is there.

    Args:
        verbose: print the compiler's commands and output.
        force: compile even if the library is there or failed to compile before.

    Raises:
        NativeError: there is no compiler, no source, or the compile failed. A failure is
            remembered for these sources and this compiler, and raised again without an attempt.
    """
    from filelock import FileLock, Timeout

    obstacle = _obstacle()
    if obstacle is not None:
        raise NativeError(f"the fused kernels cannot be built: {obstacle}")
    plan = _recipe()
    target = _library(plan)
    work = cache_directory() / "native" / "objects"
    try:
        work.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NativeError(
            f"the fused kernels cannot be built: {error}; set BENCHBENCH_CACHE to a folder that "
            f"can be written, {MEND}"
        ) from error
    # The lock belongs to a process and dies with it, so nobody waits on a stale one.
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=_LOCK_NOTICE)
    except Timeout:
        log.info("waiting for another process that compiles the fused kernels in %s", work)
        lock.acquire()
    try:
        if target.exists() and not force:
            return target
        remembered = _remembered_failure()
        if remembered is not None and not force:
            raise NativeError(remembered)
        if plan.facts["cuda"].startswith("none: "):
            log.info("only the kernels for CPU are compiled: %s", plan.facts["cuda"][6:])
        failure = target.with_name("failed.txt")
        failure.unlink(missing_ok=True)
        log.info(
            "compiling the fused kernels (%d units, %s, once) into %s",
            len(plan.units),
            "some minutes with CUDA" if plan.facts["cuda"].startswith("nvcc") else "about a minute",
            target.parent,
        )
        try:
            seconds = compile_library(plan, target, work, verbose=verbose)
        except NativeError as error:
            failure.write_text(str(error))
            raise
        log.info("compiled the fused kernels in %.0f s", seconds)
        return target
    finally:
        lock.release()


def streaming_copy() -> Any:
    """A copier with streaming stores when the library is already there, else None."""
    if prebuilt() is None:
        return None
    try:
        return getattr(load(), "streaming_copy", None)
    except NativeError:
        return None


def mode() -> str:
    """``BENCHBENCH_BUILD``: ``0``, ``1`` or ``auto``.

    Raises:
        UsageError: it is something else.
    """
    chosen = os.environ.get("BENCHBENCH_BUILD") or "auto"
    if chosen not in ("0", "1", "auto"):
        raise UsageError(f"BENCHBENCH_BUILD is {chosen!r}; it must be 0, 1 or auto")
    return chosen


def _obstacle() -> str | None:
    """Why nothing can be compiled here, or None."""
    if source_root() is None:
        return _NO_SOURCES
    if mode() == "0":
        return _FORBIDDEN
    if compiler() is None:
        return _NO_COMPILER
    return None


def _package() -> Path:
    return Path(__file__).parent


@cache
def _fits() -> str | None:
    root = source_root()
    try:
        return None if root is None else fits(root)
    except FileNotFoundError:
        return None


@cache
def _recipe() -> Recipe:
    try:
        return recipe(source_root())
    except FileNotFoundError as error:
        raise NativeError(f"the fused kernels cannot be built: {error}") from error


def _library(plan: Recipe) -> Path:
    return cache_directory() / "native" / plan.key / f"{MODULE}.so"


def _mismatch(library: Path, wanted: str) -> str | None:
    """Why a library of the installation does not fit, or None."""
    try:
        stamp = json.loads((_package() / f"{MODULE}.json").read_text())
    except (OSError, ValueError):
        return f"{MODULE}.json, which says what it was built for, is missing beside it"
    if stamp.get("fits") == wanted:
        return None
    if stamp.get("torch") != torch_version():
        return f"it was built for torch {stamp.get('torch')}, this is {torch_version()}"
    return "it was built from other sources or for another Python"


def _remembered_failure() -> str | None:
    failure = _library(_recipe()).with_name("failed.txt")
    return failure.read_text() if failure.exists() else None


@cache
def _tell_once(text: str) -> None:
    log.info(text)
