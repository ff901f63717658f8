"""The activation kernels against float64, on every instruction set that this machine has."""

import math

import pytest
import torch
import torch.nn.functional as F
from activation_cases import (
    ALL,
    ALONE,
    BIASED,
    EAGER,
    GATED,
    OPS,
    ROWS,
    arguments,
    compose,
    operator,
    with_grads,
)
from hypothesis import HealthCheck, given, settings, strategies as st
from kernel_errors import assert_all_equal, ulps

HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, *HALVES)


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
