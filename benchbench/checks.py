"""Is an output right? Comparison with the float64 reference, and whose memory it lives in.

Errors are relative: ``|output - reference| / (|reference| + rms(reference))``. What a contender may
be off by follows from what the baseline is off by (:class:`benchbench.contract.Tolerance`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchbench.contract import Tolerance
from benchbench.structures import Spec, extent, is_array, is_tensor, leaves, overlap, specify

CHUNK = 1 << 15
"""Elements compared at a time: the buffers stay in a 1 MiB cache, and torch does not use threads
for so few, which under load wait for each other for longer than the work takes."""

_POISON_BYTES = (0, 64, 256, 4096)
"""By how much the blocks that are filled exceed an output."""


@dataclass(frozen=True, kw_only=True)
class Error:
    """Distance of the leaves of one dtype from the reference."""

    eps: float
    max: float = 0.0
    rms: float = 0.0


Errors = Mapping[str, Error]
"""By dtype of the output: a rounding unit belongs to a dtype."""


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """One leaf of the reference, ready to be compared with many outputs."""

    shape: tuple[int, ...]
    values: Any
    """Flat float64 tensor."""
    rms: float
    """Root mean square of the finite values; 1 where that is zero."""
    largest: float
    """Largest magnitude, infinite or nan when not every value is finite."""


class Reference:
    """A float64 reference, flattened once and compared with every contender of the case."""

    def __init__(self, reference: Any) -> None:
        self._leaves = {path: _expect(leaf) for path, leaf in leaves(reference)}

    def compare(self, output: Any) -> tuple[Errors, str]:
        """Errors of ``output`` by dtype, and what is wrong with its structure, or an empty text.

        An output is finite exactly where the reference, cast to the output's dtype, is.
        """
        found = dict(leaves(output))
        if list(found) != list(self._leaves):
            return {}, (
                f"the output has the parts {_paths(found)}, the reference has "
                f"{_paths(self._leaves)}"
            )
        worst: dict[str, Error] = {}
        for path, leaf in found.items():
            expected = self._leaves[path]
            if expected is None or leaf is None:
                if (expected is None) != (leaf is None):
                    return {}, f"{_where(path)}None and a value stand where the other is expected"
                continue
            actual = _tensor(leaf)
            if actual is None:
                return {}, f"{_where(path)}{type(leaf).__name__} cannot be compared with numbers"
            if tuple(actual.shape) != expected.shape:
                return {}, (
                    f"{_where(path)}the shape is {list(actual.shape)}, expected "
                    f"{list(expected.shape)}"
                )
            largest, mean, reason = _distance(actual, expected)
            if reason:
                return {}, _where(path) + reason
            dtype = str(actual.dtype).removeprefix("torch.")
            before = worst.get(dtype, Error(eps=epsilon(actual.dtype)))
            worst[dtype] = Error(
                eps=before.eps, max=max(before.max, largest), rms=max(before.rms, mean)
            )
        return worst, ""


def _where(path: str) -> str:
    return f"output{path}: " if path else ""


def _paths(found: Mapping[str, Any]) -> str:
    names = [path or "(one value)" for path in found]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return shown or "(none)"


def epsilon(dtype: Any) -> float:
    """Rounding unit of a torch dtype; 0 for integers and booleans, which must be exact."""
    import torch

    if dtype.is_floating_point or dtype.is_complex:
        return float(torch.finfo(dtype).eps)
    return 0.0


def _tensor(leaf: Any) -> Any:
    """A leaf as a dense tensor of real numbers without history, or None when it holds none."""
    import torch

    if is_array(leaf):
        import numpy as np

        try:
            leaf = torch.from_numpy(np.asarray(leaf, order="C"))
        except (TypeError, ValueError):  # text, objects
            return None
    elif isinstance(leaf, bool | int | float | complex):
        leaf = torch.tensor(leaf, dtype=None if isinstance(leaf, complex) else torch.float64)
    if not is_tensor(leaf):
        return None
    leaf = leaf.detach()
    if leaf.is_quantized:
        leaf = leaf.dequantize()
    if leaf.layout != torch.strided:
        leaf = leaf.to_dense()
    return torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf


def _expect(leaf: Any) -> _Expected | None:
    import torch

    if leaf is None:
        return None
    tensor = _tensor(leaf)
    if tensor is None:
        raise TypeError(
            f"the reference returned {type(leaf).__name__}; it must return tensors, arrays or "
            "numbers in the structure of the output"
        )
    values = tensor.to(torch.float64).reshape(-1)
    squares, largest, count = 0.0, 0.0, 0
    for part in values.split(_chunk(values)) if values.numel() else ():
        magnitude = part.abs()
        peak = float(magnitude.max())
        if not math.isfinite(peak):
            largest = math.inf
            magnitude = magnitude[magnitude.isfinite()]
        largest = max(largest, peak)
        squares += float(torch.dot(magnitude, magnitude))
        count += magnitude.numel()
    rms = math.sqrt(squares / count) if count else 0.0
    return _Expected(shape=tuple(tensor.shape), values=values, rms=rms or 1.0, largest=largest)


def _chunk(flat: Any) -> int:
    return CHUNK if flat.device.type == "cpu" else CHUNK << 8


def _distance(actual: Any, expected: _Expected) -> tuple[float, float, str]:
    """Largest and root-mean-square error of one leaf, and where finiteness differs."""
    import torch

    count = expected.values.numel()
    if count == 0:
        return 0.0, 0.0, ""
    flat = actual.reshape(-1)
    if flat.device != expected.values.device:
        flat = flat.to(expected.values.device)
    chunk = min(count, _chunk(flat))
    room, scale = torch.empty((2, chunk), dtype=torch.float64, device=flat.device)
    largest, squares = 0.0, 0.0
    for start in range(0, count, chunk):
        part = slice(start, min(start + chunk, count))
        size = part.stop - part.start
        expect = expected.values[part]
        torch.abs(expect, out=scale[:size]).add_(expected.rms)
        error = room[:size].copy_(flat[part]).sub_(expect).div_(scale[:size])
        squares += float(torch.dot(error, error))
        largest = max(largest, float(error.abs_().max()))
    limit = float(torch.finfo(flat.dtype).max) if flat.dtype.is_floating_point else math.inf
    if math.isfinite(squares) and expected.largest <= limit:
        return largest, math.sqrt(squares / count), ""
    return _distance_where_finite(flat, expected)


def _distance_where_finite(flat: Any, expected: _Expected) -> tuple[float, float, str]:
    """The slow way, for outputs or references that are not finite everywhere."""
    import torch

    should = expected.values.to(flat.dtype).isfinite()
    does = flat.isfinite()
    differs = should != does
    count = int(differs.sum())
    if count:
        first = int(differs.nonzero()[0])
        index = [int(i) for i in torch.unravel_index(torch.tensor(first), expected.shape)]
        return (
            math.inf,
            math.inf,
            f"{count} of {flat.numel()} values are {float(flat[first])} or the like where the "
            f"reference is {float(expected.values[first]):.6g} (first at {index})",
        )
    expect = expected.values[does]
    error = (flat[does].double() - expect) / (expect.abs() + expected.rms)
    if not error.numel():
        return 0.0, 0.0, ""
    return float(error.abs().max()), float(error.square().mean().sqrt()), ""


def judge(
    errors: Errors, baseline: Errors | None, tolerance: Tolerance
) -> tuple[dict[str, float], str]:
    """Figures for the row, and why the output is wrong, or an empty text.

    The figures are those of the dtype that comes nearest to its bound, and beside them, as
    ``baseline_max`` and ``baseline_rms``, the baseline's of the same dtype: where an output has
    parts of several dtypes, the largest error of one says nothing beside that of another.

    Args:
        errors: of the contender.
        baseline: of the baseline, or None when it is the baseline that is judged or when the
            baseline is itself wrong; then the largest error may be ``tolerance.absolute``, or the
            square root of the dtype's rounding unit.
        tolerance: of the workload.
    """
    row: dict[str, float] = {}
    worst, reason = -1.0, ""
    for dtype, error in errors.items():
        own: dict[str, float] = {}
        if baseline is None or dtype not in baseline:
            absolute = tolerance.absolute
            allowed = {"max": math.sqrt(error.eps) if absolute is None else absolute}
        else:
            own = {"max": baseline[dtype].max, "rms": baseline[dtype].rms}
            allowed = {
                name: tolerance.factor * value + tolerance.units * error.eps
                for name, value in own.items()
            }
        for name, limit in allowed.items():
            value = getattr(error, name)
            share = value / limit if limit > 0 else (math.inf if value > 0 else 0.0)
            if share > worst:
                worst = share
                row = {
                    "max": error.max,
                    "rms": error.rms,
                    "allowed": allowed["max"],
                    "eps": error.eps,
                    **{f"baseline_{figure}": before for figure, before in own.items()},
                }
                if share > 1.0 or math.isnan(share):
                    what = "largest" if name == "max" else "root-mean-square"
                    reason = (
                        f"the {what} relative error of its {dtype} output is {value:.3g}, "
                        f"allowed is {limit:.3g}"
                    )
    return row, reason


def signature(output: Any) -> tuple[Spec, ...]:
    """What an output consists of: parts, dtypes, devices and shapes."""
    return tuple(specify(path, leaf) for path, leaf in leaves(output))


def signature_fault(specs: Sequence[Spec], expected: Sequence[Spec], whose: str) -> str:
    """How an output differs in kind from the one that is expected, or an empty text."""
    if [spec.path for spec in specs] != [spec.path for spec in expected]:
        return (
            f"the output has the parts {_paths({s.path: s for s in specs})}, {whose} has "
            f"{_paths({s.path: s for s in expected})}"
        )
    for spec, other in zip(specs, expected, strict=True):
        if spec != other:
            return f"{_where(spec.path)}it is a {spec}, {whose} a {other}"
    return ""


def aliases(output: Any, inputs: Any) -> dict[str, str]:
    """Parts of the output that live in an input's memory: path of the part to that of the input."""
    shared = [(path, extent(leaf)) for path, leaf in leaves(inputs)]
    found = {}
    for path, leaf in leaves(output):
        where = extent(leaf)
        for name, other in shared:
            if overlap(where, other):
                found[path] = name or "the input"
                break
    return found


def shared_parts(one: Any, other: Any) -> list[str]:
    """Parts of ``one`` whose memory ``other`` uses too, when both are held at once."""
    taken = [extent(leaf) for _, leaf in leaves(other)]
    return [
        path for path, leaf in leaves(one) if any(overlap(extent(leaf), place) for place in taken)
    ]


def alias_fault(found: Mapping[str, str], permitted: Iterable[str]) -> str:
    """Why memory shared with the inputs is wrong, or an empty text.

    ``permitted`` are parts that alias in the baseline's output too: the gradient of a sum is its
    cotangent, and torch returns that very tensor.
    """
    allowed = set(permitted)
    for path, name in found.items():
        if path not in allowed:
            return f"{_where(path)}it is the memory of the input {name!r}, not a new result"
    return ""


def unwritten(output: Any, byte: int) -> str:
    """Which part of an output consists of the byte its memory was filled with, or an empty text."""
    import torch

    for path, leaf in leaves(output):
        tensor = _tensor(leaf)
        if tensor is None or not tensor.numel() or tensor.device.type != "cpu":
            continue
        values = tensor.contiguous().reshape(-1)
        size = values.element_size()
        raw = values.view(torch.uint8).view(-1, size)
        count = int((raw == byte).all(dim=1).sum())
        if size > 1 and count:
            return f"{_where(path)}{count} of {values.numel()} values were never written"
    return ""


def poison(specs: Sequence[Spec], count: int = 1) -> None:
    """Fill free memory of the sizes of an output with nan (integers: their least value).

    The allocator hands these blocks out next, so an output that is never written, or only in part,
    does not hold an earlier contender's right answer by chance. The C library trims an aligned
    block at both ends, and small objects settle in the trimmings, so a block of one size may not
    serve the next request of the same size: larger ones are filled too. After random allocations
    the next output was hit in 192 to 200 of 200 trials, with one block of the exact size in 161
    to 194. Where certainty is needed, :class:`benchbench.heap.Perturbed` fills at allocation.
    """
    import torch

    held = []
    for spec in [*specs] * count:
        if spec.kind not in ("tensor", "array") or not math.prod(spec.shape):
            continue
        dtype = getattr(torch, spec.dtype, None)
        if not isinstance(dtype, torch.dtype) or spec.device == "meta":
            continue
        for extra in _POISON_BYTES:
            size = math.prod(spec.shape) + extra // dtype.itemsize
            block = torch.empty(size, dtype=dtype, device=spec.device or "cpu")
            if dtype.is_floating_point or dtype.is_complex:
                block.fill_(math.nan)
            else:
                block.fill_(True if dtype == torch.bool else torch.iinfo(dtype).min)
            held.append(block)
    del held
