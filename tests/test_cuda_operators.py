"""The CUDA binding units without a GPU: operators with autograd around them on the host executor.

One test starts a process in which the CUDA functions answer for the CPU (``cuda_operators``), and
runs there what is below and the operators' own tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchbench import fused, native
from benchbench.native_recipe import compiler

HERE = Path(__file__).parent
INSIDE = "BENCHBENCH_TEST_OPERATORS"
inside = pytest.mark.skipif(not os.environ.get(INSIDE), reason="started by the test below")
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.slow
@pytest.mark.skipif(bool(os.environ.get(INSIDE)), reason="this is the process that it starts")
@pytest.mark.skipif(compiler() is None or sys.platform != "linux", reason="gcc or clang on Linux")
def test_the_operators_of_cuda_run_on_the_executor():
    environment = {**os.environ, INSIDE: "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "cuda_operators"),
            *(str(HERE / name) for name in CHOSEN),
        ],
        env=environment, capture_output=True, text=True, check=False, cwd=HERE.parent,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]


CHOSEN = [
    "test_cuda_operators.py",
    "test_fused_transformer.py",
]


def calls(function):
    """What the function gives, and the names of torch's operators it called, at any depth."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        result = function()
    return result, {e.name for e in found.events() if e.name.startswith("aten::")}


MEMORY_AND_VIEWS = {
    *("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::resize_"),
    *(
        "aten::view",
        "aten::transpose",
        "aten::detach",
        "aten::expand",
        "aten::as_strided",
        "aten::to",
    ),
    *("aten::contiguous", "aten::result_type", "aten::slice", "aten::select", "aten::reshape"),
}


def random(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def operations(dtype):
    """Name, function, its tensors, the input in front, and the most launches of a backward pass."""
    rows, image = random(6, 40, dtype=dtype), random(3, 8, 5, 6, dtype=dtype)
    row, channel = random(40, dtype=dtype, seed=1), random(8, dtype=dtype, seed=2)
    mask = random(6, 40, seed=3) > -1
    sequences, volumes = random(3, 8, 30, dtype=dtype), random(2, 8, 3, 4, 5, dtype=dtype)
    for name, x in (("1d", sequences), ("3d", volumes)):
        yield f"instance_norm {name}", fused.instance_norm, (x,), 1
        yield (
            f"batch_norm {name}",
            lambda x, w, b: fused.batch_norm(x, None, None, w, b, True),
            (x, channel, channel),
            1,
        )
    pixels = image.to(memory_format=torch.channels_last)
    yield from (
        (name, lambda x, name=name: getattr(fused, name)(x), (rows,), 1)
        for name in (
            *("relu", "sigmoid", "tanh", "gelu", "silu", "softmax", "log_softmax"),
            *("softplus", "logsigmoid", "elu", "selu", "mish", "hardswish", "leaky_relu"),
            *("packed_swiglu", "packed_geglu", "packed_reglu"),
        )
    )
    for name in ("bias_relu", "bias_gelu", "bias_silu"):
        yield name, getattr(fused, name), (rows, row), 2
    for name in ("swiglu", "geglu", "reglu"):
        yield name, getattr(fused, name), (rows, random(6, 40, dtype=dtype, seed=4)), 1
    yield "prelu", fused.prelu, (image, channel), 2
    yield "masked_softmax", lambda x: fused.masked_softmax(x, mask[: len(x)], 0.5), (rows,), 1
    yield "layer_norm", lambda x, w, b: fused.layer_norm(x, (40,), w, b), (rows, row, row), 2
    yield "rms_norm", lambda x, w: fused.rms_norm(x, (40,), w), (rows, row), 2
    yield (
        "add_layer_norm",
        lambda x, r, w, b: fused.add_layer_norm(x, r, (40,), w, b)[0],
        (rows, random(6, 40, dtype=dtype, seed=5), row, row),
        2,
    )
    for layout, x in (("planes", image), ("pixels", pixels)):
        yield (
            f"batch_norm {layout}",
            lambda x, w, b: fused.batch_norm(x, None, None, w, b, True),
            (x, channel, channel),
            1,
        )
        yield (
            f"batch_norm_relu {layout}",
            lambda x, w, b: fused.batch_norm_relu(x, None, None, w, b, True),
            (x, channel, channel),
            1,
        )
        yield (
            f"batch_norm_add_relu {layout}",
            lambda x, r, w, b: fused.batch_norm_add_relu(x, r, None, None, w, b, True),
            (x, torch.randn_like(x), channel, channel),
            1,
        )
        yield (
            f"group_norm {layout}",
            lambda x, w, b: fused.group_norm(x, 2, w, b),
            (x, channel, channel),
            2,
        )
        yield f"instance_norm {layout}", fused.instance_norm, (x,), 1
        yield f"local_response_norm {layout}", lambda x: fused.local_response_norm(x, 5), (x,), 1


@inside
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_launch_forward_and_at_most_two_backward(launches, dtype):
    """With autograd around, and nothing but fresh memory beside: no cast, no copy, no zeros."""
    found = {}
    for name, function, tensors, most in operations(dtype):
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        begun = launches()
        y, forward = calls(lambda f=function, a=leaves: f(*a))
        middle = launches()
        dy = torch.ones_like(y)
        _, backward = calls(lambda y=y, a=leaves, dy=dy: torch.autograd.grad(y, a, dy))
        found[name] = (middle - begun, launches() - middle)
        assert found[name][0] == 1 and 1 <= found[name][1] <= most, (name, found[name])
        assert forward | backward <= MEMORY_AND_VIEWS, (name, forward | backward)
    assert len(found) > 40


@inside
def test_gradients_by_differences():
    """In float64, which the kernels have for this; of a random direction each way."""
    for name, function, tensors, _ in operations(torch.float64):
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        assert torch.autograd.gradcheck(function, leaves, fast_mode=True), name


SEED = 0x1234_5678_9ABC_DEF


@inside
def test_samplers_draw_what_the_cpu_draws(launches):
    """Operators against the direct functions, which are the CPU's."""
    cpu, ops = native.load(), torch.ops.benchbench
    x, weights = random(20_003), random(5_001, seed=1).abs()
    begun = launches()
    for n in (1, 1_000, 2**40 + 1):
        drawn = ops.draw_uniform(n, 20_001, SEED, device="cpu")
        assert torch.equal(drawn, cpu.draw_uniform(n, 20_001, SEED))
    table = ops.alias_table(weights)
    assert torch.equal(ops.draw_alias(table, 9_999, SEED), cpu.draw_alias(table, 9_999, SEED))
    index = torch.randint(20_003, (77,))
    assert torch.equal(ops.take_rows(x.view(-1, 1), index), x.view(-1, 1)[index])
    assert launches() - begun == 5
    for poisson in (False, True):
        for squares in (False, True):
            asked = (x, 5, SEED, poisson, squares, 0.25)
            ours, theirs = ops.bootstrap_sums(*asked), cpu.bootstrap_sums(*asked)
            assert torch.equal(ours[:, 0], theirs[:, 0])
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * float(x.abs().sum()))
    ours, theirs = ops.bayesian_sums(x, 3, SEED), cpu.bayesian_sums(x, 3, SEED)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * float(x.abs().sum()))
    wave, (taps, ahead) = x.view(1, -1), fused_taps()
    torch.testing.assert_close(
        ops.resample(wave, taps, 160, 441, ahead),
        cpu.resample(wave, taps, 160, 441, ahead),
        rtol=0,
        atol=3e-6,
    )
    assert launches() - begun == 5 + 4 * 2 + 2 + 1


def fused_taps():
    from benchbench.fused import sampling

    return sampling._taps(160, 441, torch.device("cpu"))


@inside
def test_samplers_refuse_what_they_cannot_do():
    ops = torch.ops.benchbench
    with pytest.raises(RuntimeError, match=r"dtype Half is not supported; convert the input"):
        ops.bootstrap_sums(torch.ones(3).half(), 2, 1, False, False, 0.0)
    with pytest.raises(RuntimeError, match=r"there must be at least one number"):
        ops.draw_uniform(0, 3, 1, device="cpu")
    with pytest.raises(RuntimeError, match=r"an index is none of the rows"):
        ops.take_rows(torch.ones(3, 2), torch.tensor([0, 3]))
    with pytest.raises(RuntimeError, match=r"2 rows are asked for and the input has none"):
        ops.take_rows(torch.ones(0, 2), torch.tensor([0, 3]))
    with pytest.raises(RuntimeError, match=r"float32 with a time axis"):
        ops.resample(torch.ones(3).double(), fused_taps()[0], 160, 441, 1)


@inside
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_empty_and_strided_tensors(launches, dtype):
    """Results of no rows have none; strides are made contiguous."""
    for name, function, tensors, _ in operations(dtype):
        x = tensors[0]
        same_shape = [t.shape == x.shape for t in tensors]
        if not name.startswith(("batch", "instance")):  # which refuse a single value for a channel
            nothing = [t[:0] if same else t for t, same in zip(tensors, same_shape, strict=True)]
            y = function(*nothing)
            assert y.shape[0] == 0 and y.dtype == dtype, name
        strided = [
            torch.stack([t, -t], -1)[..., 0] if same else t
            for t, same in zip(tensors, same_shape, strict=True)
        ]
        y, called = calls(lambda f=function, a=strided: f(*a))
        assert "aten::copy_" in called, name  # the cost is a copy that a profiler shows
        torch.testing.assert_close(y, function(*tensors), rtol=1e-2, atol=1e-2)
