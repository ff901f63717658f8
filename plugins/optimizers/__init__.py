"""Optimizers: the cost of one step over a real parameter list, and the time to a target.

*Step* compares ways to run one algorithm (for-loop, foreach, fused, compiled), which must agree.
*Target* lets different algorithms race to an accuracy on real data.
"""

from __future__ import annotations

from collections.abc import Iterator

import benchbench as bb
from benchbench_plugins.optimizers import step, target


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """Every workload of the kind."""
    yield from step.workloads()
    yield from target.workloads()


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Every contender of the kind."""
    yield from step.implementations()
    yield from target.implementations()
