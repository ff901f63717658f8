"""Keep the catalogue's description on disk, so that ``list`` answers without loading plugins.

A description is good as long as nothing changed that it was made from: the Python environment
(directories of ``sys.path``), the entry points, the plugins' own files, the compiler and device
that availability depends on. All of it goes into the key; a stale file is simply never found.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchbench import __version__
from benchbench.plugins import LoaderOptions, find

_LIMIT = 2000
"""Files of one plugin package that are looked at; more than any plugin has."""


def cache_directory() -> Path:
    """``BENCHBENCH_CACHE``, or ``benchbench`` in the user's cache directory."""
    chosen = os.environ.get("BENCHBENCH_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "benchbench"


def read(options: LoaderOptions) -> dict[str, Any] | None:
    """The description for this environment, or None when it has to be made anew."""
    try:
        text = _path(options).read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def write(options: LoaderOptions, description: dict[str, Any]) -> None:
    """Remember a description; a cache that cannot be written is not an error."""
    path = _path(options)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed, so that another process never reads half of it.
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            json.dump(description, file)
        Path(file.name).replace(path)


def _path(options: LoaderOptions) -> Path:
    digest = hashlib.blake2b(digest_size=16)
    for fact in _facts(options):
        digest.update(fact.encode())
        digest.update(b"\0")
    return cache_directory() / "catalogue" / f"{digest.hexdigest()}.json"


def _facts(options: LoaderOptions) -> Iterator[str]:
    yield f"{__version__} {sys.version} {sys.prefix} {options}"
    for name in ("CUDA_VISIBLE_DEVICES", "BENCHBENCH_BUILD", "CXX", "CUDA_HOME"):
        yield f"{name}={os.environ.get(name)}"
    yield str(shutil.which(os.environ.get("CXX") or "c++"))
    yield str(Path("/dev/nvidia0").exists())
    for part in sys.path:
        # Installing or removing any package changes the time of its directory.
        yield f"{part} {_stamp(Path(part))}" if part else ""
    packages = {"benchbench"}
    for found in find(options):
        yield f"{found.name} {found.provider} {found.target}"
        if found.provider.file:
            yield _stamp(Path(found.provider.file))
        else:
            packages.add(found.target.split(":")[0].split(".")[0])
    for package in sorted(packages):
        yield from _package_facts(package)


def _package_facts(package: str) -> Iterator[str]:
    # The top-level name only: finding a submodule would import its parents.
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        yield f"{package} missing"
        return
    if spec.origin and spec.submodule_search_locations is None:
        yield _stamp(Path(spec.origin))
    for location in spec.submodule_search_locations or ():
        for count, file in enumerate(sorted(Path(location).rglob("*.py"))):
            if count >= _LIMIT:
                break
            yield f"{file} {_stamp(file)}"


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_mtime_ns} {status.st_size}"
