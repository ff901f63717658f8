"""Is a contender's code the same, byte for byte, in both builds? Read from the files; nothing runs.

The code of a contender is the module that defines it, every module of the project that it imports
(also inside functions), the packages around them, and every file of the project that is not Python
(compiled libraries, sources that are compiled on first use, tables). A module that imports by name
at run time could reach any other, so then the whole project counts.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

_BY_NAME = {"import_module", "__import__", "iter_modules", "walk_packages", "load_module"}
_LEFT_OUT = {"__pycache__", ".git"}


class Sources:
    """The files of one build.

    Args:
        locations: top-level import name to the package's folder or the module's file.
    """

    def __init__(self, locations: Mapping[str, str]) -> None:
        self._locations = {name: Path(path) for name, path in locations.items()}
        self._imports: dict[str, set[str] | None] = {}

    def digest(self, module: str) -> str:
        """Of the code that ``module`` reaches; empty when it is not of this project."""
        if self._file(module) is None:
            return ""
        reached = self._closure(module)
        hashed = hashlib.sha256(self._others.encode())
        names = sorted(self._all) if reached is None else sorted(reached)
        for name in names:
            file = self._file(name)
            if file is not None:
                hashed.update(f"\0{name}\0".encode() + file.read_bytes())
        return hashed.hexdigest()

    def imports_by_name(self) -> list[str]:
        """Modules that import others by name at run time."""
        return [name for name in self._all if self._imported(name) is None]

    def _closure(self, module: str) -> set[str] | None:
        """Modules of the project that ``module`` reaches, or None when that cannot be told."""
        waiting, reached = [module], set[str]()
        while waiting:
            name = waiting.pop()
            if name in reached or self._file(name) is None:
                continue
            reached.add(name)
            if "." in name:
                waiting.append(name.rpartition(".")[0])
            found = self._imported(name)
            if found is None:
                return None
            waiting += found
        return reached

    def _imported(self, name: str) -> set[str] | None:
        """What a module imports, as absolute names; None when it also imports by name."""
        if name not in self._imports:
            file = self._file(name)
            assert file is not None
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            try:
                tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError):
                self._imports[name] = None
            else:
                self._imports[name] = _imports(tree, package)
        return self._imports[name]

    def _file(self, module: str) -> Path | None:
        """Source of a module of the project, or None."""
        top, *parts = module.split(".")
        place = self._locations.get(top)
        if place is None:
            return None
        if not place.is_dir():
            return place if not parts and place.suffix == ".py" else None
        folder = place.joinpath(*parts)
        for file in (folder / "__init__.py", folder.with_suffix(".py") if parts else None):
            if file is not None and file.is_file():
                return file
        return None

    @cached_property
    def _all(self) -> list[str]:
        """Every module of the project."""
        names = []
        for top, path, relative in self._files():
            if path.suffix == ".py":
                parts = [top, *relative.parent.parts, *([path.stem] if relative.parts else [])]
                names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        return sorted(set(names))

    @cached_property
    def _others(self) -> str:
        """Digest of the files that are not Python."""
        hashed = hashlib.sha256()
        for top, path, relative in self._files():
            if path.suffix not in (".py", ".pyc"):
                hashed.update(f"\0{top}/{relative}\0".encode() + path.read_bytes())
        return hashed.hexdigest()

    def _files(self) -> Iterator[tuple[str, Path, Path]]:
        for top, place in sorted(self._locations.items()):
            if place.is_file():
                yield top, place, Path()
                continue
            for path in sorted(place.rglob("*")):
                relative = path.relative_to(place)
                if path.is_file() and not _LEFT_OUT.intersection(relative.parts):
                    yield top, path, relative


def _is_by_name(node: ast.Attribute) -> bool:
    """``importlib.import_module`` and its like, and ``sys.modules``."""
    of_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
    return node.attr in _BY_NAME or (of_sys and node.attr == "modules")


def _imports(tree: ast.AST, package: str) -> set[str] | None:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            found.add(base)
            # What is imported may be a module or a name in one; a name is no module and is skipped.
            found.update(f"{base}.{alias.name}" for alias in node.names)
            if any(alias.name in _BY_NAME for alias in node.names):
                return None
        elif (isinstance(node, ast.Name) and node.id in _BY_NAME) or (
            isinstance(node, ast.Attribute) and _is_by_name(node)
        ):
            return None
    return found
