"""The activations as operators, as functions and modules, and the library that they are in."""

import ast
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from activation_cases import (
    ALL,
    OPS,
    ROWS,
    arguments,
    operator,
    with_grads,
)

from benchbench import fused, native


@pytest.fixture(scope="session")
def module():
    return native.load()


@pytest.mark.parametrize("name", ALL)
def test_gradcheck(name):
    tensors = arguments(name, (5, 7), torch.float64, grad=True)
    assert torch.autograd.gradcheck(operator(name), tensors)


@pytest.mark.parametrize("name", ALL)
def test_opcheck(name):
    torch.library.opcheck(operator(name), arguments(name, (6, 5), torch.float32, grad=True))
    first, *more = arguments(name, (6, 5), torch.bfloat16)
    kept = operator(name)(first) if name in (*ROWS, "relu", "sigmoid", "tanh") else first
    torch.library.opcheck(operator(name + "_backward"), (torch.ones_like(first), kept, *more))


def test_traced_whole_and_compiled():
    def model(x, b, u):
        h = fused.bias_gelu(x, b, approximate="tanh")
        return fused.softmax(fused.swiglu(h, u), dim=-1)

    tensors = [torch.randn(9, 33), torch.randn(33), torch.randn(9, 33)]
    compiled = torch.compile(model, fullgraph=True)
    for a, b in zip(with_grads(compiled, tensors), with_grads(model, tensors), strict=True):
        torch.testing.assert_close(a, b)
    traced = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (9, 12):
        tensors[0], tensors[2] = torch.randn(rows, 33), torch.randn(rows, 33)
        for a, b in zip(with_grads(traced, tensors), with_grads(model, tensors), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", ALL)
def test_a_second_derivative_raises(name):
    tensors = arguments(name, (4, 4), torch.float32, grad=True)
    first, *_ = torch.autograd.grad(
        operator(name)(*tensors).square().sum(), tensors, create_graph=True
    )
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(first.sum(), tensors)


def test_no_node_when_no_gradient_is_wanted():
    x = torch.randn(4)
    assert OPS.tanh.default(x).grad_fn is None
    with torch.no_grad():
        assert OPS.tanh.default(x.requires_grad_()).grad_fn is None
    assert OPS.tanh.default(x).grad_fn is not None


def test_what_autograd_keeps_is_the_output_where_that_is_enough():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = OPS.tanh.default(torch.randn(4, requires_grad=True))
    assert [t.data_ptr() for t in kept] == [y.data_ptr()]


def test_direct_functions_are_the_same(module):
    for name in ALL:
        tensors = arguments(name, (6, 5), torch.float32)
        assert torch.equal(getattr(module, name)(*tensors), operator(name)(*tensors))


# ---- mistakes ----

X = torch.randn(4, 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: OPS.gelu.default(X.int()), ["gelu", "Int", "convert"]),
        (lambda: OPS.softmax.default(X.to(torch.complex64)), ["softmax", "Complex", "convert"]),
        (lambda: fused.gelu(X, approximate="erf"), ["approximate", "'erf'", "'tanh'"]),
        (lambda: fused.swiglu(X, X[:2]), ["swiglu", "up", "[2, 6]", "[4, 6]"]),
        (lambda: fused.geglu(X, X.double()), ["geglu", "up", "Double", ".to()"]),
        (lambda: fused.bias_silu(X, X[0, :3]), ["bias_silu", "bias", "[3]", "6"]),
        (lambda: fused.bias_gelu(X, X), ["bias_gelu", "bias", "one dimension"]),
        (lambda: fused.bias_relu(X, X[0].half()), ["bias_relu", "bias", "Half", "Float"]),
        (lambda: fused.bias_relu(X, X[0].to("meta")), ["bias_relu", "bias", "meta", "cpu"]),
        (lambda: fused.bias_relu(X[0, 0], X[0]), ["bias_relu", "no dimension"]),
        (lambda: fused.softmax(X, dim=2), ["Dimension out of range"]),
    ],
)
def test_mistakes_are_explained(call, words):
    with pytest.raises((RuntimeError, ValueError, IndexError, TypeError)) as error:
        call()
    for word in words:
        assert word in str(error.value)


def test_an_unknown_instruction_set_is_refused(module):
    with pytest.raises(RuntimeError, match="avx1024"):
        module.choose_instruction_set("avx1024")


def in_a_fresh_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_environment_chooses_the_instruction_set(module):
    code = "from benchbench import native; print(native.load().build_info()['instruction_set'])"
    for name in module.build_info()["instruction_sets"]:
        assert in_a_fresh_process(code, BENCHBENCH_ISA=name).stdout.strip() == name
    refused = in_a_fresh_process(code, BENCHBENCH_ISA="avx9")
    assert refused.returncode != 0
    assert "BENCHBENCH_ISA=avx9" in refused.stderr
    assert "base" in refused.stderr


# ---- the library ----


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kernels_and_torch_share_one_openmp(module):
    if not module.build_info()["openmp"]:
        pytest.skip("this compiler has no OpenMP")
    code = """
from benchbench import native
import torch
native.load()
torch.set_num_threads(2)
torch.ops.benchbench.tanh(torch.randn(1 << 20))
lines = open("/proc/self/maps").read().splitlines()
print({line.split()[-1] for line in lines if "omp" in line.rpartition("/")[2]})
"""
    found = in_a_fresh_process(code)
    assert found.returncode == 0, found.stderr
    assert len(ast.literal_eval(found.stdout.strip())) == 1


# ---- functions and modules for users ----


def test_functions_follow_torch():
    x = torch.randn(3, 4, 5)
    for dim in (0, 1, 2, -1, -2):
        torch.testing.assert_close(fused.softmax(x, dim), F.softmax(x, dim))
        torch.testing.assert_close(fused.log_softmax(x, dim), F.log_softmax(x, dim))
    half = x.bfloat16()
    wide = fused.softmax(half, -1, dtype=torch.float32)
    torch.testing.assert_close(wide, F.softmax(half, -1, dtype=torch.float32))
    torch.testing.assert_close(fused.gelu(x, "tanh"), F.gelu(x, approximate="tanh"))
    torch.testing.assert_close(fused.geglu(x, x, "tanh"), F.gelu(x, approximate="tanh") * x)


def test_a_bias_may_be_float32_beside_half_precision():
    x = torch.randn(5, 9).bfloat16().requires_grad_()
    b = torch.randn(9, requires_grad=True)
    y = fused.bias_silu(x, b)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y, F.silu(x.float() + b).bfloat16())
    dx, db = torch.autograd.grad(y.sum(), [x, b])
    assert (dx.dtype, db.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: fused.ReLU(), lambda: torch.nn.ReLU()),
        (lambda: fused.Sigmoid(), lambda: torch.nn.Sigmoid()),
        (lambda: fused.Tanh(), lambda: torch.nn.Tanh()),
        (lambda: fused.GELU(), lambda: torch.nn.GELU()),
        (lambda: fused.GELU(approximate="tanh"), lambda: torch.nn.GELU(approximate="tanh")),
        (lambda: fused.SiLU(), lambda: torch.nn.SiLU()),
        (lambda: fused.SiLU(inplace=True), lambda: torch.nn.SiLU(inplace=True)),
        (lambda: fused.Softmax(dim=1), lambda: torch.nn.Softmax(dim=1)),
    ],
)
def test_modules_are_drop_in(ours, theirs):
    x = torch.randn(3, 4, 5)
    mine, reference = ours(), theirs()
    assert isinstance(mine, type(reference))
    assert repr(mine) == repr(reference)
    torch.testing.assert_close(mine(x.clone()), reference(x.clone()))


def test_swiglu_module():
    g, u = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(fused.SwiGLU()(g, u), F.silu(g) * u)
