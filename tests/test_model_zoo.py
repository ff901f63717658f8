"""The zoo: published sizes and costs, and blocks that are what they say."""

import pytest
import torch
from model_trials import BY_NAME, WORKLOADS, params_of

from benchbench_plugins.models.blocks import CausalBlock, RotaryBlock, rotated
from benchbench_plugins.models.zoo import count_parameters, make

pytestmark = pytest.mark.usefixtures("one_thread")


def test_published_parameter_counts():
    assert count_parameters(BY_NAME["alexnet-2012"].factory) == 60_965_224
    assert count_parameters(BY_NAME["resnet18"].factory) == 11_689_512
    metrics = WORKLOADS["models/alexnet-2012"].metrics(None, None)
    assert metrics == {"Mparameters": 60.965224}


def test_published_costs():
    resnet = BY_NAME["resnet18"]
    work = resnet.work({"batch": 1, "size": 224}, False)
    assert work.flops == pytest.approx(3.628e9, rel=2e-4)
    assert resnet.work({"batch": 2, "size": 224}, False).flops == 2 * work.flops
    # Backward costs twice the forward pass, but nobody needs the gradient of the image.
    first = 2 * 64 * 3 * 7 * 7 * 112 * 112
    training = resnet.work({"batch": 1, "size": 224}, True).flops
    assert training == pytest.approx(3 * work.flops - first, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("linear-regression", 2 * 64),
        ("logistic-regression", 2 * 64 * 10),
        ("mlp", 2 * (784 * 512 + 512 * 512 + 512 * 10)),
        ("lstm", 2 * (64 * 4 * 256 * 512 + 256 * 10)),
        ("gru", 2 * (64 * 3 * 256 * 512 + 256 * 10)),
        ("rnn", 2 * (64 * 256 * 512 + 256 * 10)),
        ("autoencoder", 2 * 2 * (64 * 32 + 32 * 8)),
        (
            "transformer-block",
            2 * (128 * 768 * (4 * 768 + 2 * 3072) + 2 * 128 * 128 * 768 + 768 * 10),
        ),
    ],
)
def test_costs_are_those_of_the_formula(name, flops):
    assert BY_NAME[name].work({"batch": 3}, False).flops == 3 * flops


@pytest.mark.parametrize(
    ("name", "dense", "width"),
    [
        ("gpt2-block", 768 * (4 * 768 + 2 * 3072), 768),
        ("llama-block", 1024 * (4 * 1024 + 3 * 2816), 1024),
    ],
)
def test_costs_of_causal_blocks(name, dense, width):
    # Products of all pairs of tokens are counted; the causal half is what a kernel may save.
    tokens = 64
    flops = BY_NAME[name].work({"batch": 1, "tokens": tokens}, False).flops
    assert flops == 2 * (tokens * dense + 2 * tokens * tokens * width + width * 10)


def test_rotary_products_depend_on_the_distance_alone():
    q, k = (torch.randn(1, 16, dtype=torch.float64).expand(9, 16) for _ in range(2))
    products = rotated(q) @ rotated(k).T
    for distance in range(-8, 9):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert not torch.allclose(products[0, 0], products[0, 1])
    torch.testing.assert_close(rotated(q).norm(dim=-1), q.norm(dim=-1))


def test_causal_blocks_do_not_look_ahead():
    for block in (CausalBlock(), RotaryBlock()):
        x = torch.randn(1, 8, block.out.weight.shape[0])
        changed = x.clone()
        changed[:, 5:] = 0
        with torch.no_grad():
            one, other = block.tokens(x), block.tokens(changed)
        torch.testing.assert_close(one[:, :5], other[:, :5])
        assert not torch.allclose(one[:, 5:], other[:, 5:])


def test_an_autoencoder_learns_its_input():
    inputs = make(BY_NAME["autoencoder"], {"batch": 4, "device": "cpu"}, 0)
    assert torch.equal(inputs.x, inputs.target)
    assert inputs.x is not inputs.target


def test_norms_have_something_to_do():
    model = BY_NAME["resnet18"]
    inputs = make(model, params_of(model), 0)
    fresh = model.factory().bn1
    assert not torch.equal(inputs.model.bn1.running_var, fresh.running_var)
    assert not torch.equal(inputs.model.bn1.weight, fresh.weight)


def test_batches_are_swept():
    workload = WORKLOADS["models/resnet18"]
    assert tuple(workload.presets["batches"]["batch"]) == (1, 2, 4, 8, 16, 32, 64)
