"""The rest of torch.nn's activations: shrinking, clamping, and softmax over channels.

Rows as in ``_activation_tasks``. Those whose output has another shape, or is random, or takes a
mask, are in ``_activation_special``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _activation_special as special, _functional as shared
from benchbench_plugins._activation_special import GPU, LOWER, STANDARD, UPPER
from benchbench_plugins._activation_tasks import ROWS, Task


def hardsigmoid_by_hand(x: Tensor) -> Tensor:
    """relu6(x + 3) / 6, three operators."""
    return F.relu6(x + 3) / 6


def relu6_by_clamp(x: Tensor) -> Tensor:
    """clamp between 0 and 6."""
    return x.clamp(0, 6)


def hardtanh_by_clamp(x: Tensor) -> Tensor:
    """clamp between -1 and 1."""
    return x.clamp(-1, 1)


def hardshrink_by_product(x: Tensor) -> Tensor:
    """x times a comparison, three operators."""
    return x * (x.abs() > 0.5)


def softshrink_by_where(x: Tensor) -> Tensor:
    """A comparison, and a choice between zero and x less half its sign: six operators."""
    return torch.where(x.abs() > 0.5, x - 0.5 * x.sign(), 0.0)


def softsign_by_reciprocal(x: Tensor) -> Tensor:
    """x times the reciprocal of 1 + |x|: a product where torch divides."""
    return x * torch.reciprocal(1 + x.abs())


def threshold_by_where(x: Tensor) -> Tensor:
    """A choice between x and a constant, two operators."""
    return torch.where(x > 0.125, x, 20.0)


def rrelu_as_leaky(x: Tensor) -> Tensor:
    """leaky_relu with the mean slope."""
    return F.leaky_relu(x, (LOWER + UPPER) / 2)


def celu_by_hand(x: Tensor) -> Tensor:
    """max(x, 0) + 2 expm1(min(x, 0) / 2), six operators."""
    # Two clamps would both pass the gradient where x is exactly 0.
    return F.relu(x) + 2 * torch.expm1(x.clamp(max=0) / 2)


def softmax2d_channels_last(x: Tensor) -> Tensor:
    """Softmax over the last dimension of a channels-last copy."""
    return F.softmax(x.permute(0, 2, 3, 1).contiguous(), -1).permute(0, 3, 1, 2).contiguous()


IMAGES = ((8, 64, 112, 112), (8, 21, 128, 128))
MORE = (
    Task(
        name="celu",
        function=lambda x: F.celu(x, 2.0),
        doc="max(x, 0) + min(0, a (e^(x / a) - 1)) with a = 2.",
        quick=(),
        others=(("by-hand", celu_by_hand),),
        others_inexact="gradient",
    ),
    Task(
        name="hardshrink",
        function=F.hardshrink,
        doc="x, or 0 where |x| is at most 0.5.",
        quick=(),
        others=(("product", hardshrink_by_product),),
    ),
    Task(
        name="hardsigmoid",
        function=F.hardsigmoid,
        doc="relu6(x + 3) / 6, as in MobileNetV3.",
        quick=(),
        others=(("by-hand", hardsigmoid_by_hand),),
        others_inexact="gradient",
    ),
    Task(
        name="hardtanh",
        function=F.hardtanh,
        doc="x clamped between -1 and 1.",
        quick=(),
        others=(("clamp", hardtanh_by_clamp),),
    ),
    Task(
        name="relu6",
        function=F.relu6,
        doc="x clamped between 0 and 6.",
        quick=(),
        others=(("clamp", relu6_by_clamp),),
    ),
    Task(
        name="rrelu_eval",
        function=lambda x: F.rrelu(x, LOWER, UPPER, training=False),
        doc="Randomized leaky ReLU in evaluation: the slope is the mean of its range.",
        quick=(),
        others=(("leaky", rrelu_as_leaky),),
    ),
    Task(
        name="softmax2d",
        function=lambda x: F.softmax(x, 1),
        doc="Softmax over the channels of an image, at each position.",
        shapes=IMAGES,
        quick=(),
        others=(("channels-last", softmax2d_channels_last),),
    ),
    Task(
        name="softmin",
        function=lambda x: F.softmin(x, -1),
        doc="Softmax of -x over the last dimension.",
        shapes=ROWS,
        quick=(),
    ),
    Task(
        name="softshrink",
        function=F.softshrink,
        doc="x moved towards 0 by 0.5, no further than 0.",
        quick=(),
        others=(("where", softshrink_by_where),),
    ),
    Task(
        name="softsign",
        function=F.softsign,
        doc="x / (1 + |x|).",
        quick=(),
        others=(("reciprocal", softsign_by_reciprocal),),
        others_inexact="gradient",
    ),
    Task(
        name="tanhshrink",
        function=F.tanhshrink,
        doc="x - tanh(x).",
        quick=(),
    ),
    Task(
        name="threshold",
        function=lambda x: F.threshold(x, 0.125, 20.0),
        doc="x, or 20 where x is at most 0.125.",
        quick=(),
        others=(("where", threshold_by_where),),
    ),
)


def workloads(ordinary: Callable[[Task], bb.Workload]) -> Iterator[bb.Workload]:
    """All of this module and ``_activation_special``; ``ordinary`` makes the workload of a task."""
    for task in MORE:
        workload = ordinary(task)
        presets = {**workload.presets, "standard": STANDARD}
        if task.shapes is IMAGES:
            presets["gpu"] = {**GPU, "shape": ((64, 64, 128, 128),)}
        yield replace(workload, presets=presets)
    yield from special.workloads()


def implementations() -> Iterator[bb.Implementation]:
    """Eager, compiled, and by hand."""
    for task in MORE:
        yield shared.functional(task.workload, "eager", task.function, doc="PyTorch, eager.")
        yield shared.compiled(task.workload, task.function, ("full",))
        for name, function in task.others:
            yield shared.functional(task.workload, name, function, inexact=task.others_inexact)
    yield from special.implementations()
