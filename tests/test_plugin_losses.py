"""Losses: a kind that came without a change of the core; equality is judged by the runner."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import benchbench as bb
from benchbench.grids import PRESETS, points, preset_grids
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins import losses

WORKLOADS = {w.name: w for w in losses.benchbench_workloads()}
CONTENDERS = list(losses.benchbench_implementations())
SHAPE = (256, 101)
DIRECTIONS = ("forward", "forward+backward")


def results(
    workload: str, direction: str, *extra: bb.Implementation, seed: int = 0
) -> dict[str, bb.Result]:
    """Run all contenders of one small case, and some more, as a worker would."""
    case = bb.Case(
        workload=workload,
        params={"shape": SHAPE, "direction": direction, "device": "cpu"},
        seed=seed,
    )
    contenders = [c for c in CONTENDERS if c.workload == workload]
    found = Runner().benchbench_run_case(
        case, WORKLOADS[workload], [*contenders, *extra], BRIEF, 0, lambda *_: None
    )
    return {result.contender: result for result in found}


@pytest.mark.parametrize("seed", [0, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_contenders_equal_the_float64_reference(workload: str, direction: str, seed: int) -> None:
    found = results(workload, direction, seed=seed)
    assert {name: result.reason for name, result in found.items() if result.status != "ok"} == {}
    assert set(found) == set(losses.CONTENDERS[workload])


BAD: list[tuple[str, str, Callable[..., Any]]] = [
    (
        losses.CROSS_ENTROPY,
        "sum",
        lambda logits, target, hot: F.cross_entropy(logits, target, reduction="sum"),
    ),
    (
        losses.CROSS_ENTROPY,
        "smoothed",
        lambda logits, target, hot: F.cross_entropy(logits, target, label_smoothing=1e-3),
    ),
    (
        losses.CROSS_ENTROPY,
        "bfloat16",
        lambda logits, target, hot: F.cross_entropy(logits.bfloat16().float(), target),
    ),
    (
        losses.CROSS_ENTROPY,
        "per-row",
        lambda logits, target, hot: F.cross_entropy(logits[:9], target[:9]),
    ),
    (losses.NLL, "positive", lambda scores, target: -F.nll_loss(scores, target)),
    (
        losses.MSE,
        "half",
        lambda prediction, target: F.mse_loss(prediction.half(), target.half()).float(),
    ),
    (losses.MSE, "absolute", lambda prediction, target: F.l1_loss(prediction, target)),
]


@pytest.mark.parametrize(("workload", "name", "function"), BAD, ids=[b[1] for b in BAD])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_other_losses_are_rejected(
    workload: str, name: str, function: Callable[..., Any], direction: str
) -> None:
    bad = bb.Implementation(
        workload=workload, name=name, build=lambda inputs: inputs.thunk(function)
    )
    found = results(workload, direction, bad)
    assert found[name].status == "wrong"
    assert "error" in found[name].reason
    assert all(result.status == "ok" for other, result in found.items() if other != name)


def test_a_right_loss_with_a_wrong_gradient_is_rejected() -> None:
    bad = bb.Implementation(
        workload=losses.MSE,
        name="detached",
        build=lambda inputs: inputs.thunk(
            lambda prediction, target: (
                (prediction - target) * (prediction.detach() - target)
            ).mean()
        ),
    )
    assert results(losses.MSE, "forward", bad)["detached"].status == "ok"
    assert results(losses.MSE, "forward+backward", bad)["detached"].status == "wrong"


def test_targets_say_the_same_in_both_forms() -> None:
    params = {"shape": SHAPE, "direction": "forward", "device": "cpu"}
    inputs = losses.make_cross_entropy(params, 3)
    assert torch.equal(inputs.hot.argmax(1), inputs.target)
    assert torch.equal(inputs.hot.sum(1), torch.ones(SHAPE[0]))
    assert inputs.hot.nbytes == SHAPE[1] * 4 * SHAPE[0]
    assert inputs.target.nbytes == 8 * SHAPE[0]
    assert torch.equal(inputs.logits, losses.make_cross_entropy(params, 3).logits)
    assert not torch.equal(inputs.logits, losses.make_cross_entropy(params, 4).logits)


def test_floors_of_bytes() -> None:
    def bytes_of(workload: str, direction: str) -> float:
        work = WORKLOADS[workload].work
        assert work is not None
        return work({"shape": (10, 7), "direction": direction, "device": "cpu"}).bytes

    assert bytes_of(losses.CROSS_ENTROPY, "forward") == 10 * 7 * 4 + 10 * 8
    assert bytes_of(losses.CROSS_ENTROPY, "forward+backward") == 2 * 10 * 7 * 4 + 10 * 8
    assert bytes_of(losses.NLL, "forward") == 10 * 12
    assert bytes_of(losses.MSE, "forward+backward") == 3 * 10 * 7 * 4


def test_every_preset_names_points_and_everything_is_documented() -> None:
    for workload in WORKLOADS.values():
        assert workload.doc
        found = {p: list(points(workload.axes, preset_grids(workload, p))) for p in PRESETS}
        assert found["standard"] and found["full"]
        # Only the negative log-likelihood is left out of a quick look: cross-entropy contains it.
        assert bool(found["quick"]) == (workload.name != losses.NLL)
    assert all(contender.doc for contender in CONTENDERS)


def test_the_kind_is_only_an_entry_point_away() -> None:
    mine = [e for e in entry_points(group="benchbench") if e.value == losses.__name__]
    assert [entry.name for entry in mine] == ["losses"]
    core = Path(bb.__file__).parent
    for path in core.glob("*.py"):
        assert "cross_entropy" not in path.read_text(encoding="utf-8")
        assert "losses/" not in path.read_text(encoding="utf-8")
