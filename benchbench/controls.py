"""The controls that ride with a gate: a null that must show nothing, a slow-down that must show.

Both are made of one implementation, so they take its path through build, allocation and timing. A
control that took another path could not see that path's bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

from benchbench.catalog import Catalog
from benchbench.contract import Implementation, Thunk
from benchbench.sides import entrant_name, split_name

NULL = "null"
SLOWED = "slowed"
SLOWDOWN = 0.05
"""By how much the positive control is slower."""
_TRIALS = 5
_TRIAL_SECONDS = 2e-3


def with_controls(catalog: Catalog, identities: Sequence[str]) -> Catalog:
    """The catalogue with a null and a slowed copy of each named implementation."""
    implementations = {name: dict(group) for name, group in catalog.implementations.items()}
    providers = dict(catalog.providers)
    for group in implementations.values():
        for item in list(group.values()):
            if item.id not in identities:
                continue
            for control in (null(item), slowed(item)):
                group[control.name] = control
                providers[control.id] = providers[item.id]
    return replace(catalog, implementations=implementations, providers=providers)


def null(item: Implementation) -> Implementation:
    """The same implementation once more."""
    contender, _ = split_name(item.name)
    return replace(item, name=entrant_name(contender, NULL), pair=item.pair or contender)


def slowed(item: Implementation, by: float = SLOWDOWN) -> Implementation:
    """The same implementation, whose every call then spins for ``by`` of its own duration.

    How long a call takes is measured when the contender is built, on a thunk of its own (a state
    must start fresh): the least of some short runs, so that a neighbour cannot make the control
    slower than it says.
    """
    contender, _ = split_name(item.name)

    def build(inputs: Any) -> Thunk:
        spin = round(by * _duration(item.build(inputs)))
        thunk = item.build(inputs)

        def slow() -> Any:
            output = thunk()
            start = perf_counter_ns()
            while perf_counter_ns() - start < spin:
                pass
            return output

        return slow

    return replace(
        item, name=entrant_name(contender, SLOWED), build=build, pair=item.pair or contender
    )


def _duration(thunk: Thunk) -> float:
    """Nanoseconds of one call."""
    least = float("inf")
    thunk()
    for _ in range(_TRIALS):
        calls, start = 0, perf_counter_ns()
        while (elapsed := perf_counter_ns() - start) < _TRIAL_SECONDS * 1e9:
            thunk()
            calls += 1
        least = min(least, elapsed / calls)
    return least
