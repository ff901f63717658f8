"""SMOTE: synthetic rows for the small class, between a row and one of its nearest neighbours.

Chawla et al. 2002: a row of the minority, one of its k nearest in the minority, and a uniform share
of the way between them. The output has the original rows first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers import imbalance
from benchbench_plugins.samplers.quality import Seen, Tests, array, chi_square, judge
from benchbench_plugins.samplers.shared import cpu_only, generator, host, needs

WORKLOAD = "samplers/smote"
NEIGHBOURS = 5
AUDITED = 1000
"""About so many synthetic rows of a timed call are looked at; all of the first one."""
EXACT = 1e-4
"""Allowed distance of a synthetic row from its segment, relative to the segment's length."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The rows, and every segment on which a synthetic row may lie."""

    x: np.ndarray
    y: np.ndarray
    starts: np.ndarray
    """First end of each segment (segments, features) in float64; the other is a neighbour."""
    sides: np.ndarray
    """From the first end to the other."""
    chances: np.ndarray
    """How many of the ways (row, neighbour) are this segment: one or two."""
    seen: Seen = field(default_factory=Seen)


def nearest(rows: np.ndarray) -> np.ndarray:
    """The nearest neighbours of each row by Euclidean distance (rows, NEIGHBOURS)."""
    squares = (rows**2).sum(1)
    distances = squares[:, None] + squares - 2 * rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, 1, kind="stable")[:, :NEIGHBOURS]


def truth(inputs: bb.Inputs) -> Truth:
    """Neighbours in float64; a pair of mutual neighbours is one segment with two chances."""
    x, y = array(inputs.x), array(inputs.y)
    small = x[y == 1].astype(np.float64)
    found = nearest(small)
    ways = np.stack([np.repeat(np.arange(len(small)), NEIGHBOURS), found.ravel()], 1)
    pairs, chances = np.unique(np.sort(ways, 1), axis=0, return_counts=True)
    starts = small[pairs[:, 0]]
    return Truth(x=x, y=y, starts=starts, sides=small[pairs[:, 1]] - starts, chances=chances)


def located(rows: np.ndarray, known: Truth) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row its nearest segment, the share of the way along it, and the distance to it.

    The distance is relative to the segment's length. Among segments that meet in a row, which a
    share close to 0 or 1 cannot tell apart, the first is named.
    """
    lengths = (known.sides**2).sum(1)
    along = rows @ known.sides.T - (known.starts * known.sides).sum(1)
    shares = np.clip(along / lengths, 0, 1)
    from_start = (rows**2).sum(1)[:, None] + (known.starts**2).sum(1) - 2 * rows @ known.starts.T
    distances = from_start - 2 * shares * along + shares**2 * lengths
    best = (distances / lengths).argmin(1)
    at = np.arange(len(rows))
    off = rows - (known.starts[best] + shares[at, best][:, None] * known.sides[best])
    return best, shares[at, best], np.sqrt((off**2).sum(1) / lengths[best])


def check(evidence: bb.Evidence) -> str | None:
    """Original rows first, balanced classes, synthetic rows on segments, uniform along them."""
    from scipy.stats import kstest

    known: Truth = evidence.reference
    if not (isinstance(evidence.output, tuple) and len(evidence.output) == 2):
        return "the output must be a pair: rows and labels"
    x, y = array(evidence.output[0], "rows"), array(evidence.output[1], "labels")
    counts = np.bincount(known.y)
    missing = int(counts[0] - counts[1])
    shape = (len(known.x) + missing, known.x.shape[1])
    if x.shape != shape or x.dtype != known.x.dtype or y.shape != shape[:1]:
        return f"rows are {x.dtype} {x.shape}, labels {y.shape}; expected {known.x.dtype} {shape}"
    originals = len(known.x)
    if not (np.array_equal(x[:originals], known.x) and np.array_equal(y[:originals], known.y)):
        return "the original rows are not first, or have changed"
    if not (y[originals:] == 1).all():
        return "synthetic rows must have label 1, the small class"
    made = x[originals:].astype(np.float64)
    if evidence.timed:  # finding its segment costs a row more than making it did
        made = made[evidence.calls % 2 :: max(1, missing // AUDITED)]
        missing = len(made)
    segment, share, distance = located(made, known)
    if distance.max() > EXACT:
        return (
            f"{int((distance > EXACT).sum())} of {missing} synthetic rows lie between no row and "
            f"one of its {NEIGHBOURS} nearest neighbours"
        )
    tests: Tests = {"shares of the way are not uniform": float(kstest(share, "uniform").pvalue)}
    bins = int(min(64, max(2, missing // 40)))
    edges = np.linspace(0, len(known.chances), bins, endpoint=False).astype(np.int64)
    expected = np.add.reduceat(known.chances.astype(np.float64), edges)
    observed = np.add.reduceat(np.bincount(segment, minlength=len(known.chances)), edges)
    tests["rows are chosen unevenly"] = chi_square(observed, missing * expected / expected.sum())
    return known.seen.replayed(x[originals:], evidence.calls) or judge(tests, evidence)


@bb.implementation(WORKLOAD, "torch")
def torch_smote(inputs: bb.Inputs) -> bb.Thunk:
    """torch.cdist, topk, uniform shares, lerp."""
    import torch

    x, y, rng = inputs.x, inputs.y, generator(inputs)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        small = x[y == 1]
        missing = len(x) - 2 * len(small)
        # Itself is the nearest of all.
        near = torch.cdist(small, small).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]
        at = torch.randint(len(small), (missing,), generator=rng, device=x.device)
        way = torch.randint(NEIGHBOURS, (missing,), generator=rng, device=x.device)
        share = torch.rand(missing, 1, generator=rng, device=x.device)
        made = torch.lerp(small[at], small[near[at, way]], share)
        return torch.cat([x, made]), torch.cat([y, y.new_ones(missing)])

    return call


@bb.implementation(WORKLOAD, "numpy", unavailable=cpu_only)
def numpy_smote(inputs: bb.Inputs) -> bb.Thunk:
    """Distances by one product, argpartition, and the same draws in numpy."""
    import torch

    x, y, rng = host(inputs.x), host(inputs.y), np.random.default_rng(inputs.seed)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        small = x[y == 1]
        missing = len(x) - 2 * len(small)
        squares = (small**2).sum(1)
        distances = squares[:, None] + squares - 2 * small @ small.T
        np.fill_diagonal(distances, np.inf)
        near = np.argpartition(distances, NEIGHBOURS, 1)[:, :NEIGHBOURS]
        at = rng.integers(0, len(small), missing)
        way = rng.integers(0, NEIGHBOURS, missing)
        share = rng.random((missing, 1), np.float32)
        made = small[at] + share * (small[near[at, way]] - small[at])
        return (
            torch.from_numpy(np.concatenate([x, made])),
            torch.from_numpy(np.concatenate([y, np.ones(missing, y.dtype)])),
        )

    return call


@bb.implementation(
    WORKLOAD, "imbalanced-learn", unavailable=needs("imblearn.over_sampling", "sklearn")
)
def imblearn_smote(inputs: bb.Inputs) -> bb.Thunk:
    """imblearn.over_sampling.SMOTE; neighbours by scikit-learn."""
    import torch
    from imblearn.over_sampling import SMOTE

    x, y = host(inputs.x), host(inputs.y)
    sampler = SMOTE(k_neighbors=NEIGHBOURS, random_state=np.random.RandomState(inputs.seed))

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        rows, labels = sampler.fit_resample(x, y)
        return torch.from_numpy(rows), torch.from_numpy(labels)

    return call


def metrics(output: Any, reference: Truth) -> dict[str, float]:
    """``off``: largest distance of a synthetic row from its segment, in lengths of it."""
    rows = array(output[0])[len(reference.x) :].astype(np.float64)
    return {"off": float(located(rows, reference)[2].max())}


def workloads() -> Iterator[bb.Workload]:
    """One, of two classes."""

    def work(params: bb.Params) -> bb.Work:
        ratio: Any = params["ratio"]
        many, few = imbalance.sizes(int(params["rows"]), ratio)  # type: ignore[call-overload]
        row = 4.0 * imbalance.FEATURES + 8
        return bb.Work(
            bytes=row * (many + few + 2 * many),
            flops=2.0 * few * few * imbalance.FEATURES,
            items=float(many - few),
            item="row",
        )

    yield bb.Workload(
        name=WORKLOAD,
        doc="Balance two classes by rows between neighbours of the small one.",
        make=imbalance.make,
        baseline="torch",
        reference=truth,
        tolerance=None,
        check=check,
        metrics=metrics,
        work=work,
        axes={"rows": (4_000, 20_000), "ratio": ((9, 1),), "device": ("cpu", "cuda")},
        presets={
            "quick": [],
            "standard": {},
            "full": {"rows": (4_000, 20_000)},
            "gpu": {"rows": (100_000,), "device": ("cuda",)},
        },
    )


def implementations() -> Iterator[bb.Implementation]:
    """torch, numpy and imbalanced-learn."""
    yield from (torch_smote, numpy_smote, imblearn_smote)
