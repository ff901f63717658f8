"""The controls that ride with a gate: a null that must show nothing, a slow-down that must show.

Both are made of one implementation, so they take its path through build, allocation and timing. A
control that took another path could not see that path's bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

from benchbench.catalog import Catalog
from benchbench.contract import Implementation, Thunk
from benchbench.sides import Copy, entrant_name, split_name

NULL = "null"
SLOWED = "slowed"
SLOWDOWN = 0.05
"""By how much the positive control is slower."""
_TRIALS = 5
_TRIAL_SECONDS = 2e-3
_TRIAL_CYCLES = 10_000_000


def controls_of(identity: str, slower: float = SLOWDOWN) -> tuple[Copy, Copy]:
    """The null and the positive control of an implementation, timed next to it.

    Args:
        identity: of the implementation, ``workload:name``.
        slower: what the positive control is slowed by; well beyond the margin.
    """
    return (Copy(of=identity, suffix=NULL), Copy(of=identity, suffix=SLOWED, slower=slower))


def with_copies(catalog: Catalog, copies: Sequence[Copy]) -> Catalog:
    """The catalogue with copies of implementations; those of unknown ones are left out."""
    implementations = {name: dict(group) for name, group in catalog.implementations.items()}
    providers = dict(catalog.providers)
    known = {item.id: item for group in implementations.values() for item in group.values()}
    paired: dict[str, str] = {}
    for asked in copies:
        item = known.get(asked.of)
        if item is None:
            continue
        made = copied(item, asked)
        implementations[item.workload][made.name] = made
        providers[made.id] = providers[item.id]
        if not asked.pair:
            paired[item.id] = made.pair
    for identity, pair in paired.items():
        item = known[identity]
        implementations[item.workload][item.name] = replace(item, pair=pair)
    return replace(catalog, implementations=implementations, providers=providers)


def copied(item: Implementation, asked: Copy) -> Implementation:
    """The same implementation once more."""
    contender, _ = split_name(item.name)
    build = slowed(item.build, asked.slower) if asked.slower else item.build
    return replace(
        item,
        name=entrant_name(contender, asked.suffix),
        build=build,
        pair=asked.pair or item.pair or contender,
    )


def slowed(build: Callable[[Any], Thunk], by: float) -> Callable[[Any], Thunk]:
    """A build whose thunk spins for ``by`` of its own duration after each call.

    How long a call takes is measured when the contender is built, on a thunk of its own (a state
    must start fresh): the least of some short runs, so that a neighbour cannot make the control
    slower than it says. What runs on a GPU is followed by an idle kernel as well, since a GPU that
    has work in its queue does not wait for a host that spins.
    """

    def build_slowed(inputs: Any) -> Thunk:
        trial = build(inputs)
        torch = _gpu(trial())
        spin = round(by * _duration(trial, torch.cuda.synchronize if torch else _nothing))
        cycles = round(spin * _cycles_per_nanosecond(torch)) if torch else 0
        thunk = build(inputs)

        def slow() -> Any:
            output = thunk()
            start = perf_counter_ns()
            while perf_counter_ns() - start < spin:
                pass
            return output

        def slow_on_gpu() -> Any:
            output = slow()
            torch.cuda._sleep(cycles)
            return output

        return slow_on_gpu if torch else slow

    return build_slowed


def _gpu(output: Any) -> Any:
    """torch, when an output lies on a GPU; else None."""
    from benchbench.structures import is_tensor, leaves

    if any(is_tensor(leaf) and leaf.device.type == "cuda" for _, leaf in leaves(output)):
        import torch

        return torch
    return None


def _nothing() -> None:
    """Nothing to wait for: the host has done the work itself."""


def _cycles_per_nanosecond(torch: Any) -> float:
    """Speed of the clock that idle kernels count."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(_TRIAL_CYCLES)  # until the clock has risen
    start.record()
    torch.cuda._sleep(_TRIAL_CYCLES)
    end.record()
    end.synchronize()
    return float(_TRIAL_CYCLES / (start.elapsed_time(end) * 1e6))


def _duration(thunk: Thunk, wait: Callable[[], object]) -> float:
    """Nanoseconds of one call; ``wait`` returns when what was queued is done."""
    least = float("inf")
    thunk()
    for _ in range(_TRIALS):
        wait()
        calls, start = 0, perf_counter_ns()
        while perf_counter_ns() - start < _TRIAL_SECONDS * 1e9:
            thunk()
            calls += 1
        wait()
        least = min(least, (perf_counter_ns() - start) / calls)
    return least
