"""Cold caches: calls go round several sets of inputs, so that none is in the cache when its turn
comes.

A buffer that is written between calls (the other usual way) leaves lines behind that the timed call
has to write back, and calls alone do not pay for what they leave. Here the cache holds what calls
of the same contender left, as it does in use.

All sets hold the same values, so one reference is right for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from benchbench.contract import Implementation, Thunk
from benchbench.inputs import Inputs

TIMES = 5
"""How often the sets together fill the last cache."""
MOST = 64
SHARE_OF_MEMORY = 0.4


class Rotation:
    """Calls the next of several thunks each time."""

    def __init__(self, thunks: Sequence[Thunk]) -> None:
        self.period = len(thunks)
        """Calls after which all sets were read."""
        self._next = cycle(thunks).__next__

    def __call__(self) -> Any:
        """One call, on the next set."""
        return self._next()()


def count(size: int, cache: int, free: int) -> tuple[int, str]:
    """How many sets of ``size`` bytes it takes, or 0 and why they cannot be had.

    Args:
        size: bytes of one set of inputs.
        cache: bytes of the last cache.
        free: bytes of memory that may still be taken.
    """
    if cache <= 0:
        return 0, "the size of the last cache is not known here, so nothing is known to be cold"
    if size <= 0:
        return 0, "its inputs hold no memory, so they cannot be cold"
    needed = max(2, math.ceil(TIMES * cache / size))
    if needed > MOST:
        return 0, (
            f"inputs of {size / 2**20:.3g} MiB would need {needed} sets to be cold in a cache of "
            f"{cache / 2**20:.3g} MiB, {MOST} is the most; choose a larger shape or --cache hot"
        )
    if needed * size > SHARE_OF_MEMORY * free:
        return 0, (
            f"{needed} sets of inputs of {size / 2**20:.3g} MiB take more than "
            f"{100 * SHARE_OF_MEMORY:g} % of the memory that is free; choose a smaller shape or "
            "--cache hot"
        )
    return needed, ""


def over(
    implementation: Implementation,
    thunk: Thunk,
    inputs: Any,
    copies: Sequence[Any],
) -> Rotation:
    """A thunk that goes round ``inputs`` and the copies.

    What :meth:`Inputs.thunk` made closes the same function over each set, so that a compiled one is
    compiled once; anything else is built again on each.
    """
    again = _maker(inputs, thunk)
    thunks = [thunk]
    for copy in copies:
        thunks.append(again(copy) if again is not None else implementation.build(copy))
    return Rotation(thunks)


def _maker(inputs: Any, thunk: Thunk) -> Callable[[Any], Thunk] | None:
    if not isinstance(inputs, Inputs):
        return None
    for made, function, parameters in inputs.thunks_made:
        if made is thunk:
            return lambda copy: copy.thunk(function, parameters)
    return None
