"""Ways to run a model: eager, compiled, channels last, and with our norms and activations.

Lower precision is no way to run the same workload: what a bfloat16 product loses is thousands of
times what these contenders may differ by. It has workloads of its own, in module ``bfloat16``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.models import saved
from benchbench_plugins.models.judge import LEARNING_RATE, MOMENTUM
from benchbench_plugins.models.zoo import Model


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a model is run."""

    name: str
    doc: str
    compile: bool = False
    channels_last: bool = False
    swap: bool = False
    autocast: bool = False
    """Products in bfloat16, weights in float32."""
    convert: bool = False
    """Weights and activations in bfloat16: inference only, since it would round the steps off."""

    def applies(self, model: Model, training: bool = False) -> bool:
        """Whether the way means anything for the model."""
        return (
            (model.images or not self.channels_last)
            and (model.swappable or not self.swap)
            and not (training and self.convert)
        )

    def presets(self, model: Model) -> tuple[str, ...] | None:
        """Compiling a large network takes longer than a quick look."""
        if not self.compile or model.compile_in_quick:
            return None
        return shared.SLOWER if model.compile_in_standard else ("full",)


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

    def built(inputs: Any) -> bb.Thunk:
        network = prepared(way, inputs, training)
        if training:
            return training_step(model, network, inputs, way)
        return inference(network, inputs, way)

    return built


def prepared(way: Way, inputs: Any, training: bool) -> Any:
    """The model set up for this way.

    For training everything is copied. For inference only the modules are: all contenders read the
    same weights, unless a way needs them in another order in memory.
    """
    weights = [*inputs.model.parameters(), *inputs.model.buffers()]
    kept = {} if training else {id(tensor): tensor for tensor in weights}
    network: nn.Module = copy.deepcopy(inputs.model, kept).train(training)
    if way.swap:
        swap(network)
    if way.convert:
        network = copy.deepcopy(network).to(torch.bfloat16)  # to() would write into shared weights
    if way.channels_last:
        network = _in_channels_last(network)
    return torch.compile(network, dynamic=False) if way.compile else network


def swap(network: nn.Module) -> Any:
    """Put benchbench's norms and activations in place of torch's; says what was replaced.

    A lone ReLU is left where there is anything else, since torch's is at the limit of the memory.
    In networks of nothing but ReLU it is replaced (not in place), so that they have an answer too.
    """
    from benchbench import fused
    from benchbench.fused import modules

    swapped = fused.swap(network)
    if swapped.replaced:
        return swapped
    return fused.swap(network, replacements={nn.ReLU: lambda module: modules.ReLU()})


def _in_channels_last(network: nn.Module) -> nn.Module:
    # to() writes into the parameters it is given, which may be the shared ones.
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    # The conversion of the input belongs to the way, so it is timed.
    network.register_forward_pre_hook(
        lambda module, given: (given[0].contiguous(memory_format=torch.channels_last),)
    )
    return network


def _precision(way: Way, x: Tensor) -> AbstractContextManager[Any]:
    if way.autocast:
        return torch.autocast(x.device.type, torch.bfloat16)
    return nullcontext()


def inference(network: Any, inputs: Any, way: Way = WAYS[0]) -> bb.Thunk:
    """Output of the network, without gradients; in float32 where the way computes in bfloat16."""
    x = inputs.x

    def call() -> Tensor:
        with torch.no_grad():
            return network(x)  # type: ignore[no-any-return]

    def call_in_bfloat16() -> Tensor:
        with torch.no_grad(), _precision(way, x):
            given = x.bfloat16() if way.convert else x
            return network(given).float()  # type: ignore[no-any-return]

    return call_in_bfloat16 if way.autocast or way.convert else call


def watched(count: int) -> list[int]:
    """Places of the first, the middle and the last of ``count`` parameters."""
    return sorted({0, count // 2, count - 1})


def training_step(model: Model, network: Any, inputs: Any, way: Way = WAYS[0]) -> bb.Thunk:
    """One step of SGD with momentum on the same batch each time.

    Returns the loss before the step, and for the first, the middle and the last parameter the
    gradient and the value after the step. The first step, which nobody times, leaves with its loss
    what autograd saved (module ``saved``).
    """
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)
    x, target, loss_of = inputs.x, inputs.target, model.loss
    seen = [parameters[place] for place in watched(len(parameters))]
    views = tuple(parameter.detach() for parameter in seen)
    stays = [*parameters, *network.buffers()]
    scales = iter([] if way.compile else [saved.SavedTensors(stays, [x, target])])

    def call() -> dict[str, Any]:
        optimizer.zero_grad(set_to_none=True)
        scale = next(scales, None)
        with _precision(way, x), scale or nullcontext():
            loss = loss_of(network(x), target)
        loss.backward()
        optimizer.step()
        loss = loss.detach()
        if scale is not None:
            saved.note(loss, scale.saved)
        return {
            "loss": loss,
            "gradients": tuple(parameter.grad for parameter in seen),
            "parameters": views,
        }

    return call


def reference(model: Model, inputs: Any, training: bool) -> Any:
    """The eager model in float64; after one step where it is trained."""
    double = inputs.double()
    network = copy.deepcopy(inputs.model).double().train(training)
    thunk = training_step(model, network, double) if training else inference(network, double)
    return thunk()


def unavailable(model: Model, way: Way) -> Callable[[bb.Params], str | None]:
    """Why the way cannot run the model at a point, or None."""

    def reason(params: bb.Params) -> str | None:
        if model.missing():
            return model.missing()
        if way.swap:
            return shared.no_kernels(params)
        return shared.no_compiler(params) if way.compile else shared.no_cuda(params)

    return reason
