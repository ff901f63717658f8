"""Time to a target: different optimizers race to the same score (module ``races``).

The model, the batches and their order for a seed are the same for all; hyper-parameters are stated
below. A call trains from scratch for each seed of the case, to the target or to the last epoch. All
run on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import benchbench as bb
from benchbench_plugins._common import optional
from benchbench_plugins.optimizers.races import RACES, Maker, Race, check, make, metrics, thunk


@dataclass(frozen=True, kw_only=True)
class Racer:
    """An optimizer with its settings; the learning rate is tuned for each race.

    Tuned with the same effort for all: of four rates, a factor of two apart, the one whose median
    steps over seven seeds were fewest while every seed reached the target, or as many as could.
    ``python -m benchbench_plugins.optimizers.tune`` shows it.
    """

    name: str
    make: Callable[..., torch.optim.Optimizer]
    rates: Mapping[str, float]
    """By race; it does not take part in the others."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    library: str = "torch.optim"

    def maker(self, race: Race, **ways: Any) -> Maker:
        """Makes the optimizer for the parameters of a model; ``ways`` is how it is to be run."""
        rate = self.rates[race.name]
        return lambda parameters: self.make(parameters, lr=rate, **self.settings, **ways)

    def doc(self, race: Race) -> str:
        """Every setting, as text."""
        settings = {"lr": self.rates[race.name], **self.settings}
        stated = ", ".join(f"{name}={value}" for name, value in settings.items())
        return f"{self.library}.{self.make.__name__}, {stated}."


RACERS = (
    Racer(
        name="sgd",
        make=torch.optim.SGD,
        rates={
            "digits-logistic": 2.0,
            "digits-mlp": 1.0,
            "digits-cnn": 0.2,
            "diabetes-linear": 0.2,
        },
    ),
    Racer(
        name="momentum",
        make=torch.optim.SGD,
        rates={
            "digits-logistic": 0.4,
            "digits-mlp": 0.1,
            "digits-cnn": 0.02,
            "diabetes-linear": 0.4,
        },
        settings={"momentum": 0.9},
    ),
    Racer(
        name="nesterov",
        make=torch.optim.SGD,
        rates={
            "digits-logistic": 0.4,
            "digits-mlp": 0.1,
            "digits-cnn": 0.02,
            "diabetes-linear": 0.1,
        },
        settings={"momentum": 0.9, "nesterov": True},
    ),
    Racer(
        name="adam",
        make=torch.optim.Adam,
        rates={
            "digits-logistic": 0.05,
            "digits-mlp": 0.01,
            "digits-cnn": 0.004,
            "diabetes-linear": 0.2,
        },
    ),
    Racer(
        name="adamw",
        make=torch.optim.AdamW,
        rates={
            "digits-logistic": 0.05,
            "digits-mlp": 0.01,
            "digits-cnn": 0.004,
            "diabetes-linear": 0.05,
        },
        settings={"weight_decay": 0.01},
    ),
    Racer(
        name="rmsprop",
        make=torch.optim.RMSprop,
        rates={
            "digits-logistic": 0.02,
            "digits-mlp": 0.01,
            "digits-cnn": 0.002,
            "diabetes-linear": 0.005,
        },
    ),
    Racer(
        name="lbfgs",
        make=torch.optim.LBFGS,
        rates={"diabetes-linear": 1.0},
        settings={"max_iter": 1, "history_size": 10},
    ),
)


def workloads() -> Iterator[bb.Workload]:
    """A workload for each race."""
    for race in RACES:
        yield _workload(race)


def _workload(race: Race) -> bb.Workload:
    return bb.Workload(
        name=race.workload,
        doc=f"{race.doc}, once a seed.",
        axes={"seeds": (2, 7, 15)},
        presets={
            "quick": [{"seeds": (2,)}] if race.quick else [],
            "standard": {"seeds": (race.standard,)},
            "full": {"seeds": (15,)},
        },
        make=lambda params, seed: make(race, params, seed),
        check=lambda evidence: check(race, evidence),
        metrics=lambda output, reference: metrics(race, output),
        work=lambda params: bb.Work(items=float(params["seeds"]), item="run"),  # type: ignore[arg-type]
        baseline="sgd",
    )


def unavailable(params: bb.Params) -> str | None:
    """Why there is no race, or None."""
    return optional("sklearn.datasets")[1] or None


def implementations() -> Iterator[bb.Implementation]:
    """Each optimizer in each race that it has a rate for."""
    for race in RACES:
        for racer in RACERS:
            if race.name in racer.rates:
                yield bb.Implementation(
                    workload=race.workload,
                    name=racer.name,
                    build=_builder(race, racer),
                    unavailable=unavailable,
                    doc=racer.doc(race),
                )


def _builder(race: Race, racer: Racer) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(race, racer.maker(race), inputs)
