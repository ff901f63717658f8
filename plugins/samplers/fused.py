"""benchbench's own sampler kernels, as contenders like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import benchbench as bb
from benchbench_plugins.samplers import audio, bootstrap, imbalance, index

if TYPE_CHECKING:
    import torch


def no_kernels(params: bb.Params) -> str | None:
    """Why the kernels cannot run at a point."""
    from benchbench_plugins import _functional

    return _functional.no_kernels({"device": "cpu", **params})


def _seeds(inputs: bb.Inputs) -> torch.Generator:
    """A generator of the host: one seed is drawn from it in each call, and no device waited for."""
    import torch

    return torch.Generator().manual_seed(inputs.seed)


def _uniform(inputs: bb.Inputs) -> bb.Thunk:
    from benchbench import fused

    n, device, rng = inputs.n, inputs.x.device, _seeds(inputs)
    return lambda: fused.draw(n, n, generator=rng, device=device)


def _weighted(inputs: bb.Inputs) -> bb.Thunk:
    from benchbench import fused

    weights, n, rng = inputs.x, inputs.n, _seeds(inputs)
    if inputs.tables == "once":
        table = fused.AliasTable(weights)
        return lambda: table.draw(n, generator=rng)
    return lambda: fused.AliasTable(weights).draw(n, generator=rng)


def _replicates(name: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        from benchbench import fused

        function: Any = getattr(fused, name)
        x, replicates, rng = inputs.x, inputs.replicates, _seeds(inputs)
        return lambda: function(x, replicates, generator=rng)

    return build


def _balanced(name: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        from benchbench import fused

        function: Any = getattr(fused, name)
        x, y, rng = inputs.x, inputs.y, _seeds(inputs)
        return lambda: function(x, y, generator=rng)

    return build


def _resample(inputs: bb.Inputs) -> bb.Thunk:
    from benchbench import fused

    x = inputs.x
    return lambda: fused.resample(x, audio.SOURCE, audio.TARGET)


def workloads() -> Iterator[bb.Workload]:
    """None of its own."""
    return iter(())


def implementations() -> Iterator[bb.Implementation]:
    """A contender for each workload that there is a kernel for."""
    from benchbench import fused

    for workload, build, doc in (
        (index.UNIFORM, _uniform, "Counter-based words, a 128-bit product for each index."),
        (
            index.WEIGHTED,
            _weighted,
            "An alias table merged from running sums in parallel, one look-up a draw.",
        ),
        (
            bootstrap.IID,
            _replicates("bootstrap"),
            "Draws split exactly over blocks that stay in the first-level cache; no index stored.",
        ),
        (
            bootstrap.POISSON,
            _replicates("poisson_bootstrap"),
            "A Poisson number of rows, each drawn alike, by the kernel of the iid bootstrap.",
        ),
        (
            bootstrap.BAYESIAN,
            _replicates("bayesian_bootstrap_mean"),
            "Exponential weights by a vector logarithm, summed as they are made.",
        ),
        (
            imbalance.OVER,
            _balanced("oversample"),
            "Rows copied, draws gathered chunk by chunk, past the caches.",
        ),
        (imbalance.UNDER, _balanced("undersample"), "The first steps of a Fisher-Yates shuffle."),
        (audio.FILTERED, _resample, "Polyphase Kaiser-windowed sinc, stopband at -130 dB."),
    ):
        yield bb.Implementation(
            workload=workload,
            name="fused",
            build=build,
            unavailable=no_kernels,
            prepare=fused.build,
            doc=doc,
        )
