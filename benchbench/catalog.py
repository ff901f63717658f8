"""What all plugins contribute, validated; and its description as JSON.

The catalogue holds callables and lives in a worker. Its description holds none, and is what the
parent lists and plans from.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchbench.contract import (
    Engine,
    Grid,
    Implementation,
    Params,
    PluginInfo,
    Provider,
    Report,
    Timer,
    Value,
    Workload,
    format_value,
    freeze,
)
from benchbench.errors import suggestion
from benchbench.grids import points, preset_grids
from benchbench.records import plugin_from_json, provider_from_json, to_json

if TYPE_CHECKING:
    from benchbench.plugins import Loaded

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*/[a-z0-9][a-z0-9_.-]*")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One object of one plugin."""

    provider: Provider
    item: Any


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Everything that can be run, by name."""

    workloads: Mapping[str, Workload] = field(default_factory=dict)
    implementations: Mapping[str, Mapping[str, Implementation]] = field(default_factory=dict)
    """Workload name to implementation name to implementation."""
    timers: Mapping[str, Timer] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    engines: Mapping[str, Engine] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    """By workload name, implementation id, ``timer:name``, ``report:name``, ``engine:name``."""


Fault = tuple[Provider, str]


def assemble(contributions: Sequence[Contribution]) -> tuple[Catalog, list[Fault]]:
    """Put contributions together; what does not fit is left out and named.

    Where two plugins contribute the same id, the one that defines the workload keeps it, else the
    first in load order, and the other's fault names both distributions.
    """
    faults: list[Fault] = []
    providers: dict[str, Provider] = {}
    workloads: dict[str, Workload] = {}
    extras: dict[str, dict[str, Any]] = {"timer": {}, "report": {}, "engine": {}}

    def claim(key: str, what: str, provider: Provider) -> bool:
        if key in providers:
            faults.append((provider, _duplicate(what, providers[key], provider)))
            return False
        providers[key] = provider
        return True

    for given in contributions:
        if isinstance(given.item, Workload):
            reason = workload_fault(given.item)
            if reason:
                faults.append((given.provider, f"workload {given.item.name!r}: {reason}"))
            elif claim(given.item.name, f"workload {given.item.name!r}", given.provider):
                workloads[given.item.name] = given.item
        elif not isinstance(given.item, Implementation):
            sort = _sort(given.item)
            name = str(given.item.name)
            if claim(f"{sort}:{name}", f"{sort} {name!r}", given.provider):
                extras[sort][name] = given.item

    offered = [given for given in contributions if isinstance(given.item, Implementation)]
    # The workload's own plugin first: it keeps an id that another one claims too.
    offered.sort(key=lambda given: providers.get(given.item.workload) != given.provider)
    implementations: dict[str, dict[str, Implementation]] = {name: {} for name in workloads}
    for given in offered:
        item = given.item
        reason = implementation_fault(item, workloads)
        if reason:
            faults.append((given.provider, f"implementation {item.id!r}: {reason}"))
        elif claim(item.id, f"implementation {item.id!r}", given.provider):
            implementations[item.workload][item.name] = item

    for name, workload in list(workloads.items()):
        if workload.baseline not in implementations[name]:
            known = implementations.pop(name)
            faults.append(
                (
                    providers[name],
                    f"workload {name!r}: its baseline {workload.baseline!r} is contributed by no "
                    f"plugin, so it cannot run.{suggestion(workload.baseline, known)}",
                )
            )
            del workloads[name]
            for label in known:
                del providers[f"{name}:{label}"]
    catalog = Catalog(
        workloads=workloads,
        implementations=implementations,
        timers=extras["timer"],
        reports=extras["report"],
        engines=extras["engine"],
        providers=providers,
    )
    return catalog, faults


def _sort(item: Any) -> str:
    if isinstance(item, Report):
        return "report"
    return "timer" if isinstance(item, Timer) else "engine"


def _duplicate(what: str, first: Provider, second: Provider) -> str:
    return (
        f"{what} is already contributed by plugin {first.plugin!r} of {first.distribution} "
        f"{first.version}, so the one of {second.distribution} {second.version} is left out; "
        "rename one of them"
    )


def workload_fault(workload: Workload) -> str:
    """Why a workload cannot be used, or an empty text."""
    if not isinstance(workload.name, str) or not NAME.fullmatch(workload.name):
        return "the name must be kind/task in lower case, such as 'sorting/integers'"
    for axis, values in workload.axes.items():
        if isinstance(values, str) or not values:
            return f"axis {axis!r} needs a sequence of at least one value"
        try:
            for value in values:
                freeze(value)
        except TypeError as error:
            return f"axis {axis!r}: {error}"
    for axis in workload.open_axes:
        if not all(isinstance(value, str) for value in workload.axes.get(axis, (0,))):
            return (
                f"open_axes names {axis!r}, which is no axis of text."
                f"{suggestion(axis, workload.axes)}"
            )
    for preset, grids in workload.presets.items():
        for grid in [grids] if isinstance(grids, Mapping) else grids:
            for axis, values in grid.items():
                if axis not in workload.axes:
                    return (
                        f"preset {preset!r} names axis {axis!r}, which the workload does not have."
                        f"{suggestion(axis, workload.axes)}"
                    )
                if isinstance(values, str) or not values:
                    return f"preset {preset!r}, axis {axis!r}: give a sequence of values"
    if workload.reference is None and workload.check is None:
        return "it has neither a reference nor a check, so nothing could ever be wrong"
    return ""


def implementation_fault(item: Implementation, workloads: Mapping[str, Workload]) -> str:
    """Why an implementation cannot be used, or an empty text."""
    if item.workload not in workloads:
        return (
            f"no plugin defines the workload {item.workload!r}."
            f"{suggestion(str(item.workload), workloads)} `benchbench list` shows all"
        )
    if not isinstance(item.name, str) or not LABEL.fullmatch(item.name):
        return "the name must be letters, digits and . _ + -"
    if not callable(item.build):
        return "build must be a function from inputs to thunk"
    return ""


# The description: the same facts without callables.


@dataclass(frozen=True, kw_only=True)
class ImplementationInfo:
    """An implementation as the parent sees it."""

    name: str
    provider: Provider = Provider()
    doc: str = ""
    presets: tuple[str, ...] | None = None
    unavailable: str = ""
    """Why no point of the smallest preset can run it, or empty."""
    has_prepare: bool = False
    module: str = ""
    """Module in which its ``build`` is defined."""


@dataclass(frozen=True, kw_only=True)
class WorkloadInfo:
    """A workload as the parent sees it."""

    name: str
    baseline: str
    provider: Provider = Provider()
    doc: str = ""
    axes: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    presets: Mapping[str, tuple[Grid, ...]] = field(default_factory=dict)
    contenders: Mapping[str, ImplementationInfo] = field(default_factory=dict)
    open_axes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Description:
    """The whole catalogue as the parent sees it."""

    workloads: Mapping[str, WorkloadInfo]
    plugins: tuple[PluginInfo, ...] = ()
    timers: Mapping[str, str] = field(default_factory=dict)
    reports: Mapping[str, str] = field(default_factory=dict)
    engines: Mapping[str, str] = field(default_factory=dict)
    blocked: tuple[str, ...] = ()
    """Plugins that killed the worker which described them; a run must leave them out."""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Description:
        """Read what :func:`describe` wrote."""
        return Description(
            workloads={w["name"]: _workload_from_json(w) for w in data["workloads"]},
            plugins=tuple(plugin_from_json(p) for p in data["plugins"]),
            timers=data["timers"],
            reports=data["reports"],
            engines=data["engines"],
            blocked=tuple(data.get("blocked", ())),
        )


def describe(
    loaded: Loaded, announce: Callable[[str], None] = lambda plugin: None
) -> dict[str, Any]:
    """The catalogue as JSON, with each implementation's reason for being unavailable.

    ``announce`` is called with a plugin's name before one of its availability checks runs.
    """
    catalog = loaded.catalog
    workloads = []
    for name in sorted(catalog.workloads):
        workload = catalog.workloads[name]
        contenders = []
        for item in catalog.implementations[name].values():
            announce(catalog.providers[item.id].plugin)
            contenders.append(
                ImplementationInfo(
                    name=item.name,
                    provider=catalog.providers[item.id],
                    doc=item.doc,
                    presets=None if item.presets is None else tuple(item.presets),
                    unavailable=_unavailable(item, workload),
                    has_prepare=item.prepare is not None,
                    module=_module(item.build),
                )
            )
        workloads.append(
            {
                "name": name,
                "baseline": workload.baseline,
                "provider": to_json(catalog.providers[name]),
                "doc": workload.doc.strip(),
                "axes": to_json(workload.axes),
                "presets": {p: to_json(preset_grids(workload, p)) for p in workload.presets},
                "contenders": to_json(contenders),
                "open_axes": list(workload.open_axes),
            }
        )
    return {
        "workloads": workloads,
        "plugins": to_json(loaded.plugins),
        "timers": _docs(catalog.timers),
        "reports": _docs(catalog.reports),
        "engines": _docs(catalog.engines),
    }


def _module(function: Any) -> str:
    """Module of the function behind partials and decorators, or an empty text."""
    while hasattr(function, "func"):
        function = function.func
    return str(getattr(inspect.unwrap(function), "__module__", "") or "")


def _docs(named: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(getattr(item, "doc", "") or type(item).__doc__ or "").strip()
        for name, item in named.items()
    }


def ask_unavailable(
    unavailable: Callable[[Params], str | None] | None, params: Params
) -> str | None:
    """Ask an implementation whether it can run; an exception there is a reason too."""
    if unavailable is None:
        return None
    try:
        reason = unavailable(params)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        return f"its availability check raised {type(error).__name__}: {text}"
    return None if reason is None else " ".join(str(reason).split()) or "no reason given"


def _unavailable(item: Implementation, workload: Workload) -> str:
    """The first reason, when no point of the smallest preset is available."""
    first = ""
    for params in points(workload.axes, preset_grids(workload, "quick")):
        reason = ask_unavailable(item.unavailable, params)
        if reason is None:
            return ""
        first = first or reason
    return first


def _workload_from_json(data: Mapping[str, Any]) -> WorkloadInfo:
    def grid(values: Mapping[str, Iterable[Any]]) -> dict[str, tuple[Value, ...]]:
        return {axis: tuple(freeze(v) for v in axis_values) for axis, axis_values in values.items()}

    return WorkloadInfo(
        name=data["name"],
        baseline=data["baseline"],
        provider=provider_from_json(data["provider"]),
        doc=data["doc"],
        axes=grid(data["axes"]),
        presets={p: tuple(grid(g) for g in grids) for p, grids in data["presets"].items()},
        contenders={
            c["name"]: ImplementationInfo(
                **{
                    **c,
                    "provider": provider_from_json(c["provider"]),
                    "presets": None if c["presets"] is None else tuple(c["presets"]),
                }
            )
            for c in data["contenders"]
        },
        open_axes=tuple(data.get("open_axes", ())),
    )


__all__ = [
    "Catalog",
    "Contribution",
    "Description",
    "ImplementationInfo",
    "WorkloadInfo",
    "ask_unavailable",
    "assemble",
    "describe",
    "format_value",
]
