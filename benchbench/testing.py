"""Conformance of a plugin: what its author runs before anyone else does.

``benchbench check NAME`` prints the findings; in a test-suite of your own::

    from benchbench.testing import check_plugin

    def test_my_contenders():
        assert check_plugin("my-kernels") == []

Every check is a small function ``check_*`` that yields findings. Contenders are built, checked
against the reference and timed briefly in a worker process, on each point of a preset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchbench.catalog import Description
from benchbench.contract import PlannedCase, PluginInfo, Result, Settings
from benchbench.errors import UsageError, suggestion
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json

BRIEF = Settings(
    processes=1, budget=0.0, min_passes=1, max_passes=1, sample_seconds=0.0, warmup=0.0, roof=False
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong (``error``) or that users will miss (``warning``)."""

    severity: Literal["error", "warning"]
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.subject}: {self.message}"


def check_plugin(
    plugin: str, *, preset: str = "quick", settings: Settings = BRIEF
) -> list[Finding]:
    """All findings about one plugin; an empty list means that it behaves.

    Args:
        plugin: name of an installed plugin or of its distribution, or path of a ``.py`` file.
        preset: points of each workload to try.
        settings: how to measure; the default takes one brief sample.

    Raises:
        UsageError: there is no such plugin.
    """
    from benchbench import supervise
    from benchbench.engines.local import LocalEngine

    files = (plugin,) if plugin.endswith(".py") else ()
    name = Path(plugin).stem if files else plugin
    options = LoaderOptions(files=files)
    engine = LocalEngine()
    description = Description.from_json(supervise.describe(engine, options, settings))
    info = _find(description, name)
    findings = [
        *check_loading(info),
        *check_documentation(info, description),
        *check_presets(info, description),
    ]
    cases = _cases(info, description, preset)
    results: list[Result] = []

    def keep(record: Mapping[str, Any]) -> None:
        if record.get("type") == "result":
            results.append(result_from_json(record))

    if cases:
        supervise.execute(
            cases,
            settings=replace(settings, preset=preset),
            engine=engine,
            options=options,
            emit=keep,
        )
    return [*findings, *check_results(info, results)]


def _find(description: Description, name: str) -> PluginInfo:
    for info in description.plugins:
        if name in (info.provider.plugin, info.provider.distribution):
            return info
    known = {p.provider.plugin for p in description.plugins}
    known |= {p.provider.distribution for p in description.plugins}
    raise UsageError(
        f"no plugin or distribution is called {name!r}.{suggestion(name, known)} "
        "Install it, or give the path of its .py file"
    )


def check_loading(info: PluginInfo) -> Iterator[Finding]:
    """The plugin loads, and every contribution is accepted."""
    subject = f"plugin {info.provider.plugin}"
    if info.status != "ok":
        yield Finding(severity="error", subject=subject, message=info.reason)
    elif not info.hooks:
        yield Finding(
            severity="error",
            subject=subject,
            message="it has no hooks; mark at least one function with @benchbench.hookimpl",
        )


def check_documentation(info: PluginInfo, description: Description) -> Iterator[Finding]:
    """Workloads and contenders say what they are."""
    for name in info.workloads:
        if not description.workloads[name].doc:
            yield Finding(severity="warning", subject=name, message="the workload has no doc")
    for identity in info.implementations:
        workload, _, contender = identity.rpartition(":")
        if not description.workloads[workload].contenders[contender].doc:
            yield Finding(
                severity="warning",
                subject=identity,
                message="no doc; `benchbench list -v` has nothing to show for it",
            )


def check_presets(info: PluginInfo, description: Description) -> Iterator[Finding]:
    """The plugin's own workloads have a quick preset, so that a first look is quick."""
    for name in info.workloads:
        workload = description.workloads[name]
        if "quick" not in workload.presets and len(workload.axes) > 1:
            yield Finding(
                severity="warning",
                subject=name,
                message="no preset 'quick'; it runs at the first value of every axis",
            )


def _cases(info: PluginInfo, description: Description, preset: str) -> tuple[PlannedCase, ...]:
    """Cases of the plugin's contenders, and of all contenders of its own workloads."""
    mine: dict[str, set[str]] = {}
    for identity in info.implementations:
        workload, _, contender = identity.rpartition(":")
        mine.setdefault(workload, set()).add(contender)
    cases: list[PlannedCase] = []
    for name in sorted({*mine, *info.workloads}):
        names = mine.get(name, set())
        if name in info.workloads:
            names = set(description.workloads[name].contenders)
        if names:
            cases += plan(description, [name], preset=preset, contenders=sorted(names))
    return tuple(cases)


def check_results(info: PluginInfo, results: Sequence[Result]) -> Iterator[Finding]:
    """Every contender of the plugin runs, is correct, or says why it cannot run here."""
    seen: set[tuple[str, str]] = set()
    for result in results:
        identity = f"{result.workload}:{result.contender}"
        own = identity in info.implementations or result.workload in info.workloads
        if not own or result.role != "contender" or (identity, result.reason) in seen:
            continue
        seen.add((identity, result.reason))
        if result.status in ("failed", "wrong", "quarantined"):
            where = f" during {result.stage}" if result.stage else ""
            yield Finding(
                severity="error",
                subject=f"{result.case} {result.contender}",
                message=f"{result.status}{where}: {result.reason}",
            )
