"""Index samplers without replacement, and yes-or-no draws: order, subsets, masks, categories.

All are judged by statistics at fixed seeds, as in ``quality``; each call has to draw anew.
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
    inclusion_tests,
    judge,
    two_sided_z,
)

PERMUTATION = "samplers/permutation"
SUBSET = "samplers/subset"
WEIGHTED_SUBSET = "samplers/weighted-subset"
MASK = "samplers/bernoulli-mask"
ROWS = "samplers/categorical-rows"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the draws are judged against."""

    n: int
    k: int = 0
    shares: np.ndarray | None = None
    """Probability of each category; or, for rows, their mean over rows."""
    totals: np.ndarray | None = None
    """For rows: the expected count of each category."""
    spread: float = 0.0
    """For rows: standard deviation of the sum that :func:`row_tests` looks at."""
    seen: Seen = field(default_factory=Seen)


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """``n`` rows; ``x`` is empty, or weights (n,), or logits (rows, categories) in float32."""
    import torch

    # Contenders' generators start at the case's seed: with the same stream their draws would
    # depend on the weights.
    rng, device = torch.Generator().manual_seed(seed + (1 << 31)), str(params["device"])
    values: dict[str, Any] = {"n": int(params.get("rows", 0)), "seed": seed}
    if "categories" in params:
        shape = (int(params["rows"]), int(params["categories"]))
        x = torch.randn(shape, generator=rng).mul_(2)
    elif "share" in params:
        values["p"] = float(params["share"])
        values["k"] = round(values["n"] * values["p"])
        x = torch.empty(0)
    elif "fraction" in params:
        values["k"] = round(values["n"] * float(params["fraction"]))
        x = torch.randn(values["n"], generator=rng, dtype=torch.float64).exp_()
    else:
        x = torch.empty(0)
    return bb.Inputs({"x": x.to(device), **values})


# Checks


def permutation_tests(order: np.ndarray) -> Tests:
    """Is a permutation of 0 to n - 1 a uniform one?

    Where the values went (a table of positions and values, both in 16 parts), how many neighbours
    fall (Eulerian numbers: mean (n - 1) / 2, variance (n + 1) / 12), and how many stay in place
    (about Poisson with mean 1, whatever n is).
    """
    from scipy.special import pdtrc

    n = len(order)
    if n < 256 * 20:
        return {}
    bins = 16
    at = np.arange(n) * bins // n
    table = np.bincount(at * bins + order * bins // n, minlength=bins * bins)
    sizes = np.bincount(at, minlength=bins)
    expected = np.outer(sizes, sizes).ravel() / n
    falls = int(np.count_nonzero(order[1:] < order[:-1]))
    fixed = int(np.count_nonzero(order == np.arange(n)))
    # Both margins are fixed, so there are 15 x 15 degrees of freedom and not 255.
    statistic = float(((table - expected) ** 2 / expected).sum())
    return {
        "values keep to positions": _chi_square_p(statistic, (bins - 1) ** 2),
        "number of falls": two_sided_z((falls - (n - 1) / 2) / ((n + 1) / 12) ** 0.5),
        "fixed points": float(pdtrc(fixed - 1, 1.0)) if fixed else 1.0,
    }


def _chi_square_p(statistic: float, freedom: int) -> float:
    from scipy.special import chdtr, chdtrc

    return float(min(1.0, 2 * min(chdtr(freedom, statistic), chdtrc(freedom, statistic))))


def weighted_tests(included: np.ndarray, weights: np.ndarray) -> Tests:
    """Is a subset one of successive draws in proportion to what is left of the weights?

    Give each row an exponential clock with its weight as rate: the k that ring first are such a
    subset (Efraimidis and Spirakis 2006). For large k the k-th rings at a time t that hardly
    varies, so a row is included with probability ``1 - exp(-w t)``, nearly independently.
    """
    from scipy.optimize import brentq

    k, mean = int(included.sum()), float(weights.mean())
    scaled = weights / mean

    def excess(t: float) -> float:
        return float(-np.expm1(-scaled * t).sum()) - k

    p = -np.expm1(-scaled * brentq(excess, 0.0, 1e4))
    bins = 64
    edges = np.linspace(0, len(weights), bins, endpoint=False).astype(np.int64)
    order = np.argsort(weights, kind="stable")
    tests = {}
    for name, rows in (("by weight", order), ("by position", np.arange(len(weights)))):
        observed = np.add.reduceat(included[rows].astype(np.float64), edges)
        expected = np.add.reduceat(p[rows], edges)
        variance = np.add.reduceat((p * (1 - p))[rows], edges)
        # Their sum is k exactly, which takes one degree of freedom.
        statistic = float(((observed - expected) ** 2 / variance).sum())
        tests[f"uneven {name}"] = _chi_square_p(statistic, bins - 1)
    return tests


def _indices(output: Any, count: int, n: int) -> np.ndarray | str:
    """The drawn row numbers, or what is wrong with their form."""
    draws = array(output)
    if draws.shape != (count,):
        return f"shape {draws.shape}, expected {(count,)}: one index for each draw"
    if draws.dtype.kind not in "iu":
        return f"indices are {draws.dtype}, not integers"
    if draws.min() < 0 or draws.max() >= n:
        return f"indices from {draws.min()} to {draws.max()}, outside 0 to {n - 1}"
    repeated = count - len(np.unique(draws))
    if repeated:
        return f"{repeated} rows were drawn more than once"
    return draws


def check_permutation(evidence: bb.Evidence) -> str | None:
    """Every row once, no replay, and :func:`permutation_tests`."""
    truth: Truth = evidence.reference
    order = _indices(evidence.output, truth.n, truth.n)
    if isinstance(order, str):
        return order
    return truth.seen.replayed(order, evidence.calls) or judge(permutation_tests(order), evidence)


def check_subset(evidence: bb.Evidence) -> str | None:
    """k different rows, no replay, and a uniform or weighted choice."""
    truth: Truth = evidence.reference
    draws = _indices(evidence.output, truth.k, truth.n)
    if isinstance(draws, str):
        return draws
    included = np.zeros(truth.n, bool)
    included[draws] = True
    tests = (
        inclusion_tests(included)
        if truth.shares is None
        else weighted_tests(included, truth.shares)
    )
    return truth.seen.replayed(included, evidence.calls) or judge(tests, evidence)


def check_mask(evidence: bb.Evidence) -> str | None:
    """n truth values, no replay; their number, and where they are."""
    truth: Truth = evidence.reference
    mask = array(evidence.output)
    if mask.shape != (truth.n,):
        return f"shape {mask.shape}, expected {(truth.n,)}"
    if mask.dtype != bool:
        return f"the mask is {mask.dtype}, not bool"
    p = evidence.inputs.p
    kept = int(mask.sum())
    tests = {
        "number kept": two_sided_z((kept - truth.n * p) / (truth.n * p * (1 - p)) ** 0.5),
        **inclusion_tests(mask),
    }
    # Successive pairs: a generator that is used twice shows here.
    both = int((mask[0::2][: truth.n // 2] & mask[1::2][: truth.n // 2]).sum())
    pairs = truth.n // 2
    spread = (pairs * p * p * (1 - p * p)) ** 0.5
    tests["neighbours depend"] = two_sided_z((both - pairs * p * p) / spread)
    return truth.seen.replayed(mask, evidence.calls) or judge(tests, evidence)


def check_rows(evidence: bb.Evidence) -> str | None:
    """One category for each row, no replay; totals by category, and by rank within the row.

    A row's draw falls into a category with its probability there, so the count of a category is a
    sum of independent draws with known chances: mean and variance are theirs.
    """
    truth: Truth = evidence.reference
    draws = array(evidence.output)
    shares = truth.shares
    assert shares is not None
    rows, categories = shares.shape
    if draws.shape != (rows,):
        return f"shape {draws.shape}, expected {(rows,)}: one category for each row"
    if draws.dtype.kind not in "iu":
        return f"categories are {draws.dtype}, not integers"
    if draws.min() < 0 or draws.max() >= categories:
        return f"categories from {draws.min()} to {draws.max()}, outside 0 to {categories - 1}"
    return truth.seen.replayed(draws, evidence.calls) or judge(row_tests(draws, truth), evidence)


def row_tests(draws: np.ndarray, known: Truth) -> Tests:
    """Draws, one for each row: by category in up to 32 parts, and where in the row's mass.

    A draw's place in its row's cumulative distribution, with the draw's own mass halved, has mean
    1/2 and variance (1 - sum p^3) / 12.
    """
    shares, totals = known.shares, known.totals
    assert shares is not None and totals is not None
    rows, categories = shares.shape
    edges = np.linspace(0, categories, min(32, categories), endpoint=False).astype(np.int64)
    expected = np.add.reduceat(totals, edges)
    observed = np.add.reduceat(np.bincount(draws, minlength=categories), edges)
    own = shares[np.arange(rows), draws]
    above = np.where(shares > own[:, None], shares, 0.0).sum(1)
    place = above + own / 2
    return {
        "uneven by category": chi_square(observed, expected),
        "likely ones too often or too seldom": two_sided_z(
            float((place - 0.5).sum()) / known.spread if known.spread > 0 else 0.0
        ),
    }


def truth(inputs: bb.Inputs) -> Truth:
    """Sizes, and the probabilities where there are any."""
    import torch

    shares = None
    if inputs.x.dim() == 2:
        shares = array(torch.softmax(inputs.x.double(), 1))
        spread = float(((1 - (shares**3).sum(1)).sum() / 12) ** 0.5)
        return Truth(n=inputs.n, shares=shares, totals=shares.sum(0), spread=spread)
    if inputs.x.numel():
        shares = array(inputs.x)
    return Truth(n=inputs.n, k=inputs.get("k", 0), shares=shares)


def metrics(output: Any, reference: Truth) -> dict[str, float]:
    """``share``: of rows drawn."""
    draws = array(output)
    return {"share": float(draws.mean() if draws.dtype == bool else len(draws) / reference.n)}


ON_GPU: dict[str, bb.Grid] = {
    PERMUTATION: {"rows": (40_000_000,)},
    SUBSET: {"rows": (40_000_000,), "fraction": (0.8,)},
    WEIGHTED_SUBSET: {"rows": (40_000_000,)},
    MASK: {"rows": (300_000_000,), "share": (0.5,)},
    ROWS: {"rows": (4096,), "categories": (50_257,)},
}
"""Sizes that keep a large GPU busy."""


def workloads() -> Iterator[bb.Workload]:
    """Order, subset, weighted subset, mask, and a category for each row."""
    for name, doc, axes, standard, check, size in (
        (
            PERMUTATION,
            "n rows in random order.",
            {"rows": (250_000, 1_000_000, 50_000)},
            {},
            check_permutation,
            8.0,
        ),
        (
            SUBSET,
            "k of n different rows, all subsets alike: m-out-of-n, in any order.",
            {"rows": (250_000, 1_000_000, 50_000), "fraction": (0.8, 0.01)},
            {"fraction": (0.8, 0.01)},
            check_subset,
            8.0,
        ),
        (
            WEIGHTED_SUBSET,
            "k of n different rows, drawn one by one by weight, in any order.",
            {"rows": (1_000_000, 50_000), "fraction": (0.1,)},
            {},
            check_subset,
            8.0,
        ),
        (
            MASK,
            "Each of n rows is kept with probability p.",
            {"rows": (10_000_000, 100_000), "share": (0.5, 0.01)},
            {"share": (0.5, 0.01)},
            check_mask,
            1.0,
        ),
        (
            ROWS,
            "A category for each row from its logits: next tokens.",
            {"rows": (256, 4096), "categories": (50_257, 1000)},
            {"categories": (1000,), "rows": (4096,)},
            check_rows,
            8.0,
        ),
    ):
        uniform = name == SUBSET
        yield bb.Workload(
            name=name,
            doc=doc,
            make=_uniform_make if uniform else make,
            baseline="torch",
            reference=truth,
            tolerance=None,
            check=check,
            metrics=None if name == ROWS else metrics,
            work=_work(size),
            axes={**axes, "device": ("cpu", "cuda")},
            presets={  # type: ignore[arg-type]
                "quick": [],
                "standard": standard,
                "full": axes,
                "gpu": {**standard, **ON_GPU[name], "device": ("cuda",)},
            },
        )


def _uniform_make(params: bb.Params, seed: int) -> bb.Inputs:
    """Without weights: :func:`make` would draw some."""
    made = make({**params, "share": params["fraction"]}, seed)
    return bb.Inputs({name: made[name] for name in ("x", "n", "k", "seed")})


def _work(size: float) -> Callable[[bb.Params], bb.Work]:
    """Bytes of what is written, and of logits or weights that are read."""

    def work(params: bb.Params) -> bb.Work:
        rows = float(int(params["rows"]))  # type: ignore[call-overload]
        read = 4.0 * rows * int(params["categories"]) if "categories" in params else 0.0  # type: ignore[call-overload]
        share = float(params.get("fraction", 1.0))  # type: ignore[arg-type]
        return bb.Work(bytes=size * rows * share + read, items=rows * share, item="draw")

    return work


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    from benchbench_plugins.samplers import subset_ways

    return subset_ways.implementations()
