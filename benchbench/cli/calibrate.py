"""``benchbench calibrate``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbench.cli.common import (
    choose_engine,
    describe,
    loader_options,
    plugin_options,
    report_failures,
    store_option,
    without,
)
from benchbench.cli.emits import emit_option, targets, write
from benchbench.contract import PlannedCase, Settings
from benchbench.errors import PlanError, UsageError

if TYPE_CHECKING:
    from benchbench.calibrate.card import Card
    from benchbench.calibrate.measure import Round

RIVALS = 2
"""Contenders beside the baseline whose ratios are measured in every round."""


@click.command(name="calibrate")
@click.argument("patterns", nargs=-1, metavar="[KIND|WORKLOAD|GLOB]...")
@click.option("--preset", "-p", default="quick", show_default=True, help="Where cases come from.")
@click.option("--axis", "-a", "axes", multiple=True, metavar="AXIS=V1,V2", help="Repeatable.")
@click.option("--nulls", type=click.IntRange(1), default=300, show_default=True, help="Null pairs.")
@click.option(
    "--slowed", type=click.IntRange(1), default=40, show_default=True, help="Pairs for each shift."
)
@click.option("--cases", type=click.IntRange(1), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="At least.")
@click.option("--load", type=click.IntRange(0), default=0, help="Processors to keep busy.")
@click.option(
    "--add", "added", multiple=True, metavar="RUN", help="A round measured before. Repeatable."
)
@click.option("--looks", default="9,16,24", show_default=True, help="Processes at each look.")
@click.option("--margin", type=click.FloatRange(0, min_open=True), default=0.02, show_default=True)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
)
@click.option("--threads", type=click.IntRange(0), default=0, help="Default: cores that are left.")
@click.option("--seed", type=int, default=0, show_default=True)
@emit_option("text, markdown or json")
@store_option
@plugin_options
def command(
    patterns: tuple[str, ...],
    preset: str,
    axes: tuple[str, ...],
    nulls: int,
    slowed: int,
    cases: int,
    rounds: int,
    load: int,
    added: tuple[str, ...],
    looks: str,
    margin: float,
    alpha: float,
    threads: int,
    seed: int,
    emits: tuple[str, ...],
    store_directory: Path | None,
    files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> int:
    """Measure how often a gate on this machine would be wrong, and what it would miss.

    Copies of installed implementations are compared as a gate compares builds: unchanged ones must
    not be told apart, ones that are slowed by a known share must be found. Some twenty
    minutes; 3000 null pairs, which the promises are made for, take more than an hour. Exit code 1
    when a promise is missed.

    \b
    benchbench calibrate
    benchbench calibrate --nulls 3000 --slowed 240 --emit markdown=card.md
    benchbench calibrate --load 1
    """
    from benchbench.calibrate.card import FORMATS, render_text
    from benchbench.calibrate.design import Effort
    from benchbench.cli.gate import make_design
    from benchbench.cli.run import parse_axes
    from benchbench.plan import plan

    wanted = targets(emits, FORMATS)
    options = loader_options(files, blocked)
    description = describe(options)
    report_failures(description, strict=strict)
    options = without(options, description.blocked)
    planned = plan(
        description,
        patterns,
        preset=preset,
        axes=parse_axes(axes),
        device=None if "device" in parse_axes(axes) else "cpu",
        seed=seed,
    )
    card = _calibrate(
        [_narrowed(item, description) for item in planned],
        Effort(nulls=nulls, slowed=slowed, cases=cases, rounds=rounds),
        make_design(looks, alpha, margin),
        _settings(threads, load, seed),
        options,
        description,
        load,
        store_directory,
        added,
    )
    click.echo(render_text(card))
    write(card, wanted, FORMATS)
    return 0 if card.met else 1


def _settings(threads: int, load: int, seed: int) -> Settings:
    """As a gate's, but with the shortest budget, which a case of many contenders leaves each."""
    from benchbench.resources import usable_cores

    return Settings(
        threads=threads or max(1, usable_cores() - load),
        seed=seed,
        budget=0.0,
        min_passes=32,
        sample_seconds=0.001,
        warmup=0.02,
        roof=False,
    )


def _narrowed(item: PlannedCase, description: Any) -> PlannedCase:
    contenders = description.workloads[item.case.workload].contenders
    rivals = [
        name
        for name in item.contenders
        if name != item.baseline
        and not contenders[name].unavailable
        and not contenders[name].has_prepare
    ]
    return replace(item, contenders=(item.baseline, *rivals[:RIVALS]))


def _calibrate(
    planned: Sequence[PlannedCase],
    effort: Any,
    design: Any,
    settings: Settings,
    options: Any,
    description: Any,
    load: int,
    store_directory: Path | None,
    added: Sequence[str],
) -> Card:
    from benchbench import machine, store
    from benchbench.calibrate.card import Card, make_lines
    from benchbench.calibrate.design import LONGEST, SHORTEST, chosen
    from benchbench.calibrate.load import neighbours
    from benchbench.calibrate.probe import PROCESSES, probe
    from benchbench.cli.progress import Progress
    from benchbench.records import to_json

    before = _rounds_before(added, design, settings, load, store_directory)
    engine = choose_engine("local", description, options)
    began, started = time.monotonic(), store.now()
    with neighbours(load) as cpus:
        click.echo(f"a short run over {len(planned)} cases ...", err=True)
        progress = Progress(PROCESSES)
        try:
            found = probe(planned, settings, engine, options, progress.update)
        finally:
            progress.close()
        cases = chosen(planned, found.latencies, found.harness, effort.cases)
        if not cases:
            raise PlanError(
                f"no selected case has a baseline that takes {SHORTEST:g} to {LONGEST:g} s a call, "
                "so there is nothing to calibrate with; give other patterns"
            )
        cases = [
            replace(
                item,
                contenders=tuple(n for n in item.contenders if n in found.contenders[item.case.id]),
            )
            for item in cases
        ]
        rounds: list[Round] = [one for one, _ in before.values()]
        runs = [run for _, run in before.values()]
        total = effort.rounds_for(len(cases))
        for number in range(total):
            if number in before:
                continue
            click.echo(f"round {number + 1} of {total}", err=True)
            one, run = _round(
                number, cases, effort, design, settings, options, description, store_directory, load
            )
            rounds.append(one)
            runs.append(run)
    lines, counts = make_lines(rounds, design, load)
    faults = [fault for one in rounds for fault in one.faults]
    notes = [f"not measured: {fault}" for fault in dict.fromkeys(faults)]
    if load:
        notes.insert(0, f"busy processors: {', '.join(map(str, cpus)) or 'not pinned'}")
    return Card(
        machine={**machine.environment(), **found.environment},
        load=load,
        design=design,
        settings=to_json(settings),
        cases=tuple(item.case.id for item in cases),
        rounds=len(rounds),
        lines=(*lines, *found.lines()),
        counts=counts,
        notes=tuple(notes),
        started=started,
        seconds=time.monotonic() - began,
        runs=tuple(runs),
    )


def _rounds_before(
    names: Sequence[str], design: Any, settings: Settings, load: int, directory: Path | None
) -> dict[int, tuple[Round, str]]:
    """Rounds of ``--add`` and the ids of their runs, by number.

    Raises:
        UsageError: one is no round, was measured in another way, or has a number that another has.
    """
    from benchbench import machine, store
    from benchbench.calibrate.measure import again
    from benchbench.records import to_json

    found: dict[int, tuple[Round, str]] = {}
    for name in names:
        run = store.read(store.find(directory or store.default_directory(), name))
        one = again(run)
        facts = run.header["calibration"]
        threads = run.header["settings"]["threads"]
        differences = machine.differences(run.header["environment"], machine.environment())
        if facts["design"] != to_json(design) or threads != settings.threads:
            differences.append("looks, margin, alpha or threads")
        if facts.get("load", 0) != load:
            differences.append(f"load: {facts.get('load', 0)} against {load}")
        if differences:
            raise UsageError(
                f"run {run.id} cannot be added, it differs in {'; '.join(differences)}"
            )
        number = int(facts["round"])
        if number in found:
            raise UsageError(
                f"runs {run.id} and {found[number][1]} are the same round, {number + 1}"
            )
        found[number] = (one, run.id)
    return found


def _round(
    number: int,
    cases: Sequence[PlannedCase],
    effort: Any,
    design: Any,
    settings: Settings,
    options: Any,
    description: Any,
    store_directory: Path | None,
    load: int,
) -> tuple[Round, str]:
    """Measure one round into a run file of its own."""
    from benchbench import store
    from benchbench.calibrate.measure import run_round
    from benchbench.cli.job import run_header
    from benchbench.cli.progress import Progress
    from benchbench.records import to_json

    header: Mapping[str, Any] = {
        **run_header(replace(settings, processes=design.looks[-1]), cases, description, options),
        "calibration": {
            "round": number,
            "design": to_json(design),
            "effort": to_json(effort),
            "load": load,
        },
    }
    writer = store.create(store_directory or store.default_directory(), header)
    progress = Progress(design.looks[-1])
    status = "interrupted"

    def emit(record: Mapping[str, Any]) -> None:
        writer.append(record)
        progress.update(record)

    try:
        found = run_round(
            number,
            cases,
            effort,
            design,
            settings=settings,
            engine=choose_engine("local", description, options),
            options=options,
            emit=emit,
        )
        status = "complete"
    finally:
        progress.close()
        writer.close(status)
    return found, str(header["id"])
