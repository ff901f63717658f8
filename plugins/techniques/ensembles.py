"""Bootstrap and models: bagging with its out-of-bag error, and bias and variance of predictors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.techniques.training import unavailable

BAGGING = "techniques/bagging"
SPREAD = "techniques/bias-variance"


@cache
def _digits() -> tuple[np.ndarray, ...]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    rows, labels = load_digits(return_X_y=True)
    return tuple(train_test_split(rows, labels, test_size=360, stratify=labels, random_state=0))


def make_bagging(params: bb.Params, seed: int) -> bb.Inputs:
    """The digits as numpy arrays, and how many trees."""
    train_x, test_x, train_y, test_y = _digits()
    return bb.Inputs(
        {
            "train_x": train_x.copy(),
            "train_y": train_y.copy(),
            "test_x": test_x.copy(),
            "test_y": test_y.copy(),
            "trees": params["trees"],
            "seed": seed,
        }
    )


def _fitted(make: Callable[[Any], Any]) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        def call() -> dict[str, np.ndarray]:
            model = make(inputs)
            model.fit(inputs.train_x, inputs.train_y)
            score = getattr(model, "oob_score_", np.nan)
            return {
                "classes": np.asarray(model.predict(inputs.test_x)),
                "oob_error": np.array([1 - score]),
            }

        return call

    return build


def _tree(inputs: Any) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=inputs.seed)


def _bagging(inputs: Any) -> Any:
    from sklearn.ensemble import BaggingClassifier

    return BaggingClassifier(
        n_estimators=inputs.trees, oob_score=True, random_state=inputs.seed, n_jobs=1
    )


def _forest(inputs: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators=inputs.trees, oob_score=True, random_state=inputs.seed, n_jobs=1
    )


class Bagged:
    """Bagging by hand: a tree for each bootstrap set, votes of all, and votes out of the bag."""

    def __init__(self, trees: int, seed: int) -> None:
        self.trees = trees
        self.seed = seed

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Grow the trees; ``oob_score_`` is over rows that some tree did not see."""
        from sklearn.tree import DecisionTreeClassifier

        rng = np.random.default_rng(self.seed)
        votes = np.zeros((len(x), int(y.max()) + 1), np.int64)
        self.members = []
        for number in range(self.trees):
            index = rng.integers(0, len(x), len(x))
            tree = DecisionTreeClassifier(random_state=self.seed + number)
            self.members.append(tree.fit(x[index], y[index]))
            outside = np.setdiff1d(np.arange(len(x)), index)
            votes[outside, tree.predict(x[outside])] += 1
        judged = votes.any(1)
        self.oob_score_ = float((votes[judged].argmax(1) == y[judged]).mean())
        self.classes = votes.shape[1]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The class with most votes."""
        votes = np.zeros((len(x), self.classes), np.int64)
        for tree in self.members:
            votes[np.arange(len(x)), tree.predict(x)] += 1
        return votes.argmax(1)


def check_bagging(evidence: bb.Evidence) -> str | None:
    """A class for each test row, and better than a weak tree."""
    classes, truth = np.asarray(evidence.output["classes"]), evidence.inputs.test_y
    if classes.shape != truth.shape:
        return f"classes have shape {classes.shape}, expected {truth.shape}"
    right = float((classes == truth).mean())
    return None if right >= 0.75 else f"only {right:.1%} of the test rows are right"


def bagging_metrics(output: Mapping[str, np.ndarray], inputs: Any) -> dict[str, float]:
    """Error on the test rows, and the out-of-bag estimate of it where there is one."""
    found = {"test_error": float((output["classes"] != inputs.test_y).mean())}
    estimate = float(output["oob_error"][0])
    return found if np.isnan(estimate) else {**found, "oob_error": estimate}


# ---- bias and variance ----


def make_spread(params: bb.Params, seed: int) -> bb.Inputs:
    """Diabetes: 342 rows to draw bootstrap sets from, 100 to predict."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    replicates = params["replicates"]
    assert isinstance(replicates, int)
    rng = np.random.default_rng(seed)
    return bb.Inputs(
        {
            "x": x[order[:342]].copy(),
            "y": y[order[:342]].copy(),
            "test_x": x[order[342:]].copy(),
            "test_y": y[order[342:]].copy(),
            "sets": rng.integers(0, 342, (replicates, 342)),
        }
    )


def _predicted(make: Callable[[], Any]) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        def call() -> np.ndarray:
            found = np.empty((len(inputs.sets), len(inputs.test_x)))
            for row, index in zip(found, inputs.sets, strict=True):
                row[:] = make().fit(inputs.x[index], inputs.y[index]).predict(inputs.test_x)
            return found

        return call

    return build


def _mean() -> Any:
    from sklearn.dummy import DummyRegressor

    return DummyRegressor()


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=0.1)


def _stump() -> Any:
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(max_depth=2, random_state=0)


def _deep() -> Any:
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(random_state=0)


def _neighbours() -> Any:
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(5)


def check_spread(evidence: bb.Evidence) -> str | None:
    """A finite prediction of each test row for each bootstrap set."""
    output = np.asarray(evidence.output)
    expected = (len(evidence.inputs.sets), len(evidence.inputs.test_x))
    if output.shape != expected:
        return f"predictions have shape {output.shape}, expected {expected}"
    if not np.isfinite(output).all():
        return "some predictions are not finite"
    off = float(np.abs(output.mean(1) - evidence.inputs.y.mean()).max())
    limit = float(evidence.inputs.y.std())
    return (
        None if off < limit else f"the mean prediction is off by {off:.3g}, allowed is {limit:.3g}"
    )


def spread_metrics(output: np.ndarray, inputs: Any) -> dict[str, float]:
    """Squared error over the variance of the answers, split: bias (with noise) and variance.

    E(y - f)^2 over bootstrap sets is (y - mean f)^2 + var f; what is called bias here holds the
    noise of the answers too, which cannot be told from it (Geman, Bienenstock, Doursat 1992).
    """
    scale = float(inputs.test_y.var())
    middle = output.mean(0)
    return {
        "bias2": float(((inputs.test_y - middle) ** 2).mean()) / scale,
        "variance": float(output.var(0).mean()) / scale,
        "error": float(((inputs.test_y - output) ** 2).mean()) / scale,
    }


def workloads() -> Iterator[bb.Workload]:
    """The two."""
    yield bb.Workload(
        name=BAGGING,
        doc="Fit on digits and classify 360 test rows.",
        axes={"trees": (25, 100)},
        presets={"quick": [], "standard": {"trees": (25,)}},
        make=make_bagging,
        reference=lambda inputs: inputs,
        tolerance=None,
        check=check_bagging,
        metrics=bagging_metrics,
        baseline="tree",
    )
    yield bb.Workload(
        name=SPREAD,
        doc="Fit to bootstrap sets of diabetes and predict 100 other rows.",
        axes={"replicates": (50, 200)},
        presets={"quick": [], "standard": {"replicates": (50,)}},
        make=make_spread,
        reference=lambda inputs: inputs,
        tolerance=None,
        check=check_spread,
        metrics=spread_metrics,
        baseline="ridge",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Trees and forests; regressors from rigid to flexible."""
    for name, make, doc in (
        ("tree", _tree, "One decision tree, grown out."),
        ("bagging", _bagging, "sklearn.ensemble.BaggingClassifier with out-of-bag error."),
        ("by-hand", lambda i: Bagged(i.trees, i.seed), "Bootstrap sets by numpy, trees, votes."),
        ("forest", _forest, "sklearn.ensemble.RandomForestClassifier with out-of-bag error."),
    ):
        yield bb.Implementation(
            workload=BAGGING, name=name, build=_fitted(make), unavailable=unavailable, doc=doc
        )
    for name, one, doc in (
        ("ridge", _ridge, "Linear, penalty 0.1."),
        ("mean", _mean, "The mean of the answers: all bias."),
        ("stump", _stump, "A tree of depth 2."),
        ("deep-tree", _deep, "A tree grown out: little bias, much variance."),
        ("neighbours", _neighbours, "Mean of the five nearest rows."),
    ):
        yield bb.Implementation(
            workload=SPREAD, name=name, build=_predicted(one), unavailable=unavailable, doc=doc
        )
