"""Bagging sets: n rows drawn from n for each, with the mask of those never drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.quality import (
    Seen,
    Tests,
    array,
    draw_tests,
    judge,
    two_sided_z,
)
from benchbench_plugins.samplers.shared import cpu_only, generator, needs

BAGGING = "samplers/bagging"


@dataclass(frozen=True, kw_only=True)
class Sets:
    """What bagging sets are judged against."""

    n: int
    sets: int
    seen: Seen = field(default_factory=Seen)


def make_bagging(params: bb.Params, seed: int) -> bb.Inputs:
    """``n`` rows and the number of ``sets``; ``x`` only says on which device."""
    import torch

    return bb.Inputs(
        {
            "x": torch.empty(0, device=str(params["device"])),
            "n": int(params["rows"]),  # type: ignore[call-overload]
            "sets": int(params["sets"]),  # type: ignore[call-overload]
            "seed": seed,
        }
    )


def check_bagging(evidence: bb.Evidence) -> str | None:
    """Indices (sets, n), and a mask (sets, n) that is True exactly where a row was never drawn."""
    known: Sets = evidence.reference
    if not (isinstance(evidence.output, tuple) and len(evidence.output) == 2):
        return "the output is not a pair: indices, and a mask of what is out of the bag"
    draws, mask = (array(part) for part in evidence.output)
    shape = (known.sets, known.n)
    for name, part, kinds in (("indices", draws, "iu"), ("mask", mask, "b")):
        if part.shape != shape or part.dtype.kind not in kinds:
            return f"the {name} are {part.dtype} of shape {part.shape}, expected {shape}"
    if draws.min() < 0 or draws.max() >= known.n:
        return f"indices from {draws.min()} to {draws.max()}, outside 0 to {known.n - 1}"
    expected = np.ones(shape, bool)
    np.put_along_axis(expected, draws, False, 1)
    if not np.array_equal(mask, expected):
        wrong = int((mask != expected).sum())
        return f"the mask is wrong in {wrong} places: it is not what was never drawn"
    tests: Tests = dict(draw_tests(draws.ravel(), known.n))
    # Sets must not depend on each other: rows that two neighbouring sets both leave out.
    if known.sets > 1:
        both = int((mask[:-1] & mask[1:]).sum())
        q = (1 - 1 / known.n) ** known.n
        pairs = (known.sets - 1) * known.n
        # Leaving a row out is nearly independent between rows; q^2 (1 - q)^2 is the variance of
        # the product about its margins.
        left = mask.mean(1)
        centre = float((left[:-1] * left[1:]).sum() * known.n)
        tests["sets depend"] = two_sided_z((both - centre) / (pairs * (q * (1 - q)) ** 2) ** 0.5)
    return known.seen.replayed(draws, evidence.calls) or judge(tests, evidence)


def bagging_metrics(output: Any, reference: Sets) -> dict[str, float]:
    """``out_of_bag``: the share of rows never drawn, close to 1/e."""
    return {"out_of_bag": float(array(output[1]).mean())}


@bb.implementation(BAGGING, "torch")
def torch_scatter(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randint for all sets, then scatter of False into a mask of True."""
    import torch

    n, sets, device, rng = inputs.n, inputs.sets, inputs.x.device, generator(inputs)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        draws = torch.randint(n, (sets, n), generator=rng, device=device)
        mask = torch.ones(sets, n, dtype=torch.bool, device=device)
        return draws, mask.scatter_(1, draws, False)

    return call


@bb.implementation(BAGGING, "torch-bincount")
def torch_bincount(inputs: bb.Inputs) -> bb.Thunk:
    """Set by set: torch.randint, bincount, compared with zero."""
    import torch

    n, sets, device, rng = inputs.n, inputs.sets, inputs.x.device, generator(inputs)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        draws = torch.randint(n, (sets, n), generator=rng, device=device)
        return draws, torch.stack([torch.bincount(d, minlength=n) == 0 for d in draws])

    return call


@bb.implementation(BAGGING, "numpy", unavailable=cpu_only)
def numpy_bagging(inputs: bb.Inputs) -> bb.Thunk:
    """Generator.integers, and False written by index, set by set."""
    import torch

    n, sets, rng = inputs.n, inputs.sets, np.random.default_rng(inputs.seed)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        draws = rng.integers(0, n, (sets, n))
        mask = np.ones((sets, n), bool)
        for row, drawn in zip(mask, draws, strict=True):
            row[drawn] = False
        return torch.from_numpy(draws), torch.from_numpy(mask)

    return call


@bb.implementation(BAGGING, "scikit-learn", unavailable=needs("sklearn.utils"))
def sklearn_bagging(inputs: bb.Inputs) -> bb.Thunk:
    """sklearn.utils.resample for each set, out of the bag by numpy.isin."""
    import torch
    from sklearn.utils import resample

    rows, rng = np.arange(inputs.n), np.random.RandomState(inputs.seed)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        draws = np.stack([resample(rows, random_state=rng) for _ in range(inputs.sets)])
        mask = np.stack([~np.isin(rows, drawn) for drawn in draws])
        return torch.from_numpy(draws), torch.from_numpy(mask)

    return call


def workloads() -> Iterator[bb.Workload]:
    """One."""
    yield bb.Workload(
        name=BAGGING,
        doc="Bagging sets: n rows drawn from n for each, and the mask of those never drawn.",
        make=make_bagging,
        baseline="torch",
        reference=lambda inputs: Sets(n=inputs.n, sets=inputs.sets),
        tolerance=None,
        check=check_bagging,
        metrics=bagging_metrics,
        work=lambda params: bb.Work(
            bytes=9.0 * int(params["rows"]) * int(params["sets"]),  # type: ignore[call-overload]
            items=float(int(params["rows"]) * int(params["sets"])),  # type: ignore[call-overload]
            item="draw",
        ),
        axes={"rows": (100_000, 10_000), "sets": (20, 100), "device": ("cpu", "cuda")},
        presets={
            "quick": [],
            "standard": {},
            "full": {"rows": (100_000, 10_000)},
            "gpu": {"rows": (1_000_000,), "sets": (100,), "device": ("cuda",)},
        },
    )


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    yield from (torch_scatter, torch_bincount, numpy_bagging, sklearn_bagging)
