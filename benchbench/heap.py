"""Keeps the C library's heap from page-faulting in the middle of timed samples."""

from __future__ import annotations

from collections.abc import Iterable

_SMALLEST = 1 << 17
_LARGEST = 1 << 29
_TIMES = 8


class Heap:
    """Touches a stretch of heap in which outputs can move about.

    Before version 2.38 (and in part since) glibc cannot put an aligned block where one of the same
    size was just freed when a small object lies behind it; the next output lands a little further
    on. Where nobody wrote before, that costs a page fault for each 4 KiB, up to ten times the
    operation itself. Measured with 64 MiB outputs: 17 of 200 calls faulted with raised allocator
    thresholds alone, 9 with room for 4 outputs touched before, none with room for 8.
    """

    def __init__(self) -> None:
        self._touched = 0

    def reserve(self, sizes: Iterable[float]) -> None:
        """Touch room for eight of the largest of ``sizes`` bytes, at most 512 MiB, and free it.

        Done once for a size in a worker: freed heap stays with the process there.
        """
        import torch

        size = int(max(sizes, default=0))
        room = min(_TIMES * size, _LARGEST)
        if size >= _SMALLEST and room > self._touched:
            torch.empty(room, dtype=torch.uint8, device="cpu").fill_(0)
            self._touched = room

    def forget(self) -> None:
        """The heap was given back to the kernel: what was touched must be touched again."""
        self._touched = 0
