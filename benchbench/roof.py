"""The roof of a case: copying as many bytes as the case must move at the least."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchbench.contract import Thunk, Work

NAME = "roof:copy"
_SHARE_OF_MEMORY = 0.2

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


def build(work: Work | None, device: str, available: int) -> Thunk | None:
    """A thunk that reads half of ``work.bytes`` and writes the other half, or None.

    Half of the compulsory bytes is read and half is written, whatever the split in the case: what
    limits both is the same bus or cache.

    Args:
        work: compulsory traffic of the case.
        device: where its tensors are.
        available: bytes of memory that may be used; a roof that takes a large share is left out.
    """
    import torch

    kind = device.split(":")[0]
    if work is None or work.bytes <= 0 or kind not in ("cpu", "cuda"):
        return None
    if kind == "cpu" and work.bytes > _SHARE_OF_MEMORY * available:
        return None
    count = max(16, int(work.bytes / 2 / 4))
    source = torch.ones(count, dtype=torch.float32, device=device)
    destination = torch.full_like(source, 2.0)
    thunks: list[Thunk] = [partial(copier, destination, source) for copier in copiers(kind)]
    return thunks[0] if len(thunks) == 1 else _fastest(thunks)


def _fastest(thunks: list[Thunk]) -> Thunk:
    from benchbench.timers.wall import WallTimer

    timer = WallTimer()
    best: dict[int, float] = {}
    for _ in range(3):
        for index, thunk in enumerate(thunks):
            elapsed = timer.sample(thunk, 1).elapsed
            best[index] = min(elapsed, best.get(index, elapsed))
    return thunks[min(best, key=lambda index: best[index])]
