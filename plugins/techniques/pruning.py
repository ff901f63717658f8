"""Pruning by magnitude: does the sparse network train as well, and is it any faster?

``techniques/lottery-ticket`` follows Frankle and Carbin (The lottery ticket hypothesis, ICLR 2019):
train, keep the largest weights of each layer, rewind them to their initial values, train again. The
same sparse structure with other initial weights, and another structure with the same ones, are the
controls. What it takes to find the ticket is not in the time; it is one dense training.

``techniques/pruned-inference`` runs a pruned network in the ways that its users hope are faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins.techniques.training import (
    claims,
    make,
    network,
    quietly,
    runs,
    train,
    unavailable,
)

TICKET = "techniques/lottery-ticket"
INFERENCE = "techniques/pruned-inference"
WIDTHS = (300, 100)
EPOCHS = 12
Masks = list[Tensor]


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    """The matrices; biases are never pruned."""
    return [parameter for parameter in model.parameters() if parameter.dim() == 2]


def largest(model: nn.Module, share: float) -> Masks:
    """Of each matrix the largest ``share`` of the weights, of the last one twice as many.

    The paper prunes the output layer at half of the rate, since it is small.
    """
    masks = []
    matrices = weights_of(model)
    for number, weight in enumerate(matrices):
        kept = min(1.0, share * (2 if number + 1 == len(matrices) else 1))
        count = max(1, round(kept * weight.numel()))
        order = weight.detach().abs().flatten().argsort(descending=True)
        mask = torch.zeros(weight.numel(), dtype=torch.bool)
        mask[order[:count]] = True
        masks.append(mask.view_as(weight))
    return masks


def shuffled(masks: Masks, seed: int) -> Masks:
    """Masks with as many ones at random places."""
    rng = torch.Generator().manual_seed(seed)
    return [
        mask.flatten()[torch.randperm(mask.numel(), generator=rng)].view_as(mask) for mask in masks
    ]


def apply(model: nn.Module, masks: Masks) -> None:
    """Set what is pruned to zero."""
    with torch.no_grad():
        for weight, mask in zip(weights_of(model), masks, strict=True):
            weight.mul_(mask)


@lru_cache(maxsize=64)
def _found(seed: int, share: float) -> tuple[nn.Module, Masks]:
    """A trained dense network of the seed, and the masks that its weights give."""
    data = make({"seeds": 1}, 0)
    with quietly():
        model = network(seed, *WIDTHS)
        train(model, data.train_x, data.train_y, seed=seed, epochs=EPOCHS)
    return model, largest(model, share)


Start = Callable[[int, float], tuple[nn.Module, Masks | None]]


def _dense(seed: int, share: float) -> tuple[nn.Module, None]:
    return network(seed, *WIDTHS), None


def _ticket(seed: int, share: float) -> tuple[nn.Module, Masks]:
    return network(seed, *WIDTHS), _found(seed, share)[1]


def _reinitialised(seed: int, share: float) -> tuple[nn.Module, Masks]:
    return network(seed + 500, *WIDTHS), _found(seed, share)[1]


def _elsewhere(seed: int, share: float) -> tuple[nn.Module, Masks]:
    return network(seed, *WIDTHS), shuffled(_found(seed, share)[1], seed)


def _builder(start: Start) -> Callable[[Any], bb.Thunk]:
    def build(inputs: Any) -> bb.Thunk:
        for seed in inputs.seeds:
            start(seed, inputs.share)  # finds the tickets ahead

        def one(seed: int) -> nn.Module:
            model, masks = start(seed, inputs.share)
            if masks is None:
                train(model, inputs.train_x, inputs.train_y, seed=seed, epochs=EPOCHS)
                return model
            apply(model, masks)
            train(
                model,
                inputs.train_x,
                inputs.train_y,
                seed=seed,
                epochs=EPOCHS,
                after_step=lambda: apply(model, masks),
            )
            return model

        return lambda: runs(inputs, one)

    return build


def make_ticket(params: bb.Params, seed: int) -> bb.Inputs:
    """The digits, the seeds, and the share of weights that is kept."""
    inputs = make(params, seed)
    return bb.Inputs({**inputs, "share": _share(params)})


def _share(params: bb.Params) -> float:
    percent = params["percent"]
    assert isinstance(percent, int)
    return percent / 100


def metrics(output: Mapping[str, Tensor], reference: Any) -> dict[str, float]:
    """Mean accuracy on the test rows, and the share of weights that are not zero."""
    return {
        "accuracy": float(output["accuracy"].mean()),
        "kept": float((output["weights"] != 0).double().mean()),
    }


def make_pruned(params: bb.Params, seed: int) -> bb.Inputs:
    """Test rows, repeated to the batch, and a trained network, pruned and trained further."""
    share = _share(params)
    data = make({"seeds": 1}, seed)
    trained, masks = _found(1000 * seed, share)
    with quietly():
        model = network(0, *WIDTHS)
        model.load_state_dict(trained.state_dict())
        apply(model, masks)
        train(
            model,
            data.train_x,
            data.train_y,
            seed=seed,
            epochs=2,
            rate=0.02,
            after_step=lambda: apply(model, masks),
        )
    batch = params["batch"]
    assert isinstance(batch, int)
    x = data.test_x.repeat(-(-batch // len(data.test_x)), 1)[:batch]
    named = {
        f"{name}{number}": value.detach().clone()
        for number, layer in enumerate(m for m in model if isinstance(m, nn.Linear))
        for name, value in (("w", layer.weight), ("b", layer.bias))
    }
    return bb.Inputs({"x": x.clone(), **named})


def _layers(inputs: Any) -> list[tuple[Tensor, Tensor]]:
    return [(getattr(inputs, f"w{i}"), getattr(inputs, f"b{i}")) for i in range(len(WIDTHS) + 1)]


def forward(x: Tensor, layers: list[tuple[Any, Tensor]]) -> Tensor:
    """Logits of an MLP whose matrices may be sparse."""
    for number, (weight, bias) in enumerate(layers):
        # A sparse matrix stands on the left only.
        x = (weight @ x.T).T + bias if weight.is_sparse_csr else torch.addmm(bias, x, weight.T)
        if number + 1 < len(layers):
            x = x.relu()
    return x


def _as_dense(inputs: Any) -> bb.Thunk:
    layers = _layers(inputs)
    return lambda: forward(inputs.x, layers)


def _as_csr(inputs: Any) -> bb.Thunk:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its API may change
        layers = [(weight.to_sparse_csr(), bias) for weight, bias in _layers(inputs)]
    return lambda: forward(inputs.x, layers)


def compacted(layers: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Without neurons that nothing comes into or that nothing is done with.

    Returns:
        Which inputs are used, and the layers. A neuron without inputs is a constant, which goes
        into the next layer's bias.
    """
    found = [(weight.clone(), bias.clone()) for weight, bias in layers]
    for number in range(len(found) - 1):
        (weight, bias), (later, later_bias) = found[number], found[number + 1]
        fixed = (weight == 0).all(1)
        later_bias += later[:, fixed] @ bias[fixed].relu()
        later[:, fixed] = 0
        used = (later != 0).any(0)
        found[number] = (weight[used], bias[used])
        found[number + 1] = (later[:, used], later_bias)
    inputs = (found[0][0] != 0).any(0)
    found[0] = (found[0][0][:, inputs].contiguous(), found[0][1])
    return inputs.nonzero().squeeze(1), [(w.contiguous(), b) for w, b in found]


def _as_compact(inputs: Any) -> bb.Thunk:
    used, layers = compacted(_layers(inputs))
    return lambda: forward(inputs.x.index_select(1, used), layers)


def workloads() -> Iterator[bb.Workload]:
    """Training a ticket, and running a pruned network."""
    yield bb.Workload(
        name=TICKET,
        doc="Train a pruned network on digits from initial weights; percent of weights kept.",
        axes={"percent": (5, 2, 20), "seeds": (3, 7)},
        presets={
            "quick": [],
            "standard": {"percent": (5,), "seeds": (3,)},
            "full": {"percent": (20, 5, 2), "seeds": (7,)},
        },
        make=make_ticket,
        check=lambda evidence: claims(lambda: network(0, *WIDTHS), evidence),
        metrics=metrics,
        work=lambda params: bb.Work(items=float(params["seeds"]), item="run"),  # type: ignore[arg-type]
        baseline="dense",
    )
    yield bb.Workload(
        name=INFERENCE,
        doc="Logits of a network of which percent of the weights were kept.",
        axes={"percent": (5, 20), "batch": (360, 1, 4096)},
        presets={
            "quick": [{"percent": (5,), "batch": (360,)}],
            "standard": {"percent": (5, 20), "batch": (1, 4096)},
        },
        make=make_pruned,
        reference=lambda inputs: forward(inputs.double().x, _layers(inputs.double())),
        baseline="dense",
        tolerance=bb.Tolerance(factor=10, units=64),
    )


def implementations() -> Iterator[bb.Implementation]:
    """What is trained, and how a pruned network is run."""
    for name, start, doc in (
        ("dense", _dense, "Nothing pruned."),
        ("ticket", _ticket, "The largest trained weights, rewound to their initial values."),
        ("reinitialised", _reinitialised, "The ticket's structure with other initial weights."),
        ("elsewhere", _elsewhere, "As many weights at random places, with the initial values."),
    ):
        yield bb.Implementation(
            workload=TICKET, name=name, build=_builder(start), unavailable=unavailable, doc=doc
        )
    for name, build, doc in (
        ("dense", _as_dense, "Zeros are multiplied like any number."),
        ("csr", _as_csr, "torch's compressed sparse rows."),
        ("compact", _as_compact, "Neurons that are cut off left out, the rest dense."),
    ):
        yield bb.Implementation(
            workload=INFERENCE, name=name, build=build, unavailable=unavailable, doc=doc
        )
