"""Axes, presets and grids: from the values of each axis to the points of a workload. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from benchbench.contract import Grid, Params, Value

PRESETS = ("quick", "standard", "full")


class HasPresets(Protocol):
    """A workload, or the description of one."""

    @property
    def presets(self) -> Mapping[str, Grid | Sequence[Grid]]:
        """Grids by preset name."""


def preset_grids(workload: HasPresets, preset: str) -> list[Grid]:
    """Grids of ``preset``; a preset left out falls back to the next smaller one.

    With none at all there is one grid with no values: the first value of every axis. A preset of
    another name is for the workloads that have it, and leaves the others out.
    """
    names = [preset]
    if preset in PRESETS:
        names = [*reversed(PRESETS[: PRESETS.index(preset) + 1])]
    for name in names:
        if name in workload.presets:
            grids = workload.presets[name]
            return [grids] if isinstance(grids, Mapping) else list(grids)
    return [{}] if preset in PRESETS else []


def points(axes: Grid, grids: Sequence[Grid]) -> Iterator[Params]:
    """Every distinct point of the grids, in order; axes left out take their first value."""
    seen: set[tuple[Value, ...]] = set()
    for grid in grids:
        choices = [grid.get(axis, values[:1]) for axis, values in axes.items()]
        for values in itertools.product(*choices):
            # 1, 1.0 and True are equal keys but different points.
            key = tuple((type(v).__name__, v) for v in values)
            if key not in seen:
                seen.add(key)  # type: ignore[arg-type]
                yield dict(zip(axes, values, strict=True))
