"""Index samplers: which rows come next, drawn with replacement, alike or by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.quality import ORDER, Seen, array, bias, draw_tests, judge
from benchbench_plugins.samplers.shared import cpu_only, generator, host, needs

UNIFORM = "samplers/bootstrap-indices"
WEIGHTED = "samplers/weighted-draw"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the draws are judged against."""

    categories: int
    weights: np.ndarray | None = None
    seen: Seen = field(default_factory=Seen)


def make_uniform(params: bb.Params, seed: int) -> bb.Inputs:
    """A row count ``n``; ``x`` is empty and only says on which device the indices are wanted."""
    import torch

    device = str(params["device"])
    return bb.Inputs({"x": torch.empty(0, device=device), "n": int(params["rows"]), "seed": seed})


def make_weighted(params: bb.Params, seed: int) -> bb.Inputs:
    """Log-normal weights ``x`` of shape ``(categories,)``, not normalised."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    weights = torch.randn(int(params["categories"]), generator=rng, dtype=torch.float64).exp_()
    dtype = {"float32": torch.float32, "float64": torch.float64}[str(params["dtype"])]
    return bb.Inputs(
        {
            "x": weights.to(dtype).to(str(params["device"])),
            "n": int(params["categories"]),
            "tables": params["tables"],
            "seed": seed,
        }
    )


def uniform_truth(inputs: bb.Inputs) -> Truth:
    """Every row alike."""
    return Truth(categories=inputs.n)


def weighted_truth(inputs: bb.Inputs) -> Truth:
    """The weights, in float64."""
    return Truth(categories=inputs.n, weights=array(inputs.x).astype(np.float64))


def check(evidence: bb.Evidence) -> str | None:
    """n indices in range, no replay, and the tests of :func:`quality.draw_tests`.

    The reason says which categories are drawn too often or too rarely.
    """
    truth: Truth = evidence.reference
    draws = array(evidence.output)
    n = truth.categories
    if draws.shape != (n,):
        return f"shape {draws.shape}, expected {(n,)}: one index for each draw"
    if draws.dtype.kind not in "iu":
        return f"indices are {draws.dtype}, not integers"
    if draws.min() < 0 or draws.max() >= n:
        return f"indices from {draws.min()} to {draws.max()}, outside 0 to {n - 1}"
    replayed = truth.seen.replayed(draws, evidence.calls)
    if replayed:
        return replayed
    reason = judge(draw_tests(draws, n, truth.weights), evidence)
    if reason is None or reason.startswith(ORDER):
        return reason
    return f"{reason}; {bias(np.bincount(draws, minlength=n), truth.weights)}"


def metrics(output: Any, reference: Truth) -> dict[str, float]:
    """``coverage``: distinct indices drawn, over the number that theory expects (ideal 1);
    ``worst_p``: the smallest p-value of the tests (small is bad)."""
    draws, n = array(output), reference.categories
    p = np.full(n, 1 / n) if reference.weights is None else reference.weights
    expected = float(-np.expm1(len(draws) * np.log1p(-p / p.sum())).sum())
    tests = draw_tests(draws, n, reference.weights)
    return {
        "coverage": len(np.unique(draws)) / expected,
        "worst_p": min(tests.values(), default=1.0),
    }


def workloads() -> Iterator[bb.Workload]:
    """Draws alike, and draws by weight."""
    yield bb.Workload(
        name=UNIFORM,
        doc="n row numbers drawn alike from n, with replacement: the index of one bootstrap set.",
        make=make_uniform,
        baseline="torch",
        reference=uniform_truth,
        tolerance=None,
        check=check,
        metrics=metrics,
        work=lambda params: bb.Work(
            bytes=8.0 * int(params["rows"]), items=float(int(params["rows"])), item="draw"
        ),
        axes={"rows": (250_000, 1_000_000, 10_000_000), "device": ("cpu", "cuda")},
        presets={
            "quick": [],
            "standard": {},
            "full": {"rows": (1_000_000, 10_000_000)},
            "gpu": {"rows": (40_000_000,), "device": ("cuda",)},
        },
    )
    yield bb.Workload(
        name=WEIGHTED,
        doc="n categories drawn from n in proportion to weights, with replacement, in random "
        "order. tables=each-call counts what is computed from the weights, once does not.",
        make=make_weighted,
        baseline="torch",
        reference=weighted_truth,
        tolerance=None,
        check=check,
        metrics=metrics,
        work=_weighted_work,
        axes={
            "categories": (50_000, 250_000, 1_000_000, 2**24),
            "tables": ("each-call", "once"),
            "dtype": ("float64", "float32"),
            "device": ("cpu", "cuda"),
        },
        presets={
            "quick": {},
            "standard": {"categories": (250_000,), "tables": ("each-call", "once")},
            "gpu": {"categories": (2**24,), "tables": ("each-call", "once"), "device": ("cuda",)},
        },
    )


def _weighted_work(params: bb.Params) -> bb.Work:
    categories = int(params["categories"])
    size = 4 if params["dtype"] == "float32" else 8
    return bb.Work(bytes=float((size + 8) * categories), items=float(categories), item="draw")


@bb.implementation(UNIFORM, "torch")
def torch_randint(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randint."""
    import torch

    n, device, rng = inputs.n, inputs.x.device, generator(inputs)
    return lambda: torch.randint(n, (n,), generator=rng, device=device)


@bb.implementation(UNIFORM, "torch-sampler", unavailable=cpu_only)
def torch_sampler(inputs: bb.Inputs) -> bb.Thunk:
    """torch.utils.data.RandomSampler(replacement=True), what a DataLoader iterates over."""
    import torch
    from torch.utils.data import RandomSampler

    sampler = RandomSampler(range(inputs.n), replacement=True, generator=generator(inputs))
    return lambda: torch.tensor(list(sampler))


@bb.implementation(UNIFORM, "numpy", unavailable=cpu_only)
def numpy_integers(inputs: bb.Inputs) -> bb.Thunk:
    """Generator.integers on PCG64, int64."""
    return _integers(inputs, np.random.default_rng(inputs.seed))


@bb.implementation(UNIFORM, "numpy-sfc64", unavailable=cpu_only)
def numpy_sfc64(inputs: bb.Inputs) -> bb.Thunk:
    """Generator.integers on SFC64, int64."""
    return _integers(inputs, np.random.Generator(np.random.SFC64(inputs.seed)))


def _integers(inputs: bb.Inputs, rng: np.random.Generator) -> bb.Thunk:
    import torch

    n = inputs.n
    return lambda: torch.from_numpy(rng.integers(0, n, n))


@bb.implementation(UNIFORM, "scikit-learn", unavailable=needs("sklearn.utils"))
def sklearn_resample(inputs: bb.Inputs) -> bb.Thunk:
    """sklearn.utils.resample of the row numbers."""
    import torch
    from sklearn.utils import resample

    rows, rng = np.arange(inputs.n), np.random.RandomState(inputs.seed)
    return lambda: torch.from_numpy(resample(rows, random_state=rng))


@bb.implementation(WEIGHTED, "torch")
def torch_multinomial(inputs: bb.Inputs) -> bb.Thunk:
    """torch.multinomial(replacement=True); it has no tables to keep."""
    import torch

    weights, n, rng = inputs.x, inputs.n, generator(inputs)
    return lambda: torch.multinomial(weights, n, replacement=True, generator=rng)


@bb.implementation(WEIGHTED, "torch-sampler", unavailable=cpu_only)
def torch_weighted_sampler(inputs: bb.Inputs) -> bb.Thunk:
    """torch.utils.data.WeightedRandomSampler, what a DataLoader iterates over."""
    import torch
    from torch.utils.data import WeightedRandomSampler

    sampler = WeightedRandomSampler(inputs.x, inputs.n, generator=generator(inputs))
    return lambda: torch.tensor(list(sampler))


@bb.implementation(WEIGHTED, "scipy-alias", unavailable=cpu_only)
def scipy_alias(inputs: bb.Inputs) -> bb.Thunk:
    """scipy.stats.sampling.DiscreteAliasUrn: two table look-ups a draw, whatever the weights."""
    import torch
    from scipy.stats.sampling import DiscreteAliasUrn

    n, rng = inputs.n, _numpy_stream(inputs)

    def urn() -> DiscreteAliasUrn:
        return DiscreteAliasUrn(_shares(inputs), random_state=rng)

    def draw(tables: DiscreteAliasUrn) -> torch.Tensor:
        return torch.from_numpy(tables.rvs(n).astype(np.int64, copy=False))

    if inputs.tables == "once":
        return partial(draw, urn())
    return lambda: draw(urn())


def _weighted(
    prepare: Callable[[bb.Inputs], Any], draw: Callable[[bb.Inputs, Any, Any], Any], rng: Any
) -> Callable[[bb.Inputs], bb.Thunk]:
    """A contender with tables: made in each call, or once where the case says so."""

    def build(inputs: bb.Inputs) -> bb.Thunk:
        stream = rng(inputs)
        if inputs.tables == "once":
            tables = prepare(inputs)
            return lambda: draw(inputs, tables, stream)
        return lambda: draw(inputs, prepare(inputs), stream)

    return build


def _numpy_stream(inputs: bb.Inputs) -> np.random.Generator:
    return np.random.default_rng(inputs.seed)


def _shares(inputs: bb.Inputs) -> np.ndarray:
    weights = host(inputs.x).astype(np.float64)
    weights /= weights.sum()
    return weights


def _cumulative(inputs: bb.Inputs) -> np.ndarray:
    return np.cumsum(host(inputs.x), dtype=np.float64)


def _search(inputs: bb.Inputs, cumulative: np.ndarray, rng: np.random.Generator) -> Any:
    import torch

    points = rng.random(inputs.n)
    points *= cumulative[-1]
    found = cumulative.searchsorted(points, side="right")
    # points can round up to the total itself
    return torch.from_numpy(np.minimum(found, inputs.n - 1, out=found))


def _torch_cumulative(inputs: bb.Inputs) -> Any:
    import torch

    return torch.cumsum(inputs.x, 0, dtype=torch.float64)


def _torch_search(inputs: bb.Inputs, cumulative: Any, rng: Any) -> Any:
    import torch

    points = torch.rand(inputs.n, generator=rng, dtype=torch.float64, device=cumulative.device)
    found = torch.searchsorted(cumulative, points.mul_(cumulative[-1]), right=True)
    return found.clamp_(max=inputs.n - 1)


def _choice(inputs: bb.Inputs, shares: np.ndarray, rng: np.random.Generator) -> Any:
    import torch

    return torch.from_numpy(rng.choice(inputs.n, inputs.n, p=shares))


def implementations() -> Iterator[bb.Implementation]:
    """Every contender of both workloads."""
    yield from (torch_randint, torch_sampler, numpy_integers, numpy_sfc64, sklearn_resample)
    yield from (torch_multinomial, torch_weighted_sampler, scipy_alias)
    yield bb.Implementation(
        workload=WEIGHTED,
        name="torch-searchsorted",
        build=_weighted(_torch_cumulative, _torch_search, generator),
        doc="torch.cumsum in float64, uniform points, torch.searchsorted.",
    )
    yield bb.Implementation(
        workload=WEIGHTED,
        name="numpy",
        build=_weighted(_shares, _choice, _numpy_stream),
        unavailable=cpu_only,
        doc="Generator.choice(p=...); it sums and checks p in every call.",
    )
    yield bb.Implementation(
        workload=WEIGHTED,
        name="numpy-searchsorted",
        build=_weighted(_cumulative, _search, _numpy_stream),
        unavailable=cpu_only,
        doc="numpy cumsum in float64, uniform points, searchsorted.",
    )
