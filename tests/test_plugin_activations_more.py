"""The rest of torch.nn's activations: contenders equal float64, wrong ones do not, none is left."""

import pytest
import torch
import torch.nn.functional as F

import benchbench as bb
from benchbench.catalog import ask_unavailable
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins import (
    _activation_more as more,
    _activation_special as special,
    _functional as shared,
    activations,
)

WORKLOADS = {w.name: w for w in activations.benchbench_workloads()}
CONTENDERS = list(activations.benchbench_implementations())
SHAPES = {
    "softmax2d": (2, 5, 7, 9),
    "glu": (33, 130),
    "masked_softmax": (2, 3, 17, 21),
    **dict.fromkeys(("packed_swiglu", "packed_geglu", "packed_reglu"), (33, 130)),
}
NAMES = [*(task.name for task in more.MORE), *(one.name for one in special.SPECIAL)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def point(name, dtype="float32", direction="forward"):
    shape = SHAPES.get(name, (33, 131))
    return {"shape": shape, "dtype": dtype, "direction": direction, "device": "cpu"}


def results(name, params, *extra):
    workload = f"activations/{name}"
    case = bb.Case(workload=workload, params=params, seed=1)
    contenders = [c for c in CONTENDERS if c.workload == workload and c.name != "compiled"]
    found = Runner().benchbench_run_case(
        case, WORKLOADS[workload], [*contenders, *extra], BRIEF, 0, lambda *_: None
    )
    return {result.contender: result for result in found}


@pytest.mark.parametrize("direction", shared.DIRECTIONS)
@pytest.mark.parametrize("dtype", shared.DTYPES[:2])
@pytest.mark.parametrize("name", NAMES)
def test_contenders_equal_the_float64_reference(name, dtype, direction):
    params = point(name, dtype, direction)
    found = results(name, params)
    reasons = {
        c.name: ask_unavailable(c.unavailable, params)
        for c in CONTENDERS
        if c.workload == f"activations/{name}"
    }
    for contender, result in found.items():
        expected = "skipped" if reasons[contender] else "ok"
        assert result.status == expected, (contender, result.reason)
    assert found["eager"].status == "ok"


BAD = [
    ("celu", lambda x: F.celu(x, 1.0)),
    ("glu", lambda x: F.glu(x.flip(-1), -1)),
    ("hardshrink", lambda x: F.hardshrink(x, 0.51)),
    ("hardsigmoid", torch.sigmoid),
    ("hardtanh", torch.tanh),
    ("masked_softmax", lambda x, mask, kept, additive: F.softmax(x * special.SCALE, -1)),
    ("packed_swiglu", lambda x: F.silu(x.chunk(2, -1)[1]) * x.chunk(2, -1)[0]),
    ("packed_geglu", lambda x: F.gelu(x.chunk(2, -1)[0], approximate="tanh") * x.chunk(2, -1)[1]),
    ("packed_reglu", lambda x: F.relu(x)[..., : x.shape[-1] // 2]),
    ("relu6", F.relu),
    ("rrelu_eval", lambda x: F.leaky_relu(x, 0.2)),
    ("softmax2d", lambda x: F.softmax(x, -1)),
    ("softmin", lambda x: F.softmax(x, -1)),
    ("softshrink", F.hardshrink),
    ("softsign", lambda x: x / (1 + x * x).sqrt()),
    ("tanhshrink", lambda x: x - x * torch.sigmoid(2 * x)),
    ("threshold", lambda x: torch.where(x > 0.125, x, 0.0)),
]


@pytest.mark.parametrize(("name", "function"), BAD, ids=[name for name, _ in BAD])
def test_other_functions_are_rejected(name, function):
    bad = shared.functional(f"activations/{name}", "bad", function)
    assert results(name, point(name), bad)["bad"].status == "wrong"


def test_every_workload_has_a_planted_fault():
    assert sorted(NAMES) == sorted(name for name, _ in BAD)


def test_the_mask_hides_later_keys_and_padding_but_never_all():
    inputs = special.make_masked(point("masked_softmax"), 0)
    assert inputs.mask.shape == (2, 1, 17, 21)
    assert not inputs.mask.all(-1).any()
    assert inputs.mask[0, 0, 0].sum() >= 16  # the first query sees the first five keys at most
    assert torch.equal(inputs.additive == 0, ~inputs.mask)
    output = special.masked_softmax(*(inputs[name] for name in inputs.arguments))
    assert (output[inputs.mask.expand_as(output)] == 0).all()


def run_rrelu(function):
    inputs = special.make_rrelu({"shape": (200, 100), "dtype": "float32", "device": "cpu"}, 3)
    torch.manual_seed(0)
    output = function(inputs.x)
    return special.check_rrelu(bb.Evidence(output=output, inputs=inputs, params={}, calls=1))


def test_rrelu_draws_uniform_slopes():
    params = {"shape": (200, 100), "dtype": "float32", "device": "cpu"}
    found = results("rrelu", params)
    assert {name: result.status for name, result in found.items()} == {"eager": "ok", "where": "ok"}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: F.leaky_relu(x, 0.2), "not uniform"),
        (lambda x: F.rrelu(x, 0.1, 0.3, training=True), "outside"),
        (lambda x: F.rrelu(x, 0.15, 0.3, training=True), "not uniform"),
        (lambda x: F.rrelu(x, training=True) * 1.01, "positive values"),
        (lambda x: F.rrelu(x, training=True)[:-1], "shape"),
    ],
)
def test_another_rrelu_is_rejected(function, reason):
    assert reason in run_rrelu(function)


def test_no_activation_of_torch_is_left_out():
    elsewhere = {"MultiheadAttention"}  # a layer, in models/transformer-block
    names = set(torch.nn.modules.activation.__all__) - elsewhere
    spelled = {
        "elu": "ELU",
        "celu": "CELU",
        "gelu": "GELU",
        "glu": "GLU",
        "hardshrink": "Hardshrink",
        "hardsigmoid": "Hardsigmoid",
        "hardswish": "Hardswish",
        "hardtanh": "Hardtanh",
        "leaky_relu": "LeakyReLU",
        "log_sigmoid": "LogSigmoid",
        "log_softmax": "LogSoftmax",
        "mish": "Mish",
        "prelu": "PReLU",
        "relu": "ReLU",
        "relu6": "ReLU6",
        "rrelu": "RReLU",
        "selu": "SELU",
        "sigmoid": "Sigmoid",
        "silu": "SiLU",
        "softmax": "Softmax",
        "softmax2d": "Softmax2d",
        "softmin": "Softmin",
        "softplus": "Softplus",
        "softshrink": "Softshrink",
        "softsign": "Softsign",
        "tanh": "Tanh",
        "tanhshrink": "Tanhshrink",
        "threshold": "Threshold",
    }
    assert set(spelled.values()) == names
    assert {f"activations/{name}" for name in spelled} <= set(WORKLOADS)
