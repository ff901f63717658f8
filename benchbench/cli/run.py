"""``benchbench run``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from benchbench.catalog import Description
from benchbench.cli.common import (
    check_report,
    choose_engine,
    describe,
    format_options,
    loader_options,
    plugin_options,
    report_failures,
    store_option,
    without,
)
from benchbench.cli.job import Job, resumed, run_header
from benchbench.contract import Settings
from benchbench.errors import UsageError, suggestion

_DEFAULTS = Settings()
_MEBI = 1 << 20


def usual_settings(preset: str) -> Settings:
    """What a preset takes where no option says otherwise.

    A quick look is for a first table in minutes; 9 processes are what a decision takes.
    """
    usual = _DEFAULTS if preset == "quick" else Settings(processes=9, budget=0.4, warmup=0.2)
    return replace(usual, preset=preset)


@click.command(name="run")
@click.argument("patterns", nargs=-1, metavar="[KIND|WORKLOAD|GLOB]...")
@click.option("--preset", "-p", default="quick", show_default=True, help="quick, standard or full.")
@click.option(
    "--contender",
    "-c",
    "contenders",
    multiple=True,
    metavar="NAME",
    help="Name or glob. Repeatable.",
)
@click.option(
    "--axis",
    "-a",
    "axes",
    multiple=True,
    metavar="AXIS=V1,V2",
    help="Replace the preset's values on an axis. Repeatable.",
)
@click.option("--device", default=None, help="The same as -a device=...")
@click.option(
    "--processes",
    "-n",
    type=click.IntRange(1),
    default=None,
    help="Fresh processes; fewer than 5 give no interval. Default: 5, or 9 beyond quick; 3 where "
    "instructions are counted.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0),
    default=None,
    help="Timed seconds for each case and process. Default: 0.15, or 0.4 beyond quick.",
)
@click.option("--threads", type=click.IntRange(0), default=0, help="Default: physical cores.")
@click.option(
    "--timer",
    default="auto",
    show_default=True,
    help="wall, cuda-events, cuda-graph, cuda-host, instructions, a plugin's.",
)
@click.option(
    "--cache",
    type=click.Choice(["hot", "cold"]),
    default="hot",
    show_default=True,
    help="cold: calls go round inputs of 5 times the last cache.",
)
@click.option("--engine", "engine_name", default="local", show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.timeout,
    show_default=True,
    help="Seconds that one step of one contender may take.",
)
@click.option(
    "--memory-limit", type=click.IntRange(0), default=0, metavar="MIB", help="Per worker."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of inputs and orders.")
@click.option("--resume", metavar="RUN", help="Carry on an interrupted run: an id, or 'last'.")
@click.option(
    "--verbose", "-v", is_flag=True, help="Each case as it ends, and what lost workers printed."
)
@format_options
@store_option
@plugin_options
def command(
    patterns: tuple[str, ...],
    preset: str,
    contenders: tuple[str, ...],
    axes: tuple[str, ...],
    device: str | None,
    processes: int | None,
    budget: float | None,
    threads: int,
    timer: str,
    cache: str,
    engine_name: str,
    timeout: float,
    memory_limit: int,
    seed: int,
    resume: str | None,
    verbose: bool,
    report: str,
    output: Path | None,
    store_directory: Path | None,
    files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> int:
    """Time contenders against each other and print a table.

    \b
    benchbench run                                  everything, small shapes
    benchbench run activations/gelu -p standard     one workload, real shapes
    benchbench run activations -a dtype=bfloat16 -c fused
    """
    from benchbench import store
    from benchbench.plan import plan
    from benchbench.timers import instructions_launch as instructions

    directory = store_directory or store.default_directory()
    if resume is not None:
        _refuse_selection()
        stored = store.read(path := store.find(directory, resume))
        job = resumed(stored, path, loader_options(files, blocked), engine_name, report, strict)
        job = replace(job, store_option=store_directory)
        return job.execute(report, output, verbose=verbose)
    if timer == instructions.TIMER and engine_name == "local":
        instructions.route(os.environ)  # why it cannot be, before anything else is waited for
    options = loader_options(files, blocked)
    description = describe(options)
    report_failures(description, strict=strict)
    options = without(options, description.blocked)
    check_report(report, description)
    _check_timer(timer, description)
    usual = usual_settings(preset)
    fresh = instructions.PROCESSES if timer == instructions.TIMER else usual.processes
    settings = Settings(
        preset=preset,
        processes=fresh if processes is None else processes,
        budget=usual.budget if budget is None else budget,
        warmup=usual.warmup,
        threads=threads,
        timer=timer,
        cache=cache,
        timeout=timeout,
        memory_limit=memory_limit * _MEBI,
        seed=seed,
    )
    settings = instructions.suited(settings)
    cases = plan(
        description,
        patterns,
        preset=preset,
        axes=parse_axes(axes),
        contenders=contenders,
        device=device,
        seed=seed,
    )
    engine = choose_engine(engine_name, description, options)
    header = run_header(settings, cases, description, options)
    writer = store.create(directory, header)
    job = Job(
        cases=cases,
        settings=settings,
        engine=engine,
        options=options,
        writer=writer,
        strict=strict,
        store_option=store_directory,
    )
    return job.execute(report, output, verbose=verbose)


def _refuse_selection() -> None:
    """With --resume the run's own selection and settings hold."""
    context = click.get_current_context()
    fixed = (
        "patterns",
        "preset",
        "contenders",
        "axes",
        "device",
        "processes",
        "budget",
        "threads",
        "timer",
        "cache",
        "seed",
    )
    given = [
        name
        for name in fixed
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(
            f"--resume goes on with what the run began with, so {', '.join(given)} cannot be "
            "given; start a new run for another selection"
        )


def parse_axes(given: Sequence[str]) -> dict[str, list[str]]:
    """``dtype=float32,bfloat16`` of each ``--axis``, by axis."""
    axes: dict[str, list[str]] = {}
    for text in given:
        axis, sign, values = text.partition("=")
        if not sign or not axis or not values:
            raise UsageError(f"--axis {text!r} is not AXIS=VALUE; write dtype=float32,bfloat16")
        axes.setdefault(axis.strip(), []).extend(v.strip() for v in values.split(","))
    return axes


def _check_timer(name: str, description: Description) -> None:
    from benchbench.timers import builtin

    known = {"auto", *builtin(), *description.timers}
    if name not in known:
        raise UsageError(
            f"there is no timer {name!r}.{suggestion(name, known)} "
            f"Timers: {', '.join(sorted(known))}"
        )
