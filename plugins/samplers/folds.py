"""Splits for cross-validation: k folds, stratified folds, and leave-one-out.

A split is one number for each row: the fold in which it is tested. Folds are as even as they can
be, and so is every class over stratified folds; which row goes where is random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.quality import Seen, Tests, array, inclusion_tests, judge
from benchbench_plugins.samplers.shared import cpu_only, generator, host, needs

K_FOLD = "samplers/k-fold"
STRATIFIED = "samplers/stratified-folds"
LEAVE_ONE_OUT = "samplers/leave-one-out"
ENOUGH = 400
"""Rows of a fold from which on its spread is tested. With few, a spread that is exactly even, and
then looks arranged, is no rare chance."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a split is judged against."""

    folds: int
    labels: np.ndarray
    """Classes, all zero where there are none."""
    seen: Seen = field(default_factory=Seen)


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Labels ``x`` (n,) int64: one class, or ten of unequal size; and the number of ``folds``."""
    import torch

    rng, n = torch.Generator().manual_seed(seed), int(params["rows"])  # type: ignore[call-overload]
    classes = int(params.get("classes", 1))  # type: ignore[call-overload]
    # Class c is about as frequent as 1 / (c + 1).
    shares = 1 / torch.arange(1, classes + 1, dtype=torch.float64)
    labels = torch.multinomial(shares, n, replacement=True, generator=rng)
    return bb.Inputs(
        {
            "x": labels.to(str(params["device"])),
            "folds": int(params["folds"]),  # type: ignore[call-overload]
            "seed": seed,
        }
    )


def check(evidence: bb.Evidence) -> str | None:
    """Even folds, even classes, and rows at random in them."""
    truth: Truth = evidence.reference
    folds, n = array(evidence.output), len(truth.labels)
    if folds.shape != (n,) or folds.dtype.kind not in "iu":
        return f"the folds are {folds.dtype} of shape {folds.shape}, expected integers of {(n,)}"
    if folds.min() < 0 or folds.max() >= truth.folds:
        return f"folds from {folds.min()} to {folds.max()}, outside 0 to {truth.folds - 1}"
    classes = int(truth.labels.max()) + 1
    counts = np.zeros((classes, truth.folds), np.int64)
    np.add.at(counts, (truth.labels, folds), 1)
    uneven = counts.max(1) - counts.min(1)
    if uneven.max() > 1:
        worst = int(uneven.argmax())
        what = f"class {worst}" if classes > 1 else "the rows"
        return (
            f"{what} is spread as {counts[worst].tolist()} over the folds: not as evenly as it can"
        )
    total = counts.sum(0)
    if total.max() - total.min() > max(1, classes):
        return f"folds have {total.tolist()} rows"
    # Folds are even within classes, so rows of each class are what may go anywhere.
    tests: Tests = {}
    for label in range(min(classes, 4)):
        inside = folds[truth.labels == label]
        for fold in range(2):
            if np.count_nonzero(inside == fold) >= ENOUGH:
                for name, p in inclusion_tests(inside == fold).items():
                    tests[f"class {label}, fold {fold}, {name}"] = p
    return truth.seen.replayed(folds, evidence.calls) or judge(tests, evidence)


@bb.implementation(K_FOLD, "torch")
def torch_folds(inputs: bb.Inputs) -> bb.Thunk:
    """Positions modulo k, written through a random permutation."""
    import torch

    n, k, rng = len(inputs.x), inputs.folds, generator(inputs)
    even = torch.arange(n, device=inputs.x.device) % k

    def call() -> torch.Tensor:
        order = torch.randperm(n, generator=rng, device=even.device)
        return even[order]

    return call


@bb.implementation(K_FOLD, "numpy", unavailable=cpu_only)
def numpy_folds(inputs: bb.Inputs) -> bb.Thunk:
    """The same by Generator.permutation of the folds themselves."""
    import torch

    rng = np.random.default_rng(inputs.seed)
    even = np.arange(len(inputs.x)) % inputs.folds
    return lambda: torch.from_numpy(rng.permutation(even))


def _from_splits(splitter: Any, labels: np.ndarray) -> np.ndarray:
    folds = np.empty(len(labels), np.int64)
    for fold, (_, test) in enumerate(splitter.split(labels, labels)):
        folds[test] = fold
    return folds


@bb.implementation(K_FOLD, "scikit-learn", unavailable=needs("sklearn.model_selection"))
def sklearn_folds(inputs: bb.Inputs) -> bb.Thunk:
    """sklearn.model_selection.KFold(shuffle=True), its test sets."""
    import torch
    from sklearn.model_selection import KFold

    labels, rng = host(inputs.x), np.random.RandomState(inputs.seed)
    splitter = KFold(inputs.folds, shuffle=True, random_state=rng)
    return lambda: torch.from_numpy(_from_splits(splitter, labels))


@bb.implementation(STRATIFIED, "torch")
def torch_stratified(inputs: bb.Inputs) -> bb.Thunk:
    """Rows in random order, sorted by class (stable), then position modulo k."""
    import torch

    labels, rng = inputs.x, generator(inputs)
    n = len(labels)
    even = torch.arange(n, device=labels.device) % inputs.folds

    def call() -> torch.Tensor:
        order = torch.randperm(n, generator=rng, device=labels.device)
        order = order[labels[order].argsort(stable=True)]
        folds = torch.empty_like(even)
        folds[order] = even
        return folds

    return call


@bb.implementation(STRATIFIED, "numpy", unavailable=cpu_only)
def numpy_stratified(inputs: bb.Inputs) -> bb.Thunk:
    """Class by class: folds in turn, permuted; the next class goes on with the next fold."""
    import torch

    labels, k, rng = host(inputs.x), inputs.folds, np.random.default_rng(inputs.seed)

    def call() -> torch.Tensor:
        folds, begin = np.empty(len(labels), np.int64), 0
        for label in range(int(labels.max()) + 1):
            rows = np.flatnonzero(labels == label)
            folds[rows] = rng.permutation((begin + np.arange(len(rows))) % k)
            begin += len(rows)
        return torch.from_numpy(folds)

    return call


@bb.implementation(STRATIFIED, "scikit-learn", unavailable=needs("sklearn.model_selection"))
def sklearn_stratified(inputs: bb.Inputs) -> bb.Thunk:
    """sklearn.model_selection.StratifiedKFold(shuffle=True), its test sets."""
    import torch
    from sklearn.model_selection import StratifiedKFold

    labels, rng = host(inputs.x), np.random.RandomState(inputs.seed)
    splitter = StratifiedKFold(inputs.folds, shuffle=True, random_state=rng)
    return lambda: torch.from_numpy(_from_splits(splitter, labels))


# Leave-one-out: training rows of each split, an equality.


def make_rows(params: bb.Params, seed: int) -> bb.Inputs:
    """``n`` rows; ``x`` only says on which device."""
    import torch

    return bb.Inputs({"x": torch.empty(0, device=str(params["device"])), "n": int(params["rows"])})  # type: ignore[call-overload]


def check_leave_one_out(evidence: bb.Evidence) -> str | None:
    """Split i has every row but i, in order."""
    rows, n = array(evidence.output), evidence.inputs.n
    if rows.shape != (n, n - 1) or rows.dtype.kind not in "iu":
        return f"the rows are {rows.dtype} of shape {rows.shape}, expected {(n, n - 1)}"
    columns = np.arange(n - 1)
    expected = columns + (columns >= np.arange(n)[:, None])
    if not np.array_equal(rows, expected):
        wrong = int(np.flatnonzero((rows != expected).any(1))[0])
        return f"split {wrong} does not have every row but {wrong}, in order"
    return None


@bb.implementation(LEAVE_ONE_OUT, "torch")
def torch_comparison(inputs: bb.Inputs) -> bb.Thunk:
    """Column number, plus one from the left-out row on: an addition and a comparison."""
    import torch

    n, device = inputs.n, inputs.x.device

    def call() -> torch.Tensor:
        columns = torch.arange(n - 1, device=device)
        return columns + (columns >= torch.arange(n, device=device)[:, None])

    return call


@bb.implementation(LEAVE_ONE_OUT, "torch-mask")
def torch_mask(inputs: bb.Inputs) -> bb.Thunk:
    """All pairs, those on the diagonal taken out by a mask."""
    import torch

    n, device = inputs.n, inputs.x.device

    def call() -> torch.Tensor:
        rows = torch.arange(n, device=device).expand(n, n)
        return rows[~torch.eye(n, dtype=torch.bool, device=device)].view(n, n - 1)

    return call


@bb.implementation(LEAVE_ONE_OUT, "numpy", unavailable=cpu_only)
def numpy_delete(inputs: bb.Inputs) -> bb.Thunk:
    """numpy.delete, split by split."""
    import torch

    rows = np.arange(inputs.n)
    return lambda: torch.from_numpy(np.stack([np.delete(rows, i) for i in range(len(rows))]))


@bb.implementation(LEAVE_ONE_OUT, "scikit-learn", unavailable=needs("sklearn.model_selection"))
def sklearn_leave_one_out(inputs: bb.Inputs) -> bb.Thunk:
    """sklearn.model_selection.LeaveOneOut, its training sets."""
    import torch
    from sklearn.model_selection import LeaveOneOut

    rows, splitter = np.zeros((inputs.n, 1)), LeaveOneOut()
    return lambda: torch.from_numpy(np.stack([train for train, _ in splitter.split(rows)]))


def workloads() -> Iterator[bb.Workload]:
    """k-fold, stratified, leave-one-out."""
    for name, classes, doc in (
        (K_FOLD, 1, "The fold of each row, folds as even as they can be."),
        (STRATIFIED, 10, "The fold of each row, every class as even over folds as it can be."),
    ):
        axes: dict[str, Any] = {"rows": (100_000, 1797), "folds": (5, 10), "classes": (classes,)}
        yield bb.Workload(
            name=name,
            doc=doc,
            make=make,
            baseline="torch",
            reference=lambda inputs: Truth(folds=inputs.folds, labels=array(inputs.x)),
            tolerance=None,
            check=check,
            work=lambda params: bb.Work(
                bytes=(8.0 if params["classes"] == 1 else 16.0) * int(params["rows"]),  # type: ignore[call-overload]
                items=float(int(params["rows"])),  # type: ignore[call-overload]
                item="row",
            ),
            axes={**axes, "device": ("cpu", "cuda")},
            presets={
                "quick": [],
                "standard": {},
                "full": axes,
                "gpu": {"rows": (40_000_000,), "device": ("cuda",)},
            },
        )
    yield bb.Workload(
        name=LEAVE_ONE_OUT,
        doc="Training rows of each of n splits: all but one.",
        make=make_rows,
        baseline="torch",
        check=check_leave_one_out,
        work=lambda params: bb.Work(
            bytes=8.0 * int(params["rows"]) * (int(params["rows"]) - 1),  # type: ignore[call-overload]
            items=float(int(params["rows"])),  # type: ignore[call-overload]
            item="split",
        ),
        axes={"rows": (1797, 150), "device": ("cpu", "cuda")},
        presets={
            "quick": [],
            "standard": {},
            "full": {"rows": (1797, 150)},
            "gpu": {"rows": (8192,), "device": ("cuda",)},
        },
    )


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    yield from (torch_folds, numpy_folds, sklearn_folds)
    yield from (torch_stratified, numpy_stratified, sklearn_stratified)
    yield from (torch_comparison, torch_mask, numpy_delete, sklearn_leave_one_out)
