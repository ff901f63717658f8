"""The CUDA activations on the host executor, from the text that nvcc compiles, against float64."""

from __future__ import annotations

import ctypes
import math
import sys

import cuda_cases
import pytest
import torch
import torch.nn.functional as F
from activation_cases import ALONE
from cuda_cases import ACTIVATIONS, TYPES, close, random, real

from benchbench.native_recipe import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None or sys.platform == "win32", reason="no C++ compiler"),
]
DTYPES = list(TYPES)
GATES = [name for name in ACTIVATIONS if name not in ("sigmoid", "tanh")]


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    return cuda_cases.load(pytestconfig.cache.mkdir("host_kernels"))


def gradients(function, grad, *inputs):
    leaves = [x.double().requires_grad_() for x in inputs]
    output = function(*leaves)
    return output.detach(), torch.autograd.grad(output, leaves, grad.double())


def values(dtype):
    """Everything that matters: tails, zeros, tiny numbers."""
    x = torch.cat([torch.linspace(-16, 16, 2051, dtype=torch.float64), torch.tensor([0.0, -0.0])])
    return torch.cat([x, torch.logspace(-20, 1, 100, dtype=torch.float64)]).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_gradients_to_a_few_roundings(kernels, name, dtype):
    op, t = ACTIVATIONS.index(name), TYPES[dtype]
    x, dy = kernels.copy(values(dtype)), kernels.copy(random(2153, dtype=dtype))
    y, dx = kernels.aligned(x.shape, dtype), kernels.aligned(x.shape, dtype)
    kernels("unary", op, t, x, y, x.numel())
    truth, (slope,) = gradients(ALONE[name], dy, x)
    # The truth in float64 has roundings of its own.
    own = 120 if dtype == torch.float64 else 0
    close(y, truth, 10 + own, floor=1e-3)
    assert torch.equal(torch.signbit(y[x == 0]), torch.signbit(truth[x == 0]))
    kept = y if name in ("relu", "sigmoid", "tanh") else x
    kernels("unary_backward", op, t, dy, kept, dx, x.numel())
    if name in ("sigmoid", "tanh"):  # what the rounded output still knows of the slope
        k = y.double()
        slope = dy.double() * (k * (1 - k) if name == "sigmoid" else 1 - k * k)
    close(dx, slope, 6 + own)


CURVES = {
    "softplus": (1.5, 20.0, lambda x: F.softplus(x, 1.5, 20.0)),
    "log_sigmoid": (0.0, 0.0, lambda x: -F.softplus(-x, threshold=1000)),
    "elu": (1.67, 1.05, lambda x: torch.where(x > 0, 1.05 * x, 1.67 * torch.expm1(x))),
    "mish": (0.0, 0.0, lambda x: x * torch.tanh(F.softplus(x, threshold=1000))),
    "hardswish": (0.0, 0.0, F.hardswish),
    "leaky_relu": (0.1, 0.0, lambda x: F.leaky_relu(x, 0.1)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CURVES)
def test_curves_and_their_gradients(kernels, name, dtype):
    kind, (a, b, truth) = list(CURVES).index(name), CURVES[name]
    x = kernels.copy(values(dtype)[values(dtype).abs() != 3])  # hardswish has corners there
    dy = kernels.copy(random(x.numel(), dtype=dtype))
    y, dx = kernels.aligned(x.shape, dtype), kernels.aligned(x.shape, dtype)
    kernels("curve", kind, TYPES[dtype], a, b, x, y, x.numel())
    kernels("curve_backward", kind, TYPES[dtype], a, b, dy, x, dx, x.numel())
    expected, (slope,) = gradients(truth, dy, x)
    own = 120 if dtype == torch.float64 else 0
    close(y, expected, 10 + own, floor=1e-3)
    close(dx[x != 0], slope[x != 0], 8 + own)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_infinities_and_nan(kernels, name):
    x = kernels.copy(torch.tensor([math.inf, math.nan, 200.0, -200.0, 3e38]))
    y = kernels.aligned(x.shape, x.dtype)
    kernels("unary", ACTIVATIONS.index(name), 0, x, y, x.numel())
    expected = ALONE[name](x.double()).float()
    torch.testing.assert_close(y, expected, equal_nan=True, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 7, 4096, 8192 + 3, 20_001])
@pytest.mark.parametrize("offsets", [(0, 0), (3, 3), (1, 0)], ids=str)
def test_any_length_at_any_address(kernels, dtype, n, offsets):
    x = kernels.copy(random(n, dtype=dtype), offset=offsets[0])
    y = kernels.aligned((n,), dtype, offset=offsets[1])
    kernels("unary", ACTIVATIONS.index("silu"), TYPES[dtype], x, y, n, launches=int(n > 0))
    close(y, ALONE["silu"](x.double()), 4)
    at_end = kernels.executor.copy(x, at_end=True)  # nothing is read behind the last element
    again = kernels.executor.empty((n,), dtype, at_end=True)
    kernels("unary", ACTIVATIONS.index("silu"), TYPES[dtype], at_end, again, n, launches=None)
    assert torch.equal(y, again)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("n", [5, 4099])
def test_gated(kernels, name, dtype, n):
    op, t = ACTIVATIONS.index(name), TYPES[dtype]
    g, u, dy = (kernels.copy(random(n, dtype=dtype, seed=s)) for s in range(3))
    y, dg, du = (kernels.aligned((n,), dtype) for _ in range(3))
    kernels("gated", op, t, g, u, y, n)
    kernels("gated_backward", op, t, dy, g, u, dg, du, n)
    truth, (true_dg, true_du) = gradients(lambda a, b: ALONE[name](a) * b, dy, g, u)
    own = 20 if dtype == torch.float64 else 0
    close(y, truth, 6 + own)
    close(dg, true_dg, 6 + own)
    close(du, true_du, 6 + own)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(("shape", "offset"), [((3, 5), 0), ((70, 24), 0), ((9, 64), 1)], ids=str)
def test_packed(kernels, name, dtype, shape, offset):
    op, t, (rows, columns) = ACTIVATIONS.index(name), TYPES[dtype], shape
    x = kernels.copy(random(rows, 2 * columns, dtype=dtype), offset=offset)
    dy = kernels.copy(random(*shape, dtype=dtype, seed=1), offset=offset)
    y, dx = kernels.aligned(shape, dtype, offset), kernels.aligned(x.shape, dtype, offset)
    kernels("packed", op, t, x, y, *shape)
    kernels("packed_backward", op, t, dy, x, dx, *shape)
    truth, (slope,) = gradients(lambda a: ALONE[name](a[:, :columns]) * a[:, columns:], dy, x)
    own = 20 if dtype == torch.float64 else 0
    close(y, truth, 6 + own)
    close(dx, slope, 6 + own)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("gelu", shape) for shape in [(1, 1), (3, 5), (500, 8), (9, 2056)]),
        *((name, shape) for name in GATES for shape in [(70, 24), (130, 33)]),
    ],
    ids=str,
)
def test_biased(kernels, name, shape, dtype):
    op, t, (rows, columns) = ACTIVATIONS.index(name), TYPES[dtype], shape
    for parameter in {dtype, real(dtype)}:
        x, dy = (kernels.copy(random(*shape, dtype=dtype, seed=s)) for s in range(2))
        b = kernels.copy(random(columns, dtype=parameter, seed=2))
        y, dx = kernels.aligned(shape, dtype), kernels.aligned(shape, dtype)
        db, partial = kernels.aligned((columns,), parameter), kernels.partial(dtype, *shape)
        is_real = parameter == real(dtype)
        kernels("bias", op, t, x, b, is_real, y, rows, columns)
        kernels(
            "bias_backward", op, t, dy, x, b, is_real, dx, db, partial, rows, columns, launches=2
        )
        truth, (true_dx, true_db) = gradients(lambda a, c: ALONE[name](a + c), dy, x, b)
        own = 20 if dtype == torch.float64 else 0
        close(y, truth, 6 + own)
        close(dx, true_dx, 6 + own)
        close(db, true_db, 16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 64), (2, 16, 7), (1, 1, 70_001), (4, 24, 1)], ids=str)
@pytest.mark.parametrize("rows", [False, True], ids=["planes", "rows"])
def test_prelu(kernels, shape, dtype, rows):
    batch, channels, area = shape
    x, dy = (random(*shape, dtype=dtype, seed=s) for s in range(2))
    for parameter in {dtype, real(dtype)}:
        w = kernels.copy(random(channels, dtype=parameter, seed=2))

        def truth(a, slope):
            return torch.where(a > 0, a, a * slope.view(1, -1, 1))

        expected, (true_dx, true_dw) = gradients(truth, dy, x, w)

        def lay(t):
            return kernels.copy(t.transpose(1, 2).contiguous() if rows else t)

        ins = [lay(t) for t in (dy, x)]
        y, dx = (kernels.aligned(ins[0].shape, dtype) for _ in range(2))
        dw = kernels.aligned((channels,), parameter)
        count = kernels.executor.c.slope_partial(int(rows), *map(ctypes.c_int64, (batch, area)))
        partial = kernels.aligned((count, channels), real(dtype))
        flag = parameter == real(dtype)
        kernels("slopes", rows, TYPES[dtype], ins[1], w, flag, y, *shape)
        kernels(
            "slopes_backward",
            rows,
            TYPES[dtype],
            *ins,
            w,
            flag,
            dx,
            dw,
            partial,
            *shape,
            launches=2,
        )
        for ours, theirs in ((y, expected), (dx, true_dx)):
            close(ours.transpose(1, 2) if rows else ours, theirs, 4)
        close(dw, true_dw, 200)


def test_biased_without_rows(kernels):
    b, db = kernels.copy(random(8)), kernels.aligned((8,), torch.float32)
    empty = torch.empty(0, 8)
    kernels("bias", 0, 0, empty, b, True, empty, 0, 8, launches=0)
    partial = kernels.partial(torch.float32, 0, 8)
    kernels("bias_backward", 0, 0, empty, empty, b, True, empty, db, partial, 0, 8)
    assert torch.equal(db, torch.zeros(8))


def test_no_result_depends_on_the_schedule(kernels):
    x, dy, b = kernels.copy(random(300, 40)), kernels.copy(random(300, 40, seed=1)), random(40)
    b = kernels.copy(b)
    found = set()
    for seed in range(8):
        kernels.executor.options(seed=seed, resident=1 + seed % 4)
        dx, db = kernels.aligned((300, 40), torch.float32), kernels.aligned((40,), torch.float32)
        partial = kernels.partial(torch.float32, 300, 40)
        kernels("bias_backward", 3, 0, dy, x, b, True, dx, db, partial, 300, 40, launches=2)
        found.add((dx.numpy().tobytes(), db.numpy().tobytes()))
    kernels.executor.options()
    assert len(found) == 1
