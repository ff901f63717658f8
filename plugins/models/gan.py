"""A generative adversarial network on digits: two networks and two optimizers in turn.

Goodfellow et al. 2014 with the non-saturating loss. A call makes five rounds from the same start:
the discriminator's step on a real and a generated batch, then the generator's. The output are the
losses of all rounds, which have to equal those in float64; every step is in the ones after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins._common import optional

WORKLOAD = "models/gan-digits-train"
ROUNDS, NOISE = 5, 16
OPTIMIZER = {"lr": 1e-3, "betas": (0.5, 0.999), "eps": 1e-4}
"""The usual first beta of GANs. With a smaller eps the first step of Adam is the sign of each
gradient, and rounding decides those that are close to zero."""


def networks() -> tuple[nn.Module, nn.Module]:
    """Generator 16-64-64, and discriminator 64-64-1."""
    generator = nn.Sequential(
        nn.Linear(NOISE, 64), nn.LayerNorm(64), nn.SiLU(), nn.Linear(64, 64), nn.Sigmoid()
    )
    discriminator = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))
    return generator, discriminator


def digits() -> Tensor:
    """All images (1797, 64) in [0, 1]."""
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().data, dtype=torch.float32) / 16


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Both networks, and for each round real images (batch, 64) and noise (batch, 16)."""
    rng, device = torch.Generator().manual_seed(seed), str(params["device"])
    batch = int(params["batch"])  # type: ignore[call-overload]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = networks()
    images = digits()
    rows = torch.randint(len(images), (ROUNDS, batch), generator=rng)
    return bb.Inputs(
        {
            "generator": generator.to(device),
            "discriminator": discriminator.to(device),
            "real": images[rows].to(device),
            "noise": torch.randn(ROUNDS, batch, NOISE, generator=rng).to(device),
        }
    )


def thunk(inputs: Any, *, fused: bool = False, swap: bool = False, compiled: bool = False) -> Any:
    """Losses (rounds, 2) of discriminator and generator."""
    generator, discriminator = (copy.deepcopy(inputs[n]) for n in ("generator", "discriminator"))
    if swap:
        from benchbench import fused as kernels

        for network in (generator, discriminator):
            kernels.swap(network)
    parameters = [*generator.parameters(), *discriminator.parameters()]
    starts = [parameter.detach().clone() for parameter in parameters]
    make_fake, judge = (
        torch.compile(network, dynamic=False) if compiled else network
        for network in (generator, discriminator)
    )
    real, noise = inputs.real, inputs.noise

    def call() -> Tensor:
        with torch.no_grad():
            torch._foreach_copy_(parameters, starts)
        of_judge, of_maker = (
            torch.optim.Adam(network.parameters(), **OPTIMIZER, fused=fused)
            for network in (discriminator, generator)
        )
        losses = []
        for images, z in zip(real, noise, strict=True):
            of_judge.zero_grad()
            fake = make_fake(z)
            loss = F.softplus(-judge(images)).mean() + F.softplus(judge(fake.detach())).mean()
            loss.backward()
            of_judge.step()
            of_maker.zero_grad()
            fooled = F.softplus(-judge(fake)).mean()
            fooled.backward()
            of_maker.step()
            losses += [loss.detach(), fooled.detach()]
        return torch.stack(losses).view(ROUNDS, 2)

    return call


def reference(inputs: Any) -> Tensor:
    """The same in float64."""
    double = {
        name: copy.deepcopy(value).double() if isinstance(value, nn.Module) else value.double()
        for name, value in inputs.items()
    }
    return thunk(bb.Inputs(double))()  # type: ignore[no-any-return]


def work(params: bb.Params) -> bb.Work:
    """Products, 2 FLOPs a multiply-add: forward, and both gradients where both are needed."""
    batch = float(int(params["batch"]))  # type: ignore[call-overload]
    maker, judge = NOISE * 64 + 64 * 64, 64 * 64 + 64
    # Generator: forward, gradients of weights, and of its inner layer's input.
    of_maker = 2 * maker + 64 * 64
    # Discriminator: three passes forward; weights twice in its own step and once in the other's,
    # where they are thrown away; gradients of inputs of its inner layer, and of the fake.
    of_judge = 3 * judge + 3 * judge + 3 * 64 + 64 * 64
    return bb.Work(flops=2 * ROUNDS * batch * (of_maker + of_judge), items=ROUNDS, item="round")


def _unavailable(reason: Callable[[bb.Params], str | None]) -> Callable[[bb.Params], str | None]:
    return lambda params: optional("sklearn.datasets")[1] or reason(params)


def workloads() -> Iterator[bb.Workload]:
    """One training workload."""
    yield bb.Workload(
        name=WORKLOAD,
        doc="Five rounds of a GAN on scikit-learn's digits, two Adam optimizers in turn.",
        axes={"batch": (64, 256), "device": shared.DEVICES},
        presets={
            "quick": [],
            "standard": {},
            "full": {"batch": (64, 256)},
            "gpu": {"batch": (4096,), "device": shared.CUDA},
        },
        make=make,
        renewed=("real", "noise"),
        reference=reference,
        # Ten steps feed on each other.
        tolerance=bb.Tolerance(factor=10, units=256),
        work=work,
        baseline="eager",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Eager, with fused optimizers, with our norms and activations, compiled."""
    from benchbench import fused

    for name, options, reason, presets, doc in (
        ("eager", {}, shared.no_cuda, None, "PyTorch, eager; Adam as a loop."),
        ("fused-adam", {"fused": True}, shared.no_cuda, None, "torch.optim.Adam with fused=True."),
        (
            "swapped",
            {"swap": True},
            shared.no_kernels,
            None,
            "Norms and activations replaced by benchbench's kernels.",
        ),
        (
            "compiled",
            {"compiled": True},
            shared.no_compiler,
            ("full",),
            "Both networks by torch.compile, static shapes.",
        ),
    ):
        yield bb.Implementation(
            workload=WORKLOAD,
            name=name,
            build=_builder(options),
            unavailable=_unavailable(reason),
            prepare=fused.build if "swap" in options else None,
            presets=presets,
            doc=doc,
        )


def _builder(options: dict[str, bool]) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(inputs, **options)  # type: ignore[no-any-return]
