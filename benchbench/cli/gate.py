"""``benchbench gate``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbench.catalog import Description
from benchbench.cli.common import (
    choose_engine,
    loader_options,
    plugin_options,
    report_failures,
    store_option,
    without,
)
from benchbench.contract import PlannedCase, Settings
from benchbench.errors import BenchbenchError, UsageError, suggestion
from benchbench.plugins import LoaderOptions, check_names, find

if TYPE_CHECKING:
    from benchbench.gate.project import Build
    from benchbench.gate.report import GateReport
    from benchbench.gate.select import Selection
    from benchbench.sequential import Design
    from benchbench.sides import Copy

INCONCLUSIVE = 4
_CODES = {"passed": 0, "failed": 1, "inconclusive": INCONCLUSIVE}


@click.command(name="gate")
@click.argument("patterns", nargs=-1, metavar="[KIND|WORKLOAD|GLOB]...")
@click.option("--baseline-rev", metavar="REV", help="Compare with a git revision of the project.")
@click.option(
    "--baseline-python", metavar="PATH", help="Compare with the project in another environment."
)
@click.option("--project", metavar="NAME", help="Distribution under test. Default: the one here.")
@click.option("--preset", "-p", default="quick", show_default=True, help="quick, standard or full.")
@click.option("--contender", "-c", "contenders", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--axis", "-a", "axes", multiple=True, metavar="AXIS=V1,V2", help="Repeatable.")
@click.option("--looks", default="9,16,24", show_default=True, help="Processes at each look.")
@click.option("--margin", type=click.FloatRange(0, min_open=True), default=0.02, show_default=True)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Chance of any false alarm in the whole gate.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    help="Timed seconds for each case and process.",
)
@click.option("--threads", type=click.IntRange(0), default=0, help="Default: physical cores.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--allow-inconclusive", is_flag=True, help="Exit with 0 where nothing is decided.")
@click.option(
    "--emit",
    "emits",
    multiple=True,
    metavar="FORMAT=FILE",
    help="Also write text, markdown, junit or json. Repeatable.",
)
@store_option
@plugin_options
def command(
    patterns: tuple[str, ...],
    baseline_rev: str | None,
    baseline_python: str | None,
    project: str | None,
    preset: str,
    contenders: tuple[str, ...],
    axes: tuple[str, ...],
    looks: str,
    margin: float,
    alpha: float,
    budget: float,
    threads: int,
    seed: int,
    allow_inconclusive: bool,
    emits: tuple[str, ...],
    store_directory: Path | None,
    files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> int:
    """Compare the project as it is installed here with an earlier build of it.

    Both builds are loaded into the same fresh processes, read the same inputs and are timed in
    turn. Exit codes: 0 nothing is slower, 1 something is slower, wrong or failed, 2 usage,
    4 inconclusive.

    \b
    benchbench gate --baseline-rev origin/main
    benchbench gate activations -c mine --baseline-python ../old/bin/python
    """
    from benchbench.cli.run import parse_axes
    from benchbench.plan import plan

    started = time.monotonic()
    targets = _targets(emits)
    design = _design(looks, margin, alpha)
    options = loader_options(files, blocked)
    check_names(options, find(options))
    candidate, baseline = _builds(project, baseline_rev, baseline_python, options.files)
    options = replace(options, sides=(candidate.side, baseline.side))
    description = _describe(options)
    sides = [p for p in description.plugins if "@" in p.provider.plugin]
    report_failures(
        replace(description, plugins=tuple(p for p in description.plugins if p not in sides)),
        strict=strict,
    )
    for side in sides:
        if side.status == "failed":
            raise BenchbenchError(
                f"{side.reason}. Run both builds on their own with `benchbench run` and compare "
                "the runs with `benchbench compare`"
            )
    options = without(options, description.blocked)
    from benchbench.gate.select import ordinary, select

    planned = plan(
        ordinary(description),
        patterns,
        preset=preset,
        axes=parse_axes(axes),
        contenders=contenders,
        seed=seed,
    )
    unchanged = _unchanged(candidate, baseline, description)
    selection = select(planned, description, unchanged, seed, _asked_for(planned, contenders))
    options = replace(options, controls=_controls(selection, planned))
    settings = Settings(
        preset=preset,
        processes=design.looks[-1],
        budget=budget,
        warmup=0.05,
        sample_seconds=0.003,
        min_passes=4,
        threads=threads,
        seed=seed,
        roof=False,
    )
    report = _execute(
        selection,
        design,
        settings,
        options,
        description,
        (candidate, baseline),
        store_directory,
        started,
    )
    from benchbench.gate.report import FORMATS, render_text

    click.echo(render_text(report))
    for name, path in targets:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FORMATS[name](report), encoding="utf-8")
        except OSError as error:
            raise BenchbenchError(f"{path} cannot be written: {error.strerror}") from error
    code = _CODES[report.verdict]
    return 0 if code == INCONCLUSIVE and allow_inconclusive else code


def _targets(emits: Sequence[str]) -> list[tuple[str, Path]]:
    from benchbench.gate.report import FORMATS

    targets = []
    for text in emits:
        name, sign, file = text.partition("=")
        if not sign or not file:
            raise UsageError(f"--emit {text!r} is not FORMAT=FILE; write junit=gate.xml")
        if name not in FORMATS:
            raise UsageError(
                f"there is no format {name!r}.{suggestion(name, FORMATS)} "
                f"Formats: {', '.join(FORMATS)}"
            )
        targets.append((name, Path(file)))
    return targets


def _design(looks: str, margin: float, alpha: float) -> Design:
    from benchbench.sequential import Design, evenly_rising

    try:
        counts = tuple(int(part) for part in looks.split(","))
        spending = Design.spending if len(counts) == 3 else evenly_rising(len(counts))
        design = Design(looks=counts, margin=margin, alpha=alpha, spending=spending)
    except ValueError as error:
        raise UsageError(f"--looks {looks}: {error}") from error
    if design.looks[-1] < 9:
        raise UsageError(
            f"--looks {looks}: no verdict can be reached with fewer than 9 processes; "
            "the last look needs at least 9"
        )
    return design


def _builds(
    name: str | None, revision: str | None, interpreter: str | None, files: Sequence[str]
) -> tuple[Build, Build]:
    from benchbench.catalog_cache import cache_directory
    from benchbench.gate.identical import Sources
    from benchbench.gate.interpreter import ask, interpreter_build
    from benchbench.gate.project import find_project, installed_build
    from benchbench.gate.revision import revision_build
    from benchbench.sides import CANDIDATE

    if (revision is None) == (interpreter is None):
        raise UsageError("give one baseline: --baseline-rev REV or --baseline-python PATH")
    project = find_project(name, Path.cwd())
    candidate = installed_build(project, files, CANDIDATE)
    if revision is not None:
        click.echo(f"installing {project.name} at {revision} (once) ...", err=True)
        baseline = revision_build(project, revision, files, cache_directory())
    else:
        assert interpreter is not None
        hints = [top for top, _ in candidate.side.locations]
        baseline = interpreter_build(project, interpreter, files, hints)
        here = ask(sys.executable, project.name, hints)["facts"]
        differing = [
            f"{what} {here.get(what) or 'absent'} here, {there or 'absent'} there"
            for what, there in baseline.facts.items()
            if here.get(what) != there and what != project.name
        ]
        if differing:
            raise UsageError(
                "the environments differ in more than the project, so both builds cannot run in "
                f"one process: {'; '.join(differing)}. Install the same versions in both, or "
                "compare two stored runs with `benchbench compare`"
            )
    for build in (candidate, baseline):
        by_name = Sources(dict(build.side.locations)).imports_by_name()
        if by_name:
            raise UsageError(
                f"{build.text} imports modules by name at run time ({', '.join(by_name[:3])}), so "
                "its two builds cannot be kept apart in one process. Compare two stored runs "
                "with `benchbench compare`"
            )
    return candidate, baseline


def _describe(options: LoaderOptions) -> Description:
    from benchbench import supervise
    from benchbench.engines.local import LocalEngine

    click.echo("loading both builds ...", err=True)
    return Description.from_json(supervise.describe(LocalEngine(), options, Settings()))


def _asked_for(planned: Sequence[PlannedCase], contenders: Sequence[str]) -> list[str]:
    from fnmatch import fnmatchcase

    names = {name for item in planned for name in item.contenders}
    return [name for name in names if any(fnmatchcase(name, c) for c in contenders)]


def _unchanged(candidate: Build, baseline: Build, description: Description) -> Any:
    from benchbench.gate.identical import Sources
    from benchbench.sideload import prefix
    from benchbench.sides import entrant_name

    sources = {b.side.name: Sources(dict(b.side.locations)) for b in (candidate, baseline)}
    digests: dict[tuple[str, str], str] = {}

    def digest(build: Build, workload: str, contender: str) -> str:
        side = build.side.name
        info = description.workloads[workload].contenders[entrant_name(contender, side)]
        module = info.module.removeprefix(prefix(side))
        if module.startswith("file_"):
            return ""  # a one-file plugin: always timed
        key = (side, module)
        if key not in digests:
            digests[key] = sources[side].digest(module)
        return digests[key]

    def unchanged(workload: str, contender: str) -> bool:
        here = digest(candidate, workload, contender)
        return bool(here) and here == digest(baseline, workload, contender)

    return unchanged


def _controls(selection: Selection, planned: Sequence[PlannedCase]) -> tuple[Copy, ...]:
    from benchbench.controls import controls_of
    from benchbench.sides import BASELINE, entrant_name

    workloads = {item.case.id: item.case.workload for item in planned}
    identities = {
        f"{workloads[case]}:{entrant_name(name, BASELINE)}" for case, name in selection.controls
    }
    return tuple(copy for identity in sorted(identities) for copy in controls_of(identity))


def _execute(
    selection: Selection,
    design: Design,
    settings: Settings,
    options: LoaderOptions,
    description: Description,
    builds: tuple[Build, Build],
    store_directory: Path | None,
    started: float,
) -> GateReport:
    """Measure and store what has to be timed, and conclude."""
    from benchbench import machine, store
    from benchbench.cli.progress import Progress
    from benchbench.gate import execute
    from benchbench.records import to_json

    facts: dict[str, Any] = {
        "mode": "both builds in one worker, on the same inputs",
        "margin": design.margin,
        "alpha": design.alpha,
        "looks": design.looks,
        "candidate": builds[0].text,
        "baseline": builds[1].text,
    }
    if not selection.cases:
        note = "the code of every contender is the same in both builds, so nothing was timed"
        return execute.conclude(selection.lines, (), notes=(note,), **facts)
    baselines = {name: w.baseline for name, w in description.workloads.items()}
    header: Mapping[str, Any] = {
        "id": store.new_id(),
        "started": store.now(),
        "command": ["benchbench", *sys.argv[1:]],
        "settings": to_json(settings),
        "environment": machine.environment(),
        "plugins": to_json(description.plugins),
        "plugin_options": to_json(options),
        "cases": to_json(selection.cases),
        "gate": to_json(facts),
    }
    writer = store.create(store_directory or store.default_directory(), header)
    progress = Progress(settings.processes)
    status = "interrupted"

    def emit(record: Mapping[str, Any]) -> None:
        writer.append(record)
        progress.update(record)

    try:
        measured, decisions, controls = execute.run_looks(
            selection,
            design=design,
            settings=settings,
            engine=choose_engine("local", description, options),
            options=options,
            baselines=baselines,
            emit=emit,
        )
        status = "complete"
    finally:
        progress.close()
        writer.close(status)
        click.echo(f"results: {writer.path}", err=True)
    return execute.conclude(
        execute.lines(selection, measured, decisions),
        execute.judge_controls(selection, controls),
        run=str(header["id"]),
        seconds=time.monotonic() - started,
        **facts,
    )
