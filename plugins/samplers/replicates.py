"""Other bootstraps: Bayesian weights, and bagging sets with what is out of the bag.

The Bayesian bootstrap weighs every row by exponential draws; a bagging set is n rows drawn from n,
together with the mask of those never drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers import bootstrap
from benchbench_plugins.samplers.quality import (
    Seen,
    Tests,
    array,
    draw_tests,
    judge,
    two_sided_z,
)
from benchbench_plugins.samplers.shared import cpu_only, generator, host, needs

BAYESIAN = "samplers/bayesian-bootstrap-mean"
BAGGING = "samplers/bagging"
CHUNK = 2**20
"""Weights at a time: 4 MiB in float32."""


# Bayesian bootstrap


def make_bayesian(params: bb.Params, seed: int) -> bb.Inputs:
    """As for other means, but the rows are drawn from another stream than contenders' weights."""
    return bb.Inputs({**bootstrap.make(params, seed + (1 << 31)), "seed": seed})


def bayesian_truth(inputs: bb.Inputs) -> bootstrap.Truth:
    """With Dirichlet weights the mean varies as the data, over n + 1 (Rubin 1981)."""
    x = array(inputs.x).astype(np.float64)
    return bootstrap.Truth(mean=float(x.mean()), error=float(x.std() / (len(x) + 1) ** 0.5))


@bb.implementation(BAYESIAN, "torch")
def torch_exponential(inputs: bb.Inputs) -> bb.Thunk:
    """Exponential weights in chunks, weighted means by one product a chunk."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)
    size = max(1, CHUNK // n)
    sizes = [min(size, inputs.replicates - i) for i in range(0, inputs.replicates, size)]

    def call() -> torch.Tensor:
        means = []
        for count in sizes:
            weights = x.new_empty(count, n).exponential_(generator=rng)
            means.append(weights @ x / weights.sum(1))
        return torch.cat(means)

    return call


@bb.implementation(BAYESIAN, "torch-log")
def torch_log(inputs: bb.Inputs) -> bb.Thunk:
    """The same from the logarithm of uniforms, written out."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)

    def call() -> torch.Tensor:
        means = x.new_empty(inputs.replicates)
        for i in range(inputs.replicates):
            # One minus a uniform of [0, 1) is never zero.
            weights = torch.rand(n, generator=rng, device=x.device).neg_().add_(1).log_()
            means[i] = weights @ x / weights.sum()
        return means

    return call


def _numpy_bayesian(draw: Callable[[np.random.Generator, int], np.ndarray]) -> Any:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch

        x, rng = host(inputs.x), np.random.default_rng(inputs.seed)

        def call() -> torch.Tensor:
            means = np.empty(inputs.replicates, x.dtype)
            for i in range(inputs.replicates):
                weights = draw(rng, len(x))
                means[i] = weights @ x / weights.sum()
            return torch.from_numpy(means)

        return call

    return build


# Bagging


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
    """Bayesian means, and bagging sets."""
    yield bb.Workload(
        name=BAYESIAN,
        doc="Means of Bayesian bootstrap replicates: rows weighted by exponential draws.",
        make=make_bayesian,
        baseline="torch",
        reference=bayesian_truth,
        tolerance=None,
        check=bootstrap.check,
        metrics=bootstrap.metrics,
        work=bootstrap.work,
        axes={
            "rows": (100_000, 1_000_000),
            "replicates": (50, 100),
            "device": ("cpu", "cuda"),
        },
        presets={"quick": [], "standard": {}, "full": {"rows": (1_000_000,)}},
    )
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
        presets={"quick": [], "standard": {}, "full": {"rows": (100_000, 10_000)}},
    )


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    yield from (torch_exponential, torch_log)
    for name, draw, doc in (
        (
            "numpy",
            lambda rng, n: rng.standard_exponential(n, np.float32),
            "Generator.standard_exponential in float32, weighted mean.",
        ),
        ("numpy-dirichlet", lambda rng, n: rng.dirichlet(np.ones(n)), "Generator.dirichlet."),
    ):
        yield bb.Implementation(
            workload=BAYESIAN,
            name=name,
            build=_numpy_bayesian(draw),
            unavailable=cpu_only,
            doc=doc,
        )
    yield from (torch_scatter, torch_bincount, numpy_bagging, sklearn_bagging)
