"""Group, instance and local response norm against float64, on every instruction set and layout."""

from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from kernel_errors import assert_all_equal, layouts, random as normal, relative, with_gradients
from torch.nn import functional as F

from benchbench import fused, native

LIBRARY = native.load()
INSTRUCTION_SETS = LIBRARY.build_info()["instruction_sets"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
OPS = torch.ops.benchbench
GROUPED = (
    ((4, 12), 4),
    ((3, 6, 5), 3),
    ((3, 6, 11), 1),
    ((2, 32, 9, 7), 8),
    ((2, 33, 7, 7), 33),
    ((2, 8, 70, 65), 2),
    ((6, 4, 1, 1), 2),
    ((2, 4, 3, 4, 5), 2),
    ((2, 6, 2, 3, 2, 2), 3),
    ((1, 2, 130, 517), 1),
)


random = partial(normal, scale=2.0)


def compare(ours, reference, tensors, dy):
    """Our error against float64 is at most eager's, but for a few roundings of the dtype."""
    dtype = tensors[0].dtype
    true = with_gradients(reference, tensors, dy, torch.float64)
    eager = with_gradients(reference, tensors, dy)
    for mine, theirs, exact in zip(with_gradients(ours, tensors, dy), eager, true, strict=True):
        assert mine.shape == exact.shape and mine.dtype is dtype
        if dtype is torch.float64:  # the truth is eager's own
            assert relative(mine, exact) < 1e-11
            continue
        roundings = 8 if mine.dim() == 1 else 4
        allowed = 1.5 * relative(theirs, exact) + roundings * torch.finfo(dtype).eps
        assert relative(mine, exact) <= allowed


# ---- group norm ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "groups"), GROUPED, ids=str)
def test_group_norm(isa, shape, groups, dtype):
    w, b = (random(shape[1], dtype=dtype, seed=s) for s in (1, 2))
    dy = random(*shape, dtype=dtype, seed=3)
    for x in layouts(random(*shape, dtype=dtype, mean=0.5)):
        compare(
            lambda x, w, b: fused.group_norm(x, groups, w, b),
            lambda x, w, b: F.group_norm(x, groups, w, b),
            [x, w, b],
            dy,
        )
        y = fused.group_norm(x, groups)
        assert y.is_contiguous() or y.stride() == x.stride()


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_group_norm_of_any_shape(data):
    groups, planes = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    image = data.draw(st.lists(st.integers(1, 21), min_size=0, max_size=3))
    shape = (data.draw(st.integers(2, 4)), groups * planes, *image)
    dtype = data.draw(st.sampled_from((torch.float32, torch.bfloat16)))
    affine = data.draw(st.booleans())
    x = data.draw(st.sampled_from(list(layouts(random(*shape, dtype=dtype, mean=1.0)))))
    more = [random(shape[1], dtype=dtype, seed=s) for s in (1, 2)] if affine else []
    before = LIBRARY.build_info()["instruction_set"]
    LIBRARY.choose_instruction_set(data.draw(st.sampled_from(INSTRUCTION_SETS)))
    try:
        ours = with_gradients(lambda x, *p: fused.group_norm(x, groups, *p), [x, *more], x)
    finally:
        LIBRARY.choose_instruction_set(before)
    exact = with_gradients(lambda x, *p: F.group_norm(x, groups, *p), [x, *more], x, torch.float64)
    # Groups of few values, nearly equal ones among them, amplify their last bits, and the input's
    # gradient is what is left of terms of the size of rstd dy.
    size = planes * x[0, 0].numel()
    allowed = (64 if size > 8 else 4096) * torch.finfo(dtype).eps
    for mine, true in zip(ours, exact, strict=True):
        if size > 1:
            assert relative(mine, true) <= allowed or (mine - true).abs().max() <= allowed


@pytest.mark.parametrize("mean", (1e2, 1e4))
@pytest.mark.parametrize("shape", ((4, 6, 50, 50), (2, 4, 7, 7)), ids=str)
def test_a_large_mean_costs_no_precision(isa, shape, mean):
    for x in layouts(random(*shape, mean=mean)):
        truth = F.group_norm(x.double(), 2)
        mine, theirs = (relative(f(x, 2), truth) for f in (fused.group_norm, F.group_norm))
        assert mine <= 1e-6 + theirs
        assert mine < 1e-4 * mean / 1e2


@pytest.mark.parametrize("shape", ((0, 4, 3, 3), (2, 4, 0, 3), (0, 4)), ids=str)
def test_empty_group_norm(shape):
    x, w = torch.empty(shape, requires_grad=True), torch.ones(4, requires_grad=True)
    y = fused.group_norm(x, 2, w)
    dx, dw = torch.autograd.grad(y.sum(), (x, w))
    assert y.shape == dx.shape == x.shape
    assert (dw == 0).all()


def test_parameters_may_be_float32_beside_a_16_bit_input():
    x = random(2, 6, 5, 4, dtype=torch.bfloat16, grad=True)
    w, b = (random(6, seed=s, grad=True) for s in (1, 2))
    y = fused.group_norm(x, 3, w, b)
    found = torch.autograd.grad(y, (x, w, b), torch.ones_like(y))
    assert [t.dtype for t in (y, *found)] == [x.dtype, x.dtype, w.dtype, b.dtype]
    assert relative(y.detach(), F.group_norm(x.double(), 3, w.double(), b.double()).detach()) < 0.01


def test_expanded_gradients_and_one_sided_parameters():
    x, w = random(2, 6, 5, 4, grad=True), random(6, seed=1)
    (dx,) = torch.autograd.grad(fused.group_norm(x, 3, w).sum(), x)
    (true,) = torch.autograd.grad(F.group_norm(x.double(), 3, w.double()).sum(), x)
    torch.testing.assert_close(dx, true.float(), atol=1e-5, rtol=1e-5)
    b = random(6, seed=2, grad=True)
    (db,) = torch.autograd.grad(fused.group_norm(x.detach(), 3, w, b).sum(), b)
    assert (db == 40).all()


# ---- instance norm ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", [(3, 5, 17), (2, 33, 7, 7), (2, 3, 70, 65), (2, 3, 4, 5, 6)], ids=str
)
def test_instance_norm(isa, shape, dtype):
    w, b = (random(shape[1], dtype=dtype, seed=s) for s in (1, 2))
    dy = random(*shape, dtype=dtype, seed=3)

    def reference(x, w, b):
        return F.instance_norm(x, weight=w, bias=b)

    for x in layouts(random(*shape, dtype=dtype, mean=0.5)):
        compare(lambda x, w, b: fused.instance_norm(x, weight=w, bias=b), reference, [x, w, b], dy)


@pytest.mark.parametrize("momentum", (0.1, 1.0, 0.0))
@pytest.mark.parametrize("shape", [(3, 5, 17), (2, 5, 7, 7), (2, 5, 4, 5, 6)], ids=str)
def test_running_statistics_are_torchs(shape, momentum):
    for x in layouts(random(*shape, mean=2.0)):
        start = [random(5, seed=1), random(5, seed=2).square()]
        ours, theirs = [s.clone() for s in start], [s.clone() for s in start]
        fused.instance_norm(x, *ours, momentum=momentum)
        F.instance_norm(x, *theirs, momentum=momentum)
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)
        kept = [s.clone() for s in ours]
        torch.testing.assert_close(
            fused.instance_norm(x, *ours, use_input_stats=False),
            F.instance_norm(x, *theirs, use_input_stats=False),
            rtol=2e-5,
            atol=2e-5,
        )
        assert all(torch.equal(a, b) for a, b in zip(ours, kept, strict=True))


# ---- local response norm ----

WINDOWS = ((5, 1e-4, 0.75, 2.0), (4, 0.5, 0.5, 1.0), (1, 0.3, 1.0, 0.1), (3, 0.1, 0.3, 1.5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [*WINDOWS, (100, 0.5, 0.75, 1.0)], ids=str)
@pytest.mark.parametrize(
    "shape", [(3, 7, 5), (2, 33, 7, 7), (1, 3, 70, 65), (2, 6, 3, 4, 5), (2, 1, 9, 1)], ids=str
)
def test_local_response_norm(isa, shape, window, dtype):
    def reference(x):
        # torch has no 16-bit pooling on the CPU: the best of eager is one rounding.
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return F.local_response_norm(wide, *window).to(x.dtype)

    dy = random(*shape, dtype=dtype, seed=3)
    for x in layouts(random(*shape, dtype=dtype)):
        compare(lambda x: fused.local_response_norm(x, *window), reference, [x], dy)
        y = fused.local_response_norm(x, *window)
        assert y.is_contiguous() or y.stride() == x.stride()


def test_every_channel_of_a_wide_image_and_more_than_one_block_of_positions(isa):
    x, dy = random(1, 200, 40, 41), random(1, 200, 40, 41, seed=1)
    window = (5, 0.1, 0.75, 1.0)
    compare(
        lambda x: fused.local_response_norm(x, *window),
        lambda x: F.local_response_norm(x, *window),
        [x],
        dy,
    )


@pytest.mark.parametrize("shape", ((0, 4, 3), (2, 0, 3), (2, 4, 0)), ids=str)
def test_empty_local_response_norm(shape):
    x = torch.empty(shape, requires_grad=True)
    y = fused.local_response_norm(x, 3)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert y.shape == dx.shape == x.shape


# ---- as operators ----


@pytest.mark.parametrize("affine", (False, True))
@pytest.mark.parametrize("shape", ((4, 6), (2, 6, 5), (2, 6, 3, 4)), ids=str)
def test_group_norm_as_an_operator(shape, affine):
    for x in layouts(random(*shape)):
        x = x.detach().requires_grad_()
        w, b = (random(6, seed=s, grad=True) if affine else None for s in (1, 2))
        torch.library.opcheck(OPS.group_norm.default, (x, 3, w, b, 1e-5))
        wide = [None if t is None else t.detach().double() for t in (x, w, b)]
        leaves = [t.requires_grad_() for t in wide if t is not None]
        torch.autograd.gradcheck(
            lambda *_, wide=wide: OPS.group_norm.default(wide[0], 3, *wide[1:], 1e-5)[0], leaves
        )


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_response_norm_as_an_operator(window):
    for x in layouts(random(2, 6, 3, 4)):
        torch.library.opcheck(OPS.response_norm.default, (x.detach().requires_grad_(), *window))
        torch.library.opcheck(OPS.response_norm_backward.default, (torch.ones_like(x), x, *window))
        wide = x.detach().double().requires_grad_()
        torch.autograd.gradcheck(lambda t: OPS.response_norm.default(t, *window), wide)
        assert torch.equal(LIBRARY.response_norm(x, *window), fused.local_response_norm(x, *window))


def test_a_second_derivative_raises():
    x = random(2, 4, 5, grad=True)
    for y in (fused.group_norm(x, 2), fused.local_response_norm(x, 3)):
        (dx,) = torch.autograd.grad((y * y * y).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="not implemented"):
            dx.sum().backward()


def test_compiles_to_one_graph_with_gradients():
    def step(x, w, b, mean, var):
        y = fused.local_response_norm(fused.group_norm(x, 2, w, b), 3)
        return (fused.instance_norm(y, mean, var, w, b) * y).sum()

    def arguments():
        w, b = (random(4, seed=s, grad=True) for s in (1, 2))
        return random(2, 4, 5, 5, grad=True), w, b, torch.zeros(4), torch.ones(4)

    plain, traced = arguments(), arguments()
    expected = step(*plain)
    expected.backward()
    found = torch.compile(step, fullgraph=True, backend="aot_eager")(*traced)
    found.backward()
    torch.testing.assert_close(found, expected)
    for mine, true in zip(traced, plain, strict=True):
        torch.testing.assert_close(mine, true)
        torch.testing.assert_close(mine.grad, true.grad)


def test_results_do_not_depend_on_the_number_of_threads(threads):
    def everything():
        found = []
        for x in layouts(random(3, 24, 70, 61)):
            w, dy = random(24, seed=1), random(3, 24, 70, 61, seed=2)
            found += with_gradients(lambda x, w: fused.group_norm(x, 4, w), [x, w], dy)
            found += with_gradients(lambda x: fused.local_response_norm(x, 5, 0.1), [x], dy)
        return found

    threads(1)
    alone = everything()
    for count in (2, 3, 7):
        threads(count)
        assert_all_equal(everything(), alone)


# ---- errors ----

X = torch.zeros(2, 6, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fused.group_norm(X, 4), r"6 channels.*4 groups.*divisor"),
        (lambda: fused.group_norm(X, 0), r"0 groups.*divisor"),
        (lambda: fused.group_norm(X[0, 0], 1), r"dimensions.*must"),
        (lambda: fused.group_norm(X[:1, :, :1], 6), r"more than one value.*use"),
        (lambda: fused.group_norm(X, 2, torch.ones(5)), r"weight.*5.*must.*6"),
        (lambda: fused.group_norm(X, 2, None, torch.ones(6).half()), r"bias.*Half.*must"),
        (lambda: fused.group_norm(X.int(), 2), r"floating.*convert"),
        (lambda: fused.instance_norm(X[:, :, :1]), r"more than one value.*use"),
        (lambda: fused.instance_norm(X[0]), r"3.*dimensions"),
        (lambda: fused.instance_norm(X, use_input_stats=False), r"running statistics.*pass"),
        (lambda: fused.local_response_norm(X[0], 3), r"at least 3"),
        (lambda: fused.local_response_norm(X, 0), r"size is 0.*must"),
        (lambda: fused.local_response_norm(X.int(), 3), r"floating.*convert"),
    ],
)
def test_errors_say_what_and_what_next(call, words):
    with pytest.raises((RuntimeError, ValueError), match=words):
        call()
