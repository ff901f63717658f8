"""Models: every way to run one agrees with float64; a broken torchvision costs its rows only."""

import copy

import pytest
import torch
from model_trials import BY_NAME, CONTENDERS, WORKLOADS, evidence, params_of

from benchbench_plugins.models import gan, judge, timm
from benchbench_plugins.models.ways import WAYS, prepared, swap, training_step
from benchbench_plugins.models.zoo import MODELS, make

LARGE = {"vgg16", "vgg19"}
"""Random weights alone take seconds."""
WIDE = {"alexnet", "alexnet-2012", *LARGE}
"""Most of a training step is the optimizer's, over 60 million parameters and more."""
EVERY = [
    pytest.param(m, id=m.name, marks=[pytest.mark.slow] if m.name in LARGE else []) for m in MODELS
]

pytestmark = pytest.mark.usefixtures("one_thread")


def ways_of(model):
    return [way for way in WAYS if way.applies(model) and not way.compile]


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


def plain(workload):
    """Name of the model."""
    name = workload.split("/")[1]
    for suffix in ("-bf16", "-split", "-train"):
        name = name.removesuffix(suffix)
    return name


def test_a_broken_torchvision_costs_its_own_rows_only(fail_import):
    fail_import("torchvision", error=RuntimeError("operator torchvision::nms does not exist"))
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
