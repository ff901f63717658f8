"""Models: every way to run one agrees with float64; a broken torchvision costs its rows only."""

import copy
import importlib
from dataclasses import replace

import pytest
import torch

import benchbench as bb
from benchbench_plugins import models
from benchbench_plugins._common import optional
from benchbench_plugins.models import gan, judge
from benchbench_plugins.models.blocks import CausalBlock, RotaryBlock, rotated
from benchbench_plugins.models.ways import WAYS, prepared, training_step
from benchbench_plugins.models.zoo import MODELS, count_parameters, make

WORKLOADS = {w.name: w for w in models.benchbench_workloads()}
CONTENDERS = {item.id: item for item in models.benchbench_implementations()}
BY_NAME = {model.name: model for model in MODELS}
SMALL = {
    "linear-regression": {"batch": 16},
    "logistic-regression": {"batch": 16},
    "mlp": {"batch": 4},
    "lstm": {"batch": 2},
    "transformer-block": {"batch": 1},
    "alexnet-2012": {"batch": 1, "size": 224},
    "resnet18": {"batch": 2, "size": 64},
    "gpt2-block": {"batch": 1, "tokens": 16},
    "llama-block": {"batch": 1, "tokens": 16},
    "autoencoder": {"batch": 4},
    "gru": {"batch": 2},
    "rnn": {"batch": 2},
}
LARGE = {"vgg16", "vgg19"}
"""Random weights alone take seconds."""
EVERY = [
    pytest.param(m, id=m.name, marks=[pytest.mark.slow] if m.name in LARGE else []) for m in MODELS
]
TRAINABLE = [model for model in MODELS if model.trainable]


@pytest.fixture(autouse=True)
def one_thread():
    """Small layers on two threads wait for each other for seconds when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def params_of(model):
    return {**SMALL.get(model.name, {"batch": 2, "size": 64}), "device": "cpu"}


def ways_of(model, *, compiled=False):
    return [way for way in WAYS if way.applies(model) and way.compile == compiled]


def evidence(inputs, output, reference, calls=1):
    return bb.Evidence(output=output, inputs=inputs, params={}, calls=calls, reference=reference)


@pytest.mark.parametrize("model", EVERY)
def test_every_way_infers_what_float64_does(model):
    params = params_of(model)
    inputs = make(model, params, 1)
    before = copy.deepcopy(inputs.model.state_dict())
    workload = WORKLOADS[model.workload(training=False)]
    reference = workload.reference(inputs)
    for way in ways_of(model):
        item = CONTENDERS[f"{workload.name}:{way.name}"]
        assert item.unavailable(params) is None
        output = item.build(inputs)()
        torch.testing.assert_close(output, reference.float(), rtol=1e-4, atol=5e-5)
    after = inputs.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.is_contiguous() for parameter in inputs.model.parameters())


@pytest.mark.parametrize("model", TRAINABLE, ids=lambda m: m.name)
def test_every_way_trains_as_float64_does(model):
    params = params_of(model)
    inputs = make(model, params, 1)
    before = copy.deepcopy(inputs.model.state_dict())
    workload = WORKLOADS[model.workload(training=True)]
    reference = workload.reference(inputs)
    for way in ways_of(model):
        thunk = CONTENDERS[f"{workload.name}:{way.name}"].build(inputs)
        output = thunk()
        assert workload.check(evidence(inputs, output, reference)) is None
        if not model.kinked:
            for part in ("gradients", "parameters"):
                for got, wanted in zip(output[part], reference[part], strict=True):
                    assert judge.off(got, wanted) < 1e-5
        for _ in range(5):
            output = thunk()
        assert workload.check(evidence(inputs, output, reference, calls=6)) is None
    after = inputs.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_compiled_mlp_agrees(training):
    model = BY_NAME["mlp"]
    inputs = make(model, params_of(model), 1)
    workload = WORKLOADS[model.workload(training=training)]
    reference = workload.reference(inputs)
    output = CONTENDERS[f"{workload.name}:compiled"].build(inputs)()
    if training:
        assert workload.check(evidence(inputs, output, reference)) is None
    else:
        torch.testing.assert_close(output, reference.float())


@pytest.fixture
def step():
    """A right training step of the MLP, with its reference."""
    model = BY_NAME["mlp"]
    inputs = make(model, params_of(model), 1)
    reference = WORKLOADS["models/mlp-train"].reference(inputs)
    network = copy.deepcopy(inputs.model).train()
    return inputs, training_step(model, network, inputs), reference


@pytest.mark.parametrize("kinked", [False, True])
@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("loss", lambda loss: loss * 1.001, "its loss is"),
        ("gradients", lambda parts: tuple(p * 1.2 for p in parts), "its gradient 0"),
        ("gradients", lambda parts: (*parts[:-1], torch.zeros_like(parts[-1])), "its gradient 2"),
        ("gradients", lambda parts: tuple(p * torch.nan for p in parts), "its gradient 0"),
    ],
)
def test_a_wrong_step_is_found(step, kinked, part, change, reason):
    inputs, thunk, reference = step
    output = thunk()
    wrong = {**output, part: change(output[part])}
    assert judge.check(kinked, evidence(inputs, output, reference)) is None
    assert reason in judge.check(kinked, evidence(inputs, wrong, reference))


@pytest.mark.parametrize("kinked", [False, True])
def test_a_step_that_is_not_made_is_found(step, kinked):
    inputs, thunk, reference = step
    output = thunk()
    unmoved = tuple(
        p + judge.LEARNING_RATE * g
        for p, g in zip(output["parameters"], output["gradients"], strict=True)
    )
    lazy = {**output, "parameters": unmoved}
    assert "its parameter 0" in judge.check(kinked, evidence(inputs, lazy, reference))
    late = judge.check(kinked, evidence(inputs, output, reference, calls=100))
    assert "not below the first one" in late


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


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_models_that_have_something_to_swap_are_swapped(model):
    from benchbench import fused

    with torch.device("meta"):
        network = model.factory()
    swapped = fused.swap(network)
    assert bool(swapped.replaced) == model.swappable
    names = {item.name for item in CONTENDERS.values() if item.workload == f"models/{model.name}"}
    assert ("swapped" in names) == model.swappable


def test_swapping_is_end_to_end():
    from benchbench.fused import modules

    model = BY_NAME["transformer-block"]
    inputs = make(model, params_of(model), 0)
    swapped = prepared(next(w for w in WAYS if w.name == "swapped"), inputs, False)
    kinds = {type(module) for module in swapped.modules()}
    assert modules.LayerNorm in kinds
    assert modules.GELU in kinds
    assert torch.nn.LayerNorm not in kinds
    assert torch.nn.GELU not in kinds
    assert all(type(m) is not modules.LayerNorm for m in inputs.model.modules())


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_weights_are_shared_for_inference_and_copied_for_training(training):
    model = BY_NAME["mlp"]
    inputs = make(model, params_of(model), 0)
    network = prepared(WAYS[0], inputs, training)
    pairs = zip(network.parameters(), inputs.model.parameters(), strict=True)
    assert all((own is theirs) != training for own, theirs in pairs)


def test_norms_have_something_to_do():
    model = BY_NAME["resnet18"]
    inputs = make(model, params_of(model), 0)
    fresh = replace(model).factory().bn1
    assert not torch.equal(inputs.model.bn1.running_var, fresh.running_var)
    assert not torch.equal(inputs.model.bn1.weight, fresh.weight)


def test_a_broken_torchvision_costs_its_own_rows_only(monkeypatch):
    real = importlib.import_module

    def broken(name, *arguments):
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", broken)
    optional.cache_clear()
    try:
        for item in CONTENDERS.values():
            reason = item.unavailable({"batch": 2, "size": 64, "device": "cpu"})
            if item.workload == gan.WORKLOAD:
                assert reason is None
            elif BY_NAME[item.workload.split("/")[1].removesuffix("-train")].needs:
                assert "torchvision::nms does not exist" in reason
            else:
                assert reason is None
    finally:
        optional.cache_clear()
