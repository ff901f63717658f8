"""More normalizations: contenders equal float64, planted faults are found, reasons are given."""

import pytest
import torch
import torch.nn.functional as F

import benchbench as bb
from benchbench import fused
from benchbench.catalog import ask_unavailable
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins import _functional as shared, _norm_more as more, normalizations

WORKLOADS = {w.name: w for w in normalizations.benchbench_workloads()}
CONTENDERS = list(normalizations.benchbench_implementations())
SHAPES = {
    "batch_norm_1d": (66, 37),
    "batch_norm_3d": (2, 5, 3, 7, 9),
    "instance_norm_1d": (3, 5, 33),
    "instance_norm_3d": (2, 3, 4, 5, 7),
    "group_norm_silu": (2, 64, 5, 7),
    "layer_norm_gelu": (33, 131),
    "layer_norm_far": (65, 769),
    "batch_norm_far": (4, 8, 17, 19),
}
POINTS = [
    pytest.param(task.name, dtype, direction, id=f"{task.name}-{dtype}-{direction}")
    for task in more.TASKS
    for dtype in task.dtypes
    for direction in shared.DIRECTIONS
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def results(name, params, *extra):
    workload = f"normalizations/{name}"
    case = bb.Case(workload=workload, params=params, seed=1)
    contenders = [c for c in CONTENDERS if c.workload == workload and c.name != "compiled"]
    found = Runner().benchbench_run_case(
        case, WORKLOADS[workload], [*contenders, *extra], BRIEF, 0, lambda *_: None
    )
    return {result.contender: result for result in found}


def point(name, dtype="float32", direction="forward"):
    return {"shape": SHAPES[name], "dtype": dtype, "direction": direction, "device": "cpu"}


@pytest.mark.parametrize(("name", "dtype", "direction"), POINTS)
def test_contenders_equal_the_float64_reference(name, dtype, direction):
    found = results(name, point(name, dtype, direction))
    statuses = {n: (r.status, r.reason) for n, r in found.items() if r.status != "ok"}
    if fused.unavailable() is not None:
        statuses.pop("fused", None)
    assert statuses == {}


def one_pass(x, weight, bias):
    """E[x^2] - E[x]^2, which cancels far from zero."""
    mean = x.mean(-1, keepdim=True)
    variance = (x.square().mean(-1, keepdim=True) - mean.square()).clamp(min=0)
    return (x - mean) * torch.rsqrt(variance + more.EPS) * weight + bias


BAD = [
    ("batch_norm_1d", lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b)),
    ("batch_norm_3d", lambda x, w, b: F.instance_norm(x, None, None, w, b)),
    ("instance_norm_1d", lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    ("instance_norm_3d", lambda x, w, b: F.group_norm(x, 1, w, b)),
    ("group_norm_silu", lambda x, w, b: F.gelu(F.group_norm(x, more.GROUPS, w, b))),
    (
        "layer_norm_gelu",
        lambda x, w, b: F.gelu(F.layer_norm(x, x.shape[-1:], w, b), approximate="tanh"),
    ),
    ("layer_norm_far", one_pass),
    (
        "batch_norm_far",
        lambda x, w, b: (
            one_pass(x.transpose(0, 1).flatten(1), 1.0, 0.0)
            .view(x.shape[1], x.shape[0], *x.shape[2:])
            .transpose(0, 1)
            * w.view(-1, 1, 1)
            + b.view(-1, 1, 1)
        ),
    ),
]


@pytest.mark.parametrize(("name", "function"), BAD, ids=[name for name, _ in BAD])
def test_other_norms_are_rejected(name, function):
    bad = shared.functional(f"normalizations/{name}", "bad", function)
    found = results(name, point(name), bad)
    assert found["eager"].status == "ok"
    assert found["bad"].status == "wrong"


def test_every_task_has_a_planted_fault():
    assert [task.name for task in more.TASKS] == [name for name, _ in BAD]


def test_one_pass_is_right_near_zero():
    # So that what rejects it above is the cancellation, not another mistake.
    task = next(t for t in more.TASKS if t.name == "layer_norm_far")
    x = torch.randn(65, 769, dtype=torch.float64)
    w, b = torch.randn(769, dtype=torch.float64), torch.randn(769, dtype=torch.float64)
    torch.testing.assert_close(one_pass(x, w, b), task.function(x, w, b))


IMAGE = {"shape": (4, 6, 5, 7), "dtype": "float32", "device": "cpu"}


def test_cumulative_statistics_are_the_average_of_all_batches():
    found = results("batch_norm_cumulative", IMAGE)
    assert {name: r.status for name, r in found.items()} == {"module": "ok", "counted": "ok"}
    inputs = more.make_images(IMAGE, 2)
    module, counted = (
        more.module_thunk(torch.nn.BatchNorm2d, inputs),
        more.counted_thunk(inputs),
    )
    for _ in range(5):
        for got, wanted in zip(counted(), module(), strict=True):
            torch.testing.assert_close(got, wanted)
    variance, mean = torch.var_mean(inputs.x, (0, 2, 3))
    torch.testing.assert_close(module()[1], mean)
    torch.testing.assert_close(module()[2], variance)


def test_statistics_that_decay_are_wrong():
    def decaying(inputs):
        module = torch.nn.BatchNorm2d(inputs.x.shape[1])

        def call():
            with torch.no_grad():
                y = module(inputs.x)
            return y, module.running_mean.clone(), module.running_var.clone()

        return call

    bad = bb.Implementation(workload=more.CUMULATIVE, name="bad", build=decaying)
    assert results("batch_norm_cumulative", IMAGE, bad)["bad"].status == "wrong"


def test_sync_batch_norm_says_why_it_is_skipped():
    (item,) = [c for c in CONTENDERS if c.workload == more.SYNC]
    assert "torchrun" in ask_unavailable(item.unavailable, IMAGE)
    # The reason given: alone in the world it is batch norm.
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(torch.nn.SyncBatchNorm(6)(x), torch.nn.BatchNorm2d(6)(x))
