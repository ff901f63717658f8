"""When a training step is right.

After one step of a fresh contender the loss, some gradients and some parameters are compared with
float64. Where the model is smooth the core does it, relative to the baseline's own error. ReLU and
max pooling have kinks: an input that rounding moves across one sends its gradient elsewhere.
Measured in ResNet-18, input noise of 1e-7 in float64 moves the first layer's gradient by 6e-3 of
its length, and eager float32 is between 3e-6 and 2e-2 off float64, a matter of luck. So such
models are judged by lengths of whole tensors, to a tenth; the loss is continuous and stays exact.

Later steps have no reference (rounding grows with each), but the batch is always the same, so the
loss must have fallen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import benchbench as bb
from benchbench_plugins.models import saved

OUTPUT = bb.Tolerance(factor=10, units=64)
"""Of inference: rounding passes through tens of layers, in another order in each way to run."""
LOSS = 1e-4
"""Allowed relative error of the loss; eager's is about 1e-7."""
SMOOTH, KINKED = 1e-3, 0.1
"""Allowed length of a gradient's error, relative to the length of the gradient."""
COARSE_LOSS, COARSE_SMOOTH, COARSE_KINKED = 0.02, 0.1, 0.5
"""The same where products are made in bfloat16, whose rounding step is 2^16 times as long."""
LEARNING_RATE, MOMENTUM = 0.01, 0.9
EPS = torch.finfo(torch.float32).eps


def off(output: Any, reference: Any) -> float:
    """Length of the difference, relative to the length of the reference."""
    wanted = reference.double().cpu()
    return float((output.double().cpu() - wanted).norm() / wanted.norm())


def check(kinked: bool, evidence: bb.Evidence, *, coarse: bool = False) -> str | None:
    """Why a training step is wrong, or None; see the module. ``coarse`` is for bfloat16."""
    output, reference = evidence.output, evidence.reference
    loss, first = float(output["loss"]), float(reference["loss"])
    if evidence.calls > 1:
        if not loss < first * (1 - LOSS):
            return (
                f"after {evidence.calls} steps on the same batch the loss is {loss:.6g}, not below "
                f"the first one, {first:.6g}: the steps are not made, or are wrong"
            )
        return None
    fine, rough = (COARSE_SMOOTH, COARSE_KINKED) if coarse else (SMOOTH, KINKED)
    limit = rough if kinked else fine
    return (
        check_loss(COARSE_LOSS if coarse else LOSS, output, reference)
        or check_gradients(limit, output, reference)
        or _check_update(limit, output, reference)
    )


def check_loss(limit: float, output: Any, reference: Any) -> str | None:
    """Why the loss is wrong, or None."""
    loss, wanted = float(output["loss"]), float(reference["loss"])
    if not abs(loss - wanted) <= limit * abs(wanted):
        return f"its loss is {loss:.8g}, the float64 reference's {wanted:.8g}"
    return None


def check_gradients(limit: float, output: Any, reference: Any) -> str | None:
    """Why a watched gradient is wrong, or None."""
    pairs = zip(output["gradients"], reference["gradients"], strict=True)
    for position, (gradient, wanted) in enumerate(pairs):
        error = off(gradient, wanted)
        if not error <= limit:
            return (
                f"its gradient {position} of {len(reference['gradients'])} is off by {error:.2g} "
                f"of its length, allowed is {limit:g}"
            )
    return None


def _check_update(limit: float, output: Any, reference: Any) -> str | None:
    """The first step of SGD with momentum is the gradient times the rate."""
    for position, (parameter, wanted) in enumerate(
        zip(output["parameters"], reference["parameters"], strict=True)
    ):
        wanted = wanted.double().cpu()
        step = LEARNING_RATE * float(reference["gradients"][position].double().norm())
        error = float((parameter.double().cpu() - wanted).norm())
        if not error <= limit * step + 4 * EPS * float(wanted.norm()):
            return (
                f"its parameter {position} of {len(reference['parameters'])} is off by "
                f"{error / step if step else math.inf:.2g} of its step, allowed is {limit:g}"
            )
    return None


def metrics(output: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    """The worst of a training step's watched gradients, as in :func:`check`, and what it saved."""
    gradients: list[Tensor] = [*output["gradients"]]
    errors = [off(g, r) for g, r in zip(gradients, reference["gradients"], strict=True)]
    return {"gradient_error": max(errors), **saved.metrics(output)}
