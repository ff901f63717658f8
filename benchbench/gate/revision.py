"""The project as it was at a git revision, installed into a folder of its own and kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from benchbench.errors import BenchbenchError, UsageError
from benchbench.gate.project import (
    Build,
    Project,
    entry_points,
    git,
    importable,
)
from benchbench.plugins import normalised
from benchbench.sides import BASELINE, Side

PATIENCE = 1800.0
"""Seconds that an installation may take; compiled extensions need many."""


def revision_build(project: Project, revision: str, files: Sequence[str], cache: Path) -> Build:
    """The project at ``revision``, installed without its dependencies.

    Dependencies are those of this environment: a gate compares the project, not its neighbours.
    A one-file plugin inside the repository is taken from the revision too, if it was there.

    Raises:
        UsageError: there is no repository, or no such revision.
        BenchbenchError: the revision cannot be installed; the end of pip's output is in the text.
    """
    root = git(project.directory, "rev-parse", "--show-toplevel")
    if root is None:
        raise UsageError(
            f"{project.directory} is in no git repository, so it has no revision {revision!r}; "
            "give --baseline-python or a stored run instead"
        )
    commit = git(project.directory, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise UsageError(
            f"the repository {root} has no revision {revision!r}. `git log --oneline` lists them; "
            "a shallow clone of a CI job has to fetch it first (fetch-depth: 0)"
        )
    tree = _install(project, Path(root), commit, cache)
    site = tree / "site"
    distribution = _distribution(site, project.name)
    named = sorted(importable(str(p.relative_to(site)) for p in site.rglob("*") if p.is_file()))
    plugins = entry_points(distribution)
    for file in files:
        plugins.append((Path(file).stem, _file_at(Path(file), Path(root), tree / "source")))
    return Build(
        side=Side(
            name=BASELINE,
            version=distribution.version,
            distribution=project.name,
            locations=tuple((name, _location(site, name)) for name in named),
            plugins=tuple(plugins),
        ),
        text=f"{project.name} {distribution.version} ({revision} = {commit[:10]})",
        path=(str(site),),
    )


def _install(project: Project, root: Path, commit: str, cache: Path) -> Path:
    """Folder with ``source`` and ``site`` of a commit, made once."""
    from filelock import FileLock

    tag = f"{sys.implementation.cache_tag}-torch{_version('torch')}"
    where = project.directory.resolve().relative_to(root.resolve())
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{project.name}-{where}-{commit[:16]}-{tag}")
    folder = cache / "revisions" / name
    done = folder / "complete.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if done.is_file():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        source = folder / "source"
        with tempfile.TemporaryDirectory(prefix="benchbench-revision-") as scratch:
            # A clone, not an archive: packages that take their version from git need one.
            clone = Path(scratch) / "source"
            _run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone)])
            _run(["git", "-C", str(clone), "checkout", "--quiet", "--detach", commit])
            _pip(clone / where, folder / "site", project.name, commit)
            shutil.rmtree(clone / ".git", ignore_errors=True)
            shutil.copytree(clone, source, symlinks=True)
        done.write_text(json.dumps({"project": project.name, "commit": commit}))
    return folder


def _pip(source: Path, site: Path, name: str, commit: str) -> None:
    """Install without dependencies; in this environment's build tools where they are all here."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-compile", "--target", str(site)]
    attempts = [["--no-build-isolation"], []] if _builds_here(source) else [[]]
    # Where pip installs by the user's own settings must not fight with where it is told to.
    elsewhere = ("PIP_PREFIX", "PIP_USER", "PIP_TARGET", "PIP_ROOT")
    environment = {k: v for k, v in os.environ.items() if k not in elsewhere}
    failure = ""
    for extra in attempts:
        shutil.rmtree(site, ignore_errors=True)
        try:
            done = subprocess.run(
                [*command, *extra, str(source)],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            failure = f"pip took more than {PATIENCE:g} s"
            continue
        if done.returncode == 0:
            return
        failure = (done.stderr or done.stdout).strip()[-2000:]
    raise BenchbenchError(
        f"{name} at {commit[:10]} cannot be installed, so there is no baseline to compare with: "
        f"{failure}. Try it by hand: {' '.join([*command[:-1], 'DIRECTORY'])} CHECKOUT"
    )


def _builds_here(source: Path) -> bool:
    """True when everything that the project needs to be built is in this environment."""
    file = source / "pyproject.toml"
    if not file.is_file():
        return False
    found = re.search(r"requires\s*=\s*\[(.*?)\]", file.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        return False
    names = re.findall(r"[\"']\s*([A-Za-z0-9][A-Za-z0-9._-]*)", found[1])
    return bool(names) and all(_version(name) for name in names)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise BenchbenchError(
            f"`{' '.join(command)}` failed, so the baseline cannot be checked out: "
            f"{done.stderr.strip()[-1000:]}"
        )


def _distribution(site: Path, name: str) -> metadata.Distribution:
    for distribution in metadata.distributions(path=[str(site)]):
        if normalised(str(distribution.metadata["Name"])) == normalised(name):
            return distribution
    raise BenchbenchError(
        f"the revision installs no distribution called {name!r} (it has another name there, or "
        "its pyproject.toml is elsewhere); give its name with --project"
    )


def _location(site: Path, name: str) -> str:
    folder = site / name
    if folder.is_dir():
        return str(folder)
    return str(next(iter(sorted(site.glob(f"{name}.*")))))


def _file_at(file: Path, root: Path, source: Path) -> str:
    """A one-file plugin of the repository as it was at the revision; else the file itself."""
    try:
        there = source / file.resolve().relative_to(root.resolve())
    except ValueError:
        return str(file)
    return str(there if there.is_file() else file)
