"""The contract with plugins: one typed hook each. All are optional.

A plugin is a module (or object) named by an entry point of the group ``benchbench``. Hook
implementations carry :data:`benchbench.hookimpl` and may take any subset of a hook's arguments.
Hooks grow only by arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pluggy

from benchbench.contract import (
    Case,
    Engine,
    Implementation,
    Report,
    Result,
    Settings,
    Stage,
    Timer,
    Workload,
)

hookspec = pluggy.HookspecMarker("benchbench")
hookimpl = pluggy.HookimplMarker("benchbench")

# Hooks that contribute: each plugin's is called on its own and must return an iterable.
CONTRIBUTING = {
    "benchbench_workloads": Workload,
    "benchbench_implementations": Implementation,
    "benchbench_timers": Timer,
    "benchbench_reports": Report,
    "benchbench_engines": Engine,
}


@hookspec
def benchbench_workloads() -> Iterable[Workload]:  # type: ignore[empty-body]
    """Return the workloads that this plugin defines."""


@hookspec
def benchbench_implementations() -> Iterable[Implementation]:  # type: ignore[empty-body]
    """Return implementations, each for a workload of this plugin or of any other."""


@hookspec
def benchbench_timers() -> Iterable[Timer]:  # type: ignore[empty-body]
    """Return timers; ``--timer NAME`` selects one."""


@hookspec
def benchbench_reports() -> Iterable[Report]:  # type: ignore[empty-body]
    """Return reports; ``--format NAME`` selects one."""


@hookspec
def benchbench_engines() -> Iterable[Engine]:  # type: ignore[empty-body]
    """Return engines; ``--engine NAME`` selects one and then loads this plugin in the parent."""


@hookspec
def benchbench_environment() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Return fields for the environment that each worker writes into the run (JSON values)."""


@hookspec(firstresult=True)
def benchbench_run_case(  # type: ignore[empty-body]
    case: Case,
    workload: Workload,
    implementations: Sequence[Implementation],
    settings: Settings,
    process: int,
    stage: Callable[[str, Stage], None],
) -> Sequence[Result]:
    """Build, check and time the implementations of one case; may be wrapped or replaced.

    Call ``stage(contender, stage)`` before each step, so that a crash or a hang is attributed to
    the contender that caused it.
    """


@hookspec
def benchbench_result(result: Result) -> None:
    """Observe one result, in the worker that measured it."""
