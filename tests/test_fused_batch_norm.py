"""The fused batch norms against float64: every instruction set, dtype, layout, awkward shapes."""

import math

import pytest
import torch
from kernel_errors import assert_all_equal, dense_layouts, random, relative
from norm_cases import DTYPES, PLANES, compare, gradients
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchbench import fused


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", PLANES, ids=str)
def test_what_a_relu_lets_through_is_kept_as_bits(shape, dtype, isa):
    x, r = (random(*shape, dtype=dtype, seed=s) for s in (0, 1))
    # In 16 bits an output may be rounded up to the ceiling that its value is below.
    ceiling = 0.75 if dtype.itemsize > 2 else 0.0
    for layout in dense_layouts(x):
        residual = torch.empty_like(layout).copy_(r)
        operator = torch.ops.benchbench.batch_norm
        options = (layout, residual, None, None, None, None, True, 1e-5, True, ceiling)
        y, *_, passed = operator(*options, True)
        last = layout.movedim(1, -1).is_contiguous()
        rows = y.movedim(1, -1).reshape(-1, shape[1]) if last else y.reshape(-1, y[0, 0].numel())
        through = ((rows > 0) & (rows < (ceiling or math.inf))).to(torch.uint8)
        through = torch.nn.functional.pad(through, (0, -rows.shape[1] % 8)).unflatten(1, (-1, 8))
        bits = (through << torch.arange(8)).sum(2)
        assert torch.equal(passed.long(), bits.flatten())
        assert operator(*options)[-1].numel() == 0, "only where a gradient will want them"


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
    r = torch.empty(shape, requires_grad=True)
    for training in (True, False):
        y = fused.batch_norm(x, mean, var, w, None, training)
        dx, dw = torch.autograd.grad(y.sum(), (x, w))
        assert y.shape == dx.shape == x.shape
        assert (dw == 0).all()
        y = fused.batch_norm_add_relu(x, r, mean, var, w, None, training)
        dx, dr, dw = torch.autograd.grad(y.sum(), (x, r, w))
        assert y.shape == dx.shape == dr.shape == x.shape
        assert (dw == 0).all()
    assert (mean == 0).all()
    assert (var == 1).all()
