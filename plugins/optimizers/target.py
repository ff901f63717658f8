"""Time to a target: optimizers race to an accuracy on scikit-learn's handwritten digits.

The model, the split (360 stratified test rows), the batch size and the order of batches for a seed
are the same for all; hyper-parameters are stated below. A call trains from scratch for each seed of
the case, to the target or to the last epoch. The accuracy on the test rows is looked at after each
epoch, which is part of the time. All run on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins._common import optional

BATCH = 64
TEST_ROWS = 360


@dataclass(frozen=True, kw_only=True)
class Race:
    """A model and the accuracy to reach."""

    name: str
    model: Callable[[], nn.Module]
    target: float
    epochs: int
    quick: bool

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"optimizers/{self.name}"


RACES = (
    Race(
        name="digits-logistic",
        model=lambda: nn.Linear(64, 10),
        target=0.95,
        epochs=40,
        quick=True,
    ),
    Race(
        name="digits-mlp",
        model=lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        target=0.97,
        epochs=60,
        quick=False,
    ),
)
Maker = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
RACERS: Mapping[str, tuple[Maker, str]] = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.5), "Plain gradient descent, lr 0.5."),
    "momentum": (
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        "SGD with momentum 0.9, lr 0.05.",
    ),
    "nesterov": (
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        "SGD with Nesterov's momentum 0.9, lr 0.05.",
    ),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), "Adam, lr 0.01."),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.01),
        "AdamW, lr 0.01, weight decay 0.01.",
    ),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=0.003), "RMSprop, lr 0.003."),
}


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images (rows, 64) in [0, 1] and labels, split once and for all."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=TEST_ROWS, stratify=labels, random_state=0)
    train_x, test_x = (torch.tensor(part, dtype=torch.float32) / 16 for part in parts[:2])
    train_y, test_y = (torch.tensor(part, dtype=torch.int64) for part in parts[2:])
    return train_x, train_y, test_x, test_y


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """The split, and the seeds of the runs."""
    train_x, train_y, test_x, test_y = digits()
    count = params["seeds"]
    assert isinstance(count, int)
    return bb.Inputs(
        {
            "train_x": train_x.clone(),
            "train_y": train_y.clone(),
            "test_x": test_x.clone(),
            "test_y": test_y.clone(),
            "seeds": tuple(range(1000 * seed, 1000 * seed + count)),
        }
    )


def train(race: Race, maker: Maker, inputs: Any, seed: int) -> tuple[int, float]:
    """Steps made and accuracy reached; stops at the target."""
    torch.manual_seed(seed)
    model = race.model()
    optimizer = maker(list(model.parameters()))
    x, y = inputs.train_x, inputs.train_y
    steps, accuracy = 0, 0.0
    for _ in range(race.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            steps += 1
        with torch.no_grad():
            guesses = model(inputs.test_x).argmax(1)
        accuracy = float((guesses == inputs.test_y).float().mean())
        if accuracy >= race.target:
            break
    return steps, accuracy


@contextmanager
def one_thread() -> Iterator[None]:
    """One intra-op thread inside; tensors of a few thousand numbers gain nothing from more.

    Waiting for a second thread costs microseconds on an idle machine and, measured with one core
    busy, 16 ms for each small matrix product: a race of 0.2 s took 46 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def thunk(race: Race, maker: Maker, inputs: Any) -> bb.Thunk:
    """Train once for each seed; returns steps and accuracies, (seeds,) each."""

    def call() -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]), one_thread():
            runs = [train(race, maker, inputs, seed) for seed in inputs.seeds]
        return {
            "steps": torch.tensor([steps for steps, _ in runs]),
            "accuracy": torch.tensor([accuracy for _, accuracy in runs]),
        }

    return call


def check(race: Race, evidence: bb.Evidence) -> str | None:
    """At least half of the seeds must reach the target: a miss counts as infinitely long."""
    accuracy = evidence.output["accuracy"]
    reached = int((accuracy >= race.target).sum())
    if 2 * reached < len(accuracy):
        return (
            f"it missed {race.target:.0%} in {len(accuracy) - reached} of {len(accuracy)} runs of "
            f"{race.epochs} epochs, so its median time to the target is infinite"
        )
    return None


def metrics(race: Race, output: Mapping[str, Tensor]) -> dict[str, float]:
    """Median steps, share of seeds that reached the target, median accuracy."""
    return {
        "steps": float(output["steps"].double().median()),
        "hits": float((output["accuracy"] >= race.target).double().mean()),
        "accuracy": float(output["accuracy"].double().median()),
    }


def workloads() -> Iterator[bb.Workload]:
    """A workload for each race."""
    for race in RACES:
        yield _workload(race)


def _workload(race: Race) -> bb.Workload:
    return bb.Workload(
        name=race.workload,
        doc=f"Train to {race.target:.0%} on 360 test rows of scikit-learn's digits, once a seed.",
        axes={"seeds": (2, 7, 15)},
        presets={
            "quick": [{"seeds": (2,)}] if race.quick else [],
            "standard": {"seeds": (7,)},
            "full": {"seeds": (15,)},
        },
        make=make,
        check=lambda evidence: check(race, evidence),
        metrics=lambda output, reference: metrics(race, output),
        work=lambda params: bb.Work(items=float(params["seeds"]), item="run"),  # type: ignore[arg-type]
        baseline="sgd",
    )


def _unavailable(params: bb.Params) -> str | None:
    return optional("sklearn.datasets")[1] or None


def implementations() -> Iterator[bb.Implementation]:
    """Each optimizer in each race."""
    for race in RACES:
        for name, (maker, doc) in RACERS.items():
            yield bb.Implementation(
                workload=race.workload,
                name=name,
                build=_builder(race, maker),
                unavailable=_unavailable,
                doc=doc,
            )


def _builder(race: Race, maker: Maker) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(race, maker, inputs)
