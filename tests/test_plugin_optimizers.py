"""Optimizers: known parameter counts, every way equal to float64, skipped steps caught, races."""

import inspect
import math

import optimizer_formulas as formulas
import pytest
import torch

import benchbench as bb
from benchbench_plugins.optimizers import step
from benchbench_plugins.optimizers.algorithms import ALGORITHMS, PLAIN
from benchbench_plugins.optimizers.shapes import NAMES, parameter_list

CONTENDERS = {item.id: item for item in step.implementations()}


@pytest.mark.parametrize(
    ("name", "tensors", "numbers"),
    [
        ("resnet50", 161, 25_557_032),
        ("resnet18", 62, 11_689_512),
        ("one-64M", 1, 1 << 26),
        ("1000x1k", 1000, 1_024_000),
    ],
)
def test_parameter_lists_have_the_published_sizes(name, tensors, numbers):
    shapes = parameter_list(name)
    assert len(shapes) == tensors
    assert sum(math.prod(shape) for shape in shapes) == numbers


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_formula_gives_torchvisions_shapes(name):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = getattr(models, name)(weights=None)
    assert parameter_list(name) == [tuple(p.shape) for p in model.parameters()]


def test_an_unknown_list_names_those_there_are():
    with pytest.raises(ValueError, match="1000x1k"):
        parameter_list("resnet99")
    assert len(NAMES) == 4


SMALL = [(3, 5), (700,), (1,), (2, 2, 2)]
BY_NAME = {algorithm.name: algorithm for algorithm in ALGORITHMS}
EVERY = [(a, switch) for a in ALGORITHMS for switch in (PLAIN, *a.switches)]
every_switch = pytest.mark.parametrize(
    ("algorithm", "switch"), EVERY, ids=[f"{a.name}-{switch}" for a, switch in EVERY]
)
WITHOUT_FUSED = {"rmsprop", "adadelta", "adamax", "nadam", "radam", "rprop", "asgd"}


@pytest.fixture
def made(monkeypatch):
    """Makes small inputs of an algorithm."""
    monkeypatch.setattr(step, "parameter_list", lambda name: SMALL)

    def make(algorithm, switch=PLAIN):
        params = {"parameters": "small", "switch": switch, "device": "cpu"}
        return step.make(algorithm, params, 3)

    return make


def reason_for(algorithm, way, switch=PLAIN, device="cpu"):
    item = CONTENDERS[f"{algorithm.workload}:{way}"]
    return item.unavailable({"device": device, "switch": switch})


def evidence_of(output, inputs, calls):
    return bb.Evidence(output=output, inputs=inputs, params={}, calls=calls)


@every_switch
@pytest.mark.parametrize("way", ["for-loop", "foreach", "fused"])
def test_every_way_equals_float64_after_ten_steps(algorithm, switch, way, made):
    inputs = made(algorithm, switch)
    if reason_for(algorithm, way, switch) is not None:
        assert way != "for-loop"
        assert algorithm.name in ({"nesterov"} if way == "foreach" else WITHOUT_FUSED)
        return
    before = [g.clone() for gradients in inputs.turns for g in gradients]
    thunk = CONTENDERS[f"{algorithm.workload}:{way}"].build(inputs)
    for _ in range(step.STEPS):
        output = thunk()
    for got, wanted in zip(output, step.replay(algorithm, inputs, step.STEPS), strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6)
    after = [g for gradients in inputs.turns for g in gradients]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert step.check(algorithm, evidence_of(output, inputs, step.STEPS)) is None


@every_switch
def test_the_reference_is_the_published_formula(algorithm, switch, made):
    inputs = made(algorithm, switch)
    start = torch.cat(step.watched(inputs.parameters)).double()
    turns = [torch.cat(step.watched(gradients)).double() for gradients in inputs.turns]
    wanted = formulas.run(algorithm.make, inputs.options, start, turns, steps=12)
    torch.testing.assert_close(torch.cat(step.replay(algorithm, inputs, 12)), wanted)


@pytest.mark.parametrize(
    ("algorithm", "switch"),
    [pytest.param(a, s, id=f"{a.name}-{s}") for a, s in EVERY if s != PLAIN],
)
def test_a_switch_that_is_ignored_is_noticed(algorithm, switch, made):
    inputs = made(algorithm, switch)
    ignoring = bb.Inputs({**inputs, "options": algorithm.options(PLAIN)})
    thunk = step.thunk(algorithm, {"foreach": False}, ignoring)
    for _ in range(step.STEPS):
        output = thunk()
    assert "not every call made the step" in step.check(
        algorithm, evidence_of(output, inputs, step.STEPS)
    )


def test_every_elementwise_optimizer_of_torch_is_there():
    others = {"Adafactor", "LBFGS", "Muon", "Optimizer", "SparseAdam"}
    known = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    assert {algorithm.make.__name__ for algorithm in ALGORITHMS} == known - others


def test_every_switch_of_torch_is_a_switch_or_a_setting_here():
    # What only changes how a step is computed, or is a number that scales it.
    elsewhere = {"params", "lr", "betas", "eps", "foreach", "fused", "capturable"}
    tuning = {"alpha", "rho", "etas", "step_sizes", "t0", "lambd", "momentum"}
    left_out = {"differentiable"}  # docs/components.md says why
    for make in {algorithm.make for algorithm in ALGORITHMS}:
        used = {
            option
            for algorithm, switch in EVERY
            if algorithm.make is make
            for option in algorithm.options(switch)
        }
        options = set(inspect.signature(make).parameters)
        assert options - used <= elsewhere | tuning | left_out, make


def test_an_unknown_switch_names_those_there_are():
    with pytest.raises(ValueError, match="none, amsgrad, weight-decay"):
        BY_NAME["adam"].switch("nesterov")


def test_reasons_name_what_torch_lacks():
    assert "RMSprop has no option 'fused'" in reason_for(BY_NAME["rmsprop"], "fused")
    assert "SGD has no option 'capturable'" in reason_for(BY_NAME["sgd"], "capturable")
    assert "CUDA graph" in reason_for(BY_NAME["adam"], "capturable")
    if not torch.cuda.is_available():
        assert "no CUDA device" in reason_for(BY_NAME["adam"], "capturable", device="cuda")


def test_torch_really_refuses_a_capturable_step_on_the_cpu(made):
    algorithm = BY_NAME["adam"]
    thunk = step.thunk(algorithm, step.WAYS["capturable"], made(algorithm))
    with pytest.raises((AssertionError, RuntimeError), match="capturable"):
        thunk()


def test_numbers_of_every_tensor_are_watched_up_to_the_last():
    tensors = [torch.arange(math.prod(shape)) for shape in parameter_list("resnet18")]
    views = step.watched(tensors)
    assert len(views) == len(tensors)
    for tensor, view in zip(tensors, views, strict=True):
        assert view[-1] == tensor[-1]
        assert min(tensor.numel(), step.WATCHED) <= len(view) <= 2 * step.WATCHED
        assert view[0] < tensor.numel() / step.WATCHED + 1
        assert view.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()


def test_a_step_that_leaves_one_tensor_out_is_noticed(made):
    algorithm = BY_NAME["sgd"]
    inputs = made(algorithm)
    parameters = [p.clone() for p in inputs.parameters]
    for parameter, gradient in list(zip(parameters, inputs.turns[0], strict=True))[:-1]:
        parameter.sub_(gradient, alpha=algorithm.settings["lr"])
    output = tuple(step.watched(parameters))
    assert "not every call made the step" in step.check(algorithm, evidence_of(output, inputs, 1))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
@pytest.mark.parametrize("skipped", [1, 25])
def test_a_skipped_step_is_noticed(algorithm, skipped, made):
    inputs = made(algorithm)
    thunk = CONTENDERS[f"{algorithm.workload}:for-loop"].build(inputs)
    for _ in range(50 - skipped):
        output = thunk()
    assert "not every call made the step" in step.check(algorithm, evidence_of(output, inputs, 50))


@every_switch
def test_hundreds_of_steps_stay_within_what_rounding_allows(algorithm, switch, made):
    # Timed samples make many more steps than the check: they must not be called wrong.
    inputs = made(algorithm, switch)
    thunk = CONTENDERS[f"{algorithm.workload}:for-loop"].build(inputs)
    for _ in range(300):
        output = thunk()
    assert step.check(algorithm, evidence_of(output, inputs, 300)) is None


def test_torchs_foreach_nesterov_really_changes_gradients(made):
    # The reason why that contender is unavailable; when this fails, torch has mended it.
    algorithm = BY_NAME["nesterov"]
    inputs = made(algorithm)
    before = [g.clone() for g in inputs.turns[0]]
    thunk = step.thunk(algorithm, {"foreach": True}, inputs)
    thunk()
    thunk()
    assert not all(torch.equal(a, b) for a, b in zip(before, inputs.turns[0], strict=True))


def test_work_counts_compulsory_passes():
    workloads = {w.name: w for w in step.workloads()}

    def passes(name, switch):
        work = workloads[f"optimizers/{name}-step"].work
        return work({"parameters": "resnet50", "switch": switch}).bytes / 4 / 25_557_032

    assert passes("adam", PLAIN) == 7
    assert passes("adam", "amsgrad") == 9
    assert passes("sgd", PLAIN) == passes("sgd", "maximize") == 3
