"""The project's workload and contenders."""

import torch

import benchbench as bb
from gated.ops import exponential
from gated.plain import plain


def make(params, seed):
    """One vector of numbers between -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": 2 * torch.rand(params["n"], generator=generator) - 1})


EXPONENTIAL = bb.Workload(
    name="gated/exponential",
    make=make,
    baseline="eager",
    axes={"n": (50_000,)},
    reference=lambda inputs: inputs["x"].double().exp(),
)


@bb.implementation("gated/exponential", "eager")
def eager(inputs):
    """What torch does."""
    x = inputs["x"]
    return lambda: torch.exp(x)


@bb.implementation("gated/exponential", "ours")
def ours(inputs):
    """What the project does."""
    x = inputs["x"]
    return lambda: exponential(x)


@bb.hookimpl
def benchbench_workloads():
    """The workload."""
    return [EXPONENTIAL]


@bb.hookimpl
def benchbench_implementations():
    """The contenders."""
    return [eager, ours, plain]
