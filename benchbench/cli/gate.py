"""``benchbench gate``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbench.cli.common import (
    describe,
    loader_options,
    plugin_options,
    report_failures,
    store_option,
    without,
)
from benchbench.cli.emits import emit_option, targets, write
from benchbench.contract import Settings
from benchbench.errors import UsageError
from benchbench.plugins import LoaderOptions, check_names, find
from benchbench.verdict import MARGIN

if TYPE_CHECKING:
    from benchbench.gate.methods import Asked, Method
    from benchbench.gate.report import GateReport
    from benchbench.sequential import Design

INCONCLUSIVE = 4
_CODES = {"passed": 0, "failed": 1, "inconclusive": INCONCLUSIVE}


@click.command(name="gate")
@click.argument("patterns", nargs=-1, metavar="[KIND|WORKLOAD|GLOB]...")
@click.option("--baseline-rev", metavar="REV", help="Compare with a git revision of the project.")
@click.option(
    "--baseline-python", metavar="PATH", help="Compare with the project in another environment."
)
@click.option("--baseline", metavar="RUN", help="Compare with a stored run: an id, 'last', a path.")
@click.option("--force", is_flag=True, help="Accept a stored run of another machine.")
@click.option("--in-turn", is_flag=True, help="One process for each build, whatever is possible.")
@click.option("--project", metavar="NAME", help="Distribution under test. Default: the one here.")
@click.option("--preset", "-p", default="quick", show_default=True, help="quick, standard or full.")
@click.option("--contender", "-c", "contenders", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--axis", "-a", "axes", multiple=True, metavar="AXIS=V1,V2", help="Repeatable.")
@click.option("--looks", default="9,16,24", show_default=True, help="Processes at each look.")
@click.option(
    "--margin",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help="Default: 0.02 in one process, 0.05 otherwise, 0.005 for instructions.",
)
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
@click.option("--timer", default="auto", show_default=True, help="wall, instructions, a plugin's.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--allow-inconclusive", is_flag=True, help="Exit with 0 where nothing is decided.")
@emit_option("text, markdown, junit, json, pytest-benchmark, github-action-benchmark or bencher")
@store_option
@plugin_options
def command(
    patterns: tuple[str, ...],
    baseline_rev: str | None,
    baseline_python: str | None,
    baseline: str | None,
    force: bool,
    in_turn: bool,
    project: str | None,
    preset: str,
    contenders: tuple[str, ...],
    axes: tuple[str, ...],
    looks: str,
    margin: float | None,
    alpha: float,
    budget: float,
    threads: int,
    timer: str,
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
    turn; where one process cannot hold both, two processes take turns. A stored run is measured
    again here. Exit codes: 0 nothing is slower, 1 something is slower, wrong or failed, 2 usage,
    4 inconclusive.

    \b
    benchbench gate --baseline-rev origin/main
    benchbench gate activations -c mine --baseline-python ../old/bin/python
    benchbench gate --baseline last
    """
    from benchbench.cli.run import parse_axes
    from benchbench.gate.methods import Asked
    from benchbench.gate.report import FORMATS, render_text

    started = time.monotonic()
    wanted = targets(emits, FORMATS)
    if sum(given is not None for given in (baseline_rev, baseline_python, baseline)) != 1:
        raise UsageError(
            "give one baseline: --baseline-rev REV, --baseline-python PATH or --baseline RUN"
        )
    asked = Asked(
        patterns=patterns,
        preset=preset,
        contenders=contenders,
        axes=parse_axes(axes),
        margin=margin,
        settings=_settings(preset, budget, threads, timer, seed),
    )
    options = loader_options(files, blocked)
    check_names(options, find(options))
    design = make_design(looks, alpha, margin or MARGIN)
    if baseline is not None:
        _refuse_with_a_run()
        method, texts = _stored(asked, baseline, options, design, store_directory, force)
    else:
        method, texts = _built(asked, project, baseline_rev, baseline_python, options, in_turn)
    report_failures(method.description, strict=strict)
    design = replace(design, margin=method.margin if margin is None else margin)
    report = _execute(method, design, texts, store_directory, started)
    click.echo(render_text(report))
    write(report, wanted, FORMATS)
    code = _CODES[report.verdict]
    return 0 if code == INCONCLUSIVE and allow_inconclusive else code


def _settings(preset: str, budget: float, threads: int, timer: str, seed: int) -> Settings:
    import os

    from benchbench.timers import instructions_launch as instructions

    if timer == instructions.TIMER:
        instructions.route(os.environ)  # why it cannot be, before anything else is waited for
    return instructions.suited(
        Settings(
            preset=preset,
            budget=budget,
            warmup=0.05,
            sample_seconds=0.001,
            min_passes=32,
            threads=threads,
            timer=timer,
            seed=seed,
            roof=False,
        )
    )


def make_design(looks: str, alpha: float, margin: float) -> Design:
    """The design that the options describe; looks as in ``9,16,24``."""
    from benchbench.sequential import Design, evenly_rising

    try:
        counts = tuple(int(part) for part in looks.split(","))
        spending = Design.spending if len(counts) == 3 else evenly_rising(len(counts))
        design = Design(looks=counts, alpha=alpha, margin=margin, spending=spending)
    except ValueError as error:
        raise UsageError(f"--looks {looks}: {error}") from error
    if design.looks[-1] < 9:
        raise UsageError(
            f"--looks {looks}: no verdict can be reached with fewer than 9 processes; "
            "the last look needs at least 9"
        )
    return design


def _refuse_with_a_run() -> None:
    """A stored run brings its own selection and settings along."""
    context = click.get_current_context()
    fixed = ("preset", "axes", "budget", "threads", "timer", "seed", "project", "in_turn")
    given = [
        name
        for name in fixed
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(
            f"--baseline RUN measures what the run measured in the way it did, so "
            f"{', '.join(given)} cannot be given; workloads and contenders can"
        )


Texts = tuple[str, str]
"""What the candidate and the baseline are, for people."""


def _built(
    asked: Asked,
    project: str | None,
    revision: str | None,
    interpreter: str | None,
    options: LoaderOptions,
    in_turn: bool,
) -> tuple[Method, Texts]:
    from benchbench.gate.beside import Beside, Conflict, margin_of
    from benchbench.gate.builds import resolve
    from benchbench.gate.in_turn import InTurn

    def say(text: str) -> None:
        click.echo(text, err=True)

    builds = resolve(project, revision, interpreter, options.files, say)
    texts = (builds.candidate.text, builds.baseline.text)
    why = "--in-turn asks for it" if in_turn else builds.obstacle
    if not why:
        say("loading both builds ...")
        try:
            return Beside(asked, builds, options, margin_of(asked.settings.timer)), texts
        except Conflict as conflict:
            why = str(conflict)
    say(f"two processes in turn, since the builds do not run in one: {why}")
    return InTurn(asked, builds, options, why), texts


def _stored(
    asked: Asked,
    baseline: str,
    options: LoaderOptions,
    design: Design,
    store_directory: Path | None,
    force: bool,
) -> tuple[Method, Texts]:
    from benchbench import machine, store
    from benchbench.gate.stored import Stored, settings_of

    run = store.read(store.find(store_directory or store.default_directory(), baseline))
    description = describe(options)
    method = Stored(
        replace(asked, settings=settings_of(run, asked.settings)),
        run,
        description,
        without(options, description.blocked),
        force=force,
        environment=machine.environment(),
        design=design,
    )
    then = run.header.get("environment", {}).get("commit", "")
    return method, (
        "what is installed here",
        f"run {run.id} of {run.header.get('started', '?')}" + (f" (commit {then})" if then else ""),
    )


def _execute(
    method: Method,
    design: Design,
    texts: Texts,
    store_directory: Path | None,
    started: float,
) -> GateReport:
    """Measure and store what has to be timed, and conclude."""
    from benchbench import machine, store
    from benchbench.cli.job import run_header
    from benchbench.cli.progress import Progress
    from benchbench.gate import execute
    from benchbench.records import to_json

    facts: dict[str, Any] = {
        "mode": method.mode,
        "margin": design.margin,
        "alpha": design.alpha,
        "looks": design.looks,
        "candidate": texts[0],
        "baseline": texts[1],
    }
    where = {"started": store.now(), "environment": machine.environment()}
    if not method.selection.cases:
        note = "the code of every contender is the same in both builds, so nothing was timed"
        return execute.conclude(method.selection.lines, (), notes=(note,), **facts, **where)
    settings = replace(method.settings, processes=design.looks[-1])
    header: Mapping[str, Any] = {
        **run_header(settings, method.selection.cases, method.description, method.options),
        "gate": to_json(facts),
    }
    writer = store.create(store_directory or store.default_directory(), header)
    progress = Progress(settings.processes)
    status = "interrupted"

    def emit(record: Mapping[str, Any]) -> None:
        writer.append(record)
        progress.update(record)

    try:
        decisions, controls = execute.run_looks(method, design, emit)
        status = "complete"
    finally:
        progress.close()
        writer.close(status)
        click.echo(f"results: {writer.path}", err=True)
    return execute.conclude(
        execute.lines(method.selection, method.measured, decisions),
        execute.judge_controls(method.selection, controls, method.slower),
        notes=method.notes,
        run=str(header["id"]),
        seconds=time.monotonic() - started,
        **facts,
        **where,
    )
