"""From a description, patterns and presets to the cases of a run. Pure: no I/O, no plugin code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from benchbench.catalog import Description, WorkloadInfo
from benchbench.contract import Case, Grid, PlannedCase, Value, format_value
from benchbench.errors import PlanError, UsageError, suggestion
from benchbench.grids import PRESETS, points, preset_grids


def plan(
    description: Description,
    patterns: Sequence[str] = (),
    *,
    preset: str = "quick",
    axes: Mapping[str, Sequence[str]] | None = None,
    contenders: Sequence[str] = (),
    device: str | None = None,
    seed: int = 0,
) -> tuple[PlannedCase, ...]:
    """Choose workloads, points and contenders.

    Args:
        description: what can be run.
        patterns: kinds, workload names or globs of names; all workloads when empty.
        preset: which grid of each workload.
        axes: values that replace the preset's on an axis, as text. Workloads without that axis
            are left out.
        contenders: names or globs; the baseline always runs along. Workloads that have none of
            them are left out. When empty, every contender of the preset.
        device: the same as ``axes={"device": [device]}``; workloads without the axis are ``cpu``.
        seed: of the inputs.

    Raises:
        UsageError: a pattern, preset, axis, value or contender matches nothing.
        PlanError: each name exists, but together they leave nothing to run.
    """
    workloads = select_workloads(description, patterns)
    known_presets = {*PRESETS, *(p for w in workloads for p in w.presets)}
    if preset not in known_presets:
        raise UsageError(
            f"there is no preset {preset!r}.{suggestion(preset, known_presets)} "
            f"Presets: {', '.join(sorted(known_presets))}"
        )
    wanted = dict(axes or {})
    _check_axes(workloads, wanted)
    _check_contenders(workloads, contenders)
    if device is not None:
        wanted["device"] = [device]
    planned: list[PlannedCase] = []
    refused: list[UsageError] = []
    for workload in workloads:
        names = select_contenders(workload, contenders, preset)
        if not names:
            continue
        if any(axis not in workload.axes and axis != "device" for axis in wanted):
            continue
        try:
            grids = preset_grids(workload, preset)
            if not grids and workload.name in patterns:
                grids = [{}]  # the preset leaves it out, but it is asked for by name
            grids = _override(workload, grids, wanted)
        except UsageError as error:
            refused.append(error)
            continue
        for params in points(workload.axes, grids):
            case = Case(workload=workload.name, params=params, seed=seed)
            planned.append(PlannedCase(case=case, baseline=workload.baseline, contenders=names))
    if not planned and refused:
        raise refused[0]
    if not planned:
        raise PlanError(
            "nothing to run: no selected workload has all of the given axes and contenders. "
            "`benchbench list -v` shows which axes and contenders each workload has"
        )
    return tuple(planned)


def select_workloads(description: Description, patterns: Sequence[str]) -> list[WorkloadInfo]:
    """Workloads that match any pattern, in name order.

    Raises:
        UsageError: a pattern matches no workload.
        PlanError: there are no workloads at all.
    """
    names = sorted(description.workloads)
    if not names:
        raise PlanError(
            "no plugin contributes a workload, so there is nothing to run. "
            "`benchbench plugins` shows what was loaded and what failed"
        )
    chosen: set[str] = set()
    for pattern in patterns:
        matched = [name for name in names if _matches(name, pattern)]
        if not matched:
            known = {*names, *(name.split("/", 1)[0] for name in names)}
            raise UsageError(
                f"no workload matches {pattern!r}.{suggestion(pattern, known)} "
                "`benchbench list` shows all"
            )
        chosen.update(matched)
    return [description.workloads[name] for name in names if not patterns or name in chosen]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.split("/", 1)[0] == pattern.rstrip("/")


def select_contenders(
    workload: WorkloadInfo, patterns: Sequence[str], preset: str
) -> tuple[str, ...]:
    """Contenders to run, baseline first; empty when ``patterns`` match none of the workload's.

    One that names its presets joins the others only in those, or when asked for by name.
    """
    everything = workload.contenders
    if patterns:
        chosen = [n for n in everything if any(fnmatchcase(n, p) for p in patterns)]
        if not chosen:
            return ()
    else:
        chosen = [
            n for n, info in everything.items() if info.presets is None or preset in info.presets
        ]
    others = [name for name in chosen if name != workload.baseline]
    return (workload.baseline, *others)


def _check_contenders(workloads: Iterable[WorkloadInfo], patterns: Sequence[str]) -> None:
    known = {name for workload in workloads for name in workload.contenders}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(
                f"no selected workload has a contender {pattern!r}.{suggestion(pattern, known)} "
                f"Contenders: {', '.join(sorted(known))}"
            )


def _check_axes(workloads: Iterable[WorkloadInfo], wanted: Mapping[str, Sequence[str]]) -> None:
    known = {axis for workload in workloads for axis in workload.axes}
    for axis in wanted:
        if axis not in known:
            raise UsageError(
                f"no selected workload has an axis {axis!r}.{suggestion(axis, known)} "
                f"Axes: {', '.join(sorted(known))}"
            )


def _override(
    workload: WorkloadInfo, grids: Sequence[Grid], wanted: Mapping[str, Sequence[str]]
) -> list[Grid]:
    """Put the wanted values in place of the preset's."""
    replaced: dict[str, list[Value]] = {}
    for axis, texts in wanted.items():
        if axis not in workload.axes:  # only device comes here: such a workload runs on the CPU
            if "cpu" not in texts:
                raise UsageError(f"{workload.name} runs on the CPU only")
            continue
        replaced[axis] = [parse_value(text, axis, workload) for text in texts]
    return [{**grid, **replaced} for grid in grids]


def parse_value(text: str, axis: str, workload: WorkloadInfo) -> Value:
    """Read an axis value as the command line writes it.

    A value that the workload lists is taken as listed. Numbers and shapes may also be new ones;
    text only on the workload's open axes, since nobody else knows what a word means.

    Raises:
        UsageError: the text is none of the axis' values and cannot be read as one.
    """
    known = workload.axes[axis]
    for value in known:
        if format_value(value) == text:
            return value
    sample = known[0]
    if axis in workload.open_axes and text:
        return text
    try:
        if isinstance(sample, tuple):
            return tuple(int(part) for part in text.split("x"))
        if isinstance(sample, bool | str):
            raise ValueError(text)
        if isinstance(sample, int):
            return int(text)
        return float(text)
    except ValueError:
        names = [format_value(value) for value in known]
        raise UsageError(
            f"{workload.name} has no {axis}={text}.{suggestion(text, names)} "
            f"Values of {axis}: {', '.join(names)}"
        ) from None
