"""A run that is planned and has a file: carry it out, end it in order, continue it."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbench.catalog import Description
from benchbench.cli.common import (
    check_report,
    choose_engine,
    deliver,
    describe,
    render,
    report_failures,
    without,
)
from benchbench.cli.progress import Progress
from benchbench.contract import Engine, PlannedCase, Run, Settings
from benchbench.errors import BenchbenchError, StoreError, UsageError
from benchbench.plugins import LoaderOptions

if TYPE_CHECKING:
    from benchbench.store import Writer


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is planned and has a file."""

    cases: Sequence[PlannedCase]
    settings: Settings
    engine: Engine
    options: LoaderOptions
    writer: Writer
    done: frozenset[tuple[str, str, int]] = frozenset()
    strict: bool = False
    store_option: Path | None = None
    """As given on the command line, so that the command to resume can repeat it."""

    def execute(self, report: str, output: Path | None, *, verbose: bool = False) -> int:
        """Measure, store, print; returns the exit code.

        What was measured is printed whatever ends the run.

        Raises:
            BenchbenchError: the run cannot go on.
        """
        from benchbench import store, supervise

        progress = Progress(self.settings.processes, verbose=verbose)
        blocked = False

        def emit(record: Mapping[str, Any]) -> None:
            nonlocal blocked
            self.writer.append(record)
            blocked = blocked or record.get("kind") == "blocked"
            progress.update(record)

        code = 0
        status = "interrupted"
        failure: BenchbenchError | None = None
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
        except BenchbenchError as error:
            failure = error
        finally:
            progress.close()
            self.writer.close(status)
        run = store.read(self.writer.path)
        if run.results:
            deliver(render(report, run, self.writer.path, self.options), output)
        click.echo(f"results: {self.writer.path}", err=True)
        if status == "complete":
            click.echo(
                f"again: benchbench show {run.id} [--format markdown|html|csv|json]", err=True
            )
        if status == "interrupted":
            where = f" --store {shlex.quote(str(self.store_option))}" if self.store_option else ""
            click.echo(
                f"interrupted; go on with: benchbench run --resume {run.id}{where}", err=True
            )
            if failure is not None:
                raise failure
            return code
        if self.strict and blocked:
            return 3
        return int(any(r.status in ("wrong", "failed") for r in run.results))


def run_header(
    settings: Settings,
    cases: Sequence[PlannedCase],
    description: Description,
    options: LoaderOptions,
) -> dict[str, Any]:
    """What a run's file begins with."""
    from benchbench import machine, store
    from benchbench.records import to_json
    from benchbench.timers import instructions_launch as instructions

    return {
        "id": store.new_id(),
        "started": store.now(),
        "command": ["benchbench", *sys.argv[1:]],
        "settings": to_json(settings),
        "environment": machine.environment(),
        "plugins": to_json(description.plugins),
        "plugin_options": to_json(options),
        "cases": to_json(cases),
        **({"margin": instructions.MARGIN} if settings.timer == instructions.TIMER else {}),
    }


def resumed(
    run: Run,
    path: Path,
    given: LoaderOptions,
    engine_name: str,
    report: str,
    strict: bool,
) -> Job:
    """A job that continues a stored run under the settings that it began with."""
    from benchbench import machine, store
    from benchbench.records import planned_from_json, settings_from_json, to_json

    if run.complete:
        raise UsageError(
            f"run {run.id} is complete; `benchbench show {run.id}` prints it, and "
            "`benchbench run` without --resume starts another"
        )
    options = LoaderOptions.from_json(run.header.get("plugin_options", {}))
    if given.files or given.blocked:
        options = given
    description = describe(options)
    report_failures(description, strict=strict)
    options = without(options, description.blocked)
    check_report(report, description)
    conflicts = store.resume_conflicts(run, {**run.header, "plugins": to_json(description.plugins)})
    here, there = machine.environment(), run.header.get("environment", {})
    conflicts += machine.differences(there, here)
    if conflicts:
        raise StoreError(
            f"run {run.id} cannot be continued, since it would mix what differs: "
            f"{'; '.join(conflicts)}. Start a new run"
        )
    if here.get("commit") != there.get("commit"):
        click.echo(
            f"the commit here was {there.get('commit')} when the run began and is "
            f"{here.get('commit')} now: results of both will stand in one table",
            err=True,
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
