"""Walk nested inputs and outputs: which tensors, arrays and numbers they hold, and where.

A leaf is a torch tensor, a numpy array, a plain scalar or an object that is none of these; its path
reads like the expression that reaches it (``[0]``, ``['x']``, ``.weight``).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchbench.inputs import Inputs

SCALARS = (str, int, float, complex, bool, type(None))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of mappings, sequences, dataclasses, :class:`Inputs` and modules, with its path.

    A container that is met twice is walked once, so cycles end.
    """
    yield from _walk(value, path, set())


def _walk(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if is_tensor(value) or is_array(value) or isinstance(value, SCALARS):
        yield path, value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Inputs):
        for name, item in value.tensors().items():
            yield from _walk(item, f"{path}.{name}" if path else name, seen)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{path}[{key!r}]", seen)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]", seen)
    elif is_module(value):
        for name, item in [*value.named_parameters(), *value.named_buffers()]:
            yield f"{path}.{name}", item
        for name, module in value.named_modules():
            yield f"{path}.{name}.training", module.training
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _walk(getattr(value, field.name), f"{path}.{field.name}", seen)
    else:
        yield path, value


def is_tensor(value: Any) -> bool:
    """True for torch tensors, parameters and other subclasses; imports nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """True for numpy arrays and numpy scalars; imports nothing."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def is_module(value: Any) -> bool:
    """True for ``torch.nn.Module``; imports nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a leaf is, without its values."""

    path: str
    kind: str
    """``tensor``, ``array`` or the name of a scalar's or object's type."""
    dtype: str = ""
    device: str = ""
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.kind not in ("tensor", "array"):
            return self.kind
        where = f" on {self.device}" if self.device else ""
        return f"{self.kind} {self.dtype} {list(self.shape)}{where}"


def specify(path: str, leaf: Any) -> Spec:
    """Describe a leaf."""
    if is_tensor(leaf):
        dtype = str(leaf.dtype).removeprefix("torch.")
        return Spec(
            path=path,
            kind="tensor",
            dtype=dtype,
            device=leaf.device.type,
            shape=tuple(leaf.shape),
        )
    if is_array(leaf):
        return Spec(path=path, kind="array", dtype=str(leaf.dtype), shape=tuple(leaf.shape))
    return Spec(path=path, kind=type(leaf).__name__)


def extent(leaf: Any) -> tuple[str, int, int] | None:
    """Device and address range of the memory behind a tensor or array, None when it has none."""
    if is_tensor(leaf):
        try:
            storage = leaf.untyped_storage()
            start, size = storage.data_ptr(), storage.nbytes()
        except (RuntimeError, NotImplementedError):  # sparse and other tensors without a storage
            return None
        return (str(leaf.device), start, start + size) if size and start else None
    if is_array(leaf) and getattr(leaf, "nbytes", None) and hasattr(leaf, "ctypes"):
        owner = leaf
        while is_array(getattr(owner, "base", None)):
            owner = owner.base
        if is_tensor(getattr(owner, "base", None)):
            return extent(owner.base)
        start = owner.__array_interface__["data"][0]
        return ("cpu", start, start + owner.nbytes)
    return None


def overlap(one: tuple[str, int, int] | None, other: tuple[str, int, int] | None) -> bool:
    """True when two extents share memory."""
    if one is None or other is None or one[0] != other[0]:
        return False
    return one[1] < other[2] and other[1] < one[2]


def total_bytes(value: Any) -> int:
    """Bytes of distinct memory behind a value's tensors and arrays."""
    ranges = {extent(leaf) for _, leaf in leaves(value)}
    return sum(found[2] - found[1] for found in ranges if found is not None)
