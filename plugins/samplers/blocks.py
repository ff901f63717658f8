"""Block bootstraps of a series: runs of neighbours stay together, so that their dependence does.

Moving blocks lie inside the series, circular ones go on at its start (Künsch 1989; Politis and
Romano 1992); blocks of the stationary bootstrap have geometric lengths (Politis and Romano 1994).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.quality import (
    Seen,
    Tests,
    array,
    chi_square,
    draw_tests,
    judge,
    two_sided_z,
)
from benchbench_plugins.samplers.shared import cpu_only, generator, needs

BLOCKS = "samplers/block-bootstrap"


@dataclass(frozen=True, kw_only=True)
class Series:
    """What block bootstraps are judged against."""

    n: int
    replicates: int
    block: int
    kind: str
    seen: Seen = field(default_factory=Seen)


def make_blocks(params: bb.Params, seed: int) -> bb.Inputs:
    """Length of the series ``n``, ``replicates``, ``block`` and the ``kind`` of block."""
    import torch

    return bb.Inputs(
        {
            "x": torch.empty(0, device=str(params["device"])),
            "n": int(params["rows"]),  # type: ignore[call-overload]
            "replicates": int(params["replicates"]),  # type: ignore[call-overload]
            "block": int(params["block"]),  # type: ignore[call-overload]
            "kind": str(params["kind"]),
            "seed": seed,
        }
    )


def check_blocks(evidence: bb.Evidence) -> str | None:
    """Indices (replicates, n) in runs: of fixed length, or geometric (stationary).

    Moving blocks lie inside the series; circular and stationary ones go on at its start.
    """
    known: Series = evidence.reference
    draws = array(evidence.output)
    n, shape = known.n, (known.replicates, known.n)
    if draws.shape != shape or draws.dtype.kind not in "iu":
        return f"the indices are {draws.dtype} of shape {draws.shape}, expected {shape}"
    if draws.min() < 0 or draws.max() >= n:
        return f"indices from {draws.min()} to {draws.max()}, outside 0 to {n - 1}"
    goes_on = (draws[:, :-1] + 1) % n == draws[:, 1:]
    if known.kind == "moving":
        goes_on &= draws[:, 1:] > 0
    if known.kind == "stationary":
        starts, tests = _stationary(draws, goes_on, known)
    else:
        inner = np.arange(1, n) % known.block != 0
        if not goes_on[:, inner].all():
            return f"a block of {known.block} is broken: its indices do not follow each other"
        starts, tests = draws[:, :: known.block].ravel(), {}
    places = n - known.block + 1 if known.kind == "moving" else n
    if starts.max() >= places:
        return f"a block begins at {starts.max()}, later than {places - 1}: it leaves the series"
    return known.seen.replayed(draws, evidence.calls) or judge(
        {**tests, **draw_tests(starts, places)}, evidence
    )


def _stationary(draws: np.ndarray, goes_on: np.ndarray, known: Series) -> tuple[np.ndarray, Tests]:
    """Starts of blocks, and whether a block ends after each index with probability 1 / block.

    A new block goes on like the old one once in n, which adds to the chance of going on.
    """
    p = 1 / known.block
    expected = (1 - p) + p / known.n
    count, total = int(goes_on.sum()), goes_on.size
    z = (count - total * expected) / (total * expected * (1 - expected)) ** 0.5
    broken = np.argwhere(~goes_on)
    first = draws[:, 0]
    starts = np.concatenate([first, draws[broken[:, 0], broken[:, 1] + 1]])
    # The position of an end within the replicate is uniform.
    bins = 32
    edges = np.linspace(0, goes_on.shape[1], bins, endpoint=False).astype(np.int64)
    sizes = np.diff(np.append(edges, goes_on.shape[1]))
    ends = np.add.reduceat((~goes_on).sum(0), edges)
    return starts, {
        "blocks have another mean length": two_sided_z(z),
        "ends are uneven by position": chi_square(ends, ends.sum() * sizes / sizes.sum()),
    }


def _fixed_torch(inputs: bb.Inputs) -> Callable[[], Any]:
    import torch

    n, block, device, rng = inputs.n, inputs.block, inputs.x.device, generator(inputs)
    count = -(-n // block)
    places = n - block + 1 if inputs.kind == "moving" else n
    inside = torch.arange(block, device=device)

    def call() -> Any:
        starts = torch.randint(places, (inputs.replicates, count, 1), generator=rng, device=device)
        index = (starts + inside).flatten(1)[:, :n]
        return index.contiguous() if inputs.kind == "moving" else index.remainder(n)

    return call


def _stationary_torch(inputs: bb.Inputs) -> Callable[[], Any]:
    import torch

    n, device, rng = inputs.n, inputs.x.device, generator(inputs)
    shape = (inputs.replicates, n)
    at = torch.arange(n, device=device)

    def call() -> Any:
        begins = torch.rand(shape, generator=rng, device=device) < 1 / inputs.block
        begins[:, 0] = True
        # The position of the last begin, then the block's own start by that position.
        last = torch.where(begins, at, 0).cummax(1).values
        starts = torch.randint(n, shape, generator=rng, device=device)
        return (starts.gather(1, last) + at - last).remainder_(n)

    return call


@bb.implementation(BLOCKS, "torch")
def torch_blocks(inputs: bb.Inputs) -> bb.Thunk:
    """Starts by torch.randint, blocks by broadcasting; geometric ones by a running maximum."""
    return (_stationary_torch if inputs.kind == "stationary" else _fixed_torch)(inputs)


@bb.implementation(BLOCKS, "numpy", unavailable=cpu_only)
def numpy_blocks(inputs: bb.Inputs) -> bb.Thunk:
    """The same in numpy, replicate by replicate; geometric lengths by Generator.geometric."""
    import torch

    n, block, kind = inputs.n, inputs.block, inputs.kind
    rng = np.random.default_rng(inputs.seed)
    count, places = -(-n // block), n - block + 1 if kind == "moving" else n

    def replicate() -> np.ndarray:
        if kind != "stationary":
            starts = rng.integers(0, places, count)
            return (starts[:, None] + np.arange(block)).ravel()[:n] % n
        lengths = rng.geometric(1 / block, count + 10 * int(count**0.5) + 10)
        while lengths.sum() < n:
            lengths = np.concatenate([lengths, rng.geometric(1 / block, count)])
        starts = np.repeat(rng.integers(0, n, len(lengths)), lengths)[:n]
        begins = np.repeat(np.cumsum(lengths) - lengths, lengths)[:n]
        return (starts + np.arange(n) - begins) % n

    def call() -> torch.Tensor:
        return torch.from_numpy(np.stack([replicate() for _ in range(inputs.replicates)]))

    return call


@bb.implementation(BLOCKS, "arch", unavailable=needs("arch.bootstrap"))
def arch_blocks(inputs: bb.Inputs) -> bb.Thunk:
    """arch.bootstrap: MovingBlock, CircularBlock or StationaryBootstrap, indices only."""
    import torch
    from arch import bootstrap as arch

    kinds = {
        "moving": arch.MovingBlockBootstrap,
        "circular": arch.CircularBlockBootstrap,
        "stationary": arch.StationaryBootstrap,
    }
    rng = np.random.default_rng(inputs.seed)
    made = kinds[inputs.kind](inputs.block, np.zeros(inputs.n), seed=rng)

    def call() -> torch.Tensor:
        found = [made.update_indices() for _ in range(inputs.replicates)]
        return torch.from_numpy(np.stack(found).astype(np.int64))

    return call


def workloads() -> Iterator[bb.Workload]:
    """One, with the kind of block as an axis."""
    kinds = ("moving", "circular", "stationary")
    yield bb.Workload(
        name=BLOCKS,
        doc="Indices of block bootstraps of a series; block is the length, or its mean.",
        make=make_blocks,
        baseline="torch",
        reference=lambda inputs: Series(
            n=inputs.n, replicates=inputs.replicates, block=inputs.block, kind=inputs.kind
        ),
        tolerance=None,
        check=check_blocks,
        work=lambda params: bb.Work(
            bytes=8.0 * int(params["rows"]) * int(params["replicates"]),  # type: ignore[call-overload]
            items=float(int(params["rows"]) * int(params["replicates"])),  # type: ignore[call-overload]
            item="draw",
        ),
        axes={
            "kind": kinds,
            "rows": (100_000, 10_000),
            "block": (50,),
            "replicates": (10, 100),
            "device": ("cpu", "cuda"),
        },
        presets={
            "quick": [],
            "standard": {"kind": kinds},
            "full": {"kind": kinds},
            "gpu": {"kind": kinds, "rows": (1_000_000,), "replicates": (100,), "device": ("cuda",)},
        },
    )


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    yield from (torch_blocks, numpy_blocks, arch_blocks)
