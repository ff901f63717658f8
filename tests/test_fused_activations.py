"""The activation kernels against float64, on every instruction set that this machine has.

References are written here, in float64 and in forms that do not cancel: torch's own float64 gelu
loses the left tail.
"""

import ast
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings, strategies as st
from kernel_errors import assert_all_equal, ulps

from benchbench import fused, native

HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, *HALVES)
OPS = torch.ops.benchbench


def gelu_tanh(x):
    x3 = x.clamp(-1e4, 1e4) ** 3  # the sigmoid is 0 or 1 long before
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x3))


ALONE = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": lambda x: x * 0.5 * torch.special.erfc(-x / math.sqrt(2)),
    "gelu_tanh": gelu_tanh,
    "silu": lambda x: x * torch.sigmoid(x),
}
EAGER = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
}
BIASED = {"bias_" + name: name for name in ("relu", "gelu", "gelu_tanh", "silu")}
GATED = {"reglu": "relu", "geglu": "gelu", "geglu_tanh": "gelu_tanh", "swiglu": "silu"}
ROWS = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}
ALL = [*ALONE, *BIASED, *GATED, *ROWS]


def operator(name):
    return getattr(OPS, name).default


def arguments(name, shape, dtype, seed=0, grad=False):
    """Inputs of an operator: the main one and, where there is one, the second."""
    torch.manual_seed(seed)
    tensors = [(torch.randn(shape, dtype=torch.float64) * 3).to(dtype)]
    if name in BIASED:
        tensors.append(torch.randn(shape[-1:], dtype=torch.float64).to(dtype))
    elif name in GATED:
        tensors.append(torch.randn(shape, dtype=torch.float64).to(dtype))
    return [t.requires_grad_(grad) for t in tensors]


def compose(name, table):
    """The same function out of single operators of ``table``."""
    if name in ALONE:
        return table[name]
    if name in BIASED:
        return lambda x, b: table[BIASED[name]](x + b)
    if name in GATED:
        return lambda g, u: table[GATED[name]](g) * u
    return lambda x: ROWS[name](x, -1)


def with_grads(function, tensors, dtype=None):
    """Output and gradients for a fixed random output gradient."""
    leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in tensors]
    y = function(*leaves)
    torch.manual_seed(7)
    dy = torch.randn(y.shape, dtype=torch.float64).to(tensors[0].dtype).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


@pytest.fixture(scope="session")
def module():
    return native.load()


# ---- values ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ALONE)
def test_no_less_exact_than_eager(isa, name, dtype):
    decades = torch.logspace(-30, 1.5, 20000, dtype=torch.float64)
    grid = torch.linspace(-30, 30, 60001, dtype=torch.float64)
    x = torch.cat([decades, -decades, grid]).to(dtype)
    reference = ALONE[name](x.double())
    # Beyond |x| = 4 the exponent's own rounding grows with x^2; eager has nothing left there.
    core = x.abs() <= 4
    for inside in (core, ~core):
        ours = ulps(operator(name)(x), reference, 2e-30)[inside]
        eager = ulps(EAGER[name](x), reference, 2e-30)[inside]
        assert ours.max() <= max(eager.max().item(), 0.505 if name == "tanh" else 2.3)
        assert ours.mean() <= eager.mean() + 0.02


def test_tanh_over_all_of_float32(isa):
    """0.505 ulp; 0.5043 where all floats were tried, for which eager has 0.5131."""
    bits = torch.arange(0, 0x7F800000, 2503, dtype=torch.int32)
    edges = torch.tensor([(2.0 ** (k // 8) * (1 + k % 8 / 8) - 1) * 9.02 / 15 for k in range(33)])
    near = (edges.view(torch.int32)[:, None] + torch.arange(-50, 50, dtype=torch.int32)).flatten()
    x = torch.cat([bits, near.clamp(min=0)]).view(torch.float32)
    y = OPS.tanh.default(x)
    assert torch.equal(OPS.tanh.default(-x), -y)
    assert ulps(y, torch.tanh(x.double())).max() <= 0.505


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ALONE)
def test_every_half_precision_value_within_half_an_ulp(isa, name, dtype):
    """0.51: what a result is off by before it is rounded hardly shows. Subnormal ones too."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    x = x[x.isfinite()]
    y, reference = operator(name)(x), ALONE[name](x.double())
    finite = reference.to(dtype).isfinite()
    assert ulps(y, reference)[finite].max() <= 0.51
    assert torch.equal(y[~finite], reference.to(dtype)[~finite])


@pytest.mark.parametrize("dtype", (*DTYPES, torch.float64), ids=str)
@pytest.mark.parametrize("name", ALL)
def test_outputs_and_gradients_against_float64(isa, name, dtype):
    tensors = arguments(name, (67, 131), dtype)
    exact = with_grads(compose(name, ALONE), tensors, torch.float64)
    ours = with_grads(operator(name), tensors)
    eager = with_grads(compose(name, EAGER), tensors)
    for value, other, reference in zip(ours, eager, exact, strict=True):
        assert value.dtype is dtype and value.shape == reference.shape
        floor = 1.0 if value.dim() == 2 else math.sqrt(67)  # the bias's gradient is a sum of 67
        error = ulps(value, reference, floor)
        baseline = ulps(other, reference, floor)
        if dtype is torch.float64:  # the reference is no better than that
            assert error.max() <= 128
        else:
            assert error.max() <= max(1.25 * baseline.max().item(), 4.5)
            assert error.mean() <= baseline.mean() + 0.1


@pytest.mark.parametrize("columns", [1, 2, 7, 64, 1000, 4096, 4097, 9001])
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_any_length(isa, name, dtype, columns):
    tensors = arguments(name, (3, columns), dtype)
    exact = with_grads(compose(name, ALONE), tensors, torch.float64)
    ours = with_grads(operator(name), tensors)
    eager = with_grads(compose(name, EAGER), tensors)
    for value, other, reference in zip(ours, eager, exact, strict=True):
        floor = reference.abs().max().item()
        error = ulps(value, reference, floor).max()
        baseline = ulps(other, reference, floor).max().item()
        assert error <= max(1.25 * baseline, 4.5)


def test_softmax_of_extreme_rows(isa):
    inf, nan = math.inf, math.nan
    rows = [
        [1e4, 1e4 - 1, -1e4] * 7,
        [-inf, 0.0, 1.0] * 7,
        [-inf] * 21,
        [0.0, nan, 1.0] * 7,
        [inf, 0.0, 1.0] * 7,
        [-3e38, 3e38, 0.0] * 7,
        [1e-40, -1e-40, 0.0] * 7,
    ]
    x = torch.tensor(rows)
    for name in ROWS:
        expected = ROWS[name](x.double(), -1).float()
        torch.testing.assert_close(operator(name)(x), expected, equal_nan=True)


SPECIAL = [0.0, 1e-45, 1e-39, 1e-20, 0.5, 1.0, 20.0, 88.0, 88.8, 89.0, 103.9, 104.5, 1e4, 3e38]
SPECIAL = [sign * value for value in SPECIAL for sign in (1, -1)]


@pytest.mark.parametrize("name", ALONE)
def test_special_values(isa, name):
    x = torch.tensor([*SPECIAL, math.inf, -math.inf, math.nan])
    y = operator(name)(x)
    exact = ALONE[name](x.double())
    if name == "gelu":
        exact[-2] = 0.0  # the limit, where the product of -inf and 0 is nan
    torch.testing.assert_close(y[-3:].double(), exact[-3:], rtol=0, atol=0, equal_nan=True)
    # Below e^-88.7 the sigmoid is 0, as in torch: its reciprocal is beyond float32.
    torch.testing.assert_close(y[:-3].double(), exact[:-3], rtol=3e-6, atol=3e-37)
    if name != "sigmoid":
        assert math.copysign(1, operator(name)(torch.tensor([-0.0])).item()) == -1


@pytest.mark.parametrize("name", ALONE)
def test_slopes_at_special_values(isa, name):
    x = torch.tensor([*SPECIAL, math.inf, math.nan], requires_grad=True)
    (slope,) = torch.autograd.grad(operator(name)(x).sum(), x)
    assert slope[-1].isnan() or name == "relu"
    expected = 0.0 if name in ("sigmoid", "tanh") else 1.0
    assert slope[-2] == expected  # the asymptote, where eager may give nan
    inner = torch.tensor(SPECIAL, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(ALONE[name](inner).sum(), inner)
    torch.testing.assert_close(slope[:-2].double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_half_precision_pattern_is_read_right(isa, dtype):
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    y = OPS.relu.default(x)
    assert torch.equal(y.isnan(), x.isnan())
    assert torch.equal(y.nan_to_num(), F.relu(x).nan_to_num())


@pytest.mark.parametrize("name", BIASED)
def test_a_nan_of_the_bias_stays_one_in_half_precision(isa, name):
    # All ones, of which rounding could make a zero.
    b = torch.full((70,), -1, dtype=torch.int32)
    b[::2] = 0x7FFFFFFF
    b = b.view(torch.float32)
    for dtype in HALVES:
        x, dy = torch.zeros(5, 70, dtype=dtype), torch.ones(5, 70, dtype=dtype)
        assert operator(name)(x, b).isnan().all()
        if name != "bias_relu":  # whose slope is 0 there
            assert operator(name + "_backward")(dy, x, b)[0].isnan().all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_results_round_to_nearest_even(isa, dtype):
    # x + b in float32, then one rounding: halfway cases, subnormals and overflow among them.
    bits = torch.randint(0, 2**15, (4096, 48), dtype=torch.int32, generator=torch.manual_seed(3))
    x = bits.to(torch.int16).view(dtype).nan_to_num(0.0, 1.0, 1.0)
    steps = 2.0 ** torch.arange(-30, 18, dtype=torch.float32)
    for b in (steps, steps * 3, steps + 2.0**-30):
        expected = (x.float() + b).to(dtype)
        assert torch.equal(OPS.bias_relu.default(x, b), expected)


# ---- shapes, layouts, ranges ----


@pytest.mark.parametrize("dtype", (*DTYPES, torch.float64), ids=str)
@pytest.mark.parametrize("name", [*ALONE, *GATED])
def test_a_value_does_not_depend_on_where_the_range_ends(isa, name, dtype):
    whole = arguments(name, (70,), dtype)
    y = operator(name)(*whole)
    for n in range(70):
        assert torch.equal(operator(name)(*[t[:n] for t in whole]), y[:n])
        assert torch.equal(operator(name)(*[t[n:].clone() for t in whole]), y[n:])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 2)])
def test_empty(name, shape):
    tensors = arguments(name, shape, torch.float32, grad=True)
    y = operator(name)(*tensors)
    assert y.shape == shape
    for t, g in zip(tensors, torch.autograd.grad(y.sum(), tensors), strict=True):
        assert g.shape == t.shape
        assert not g.any()


@pytest.mark.parametrize("name", [*ALONE, *ROWS])
def test_scalars(name):
    x = torch.tensor(0.7)
    expected = torch.softmax(x, 0) if name == "softmax" else x * 0
    if name in ALONE:
        expected = EAGER[name](x)
    torch.testing.assert_close(operator(name)(x), expected)


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_strides_do_not_matter(name, data):
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(shape))))
    step = data.draw(st.integers(1, 3))
    expanded = data.draw(st.booleans())

    def awkward(t):
        if t.dim() != len(shape):  # the bias
            return t.repeat_interleave(step)[::step]
        back = sorted(range(len(shape)), key=lambda i: order[i])
        t = t.permute(*order).contiguous().permute(*back)
        return t.repeat_interleave(step, dim=-1)[..., ::step]

    plain = arguments(name, tuple(shape), torch.float32)
    if expanded:
        plain = [t[:1].expand(t.shape) if t.dim() == len(shape) else t for t in plain]
    strange = [t if t.is_contiguous() is False else awkward(t) for t in plain]
    plain = [t.contiguous().clone() for t in plain]
    for a, b in zip(
        with_grads(operator(name), strange), with_grads(operator(name), plain), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [*ALONE, *GATED])
def test_channels_last_stays(name):
    tensors = [
        t.to(memory_format=torch.channels_last)
        for t in arguments(name, (2, 5, 3, 4), torch.float32)
    ]
    results = with_grads(operator(name), tensors)
    expected = with_grads(operator(name), [t.contiguous() for t in tensors])
    for value, reference in zip(results, expected, strict=True):
        assert value.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(value, reference)


@pytest.mark.parametrize("name", ALL)
def test_expanded_gradients(name):
    tensors = arguments(name, (33, 20), torch.float32, grad=True)
    through_sum = torch.autograd.grad(operator(name)(*tensors).sum(), tensors)
    ones = torch.ones(33, 20)
    given_whole = torch.autograd.grad(operator(name)(*tensors), tensors, ones)
    for a, b in zip(through_sum, given_whole, strict=True):
        assert torch.equal(a, b)
        assert a.is_contiguous()


@pytest.mark.parametrize("dtype", (*DTYPES, torch.float64), ids=str)
@pytest.mark.parametrize("name", ALL)
def test_streaming_changes_nothing(isa, stream_from, name, dtype):
    tensors = arguments(name, (11, 4096), dtype)
    plain = with_grads(operator(name), tensors)
    stream_from(0)
    assert_all_equal(with_grads(operator(name), tensors), plain)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("name", ALL)
def test_the_number_of_threads_changes_nothing(threads, name, dtype):
    tensors = arguments(name, (701, 301), dtype)
    threads(1)
    alone = with_grads(operator(name), tensors)
    for count in (2, 3, 7):
        threads(count)
        assert_all_equal(with_grads(operator(name), tensors), alone)


# ---- as operators ----


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
