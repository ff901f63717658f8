"""Samplers: drawing rows, balancing classes, and resampling audio and images.

Random samplers are judged by statistics at fixed seeds, resamplers by what they did to known
tones and to a photograph. Speed stands beside quality in every table.
"""

from __future__ import annotations

from collections.abc import Iterator

import benchbench as bb
from benchbench_plugins.samplers import (
    audio,
    bagging,
    blocks,
    bootstrap,
    enlarge,
    folds,
    fused,
    image,
    imbalance,
    index,
    peers,
    series,
    signals,
    smote,
    subsets,
)

_PARTS = (
    index,
    subsets,
    bootstrap,
    bagging,
    blocks,
    folds,
    imbalance,
    smote,
    audio,
    signals,
    series,
    image,
    enlarge,
    fused,
    peers,
)


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
