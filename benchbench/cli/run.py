"""``benchbench run``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchbench.catalog import Description
from benchbench.cli.common import (
    check_report,
    choose_engine,
    deliver,
    describe,
    format_options,
    loader_options,
    plugin_options,
    render,
    report_failures,
    store_option,
)
from benchbench.cli.progress import Progress
from benchbench.contract import Engine, PlannedCase, Run, Settings
from benchbench.errors import StoreError, UsageError, suggestion
from benchbench.plugins import LoaderOptions

_DEFAULTS = Settings()
_MEBI = 1 << 20


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
    default=_DEFAULTS.processes,
    show_default=True,
    help="Fresh processes; fewer than 5 give no interval.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0),
    default=_DEFAULTS.budget,
    show_default=True,
    help="Timed seconds for each case and process.",
)
@click.option("--threads", type=click.IntRange(0), default=0, help="Default: physical cores.")
@click.option("--timer", default="auto", show_default=True, help="wall, cuda or a plugin's timer.")
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
@format_options
@store_option
@plugin_options
def command(
    patterns: tuple[str, ...],
    preset: str,
    contenders: tuple[str, ...],
    axes: tuple[str, ...],
    device: str | None,
    processes: int,
    budget: float,
    threads: int,
    timer: str,
    engine_name: str,
    timeout: float,
    memory_limit: int,
    seed: int,
    resume: str | None,
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

    directory = store_directory or store.default_directory()
    if resume is not None:
        _refuse_selection()
        stored = store.read(path := store.find(directory, resume))
        job = _resumed(stored, path, loader_options(files, blocked), engine_name, report, strict)
        return job.execute(report, output)
    options = loader_options(files, blocked)
    description = describe(options)
    report_failures(description, strict=strict)
    check_report(report, description)
    _check_timer(timer, description)
    settings = Settings(
        preset=preset,
        processes=processes,
        budget=budget,
        threads=threads,
        timer=timer,
        timeout=timeout,
        memory_limit=memory_limit * _MEBI,
        seed=seed,
    )
    cases = plan(
        description,
        patterns,
        preset=preset,
        axes=_parse_axes(axes),
        contenders=contenders,
        device=device,
        seed=seed,
    )
    engine = choose_engine(engine_name, description, options)
    header = _header(settings, cases, description, options)
    writer = store.create(directory, header)
    job = Job(
        cases=cases, settings=settings, engine=engine, options=options, writer=writer, strict=strict
    )
    return job.execute(report, output)


def _header(
    settings: Settings,
    cases: Sequence[PlannedCase],
    description: Description,
    options: LoaderOptions,
) -> dict[str, Any]:
    from benchbench import machine, store
    from benchbench.records import to_json

    return {
        "id": store.new_id(),
        "started": store.now(),
        "command": ["benchbench", *sys.argv[1:]],
        "settings": to_json(settings),
        "environment": machine.environment(),
        "plugins": to_json(description.plugins),
        "plugin_options": to_json(options),
        "cases": to_json(cases),
    }


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is planned and has a file."""

    cases: Sequence[PlannedCase]
    settings: Settings
    engine: Engine
    options: LoaderOptions
    writer: Any
    done: frozenset[tuple[str, str, int]] = frozenset()
    strict: bool = False

    def execute(self, report: str, output: Path | None) -> int:
        """Measure, store, print; returns the exit code."""
        from benchbench import store, supervise

        progress = Progress(self.settings.processes)
        blocked = False

        def emit(record: Mapping[str, Any]) -> None:
            nonlocal blocked
            self.writer.append(record)
            blocked = blocked or record.get("kind") == "blocked"
            progress.update(record)

        code = 0
        status = "interrupted"
        try:
            with _terminable():
                supervise.execute(
                    self.cases,
                    settings=self.settings,
                    engine=self.engine,
                    options=self.options,
                    emit=emit,
                    done=self.done,
                )
            status = "complete"
        except _Interrupted as stop:
            code = 128 + stop.number
        finally:
            progress.close()
            self.writer.close(status)
        run = store.read(self.writer.path)
        if run.results:
            deliver(render(report, run, self.writer.path, self.options), output)
        click.echo(f"results: {self.writer.path}", err=True)
        if status == "interrupted":
            click.echo(f"interrupted; go on with: benchbench run --resume {run.id}", err=True)
            return code
        if self.strict and blocked:
            return 3
        return int(any(r.status in ("wrong", "failed") for r in run.results))


def _resumed(
    run: Run,
    path: Path,
    given: LoaderOptions,
    engine_name: str,
    report: str,
    strict: bool,
) -> Job:
    """A job that continues a stored run under the settings that it began with."""
    from benchbench import store
    from benchbench.records import from_json, planned_from_json, settings_from_json

    if run.complete:
        raise UsageError(
            f"run {run.id} is complete; `benchbench show {run.id}` prints it, and "
            "`benchbench run` without --resume starts another"
        )
    stored = dict(run.header.get("plugin_options", {}))
    stored.update({name: tuple(v) for name, v in stored.items() if isinstance(v, list)})
    options = from_json(LoaderOptions, stored)
    if given.files or given.blocked:
        options = given
    description = describe(options)
    report_failures(description, strict=strict)
    check_report(report, description)
    conflicts = store.resume_conflicts(
        run, {**run.header, "plugins": [_plugin_record(p) for p in description.plugins]}
    )
    if conflicts:
        raise StoreError(
            f"run {run.id} cannot be continued, since it would mix what differs: "
            f"{'; '.join(conflicts)}. Start a new run"
        )
    writer = store.Writer(path)
    writer.append({"type": "resume", "at": store.now(), "command": ["benchbench", *sys.argv[1:]]})
    return Job(
        cases=[planned_from_json(case) for case in run.header["cases"]],
        settings=settings_from_json(run.header["settings"]),
        engine=choose_engine(engine_name, description, options),
        options=options,
        writer=writer,
        done=frozenset(store.done(run)),
        strict=strict,
    )


def _plugin_record(plugin: Any) -> Any:
    from benchbench.records import to_json

    return to_json(plugin)


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


def _parse_axes(given: Sequence[str]) -> dict[str, list[str]]:
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


class _Interrupted(BaseException):
    """Ctrl-C, or a polite request to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGINT and SIGTERM end the run in order: workers are ended, the table is printed."""

    def stop(number: int, frame: object) -> None:
        raise _Interrupted(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
