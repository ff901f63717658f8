"""Cross-validation: what k folds and leave-one-out cost, and how their estimates agree.

Ridge regression on diabetes, where leave-one-out has a closed form: the residual of row i, fitted
without it, is its residual over 1 - H_ii, H the hat matrix (Golub, Heath, Wahba 1979). It is the
reference: estimates must lie near it, and the two ways to leave one out must agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.techniques.training import unavailable

NAME = "techniques/cross-validation"
PENALTY = 0.05
NEAR = 0.1
"""Allowed relative difference of an estimate; ten folds differ by 1 to 3 %."""


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Centred diabetes (442, 10) in an order that the seed fixes."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    return bb.Inputs({"x": x[order].copy(), "y": (y - y.mean())[order].copy()})


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ y)


def closed_form(x: np.ndarray, y: np.ndarray) -> float:
    """Mean squared error of leave-one-out."""
    gram = x.T @ x + PENALTY * np.eye(x.shape[1])
    hat = np.einsum("ij,ji->i", x, np.linalg.solve(gram, x.T))
    residual = y - x @ _fit(x, y)
    return float(np.mean((residual / (1 - hat)) ** 2))


def _folds(count: int) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        x, y = inputs.x, inputs.y
        parts = np.array_split(np.arange(len(x)), count or len(x))

        def call() -> np.ndarray:
            total = 0.0
            for part in parts:
                kept = np.ones(len(x), bool)
                kept[part] = False
                weights = _fit(x[kept], y[kept])
                total += float(((y[part] - x[part] @ weights) ** 2).sum())
            return np.array([total / len(x)])

        return call

    return build


def _sklearn(inputs: Any) -> bb.Thunk:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold, cross_val_score

    def call() -> np.ndarray:
        model = Ridge(alpha=PENALTY, fit_intercept=False)
        scores = cross_val_score(
            model, inputs.x, inputs.y, cv=KFold(10), scoring="neg_mean_squared_error"
        )
        return np.array([-scores.mean()])

    return call


def _by_formula(inputs: Any) -> bb.Thunk:
    return lambda: np.array([closed_form(inputs.x, inputs.y)])


def check(evidence: bb.Evidence) -> str | None:
    """Near the closed form."""
    output = np.asarray(evidence.output)
    if output.shape != (1,) or not np.isfinite(output).all():
        return f"the estimate is {output}, expected one finite number"
    off = abs(float(output[0]) / evidence.reference - 1)
    if off > NEAR:
        return f"the estimate is {off:.1%} off leave-one-out, allowed is {NEAR:.0%}"
    return None


def workloads() -> Iterator[bb.Workload]:
    """One."""
    yield bb.Workload(
        name=NAME,
        doc="Estimate the squared error of ridge regression on diabetes.",
        axes={"rows": (442,)},
        presets={"quick": [], "standard": {}},
        make=make,
        reference=lambda inputs: closed_form(inputs.x, inputs.y),
        tolerance=None,
        check=check,
        metrics=lambda output, reference: {
            "mse": float(output[0]),
            "off": float(output[0]) / reference - 1,
        },
        baseline="10-fold",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Folds, and leaving one out in two ways."""
    for name, build, doc in (
        ("10-fold", _folds(10), "Ten fits by numpy."),
        ("5-fold", _folds(5), "Five fits by numpy."),
        ("leave-one-out", _folds(0), "A fit for each row."),
        ("closed-form", _by_formula, "Leave-one-out from one fit and the hat matrix."),
        ("scikit-learn", _sklearn, "cross_val_score of Ridge in ten folds."),
    ):
        yield bb.Implementation(
            workload=NAME, name=name, build=build, unavailable=unavailable, doc=doc
        )
