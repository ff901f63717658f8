"""One step of SparseAdam over an embedding table: only rows with a gradient move.

Steps take two sets of rows in turn, so that rows without a gradient have a state that must rest:
Adam's momentum would go on moving them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.optimizers.algorithms import MAXIMIZE, PLAIN, Algorithm
from benchbench_plugins.optimizers.step import STEPS

SPARSE_ADAM = Algorithm(
    name="sparse-adam",
    make=torch.optim.SparseAdam,
    settings={"lr": 1e-3},
    passes=7,  # over the rows that have a gradient
    switches=MAXIMIZE,
)
BETAS, EPS = (0.9, 0.999), 1e-8
WATCHED = 128
"""About so many rows are watched, half of them because they have a gradient."""


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """A table (rows, columns) and two batches of distinct rows with their gradients.

    ``watched`` are row numbers, sorted.
    """
    rng = torch.Generator().manual_seed(seed)
    device, shape = str(params["device"]), params["table"]
    assert isinstance(shape, tuple)
    rows, columns = (int(size) for size in shape)
    batch = int(params["batch"])  # type: ignore[arg-type]
    values: dict[str, Any] = {"table": torch.randn(rows, columns, generator=rng).mul_(0.05)}
    numbers = []
    for turn in ("first", "second"):
        index = torch.randperm(rows, generator=rng)[:batch].sort().values
        values[f"{turn}_rows"] = index
        values[f"{turn}_gradient"] = torch.randn(batch, columns, generator=rng).mul_(0.01)
        numbers.append(index[:: max(1, 4 * batch // WATCHED)])
    numbers.append(torch.arange(0, rows, max(1, 2 * rows // WATCHED)))
    values["watched"] = torch.cat(numbers).unique()
    values = {name: value.to(device) for name, value in values.items()}
    return bb.Inputs({**values, "maximize": params["switch"] == "maximize"})


def _turns(inputs: Any) -> Iterator[tuple[Tensor, Tensor]]:
    return cycle(
        (
            (inputs.first_rows, inputs.first_gradient),
            (inputs.second_rows, inputs.second_gradient),
        )
    )


def torch_thunk(inputs: Any) -> bb.Thunk:
    """torch.optim.SparseAdam with coalesced gradients; returns the watched rows."""
    table = inputs.table.clone().requires_grad_(True)
    gradients = cycle(
        [
            torch.sparse_coo_tensor(
                rows[None], gradient, table.shape, is_coalesced=True, check_invariants=False
            )
            for rows, gradient in (
                (inputs.first_rows, inputs.first_gradient),
                (inputs.second_rows, inputs.second_gradient),
            )
        ]
    )
    optimizer = torch.optim.SparseAdam(
        [table], **SPARSE_ADAM.settings, betas=BETAS, eps=EPS, maximize=inputs.maximize
    )
    watched = inputs.watched

    def call() -> Tensor:
        table.grad = next(gradients)
        optimizer.step()
        return table.detach()[watched]

    return call


def by_rows(inputs: Any, table: Tensor) -> Callable[[], None]:
    """A step on the rows gathered into a dense block, written back by index."""
    mean, square = torch.zeros_like(table), torch.zeros_like(table)
    turns, sign = _turns(inputs), -1.0 if inputs.maximize else 1.0
    rate = float(SPARSE_ADAM.settings["lr"])
    b1, b2 = BETAS
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        rows, gradient = next(turns)
        gradient = gradient.to(table.dtype) * sign
        m = mean[rows].lerp_(gradient, 1 - b1)
        v = square[rows].lerp_(gradient * gradient, 1 - b2)
        mean[rows], square[rows] = m, v
        size = rate * (1 - b2**count) ** 0.5 / (1 - b1**count)
        table.index_add_(0, rows, m.div_(v.sqrt_().add_(EPS)), alpha=-size)

    return step


def rows_thunk(inputs: Any) -> bb.Thunk:
    """The same step by index_select, dense arithmetic and index_put."""
    table = inputs.table.clone()
    step, watched = by_rows(inputs, table), inputs.watched

    def call() -> Tensor:
        step()
        return table[watched]

    return call


def replay(inputs: Any, steps: int) -> Tensor:
    """The watched rows after ``steps`` steps of torch's SparseAdam in float64.

    Rows do not depend on each other, so the others are left out.
    """
    watched = inputs.watched
    values: dict[str, Any] = {"table": inputs.table[watched].double(), "maximize": inputs.maximize}
    for turn in ("first", "second"):
        rows = inputs[f"{turn}_rows"]
        kept = torch.isin(rows, watched)
        values[f"{turn}_rows"] = torch.searchsorted(watched, rows[kept])
        values[f"{turn}_gradient"] = inputs[f"{turn}_gradient"][kept].double()
    values["watched"] = torch.arange(len(watched), device=watched.device)
    call = torch_thunk(bb.Inputs(values))
    for _ in range(steps):
        table = call()
    return table


def check(evidence: bb.Evidence) -> str | None:
    """Every call so far must have made its step; see the elementwise optimizers."""
    wanted = replay(evidence.inputs, evidence.calls)
    allowed = 4 * torch.finfo(torch.float32).eps * (evidence.calls + 1)
    scale = wanted.abs() + wanted.square().mean().sqrt()
    error = float(((evidence.output.double() - wanted).abs() / scale).max())
    if not error <= allowed:
        return (
            f"after {evidence.calls} steps the table is off by {error:.2g}, allowed is "
            f"{allowed:.2g}: not every call made the step, or rows without gradient moved"
        )
    return None


def work(params: bb.Params) -> bb.Work:
    """Row numbers and gradients read; table and two averages read and written, in those rows."""
    _, columns = params["table"]  # type: ignore[misc]
    batch = float(params["batch"])  # type: ignore[arg-type]
    return bb.Work(
        bytes=batch * (8 + 4.0 * SPARSE_ADAM.passes * float(columns)), items=batch, item="row"
    )


def workloads() -> Iterator[bb.Workload]:
    """SparseAdam over an embedding table."""
    yield bb.Workload(
        name=SPARSE_ADAM.workload,
        doc="One step of SparseAdam (lr=0.001) over an embedding table of which a batch has "
        "gradients.",
        axes={
            "table": ((50257, 64), (1_000_000, 64)),
            "batch": (4096, 256),
            "switch": (PLAIN, *SPARSE_ADAM.switches),
            "device": shared.DEVICES,
        },
        presets={
            "quick": [],
            "standard": {"batch": (4096, 256)},
            "full": [
                {"table": ((50257, 64), (1_000_000, 64)), "batch": (4096, 256)},
                {"switch": tuple(SPARSE_ADAM.switches)},
            ],
            "gpu": {"table": ((1_000_000, 64),), "batch": (262_144,), "device": shared.CUDA},
        },
        make=make,
        reference=lambda inputs: replay(inputs, STEPS),
        check=check,
        check_calls=STEPS,
        stateful=True,
        work=work,
        baseline="torch",
    )


def implementations() -> Iterator[bb.Implementation]:
    """torch's, and the rows by hand."""
    for name, build in (("torch", torch_thunk), ("by-rows", rows_thunk)):
        yield bb.Implementation(
            workload=SPARSE_ADAM.workload,
            name=name,
            build=build,
            unavailable=shared.no_cuda,
            doc=(build.__doc__ or "").strip(),
        )
