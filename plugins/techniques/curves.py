"""Loss curves: when to stop, and whether a run under- or overfits.

A network that is large for 200 digits is trained with a part held out. Contenders stop at different
times; test accuracy and epochs stand beside the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins.techniques.training import (
    accuracy,
    claims,
    make as make_digits,
    network,
    quietly,
    state_of,
    train,
    unavailable,
)

NAME = "techniques/early-stopping"
EPOCHS = 120
ROWS, HELD = 200, 200
WIDTH = 256
RISE, GAP, HIGH = 1.1, 0.5, 0.5

Verdict = Literal["overfitting", "underfitting", "fitting"]


def verdict(training: Sequence[float], held_out: Sequence[float]) -> Verdict:
    """What two loss curves (one value an epoch, in nats) say at their end.

    - *overfitting*: the loss on rows that are held out has risen by a tenth over its least, and the
      training loss is below half of it;
    - *underfitting*: the training loss is above half a nat and within a tenth of the loss on rows
      that are held out: more training, or a larger model, would lower both;
    - *fitting* otherwise.

    Raises:
        ValueError: the curves are empty or of different lengths.
    """
    if not training or len(training) != len(held_out):
        raise ValueError(
            f"verdict: curves of {len(training)} and {len(held_out)} epochs; they must be equally "
            "long and not empty"
        )
    if held_out[-1] > RISE * min(held_out) and training[-1] < GAP * held_out[-1]:
        return "overfitting"
    if training[-1] > HIGH and held_out[-1] < RISE * training[-1]:
        return "underfitting"
    return "fitting"


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """The digits, of which 200 rows are for training and 200 are held out."""
    inputs = make_digits(params, seed)
    x, y = inputs.train_x, inputs.train_y
    return bb.Inputs(
        {
            "train_x": x[:ROWS].clone(),
            "train_y": y[:ROWS].clone(),
            "held_x": x[ROWS : ROWS + HELD].clone(),
            "held_y": y[ROWS : ROWS + HELD].clone(),
            "test_x": inputs.test_x,
            "test_y": inputs.test_y,
            "seeds": inputs.seeds,
        }
    )


class Watch:
    """Looks at both losses after each epoch and says when to stop."""

    def __init__(self, model: nn.Module, inputs: Any, patience: int, *, rewind: bool) -> None:
        self._model = model
        self._inputs = inputs
        self._patience = patience
        self._rewind = rewind
        self._best: dict[str, Tensor] = {}
        self.training: list[float] = []
        self.held_out: list[float] = []

    def __call__(self) -> bool:
        """True when the loss on rows that are held out has not fallen for ``patience`` epochs."""
        i = self._inputs
        with torch.no_grad():
            self.training.append(float(F.cross_entropy(self._model(i.train_x), i.train_y)))
            self.held_out.append(float(F.cross_entropy(self._model(i.held_x), i.held_y)))
        best = min(range(len(self.held_out)), key=self.held_out.__getitem__)
        if self._rewind and best + 1 == len(self.held_out):
            self._best = {name: t.clone() for name, t in self._model.state_dict().items()}
        return len(self.held_out) - 1 - best >= self._patience

    def finish(self) -> int:
        """Go back to the best epoch where that was asked for; returns the epochs that were made."""
        made = len(self.held_out)
        if self._rewind:
            self._model.load_state_dict(self._best)
            best = min(range(made), key=self.held_out.__getitem__)
            del self.training[best + 1 :], self.held_out[best + 1 :]
        return made


def _builder(patience: int, *, rewind: bool) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        def one(seed: int) -> tuple[nn.Module, Watch, int]:
            model = network(seed, WIDTH)
            watch = Watch(model, inputs, patience, rewind=rewind)
            train(
                model,
                inputs.train_x,
                inputs.train_y,
                seed=seed,
                epochs=EPOCHS,
                batch=32,
                rate=0.1,
                after_epoch=watch,
            )
            return model, watch, watch.finish()

        def call() -> dict[str, Any]:
            with quietly():
                found = [one(seed) for seed in inputs.seeds]
                return {
                    "accuracy": torch.tensor(
                        [accuracy(model, inputs) for model, _, _ in found], dtype=torch.float64
                    ),
                    "weights": torch.stack([state_of(model) for model, _, _ in found]),
                    "epochs": torch.tensor([made for _, _, made in found]),
                    "training": [torch.tensor(watch.training) for _, watch, _ in found],
                    "held_out": [torch.tensor(watch.held_out) for _, watch, _ in found],
                }

        return call

    return build


def metrics(output: Mapping[str, Any], reference: Any) -> dict[str, float]:
    """Mean accuracy on test rows and mean epochs; share of runs whose model is overfitted."""
    words = [
        verdict(training.tolist(), held.tolist())
        for training, held in zip(output["training"], output["held_out"], strict=True)
    ]
    return {
        "accuracy": float(output["accuracy"].mean()),
        "epochs": float(output["epochs"].double().mean()),
        "overfitting": words.count("overfitting") / len(words),
    }


def workloads() -> Iterator[bb.Workload]:
    """One."""
    yield bb.Workload(
        name=NAME,
        doc=f"Train an MLP of width {WIDTH} on {ROWS} digits, at most {EPOCHS} epochs.",
        axes={"seeds": (2, 7)},
        presets={"quick": [], "standard": {"seeds": (2,)}, "full": {"seeds": (7,)}},
        make=make,
        check=lambda evidence: claims(lambda: network(0, WIDTH), evidence),
        metrics=metrics,
        work=lambda params: bb.Work(items=float(params["seeds"]), item="run"),  # type: ignore[arg-type]
        baseline="to-the-end",
    )


def implementations() -> Iterator[bb.Implementation]:
    """When to stop."""
    for name, patience, rewind, doc in (
        ("to-the-end", EPOCHS, False, "All epochs."),
        ("patience-5", 5, False, "Stops after 5 epochs without a lower loss on held-out rows."),
        ("patience-20", 20, False, "The same with 20."),
        ("patience-20-rewound", 20, True, "And goes back to the best epoch."),
    ):
        yield bb.Implementation(
            workload=NAME,
            name=name,
            build=_builder(patience, rewind=rewind),
            unavailable=unavailable,
            doc=doc,
        )
