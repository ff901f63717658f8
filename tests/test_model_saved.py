"""Saved activations: small networks counted by hand, and the column of the training steps."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchbench.contract import Case
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins import models
from benchbench_plugins.models.saved import MIB, Saved, SavedTensors, metrics, note

BATCH, WIDTH, CLASSES = 6, 4, 3
REAL = 4  # bytes


def weighed(network, x, target, loss_of):
    stays = [*network.parameters(), *network.buffers()]
    with SavedTensors(stays, [x, target]) as scale:
        loss = loss_of(network(x), target)
    loss.backward()
    return scale.saved


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def sum_of(output, target):
    return output.sum()


def weights_of(network):
    return sum(p.nbytes for p in network.parameters())


@pytest.mark.parametrize(
    ("middle", "kept"),
    [
        # What the second layer multiplies, and where that is not the activation's own output or
        # input, what the activation's gradient needs beside it.
        (nn.ReLU(), BATCH * WIDTH * REAL),
        (nn.Tanh(), BATCH * WIDTH * REAL),
        (nn.GELU(), 2 * BATCH * WIDTH * REAL),
        (nn.Identity(), BATCH * WIDTH * REAL),
        (nn.Dropout(0.0), BATCH * WIDTH * REAL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_two_layers_by_hand(middle, kept):
    network = nn.Sequential(nn.Linear(5, WIDTH), middle, nn.Linear(WIDTH, CLASSES))
    x, target = numbers(BATCH, 5), numbers(BATCH, CLASSES)
    found = weighed(network, x, target, sum_of)
    assert found.activations == kept
    assert found.inputs == x.nbytes
    assert found.parameters == network[2].weight.nbytes, "the first needs no gradient of x"


def test_the_loss_saves_too():
    network = nn.Linear(5, CLASSES)
    x, target = numbers(BATCH, 5), numbers(BATCH, CLASSES)
    found = weighed(network, x, target, F.mse_loss)
    assert found == Saved(
        activations=BATCH * CLASSES * REAL, inputs=x.nbytes + target.nbytes, parameters=0
    )
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    found = weighed(network, x, classes, F.cross_entropy)
    # The logarithms of the softmax, and the sum of the classes' weights.
    assert found.activations == BATCH * CLASSES * REAL + REAL
    assert found.inputs == x.nbytes + classes.nbytes


def test_a_storage_counts_once_and_whole():
    w = torch.ones(8, requires_grad=True)
    x = numbers(10, 8)
    with SavedTensors([w], [x]) as scale:
        y = x * w  # saves x, but not w: nobody asks for the gradient of x
        loss = (y[:2] * y[2:4]).sum()  # saves two views of y
    loss.backward()
    assert scale.saved == Saved(activations=10 * 8 * REAL, inputs=x.nbytes)


def test_gradients_are_the_same_and_memory_is_let_go():
    network = nn.Sequential(nn.Linear(5, WIDTH), nn.GELU(), nn.Linear(WIDTH, CLASSES))
    x, target = numbers(BATCH, 5), numbers(BATCH, CLASSES)
    F.mse_loss(network(x), target).backward()
    before = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    scale = SavedTensors(network.parameters(), [x, target])
    with scale:
        loss = F.mse_loss(network(x), target)
    assert not scale._storages
    loss.backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(before, network.parameters(), strict=True))


def test_the_figure_stands_with_the_loss():
    loss = torch.tensor(1.0)
    assert metrics({"loss": loss}) == {}
    note(loss, Saved(activations=3 * MIB))
    assert metrics({"loss": loss}) == {"saved_MiB": 3.0}


@pytest.mark.parametrize(("name", "params"), [("mlp", {"batch": 4}), ("autoencoder", {"batch": 4})])
def test_training_steps_have_the_column(name, params):
    workload = next(w for w in models.benchbench_workloads() if w.name == f"models/{name}-train")
    contenders = [
        c
        for c in models.benchbench_implementations()
        if c.workload == workload.name and c.name in ("eager", "swapped")
    ]
    case = Case(workload=workload.name, params={**params, "device": "cpu"}, seed=1)
    results = Runner().benchbench_run_case(case, workload, contenders, BRIEF, 0, lambda *_: None)
    found = {r.contender: r for r in results if r.contender in ("eager", "swapped")}
    assert {r.status for r in found.values()} == {"ok"}, [r.reason for r in results]
    bytes_of = {who: r.metrics["saved_MiB"] * MIB for who, r in found.items()}
    if name == "autoencoder":
        # Three tanh keep their outputs, which are the next layers' inputs; the loss its input.
        assert bytes_of["eager"] == 4 * (32 + 8 + 32 + 64) * REAL
        assert bytes_of["swapped"] == bytes_of["eager"]
    else:
        assert all(value > 0 for value in bytes_of.values())
