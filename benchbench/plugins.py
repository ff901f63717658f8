"""Find plugins, load them one by one, and keep the faults of each to itself.

Pluggy's own loader stops at the first entry point that raises. Here every step of every plugin
(import, registration, each contributing hook) runs in a ``try`` of its own over ``Exception`` and
``SystemExit``; what goes wrong becomes the plugin's ``reason`` and the others never notice.
Nothing is discovered from the working directory.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy

from benchbench import hookspecs
from benchbench.catalog import Catalog, Contribution, assemble
from benchbench.contract import PluginInfo, Provider
from benchbench.errors import PluginError, UsageError, suggestion
from benchbench.sides import Copy, Side

GROUP = "benchbench"
FAULTS = (Exception, SystemExit)
ONE_FILE = "file"
"""What stands for the version of a one-file plugin."""


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """Which plugins to load: one-file plugins, an allow-list, a block-list (by name)."""

    files: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    blocked: tuple[str, ...] = ()
    sides: tuple[Side, ...] = ()
    """Builds of one project to load beside each other."""
    controls: tuple[Copy, ...] = ()
    """Implementations that take part once more, as controls; see ``benchbench.controls``."""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LoaderOptions:
        """The options that ``to_json`` wrote."""
        allowed = data.get("allowed")
        return LoaderOptions(
            files=tuple(data.get("files", ())),
            allowed=None if allowed is None else tuple(allowed),
            blocked=tuple(data.get("blocked", ())),
            sides=tuple(Side.from_json(side) for side in data.get("sides", ())),
            controls=tuple(Copy.from_json(copy) for copy in data.get("controls", ())),
        )

    def admits(self, *names: str) -> bool:
        """True when a plugin known by any of ``names`` may be loaded."""
        if any(name in self.blocked for name in names):
            return False
        return self.allowed is None or any(name in self.allowed for name in names)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A plugin that exists, not yet imported."""

    name: str
    provider: Provider
    load: Callable[[], Any]
    target: str
    """Module of the entry point, or path of the file."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """All plugins of a process, with what they contribute."""

    manager: pluggy.PluginManager
    plugins: tuple[PluginInfo, ...]
    catalog: Catalog


@dataclass(kw_only=True)
class _Entry:
    """One plugin on its way through loading."""

    found: Found
    plugin: Any = None
    provider: Provider = field(default_factory=Provider)
    faults: list[str] = field(default_factory=list)
    detail: str = ""
    blocked: bool = False

    def fault(self, what: str, error: BaseException | None = None) -> None:
        """Record a fault; with ``error``, its type, message and the plugin's own frames."""
        if error is not None:
            what = f"{what}: {describe_error(error)}"
            self.detail = self.detail or plugin_frames(error)
        self.faults.append(what)


def describe_error(error: BaseException) -> str:
    """``ValueError: message`` on one line."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def plugin_frames(error: BaseException) -> str:
    """The traceback from the first frame outside this module on."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    return "".join(traceback.format_list(own)) + describe_error(error)


def find(options: LoaderOptions) -> list[Found]:
    """Installed entry points of the group, then one-file plugins; nothing is imported.

    Raises:
        UsageError: a plugin file does not exist.
    """
    here = {"", str(Path.cwd())}
    path = [part for part in sys.path if part not in here]
    found: dict[tuple[str, str, str], Found] = {}
    seen: set[str] = set()
    for distribution in metadata.distributions(path=path):
        name = distribution.metadata["Name"] or "?"
        identity = normalised(name)
        if identity in seen:
            # The first on the path is the one that is imported. (An editable install can list
            # itself twice; a gate puts one version before another.)
            continue
        seen.add(identity)
        for entry in distribution.entry_points:
            if entry.group != GROUP:
                continue
            provider = Provider(
                plugin=entry.name, distribution=name, version=distribution.version or "?"
            )
            key = (identity, entry.name, entry.value)
            found.setdefault(
                key, Found(name=entry.name, provider=provider, load=entry.load, target=entry.value)
            )
    ordered = [found[key] for key in sorted(found)]
    return ordered + [_file_plugin(file) for file in options.files]


def normalised(distribution: str) -> str:
    """A distribution's name as names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _file_plugin(file: str) -> Found:
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"--plugin {file}: there is no such file. Give the path of a Python file.")
    provider = Provider(plugin=path.stem, distribution=path.name, version=ONE_FILE, file=str(path))

    def load() -> Any:
        # A name that no installed package has, so that mine.py cannot shadow a module "mine".
        name = f"benchbench_file_plugin_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise PluginError(f"{path} cannot be imported: its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return Found(name=path.stem, provider=provider, load=load, target=str(path))


def load(options: LoaderOptions, announce: Callable[[str], None] | None = None) -> Loaded:
    """Load every admitted plugin and collect what they contribute.

    Args:
        options: which plugins.
        announce: called with a plugin's name before any of its code runs, so that whoever watches
            this process knows whom a crash belongs to.

    Raises:
        UsageError: a plugin file does not exist, or an allowed or blocked name matches nothing.
    """
    manager = pluggy.PluginManager("benchbench")
    manager.add_hookspecs(hookspecs)
    entries = [_Entry(found=found, provider=found.provider) for found in find(options)]
    check_names(options, [entry.found for entry in entries])
    contributions: list[Contribution] = []
    for entry in entries:
        name, distribution = entry.found.name, entry.provider.distribution
        file_admitted = bool(entry.provider.file) and name not in options.blocked
        if not file_admitted and not options.admits(name, distribution):
            entry.blocked = True
            continue
        if announce is not None:
            announce(name)
        _import(entry)
        if entry.plugin is not None and _register(entry, manager):
            contributions += _collect(entry, manager)
    catalog, faults = assemble(contributions)
    infos: list[PluginInfo] = []
    if options.sides:
        from benchbench.sideload import load_side

        for side in options.sides:
            catalog, info = load_side(side, catalog, announce)
            infos.append(info)
    if options.controls:
        from benchbench.controls import with_copies

        catalog = with_copies(catalog, options.controls)
    for provider, reason in faults:
        for entry in entries:
            if entry.provider == provider:
                entry.fault(reason)
    return Loaded(
        manager=manager,
        plugins=(*(_info(entry, catalog, manager) for entry in entries), *infos),
        catalog=catalog,
    )


def check_names(options: LoaderOptions, found: Sequence[Found]) -> None:
    """Allowed and blocked names must exist, or a mistyped one would do nothing, silently.

    Raises:
        UsageError: a name matches nothing.
    """
    known = {f.name for f in found} | {f.provider.distribution for f in found}
    for source, names in (
        ("BENCHBENCH_PLUGINS", options.allowed or ()),
        ("--no-plugin", options.blocked),
    ):
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{source}: no plugin or distribution is called {name!r}."
                    f"{suggestion(name, known)} `benchbench plugins` lists them."
                )


def _import(entry: _Entry) -> None:
    try:
        entry.plugin = entry.found.load()
        file = inspect.getfile(entry.plugin) if inspect.ismodule(entry.plugin) else ""
    except FAULTS as error:
        entry.fault(f"cannot be imported from {entry.found.target}", error)
        entry.plugin = None
        return
    entry.provider = replace(entry.provider, file=entry.provider.file or file)


def _register(entry: _Entry, manager: pluggy.PluginManager) -> bool:
    """Check the names of hooks, then register; False when the plugin cannot take part."""
    known = {name for name in vars(hookspecs) if name.startswith("benchbench_")}
    try:
        names = [n for n in dir(entry.plugin) if n.startswith("benchbench_")]
        for name in names:
            function = getattr(entry.plugin, name)
            if not inspect.isroutine(function) or hasattr(function, "benchbench_spec"):
                continue
            if name not in known:
                entry.fault(
                    f"unknown hook {name!r}.{suggestion(name, known)} "
                    f"The hooks are {', '.join(sorted(known))}"
                )
            elif not hasattr(function, "benchbench_impl"):
                entry.fault(f"{name} is not marked with @benchbench.hookimpl, so it is not a hook")
        if entry.faults:
            return False
        manager.register(entry.plugin, name=f"{entry.provider.distribution}:{entry.found.name}")
    except FAULTS as error:
        entry.fault("cannot be registered", error)
        # pluggy keeps a plugin whose hooks failed validation half registered.
        if manager.is_registered(entry.plugin):
            manager.unregister(entry.plugin)
        return False
    return True


def _collect(entry: _Entry, manager: pluggy.PluginManager) -> list[Contribution]:
    """Call each contributing hook of one plugin, apart from all others."""
    collected: list[Contribution] = []
    for hook_name, expected in hookspecs.CONTRIBUTING.items():
        for implementation in getattr(manager.hook, hook_name).get_hookimpls():
            if implementation.plugin is not entry.plugin:
                continue
            try:
                returned = implementation.function()
                if not isinstance(returned, Iterable) or isinstance(returned, str | Mapping):
                    raise PluginError(
                        f"it returned {type(returned).__name__}; return an iterable of "
                        f"{expected.__name__}"
                    )
                items = list(returned)
            except FAULTS as error:
                entry.fault(f"{hook_name} failed, so nothing of it is used", error)
                continue
            for position, item in enumerate(items, start=1):
                if isinstance(item, expected):
                    collected.append(Contribution(provider=entry.provider, item=item))
                else:
                    entry.fault(
                        f"{hook_name} returned {type(item).__name__} at position {position}, "
                        f"expected {expected.__name__}{_hint(item, expected)}"
                    )
    return collected


def _hint(item: Any, expected: type) -> str:
    if expected.__name__ == "Implementation" and callable(item):
        return " (decorate the function with @benchbench.implementation(workload, name))"
    return ""


def _info(entry: _Entry, catalog: Catalog, manager: pluggy.PluginManager) -> PluginInfo:
    def mine(names: Iterable[str], prefix: str = "") -> tuple[str, ...]:
        providers = catalog.providers
        return tuple(name for name in names if providers[prefix + name] == entry.provider)

    hooks: tuple[str, ...] = ()
    if entry.plugin is not None and manager.is_registered(entry.plugin):
        hooks = tuple(sorted(c.name for c in manager.get_hookcallers(entry.plugin) or ()))
    implementations = [i.id for group in catalog.implementations.values() for i in group.values()]
    return PluginInfo(
        provider=entry.provider,
        status="blocked" if entry.blocked else "failed" if entry.faults else "ok",
        reason="not admitted by BENCHBENCH_PLUGINS or --no-plugin"
        if entry.blocked
        else "; ".join(entry.faults),
        detail=entry.detail,
        workloads=mine(catalog.workloads),
        implementations=mine(implementations),
        timers=mine(catalog.timers, "timer:"),
        reports=mine(catalog.reports, "report:"),
        engines=mine(catalog.engines, "engine:"),
        hooks=hooks,
    )
