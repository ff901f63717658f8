"""L1, L2 and elastic net on diabetes: ways to reach the penalised least-squares solution.

The objective is scikit-learn's: ``|y - X w|^2 / 2n + a (r |w|_1 + (1 - r) / 2 |w|^2)``. Everyone
runs until it is within a thousandth of the best value, which is known from a tight solution by
coordinate descent, or for 20,000 steps. Whether coefficients that should be zero are exactly zero
stands beside the time: subgradients never get there, proximal steps do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import benchbench as bb
from benchbench_plugins._common import optional
from benchbench_plugins.optimizers.races import diabetes, one_thread

WORKLOAD = "optimizers/diabetes-penalties"
SHARES = {"l1": 1.0, "l2": 0.0, "elastic-net": 0.5}
"""Share ``r`` of the L1 penalty, by the value of the axis ``penalty``."""
STRENGTH = 0.05
"""``a``. The largest that leaves a coefficient in the L1 solution is 0.59."""
GAP, STEPS, EVERY = 1e-3, 20_000, 10
"""Allowed distance from the best value, relative to the gain over zero; looked at so often."""
FADING = 1000
"""Steps after which subgradient methods have halved their rate: with a constant one they would jump
across zero by the same length for ever."""


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Standardised diabetes ``x`` (442, 10), ``y`` (442,), ``share`` of L1, and the ``goal``.

    The data are what they are: the seed is not used.
    """
    data, share = diabetes(), SHARES[str(params["penalty"])]
    x, y = data["train_x"].clone(), data["train_y"].clone()
    best = solution(x.double(), y.double(), share)
    lowest, highest = (
        float(objective(w, x.double(), y.double(), share)) for w in (best, torch.zeros_like(best))
    )
    goal = lowest + GAP * (highest - lowest)
    return bb.Inputs({"x": x, "y": y, "share": share, "goal": goal})


def objective(w: Tensor, x: Tensor, y: Tensor, share: float) -> Tensor:
    """The value to minimise."""
    fit = (y - x @ w).square().sum() / (2 * len(y))
    return fit + STRENGTH * (share * w.abs().sum() + (1 - share) / 2 * w.square().sum())


def solution(x: Tensor, y: Tensor, share: float) -> Tensor:
    """Coordinate descent in float64 until no coefficient moves (Friedman et al. 2010)."""
    n, w = len(y), x.new_zeros(x.shape[1])
    squares, rest = x.square().sum(0) / n, y.clone()
    for _ in range(10_000):
        largest = 0.0
        for j in range(len(w)):
            pull = x[:, j] @ rest / n + squares[j] * w[j]
            shrunk = pull.sign() * (pull.abs() - STRENGTH * share).clamp(min=0)
            moved = shrunk / (squares[j] + STRENGTH * (1 - share)) - w[j]
            rest -= moved * x[:, j]
            w[j] += moved
            largest = max(largest, abs(float(moved)))
        if largest < 1e-14:
            break
    return w


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The best coefficients."""

    best: Tensor


Step = Callable[[], Tensor]
"""Makes a step and returns the coefficients."""


def run(inputs: Any, make_step: Callable[[Any], Step]) -> bb.Thunk:
    """Step until the goal: ``weights`` (10,) and the number of ``steps`` (a scalar)."""

    def call() -> dict[str, Tensor]:
        with one_thread():
            step, count = make_step(inputs), 0
            while count < STEPS:
                weights = step()
                count += 1
                if count % EVERY == 0:
                    found = objective(weights.detach(), inputs.x, inputs.y, inputs.share)
                    if float(found) <= inputs.goal:
                        break
            return {"weights": weights.detach().clone(), "steps": torch.tensor(count)}

    return call


def lipschitz(inputs: Any) -> float:
    """Largest curvature of the squared error: the largest eigenvalue of X'X / n."""
    return float(torch.linalg.matrix_norm(inputs.x, 2) ** 2 / len(inputs.y))


def _descend(inputs: Any, l2: float, loss: Callable[[Tensor], Tensor]) -> Step:
    """SGD with weight decay ``l2`` on a loss; its rate fades where the loss has a kink."""
    w = inputs.x.new_zeros(inputs.x.shape[1]).requires_grad_(True)
    rate = 1 / (lipschitz(inputs) + STRENGTH * (1 - inputs.share))
    optimizer = torch.optim.SGD([w], lr=rate, weight_decay=l2)
    count = 0

    def step() -> Tensor:
        nonlocal count
        if inputs.share > 0:
            optimizer.param_groups[0]["lr"] = rate / (1 + count / FADING)
        count += 1
        optimizer.zero_grad()
        loss(w).backward()
        optimizer.step()
        return w

    return step


def penalty_in_loss(inputs: Any) -> Step:
    """SGD on the whole objective; autograd gives |w| the slope zero at zero."""
    return _descend(inputs, 0.0, lambda w: objective(w, inputs.x, inputs.y, inputs.share))


def as_weight_decay(inputs: Any) -> Step:
    """SGD on the squared error; L2 as its weight decay, L1 in the loss."""

    def loss(w: Tensor) -> Tensor:
        fit = (inputs.y - inputs.x @ w).square().sum() / (2 * len(inputs.y))
        return fit + STRENGTH * inputs.share * w.abs().sum()

    return _descend(inputs, STRENGTH * (1 - inputs.share), loss)


def _proximal(w: Tensor, rate: float, share: float) -> Tensor:
    """The nearest point to w, with the penalty: soft threshold, then shrink."""
    kept = (w.abs() - rate * STRENGTH * share).clamp(min=0)
    return w.sign() * kept / (1 + rate * STRENGTH * (1 - share))


def _slope(inputs: Any, w: Tensor) -> Tensor:
    return inputs.x.T @ (inputs.x @ w - inputs.y) / len(inputs.y)


def proximal(inputs: Any) -> Step:
    """Proximal gradient (ISTA): a step down the squared error, then the penalty's own minimum."""
    rate, w = 1 / lipschitz(inputs), inputs.x.new_zeros(inputs.x.shape[1])

    def step() -> Tensor:
        w.copy_(_proximal(w - rate * _slope(inputs, w), rate, inputs.share))
        return w

    return step


def accelerated(inputs: Any) -> Step:
    """The same with Nesterov's extrapolation (FISTA, Beck and Teboulle 2009)."""
    rate = 1 / lipschitz(inputs)
    w = inputs.x.new_zeros(inputs.x.shape[1])
    ahead, t = w.clone(), 1.0

    def step() -> Tensor:
        nonlocal t
        before = w.clone()
        w.copy_(_proximal(ahead - rate * _slope(inputs, ahead), rate, inputs.share))
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead.copy_(w + (t - 1) / following * (w - before))
        t = following
        return w

    return step


def coordinates(inputs: Any) -> bb.Thunk:
    """scikit-learn's ElasticNet by coordinate descent, steps are sweeps; Ridge for L2, one step."""
    from sklearn.linear_model import ElasticNet, Ridge

    x, y = inputs.x.numpy(), inputs.y.numpy()
    if inputs.share > 0:
        # Its tolerance bounds the duality gap, relative to |y|^2 / n.
        model = ElasticNet(
            alpha=STRENGTH, l1_ratio=inputs.share, fit_intercept=False, tol=1e-5, max_iter=STEPS
        )
    else:
        model = Ridge(alpha=STRENGTH * len(y), fit_intercept=False)

    def call() -> dict[str, Tensor]:
        fitted = model.fit(x, y)
        steps = int(fitted.n_iter_) if inputs.share > 0 else 1
        weights = torch.tensor(fitted.coef_, dtype=torch.float32)
        return {"weights": weights, "steps": torch.tensor(steps)}

    return call


def check(evidence: bb.Evidence) -> str | None:
    """The objective is at the goal, within what float32 can tell."""
    inputs, weights = evidence.inputs, evidence.output["weights"]
    if weights.shape != inputs.x.shape[1:]:
        return f"weights have shape {tuple(weights.shape)}, expected {tuple(inputs.x.shape[1:])}"
    found = float(objective(weights.double(), inputs.x.double(), inputs.y.double(), inputs.share))
    if not found <= inputs.goal * (1 + 1e-6):
        return (
            f"after {int(evidence.output['steps'])} steps the objective is {found:.8g}, not within "
            f"{GAP:g} of the best, {inputs.goal:.8g}"
        )
    return None


def metrics(output: Any, reference: Truth) -> dict[str, float]:
    """Steps; distance from the best coefficients; exact zeros, and how many there should be."""
    weights, best = output["weights"].double(), reference.best
    return {
        "steps": float(output["steps"]),
        "distance": float((weights - best).norm() / best.norm()),
        "zeros": float((weights == 0).sum()),
        "true_zeros": float((best == 0).sum()),
    }


def workloads() -> Iterator[bb.Workload]:
    """One, with the penalty as an axis."""
    yield bb.Workload(
        name=WORKLOAD,
        doc="Penalised linear regression on scikit-learn's diabetes, to 0.1 % of the best.",
        axes={"penalty": tuple(SHARES)},
        presets={"quick": [], "standard": {"penalty": tuple(SHARES)}},
        make=make,
        reference=lambda inputs: Truth(
            best=solution(inputs.x.double(), inputs.y.double(), inputs.share)
        ),
        tolerance=None,
        check=check,
        metrics=metrics,
        work=lambda params: bb.Work(items=1.0, item="fit"),
        baseline="scikit-learn",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Penalty in the loss, weight decay, proximal, accelerated, coordinate descent."""
    for name, make_step in (
        ("penalty-in-loss", penalty_in_loss),
        ("weight-decay", as_weight_decay),
        ("proximal", proximal),
        ("accelerated", accelerated),
    ):
        yield bb.Implementation(
            workload=WORKLOAD,
            name=name,
            build=_builder(make_step),
            unavailable=_unavailable,
            doc=(make_step.__doc__ or "").strip(),
        )
    yield bb.Implementation(
        workload=WORKLOAD,
        name="scikit-learn",
        build=coordinates,
        unavailable=_unavailable,
        doc=(coordinates.__doc__ or "").strip(),
    )


def _builder(make_step: Callable[[Any], Step]) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: run(inputs, make_step)


def _unavailable(params: bb.Params) -> str | None:
    return optional("sklearn.datasets")[1] or optional("sklearn.linear_model")[1] or None
