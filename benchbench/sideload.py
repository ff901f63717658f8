"""Imports a second build of a project beside the first, under names of its own. Worker side.

A build's packages are imported as ``_benchbench_<side>_<package>``. Imports inside them, at any
depth and at any time, are redirected: each module gets a ``__builtins__`` whose ``__import__`` maps
the project's own names to the build's. Both builds of a gate are loaded this way, so that neither
pays for it alone.

What a process can hold only once cannot be loaded twice: torch operators under a fixed name (the
second registration fails, or silently replaces the first), and modules that are found by name at
run time. Both are errors here, and the gate then takes two processes.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from benchbench.catalog import Catalog
from benchbench.contract import Implementation, PluginInfo, Provider
from benchbench.errors import PluginError
from benchbench.sides import Side, entrant_name

CONFLICT = "cannot be loaded beside another build"


def prefix(side: str) -> str:
    """What stands before the names of a side's top-level modules."""
    return f"_benchbench_{side}_"


class SideFinder:
    """Finds the modules of one side; sits first on ``sys.meta_path``."""

    def __init__(self, side: Side) -> None:
        self._prefix = prefix(side.name)
        self._locations = dict(side.locations)
        self._builtins = {**vars(builtins), "__import__": self._import}

    def alias(self, name: str) -> str:
        """The side's name of a module of the project; other names stay."""
        top = name.partition(".")[0]
        return self._prefix + name if top in self._locations else name

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        return importlib.__import__(
            self.alias(name) if level == 0 else name, globals, locals, fromlist, level
        )

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module of this side, or None."""
        if not fullname.startswith(self._prefix):
            return None
        if path is None:
            spec = self._top_level(fullname)
        else:
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self._builtins)
        return spec

    def _top_level(self, fullname: str) -> importlib.machinery.ModuleSpec | None:
        location = Path(self._locations[fullname.removeprefix(self._prefix)])
        if not location.is_dir():
            return importlib.util.spec_from_file_location(fullname, location)
        initial = location / "__init__.py"
        if initial.is_file():
            return importlib.util.spec_from_file_location(
                fullname, initial, submodule_search_locations=[str(location)]
            )
        spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(location)]
        return spec

    def load_file(self, path: str) -> ModuleType:
        """Import a one-file plugin whose imports of the project go to this side."""
        name = f"{self._prefix}file_{Path(path).stem}"
        loader = _Loader(name, path, self._builtins)
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
        return module


class _Loader(importlib.machinery.SourceFileLoader):
    """Gives a module the side's builtins before its code runs."""

    def __init__(self, name: str, path: str, its_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = its_builtins

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._builtins
        super().exec_module(module)


def load_side(
    side: Side, catalog: Catalog, announce: Callable[[str], None] | None = None
) -> tuple[Catalog, PluginInfo]:
    """The catalogue with the implementations of one build, and how its loading went.

    An implementation ``relu`` of the build ``baseline`` becomes the contender ``relu@baseline``
    of the same workload. Workloads stay those of the ordinary plugins: both builds must be given
    the same inputs and the same reference.
    """
    name = f"{side.distribution or 'project'}@{side.name}"
    provider = Provider(plugin=name, distribution=side.distribution, version=side.version)
    if announce is not None:
        announce(name)
    found: list[Implementation] = []
    reason = ""
    finder = SideFinder(side)
    sys.meta_path.insert(0, finder)
    _forbid_operators()
    try:
        for plugin, target in side.plugins:
            found += _implementations(_load_target(finder, target), plugin)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        reason = f"{name} {CONFLICT}: {type(error).__name__}: {text}"
        found = []
    implementations = {key: dict(group) for key, group in catalog.implementations.items()}
    providers = dict(catalog.providers)
    added = []
    for item in found:
        group = implementations.get(item.workload)
        if group is None:
            continue  # of a workload that the ordinary plugins no longer have
        entrant = replace(item, name=entrant_name(item.name, side.name), pair=item.name)
        group[entrant.name] = entrant
        providers[entrant.id] = provider
        added.append(entrant.id)
    info = PluginInfo(
        provider=provider,
        status="failed" if reason else "ok",
        reason=reason,
        implementations=tuple(added),
    )
    return replace(catalog, implementations=implementations, providers=providers), info


def _load_target(finder: SideFinder, target: str) -> Any:
    if target.endswith(".py"):
        return finder.load_file(target)
    module, _, attribute = target.partition(":")
    loaded: Any = importlib.import_module(finder.alias(module.strip()))
    for part in filter(None, attribute.strip().split(".")):
        loaded = getattr(loaded, part)
    return loaded


def _implementations(plugin: Any, name: str) -> Iterator[Implementation]:
    hook = getattr(plugin, "benchbench_implementations", None)
    if hook is None:
        return
    returned: Iterable[Any] = hook()
    for item in returned:
        if not isinstance(item, Implementation):
            raise PluginError(
                f"benchbench_implementations of plugin {name} returned {type(item).__name__}, "
                "expected Implementation"
            )
        yield item


def _forbid_operators() -> None:
    """From now on, code of a side that registers a torch operator raises.

    A second ``torch.library.custom_op`` of one name takes the place of the first without a word,
    and both builds would be timed as one. (Libraries compiled with ``TORCH_LIBRARY`` raise by
    themselves.)
    """
    import torch

    library: Any = torch.library.Library
    if getattr(library, "_benchbench_watched", False):
        return
    original = library.__init__

    def watched(self: Any, ns: str, *arguments: Any, **options: Any) -> None:
        if _side_on_the_stack():
            raise PluginError(
                f"it registers torch operators in the namespace {ns!r}, which a process can hold "
                "once only"
            )
        original(self, ns, *arguments, **options)

    library.__init__ = watched
    library._benchbench_watched = True


def _side_on_the_stack() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("_benchbench_"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
