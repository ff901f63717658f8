"""Send callables to a worker: by the names under which it can import them, never their code.

The worker imports a callable's module under the same name and from the same file as here, with the
same search path, so that what a module imports beside itself means the same there. Arguments bound
by ``functools.partial``, and callable objects, travel by value.
"""

from __future__ import annotations

import base64
import functools
import importlib.machinery
import importlib.util
import io
import json
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchbench.errors import PluginError, UsageError
from benchbench.records import to_json


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a module was imported from."""

    name: str
    file: str = ""
    """Its source; empty for a package without ``__init__.py``."""
    package: bool = False
    folders: tuple[str, ...] = ()
    """Where a package looks for its modules."""


def pack(callables: Mapping[str, Any]) -> str:
    """The callables as text that :func:`unpack` reads in another process of this interpreter.

    Args:
        callables: what each is for (``candidate``; it stands in errors) and the callable, a
            mapping of callables, or a plain value.

    Raises:
        UsageError: one cannot be imported by name: a lambda, a function inside a function, a
            method of a class inside a function, something defined in ``__main__``.
    """
    modules: dict[str, None] = {}
    packed = {}
    for role, value in callables.items():
        _refuse_nameless(value, role)
        packed[role] = base64.b64encode(_pickle(value, role, modules)).decode()
    return json.dumps(
        {
            "path": [str(Path(entry or ".").resolve()) for entry in sys.path],
            "modules": [to_json(place) for place in _places(modules)],
            "callables": packed,
        }
    )


def unpack(text: str) -> dict[str, Any]:
    """What :func:`pack` packed, imported here. The search path becomes that of the sender.

    Raises:
        PluginError: a module cannot be imported here.
    """
    data = json.loads(text)
    sent = list(data["path"])
    sys.path[:] = [*sent, *(entry for entry in sys.path if entry not in sent)]
    places = [Place(**{**p, "folders": tuple(p["folders"])}) for p in data["modules"]]
    sys.meta_path.insert(0, _Finder(places))
    unpacked = {}
    for role, encoded in data["callables"].items():
        try:
            unpacked[role] = pickle.loads(base64.b64decode(encoded))
        except BaseException as error:  # skip() of a test module is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            raise PluginError(
                f"the {role} cannot be imported in a fresh process: {type(error).__name__}: "
                f"{error}. What its module needs must be made by its own imports, not by fixtures, "
                "a conftest.py or an environment that is set while tests run"
            ) from error
    return unpacked


def again(value: Any) -> Any:
    """A copy of what was unpacked: it has travelled once, so it can travel again."""
    return pickle.loads(pickle.dumps(value, protocol=5))


def _refuse_nameless(value: Any, role: str) -> None:
    """Functions that have no name that a module knows, behind partials and bound methods too.

    Raises:
        UsageError: this is one.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_nameless(item, f"{role} {name!r}")
    if isinstance(value, functools.partial):
        for item in (value.func, *value.args, *value.keywords.values()):
            _refuse_nameless(item, role)
        return
    name = getattr(value, "__qualname__", "")
    if not callable(value) or not isinstance(name, str):
        return
    code = getattr(value, "__code__", None)
    where = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""
    remedy = (
        "A fresh process imports what it times by its name: write a function at the level of the "
        "module, and bind values that are known when the test runs with functools.partial"
    )
    if "<lambda>" in name:
        raise UsageError(f"the {role} is a lambda{where}. {remedy}")
    if "<locals>" in name:
        outer, _, inner = name.partition(".<locals>.")
        raise UsageError(f"the {role} {inner!r} is defined inside {outer!r}{where}. {remedy}")
    if getattr(value, "__module__", "") == "__main__":
        raise UsageError(
            f"the {role} {name!r} is defined in the script that runs{where}. Put it into a module "
            "that the script imports"
        )


def _pickle(value: Any, role: str, modules: dict[str, None]) -> bytes:
    class Recording(pickle.Pickler):
        """Notes the modules of everything that is pickled by name."""

        def reducer_override(self, found: Any) -> Any:
            name = getattr(found, "__module__", None)
            if isinstance(name, str) and hasattr(found, "__qualname__"):
                modules[name] = None
            return NotImplemented

    buffer = io.BytesIO()
    try:
        Recording(buffer, protocol=5).dump(value)
    except Exception as error:
        raise UsageError(
            f"the {role} {describe(value)} cannot be sent to a fresh process: "
            f"{type(error).__name__}: {error}. Give a function at the level of a module, and bind "
            "only arguments that can be pickled"
        ) from error
    return buffer.getvalue()


def describe(value: Any) -> str:
    """A callable's name for people: ``module.function``, ``partial of ...``, or its type."""
    if isinstance(value, functools.partial):
        return f"partial of {describe(value.func)}"
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    module = getattr(value, "__module__", None) or type(value).__module__
    return f"{module}.{name}"


def _places(names: Mapping[str, None]) -> list[Place]:
    """Of the named modules and the packages around them, those that are plain Python here."""
    wanted: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        wanted.update((".".join(parts[: i + 1]), None) for i in range(len(parts)))
    places = []
    for name in wanted:
        module = sys.modules.get(name)
        if module is not None and _is_plain(module):
            folders = getattr(module, "__path__", None)
            places.append(
                Place(
                    name=name,
                    file=getattr(module, "__file__", None) or "",
                    package=folders is not None,
                    folders=tuple(str(Path(f).resolve()) for f in folders or ()),
                )
            )
    return places


def _is_plain(module: ModuleType) -> bool:
    """True when the module came from a source file in the usual way, or is a bare package.

    Others (compiled ones, those of loaders that build on import) are left to the finders of the
    worker, which has the same.
    """
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    if loader is None:  # namespaces, and the packages that pytest invents around a test module
        return hasattr(module, "__path__") or not getattr(module, "__file__", None)
    file = getattr(module, "__file__", None) or ""
    usual = type(loader) is importlib.machinery.SourceFileLoader
    return file.endswith(".py") and (usual or type(loader).__module__.startswith("_pytest."))


class _Finder:
    """Finds the sent modules where the sender had them; first on ``sys.meta_path``."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = {place.name: place for place in places}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a sent module, or None."""
        place = self._places.get(name)
        if place is None:
            return None
        if place.file:
            return importlib.util.spec_from_file_location(
                name,
                place.file,
                submodule_search_locations=list(place.folders) if place.package else None,
            )
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = list(place.folders)
        return spec
