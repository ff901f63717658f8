"""What memory gives to a pass that only reads, beside a copy of as many bytes; a one-file plugin.

    benchbench run memory/read --plugin benchmarks/reading.py -n 5 --threads 2

A floor counts bytes and prices them like a copy's, half of which are written. Kernels with a pass
that only reads (batch norm with channels last: x in the forward pass, x and the gradient in the
backward pass) come near such a floor only where reading n bytes takes as long as copying n / 2. The
table says what it takes here: *roof* is the share of that copy's speed which each way to read has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

import benchbench as bb

READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": torch.sum,
    "largest": torch.amax,
    "norm": torch.linalg.vector_norm,
    "dot": lambda x: torch.dot(x, x),
}


def make(params: dict[str, Any], seed: int) -> bb.Inputs:
    """Standard normal values."""
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


def check(evidence: Any) -> str | None:
    """Each way to read answers another question: the answers are only finite numbers."""
    return None if bool(torch.isfinite(evidence.output).all()) else "the result is not finite"


@bb.hookimpl
def benchbench_workloads() -> Iterable[bb.Workload]:
    """One workload; 25 690 112 values are those of (32, 256, 56, 56)."""
    yield bb.Workload(
        name="memory/read",
        doc="Read a tensor beyond the last-level cache once.",
        axes={"n": (25_690_112,)},
        presets={"quick": {}, "standard": {}},
        make=make,
        check=check,
        work=lambda params: bb.Work(bytes=4 * params["n"]),
        baseline="sum",
    )


@bb.hookimpl
def benchbench_implementations() -> Iterable[bb.Implementation]:
    """Torch's operators that read everything and write one value."""
    for name, reader in READERS.items():
        yield bb.Implementation(
            workload="memory/read",
            name=name,
            build=lambda inputs, reader=reader: inputs.thunk(reader),
        )
