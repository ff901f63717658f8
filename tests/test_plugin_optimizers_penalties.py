"""L1, L2 and elastic net: everyone reaches scikit-learn's solution; who reaches exact zeros."""

import pytest
import torch

import benchbench as bb
from benchbench_plugins.optimizers import penalties

CONTENDERS = {item.name: item for item in penalties.implementations()}
(WORKLOAD,) = penalties.workloads()


@pytest.fixture(scope="module", params=list(penalties.SHARES))
def case(request):
    inputs = penalties.make({"penalty": request.param}, 0)
    return request.param, inputs, WORKLOAD.reference(inputs)


def evidence_of(output, case):
    _, inputs, reference = case
    return bb.Evidence(output=output, inputs=inputs, params={}, calls=1, reference=reference)


def test_the_solution_is_scikit_learns(case):
    from sklearn.linear_model import ElasticNet, Ridge

    _, inputs, reference = case
    x, y = inputs.x.double().numpy(), inputs.y.double().numpy()
    share = inputs.share
    model = (
        ElasticNet(
            penalties.STRENGTH, l1_ratio=share, fit_intercept=False, tol=1e-12, max_iter=10**6
        )
        if share
        else Ridge(penalties.STRENGTH * len(y), fit_intercept=False)
    )
    torch.testing.assert_close(
        reference.best, torch.tensor(model.fit(x, y).coef_), rtol=1e-6, atol=1e-7
    )


def test_zeros_come_with_the_first_norm(case):
    penalty, _, reference = case
    zeros = int((reference.best == 0).sum())
    assert (zeros > 0) == (penalty != "l2")


@pytest.mark.parametrize("name", CONTENDERS)
def test_everyone_reaches_the_goal_and_repeats_itself(name, case):
    _, inputs, reference = case
    before = inputs.x.clone()
    thunk = CONTENDERS[name].build(inputs)
    first, second = thunk(), thunk()
    assert torch.equal(first["weights"], second["weights"])
    assert penalties.check(evidence_of(first, case)) is None
    found = penalties.metrics(first, reference)
    # Along columns that are nearly alike the objective hardly changes.
    assert found["distance"] < (0.05 if name == "scikit-learn" else 0.5)
    assert 1 <= found["steps"] < penalties.STEPS
    assert torch.equal(inputs.x, before)
    # Subgradients cross zero and never stay there; the others set coefficients to zero.
    sets_to_zero = name in ("proximal", "accelerated", "scikit-learn")
    assert (found["zeros"] > 0) == (sets_to_zero and found["true_zeros"] > 0)


def test_acceleration_takes_fewer_steps(case):
    _, inputs, _ = case
    steps = {n: int(CONTENDERS[n].build(inputs)()["steps"]) for n in ("proximal", "accelerated")}
    assert steps["accelerated"] <= steps["proximal"]


def test_another_solution_is_rejected(case):
    penalty, _, reference = case
    other = next(name for name in penalties.SHARES if name != penalty)
    inputs = penalties.make({"penalty": other}, 0)
    weights = penalties.solution(inputs.x.double(), inputs.y.double(), inputs.share)
    output = {"weights": weights.float(), "steps": torch.tensor(10)}
    assert "not within" in penalties.check(evidence_of(output, case))
    short = {"weights": weights[:9].float(), "steps": torch.tensor(10)}
    assert "shape" in penalties.check(evidence_of(short, case))
    assert (
        penalties.check(
            evidence_of({"weights": reference.best.float(), "steps": torch.tensor(1)}, case)
        )
        is None
    )


def test_a_proximal_step_is_the_minimum_it_says():
    # Against a fine grid of the scalar problem |u - w|^2 / 2 + rate * penalty(u).
    rate, share = 0.7, 0.4
    grid = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    for value in (-2.0, -0.02, 0.0, 0.01, 0.5):
        w = torch.tensor([value], dtype=torch.float64)
        penalty = penalties.STRENGTH * (share * grid.abs() + (1 - share) / 2 * grid**2)
        best = grid[((grid - value) ** 2 / 2 + rate * penalty).argmin()]
        found = penalties._proximal(w, rate, share)
        assert abs(float(found) - float(best)) < 2e-5
