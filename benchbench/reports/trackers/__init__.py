"""Files that trackers of benchmarks over time read: docs/trackers.md says how each is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from benchbench.reports.trackers import bencher, github_action, pytest_benchmark
from benchbench.reports.trackers.entries import Tracked

T = TypeVar("T")

FORMATS: Mapping[str, tuple[Callable[[Tracked], str], str]] = {
    "pytest-benchmark": (pytest_benchmark.render, "The JSON of pytest --benchmark-json."),
    "github-action-benchmark": (
        github_action.render,
        "github-action-benchmark's customSmallerIsBetter.",
    ),
    "bencher": (bencher.render, "Bencher Metric Format."),
}
"""Renderer and description of each format, by the name that ``--format`` and ``--emit`` take."""


def renderers(read: Callable[[T], Tracked]) -> dict[str, Callable[[T], str]]:
    """The formats for what ``read`` makes entries of."""

    def of(render: Callable[[Tracked], str]) -> Callable[[T], str]:
        return lambda source: render(read(source))

    return {name: of(render) for name, (render, _) in FORMATS.items()}
