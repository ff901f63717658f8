"""The short way from Python to an operator: what it knows, and what it leaves to torch.ops."""

import threading

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchbench import fused, native

LIBRARY = native.load()
OPS = torch.ops.benchbench
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
W = nn.Parameter(torch.randn(6, generator=torch.Generator().manual_seed(1)))

# Name of the entry and arguments: of each signature one.
CALLS = {
    "tanh": (X,),
    "softmax": (X,),
    "bias_gelu": (X, W),
    "swiglu": (X, X.neg()),
    "curve": (X, LIBRARY.CURVES["softplus"], 1.5, 20),
    "packed_gate": (X, 5),
    "masked_softmax": (X, torch.ones(6, dtype=torch.bool), 0.5, False),
    "row_norm": (X, W, None, 1e-5, False),
    "add_row_norm": (X, X.square(), W, None, 1e-5, True),
    "batch_norm": (X, None, None, W, None, None, True, 1e-5, True, 1.0, False),
    "group_norm": (X[None], 2, None, None, 1e-5),
    "response_norm": (X[None], 3, 1e-4, 0.75, 1.0),
}
EVERY = [pytest.param(name, CALLS[name], id=name) for name in CALLS]


def entry(name):
    """The entry, and a list of the arguments of calls that it left to the usual way."""
    overload, left = getattr(OPS, name).default, []

    def whole(*arguments):
        left.append(arguments)
        return overload(*arguments)

    return LIBRARY.entry(name, whole), left


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(("name", "arguments"), EVERY)
def test_the_same_as_the_operator_without_its_way(name, arguments):
    call, left = entry(name)
    found, expected = call(*arguments), getattr(OPS, name).default(*arguments)
    assert type(found) is type(expected)
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad == b.requires_grad
        assert type(a.grad_fn) is type(b.grad_fn)
    assert not left


@pytest.mark.parametrize(("name", "arguments"), EVERY)
def test_gradients_arrive(name, arguments):
    call, _ = entry(name)
    grown = [
        a.detach().requires_grad_() if torch.is_tensor(a) and a.is_floating_point() else a
        for a in arguments
    ]
    leaves = [a for a in grown if torch.is_tensor(a) and a.requires_grad]
    for leaf in torch.autograd.grad(tensors(call(*grown))[0].square().sum(), leaves):
        assert leaf.isfinite().all() and leaf.any()
    with torch.no_grad():
        assert not tensors(call(*grown))[0].requires_grad
    with torch.inference_mode():
        assert tensors(call(*grown))[0].is_inference()


class Marked(torch.Tensor):
    """A subclass that sees each function called on it."""

    seen = ()

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen = (*cls.seen, str(function))
        return super().__torch_function__(function, types, args, kwargs or {})


def test_a_subclass_sees_the_operator():
    call, left = entry("tanh")
    found = call(X.as_subclass(Marked))
    assert type(found) is Marked and len(left) == 1
    assert any("benchbench.tanh" in name for name in Marked.seen)


def test_a_mode_for_functions_sees_the_operator():
    class Watch(TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.seen.append(str(function))
            return function(*args, **(kwargs or {}))

    call, left = entry("tanh")
    with Watch() as watch:
        call(X)
    assert any("benchbench.tanh" in name for name in watch.seen)
    assert len(left) == 1
    call(X)
    assert len(left) == 1


def test_a_mode_for_dispatch_sees_the_operator():
    class Watch(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.seen.append(function)
            return function(*args, **(kwargs or {}))

    weight = W.detach()
    with Watch() as watch:
        fused.layer_norm(X, (6,), weight)
    assert watch.seen == [OPS.row_norm.default]


def test_numbers_of_another_kind_go_the_usual_way():
    call, left = entry("curve")
    kind = LIBRARY.CURVES["softplus"]
    expected = OPS.curve.default(X, kind, 2.0, 20.0)
    assert torch.equal(call(X, kind, 2, 20), expected)
    assert not left  # an integer is a number, for torch too
    for odd in (torch.tensor(2.0), torch.tensor(2.0, dtype=torch.float64)):
        assert torch.equal(call(X, kind, odd, 20.0), expected)
    assert len(left) == 2
    with pytest.raises((RuntimeError, TypeError), match=r"curve|kind"):
        call(X, 1 << 80, 2.0, 20.0)
    with pytest.raises((RuntimeError, TypeError), match=r"curve|kind"):
        call(X, "softplus", 2.0, 20.0)


@pytest.mark.parametrize("arguments", [(), (X, X), (None,), ([1.0],)], ids=repr)
def test_wrong_arguments_are_the_operators_error(arguments):
    call, left = entry("tanh")
    with pytest.raises((RuntimeError, TypeError), match="tanh"):
        call(*arguments)
    assert left == [arguments]


def test_errors_of_the_kernel_are_pythons():
    call, left = entry("row_norm")
    with pytest.raises(RuntimeError, match=r"weight.*\[7\].*must have"):
        call(X, torch.ones(7), None, 1e-5, False)
    with pytest.raises(RuntimeError, match="floating point"):
        call(X.long(), None, None, 1e-5, False)
    assert not left


def test_no_entry_of_that_name():
    with pytest.raises(RuntimeError, match=r"'tahn'.*no entry.*torch\.ops"):
        LIBRARY.entry("tahn", print)


def test_tracers_see_operators():
    graph = make_fx(lambda x: fused.gelu(fused.softplus(x)))(X)
    called = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert called == [OPS.curve.default, OPS.gelu.default]
    exported = torch.export.export(Layer(), (X,))
    assert "benchbench.row_norm" in str(exported.graph)


class Layer(nn.Module):
    def forward(self, x):
        return fused.layer_norm(x, (6,))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not hasattr(torch.jit, "trace"), reason="this torch has no torch.jit.trace")
def test_a_jit_trace_keeps_the_operator():
    traced = torch.jit.trace(lambda x: fused.tanh(x), X)
    assert "benchbench::tanh" in str(traced.graph)
    other = torch.randn(3)
    assert torch.equal(traced(other), fused.tanh(other))


def test_compiled_whole_with_gradients():
    def model(x, w):
        y = fused.rms_norm(fused.tanh(x), (6,), w)
        return fused.add_layer_norm(y, x, (6,), w)[0].square().sum()

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = X.clone().requires_grad_()
    found = torch.autograd.grad(compiled(x, W), (x, W))
    for a, b in zip(found, torch.autograd.grad(model(x, W), (x, W)), strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        assert torch.equal(compiled(x, W), model(x, W))


def test_threads_call_at_once():
    expected, found = fused.tanh(X), []
    threads = [
        threading.Thread(target=lambda: found.extend(fused.tanh(X) for _ in range(200)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 800 and all(torch.equal(y, expected) for y in found)
