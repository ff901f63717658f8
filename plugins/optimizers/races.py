"""What optimizers race on: data, a model, and the score that ends a run.

Digits: 360 stratified rows of scikit-learn's handwritten digits are for testing; the score is the
share of them that the model gets right. Diabetes: linear regression on all rows, standardised; the
score is one minus the distance of the weights from the closed form, relative to its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

import benchbench as bb

BATCH = 64
TEST_ROWS = 360
Maker = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Race:
    """A model, its data, and the score to reach."""

    name: str
    doc: str
    model: Callable[[], nn.Module]
    data: Callable[[], Mapping[str, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[nn.Module, Any], float]
    target: float
    tie: float
    """What the score of the same weights may differ by when it is computed again."""
    epochs: int
    batch: int = BATCH
    quick: bool = False
    standard: int = 7
    """Seeds of a standard run."""

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"optimizers/{self.name}"


@cache
def digits() -> Mapping[str, Tensor]:
    """Training and test images (rows, 64) in [0, 1] and labels, split once and for all."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=TEST_ROWS, stratify=labels, random_state=0)
    train_x, test_x = (torch.tensor(part, dtype=torch.float32) / 16 for part in parts[:2])
    train_y, test_y = (torch.tensor(part, dtype=torch.int64) for part in parts[2:])
    return {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}


@cache
def diabetes() -> Mapping[str, Tensor]:
    """Standardised columns (442, 10) and answers (442,), and the least-squares weights ``best``.

    The closed form solves the normal equations in float64; centred columns need no intercept.
    """
    from sklearn.datasets import load_diabetes

    rows, answers = (torch.tensor(part) for part in load_diabetes(return_X_y=True))
    x, y = ((t - t.mean(0)) / t.std(0, correction=0) for t in (rows, answers))
    best = torch.linalg.solve(x.T @ x, x.T @ y)
    return {"train_x": x.float(), "train_y": y.float(), "best": best.float()}


def accuracy(model: nn.Module, inputs: Any) -> float:
    """Share of the test rows that the model gets right, in evaluation mode."""
    with torch.no_grad():
        guesses = model.eval()(inputs.test_x).argmax(1)
    model.train()
    return float((guesses == inputs.test_y).double().mean())


def closeness(model: nn.Module, inputs: Any) -> float:
    """One minus the relative distance of the weights from the closed form."""
    weights = parameters_to_vector(model.parameters()).detach()
    return 1 - float((weights - inputs.best).norm() / inputs.best.norm())


def squared(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of (rows, 1) against (rows,)."""
    return F.mse_loss(prediction.squeeze(1), target)


def cnn() -> nn.Module:
    """Three convolutions of 3x3 with batch norm on images of 8x8, and dropout: 19,258 parameters.

    Without batch norm, or dropout, half of the runs end between 97.5 and 98.3 %.
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for inputs, outputs in ((1, 16), (16, 32), (32, 32)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        if outputs == 32 and inputs == 16:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(512, 10))


def state_of(model: nn.Module) -> Tensor:
    """Parameters and buffers (running statistics are part of what was learnt) as one vector."""
    return torch.cat([value.detach().reshape(-1).float() for value in model.state_dict().values()])


def load_state(model: nn.Module, vector: Tensor) -> None:
    """Undo :func:`state_of`."""
    known = model.state_dict()
    parts = vector.split([value.numel() for value in known.values()])
    model.load_state_dict(
        {
            name: part.view(value.shape).to(value.dtype)
            for part, (name, value) in zip(parts, known.items(), strict=True)
        }
    )


_ON_DIGITS: dict[str, Any] = {
    "data": digits,
    "loss": F.cross_entropy,
    "score": accuracy,
    "tie": 1.5 / TEST_ROWS,  # one row may tie and fall either way
}
RACES = (
    Race(
        name="digits-logistic",
        doc="Train logistic regression to 95% on 360 test rows of scikit-learn's digits",
        model=lambda: nn.Linear(64, 10),
        target=0.95,
        epochs=40,
        quick=True,
        **_ON_DIGITS,
    ),
    Race(
        name="digits-mlp",
        doc="Train an MLP 64-64-10 to 97% on 360 test rows of scikit-learn's digits",
        model=lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        target=0.97,
        epochs=60,
        **_ON_DIGITS,
    ),
    Race(
        name="digits-cnn",
        doc="Train a CNN of three layers to 98.5% on 360 test rows of scikit-learn's digits",
        model=cnn,
        target=0.985,
        epochs=30,
        standard=2,  # seven take a minute and a half a process, of ten for everything
        **_ON_DIGITS,
    ),
    Race(
        name="diabetes-linear",
        doc="Fit linear regression to scikit-learn's diabetes, all rows at a time, to 1% of the "
        "closed form",
        model=lambda: nn.Linear(10, 1, bias=False),
        data=diabetes,
        loss=squared,
        score=closeness,
        target=0.99,
        tie=1e-5,
        epochs=4000,
        batch=442,
        standard=2,  # convex and in full batches: seeds hardly differ
    ),
)


def make(race: Race, params: bb.Params, seed: int) -> bb.Inputs:
    """The race's data, and the seeds of the runs."""
    count = params["seeds"]
    assert isinstance(count, int)
    data = {name: tensor.clone() for name, tensor in race.data().items()}
    return bb.Inputs({**data, "seeds": tuple(range(1000 * seed, 1000 * seed + count))})


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One run: to the target, or to the last epoch."""

    steps: int
    """Evaluations of the gradient, each on a batch; an optimizer may need several for a step."""
    seconds: float
    model: nn.Module
    score: float


def train(race: Race, maker: Maker, inputs: Any, seed: int) -> Trained:
    """Train once. The score is looked at after each epoch, which is part of the time."""
    begin = perf_counter()
    torch.manual_seed(seed)
    model = race.model()
    optimizer = maker(list(model.parameters()))
    x, y = inputs.train_x, inputs.train_y
    steps, score = 0, -1.0
    for _ in range(race.epochs):
        for index in torch.randperm(len(x)).split(race.batch):
            rows, targets = x[index], y[index]

            def evaluate(rows: Tensor = rows, targets: Tensor = targets) -> Tensor:
                nonlocal steps
                steps += 1
                optimizer.zero_grad(set_to_none=True)
                loss = race.loss(model(rows), targets)
                loss.backward()
                return loss

            optimizer.step(evaluate)  # type: ignore[arg-type]
        score = race.score(model, inputs)
        if score >= race.target:
            break
    return Trained(steps=steps, seconds=perf_counter() - begin, model=model, score=score)


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

    The output has ``steps``, ``seconds`` and ``score`` (seeds,), and ``weights`` (seeds,
    parameters and buffers): with them an audit can see for itself how good each model is.
    """

    def call() -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]), one_thread():
            runs = [train(race, maker, inputs, seed) for seed in inputs.seeds]
            return {
                "steps": torch.tensor([run.steps for run in runs]),
                "seconds": torch.tensor([run.seconds for run in runs], dtype=torch.float64),
                "score": torch.tensor([run.score for run in runs], dtype=torch.float64),
                "weights": torch.stack([state_of(run.model) for run in runs]),
            }

    return call


def check(race: Race, evidence: bb.Evidence) -> str | None:
    """The models are as good as said, and at least half of the seeds reach the target.

    A miss counts as infinitely long, so with more misses the median time would be infinite.
    """
    output, inputs = evidence.output, evidence.inputs
    claimed = output["score"]
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, then replaced
        model = race.model()
    if len(claimed) != len(inputs.seeds):
        return f"it trained {len(claimed)} models for {len(inputs.seeds)} seeds"
    for seed, said, weights in zip(inputs.seeds, claimed, output["weights"], strict=True):
        load_state(model, weights)
        seen = race.score(model, inputs)
        if not abs(seen - float(said)) <= race.tie:
            return f"the model of seed {seed} scores {seen:.1%}, not {float(said):.1%}"
    missed = int((~(claimed >= race.target)).sum())
    if 2 * missed > len(claimed):
        found = ", ".join(f"{float(value):.1%}" for value in claimed)
        return (
            f"it missed {race.target:.1%} in {missed} of {len(claimed)} runs of {race.epochs} "
            f"epochs (scores {found}), so its median time to the target is infinite"
        )
    return None


def metrics(race: Race, output: Mapping[str, Tensor]) -> dict[str, float]:
    """Median steps and seconds to the target (a miss is infinite), share of hits, median score."""
    hit = output["score"] >= race.target
    steps, seconds = (
        torch.where(hit, output[name].double(), torch.inf) for name in ("steps", "seconds")
    )
    return {
        "steps": float(steps.quantile(0.5, interpolation="higher")),
        "seconds": float(seconds.quantile(0.5, interpolation="higher")),
        "hits": float(hit.double().mean()),
        "score": float(output["score"].median()),
    }
