"""The project's workload and contenders."""

import torch

import benchbench as bb
from gated.ops import scaled
from gated.plain import plain


def make(params, seed):
    """One vector."""
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


SCALE = bb.Workload(
    name="gated/scale",
    make=make,
    baseline="eager",
    axes={"n": (50_000,)},
    reference=lambda inputs: inputs["x"].double() * 2.0,
)


@bb.implementation("gated/scale", "eager")
def eager(inputs):
    """What torch does."""
    x = inputs["x"]
    return lambda: torch.mul(x, 2.0)


@bb.implementation("gated/scale", "ours")
def ours(inputs):
    """What the project does."""
    x = inputs["x"]
    return lambda: scaled(x)


@bb.hookimpl
def benchbench_workloads():
    """The workload."""
    return [SCALE]


@bb.hookimpl
def benchbench_implementations():
    """The contenders."""
    return [eager, ours, plain]
