"""Notice when somebody changes the inputs that all contenders of a case share.

Two depths. The *surface* of a tensor (address, version counter, shape, gradient) costs about a
microsecond and sees every in-place operation of torch. The *content* is a checksum of all bytes and
sees the rest: kernels that write through a raw pointer, numpy views, ``.data``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from benchbench.structures import SCALARS, is_array, is_tensor, leaves, total_bytes

ROW = 4096
_MIX = 0x9E3779B97F4A7C15


@lru_cache(maxsize=4)
def _weights(count: int) -> Any:
    """Odd 64-bit weights: with them a sum modulo 2^64 changes with every word and every swap."""
    import numpy as np

    return np.random.default_rng(20210).integers(-(2**62), 2**62, count, dtype=np.int64) | 1


def checksum_bytes(data: Any) -> int:
    """Checksum of a one-dimensional array of uint8: sums with fixed odd weights, modulo 2^64.

    About 13 GB/s on one core, where ``zlib.crc32`` reaches 7 and SHA-1 2.
    """
    import numpy as np

    whole = data.size // 8 * 8
    words = data[:whole].view(np.int64) if data[:whole].ctypes.data % 8 == 0 else None
    if words is None:
        words = data[:whole].copy().view(np.int64)
    rows = words.size // ROW
    with np.errstate(over="ignore"):
        sums = words[: rows * ROW].reshape(rows, ROW) @ _weights(ROW)
        total = int(sums @ _row_weights(rows)) if rows else 0
        rest = words[rows * ROW :]
        total += 3 * int(rest @ _weights(ROW)[: rest.size]) if rest.size else 0
    tail = int.from_bytes(data[whole:].tobytes(), "little")
    return int(total + tail * _MIX + data.size) % (1 << 64)


def _row_weights(rows: int) -> Any:
    """Weights of ``rows`` rows, cut from a cached array of the next power of two."""
    return _weights(max(ROW, 1 << (rows - 1).bit_length()))[:rows] ^ 2


def checksum(leaf: Any) -> int:
    """Checksum of a leaf's values; of the type alone for objects that hold none that we know."""
    import numpy as np

    if is_tensor(leaf):
        return _tensor_checksum(leaf)
    if is_array(leaf):
        if leaf.dtype.hasobject:
            return hash(repr(leaf))
        return checksum_bytes(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return hash(repr(leaf)) if isinstance(leaf, SCALARS) else hash(type(leaf))


def _tensor_checksum(tensor: Any) -> int:
    import torch

    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    data = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    if data.device.type == "cpu":
        return checksum_bytes(data.numpy())
    if data.storage_offset() % 8:
        data = data.clone()  # words of 8 bytes can be read from a multiple of 8 only
    whole = data.numel() // (8 * ROW) * 8 * ROW
    weights = torch.from_numpy(_weights(ROW)).to(data.device)
    total = 0
    words = data[:whole].view(torch.int64).view(-1, ROW)
    for start in range(0, words.shape[0], 1 << 12):  # 128 MiB at a time
        sums = (words[start : start + (1 << 12)] * weights).sum(1)
        total = total * 31 + int((sums * weights[: sums.numel()]).sum())
    return (total + checksum_bytes(data[whole:].cpu().numpy())) % (1 << 64)


def _surface(leaf: Any) -> tuple[object, ...]:
    if is_tensor(leaf):
        try:
            version = leaf._version
        except RuntimeError:  # inference tensors keep no version
            version = 0
        try:
            address = leaf.data_ptr()
        except RuntimeError:
            address = 0
        has_gradient = leaf.is_leaf and leaf.requires_grad and leaf.grad is not None
        shape = tuple(leaf.shape)
        return (address, version, shape, leaf.dtype, leaf.requires_grad, has_gradient)
    if is_array(leaf):
        return (leaf.__array_interface__["data"][0], leaf.shape, str(leaf.dtype))
    return (repr(leaf),) if isinstance(leaf, SCALARS) else (id(leaf),)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The shared inputs at one moment, leaf by leaf."""

    surfaces: tuple[tuple[str, tuple[object, ...]], ...]
    contents: tuple[tuple[str, int], ...] = ()


class Shared:
    """The inputs of a case, with what they looked like when they were made."""

    SMALL = 1 << 20
    """Up to this many bytes the content is looked at after every step (under 100 us)."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = inputs
        self.small = total_bytes(inputs) <= self.SMALL
        self._made = self._take(content=True)

    def _take(self, *, content: bool) -> Fingerprint:
        found = list(leaves(self.inputs, ""))
        return Fingerprint(
            surfaces=tuple((path, _surface(leaf)) for path, leaf in found),
            contents=tuple((path, checksum(leaf)) for path, leaf in found) if content else (),
        )

    def changed(self, *, content: bool) -> str:
        """Name of the first input that changed since they were made, or an empty text.

        Args:
            content: compare every byte; otherwise only surfaces, unless the inputs are small.
        """
        now = self._take(content=content or self.small)
        path = _difference(self._made.surfaces, now.surfaces)
        if not path and now.contents:
            path = _difference(self._made.contents, now.contents)
        return path

    def accept_surfaces(self) -> None:
        """The harness itself wrote into the buffers and put the values back."""
        now = self._take(content=False)
        self._made = Fingerprint(surfaces=now.surfaces, contents=self._made.contents)

    def restore(self, fresh: Any) -> str:
        """Copy ``fresh`` (made again from the same seed) into the same buffers.

        Thunks that were built on these buffers stay valid. Returns why it did not succeed, or an
        empty text.
        """
        import torch

        own, new = list(leaves(self.inputs, "")), list(leaves(fresh, ""))
        if [path for path, _ in own] != [path for path, _ in new]:
            return "the inputs have another structure when they are made again"
        with torch.no_grad():
            for (path, old), (_, value) in zip(own, new, strict=True):
                try:
                    if is_tensor(old):
                        old.detach().copy_(value.detach())
                        if old.is_leaf:
                            old.grad = None
                    elif is_array(old) and old.ndim:
                        old[...] = value
                except (RuntimeError, ValueError, TypeError) as error:
                    return f"{path or 'the input'} cannot be restored: {error}"
        now = self._take(content=True)
        path = _difference(self._made.contents, now.contents)
        if path:
            return f"{path} does not come out the same when it is made again from its seed"
        self._made = now
        return ""


def _difference(one: Iterable[tuple[str, object]], other: Iterable[tuple[str, object]]) -> str:
    before, after = dict(one), dict(other)
    for path in [*before, *after]:
        if path not in before or path not in after or before[path] != after[path]:
            return path or "the input"
    return ""
