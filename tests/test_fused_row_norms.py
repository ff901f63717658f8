"""The fused layer and RMS norms against float64: every instruction set, dtype, awkward shapes."""

import pytest
import torch
from kernel_errors import assert_all_equal, random, relative
from norm_cases import DTYPES, ROWS, compare, gradients
from torch.nn import functional as F

from benchbench import fused


def rms_reference(x, weight=None, eps=1e-6):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


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
