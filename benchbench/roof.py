"""The roof of a case: copying as many bytes as the case must move at the least.

On a GPU, where the case states so much arithmetic that the matrix units decide and not the memory,
it is a bf16 matrix product with as many operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from benchbench.contract import Thunk, Work
from benchbench.rotation import MOST, Rotation

NAME = "roof:copy"
PRODUCT = "roof:bf16-product"
NAMES = (NAME, PRODUCT)
_SHARE_OF_MEMORY = 0.2
INTENSITY = 200.0
"""Operations for each byte from which on a product is the roof. A current GPU multiplies some 800
TFLOP/s in bf16 while it moves 4 TB/s."""
_SIDE = 128
"""The product's inner and last sides are multiples of this, which all tile sizes divide."""
_WIDEST = 8192

Copier = Callable[[Any, Any], Any]
"""``copier(destination, source)`` for two float32 tensors of the same length."""


def copiers(device: str) -> list[Copier]:
    """Ways to copy, torch's own first. The fastest on this machine is the roof."""
    import torch

    found: list[Copier] = [torch.Tensor.copy_]
    if device == "cpu":
        from benchbench import native

        streaming = getattr(native, "streaming_copy", lambda: None)()
        if streaming is not None:
            found.append(streaming)
    return found


def name(work: Work | None, device: str) -> str:
    """Which roof a case has."""
    return PRODUCT if _multiplies(work, device) else NAME


def _multiplies(work: Work | None, device: str) -> bool:
    if work is None or device.split(":")[0] != "cuda":
        return False
    return work.flops >= 2.0 * _SIDE**3 and work.flops > INTENSITY * work.bytes


def build(work: Work | None, device: str, available: int, cold: int = 0) -> Thunk | None:
    """A thunk that does what the case has to do at the least, and nothing else, or None.

    It reads half of ``work.bytes`` and writes the other half, whatever the split in the case: what
    limits both is the same bus or cache. Or it multiplies; see :func:`product`.

    Args:
        work: compulsory traffic and arithmetic of the case.
        device: where its tensors are.
        available: bytes of memory that may be used; a roof that takes a large share is left out.
        cold: bytes that buffers must have together, so that calls that go round them find none in
            the cache; 0 for one pair of them.
    """
    kind = device.split(":")[0]
    if work is None or kind not in ("cpu", "cuda"):
        return None
    if _multiplies(work, device):
        return product(work.flops, device) if product_bytes(work.flops) < available / 2 else None
    if work.bytes <= 0 or work.bytes > (_SHARE_OF_MEMORY if kind == "cpu" else 0.5) * available:
        return None
    sets = min(MOST, max(1, math.ceil(cold / work.bytes)))
    if sets * work.bytes > 0.5 * available:
        return None
    pairs = [_pair(work, device) for _ in range(sets)]
    choices: list[Thunk] = []
    for copier in copiers(kind):
        calls: list[Thunk] = [partial(copier, *pair) for pair in pairs]
        choices.append(calls[0] if sets == 1 else Rotation(calls))
    return choices[0] if len(choices) == 1 else _fastest(choices)


def _pair(work: Work, device: str) -> tuple[Any, Any]:
    """Destination and source of a copy."""
    import torch

    count = max(16, int(work.bytes / 2 / 4))
    # A GPU moves equal values with less power, and so may be faster than on any real ones.
    fill = torch.rand if device.split(":")[0] == "cuda" else torch.ones
    source = fill(count, dtype=torch.float32, device=device)
    return torch.full_like(source, 2.0), source


def sides(flops: float) -> tuple[int, int]:
    """Rows, and the other two sides, of a product of about ``flops`` operations (2 m n^2)."""
    wide = round((flops / 2) ** (1 / 3) / _SIDE) * _SIDE
    wide = min(_WIDEST, max(_SIDE, wide))
    return max(_SIDE, round(flops / (2 * wide * wide) / 8) * 8), wide


def product_bytes(flops: float) -> float:
    """Memory that :func:`product` takes."""
    rows, wide = sides(flops)
    return 2.0 * (2 * rows * wide + wide * wide)


def product(flops: float, device: str) -> Thunk:
    """A bf16 product of two random matrices, of ``flops`` operations as nearly as sides allow."""
    import torch

    rows, wide = sides(flops)
    left = torch.randn(rows, wide, device=device, dtype=torch.bfloat16)
    right = torch.randn(wide, wide, device=device, dtype=torch.bfloat16)
    out = torch.empty(rows, wide, device=device, dtype=torch.bfloat16)
    return partial(torch.mm, left, right, out=out)


def _fastest(thunks: list[Thunk]) -> Thunk:
    from benchbench.timers.wall import WallTimer

    timer = WallTimer()
    best: dict[int, float] = {}
    for _ in range(3):
        for index, thunk in enumerate(thunks):
            elapsed = timer.sample(thunk, 1).elapsed
            best[index] = min(elapsed, best.get(index, elapsed))
    return thunks[min(best, key=lambda index: best[index])]
