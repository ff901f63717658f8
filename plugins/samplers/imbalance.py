"""Balancing classes: over-sampling the small ones, under-sampling the large ones."""

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
    count_tests,
    inclusion_tests,
    judge,
)
from benchbench_plugins.samplers.shared import cpu_only, generator, host, needs

OVER = "samplers/oversample"
UNDER = "samplers/undersample"
FEATURES = 20


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Rows ``x`` (rows, 20) float32 and labels ``y`` (rows,) int64 in random order.

    ``ratio`` gives the classes' sizes relative to each other: 9x1 is nine rows of class 0 to one
    of class 1.
    """
    import torch

    rows, ratio = int(params["rows"]), _ratio(params)
    rng = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(ratio)), torch.tensor(sizes(rows, ratio)))
    device = str(params["device"])
    return bb.Inputs(
        {
            "x": torch.randn(rows, FEATURES, generator=rng).to(device),
            "y": labels[torch.randperm(rows, generator=rng)].to(device),
            "seed": seed,
        }
    )


def _ratio(params: bb.Params) -> tuple[int, ...]:
    ratio = params["ratio"]
    if not isinstance(ratio, tuple):
        raise ValueError(f"ratio={ratio}: give class sizes such as 9x1")
    return tuple(int(part) for part in ratio)


def sizes(rows: int, ratio: tuple[int, ...]) -> list[int]:
    """Rows of each class; the first takes the remainder."""
    parts = [rows * part // sum(ratio) for part in ratio]
    parts[0] += rows - sum(parts)
    return parts


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The rows, and how to find one again: its key, sorted."""

    x: np.ndarray
    y: np.ndarray
    keys: np.ndarray
    order: np.ndarray
    seen: Seen = field(default_factory=Seen)


def truth(inputs: bb.Inputs) -> Truth:
    """Sort the rows by key, once for all contenders."""
    x, y = array(inputs.x), array(inputs.y)
    keys = row_keys(x)
    order = np.argsort(keys, kind="stable")
    return Truth(x=x, y=y, keys=keys[order], order=order)


def row_keys(x: np.ndarray) -> np.ndarray:
    """64 bits that tell rows apart: the bits of four features, multiplied by odd numbers."""
    bits = np.ascontiguousarray(x[:, :4]).view(np.uint32).astype(np.uint64)
    odd = np.array(
        [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64
    )
    return (bits * odd).sum(1, dtype=np.uint64)


def origin(x: np.ndarray, known: Truth) -> np.ndarray | None:
    """For each row, which of the original rows it is; None when one is no original row."""
    keys = row_keys(x)
    order = np.argsort(keys)  # looking up in order stays in cache: three times faster at 1 M rows
    place = np.empty_like(order)
    place[order] = np.searchsorted(known.keys, keys[order])
    index = known.order[np.minimum(place, len(known.order) - 1)]
    return index if np.array_equal(known.x[index], x) else None


def counted(output: Any, known: Truth, size: Callable[[np.ndarray], int]) -> np.ndarray | str:
    """How often each original row occurs, or why the output is no balanced set of rows.

    Args:
        output: pair of rows and labels.
        size: from the original class counts to the count that every class must have.
    """
    if not isinstance(output, tuple | list) or len(output) != 2:
        return "the output must be a pair: rows and labels"
    x, y = array(output[0], "rows"), array(output[1], "labels")
    classes = np.bincount(known.y)
    wanted = size(classes)
    shape = (wanted * len(classes), known.x.shape[1])
    if x.shape != shape or x.dtype != known.x.dtype:
        return f"rows are {x.dtype} {x.shape}, expected {known.x.dtype} {shape}"
    if y.shape != shape[:1] or y.dtype.kind not in "iu":
        return f"labels are {y.dtype} {y.shape}, expected integers {shape[:1]}"
    index = origin(x, known)
    if index is None:
        return "some rows are no rows of the input"
    if not np.array_equal(known.y[index], y):
        return "some rows carry another row's label"
    found = np.bincount(y, minlength=len(classes))
    if not (found == wanted).all():
        return f"class counts are {found.tolist()}, expected {wanted} each"
    return np.bincount(index, minlength=len(known.y))


def check_over(evidence: bb.Evidence) -> str | None:
    """Exact counts, real rows with their own labels, none lost, extra draws alike."""
    known: Truth = evidence.reference
    counts = counted(evidence.output, known, max)
    if isinstance(counts, str):
        return counts
    if not counts.all():
        return f"{int((counts == 0).sum())} original rows are missing"
    tests: Tests = {}
    for label in range(int(known.y.max()) + 1):
        extra = counts[known.y == label] - 1
        found = count_tests(extra)
        tests.update({f"class {label}, {name}": p for name, p in found.items()})
    if not tests:  # classes alike already: nothing is drawn
        return None
    return known.seen.replayed(counts, evidence.calls) or judge(tests, evidence)


def check_under(evidence: bb.Evidence) -> str | None:
    """Exact counts, real rows with their own labels, none twice, the kept ones chosen alike."""
    known: Truth = evidence.reference
    counts = counted(evidence.output, known, min)
    if isinstance(counts, str):
        return counts
    if counts.max() > 1:
        return f"{int((counts > 1).sum())} rows occur more than once"
    tests: Tests = {}
    for label in range(int(known.y.max()) + 1):
        found = inclusion_tests(counts[known.y == label])
        tests.update({f"class {label}, {name}": p for name, p in found.items()})
    if not tests:  # classes alike already: nothing is drawn
        return None
    return known.seen.replayed(counts, evidence.calls) or judge(tests, evidence)


def metrics_over(output: Any, reference: Truth) -> dict[str, float]:
    """``coverage``: rows of the smallest class drawn at least once beyond the original, over what
    theory expects of independent draws (ideal 1)."""
    counts = counted(output, reference, max)
    if isinstance(counts, str):
        return {}
    classes = np.bincount(reference.y)
    smallest = int(classes.argmin())
    extra = counts[reference.y == smallest] - 1
    expected = -np.expm1(extra.sum() * np.log1p(-1 / len(extra))) * len(extra)
    return {"coverage": float(np.count_nonzero(extra) / expected)} if expected > 0 else {}


def workloads() -> Iterator[bb.Workload]:
    """Both directions, on the same rows."""
    common = {
        "make": make,
        "baseline": "torch",
        "reference": truth,
        "tolerance": None,
        "axes": {
            "rows": (100_000, 250_000, 1_000_000),
            "ratio": ((9, 1), (16, 3, 1)),
            "device": ("cpu", "cuda"),
        },
        "presets": {
            "quick": {},
            "standard": {"rows": (250_000,), "ratio": ((9, 1), (16, 3, 1))},
            "gpu": {"rows": (8_000_000,), "ratio": ((9, 1), (16, 3, 1)), "device": ("cuda",)},
        },
    }
    yield bb.Workload(
        name=OVER,
        doc="All rows, plus draws with replacement from each smaller class up to the largest.",
        check=check_over,
        metrics=metrics_over,
        work=work_over,
        **common,
    )
    yield bb.Workload(
        name=UNDER,
        doc="A random subset of each class, without replacement, of the smallest class's size.",
        check=check_under,
        work=work_under,
        **common,
    )


def work_over(params: bb.Params) -> bb.Work:
    """Everything read once, the balanced set written once."""
    rows, ratio = int(params["rows"]), _ratio(params)
    result = max(sizes(rows, ratio)) * len(ratio)
    return bb.Work(
        bytes=float((rows + result) * (FEATURES * 4 + 8)), items=float(result), item="row"
    )


def work_under(params: bb.Params) -> bb.Work:
    """All labels and the kept rows read once, the balanced set written once."""
    rows, ratio = int(params["rows"]), _ratio(params)
    result = min(sizes(rows, ratio)) * len(ratio)
    return bb.Work(
        bytes=float(rows * 8 + result * (2 * FEATURES * 4 + 8)), items=float(result), item="row"
    )


@bb.implementation(OVER, "torch")
def torch_over(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randint into each small class's rows, one index for all, index_select."""
    import torch

    x, y, rng = inputs.x, inputs.y, generator(inputs)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        counts = torch.bincount(y).tolist()
        parts = [torch.arange(len(y), device=y.device)]
        for label, count in enumerate(counts):
            if count < max(counts):
                members = torch.nonzero(y == label).squeeze(1)
                draws = torch.randint(count, (max(counts) - count,), generator=rng, device=y.device)
                parts.append(members[draws])
        index = torch.cat(parts)
        return x.index_select(0, index), y.index_select(0, index)

    return call


@bb.implementation(OVER, "torch-cat")
def torch_over_cat(inputs: bb.Inputs) -> bb.Thunk:
    """As torch, but the original rows are copied in one piece and only the draws are gathered."""
    import torch

    x, y, rng = inputs.x, inputs.y, generator(inputs)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        counts = torch.bincount(y).tolist()
        largest = max(counts)
        rows = x.new_empty(largest * len(counts), x.shape[1])
        labels = y.new_empty(largest * len(counts))
        rows[: len(x)] = x
        labels[: len(y)] = y
        at = len(x)
        for label, count in enumerate(counts):
            if count < largest:
                members = torch.nonzero(y == label).squeeze(1)
                draws = torch.randint(count, (largest - count,), generator=rng, device=y.device)
                end = at + largest - count
                torch.index_select(x, 0, members[draws], out=rows[at:end])
                labels[at:end] = label
                at = end
        return rows, labels

    return call


@bb.implementation(UNDER, "torch")
def torch_under(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randperm of each class's rows, cut to the smallest class's size."""
    import torch

    x, y, rng = inputs.x, inputs.y, generator(inputs)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        counts = torch.bincount(y).tolist()
        parts = []
        for label, count in enumerate(counts):
            members = torch.nonzero(y == label).squeeze(1)
            if count > min(counts):
                order = torch.randperm(count, generator=rng, device=y.device)
                members = members[order[: min(counts)]]
            parts.append(members)
        index = torch.cat(parts)
        return x.index_select(0, index), y.index_select(0, index)

    return call


def _numpy(
    pick: Callable[[np.ndarray, np.ndarray, np.random.Generator], list[np.ndarray]],
) -> Callable[[bb.Inputs], bb.Thunk]:
    """A contender that picks row numbers with numpy and gathers with ``take``."""

    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch

        x, y, rng = host(inputs.x), host(inputs.y), np.random.default_rng(inputs.seed)

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            index = np.concatenate(pick(y, np.bincount(y), rng))
            return torch.from_numpy(x.take(index, 0)), torch.from_numpy(y.take(index))

        return call

    return build


def _pick_over(y: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    parts = [np.arange(len(y))]
    for label in np.flatnonzero(counts < counts.max()):
        members = np.flatnonzero(y == label)
        parts.append(members[rng.integers(0, len(members), counts.max() - len(members))])
    return parts


def _pick_under(y: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    members = (np.flatnonzero(y == label) for label in range(len(counts)))
    return [rng.choice(rows, counts.min(), replace=False, shuffle=False) for rows in members]


def _pick_permuted(y: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    members = (np.flatnonzero(y == label) for label in range(len(counts)))
    return [rng.permutation(rows)[: counts.min()] for rows in members]


def _imblearn(name: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch
        from imblearn import over_sampling, under_sampling

        kind = getattr(over_sampling, name, None) or getattr(under_sampling, name)
        # A RandomState, not a number: a number would restart the stream in every call.
        sampler = kind(random_state=np.random.RandomState(inputs.seed))
        x, y = host(inputs.x), host(inputs.y)

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            rows, labels = sampler.fit_resample(x, y)
            return torch.from_numpy(rows), torch.from_numpy(labels)

        return call

    return build


def _sklearn(over: bool) -> Callable[[bb.Inputs], bb.Thunk]:
    """sklearn.utils.resample class by class, as its users write it."""

    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch
        from sklearn.utils import resample

        x, y = host(inputs.x), host(inputs.y)
        rng = np.random.RandomState(inputs.seed)

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            counts = np.bincount(y)
            rows, labels = ([x], [y]) if over else ([], [])
            for label, count in enumerate(counts):
                wanted = counts.max() - count if over else counts.min()
                if wanted:
                    mine = y == label
                    drawn = resample(
                        x[mine], y[mine], replace=over, n_samples=wanted, random_state=rng
                    )
                    rows.append(drawn[0])
                    labels.append(drawn[1])
            return (
                torch.from_numpy(np.concatenate(rows)),
                torch.from_numpy(np.concatenate(labels)),
            )

        return call

    return build


def implementations() -> Iterator[bb.Implementation]:
    """Every contender of both workloads."""
    yield from (torch_over, torch_over_cat, torch_under)
    imblearn = needs("imblearn")
    sklearn = needs("sklearn.utils")
    for workload, name, build, unavailable, doc in (
        (OVER, "numpy", _numpy(_pick_over), cpu_only, "Generator.integers, one index, take."),
        (OVER, "scikit-learn", _sklearn(True), sklearn, "sklearn.utils.resample by class."),
        (
            OVER,
            "imbalanced-learn",
            _imblearn("RandomOverSampler"),
            imblearn,
            "RandomOverSampler.fit_resample, with its input validation.",
        ),
        (
            UNDER,
            "numpy",
            _numpy(_pick_under),
            cpu_only,
            "Generator.choice(replace=False, shuffle=False) by class, take.",
        ),
        (
            UNDER,
            "numpy-permutation",
            _numpy(_pick_permuted),
            cpu_only,
            "Generator.permutation of each class, cut, take.",
        ),
        (UNDER, "scikit-learn", _sklearn(False), sklearn, "sklearn.utils.resample by class."),
        (
            UNDER,
            "imbalanced-learn",
            _imblearn("RandomUnderSampler"),
            imblearn,
            "RandomUnderSampler.fit_resample, with its input validation.",
        ),
    ):
        yield bb.Implementation(
            workload=workload, name=name, build=build, unavailable=unavailable, doc=doc
        )
