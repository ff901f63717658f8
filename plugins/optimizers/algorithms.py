"""The elementwise algorithms of torch.optim, each with the switches that change what it computes.

An algorithm is elementwise when each number of a parameter moves by its own gradients alone. The
others (Adafactor, Muon, SparseAdam, LBFGS) have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchbench.errors import suggestion

PLAIN = "none"
"""The value of the axis ``switch`` without any."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """Options that change the result, as a value of the axis ``switch``."""

    options: Mapping[str, Any] = field(default_factory=dict)
    passes: int = 0
    """Compulsory passes over the parameters that it adds."""
    alternating: bool = False
    """Whether gradients have to change from step to step for it to show (AMSGrad's maximum is the
    last value while squares only grow) or to be well defined (a variance of equal gradients is
    zero, and its square root rounding)."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One algorithm with its settings."""

    name: str
    make: Callable[..., torch.optim.Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    passes: int
    """Compulsory passes: the gradient, the parameter and each state read; all but the gradient
    written."""
    quick: str = ""
    """Parameter list of a quick look; empty where it leaves the algorithm out."""
    standard: tuple[str, ...] = ("resnet18",)
    switches: Mapping[str, Switch] = field(default_factory=dict)
    alternating: bool = False
    """See :class:`Switch`; for the algorithm with any switch."""

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"optimizers/{self.name}-step"

    def switch(self, name: str) -> Switch:
        """The switch called ``name``; :data:`PLAIN` is none.

        Raises:
            ValueError: the algorithm has no such switch.
        """
        if name == PLAIN:
            return Switch()
        if name not in self.switches:
            known = (PLAIN, *self.switches)
            raise ValueError(
                f"{self.workload} has no switch {name!r}; it has {', '.join(known)}."
                f"{suggestion(name, known)}"
            )
        return self.switches[name]

    def options(self, switch: str) -> dict[str, Any]:
        """Every argument of the optimizer except how to run it."""
        return {**self.settings, **self.switch(switch).options}

    def alternates(self, switch: str) -> bool:
        """Whether steps take two sets of gradients in turn."""
        return self.alternating or self.switch(switch).alternating


MAXIMIZE = {"maximize": Switch(options={"maximize": True})}
PENALTY = {"weight-decay": Switch(options={"weight_decay": 1e-2})}
"""Weight decay added to the gradient (an L2 penalty)."""
DECOUPLED = {
    "decoupled": Switch(options={"weight_decay": 1e-2, "decoupled_weight_decay": True}),
}
"""Weight decay of the parameters themselves (Loshchilov and Hutter 2019)."""
AMSGRAD = {"amsgrad": Switch(options={"amsgrad": True}, passes=2, alternating=True)}
BOTH_LISTS = ("resnet50", "1000x1k")

ALGORITHMS = (
    Algorithm(
        name="sgd",
        make=torch.optim.SGD,
        settings={"lr": 1e-2},
        passes=3,
        quick="resnet18",
        standard=BOTH_LISTS,
        switches={**PENALTY, **MAXIMIZE},
    ),
    Algorithm(
        name="momentum",
        make=torch.optim.SGD,
        settings={"lr": 1e-2, "momentum": 0.9},
        passes=5,
        quick="resnet18",
        standard=BOTH_LISTS,
        switches={"dampening": Switch(options={"dampening": 0.5}), **PENALTY, **MAXIMIZE},
    ),
    Algorithm(
        name="nesterov",
        make=torch.optim.SGD,
        settings={"lr": 1e-2, "momentum": 0.9, "nesterov": True},
        passes=5,
        standard=BOTH_LISTS,
        switches={**PENALTY, **MAXIMIZE},
    ),
    Algorithm(
        name="adam",
        make=torch.optim.Adam,
        settings={"lr": 1e-3},
        passes=7,
        quick="resnet50",
        standard=BOTH_LISTS,
        switches={**AMSGRAD, **PENALTY, **DECOUPLED, **MAXIMIZE},
    ),
    Algorithm(
        name="adamw",
        make=torch.optim.AdamW,
        settings={"lr": 1e-3, "weight_decay": 1e-2},
        passes=7,
        quick="resnet18",
        standard=BOTH_LISTS,
        switches={**AMSGRAD, **MAXIMIZE},
    ),
    Algorithm(
        name="rmsprop",
        make=torch.optim.RMSprop,
        settings={"lr": 1e-3},
        passes=5,
        quick="resnet18",
        standard=BOTH_LISTS,
        switches={
            "momentum": Switch(options={"momentum": 0.9}, passes=2),
            "centered": Switch(options={"centered": True}, passes=2, alternating=True),
            **PENALTY,
            **MAXIMIZE,
        },
    ),
    Algorithm(
        name="adagrad",
        make=torch.optim.Adagrad,
        settings={"lr": 1e-2},
        passes=5,
        switches={
            "lr-decay": Switch(options={"lr_decay": 0.1}),
            "initial-accumulator": Switch(options={"initial_accumulator_value": 0.01}),
            **PENALTY,
            **MAXIMIZE,
        },
    ),
    Algorithm(
        name="adadelta",
        make=torch.optim.Adadelta,
        settings={"lr": 1.0},
        passes=7,
        switches={**PENALTY, **MAXIMIZE},
    ),
    Algorithm(
        name="adamax",
        make=torch.optim.Adamax,
        settings={"lr": 2e-3},
        passes=7,
        switches={**PENALTY, **MAXIMIZE},
    ),
    Algorithm(
        name="nadam",
        make=torch.optim.NAdam,
        settings={"lr": 2e-3},
        passes=7,
        switches={
            "momentum-decay": Switch(options={"momentum_decay": 0.1}),
            **PENALTY,
            **DECOUPLED,
            **MAXIMIZE,
        },
    ),
    Algorithm(
        name="radam",
        make=torch.optim.RAdam,
        settings={"lr": 1e-3},
        passes=7,
        switches={**PENALTY, **DECOUPLED, **MAXIMIZE},
    ),
    Algorithm(
        name="rprop",
        make=torch.optim.Rprop,
        settings={"lr": 1e-3},
        passes=7,  # the gradient of the last step and a rate of each number
        switches={**MAXIMIZE},
        alternating=True,
    ),
    Algorithm(
        name="asgd",
        make=torch.optim.ASGD,
        settings={"lr": 1e-2},
        passes=4,  # its average is only written
        switches={
            "power": Switch(options={"lambd": 0.1, "alpha": 1.0}),
            **PENALTY,
            **MAXIMIZE,
        },
    ),
)
