"""What benchbench times of this library."""

from __future__ import annotations

from functools import partial

import benchbench as bb
import torch

from softclip import softclip, softclip_plain


def make(params, seed):
    """Normal numbers; every contender reads the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


forward = bb.Workload(
    name="softclip/forward",
    doc="Limit values smoothly to [-2, 2].",
    axes={"n": (1 << 12, 1 << 18)},
    presets={"quick": {"n": (1 << 12, 1 << 18)}},
    make=make,
    reference=lambda inputs: 2 * torch.tanh(inputs.x.double() / 2),
    work=lambda params: bb.Work(bytes=8 * params["n"], items=params["n"], item="element"),
    baseline="plain",
)


@bb.implementation("softclip/forward", "plain")
def plain(inputs):
    """As it is written down."""
    return inputs.thunk(partial(softclip_plain, limit=2.0))


@bb.implementation("softclip/forward", "softclip")
def one_tensor(inputs):
    """In one new tensor."""
    return inputs.thunk(partial(softclip, limit=2.0))


@bb.hookimpl
def benchbench_workloads():
    """The workload of this library."""
    return [forward]


@bb.hookimpl
def benchbench_implementations():
    """Its two ways."""
    return [plain, one_tensor]
