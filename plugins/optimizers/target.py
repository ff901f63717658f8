"""Time to a target: optimizers race to an accuracy on scikit-learn's handwritten digits.

The model, the split (360 stratified test rows), the batch size and the order of batches for a seed
are the same for all; hyper-parameters are stated below. A call trains from scratch for each seed of
the case, to the target or to the last epoch. The accuracy on the test rows is looked at after each
epoch, which is part of the time. All run on one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

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


@dataclass(frozen=True, kw_only=True)
class Racer:
    """An optimizer with its settings; the learning rate is tuned for each race.

    Tuned with the same effort for all: of four rates, a factor of two apart, the one whose median
    steps over seven seeds were fewest while every seed reached the target.
    """

    name: str
    make: Callable[..., torch.optim.Optimizer]
    rates: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def maker(self, race: Race) -> Maker:
        """Makes the optimizer for the parameters of a model."""
        return lambda parameters: self.make(parameters, lr=self.rates[race.name], **self.settings)

    def doc(self, race: Race) -> str:
        """Every setting, as text."""
        settings = {"lr": self.rates[race.name], **self.settings}
        stated = ", ".join(f"{name}={value}" for name, value in settings.items())
        return f"torch.optim.{self.make.__name__}, {stated}."


RACERS = (
    Racer(
        name="sgd",
        make=torch.optim.SGD,
        rates={"digits-logistic": 2.0, "digits-mlp": 1.0},
    ),
    Racer(
        name="momentum",
        make=torch.optim.SGD,
        rates={"digits-logistic": 0.4, "digits-mlp": 0.1},
        settings={"momentum": 0.9},
    ),
    Racer(
        name="nesterov",
        make=torch.optim.SGD,
        rates={"digits-logistic": 0.4, "digits-mlp": 0.1},
        settings={"momentum": 0.9, "nesterov": True},
    ),
    Racer(
        name="adam",
        make=torch.optim.Adam,
        rates={"digits-logistic": 0.05, "digits-mlp": 0.01},
    ),
    Racer(
        name="adamw",
        make=torch.optim.AdamW,
        rates={"digits-logistic": 0.05, "digits-mlp": 0.01},
        settings={"weight_decay": 0.01},
    ),
    Racer(
        name="rmsprop",
        make=torch.optim.RMSprop,
        rates={"digits-logistic": 0.02, "digits-mlp": 0.01},
    ),
)


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


def train(race: Race, maker: Maker, inputs: Any, seed: int) -> tuple[int, nn.Module]:
    """Steps made and the trained model; stops at the target or after the last epoch."""
    torch.manual_seed(seed)
    model = race.model()
    optimizer = maker(list(model.parameters()))
    x, y = inputs.train_x, inputs.train_y
    steps = 0
    for _ in range(race.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            steps += 1
        if accuracy(model, inputs) >= race.target:
            break
    return steps, model


def accuracy(model: nn.Module, inputs: Any) -> float:
    """Share of the test rows that the model gets right."""
    with torch.no_grad():
        guesses = model(inputs.test_x).argmax(1)
    return float((guesses == inputs.test_y).double().mean())


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
    """Train once for each seed.

    The output has ``steps`` (seeds,), ``accuracy`` (seeds,) and ``weights`` (seeds, parameters):
    with the weights an audit can see for itself how accurate each model is.
    """

    def call() -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]), one_thread():
            runs = [train(race, maker, inputs, seed) for seed in inputs.seeds]
            return {
                "steps": torch.tensor([steps for steps, _ in runs]),
                "accuracy": torch.tensor(
                    [accuracy(model, inputs) for _, model in runs], dtype=torch.float64
                ),
                "weights": torch.stack(
                    [parameters_to_vector(model.parameters()).detach() for _, model in runs]
                ),
            }

    return call


def check(race: Race, evidence: bb.Evidence) -> str | None:
    """The models are as accurate as said, and at least half of the seeds reach the target.

    A miss counts as infinitely long, so with more misses the median time would be infinite.
    """
    output, inputs = evidence.output, evidence.inputs
    claimed = output["accuracy"]
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, then replaced
        model = race.model()
    if len(claimed) != len(inputs.seeds):
        return f"it trained {len(claimed)} models for {len(inputs.seeds)} seeds"
    for seed, said, weights in zip(inputs.seeds, claimed, output["weights"], strict=True):
        vector_to_parameters(weights, model.parameters())
        seen = accuracy(model, inputs)
        if abs(seen - float(said)) > 1.5 / TEST_ROWS:  # one row may tie and fall either way
            return f"the model of seed {seed} gets {seen:.1%} right, not {float(said):.1%}"
    missed = int((claimed < race.target).sum())
    if 2 * missed > len(claimed):
        found = ", ".join(f"{float(value):.1%}" for value in claimed)
        return (
            f"it missed {race.target:.0%} in {missed} of {len(claimed)} runs of {race.epochs} "
            f"epochs (accuracies {found}), so its median time to the target is infinite"
        )
    return None


def metrics(race: Race, output: Mapping[str, Tensor]) -> dict[str, float]:
    """Median steps (a miss is infinite), share of seeds that hit the target, median accuracy."""
    hit = output["accuracy"] >= race.target
    steps = torch.where(hit, output["steps"].double(), math.inf)
    return {
        "steps": float(steps.median()),
        "hits": float(hit.double().mean()),
        "accuracy": float(output["accuracy"].median()),
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
        for racer in RACERS:
            yield bb.Implementation(
                workload=race.workload,
                name=racer.name,
                build=_builder(race, racer),
                unavailable=_unavailable,
                doc=racer.doc(race),
            )


def _builder(race: Race, racer: Racer) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(race, racer.maker(race), inputs)
