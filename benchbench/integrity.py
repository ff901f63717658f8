"""Notice when somebody replaces functions that the measurement or the other contenders rely on.

What is watched was recorded before any plugin was imported: the harness itself (functions, methods,
their code, constants), the clocks, the garbage collector, Python's built-in functions, and the
public functions of torch and numpy. A look at all of it takes about 0.1 ms, at the core (timers,
clocks, the code that records samples) about 10 us.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

CORE = (
    "benchbench.measure",
    "benchbench.timers.wall",
    "benchbench.timers.cuda",
    "benchbench.timers.graph",
    "time",
    "gc",
)
"""Modules that are looked at after each timed sample too."""

_HARNESS_DATA = (int, float, str, tuple, frozenset)
_FREE = {
    "print",
    "input",
    "open",
    "__import__",
    "__build_class__",
    "breakpoint",
    "help",
    "copyright",
}
"""Built-in names that shells and import helpers replace for reasons of their own."""

_UNUSED = {"__doc__", "__class__", "__init__", "__setstate__"}
"""Not what a call runs through; tracing wraps the last two of modules."""

_TORCH = (
    "torch",
    "torch.nn.functional",
    "torch.Tensor",
    "torch.nn.Module",
    "torch.cuda",
    "torch.cuda.Event",
    "torch.cuda.Stream",
    "torch.cuda.CUDAGraph",
    "torch.autograd",
    "torch.autograd.Function",
    "torch.linalg",
    "torch.fft",
    "torch.special",
    "torch.random",
    "torch.testing",
)
_OTHERS = ("time", "gc", "math", "numpy", "numpy.random", "threading")
_KERNELS = ("CPU", "CUDA", "AutogradCPU", "AutogradCUDA", "CompositeExplicitAutograd", "Autograd")

Namespace = Any
"""A module or a class."""


class _Watched:
    """Some names of one module or class, as they were."""

    def __init__(self, label: str, space: Namespace, names: Iterable[str], lent: str = "") -> None:
        self.label = label
        self._space = space
        self._names = tuple(names)
        self._lent = lent
        found = vars(space)
        self._values = tuple(found[name] for name in self._names)
        self._take: Any = (
            itemgetter(*self._names)
            if len(self._names) > 1
            else lambda space: tuple(space[name] for name in self._names)
        )
        inherited = (
            {name for base in space.__mro__[1:] for name in vars(base)}
            if _is_class(space)
            else set()
        )
        # A name set on a class hides what it inherited (from a type written in C, say).
        self._inherited = inherited - set(found)
        self._size = len(found)
        own = [value for value in self._values if isinstance(value, types.FunctionType)]
        self.functions: Sequence[types.FunctionType] = own if label.startswith("benchbench") else []
        """Those whose code is watched too."""
        self._bodies = list(map(_body, self.functions))

    def changed(self) -> list[str]:
        """Names that are not what they were, written in full."""
        space = vars(self._space)
        names: list[str] = []
        try:
            same = self._take(space) == self._values
        except KeyError:
            same = False
        if not same:
            names += [
                name
                for name, value in zip(self._names, self._values, strict=True)
                if space.get(name) is not value and not self._is_the_owners(space.get(name), name)
            ]
        if self._inherited and len(space) != self._size:
            names += [
                name
                for name in self._inherited & set(space)
                if not self._is_the_owners(space[name], name)
            ]
        return [f"{self.label}.{name}" for name in names]

    def rewritten(self) -> list[str]:
        """Functions whose code or defaults are not what they were."""
        return [
            f"{self.label}.{function.__name__}"
            for function, body in zip(self.functions, self._bodies, strict=True)
            if _body(function) != body
        ]

    def restore(self) -> None:
        """Put everything back."""
        space = vars(self._space)
        for name, value in zip(self._names, self._values, strict=True):
            now = space.get(name)
            if now is not value and not self._is_the_owners(now, name):
                setattr(self._space, name, value)
        for name in self._inherited & set(space):
            if not self._is_the_owners(space[name], name):
                delattr(self._space, name)
        for function, body in zip(self.functions, self._bodies, strict=True):
            if _body(function) != body:
                function.__code__, function.__defaults__, function.__kwdefaults__ = body

    def _is_the_owners(self, value: Any, name: str) -> bool:
        """True for what a package replaced itself: torch.compile wraps functions of torch."""
        if not self._lent or value is None:
            return False
        function = getattr(value, "__func__", getattr(value, "fget", value))
        code = getattr(function, "__code__", None)
        return (
            code is not None
            and code.co_filename.startswith(self._lent)
            and getattr(function, "__name__", name) == name
        )


_BODY = ("__code__", "__defaults__", "__kwdefaults__")
_body = attrgetter(*_BODY)


class _Bodies:
    """Code and defaults of many functions, compared at once: a look at a thousand takes 0.1 ms."""

    def __init__(self, watched: Iterable[_Watched]) -> None:
        self._functions = [function for one in watched for function in one.functions]
        self._values = self._read()

    def _read(self) -> list[list[Any]]:
        return [list(map(attrgetter(part), self._functions)) for part in _BODY]

    def same(self) -> bool:
        """True while no function was rewritten."""
        return self._read() == self._values


def _is_class(space: Namespace) -> bool:
    return isinstance(space, type)


class Integrity:
    """What the harness and the contenders' surroundings were made of, and what changed in them."""

    def __init__(self) -> None:
        found = [*_harness(), *_packages()]
        self._all = found
        self._core = [w for w in found if w.label in CORE or w.label.endswith("Timer")]
        self._bodies = {True: _Bodies(self._all), False: _Bodies(self._core)}
        self._kernels = _overridden_kernels()
        self._registered = len(_registered())

    def restore(self, *, deep: bool) -> str:
        """Put back what changed; says what it was, or an empty text.

        Args:
            deep: look at everything, not only at timers and clocks.
        """
        names = [name for watched in self._looked_at(deep) for name in watched.changed()]
        if not self._bodies[deep].same():
            names += [name for watched in self._looked_at(deep) for name in watched.rewritten()]
        text = ""
        if names:
            for watched in self._looked_at(deep):
                watched.restore()
            shown = ", ".join(sorted(set(names))[:4]) + (", ..." if len(set(names)) > 4 else "")
            text = f"it replaced {shown}"
        if deep and len(_registered()) != self._registered:
            self._registered = len(_registered())
            kernels = _overridden_kernels()
            new = sorted(kernels - self._kernels)
            self._kernels = kernels  # a registration cannot be undone from here
            if new and not text:
                text = f"it registered kernels for operators of torch itself: {', '.join(new[:4])}"
        return text

    def _looked_at(self, deep: bool) -> list[_Watched]:
        return self._all if deep else self._core


def _harness() -> list[_Watched]:
    """Modules of the package that are loaded by now, and their classes."""
    found = []
    for name, module in sorted(sys.modules.items()):
        if module is None or not (name == "benchbench" or name.startswith("benchbench.")):
            continue
        names = [key for key, value in vars(module).items() if _is_harness_part(key, value)]
        found.append(_Watched(name, module, names))
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == name:
                methods = [k for k, v in vars(value).items() if _is_method(v)]
                found.append(_Watched(f"{name}.{value.__name__}", value, methods))
    return found


def _is_harness_part(name: str, value: object) -> bool:
    if name.startswith("__"):
        return False
    return callable(value) or (name.isupper() and isinstance(value, _HARNESS_DATA))


def _is_method(value: object) -> bool:
    return callable(value) or isinstance(value, property | staticmethod | classmethod)


def _packages() -> list[_Watched]:
    import builtins

    found = [_Watched("builtins", builtins, _callables(builtins, _FREE))]
    found += [
        _Watched(name, sys.modules[name], _callables(sys.modules[name]), _home(name))
        for name in _OTHERS
        if name in sys.modules
    ]
    if "torch" in sys.modules:
        for path in _TORCH:
            space = _resolve(path)
            if space is not None:
                found.append(_Watched(path, space, _callables(space), _home("torch")))
    return found


def _callables(space: Namespace, left_out: Iterable[str] = ()) -> list[str]:
    return [
        name
        for name, value in vars(space).items()
        if _is_method(value) and name not in left_out and name not in _UNUSED
    ]


def _home(name: str) -> str:
    """Folder of the package that a module belongs to; empty for modules of Python itself."""
    package = sys.modules.get(name.split(".")[0])
    file = getattr(package, "__file__", None)
    return str(Path(file).parent) if file and hasattr(package, "__path__") else ""


def _resolve(path: str) -> Namespace | None:
    space: Any = sys.modules.get("torch")
    for part in path.split(".")[1:]:
        space = getattr(space, part, None)
    return space if hasattr(space, "__dict__") else None


def _registered() -> Collection[str]:
    """Kernels that Python code registered; a look at their number takes no time."""
    library = sys.modules.get("torch.library")
    found: Collection[str] = getattr(library, "_impls", ())
    return found


def _overridden_kernels() -> frozenset[str]:
    """Those for torch's own operators, as ``aten/add.Tensor/CPU``."""
    return frozenset(
        key
        for key in _registered()
        if key.startswith("aten/") and key.rpartition("/")[2] in _KERNELS
    )
