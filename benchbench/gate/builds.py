"""Both builds of the project, and what keeps them out of one process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchbench.catalog_cache import cache_directory
from benchbench.gate.identical import Sources
from benchbench.gate.interpreter import ask, interpreter_build
from benchbench.gate.project import Build, find_project, installed_build
from benchbench.gate.revision import revision_build
from benchbench.sides import CANDIDATE


@dataclass(frozen=True, kw_only=True)
class Builds:
    """What is compared."""

    candidate: Build
    baseline: Build
    obstacle: str = ""
    """Why they cannot be loaded into one process; empty when nothing is known against it."""

    @property
    def same_path(self) -> bool:
        """True when the baseline runs in this interpreter."""
        return not self.baseline.interpreter


def resolve(
    name: str | None,
    revision: str | None,
    interpreter: str | None,
    files: Sequence[str],
    say: Callable[[str], None],
) -> Builds:
    """The project here and at a revision, or in another environment.

    Args:
        name: of the project's distribution; found from the working directory when None.
        revision: a git revision; exactly one of this and ``interpreter`` is given.
        interpreter: path of a Python.
        files: one-file plugins.
        say: tells the user what takes a while.

    Raises:
        UsageError: there is no project, no such revision, no such interpreter.
        BenchbenchError: the revision cannot be installed.
    """
    project = find_project(name, Path.cwd())
    candidate = installed_build(project, files, CANDIDATE)
    obstacles = []
    if revision is not None:
        say(f"installing {project.name} at {revision} (once) ...")
        baseline = revision_build(project, revision, files, cache_directory())
    else:
        assert interpreter is not None
        hints = [top for top, _ in candidate.side.locations]
        baseline = interpreter_build(project, interpreter, files, hints)
        here = ask(sys.executable, project.name, hints)["facts"]
        candidate = replace(candidate, facts=here)
        obstacles += [
            f"{what} is {here.get(what) or 'absent'} here and {there or 'absent'} there"
            for what, there in baseline.facts.items()
            if here.get(what) != there and what != project.name
        ]
    for build in (candidate, baseline):
        by_name = Sources(dict(build.side.locations)).imports_by_name()
        if by_name:
            obstacles.append(
                f"{build.text} imports modules by name at run time ({', '.join(by_name[:3])})"
            )
    return Builds(candidate=candidate, baseline=baseline, obstacle="; ".join(obstacles))


class Code:
    """Whether a contender's code is the same in both builds."""

    def __init__(self, builds: Builds) -> None:
        self._sources = [
            Sources(dict(build.side.locations)) for build in (builds.candidate, builds.baseline)
        ]
        self._known: dict[tuple[int, str], str] = {}

    def same(self, here: str, there: str) -> bool:
        """True when two modules, by their ordinary names, are the same with all they import."""
        digests = [self._digest(0, here), self._digest(1, there)]
        return bool(digests[0]) and digests[0] == digests[1]

    def _digest(self, build: int, module: str) -> str:
        key = (build, module)
        if key not in self._known:
            self._known[key] = self._sources[build].digest(module)
        return self._known[key]
