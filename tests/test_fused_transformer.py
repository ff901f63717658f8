"""Packed gates, softmax with scale and mask on the CPU: values, gradients, tracing, errors."""

import math

import pytest
import torch
import torch.nn.functional as F

from benchbench import fused

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
GATES = {
    "packed_swiglu": F.silu,
    "packed_geglu": F.gelu,
    "packed_reglu": F.relu,
}


def random(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def both(function, x, dy):
    leaf = x.detach().requires_grad_()
    y = function(leaf)
    return y.detach(), torch.autograd.grad(y, leaf, dy)[0]


def as_close_as_eager(ours, eager, x, dy):
    """No further from float64 than eager, beside two roundings."""
    truth = both(eager, x.double(), dy.double())
    room = 2 * torch.finfo(x.dtype).eps
    for mine, other, true in zip(both(ours, x, dy), both(eager, x, dy), truth, strict=True):
        assert mine.dtype == x.dtype and mine.shape == true.shape
        finite = true.isfinite()
        assert torch.equal(mine.isfinite(), finite)
        scale = true[finite].abs().max() + 1e-300
        error = ((mine.double() - true)[finite].abs().max() / scale).item()
        theirs = ((other.double() - true)[finite].abs().max() / scale).item()
        assert error <= 1.1 * theirs + room


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("shape", [(3, 2), (5, 66), (2, 3, 256), (70_000,)], ids=str)
def test_packed_gates(name, dtype, shape):
    x = random(*shape, dtype=dtype)
    dy = random(*shape[:-1], shape[-1] // 2, dtype=dtype, seed=1)

    def eager(z):
        gate, up = z.chunk(2, -1)
        return GATES[name](gate) * up

    as_close_as_eager(getattr(fused, name), eager, x, dy)


def test_packed_gates_take_what_is_not_contiguous():
    x = random(6, 8).t()
    gate, up = x.chunk(2, -1)
    torch.testing.assert_close(fused.packed_geglu(x, "tanh"), F.gelu(gate, approximate="tanh") * up)
    assert fused.packed_swiglu(torch.empty(0, 4)).shape == (0, 2)


MASKS = {
    "none": lambda b, h, q, k: None,
    "keys": lambda b, h, q, k: random(b, 1, 1, k) > -0.5,
    "pairs": lambda b, h, q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q),
    "added": lambda b, h, q, k: random(b, 1, q, k, seed=4),
    "heads": lambda b, h, q, k: random(1, h, 1, 1, seed=5),
    "strided": lambda b, h, q, k: random(k, q, seed=6).t() > -1,
}


def reference(mask, scale, logarithm):
    function = torch.log_softmax if logarithm else torch.softmax

    def eager(x):
        e = x * scale
        if mask is not None:
            dropped = mask.dtype == torch.bool
            e = e.masked_fill(~mask, -math.inf) if dropped else e + mask.to(e.dtype)
        return function(e, -1)

    return eager


@pytest.mark.parametrize("logarithm", [False, True], ids=["softmax", "log"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_masked_softmax(name, dtype, logarithm):
    b, h, q, k = 3, 2, 5, 33
    mask = MASKS[name](b, h, q, k)
    if mask is not None and mask.dtype != torch.bool and dtype == torch.float64:
        mask = mask.double()
    ours = fused.masked_log_softmax if logarithm else fused.masked_softmax
    x, dy = (random(b, h, q, k, dtype=dtype, seed=s) for s in (1, 2))
    eager = reference(mask, 0.3, logarithm)
    if logarithm:  # no gradient reaches what was dropped, so none is given there
        dy = dy.masked_fill(eager(x) == -math.inf, 0)
    as_close_as_eager(lambda z: ours(z, mask, 0.3), eager, x, dy)


def test_a_mask_of_the_inputs_16_bits():
    x, mask = random(4, 7, dtype=torch.bfloat16), random(7, dtype=torch.bfloat16, seed=1)
    found = fused.masked_softmax(x, mask, 2.0)
    truth = reference(mask, 2.0, False)(x.double())
    assert (found.double() - truth).abs().max() < 4e-3


def test_scales_of_zero_and_below():
    x, mask = random(3, 8), random(3, 8, seed=1) > 0
    for scale in (0.0, -1.5):
        torch.testing.assert_close(
            fused.masked_softmax(x, mask, scale), reference(mask, scale, False)(x)
        )


def test_rows_without_an_element_are_nan_and_nothing_else_is():
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    assert fused.masked_softmax(random(3, 4), mask).isnan().any(1).tolist() == [False, True, False]


def test_gradients_by_differences():
    x = random(3, 6, dtype=torch.float64).requires_grad_()
    mask = random(3, 6, seed=1) > -1
    assert torch.autograd.gradcheck(fused.packed_geglu, (x,))
    assert torch.autograd.gradcheck(lambda z: fused.masked_softmax(z, mask, 0.7), (x,))
    assert torch.autograd.gradcheck(lambda z: fused.masked_softmax(z, mask.double(), 0.7), (x,))


def test_operators_pass_torchs_own_checks():
    x = random(3, 6).requires_grad_()
    mask = random(6, seed=1) > -1
    torch.library.opcheck(torch.ops.benchbench.packed_gate.default, (x, 5))
    torch.library.opcheck(torch.ops.benchbench.masked_softmax.default, (x, mask, 0.5, False))


def test_errors_say_what_to_do():
    x = random(3, 5)
    with pytest.raises(RuntimeError, match=r"last dimension must be even"):
        fused.packed_swiglu(x)
    with pytest.raises(RuntimeError, match=r"cannot be broadcast to the input's \[3, 5\]"):
        fused.masked_softmax(x, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(RuntimeError, match=r"mask is Int; it must be bool"):
        fused.masked_softmax(x, torch.ones(5, dtype=torch.int32))
    with pytest.raises(RuntimeError, match=r"asks for a gradient.*detach it"):
        fused.masked_softmax(x, random(5).requires_grad_())
    with pytest.raises(ValueError, match="must be 'none' or 'tanh', not 'erf'"):
        fused.packed_geglu(random(2, 4), "erf")
