"""Samplers as operators: traced without values, refused gradients, rows that lie elsewhere."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchbench import fused
from benchbench.fused import sampling

OPS = torch.ops.benchbench


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def examples():
    """Name, arguments, named arguments of each operator."""
    sampling._operator("draw_uniform")
    x = torch.randn(9_000, generator=seeded(1))
    taps, ahead = sampling._taps(160, 441, torch.device("cpu"))
    yield "draw_uniform", (100, 50, 7), {"device": torch.device("cpu")}
    yield "alias_table", (x.abs(),), {}
    yield "draw_alias", (OPS.alias_table(x.abs()), 50, 7), {}
    yield "take_rows", (x.view(-1, 3), torch.tensor([2, 0, 2])), {}
    yield "bootstrap_sums", (x, 3, 7, False, True, 0.5), {}
    yield "bayesian_sums", (x, 3, 7), {}
    yield "resample", (x.view(2, -1), taps, 160, 441, ahead), {}


def test_without_values_results_have_their_shape_dtype_and_device():
    for name, arguments, named in examples():
        operator = getattr(OPS, name).default
        expected = operator(*arguments, **named)
        torch.library.opcheck(
            operator, arguments, named, test_utils=("test_schema", "test_faketensor")
        )
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            moved = [
                mode.from_tensor(a).to("cuda") if isinstance(a, torch.Tensor) else a
                for a in arguments
            ]
            found = operator(*moved, **({"device": torch.device("cuda:0")} if named else {}))
        assert found.shape == expected.shape and found.dtype == expected.dtype, name
        assert found.device.type == "cuda", name


def test_a_backward_pass_raises():
    x = torch.randn(50, requires_grad=True)
    for result in (fused.bootstrap(x, 2), fused.bayesian_bootstrap_mean(x, 2)):
        with pytest.raises(RuntimeError, match="not implemented"):
            result.sum().backward()
    with pytest.raises(RuntimeError, match="not implemented"):
        fused.take_rows(x, torch.tensor([1, 1])).sum().backward()


class Elsewhere(torch.Tensor):
    """Says that it is not on the CPU, and is."""

    @property
    def is_cpu(self):
        return False


@pytest.mark.parametrize("balance", [fused.oversample, fused.undersample])
def test_rows_on_another_device_are_those_of_the_cpu(balance):
    x = torch.randn(503, 3, generator=seeded(2))
    labels = (torch.rand(503, generator=seeded(3)) < 0.2).long()
    expected = balance(x, labels, generator=seeded(4))
    found = balance(x.as_subclass(Elsewhere), labels, generator=seeded(4))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(RuntimeError, match=r"labels are on meta but the input is on cpu; move"):
        balance(x.as_subclass(Elsewhere), labels.to("meta"), generator=seeded(4))


def test_a_device_that_is_not_there_is_an_error_that_says_so():
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA device")
    with pytest.raises(
        (RuntimeError, AssertionError, NotImplementedError), match=r"(?i)cuda|nvidia"
    ):
        fused.draw(10, 10, device="cuda")
