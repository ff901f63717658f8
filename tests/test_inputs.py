"""Inputs: one helper for forward, and forward with backward."""

import pytest
import torch

import benchbench as bb


def silu(x):
    return x * torch.sigmoid(x)


def test_forward_returns_what_the_function_returns():
    inputs = bb.Inputs({"x": torch.randn(5), "scale": 3.0})
    thunk = inputs.thunk(lambda x, scale: x * scale)
    assert torch.equal(thunk(), inputs.x * 3)
    assert not inputs.backward


def test_backward_appends_the_gradients_and_leaves_no_trace():
    x, cotangent = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    inputs = bb.Inputs({"x": x}, wrt=["x"], cotangents=[cotangent])
    output, gradient = inputs.thunk(silu)()
    sigmoid = torch.sigmoid(x.detach())
    expected = cotangent * (sigmoid + x.detach() * sigmoid * (1 - sigmoid))
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(output, silu(x.detach()))
    assert inputs.x.grad is None and not output.requires_grad


def test_parameters_of_the_contender_follow_the_shared_ones():
    weight = torch.ones(3, requires_grad=True)
    inputs = bb.Inputs({"x": torch.randn(3)}, wrt=["x"], cotangents=[torch.ones(3)])
    output, dx, dweight = inputs.thunk(lambda x: x * weight, [weight])()
    assert torch.equal(dx, torch.ones(3)) and torch.equal(dweight, output)


def test_double_copies_and_keeps_integers():
    index = torch.arange(3)
    inputs = bb.Inputs(
        {"x": torch.randn(3), "index": index, "eps": 1e-5}, wrt=["x"], cotangents=[torch.ones(3)]
    )
    double = inputs.double()
    assert double.x.dtype == torch.float64 and double.cotangents[0].dtype == torch.float64
    assert double.x.requires_grad and double.index is index and double.eps == 1e-5
    double.x.detach().zero_()
    assert inputs.x.abs().sum() > 0


def test_arguments_choose_and_order():
    inputs = bb.Inputs({"a": 1, "b": 2, "c": 3}, arguments=["c", "a"])
    assert inputs.thunk(lambda *given: given)() == (3, 1)
    assert dict(inputs) == {"a": 1, "b": 2, "c": 3} and len(inputs) == 3


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(AttributeError, match=r"no 'y'; they have x, eps"):
        bb.Inputs({"x": 1, "eps": 2}).y  # noqa: B018
    with pytest.raises(KeyError):
        bb.Inputs({"x": 1})["y"]


def test_shared_lists_every_buffer_with_the_cotangents():
    inputs = bb.Inputs({"x": torch.ones(1)}, wrt=["x"], cotangents=[torch.ones(1), torch.ones(1)])
    assert list(inputs.tensors()) == ["x", "cotangent 0", "cotangent 1"]
