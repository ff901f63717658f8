"""Is an output there when the call returns? What it is made of, and whether it still changes.

An object that computes when it is read, or that is filled by a thread after the call has returned,
holds the right values by the time they are compared, and took no time. So outputs consist of plain
tensors, arrays, numbers and containers (or of whatever types the baseline's consists of), and are
read inside the step that called, before anybody else's code runs.

A reading takes long enough for a thread to finish meanwhile, so a glance comes first: a copy of the
memory, made while no other thread of Python's can run.
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from benchbench.fingerprint import checksum
from benchbench.structures import SCALARS, Spec, is_array, is_tensor, leaves, specify

Kinds = Mapping[str, tuple[object, ...]]
"""Type and form of each part of an output, by path."""

Reading = tuple[tuple[Spec, int], ...]
"""What each leaf is and a checksum of its values."""

Glance = tuple[tuple[str, bytes], ...]
"""Some of the memory of each leaf, by path."""

GLANCE_BYTES = 1 << 20
"""Memory of a leaf that is copied at a glance, 50 to 100 us; of larger ones spaced blocks."""
BLOCK_BYTES = 1 << 14
_HOLD = 1.0
"""Seconds between switches of Python's threads meanwhile."""

_CONTAINERS = (dict, OrderedDict, defaultdict, list, tuple)


def kinds(output: Any) -> Kinds:
    """Types of all parts of an output; runs no code of the types themselves."""
    return {
        path: (type(part), *(_form(part) if _is_plain_tensor(type(part)) else ()))
        for path, part in _parts(output, "")
    }


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind in (list, tuple) or _is_named_tuple(kind):
        for index, item in enumerate(_sequence(value)):
            yield from _parts(item, f"{path}[{index}]")
    elif kind in _CONTAINERS:
        for key in dict.keys(value):
            yield from _parts(dict.__getitem__(value, key), f"{path}[{key!r}]")
    else:
        yield path, value


def glance(output: Any) -> Glance:
    """What lies in the memory of an output right now; for plain tensors and arrays of the CPU.

    Runs no code of the types themselves, and lets no other thread of Python's run in between:
    copying through ``ctypes.string_at`` keeps the interpreter's lock, as torch's operators do not.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_HOLD)
    try:
        regions = [(path, _region(part)) for path, part in _parts(output, "")]
        return tuple((path, _copy(*region)) for path, region in regions if region is not None)
    finally:
        sys.setswitchinterval(interval)


def _region(part: Any) -> tuple[int, int] | None:
    """Address and bytes of a leaf whose values lie side by side in the host's memory, else None."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and _is_plain_tensor(type(part)):
        if part.layout is not torch.strided or part.device.type != "cpu" or part.is_quantized:
            return None
        cls = torch.Tensor
        size, dims = cls.numel(part), zip(cls.size(part), cls.stride(part), strict=True)
        span = 1 + sum((length - 1) * stride for length, stride in dims)
        if not size or span != size:
            return None
        return cls.data_ptr(part), size * cls.element_size(part)
    if numpy is not None and type(part) is numpy.ndarray and part.flags.c_contiguous and part.size:
        return part.__array_interface__["data"][0], part.nbytes
    return None


def _copy(address: int, size: int) -> bytes:
    if size <= GLANCE_BYTES:
        return ctypes.string_at(address, size)
    count = GLANCE_BYTES // BLOCK_BYTES
    step = (size - BLOCK_BYTES) / (count - 1)
    starts = [address + int(index * step) for index in range(count)]
    return b"".join(ctypes.string_at(start, BLOCK_BYTES) for start in starts)


def _sequence(value: Any) -> Iterator[Any]:
    return list.__iter__(value) if type(value) is list else tuple.__iter__(value)


def _is_named_tuple(kind: type) -> bool:
    """Named tuples and torch's own (``torch.return_types``), as long as they read like tuples."""
    return (
        issubclass(kind, tuple)
        and kind.__iter__ is tuple.__iter__
        and kind.__getitem__ is tuple.__getitem__
    )


def _is_plain_tensor(kind: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and kind in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def _form(tensor: Any) -> tuple[object, ...]:
    """Layout, and what is left to the reader: conjugation, negation."""
    return (str(tensor.layout), tensor.is_conj(), tensor.is_neg())


def deferral(output: Any, expected: Kinds | None, *, compared: bool) -> str:
    """Why an output may not be there yet, or an empty text.

    Args:
        output: what the call returned.
        expected: of the baseline's output; None when there is none to go by.
        compared: True where the core compares values itself; elsewhere the workload's own check
            reads whatever objects it asked for.
    """
    for path, kind in kinds(output).items():
        where = f"output{path}: " if path else ""
        if expected is not None and expected.get(path) == kind:
            continue
        found = kind[0]
        assert isinstance(found, type)
        if _is_plain_tensor(found):
            reason = _left_to_the_reader(kind, expected, path)
            if reason:
                return where + reason
        elif not _is_plain(found) and (compared or _poses_as_values(found)):
            if expected is None and not _poses_as_values(found):
                continue
            return (
                f"{where}it is of the type {found.__module__}.{found.__qualname__}, which may "
                "compute when it is read; return a plain tensor or array"
            )
    return _overridden(output)


def _left_to_the_reader(kind: tuple[object, ...], expected: Kinds | None, path: str) -> str:
    _, layout, conjugate, negative = kind
    usual = ("", "torch.strided", False, False) if expected is None else expected.get(path)
    if usual is None or len(usual) != 4:
        usual = ("", "torch.strided", False, False)
    if (conjugate, negative) != usual[2:]:
        return "the conjugation or negation of its values is left to whoever reads them"
    if expected is not None and layout != usual[1]:
        return f"its layout is {layout}, the baseline's {usual[1]}"
    return ""


def _is_plain(kind: type) -> bool:
    numpy = sys.modules.get("numpy")
    if kind in SCALARS:
        return True
    if numpy is None:
        return False
    return kind is numpy.ndarray or (issubclass(kind, numpy.generic) and kind.__module__ == "numpy")


def _poses_as_values(kind: type) -> bool:
    """True for classes derived from tensors, arrays, numbers or containers."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    bases: tuple[type, ...] = (*_CONTAINERS, int, float, complex, str)
    if torch is not None:
        bases += (torch.Tensor,)
    if numpy is not None:
        bases += (numpy.ndarray,)
    return issubclass(kind, bases)


def _overridden(output: Any) -> str:
    """A tensor whose own attributes stand in front of its class's methods."""
    for path, leaf in leaves(output):
        if not is_tensor(leaf):
            continue
        hidden = [name for name in vars(leaf) if hasattr(type(leaf), name)]
        if hidden:
            where = f"output{path}: " if path else ""
            return f"{where}it carries a {hidden[0]!r} of its own in place of the tensor's"
    return ""


def read(output: Any) -> Reading:
    """Values as they are now: the same bits give the same reading."""
    return tuple((specify(path, leaf), checksum(leaf)) for path, leaf in leaves(output))


def has_values(output: Any) -> bool:
    """True when a part of the output holds values that can be read again."""
    return any(is_tensor(leaf) or is_array(leaf) for _, leaf in leaves(output))
