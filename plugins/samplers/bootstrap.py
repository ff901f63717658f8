"""Bootstrap replicates of a mean: draw n of n rows with replacement, average, many times.

The iid, the Poisson and the Bayesian bootstrap are different estimators (the second draws a random
number of rows, the third gives each row a continuous weight), so each is a workload of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.quality import Seen, array, judge, mean_tests
from benchbench_plugins.samplers.shared import cpu_only, generator, host, needs

IID = "samplers/bootstrap-mean"
POISSON = "samplers/poisson-bootstrap-mean"
BAYESIAN = "samplers/bayesian-bootstrap-mean"
CHUNK = 2**20  # draws at a time: 8 MiB of indices, so that they stay near the core
BLOCK = 2**16  # rows that 16-bit indices reach


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What replicates scatter around: the data's mean, and the standard error of that mean."""

    mean: float
    error: float
    seen: Seen = field(default_factory=Seen)


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Log-normal rows (skewed, as what people bootstrap usually is) of shape ``(rows,)``."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(int(params["rows"]), generator=rng).mul_(0.5).exp_()
    return bb.Inputs(
        {
            "x": rows.to(str(params["device"])),
            "replicates": int(params["replicates"]),
            "seed": seed,
        }
    )


def truth(inputs: bb.Inputs) -> Truth:
    """Mean and standard error of the mean in float64 (variance with divisor n, as resampled)."""
    x = array(inputs.x).astype(np.float64)
    return Truth(mean=float(x.mean()), error=float(x.std() / len(x) ** 0.5))


def check(evidence: bb.Evidence) -> str | None:
    """Shape, finiteness, no replay, and the tests of :func:`quality.mean_tests`."""
    means = array(evidence.output)
    expected = (int(evidence.params["replicates"]),)
    if means.shape != expected:
        return f"shape {means.shape}, expected {expected}: one mean for each replicate"
    if not np.isfinite(means).all():
        return "some replicates are not finite"
    known: Truth = evidence.reference
    return known.seen.replayed(means, evidence.calls) or judge(
        mean_tests(means, known.mean, known.error), evidence
    )


def metrics(output: Any, reference: Truth) -> dict[str, float]:
    """``se_ratio``: spread of the replicates over the theoretical standard error (ideal 1);
    ``shift_se``: their average's distance from the mean in standard errors (ideal 0)."""
    z = (array(output).astype(np.float64) - reference.mean) / reference.error
    return {"se_ratio": float(np.sqrt(np.mean(z**2))), "shift_se": float(z.mean())}


def work(params: bb.Params) -> bb.Work:
    """Rows read once, means written once; items are draws."""
    rows, replicates = int(params["rows"]), int(params["replicates"])
    return bb.Work(
        bytes=4.0 * (rows + replicates),
        items=float(rows * replicates),
        item="draw",
    )


def workloads() -> Iterator[bb.Workload]:
    """The three estimators."""
    on_gpu: bb.Grid = {"rows": (10_000_000,), "replicates": (100,), "device": ("cuda",)}
    common = {"make": make, "check": check, "reference": truth, "metrics": metrics, "work": work}
    yield bb.Workload(
        name=IID,
        doc="Means of iid bootstrap replicates: n rows drawn from n with replacement.",
        baseline="torch",
        tolerance=None,
        axes={
            "rows": (100_000, 1_000_000),
            "replicates": (50, 20, 100),
            "device": ("cpu", "cuda"),
        },
        presets={
            "quick": {},
            "standard": {"rows": (1_000_000,), "replicates": (20,)},
            "gpu": on_gpu,
        },
        **common,
    )
    yield bb.Workload(
        name=POISSON,
        doc="Weighted means of Poisson bootstrap replicates: each row counts Poisson(1) times.",
        baseline="torch",
        tolerance=None,
        axes={
            "rows": (25_000, 1_000_000),
            "replicates": (20, 100),
            "device": ("cpu", "cuda"),
        },
        presets={"quick": [], "standard": {"rows": (1_000_000,)}, "gpu": on_gpu},
        **common,
    )
    yield bb.Workload(
        name=BAYESIAN,
        doc="Means under Dirichlet(1, ..., 1) weights of the rows: the Bayesian bootstrap.",
        baseline="torch",
        tolerance=None,
        axes={
            "rows": (25_000, 1_000_000),
            "replicates": (20, 100),
            "device": ("cpu", "cuda"),
        },
        presets={"quick": [], "standard": {"rows": (1_000_000,)}, "gpu": on_gpu},
        **common,
    )


@bb.implementation(IID, "torch")
def torch_index(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randint in chunks, indexing, mean over rows."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)
    sizes = _chunks(inputs.replicates, n, x.device.type)

    def call() -> torch.Tensor:
        draws = (torch.randint(n, (size, n), generator=rng, device=x.device) for size in sizes)
        return torch.cat([x[index].mean(1) for index in draws])

    return call


@bb.implementation(IID, "torch-index-select")
def torch_index_select(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randint in chunks, gathered by index_select, which skips indexing's general case."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)
    sizes = _chunks(inputs.replicates, n, x.device.type)

    def call() -> torch.Tensor:
        draws = (torch.randint(n, (size * n,), generator=rng, device=x.device) for size in sizes)
        return torch.cat([x.index_select(0, index).view(-1, n).mean(1) for index in draws])

    return call


@bb.implementation(IID, "torch-counts")
def torch_counts(inputs: bb.Inputs) -> bb.Thunk:
    """How often each row was drawn (bincount), times the rows: exact, one product a replicate."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)

    def call() -> torch.Tensor:
        means = torch.empty(inputs.replicates, dtype=x.dtype, device=x.device)
        for i in range(inputs.replicates):
            index = torch.randint(n, (n,), generator=rng, device=x.device)
            means[i] = torch.bincount(index, minlength=n).to(x.dtype) @ x
        return means.div_(n)

    return call


def _numpy(replicate: Callable[[np.ndarray, np.random.Generator], float]) -> Any:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch

        x, rng = host(inputs.x), np.random.default_rng(inputs.seed)

        def call() -> torch.Tensor:
            means = np.empty(inputs.replicates, x.dtype)
            for i in range(inputs.replicates):
                means[i] = replicate(x, rng)
            return torch.from_numpy(means)

        return call

    return build


def _indexed(x: np.ndarray, rng: np.random.Generator) -> float:
    return x[rng.integers(0, len(x), len(x))].mean()


def _multinomial(x: np.ndarray, rng: np.random.Generator) -> float:
    return rng.multinomial(len(x), np.full(len(x), 1 / len(x))).astype(x.dtype) @ x / len(x)


def _poisson(x: np.ndarray, rng: np.random.Generator) -> float:
    weights = rng.poisson(1.0, len(x)).astype(x.dtype)
    return weights @ x / weights.sum()


def _poisson_total(x: np.ndarray, rng: np.random.Generator) -> float:
    return x[rng.integers(0, len(x), rng.poisson(len(x)))].mean()


def _blocks(inputs: bb.Inputs) -> bb.Thunk:
    import torch

    x, rng = host(inputs.x), np.random.default_rng(inputs.seed)
    blocks = [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]
    shares = [len(block) / len(x) for block in blocks]

    def call() -> torch.Tensor:
        means = np.zeros(inputs.replicates, np.float64)
        for i, counts in enumerate(rng.multinomial(len(x), shares, inputs.replicates)):
            for block, count in zip(blocks, counts, strict=True):
                # Numpy fills 16-bit numbers fast only where they need no rejection.
                dtype = np.uint16 if len(block) == BLOCK else np.uint32
                index = rng.integers(0, len(block), count, dtype=dtype)
                means[i] += block.take(index).sum()
        return torch.from_numpy((means / len(x)).astype(x.dtype))

    return call


def _scipy(inputs: bb.Inputs) -> bb.Thunk:
    import torch
    from scipy.stats import bootstrap

    x, rng = host(inputs.x), np.random.default_rng(inputs.seed)
    # Renamed in scipy 1.15; both names take a generator.
    name = "rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state"

    def call() -> torch.Tensor:
        found = bootstrap(
            (x,),
            np.mean,
            n_resamples=inputs.replicates,
            batch=max(1, CHUNK // len(x)),
            vectorized=True,
            method="percentile",
            **{name: rng},
        )
        return torch.from_numpy(found.bootstrap_distribution)

    return call


def _sklearn(inputs: bb.Inputs) -> bb.Thunk:
    import torch
    from sklearn.utils import resample

    x, rng = host(inputs.x), np.random.RandomState(inputs.seed)

    def call() -> torch.Tensor:
        means = np.empty(inputs.replicates, x.dtype)
        for i in range(inputs.replicates):
            means[i] = resample(x, random_state=rng).mean()
        return torch.from_numpy(means)

    return call


@bb.implementation(POISSON, "torch")
def torch_poisson(inputs: bb.Inputs) -> bb.Thunk:
    """torch.poisson weights in chunks, weighted means by one product a chunk."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)
    ones = [x.new_ones(size, n) for size in _chunks(inputs.replicates, n, x.device.type)]

    def call() -> torch.Tensor:
        weights = (torch.poisson(rate, generator=rng) for rate in ones)
        return torch.cat([w @ x / w.sum(1) for w in weights])

    return call


@bb.implementation(POISSON, "torch-total")
def torch_poisson_total(inputs: bb.Inputs) -> bb.Thunk:
    """Poisson(n) rows in all, each drawn alike: the same law by Poisson splitting, exactly."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)
    rates = torch.full((inputs.replicates,), float(n), dtype=torch.float64, device=x.device)

    def call() -> torch.Tensor:
        means = torch.empty(inputs.replicates, dtype=x.dtype, device=x.device)
        for i, total in enumerate(torch.poisson(rates, generator=rng).long().tolist()):
            index = torch.randint(n, (total,), generator=rng, device=x.device)
            means[i] = x.index_select(0, index).mean()
        return means

    return call


@bb.implementation(BAYESIAN, "torch")
def torch_exponential(inputs: bb.Inputs) -> bb.Thunk:
    """Tensor.exponential_ weights in chunks, weighted means by one product a chunk."""
    import torch

    x, n, rng = inputs.x, len(inputs.x), generator(inputs)
    sizes = _chunks(inputs.replicates, n, x.device.type)

    def call() -> torch.Tensor:
        weights = (x.new_empty(size, n).exponential_(generator=rng) for size in sizes)
        return torch.cat([w @ x / w.sum(1) for w in weights])

    return call


def _dirichlet(x: np.ndarray, rng: np.random.Generator) -> float:
    return rng.dirichlet(np.ones(len(x))) @ x


def _exponential(x: np.ndarray, rng: np.random.Generator) -> float:
    weights = rng.standard_exponential(len(x), dtype=np.float32)
    return weights @ x / weights.sum()


def implementations() -> Iterator[bb.Implementation]:
    """Every contender of the three estimators."""
    yield from (torch_index, torch_index_select, torch_counts, torch_poisson, torch_poisson_total)
    yield torch_exponential
    for workload, name, build, doc in (
        (
            IID,
            "numpy",
            _numpy(_indexed),
            "Generator.integers and indexing, replicate by replicate.",
        ),
        (
            IID,
            "numpy-blocks",
            _blocks,
            "Draws split exactly over blocks of 65,536 rows (multinomial), 16-bit indices inside.",
        ),
        (IID, "scipy", _scipy, "scipy.stats.bootstrap, vectorised, batches of a million draws."),
        (POISSON, "numpy", _numpy(_poisson), "Generator.poisson weights, weighted mean."),
        (BAYESIAN, "numpy", _numpy(_exponential), "Generator.standard_exponential in float32."),
        (BAYESIAN, "numpy-dirichlet", _numpy(_dirichlet), "Generator.dirichlet, then a product."),
        (
            POISSON,
            "numpy-total",
            _numpy(_poisson_total),
            "Poisson(n) rows in all, each drawn alike: the same law by Poisson splitting.",
        ),
    ):
        yield bb.Implementation(
            workload=workload, name=name, build=build, unavailable=cpu_only, doc=doc
        )
    yield bb.Implementation(
        workload=IID,
        name="numpy-multinomial",
        build=_numpy(_multinomial),
        unavailable=cpu_only,
        presets=("full",),
        doc="Counts of all rows from one multinomial draw; exact, but a binomial for each row.",
    )
    yield bb.Implementation(
        workload=IID,
        name="scikit-learn",
        build=_sklearn,
        unavailable=needs("sklearn.utils"),
        doc="sklearn.utils.resample, then the mean, replicate by replicate.",
    )


def _chunks(replicates: int, rows: int, device: str) -> list[int]:
    """Replicates for each chunk, so that a chunk is about a million draws (64 on a GPU)."""
    size = max(1, (CHUNK if device == "cpu" else 64 * CHUNK) // rows)
    return [min(size, replicates - start) for start in range(0, replicates, size)]
