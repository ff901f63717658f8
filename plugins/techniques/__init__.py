"""Techniques: what people do around a model, with its price and what it brings, on real data.

Contenders of one workload need not give equal results: they are measured by what comes out
(accuracy, sharpness, the error of an estimate) beside the time that it took. A check holds each to
what it claims.
"""

from __future__ import annotations

from collections.abc import Iterator

import benchbench as bb
from benchbench_plugins.techniques import batches, curves, ensembles, pruning, validation

_PARTS = (pruning, batches, ensembles, validation, curves)


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
