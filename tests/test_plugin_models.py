"""Models: every way to run one agrees with float64; a broken torchvision costs its rows only."""

import copy
import importlib
import sys
from dataclasses import replace

import pytest
import stand_ins
import torch

import benchbench as bb
from benchbench_plugins import models
from benchbench_plugins._common import optional
from benchbench_plugins.models import bfloat16, contenders, gan, judge, timm
from benchbench_plugins.models.blocks import CausalBlock, RotaryBlock, rotated
from benchbench_plugins.models.masks import FixedDropout, fix
from benchbench_plugins.models.ways import WAYS, prepared, swap, training_step
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
WIDE = {"alexnet", "alexnet-2012", *LARGE}
"""Most of a training step is the optimizer's, over 60 million parameters and more."""
EVERY = [
    pytest.param(m, id=m.name, marks=[pytest.mark.slow] if m.name in LARGE else []) for m in MODELS
]


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


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(m, id=m.name, marks=[pytest.mark.slow] if m.name in WIDE else [])
        for m in MODELS
    ],
)
def test_every_way_trains_as_float64_does(model):
    params = params_of(model)
    workload = WORKLOADS[model.workload(training=True)]
    inputs = workload.make(params, 1)
    before = copy.deepcopy(inputs.model.state_dict())
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
    with torch.device("meta"):
        network = model.factory()
    swapped = swap(network)
    assert bool(swapped.replaced) == model.swappable
    if model.name in ("vgg16", "alexnet", "squeezenet1-0"):
        assert set(swapped.replaced.values()) == {"ReLU"}
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


def plain(workload):
    """Name of the model."""
    name = workload.split("/")[1]
    for suffix in ("-bf16", "-split", "-train"):
        name = name.removesuffix(suffix)
    return name


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
            elif item.name.removeprefix("swapped-") in ("liger", "quack", "flag-gems"):
                assert "CUDA only" in reason
            elif item.workload in timm.WORKLOADS:
                assert reason is None or "timm" in reason
            elif BY_NAME[plain(item.workload)].needs:
                assert "torchvision::nms does not exist" in reason
            elif "local response norm" in str(reason):
                assert item.workload.endswith("-bf16")
            else:
                assert reason is None
    finally:
        optional.cache_clear()


class Dropping(torch.nn.Module):
    """Dropout in two places, on different shapes."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.early, self.late = torch.nn.Dropout(0.2), torch.nn.Dropout(0.5)
        self.off = torch.nn.Dropout(0.0)
        self.head = torch.nn.Linear(4 * 36, 5)

    def forward(self, x):
        return self.off(self.head(self.late(self.early(self.convolution(x)).flatten(1))))


def test_dropout_drops_the_same_numbers_in_every_step_and_way():
    network = Dropping()
    assert set(fix(network, Dropping, (2, 3, 8, 8), 7)) == {"early", "late"}
    assert network.early.mask.shape == (2, 4, 6, 6) and network.late.mask.shape == (2, 4 * 36)
    assert set(network.early.mask.unique().tolist()) == {0.0, 1.25}
    share = float((network.late.mask == 0).float().mean())
    assert 0.35 < share < 0.65  # 288 numbers
    again, other = Dropping(), Dropping()
    fix(again, Dropping, (2, 3, 8, 8), 7)
    fix(other, Dropping, (2, 3, 8, 8), 8)
    assert torch.equal(again.late.mask, network.late.mask)
    assert not torch.equal(other.late.mask, network.late.mask)
    x = torch.randn(2, 3, 8, 8)
    state = torch.get_rng_state()
    assert torch.equal(network.train()(x), network(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(network.eval().late(x.flatten(1)[:, :144]), x.flatten(1)[:, :144])
    assert type(network.off) is torch.nn.Dropout
    assert "mask" not in str(network.state_dict().keys())


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1-1", "mobilenet-v3-small"])
def test_training_draws_no_random_numbers(name):
    model = BY_NAME[name]
    with torch.device("meta"):
        network = model.factory()
    fix(network, model.factory, (2, 3, 64, 64), 0)
    assert any(isinstance(module, FixedDropout) for module in network.modules())
    state = torch.get_rng_state()
    network.to("meta").train()(torch.empty(2, 3, 64, 64, device="meta"))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(type(m) is torch.nn.Dropout and m.p > 0 for m in network.modules())


LOW = {"mlp", "transformer-block", "llama-block", "lstm", "resnet18", "squeezenet1-1"}


@pytest.mark.parametrize("name", sorted(LOW))
def test_every_way_in_bfloat16_infers_what_float64_does(name):
    model = BY_NAME[name]
    params = params_of(model)
    workload = WORKLOADS[f"models/{name}-bf16"]
    inputs = workload.make(params, 1)
    reference = workload.reference(inputs)
    errors = {}
    for way in bfloat16.WAYS:
        if way.applies(model) and not way.compile:
            item = CONTENDERS[f"{workload.name}:{way.name}"]
            assert item.unavailable(params) is None
            output = item.build(inputs)()
            assert output.dtype == torch.float32
            errors[way.name] = judge.off(output, reference)
    assert errors["float32"] < 1e-4
    assert 1e-4 < errors["autocast"] < 0.1
    for way, error in errors.items():
        assert error < 4 * errors["autocast"], way
    assert all(p.dtype == torch.float32 for p in inputs.model.parameters())


@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_every_way_in_bfloat16_trains_as_float64_does(name):
    model = BY_NAME[name]
    params = params_of(model)
    workload = WORKLOADS[f"models/{name}-train-bf16"]
    inputs = workload.make(params, 1)
    reference = workload.reference(inputs)
    for way in bfloat16.WAYS:
        if way.applies(model, training=True) and not way.compile:
            thunk = CONTENDERS[f"{workload.name}:{way.name}"].build(inputs)
            output = thunk()
            assert workload.check(evidence(inputs, output, reference)) is None
            for _ in range(3):
                output = thunk()
            assert workload.check(evidence(inputs, output, reference, calls=4)) is None
    wrong = {**output, "gradients": tuple(torch.zeros_like(g) for g in output["gradients"])}
    wrong["loss"] = reference["loss"]
    assert "its gradient 0" in workload.check(evidence(inputs, wrong, reference))
    assert f"{workload.name}:converted" not in CONTENDERS


def test_batches_are_swept():
    workload = WORKLOADS["models/resnet18"]
    assert tuple(workload.presets["batches"]["batch"]) == (1, 2, 4, 8, 16, 32, 64)


def test_timm_by_name():
    params = {"model": "mobilenetv3_small_050", "batch": 2, "size": 64, "device": "cpu"}
    item = CONTENDERS["models/timm:eager"]
    reason = item.unavailable(params)
    if reason is not None:
        assert "pip install" in reason and "timm" in reason
        return
    workload = WORKLOADS["models/timm"]
    inputs = workload.make(params, 1)
    reference = workload.reference(inputs)
    for name in ("eager", "channels-last", "swapped"):
        output = CONTENDERS[f"models/timm:{name}"].build(inputs)()
        assert judge.off(output, reference) < 1e-4
    assert workload.work(params).flops > 1e6
    training = WORKLOADS["models/timm-train"]
    inputs = training.make(params, 1)
    reference = training.reference(inputs)
    output = CONTENDERS["models/timm-train:eager"].build(inputs)()
    assert training.check(evidence(inputs, output, reference)) is None
    with pytest.raises(ValueError, match=r"has no model 'resnet19'.*Did you mean"):
        workload.make({**params, "model": "resnet19"}, 1)


class Timm:
    """A stand-in: two networks by name."""

    __version__ = "1.0"

    @staticmethod
    def is_model(name):
        return name in Timm.list_models()

    @staticmethod
    def list_models():
        return ["tiny", "other"]

    @staticmethod
    def create_model(name, pretrained=True, num_classes=1000):
        assert not pretrained
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4 if name == "tiny" else 8, 3, stride=2),
            torch.nn.GELU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4 if name == "tiny" else 8, num_classes),
        )


def test_models_of_timm_are_made_by_name(monkeypatch):
    monkeypatch.setattr(timm, "optional", lambda package: (Timm, ""))
    timm.model_of.cache_clear()
    workload = WORKLOADS["models/timm"]
    for name, width in (("tiny", 4), ("other", 8)):
        params = {"model": name, "batch": 2, "size": 16, "device": "cpu"}
        inputs = workload.make(params, 1)
        assert inputs.model[0].out_channels == width
        reference = workload.reference(inputs)
        output = CONTENDERS["models/timm:swapped"].build(inputs)()
        assert judge.off(output, reference) < 1e-4
        assert workload.work(params).flops > 0
    with pytest.raises(ValueError, match=r"timm 1.0 has no model 'tinny'.*tiny"):
        workload.make({**params, "model": "tinny"}, 1)
    timm.model_of.cache_clear()


@pytest.mark.parametrize(
    ("model", "name", "replaced"),
    [
        ("mlp", "by-hand", {"1", "2", "4", "5"}),
        ("transformer-block", "by-hand", {"norm1", "norm2", "inner.1"}),
        ("llama-block", "by-hand", {"norm1", "norm2"}),
        ("mlp", "compiled", {"1", "2", "4", "5"}),
        ("llama-block", "liger", {"norm1", "norm2"}),
    ],
)
def test_norms_and_activations_by_another_contender(model, name, replaced, monkeypatch):
    for module_name, module in stand_ins.liger().items():
        monkeypatch.setitem(sys.modules, module_name, module)
    optional.cache_clear()
    network = BY_NAME[model].factory()
    before = [id(parameter) for parameter in network.parameters()]
    swapped = contenders.swap(network, name, backward=False)
    assert set(swapped.replaced) == replaced
    assert [id(parameter) for parameter in network.parameters()] == before
    optional.cache_clear()


def test_swapped_by_hand_infers_and_trains_as_float64_does():
    model = BY_NAME["mlp"]
    params = params_of(model)
    for training in (False, True):
        workload = WORKLOADS[model.workload(training=training)]
        inputs = workload.make(params, 1)
        reference = workload.reference(inputs)
        item = CONTENDERS[f"{workload.name}:swapped-by-hand"]
        assert item.unavailable(params) is None
        output = item.build(inputs)()
        if training:
            assert workload.check(evidence(inputs, output, reference)) is None
        else:
            assert judge.off(output, reference) < 1e-5
    reason = CONTENDERS["models/llama-block:swapped-liger"].unavailable(params)
    assert "normalizations/rms_norm:liger: " in reason and "CUDA only" in reason


def test_a_contender_that_is_no_function_is_refused():
    item = bb.Implementation(workload="a/b", name="c", build=lambda inputs: lambda: 1)
    with pytest.raises(TypeError, match="a/b:c is no function of the inputs alone"):
        contenders.function_of(item, backward=False)


def test_no_row_where_nothing_would_be_replaced():
    names = {item.name for item in CONTENDERS.values() if item.workload == "models/autoencoder"}
    assert "swapped-compiled" in names and "swapped-flag-gems" in names
    assert "swapped-liger" not in names and "swapped-quack" not in names
