"""What the autograd of the norms runs: the backward operator and nothing beside it.

A cast of a weight's gradient would be a launch more on a GPU. Tensors on the meta device go through
the same autograd functions as those of CUDA.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchbench import fused

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def norms(dtype, parameter):
    def leaf(*shape, dtype=parameter):
        return torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)

    rows, image = leaf(4, 8, dtype=dtype), leaf(2, 8, 3, 5, dtype=dtype)
    return {
        "norm_rows": lambda: fused.layer_norm(rows, (8,), leaf(8), leaf(8)),
        "batch_norm": lambda: fused.batch_norm(image, None, None, leaf(8), leaf(8), True),
        "group_norm": lambda: fused.group_norm(image, 2, leaf(8), leaf(8)),
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("wide", [False, True], ids=["own", "float32"])
@pytest.mark.parametrize("name", ["norm_rows", "batch_norm", "group_norm"])
def test_a_backward_is_one_operator(name, dtype, wide):
    if wide and dtype == torch.float64:
        dtype = (
            torch.float32
        )  # float32 parameters of float64 inputs are converted, and it is said so
    y = norms(dtype, torch.float32 if wide else dtype)[name]()
    with Calls() as calls:
        y.backward(torch.empty_like(y))
    casts = [call for call in calls.names if "_to_copy" in call]
    operators = [call for call in calls.names if call.startswith("benchbench")]
    assert casts == [] and operators == [f"benchbench.{name}_backward.default"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_have_their_parameters_dtype(dtype):
    for device in ("cpu", "meta"):
        x = torch.ones(2, 8, 3, dtype=dtype, device=device)
        for parameter in (dtype, torch.float32):
            w, b = (
                torch.ones(8, dtype=parameter, device=device, requires_grad=True) for _ in range(2)
            )
            for y in (
                fused.group_norm(x, 2, w, b),
                fused.batch_norm(x, None, None, w, b, True),
                fused.layer_norm(x.transpose(1, 2), (8,), w, b),
            ):
                found = torch.autograd.grad(y, (w, b), torch.ones_like(y))
                assert [g.dtype for g in found] == [parameter] * 2
