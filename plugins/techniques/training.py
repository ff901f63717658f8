"""Training small networks on digits, the same way for every technique."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins._common import optional
from benchbench_plugins.optimizers.races import accuracy, digits, load_state, one_thread, state_of

__all__ = ["accuracy", "claims", "load_state", "make", "network", "state_of", "train"]


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """The split of the digits, and the seeds of the runs."""
    count = params["seeds"]
    assert isinstance(count, int)
    return bb.Inputs(
        {
            **{name: part.clone() for name, part in digits().items()},
            "seeds": tuple(range(1000 * seed, 1000 * seed + count)),
        }
    )


def unavailable(params: bb.Params) -> str | None:
    """Why the data cannot be had."""
    return optional("sklearn.datasets")[1] or None


def network(seed: int, *widths: int) -> nn.Sequential:
    """An MLP over 64 pixels with ReLU and ten classes; weights by the seed."""
    with quietly():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((64, *widths), (*widths, 10), strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


@contextmanager
def quietly() -> Iterator[None]:
    """One thread, and the global generator left as it was."""
    with torch.random.fork_rng(devices=[]), one_thread():
        yield


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    seed: int,
    epochs: int,
    batch: int = 64,
    rate: float = 0.1,
    after_step: Callable[[], None] | None = None,
    after_epoch: Callable[[], bool] | None = None,
) -> None:
    """SGD with momentum 0.9 in an order of batches that the seed fixes.

    Args:
        model: trained in place.
        x: rows.
        y: classes.
        seed: of the order.
        epochs: at most.
        batch: rows in a step.
        rate: learning rate.
        after_step: called after each step.
        after_epoch: called after each epoch; True ends the training.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=order).split(batch):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            if after_step is not None:
                after_step()
        if after_epoch is not None and after_epoch():
            return


def claims(
    model: Callable[[], nn.Module], evidence: bb.Evidence, tie: float = 1.5 / 360
) -> str | None:
    """Why the accuracies that are claimed are not those of the weights, or None."""
    output, inputs = evidence.output, evidence.inputs
    if len(output["accuracy"]) != len(inputs.seeds):
        return f"it has {len(output['accuracy'])} results for {len(inputs.seeds)} seeds"
    judged = model()
    for seed, said, weights in zip(
        inputs.seeds, output["accuracy"], output["weights"], strict=True
    ):
        load_state(judged, weights)
        seen = accuracy(judged, inputs)
        if not abs(seen - float(said)) <= tie:
            return f"the model of seed {seed} gets {seen:.1%} right, not {float(said):.1%}"
    return None


def runs(inputs: Any, one: Callable[[int], nn.Module]) -> dict[str, Tensor]:
    """``one(seed)`` for each seed: ``accuracy`` (seeds,) and ``weights`` (seeds, numbers)."""
    with quietly():
        models = [one(seed) for seed in inputs.seeds]
        return {
            "accuracy": torch.tensor([accuracy(m, inputs) for m in models], dtype=torch.float64),
            "weights": torch.stack([state_of(m) for m in models]),
        }
