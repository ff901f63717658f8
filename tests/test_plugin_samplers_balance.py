"""Balanced classes: planted bad ones are rejected, sizes add up, rows are found again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sampler_trials import CONTENDERS, Bad, Trial, assert_rejected

from benchbench_plugins.samplers import imbalance


def _over(edit: Callable[..., np.ndarray | None], *, tamper: str = "") -> Bad:
    """Over-sampling by an index that ``edit`` spoils, or with spoiled contents."""

    def call(trial: Trial, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = trial.inputs.x, trial.inputs.y
        rare = np.flatnonzero(y.numpy() == 1)
        extra = len(y) - 2 * len(rare)
        drawn = edit(rare, extra, rng)
        index = torch.from_numpy(np.concatenate([np.arange(len(y)), drawn]))
        rows, labels = x[index].clone(), y[index].clone()
        if tamper == "row":
            rows[7, 3] += 1e-3
        if tamper == "label":
            labels[[0, -1]] = labels[[-1, 0]]
        if tamper == "lost":
            rows[0], labels[0] = rows[1], labels[1]
        return rows, labels

    return call


def _fair(rare: np.ndarray, extra: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(rare, extra)


BAD_OVER: dict[str, tuple[Bad, str]] = {
    "always first": (_over(lambda rare, k, r: np.full(k, rare[0])), "class 1, uneven"),
    "modulo bias": (_over(lambda rare, k, r: rare[r.integers(0, 3000, k) % len(rare)]), "uneven"),
    "in turn": (_over(lambda rare, k, r: np.resize(rare, k)), "uneven|distinct"),
    "one short": (_over(lambda rare, k, r: r.choice(rare, k - 1)), "rows are"),
    "one row changed": (_over(_fair, tamper="row"), "no rows of the input"),
    "labels swapped": (_over(_fair, tamper="label"), "another row's label"),
    "row lost": (_over(_fair, tamper="lost"), "missing|counts"),
    "rows alone": (lambda trial, rng: trial.inputs.x, "pair"),
}


def _under(pick: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]) -> Bad:
    def call(trial: Trial, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = trial.inputs.x, trial.inputs.y
        rare, common = (np.flatnonzero(y.numpy() == label) for label in (1, 0))
        index = torch.from_numpy(np.concatenate([rare, pick(common, len(rare), rng)]))
        return x[index], y[index]

    return call


BAD_UNDER: dict[str, tuple[Bad, str]] = {
    "always first": (_under(lambda rows, k, r: rows[:k]), "uneven by position"),
    "every ninth": (_under(lambda rows, k, r: rows[:: len(rows) // k][:k]), "uneven"),
    "with replacement": (_under(lambda rows, k, r: r.choice(rows, k)), "more than once"),
    "early rows likelier": (
        _under(lambda rows, k, r: r.choice(rows[: len(rows) * 3 // 4], k, replace=False)),
        "uneven by position",
    ),
    "one short": (_under(lambda rows, k, r: rows[: k - 1]), "rows are"),
}


@pytest.mark.parametrize(
    ("workload", "bad", "reason"),
    [
        pytest.param(workload, bad, reason, id=f"{workload.split('/')[1]}: {name}")
        for workload, table in ((imbalance.OVER, BAD_OVER), (imbalance.UNDER, BAD_UNDER))
        for name, (bad, reason) in table.items()
    ],
)
def test_planted_bad_contenders_are_rejected(workload: str, bad: Bad, reason: str) -> None:
    assert_rejected(workload, bad, reason)


def test_balanced_classes_leave_nothing_to_draw() -> None:
    params = {"rows": 4_000, "ratio": (1, 1), "device": "cpu"}
    for workload in (imbalance.OVER, imbalance.UNDER):
        trial = Trial(workload, params)
        thunk = CONTENDERS[f"{workload}:torch"].build(trial.inputs)
        assert trial.judge(thunk(), 1) is None
        assert trial.judge(thunk(), 2) is None


@given(
    rows=st.integers(100, 100_000),
    ratio=st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple),
)
def test_class_sizes_add_up(rows: int, ratio: tuple[int, ...]) -> None:
    sizes = imbalance.sizes(rows, ratio)
    assert sum(sizes) == rows
    for size, part in zip(sizes, ratio, strict=True):
        assert abs(size - rows * part / sum(ratio)) < len(ratio)


@given(rows=st.integers(1, 5_000), cut=st.integers(1, 4_000))
@settings(max_examples=30)
def test_every_row_is_found_again(rows: int, cut: int) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)
    keys = imbalance.row_keys(x)
    order = np.argsort(keys)
    known = imbalance.Truth(x=x, y=np.zeros(rows, int), keys=keys[order], order=order)
    asked = np.random.default_rng(cut).integers(0, rows, cut)
    assert np.array_equal(imbalance.origin(x[asked], known), asked)
    assert imbalance.origin(x[asked] + np.float32(0.5), known) is None
