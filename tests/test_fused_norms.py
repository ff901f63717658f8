"""The fused norms against float64, on every instruction set, dtype, layout and awkward shape."""

import pytest
import torch
from kernel_errors import assert_all_equal, dense_layouts, random, relative
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchbench import fused

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ROWS = ((5, 7), (64, 16), (33, 129), (4, 1000), (2, 100_003), (130, 31), (0, 8))
PLANES = (
    (4, 3),
    (5, 16),
    (2, 3, 11),
    (3, 5, 7, 7),
    (2, 33, 9, 13),
    (2, 2, 70, 65),
    (6, 4, 1, 1),
    (2, 3, 2, 5, 3),
    (1, 1, 3, 3),
)


def gradients(function, inputs, grads):
    """Outputs and gradients of ``function`` at ``inputs`` (None and constants allowed)."""
    leaves = [x.detach().requires_grad_(x.requires_grad) if x is not None else None for x in inputs]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = [x for x in leaves if x is not None and x.requires_grad]
    found = torch.autograd.grad(
        outputs, wanted, [g.to(o.dtype) for g, o in zip(grads, outputs, strict=True)]
    )
    return [o.detach() for o in outputs], list(found)


def assert_as_good(ours, eager, truth):
    """Our error is at most eager's, but for a few roundings of the result's dtype.

    Sums over all rows get more: which of two orders errs less is chance for one sum (the mean over
    many is tested by itself).
    """
    assert ours.shape == truth.shape
    assert ours.dtype == eager.dtype
    mine, theirs = relative(ours, truth), relative(eager, truth)
    if ours.dtype == torch.float64:  # the truth is eager's own
        assert mine < 1e-12
    else:
        units = 8 if ours.dim() == 1 else 4
        assert mine <= 1.5 * theirs + units * torch.finfo(ours.dtype).eps, (mine, theirs)


def compare(function, reference, inputs, grads):
    """Outputs and gradients: ours, eager's in the same dtype, and eager's in float64."""
    wide = [None if x is None else x.double() for x in inputs]
    wide = [
        None if w is None else w.detach().requires_grad_(x.requires_grad)
        for w, x in zip(wide, inputs, strict=True)
    ]
    ours = gradients(function, inputs, grads)
    eager = gradients(reference, inputs, grads)
    truth = gradients(reference, wide, [g.double() for g in grads])
    for mine, theirs, true in zip(*(o + g for o, g in (ours, eager, truth)), strict=True):
        assert_as_good(mine, theirs, true)


def rms_reference(x, weight=None, eps=1e-6):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


# ---- rows ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_layer_norm(shape, dtype, isa):
    n = shape[-1]
    x, g = random(*shape, dtype=dtype, grad=True), random(*shape, dtype=dtype, seed=3)
    w, b = (random(n, dtype=dtype, seed=s, grad=True) for s in (1, 2))
    compare(
        lambda x, w, b: fused.layer_norm(x, (n,), w, b),
        lambda x, w, b: F.layer_norm(x, (n,), w, b),
        (x, w, b),
        [g],
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_rms_norm(shape, dtype, isa):
    n = shape[-1]
    x, g = random(*shape, dtype=dtype, grad=True), random(*shape, dtype=dtype, seed=3)
    w = random(n, dtype=dtype, seed=1, grad=True)
    compare(lambda x, w: fused.rms_norm(x, (n,), w, 1e-6), rms_reference, (x, w), [g])


@pytest.mark.parametrize("rms", (False, True), ids=("layer", "rms"))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", ((5, 7), (33, 129), (4, 1000), (0, 8)), ids=str)
def test_a_residual_is_added_and_the_sum_returned(shape, dtype, rms, isa):
    n = shape[-1]
    x, r = (random(*shape, dtype=dtype, seed=s, grad=True) for s in (0, 5))
    w, b = (random(n, dtype=dtype, seed=s, grad=True) for s in (1, 2))
    grads = [random(*shape, dtype=dtype, seed=s) for s in (3, 4)]

    def ours(x, r, w, b):
        if rms:
            return fused.add_rms_norm(x, r, (n,), w, 1e-6)
        return fused.add_layer_norm(x, r, (n,), w, b)

    def reference(x, r, w, b):
        total = x + r
        normed = rms_reference(total, w) if rms else F.layer_norm(total, (n,), w, b)
        return normed, total

    compare(ours, reference, (x, r, w, b.detach() if rms else b), grads)


@pytest.mark.parametrize("which", (0, 1), ids=("normed", "sum"))
def test_only_one_of_the_two_outputs_is_used(which):
    x, r, w = random(4, 9, grad=True), random(4, 9, seed=1, grad=True), random(9, grad=True)
    g = random(4, 9, seed=2)
    used = fused.add_layer_norm(x, r, (9,), w)[which]
    ours = torch.autograd.grad(used, (x, r, w), g, allow_unused=True)
    used = (F.layer_norm(x + r, (9,), w), x + r)[which]
    theirs = torch.autograd.grad(used, (x, r, w), g, allow_unused=True)
    for mine, true in zip(ours, theirs, strict=True):
        true = torch.zeros(9) if true is None else true
        torch.testing.assert_close(torch.zeros(9) if mine is None else mine, true)


@pytest.mark.parametrize("n", (8, 1000, 100_000))
@pytest.mark.parametrize("mean", (1e2, 1e4))
def test_a_large_mean_costs_no_precision(n, mean, isa):
    x = random(4, n, mean=mean)
    truth = F.layer_norm(x.double(), (n,))
    assert relative(fused.layer_norm(x, (n,)), truth) <= 1e-6 + relative(
        F.layer_norm(x, (n,)), truth
    )
    assert relative(fused.layer_norm(x, (n,)), truth) < 2e-5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_one(dtype, isa):
    # What is left of the gradient is the rounding of terms that cancel.
    x, g = random(3, 1, dtype=dtype, grad=True), random(3, 1, dtype=dtype, seed=1)
    w, b = random(1, dtype=dtype, seed=2), random(1, dtype=dtype, seed=3)
    y = fused.layer_norm(x, (1,), w, b)
    assert torch.equal(y, b.expand(3, 1))
    (dx,) = torch.autograd.grad(y, x, g)
    assert dx.abs().max() < 1e3 * torch.finfo(torch.float32).eps
    y = fused.rms_norm(x, (1,), w, 1e-6)
    (dx,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close(y, x.sign() * w, rtol=1e-2, atol=1e-2)
    assert dx.abs().max() < 1e-2


def test_several_dimensions_are_normalised_together():
    x, w, b = random(3, 4, 5), random(4, 5, seed=1), random(4, 5, seed=2)
    torch.testing.assert_close(fused.layer_norm(x, (4, 5), w, b), F.layer_norm(x, (4, 5), w, b))
    torch.testing.assert_close(fused.rms_norm(x, [4, 5], w, 1e-6), F.rms_norm(x, (4, 5), w, 1e-6))
    assert fused.layer_norm(x, 5).shape == x.shape
    normed, total = fused.add_layer_norm(x, x, (4, 5), w, b)
    torch.testing.assert_close(normed, F.layer_norm(x + x, (4, 5), w, b))
    torch.testing.assert_close(total, x + x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_default_eps_of_rms_norm_is_torchs(dtype):
    x = random(4, 32, dtype=torch.float64).mul(1e-3).to(dtype)
    torch.testing.assert_close(fused.rms_norm(x, (32,)), F.rms_norm(x, (32,)))
    tiny = torch.full((1, 8), 3e-4, dtype=dtype)
    torch.testing.assert_close(fused.rms_norm(tiny, (8,)), F.rms_norm(tiny, (8,)))


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
def test_parameters_may_be_float32_beside_a_16_bit_input(dtype):
    x = random(6, 40, dtype=dtype, grad=True)
    w, b = (random(40, seed=s, grad=True) for s in (1, 2))
    y = fused.layer_norm(x, (40,), w, b)
    assert y.dtype == dtype
    dx, dw, db = torch.autograd.grad(y, (x, w, b), torch.ones_like(y))
    assert (dx.dtype, dw.dtype, db.dtype) == (dtype, torch.float32, torch.float32)
    truth = F.layer_norm(x.double(), (40,), w.double(), b.double())
    assert relative(y.detach(), truth.detach()) < 2 * torch.finfo(dtype).eps


def test_non_contiguous_and_expanded():
    x = random(16, 6, 10).permute(1, 2, 0)  # rows are strided
    torch.testing.assert_close(fused.layer_norm(x, (16,)), F.layer_norm(x, (16,)))
    wide = random(1, 10).expand(5, 10)
    torch.testing.assert_close(fused.layer_norm(wide, (10,)), F.layer_norm(wide, (10,)))
    leaf = random(5, 10, grad=True)
    fused.layer_norm(leaf, (10,)).sum().backward()  # the gradient is one value, expanded
    assert leaf.grad.abs().max() < 1e-5
    w = random(20, seed=1)[::2].detach().requires_grad_()
    a = torch.autograd.grad((fused.layer_norm(leaf, (10,), w) * leaf).sum(), w)
    b = torch.autograd.grad((F.layer_norm(leaf, (10,), w) * leaf).sum(), w)
    torch.testing.assert_close(a, b)


def test_nan_and_infinity_stay_in_their_row():
    x = random(3, 20)
    x[0, 4], x[2, 19] = torch.nan, torch.inf
    y = fused.layer_norm(x, (20,))
    assert y[0].isnan().all()
    assert y[2].isnan().any()
    torch.testing.assert_close(y[1], F.layer_norm(x[1], (20,)))


def test_constant_rows_give_zero_and_finite_gradients():
    x = torch.full((4, 33), 7.25, requires_grad=True)
    y = fused.layer_norm(x, (33,))
    assert (y == 0).all()
    y.sum().backward()
    assert x.grad.isfinite().all()


# ---- batch norm ----


@pytest.mark.parametrize("fusion", ("none", "relu", "add_relu"))
@pytest.mark.parametrize("training", (True, False), ids=("train", "eval"))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", PLANES, ids=str)
def test_batch_norm(shape, dtype, training, fusion, isa):
    c = shape[1]
    w, b = (random(c, dtype=dtype, seed=s, grad=True) for s in (1, 2))
    mean, var = random(c, seed=6), random(c, seed=7).square() + 0.5
    g = random(*shape, dtype=dtype, seed=3)

    def statistics(x):
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        return mean.to(wide), var.to(wide)

    def ours(x, r, w, b):
        if fusion == "none":
            return fused.batch_norm(x, *statistics(x), w, b, training)
        if fusion == "relu":
            return fused.batch_norm_relu(x, *statistics(x), w, b, training)
        return fused.batch_norm_add_relu(x, r, *statistics(x), w, b, training)

    def reference(x, r, w, b):
        # torch wants float32 parameters beside float32 statistics and 16-bit inputs.
        wide = statistics(x)[0].dtype
        y = F.batch_norm(x, *statistics(x), w.to(wide), b.to(wide), training)
        y = y + r if fusion == "add_relu" else y
        return y if fusion == "none" else y.relu()

    for x in dense_layouts(random(*shape, dtype=dtype)):
        r = random(*shape, dtype=dtype, seed=5)
        # The kink of the ReLU: rounding may put a value on its other side.
        if fusion != "none":
            pre = reference(x.double(), r.double() * (fusion == "add_relu"), w.double(), b.double())
            g = g * (pre.abs() > 0.05)
        r.requires_grad_(fusion == "add_relu")
        x = x.detach().requires_grad_()
        compare(ours, reference, (x, r, w, b), [g])
        assert ours(x, r, w, b).stride() == x.stride()


@pytest.mark.parametrize("residual", (False, True), ids=("alone", "residual"))
@pytest.mark.parametrize("training", (True, False), ids=("train", "eval"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=str)
def test_a_relu_that_is_cut(dtype, training, residual, isa):
    shape, c = (4, 6, 9, 7), 6
    w, b = (random(c, dtype=dtype, seed=s, grad=True) for s in (1, 2))
    mean, var = random(c, seed=6), random(c, seed=7).square() + 0.5
    g = random(*shape, dtype=dtype, seed=3)

    def statistics(x):
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        return mean.to(wide), var.to(wide)

    def ours(x, r, w, b):
        if residual:
            return fused.batch_norm_add_relu(x, r, *statistics(x), w, b, training, ceiling=1.0)
        return fused.batch_norm_relu(x, *statistics(x), w, b, training, ceiling=1.0)

    def reference(x, r, w, b):
        wide = statistics(x)[0].dtype
        y = F.batch_norm(x, *statistics(x), w.to(wide), b.to(wide), training)
        return F.hardtanh(y + r if residual else y, 0.0, 1.0)

    for x in dense_layouts(random(*shape, dtype=dtype)):
        r = random(*shape, dtype=dtype, seed=5)
        state = (s.double() for s in (mean, var, w, b))
        before = F.batch_norm(x.double(), *state, training) + r.double() * residual
        # Both kinks: rounding may put a value on the other side.
        away = g * ((before.abs() > 0.05) & ((before - 1).abs() > 0.05))
        assert (before > 1).any() and (before < 0).any()
        r.requires_grad_(residual)
        compare(ours, reference, (x.detach().requires_grad_(), r, w, b), [away])


def test_a_cut_relu_keeps_nan_and_knows_its_bounds():
    x = torch.tensor([[-1.0, 2.0, torch.nan, torch.inf], [8.0, 6.0, 1.0, -torch.inf]])
    mean, var = torch.zeros(4), torch.ones(4)
    y = fused.batch_norm_relu(x, mean, var, eps=0.0, ceiling=6.0)
    expected = F.relu6(x)
    torch.testing.assert_close(y, expected, equal_nan=True)
    uncut = fused.batch_norm_relu(x, mean, var, eps=0.0)
    torch.testing.assert_close(uncut, x.relu(), equal_nan=True)
    with pytest.raises(ValueError, match=r"ceiling.*0.*must be positive"):
        fused.batch_norm_relu(x, mean, var, ceiling=0.0)
    other = torch.empty(2, 4, device="meta")
    cut = fused.batch_norm_relu(other, mean.to("meta"), var.to("meta"), ceiling=6.0)
    assert cut.shape == other.shape


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", (64, 1000, 8192, 16384))
def test_streaming_changes_no_row(dtype, columns, isa, stream_from):
    tensors = [random(5, columns, dtype=dtype, seed=s, grad=True) for s in (0, 1)]
    tensors.append(random(columns, dtype=dtype, seed=2, grad=True))
    grads = [random(5, columns, dtype=dtype, seed=s) for s in (3, 4)]

    def everything():
        found = []
        for f in (fused.add_layer_norm, fused.add_rms_norm):
            found += gradients(lambda x, r, w, f=f: f(x, r, (columns,), w), tensors, grads)
        for f in (fused.layer_norm, fused.rms_norm):
            one = gradients(lambda x, _, w, f=f: f(x, (columns,), w) + 0 * _, tensors, grads[:1])
            found += one
            with torch.no_grad():
                found.append([f(tensors[0], (columns,), tensors[2])])
        return [tensor for part in found for tensor in part]

    plain = everything()
    stream_from(0)
    assert_all_equal(everything(), plain)


@pytest.mark.parametrize("last", (False, True), ids=("planes", "pixels"))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_streaming_changes_no_image(dtype, last, isa, stream_from):
    shape, order = (3, 64, 8, 8), torch.channels_last if last else torch.contiguous_format
    x, r = (random(*shape, dtype=dtype, seed=s).contiguous(memory_format=order) for s in (0, 1))
    tensors = [x.requires_grad_(), r.requires_grad_(), random(64, dtype=dtype, seed=2, grad=True)]
    grad = [random(*shape, dtype=dtype, seed=3)]

    def everything():
        functions = (
            lambda x, r, w: fused.batch_norm_relu(x, None, None, w, training=True) + 0 * r,
            lambda x, r, w: fused.batch_norm_add_relu(x, r, None, None, w, training=True),
            lambda x, r, w: fused.group_norm(x, 4, w) + 0 * r,
        )
        return [t for f in functions for part in gradients(f, tensors, grad) for t in part]

    plain = everything()
    stream_from(0)
    assert_all_equal(everything(), plain)


@pytest.mark.parametrize("last", (False, True), ids=("planes", "pixels"))
@pytest.mark.parametrize("kind", ("batch", "layer"))
def test_sums_over_rows_err_no_more_than_eagers_on_average(kind, last, isa):
    def errors(norm, dtype):
        found = []
        for seed in range(12):
            x, g = random(2, 4, 50, 65, seed=seed), random(2, 4, 50, 65, seed=seed + 50)
            if last:
                x = x.contiguous(memory_format=torch.channels_last)
            n = 4 if kind == "batch" else 65
            w = random(n, seed=1).to(dtype).requires_grad_()
            b = random(n, seed=2).to(dtype).requires_grad_()
            arguments = (None, None, w, b, True) if kind == "batch" else ((n,), w, b)
            y = norm(x.to(dtype).requires_grad_(), *arguments)
            found += torch.autograd.grad(y, (w, b), g.to(dtype))
        return torch.cat(found).double()

    torchs, ours = getattr(F, f"{kind}_norm"), getattr(fused, f"{kind}_norm")
    truth = errors(torchs, torch.float64)
    mine, theirs = (errors(f, torch.float32) - truth for f in (ours, torchs))
    assert mine.square().mean().sqrt() <= 1.25 * theirs.square().mean().sqrt()


@pytest.mark.parametrize("shape", ((64, 5), (8, 6, 40), (8, 3, 20, 20), (2, 3, 4, 5, 6)), ids=str)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=str)
@pytest.mark.parametrize("momentum", (0.1, 1.0, 0.0))
def test_running_statistics_are_torchs(shape, dtype, momentum, isa):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    start = [random(shape[1], dtype=wide, seed=1), random(shape[1], dtype=wide, seed=2).square()]
    for x in dense_layouts(random(*shape, dtype=dtype, mean=3.0)):
        ours, theirs = [s.clone() for s in start], [s.clone() for s in start]
        fused.batch_norm(x, *ours, training=True, momentum=momentum)
        F.batch_norm(x, *theirs, training=True, momentum=momentum)
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("way", ("plain", "functionalized", "inference", "fake", "strided", "mode"))
def test_running_statistics_move_wherever_they_are(way):
    """Plain tensors are moved in one call, others by plain torch; both are in-place changes."""
    x = random(6, 5, 3, seed=1)
    mean, variance = random(5, seed=2), random(5, seed=3).abs()
    wanted = mean.clone(), variance.clone()
    F.batch_norm(x, *wanted, training=True, momentum=0.3)

    def step(x, mean, variance):
        fused.batch_norm(x, mean, variance, training=True, momentum=0.3)
        return mean.clone(), variance.clone()

    if way == "functionalized":
        found = torch.func.functionalize(step)(x, mean, variance)
    elif way == "inference":
        with torch.inference_mode():
            found = step(x, mean.clone(), variance.clone())
    elif way == "fake":
        with FakeTensorMode() as mode:
            fakes = [mode.from_tensor(t) for t in (x, mean, variance)]
            step(*fakes)
            assert fakes[1]._version == 1
        return
    elif way == "strided":
        mean, variance = (torch.stack((t, t), 1)[:, 0] for t in (mean, variance))
        found = step(x, mean, variance)
    elif way == "mode":
        with FlopCounterMode(display=False):
            found = step(x, mean, variance)
    else:
        found = step(x, mean, variance)
        assert mean._version == 1 and variance._version == 1
    for ours, torchs in zip(found, wanted, strict=True):
        assert relative(ours, torchs.double()) < 1e-6


@pytest.mark.parametrize("shape", ((4096, 3), (4, 3, 64, 64), (2, 2, 7, 7)), ids=str)
@pytest.mark.parametrize("mean", (1e2, 1e4))
def test_a_large_mean_costs_batch_norm_no_precision(shape, mean, isa):
    for x in dense_layouts(random(*shape, mean=mean)):
        truth = F.batch_norm(x.double(), None, None, training=True)
        mine = relative(fused.batch_norm(x, None, None, training=True), truth)
        theirs = relative(F.batch_norm(x, None, None, training=True), truth)
        assert mine <= 1e-6 + theirs
        assert mine < 1e-4 * mean / 1e2


def test_a_channel_whose_first_value_is_far_off():
    x = random(4, 2, 30, 30)
    x[0, :, 0, 0] = 1e6  # a poor shift for the sums
    truth = F.batch_norm(x.double(), None, None, training=True)
    for y in dense_layouts(x):
        assert relative(fused.batch_norm(y, None, None, training=True), truth) < 1e-5


def test_any_strides():
    base = random(4, 6, 5, 8)
    for x in (base.permute(2, 1, 3, 0), base[:, ::2, :, 1:], base[:1].expand(3, 6, 5, 8)):
        ours = fused.batch_norm(x, None, None, training=True)
        torch.testing.assert_close(ours, F.batch_norm(x, None, None, training=True))
    x = random(3, 4, 5, 5, grad=True)
    last = x.contiguous(memory_format=torch.channels_last)
    for y in (x, last):
        fused.batch_norm_relu(y, None, None, training=True).sum().backward()
        mine, x.grad = x.grad, None
        F.batch_norm(y, None, None, training=True).relu().sum().backward()
        torch.testing.assert_close(mine, x.grad, atol=1e-5, rtol=1e-5)
        x.grad = None


@pytest.mark.parametrize("shape", ((0, 3), (0, 3, 4, 4), (2, 0, 3, 3), (2, 3, 0, 4)), ids=str)
def test_empty_batches(shape):
    x = torch.empty(shape, requires_grad=True)
    mean, var = torch.zeros(shape[1]), torch.ones(shape[1])
    w = torch.ones(shape[1], requires_grad=True)
    for training in (True, False):
        y = fused.batch_norm(x, mean, var, w, None, training)
        dx, dw = torch.autograd.grad(y.sum(), (x, w))
        assert y.shape == dx.shape == x.shape
        assert (dw == 0).all()
    assert (mean == 0).all()
    assert (var == 1).all()
