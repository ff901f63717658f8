"""Ways to run a model: eager, compiled, channels last, and with our norms and activations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.models.zoo import Model


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a model is run."""

    name: str
    doc: str
    compile: bool = False
    channels_last: bool = False
    swap: bool = False

    def applies(self, model: Model) -> bool:
        """Whether the way means anything for the model."""
        return model.images or not self.channels_last

    def presets(self, model: Model) -> tuple[str, ...] | None:
        """Compiling a large network takes longer than a quick look."""
        return shared.SLOWER if self.compile and not model.compile_in_quick else None


WAYS = (
    Way(name="eager", doc="PyTorch, eager."),
    Way(name="compiled", doc="torch.compile, static shapes.", compile=True),
    Way(
        name="channels-last",
        doc="Weights in channels-last order; the input is converted in each call.",
        channels_last=True,
    ),
    Way(name="swapped", doc="Norms and activations replaced by benchbench's kernels.", swap=True),
    Way(
        name="channels-last-swapped",
        doc="Channels last, with benchbench's norms and activations.",
        channels_last=True,
        swap=True,
    ),
)


def build(model: Model, way: Way, training: bool) -> Callable[[Any], bb.Thunk]:
    """The contender's ``build``."""
    return lambda inputs: (training_step if training else inference)(prepared(way, inputs), inputs)


def prepared(way: Way, inputs: Any) -> Callable[[Tensor], Tensor]:
    """A copy of the shared model, set up for this way."""
    network: nn.Module = copy.deepcopy(inputs.model)
    if way.swap:
        from benchbench import fused

        fused.swap(network)
    if way.channels_last:
        network = network.to(memory_format=torch.channels_last)
        # The conversion of the input belongs to the way, so it is timed.
        network.register_forward_pre_hook(
            lambda module, given: (given[0].contiguous(memory_format=torch.channels_last),)
        )
    return torch.compile(network, dynamic=False) if way.compile else network  # type: ignore[no-any-return]


def inference(network: Any, inputs: Any) -> bb.Thunk:
    """Logits (batch, classes), in evaluation mode and without gradients."""
    network.eval()
    x = inputs.x

    def call() -> Tensor:
        with torch.no_grad():
            return network(x)  # type: ignore[no-any-return]

    return call


def training_step(network: Any, inputs: Any) -> bb.Thunk:
    """One step of SGD; returns the loss before it and some parameters after it."""
    network.train()
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    x, labels = inputs.x, inputs.labels
    views = [parameters[0].detach(), parameters[len(parameters) // 2].detach()]
    views += [parameters[-1].detach()]

    def call() -> tuple[Tensor, ...]:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        return (loss.detach(), *views)

    return call


def reference(model: Model, inputs: Any, training: bool) -> Any:
    """The eager model in float64; after one step where it is trained."""
    network = copy.deepcopy(inputs.model).double()
    double = bb.Inputs({"x": inputs.x.double(), "labels": inputs.labels})
    if not training:
        return inference(network, double)()
    return training_step(network, double)()


def unavailable(model: Model, way: Way) -> Callable[[bb.Params], str | None]:
    """Why the way cannot run the model at a point, or None."""

    def reason(params: bb.Params) -> str | None:
        if model.missing():
            return model.missing()
        if way.swap:
            return shared.no_kernels(params)
        return shared.no_compiler(params) if way.compile else shared.no_cuda(params)

    return reason
