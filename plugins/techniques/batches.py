"""Batch size: time of equal epochs, with the loss reached and how sharp its minimum is.

Sharpness is the largest eigenvalue of the Hessian of the training loss, by power iteration on
Hessian-vector products (Pearlmutter 1994). Keskar et al. (On large-batch training for deep
learning, ICLR 2017) found large batches to end in sharper minima; here both figures stand side by
side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins.techniques.training import (
    claims,
    load_state,
    make,
    network,
    quietly,
    runs,
    train,
    unavailable,
)

NAME = "techniques/batch-size"
SIZES = (16, 64, 256, 1437)
EPOCHS = 15
WIDTH = 64
ITERATIONS = 20


def _model() -> nn.Module:
    return network(0, WIDTH)


def sharpness(model: nn.Module, x: Tensor, y: Tensor, iterations: int = ITERATIONS) -> float:
    """Largest eigenvalue of the Hessian of the mean cross entropy over (x, y)."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), parameters, create_graph=True)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    vector = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0), dtype=flat.dtype)
    found = 0.0
    for _ in range(iterations):
        vector = vector / vector.norm()
        product = torch.autograd.grad(flat @ vector, parameters, retain_graph=True)
        image = torch.cat([part.reshape(-1) for part in product])
        found = float(vector @ image)
        vector = image
    return found


def metrics(output: Mapping[str, Tensor], inputs: Any) -> dict[str, float]:
    """Mean accuracy on test rows, loss on training rows, and sharpness there, over the seeds."""
    losses, curvatures = [], []
    model = _model()
    with quietly():
        for weights in output["weights"]:
            load_state(model, weights)
            with torch.no_grad():
                losses.append(float(F.cross_entropy(model(inputs.train_x), inputs.train_y)))
            curvatures.append(sharpness(model, inputs.train_x, inputs.train_y))
    return {
        "accuracy": float(output["accuracy"].mean()),
        "train_loss": sum(losses) / len(losses),
        "sharpness": sum(curvatures) / len(curvatures),
    }


def _builder(size: int) -> Callable[[Any], bb.Thunk]:
    rate = 0.05 * (size / 64) ** 0.5

    def build(inputs: Any) -> bb.Thunk:
        def one(seed: int) -> nn.Module:
            model = network(seed, WIDTH)
            train(
                model,
                inputs.train_x,
                inputs.train_y,
                seed=seed,
                epochs=EPOCHS,
                batch=size,
                rate=rate,
            )
            return model

        return lambda: runs(inputs, one)

    return build


def workloads() -> Iterator[bb.Workload]:
    """Equal epochs at each size."""
    yield bb.Workload(
        name=NAME,
        doc=f"Train an MLP on digits for {EPOCHS} epochs; the learning rate grows with the root of "
        "the batch.",
        axes={"seeds": (2, 7)},
        presets={"quick": [], "standard": {"seeds": (2,)}, "full": {"seeds": (7,)}},
        make=make,
        reference=lambda inputs: inputs,
        tolerance=None,
        check=lambda evidence: claims(_model, evidence),
        metrics=metrics,
        work=lambda params: bb.Work(items=float(params["seeds"]), item="run"),  # type: ignore[arg-type]
        baseline="batch-64",
    )


def implementations() -> Iterator[bb.Implementation]:
    """One for each size; the largest is all training rows."""
    for size in SIZES:
        yield bb.Implementation(
            workload=NAME,
            name=f"batch-{size}",
            build=_builder(size),
            unavailable=unavailable,
            doc=f"Steps of {size} rows.",
        )
