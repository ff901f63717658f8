"""Optimizers: the cost of one step over a real parameter list, and the time to a target.

*Step* compares ways to run one algorithm (for-loop, foreach, fused, compiled), which must agree.
*Target* lets different algorithms race to an accuracy on real data.
"""

from __future__ import annotations

from collections.abc import Iterator

import benchbench as bb
from benchbench_plugins.optimizers import (
    embedding,
    matrices,
    peers,
    penalties,
    profile,
    quasi_newton,
    step,
    target,
    ways,
)

_PARTS = (step, matrices, embedding, quasi_newton, target, peers, ways, penalties)


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """Every workload of the kind."""
    for part in _PARTS:
        yield from part.workloads()


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Every contender of the kind."""
    for part in _PARTS:
        yield from part.implementations()


@bb.hookimpl
def benchbench_reports() -> list[bb.Report]:
    """Performance profiles."""
    return profile.reports()
