"""Networks with their norms and activations replaced by another contender of those kinds.

What a contender gains in its own workload is here seen end to end: ``swapped-compiled`` has each
norm and activation compiled by itself, ``swapped-liger`` has those of liger-kernel, and so on for
every name in :data:`NAMES` that competes in a workload of a module that the network has. What it
does not have stays torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins import activations, normalizations, peers
from benchbench_plugins.models.ways import WAYS, inference, prepared, training_step
from benchbench_plugins.models.zoo import MODELS, Model
from benchbench_plugins.normalizations import EPS

NAMES = ("compiled", "by-hand", "liger", "quack", "flag-gems")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A module that a workload stands for."""

    workload: str
    parameters: tuple[str, ...] = ()
    """What the workload's functions take after x."""
    fits: Callable[[Any], bool] = lambda module: True


def _same_eps(module: Any) -> bool:
    return bool(module.eps == EPS and module.weight is not None)


PLACES: Mapping[type[nn.Module], tuple[Place, ...]] = {
    nn.GELU: (
        Place(workload="activations/gelu", fits=lambda m: m.approximate == "none"),
        Place(workload="activations/gelu_tanh", fits=lambda m: m.approximate == "tanh"),
    ),
    nn.SiLU: (Place(workload="activations/silu", fits=lambda m: not m.inplace),),
    nn.Tanh: (Place(workload="activations/tanh"),),
    nn.LayerNorm: (
        Place(
            workload="normalizations/layer_norm",
            parameters=("weight", "bias"),
            fits=lambda m: _same_eps(m) and m.bias is not None and len(m.normalized_shape) == 1,
        ),
    ),
    nn.RMSNorm: (
        Place(
            workload="normalizations/rms_norm",
            parameters=("weight",),
            fits=lambda m: _same_eps(m) and len(m.normalized_shape) == 1,
        ),
    ),
}


class Replaced(nn.Module):
    """A contender's function in the place of ``module``, with that module's own parameters."""

    def __init__(
        self, module: nn.Module, function: Callable[..., Tensor], names: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.names, self.function = names, function
        for name in names:
            setattr(self, name, getattr(module, name))

    def forward(self, x: Tensor) -> Tensor:
        """What the function makes of x."""
        return self.function(x, *(getattr(self, name) for name in self.names))


@dataclass(frozen=True, kw_only=True)
class _Spy:
    """Takes the place of a case's inputs, to learn which function a contender would call."""

    backward: bool
    found: list[Callable[..., Any]] = field(default_factory=list)

    def thunk(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.found.append(function)
        return function


def function_of(contender: bb.Implementation, *, backward: bool) -> Callable[..., Any]:
    """The function of tensors that ``contender`` calls.

    Raises:
        TypeError: it does more in its ``build`` than to hand a function to ``inputs.thunk``.
    """
    spy = _Spy(backward=backward)
    contender.build(spy)
    if len(spy.found) != 1:
        raise TypeError(
            f"{contender.id} is no function of the inputs alone, so nothing can call it"
        )
    return spy.found[0]


@cache
def registered() -> Mapping[str, bb.Implementation]:
    """Contenders by id, of the workloads in :data:`PLACES`."""
    wanted = {place.workload for places in PLACES.values() for place in places}
    return {
        item.id: item
        for plugin in (activations, normalizations, peers)
        for item in plugin.benchbench_implementations()
        if item.workload in wanted and item.name in NAMES
    }


def place_of(module: nn.Module) -> Place | None:
    """The workload that stands for a module, or None."""
    return next((place for place in PLACES.get(type(module), ()) if place.fits(module)), None)


def found_in(model: Model, name: str) -> tuple[str, ...]:
    """Ids of the contenders called ``name`` that have a place in the model."""
    with torch.device("meta"):
        places = [place_of(module) for module in model.factory().modules()]
    ids = {f"{place.workload}:{name}" for place in places if place is not None}
    return tuple(sorted(ids & set(registered())))


def swap(network: nn.Module, name: str, *, backward: bool) -> Any:
    """Replace what the contenders called ``name`` have a function for; says what was replaced."""
    from benchbench import fused

    functions: dict[str, Callable[..., Any]] = {}

    def replacement(module: nn.Module) -> nn.Module:
        place = place_of(module)
        item = registered().get(f"{place.workload}:{name}") if place is not None else None
        if place is None or item is None:
            return module
        if item.id not in functions:
            functions[item.id] = function_of(item, backward=backward)
        return Replaced(module, functions[item.id], place.parameters)

    table = dict.fromkeys(PLACES, replacement)
    return fused.swap(network, norms=False, activations=False, replacements=table)


def workloads() -> Iterator[bb.Workload]:
    """None of its own."""
    return iter(())


def implementations() -> Iterator[bb.Implementation]:
    """Each name in each network of first-party modules that has a place for it."""
    for model in MODELS:
        if model.needs or model.images or not model.swappable:
            continue
        for name in NAMES:
            ids = found_in(model, name)
            for training in (False, True) if ids else ():
                yield bb.Implementation(
                    workload=model.workload(training=training),
                    name=f"swapped-{name}",
                    build=_builder(model, name, training),
                    unavailable=_unavailable(ids, training),
                    presets=("full",),
                    doc=f"Norms and activations replaced by the contenders called {name}.",
                )


def _builder(model: Model, name: str, training: bool) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        network = prepared(WAYS[0], inputs, training)
        swap(network, name, backward=training)
        if training:
            return training_step(model, network, inputs)
        return inference(network, inputs)

    return build


def _unavailable(ids: tuple[str, ...], training: bool) -> Callable[[bb.Params], str | None]:
    def reason(params: bb.Params) -> str | None:
        direction = "forward+backward" if training else "forward"
        case = {"device": params["device"], "dtype": "float32", "direction": direction}
        for identity in ids:
            ask = registered()[identity].unavailable
            why = ask(case) if ask is not None else None
            if why is not None:
                return f"{identity}: {why}"
        return None

    return reason
