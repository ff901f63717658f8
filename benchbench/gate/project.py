"""The project under test, and its builds: the one that is installed here and the one before."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchbench.errors import UsageError, suggestion
from benchbench.plugins import GROUP, normalised
from benchbench.sides import Side


@dataclass(frozen=True, kw_only=True)
class Project:
    """What is gated."""

    name: str
    """Of the distribution."""
    directory: Path
    """Where its ``pyproject.toml`` is; the working directory when it has none."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build of the project, and how a worker gets at it."""

    side: Side
    text: str
    """For people: ``mypkg 1.2 (3f2c1ab)``."""
    interpreter: str = ""
    path: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a run depends on beside the project: versions of Python, torch and the rest."""


def find_project(name: str | None, directory: Path) -> Project:
    """The distribution called ``name``, or the one whose source is in ``directory`` or above.

    Raises:
        UsageError: no name was given and none is found, or nothing of that name is installed.
    """
    folder = next(
        (d for d in (directory, *directory.parents) if (d / "pyproject.toml").is_file()), None
    )
    found = name or (declared_name(folder) if folder is not None else None)
    if found is None:
        raise UsageError(
            f"no project is found in {directory} or above it (a pyproject.toml that names one), so "
            "there is nothing to gate; give the name of its distribution with --project"
        )
    installed = {normalised(str(d.metadata["Name"])): d for d in metadata.distributions()}
    if normalised(found) not in installed:
        raise UsageError(
            f"the project {found!r} is not installed here, so its contenders cannot be run."
            f"{suggestion(found, installed)} Install it first: pip install {folder or directory}"
        )
    return Project(name=found, directory=folder or directory)


def declared_name(folder: Path) -> str | None:
    """The name that ``pyproject.toml`` or ``setup.cfg`` declares, or None."""
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    try:
        toml: Any = importlib.import_module("tomllib")
        declared: Any = toml.loads(text).get("project", {}).get("name")
    except ImportError:  # Python 3.10
        table = re.search(r"^\[project\]\s*$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
        line = table and re.search(r"^name\s*=\s*[\"']([^\"']+)", table[1], re.MULTILINE)
        declared = line[1] if line else None
    except ValueError as error:
        raise UsageError(f"{folder / 'pyproject.toml'} cannot be read: {error}") from error
    if declared is None and (folder / "setup.cfg").is_file():
        parser = configparser.ConfigParser()
        parser.read(folder / "setup.cfg", encoding="utf-8")
        declared = parser.get("metadata", "name", fallback=None)
    return None if declared is None else str(declared)


def installed_build(project: Project, files: Sequence[str], side: str) -> Build:
    """The build that this environment has."""
    distribution = metadata.distribution(project.name)
    locations = {}
    for name in sorted(top_level_names(distribution)):
        location = _location(name)
        if location is not None:
            locations[name] = location
    commit = git(project.directory, "describe", "--always", "--dirty", "--abbrev=10")
    version = distribution.version
    return Build(
        side=Side(
            name=side,
            version=version,
            distribution=project.name,
            locations=tuple(locations.items()),
            plugins=(*entry_points(distribution), *((Path(f).stem, f) for f in files)),
        ),
        text=f"{project.name} {version}" + (f" ({commit})" if commit else ""),
    )


def entry_points(distribution: metadata.Distribution) -> list[tuple[str, str]]:
    """Name and target of each plugin of a distribution."""
    return [(e.name, e.value) for e in distribution.entry_points if e.group == GROUP]


def top_level_names(distribution: metadata.Distribution) -> set[str]:
    """What a distribution lets people import.

    From its list of files, from ``top_level.txt`` (editable installs of setuptools list nothing
    else) and from its plugins' own entry points.
    """
    names = {target.partition(":")[0].partition(".")[0] for _, target in entry_points(distribution)}
    names |= set((distribution.read_text("top_level.txt") or "").split())
    names |= importable(str(f) for f in distribution.files or ())
    return names


def importable(files: Iterable[str]) -> set[str]:
    """Top-level import names among relative paths of installed files."""
    names = set()
    for file in files:
        first, _, rest = file.partition("/")
        if first in ("..", "bin", "__pycache__") or first.endswith((".dist-info", ".data")):
            continue
        stem, dot, suffix = first.partition(".")
        if not stem.isidentifier() or stem.startswith("__editable__"):
            continue
        if (rest and not dot) or suffix == "py" or suffix.endswith(("so", "pyd")):
            names.add(stem)
    return names


def _location(name: str) -> str | None:
    """Folder of a package or file of a module, found without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        return str(folder)
    return spec.origin


def git(directory: Path, *arguments: str) -> str | None:
    """What git prints, or None when it fails or there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
