"""The C library's heap: no page faults in timed samples, no right answers left over."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

_SMALLEST = 1 << 17
_LARGEST = 1 << 30
_TIMES = 8


class Heap:
    """Touches a stretch of heap in which outputs can move about.

    Before version 2.38 (and in part since) glibc cannot put an aligned block where one of the same
    size was just freed when a small object lies behind it; the next output lands a little further
    on. Where nobody wrote before, that costs a page fault for each 4 KiB, up to ten times the
    operation itself. Measured with 64 MiB outputs: 17 of 200 calls faulted with raised allocator
    thresholds alone, 9 with room for 4 outputs touched before, none with room for 8. An output of
    two parts of 98 MiB, with the one before still held and scratch of 256 KiB between them, faulted
    in 2 of 12 calls with 512 MiB touched, in none with 1 GiB.
    """

    def __init__(self) -> None:
        self._touched = 0

    def reserve(self, sizes: Iterable[float]) -> None:
        """Touch room for eight of the largest of ``sizes`` bytes, at most 1 GiB, and free it.

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


_M_PERTURB = -6

FILL = 0x7F
"""Each byte of a filled block: nan in float16, 3e38 in float32 and bfloat16, 1e306 in float64.

0xff would be nan everywhere, but glibc takes the complement, and zero switches the filling off."""


class Perturbed:
    """While entered, glibc fills every block of over 1 KiB that it hands out.

    So what an output holds that was never written is certainly wrong, whatever lay in that memory
    before. Elsewhere than on glibc, and for smaller blocks, it does nothing. For untimed calls
    only: filling costs time.
    """

    def __enter__(self) -> Perturbed:
        self._set(FILL ^ 0xFF)
        return self

    def __exit__(self, *_: object) -> None:
        self._set(0)

    @staticmethod
    def _set(value: int) -> None:
        if sys.platform == "linux":
            mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
            if mallopt is not None:
                mallopt(_M_PERTURB, value)
