"""Racers of other libraries: newer algorithms, and Adam with a state of 8 or 4 bits.

They race to the same targets as torch's own (module ``target``) and take no part in workloads of
single steps: those ask for the same numbers, and these are other algorithms. A standard run leaves
them out, since it has ten minutes for everything; ask for them by name (``-c adan``), or take
``-p full``.

The algorithms of ``pytorch_optimizer`` were tuned like torch's, over four rates a factor of two
apart, but with three seeds of each race. A low-bit AdamW takes the rate
of AdamW: whether fewer bits reach the target as soon is the question. Both libraries keep tensors
of less than 4096 numbers in 32 bits, so only races with larger ones have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins._common import optional
from benchbench_plugins.optimizers import target
from benchbench_plugins.optimizers.races import RACES, Race, thunk
from benchbench_plugins.optimizers.target import RACERS, Racer


@dataclass(frozen=True, kw_only=True)
class Peer:
    """An optimizer of an optional package."""

    name: str
    package: str
    attribute: str
    rates: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    since: tuple[int, int] = (0, 0)
    """Least version of the package that has it for the CPU, where races are run."""
    compiles: bool = False

    def racer(self) -> Racer:
        """The same as what races take; the package is imported when an optimizer is made."""

        def make(parameters: Any, **options: Any) -> torch.optim.Optimizer:
            return getattr(import_module(self.package), self.attribute)(parameters, **options)  # type: ignore[no-any-return]

        make.__name__ = self.attribute
        return Racer(
            name=self.name,
            make=make,
            rates=self.rates,
            settings=self.settings,
            library=self.package,
        )

    def unavailable(self, params: bb.Params) -> str | None:
        """Why it cannot race here, or None."""
        return target.unavailable(params) or self._missing() or self._no_compiler()

    def _missing(self) -> str | None:
        module, reason = optional(self.package)
        if module is None:
            return reason
        top = self.package.partition(".")[0]
        version = str(getattr(import_module(top), "__version__", ""))
        if self.since > (0, 0) and _numbers(version) < self.since:
            least = ".".join(map(str, self.since))
            return (
                f"{top} {version} has no optimizers for the CPU: pip install --upgrade "
                f"'{top}>={least}'"
            )
        if not hasattr(module, self.attribute):
            return f"{top} {version} has no {self.attribute}: pip install --upgrade {top}"
        return None

    def _no_compiler(self) -> str | None:
        return shared.no_compiler({"device": "cpu"}) if self.compiles else None


def _numbers(version: str) -> tuple[int, int]:
    """Major and minor number; what is no number counts as zero."""
    parts = [int(part) if part.isdecimal() else 0 for part in version.split(".")[:2]]
    return (*parts, 0, 0)[:2]  # type: ignore[return-value]


def _rates_of(name: str) -> dict[str, float]:
    """The rates of one of torch's racers, in races whose models have tensors of 4096 numbers."""
    rates = next(racer.rates for racer in RACERS if racer.name == name)
    return {race: rates[race] for race in ("digits-mlp", "digits-cnn")}


def _adamw(name: str, package: str, attribute: str, **more: Any) -> Peer:
    return Peer(
        name=name,
        package=package,
        attribute=attribute,
        rates=_rates_of("adamw"),
        settings={"weight_decay": 0.01},
        **more,
    )


def _tuned(name: str, attribute: str, logistic: float, mlp: float, **settings: Any) -> Peer:
    return Peer(
        name=name,
        package="pytorch_optimizer",
        attribute=attribute,
        rates={"digits-logistic": logistic, "digits-mlp": mlp},
        settings=settings,
    )


PEERS = (
    _tuned("adabelief", "AdaBelief", 0.1, 0.02),
    _tuned("adan", "Adan", 0.2, 0.01),
    _tuned("adopt", "ADOPT", 0.1, 0.005),
    _tuned("lamb", "Lamb", 0.1, 0.01),
    _tuned("lion", "Lion", 0.02, 0.0005),
    _tuned("prodigy", "Prodigy", 0.5, 0.5),
    _tuned("soap", "SOAP", 0.1, 0.02),
    _adamw("adamw-8bit-bitsandbytes", "bitsandbytes.optim", "AdamW8bit", since=(0, 50)),
    _adamw("adamw-8bit-torchao", "torchao.optim", "AdamW8bit", compiles=True),
    _adamw("adamw-4bit-torchao", "torchao.optim", "AdamW4bit", compiles=True),
)


def workloads() -> Iterator[bb.Workload]:
    """None of its own."""
    return iter(())


def implementations() -> Iterator[bb.Implementation]:
    """Each peer in each race that it has a rate for."""
    for race in RACES:
        for peer in PEERS:
            if race.name in peer.rates:
                yield bb.Implementation(
                    workload=race.workload,
                    name=peer.name,
                    build=_builder(race, peer),
                    unavailable=peer.unavailable,
                    presets=("full",),
                    doc=peer.racer().doc(race),
                )


def _builder(race: Race, peer: Peer) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(race, peer.racer().maker(race), inputs)
