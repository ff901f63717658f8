"""The drop-in modules: torch's behaviour, torch's state, other kernels."""

import copy
import pickle

import pytest
import torch
from module_pairs import PAIRS, random, randomize
from torch import nn

from benchbench import fused
from benchbench.fused import modules


@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_a_module_behaves_as_torchs(theirs, ours, arguments, shape):
    one, other = randomize(theirs(**arguments)), randomize(ours(**arguments))
    assert isinstance(other, theirs)
    for step in range(3):  # training: running statistics move
        x, y = (random(*shape, seed=step).requires_grad_() for _ in range(2))
        a, b = one(x), other(y)
        torch.testing.assert_close(b, a)
        a.square().sum().backward()
        b.square().sum().backward()
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.state_dict(), one.state_dict())
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.eval()(x), one.eval()(x))


@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_state_goes_both_ways_and_copies_survive(theirs, ours, arguments, shape):
    one, other = randomize(theirs(**arguments)), ours(**arguments)
    one(random(*shape))
    other.load_state_dict(one.state_dict())
    back = theirs(**arguments)
    back.load_state_dict(other.state_dict())
    torch.testing.assert_close(back.state_dict(), one.state_dict())
    x = random(*shape, seed=3)
    expected = other.eval()(x)
    for copied in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert type(copied) is ours
        torch.testing.assert_close(copied(x), expected)


@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_a_module_compiles_to_one_graph(theirs, ours, arguments, shape):
    torch._dynamo.reset()
    plain, traced = randomize(ours(**arguments)), randomize(ours(**arguments))
    compiled = torch.compile(traced, fullgraph=True, backend="aot_eager")
    for step in range(2):
        x, y = (random(*shape, seed=step).requires_grad_() for _ in range(2))
        a, b = plain(x), compiled(y)
        torch.testing.assert_close(b, a)
        a.square().sum().backward()
        b.square().sum().backward()
        torch.testing.assert_close(y.grad, x.grad)
    torch.testing.assert_close(traced.state_dict(), plain.state_dict())
    for p, q in zip(plain.parameters(), traced.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of torch's own
@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_a_module_under_autocast(theirs, ours, arguments, shape):
    """Bfloat16 from a layer before it, float32 parameters: as torch's module, and no less exact."""
    one, other = randomize(theirs(**arguments)), randomize(ours(**arguments))
    exact = randomize(theirs(**arguments)).double()
    mix = nn.Linear(shape[-1], shape[-1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = mix(random(*shape))
        assert x.dtype is torch.bfloat16
        y = other(x)
        expected = one(x)
    assert y.dtype in (torch.bfloat16, expected.dtype)
    wide = x.detach().double().requires_grad_()
    truth = exact(wide)
    scale = truth.abs().max() * torch.finfo(torch.bfloat16).eps
    assert (y - truth).abs().max() <= max((expected - truth).abs().max(), scale)
    y.float().square().sum().backward()
    assert mix.weight.grad.isfinite().all()
    for parameter in other.parameters():
        assert parameter.grad.dtype is torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("dimensions", (1, 2, 3))
def test_batch_norm_with_relu_and_a_residual(dimensions):
    shape = (4, 5, 6, 3, 2)[: dimensions + 2]
    fusedly = randomize(getattr(modules, f"BatchNormReLU{dimensions}d")(5))
    plain = randomize(getattr(nn, f"BatchNorm{dimensions}d")(5))
    x, r = random(*shape), random(*shape, seed=1)
    torch.testing.assert_close(fusedly(x), plain(x).relu())
    torch.testing.assert_close(fusedly(x, r), (plain(x) + r).relu())
    torch.testing.assert_close(fusedly.state_dict(), plain.state_dict())
    plain.load_state_dict(fusedly.state_dict())


def test_norms_of_a_sum():
    x, r = random(3, 8), random(3, 8, seed=1)
    norm, rms = modules.AddLayerNorm(8), modules.AddRMSNorm(8)
    torch.testing.assert_close(norm(x, r), (nn.LayerNorm(8)(x + r), x + r))
    torch.testing.assert_close(rms(x, r), (nn.RMSNorm(8)(x + r), x + r))
    nn.LayerNorm(8).load_state_dict(norm.state_dict())


def test_wrong_dimensions_are_refused_as_in_torch():
    with pytest.raises(ValueError, match="4D"):
        modules.BatchNorm2d(3)(random(2, 3))


def test_modules_compile_to_one_graph():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    twin = copy.deepcopy(model)
    fused.swap(twin)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    x = random(2, 3, 8, 8)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin[1].running_var, model[1].running_var)
    compiled(x).square().sum().backward()
    assert twin[0].weight.grad.isfinite().all()
