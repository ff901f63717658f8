"""What several commands share: plugin options, the description, the store."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from benchbench.catalog import Description
from benchbench.contract import Engine, PluginInfo, Report, Run, Settings
from benchbench.errors import BenchbenchError, PluginError, UsageError, suggestion
from benchbench.plugins import ONE_FILE, LoaderOptions, check_names, find

F = TypeVar("F", bound=Callable[..., Any])


def plugin_options(function: F) -> F:
    """``--plugin``, ``--no-plugin`` and ``--strict``."""
    for option in (
        click.option("--strict", is_flag=True, help="A failing plugin ends with exit code 3."),
        click.option(
            "--no-plugin",
            "blocked",
            multiple=True,
            metavar="NAME",
            help="Leave a plugin out. Repeatable.",
        ),
        click.option(
            "--plugin",
            "files",
            multiple=True,
            metavar="FILE",
            help="Load a one-file plugin too. Repeatable.",
        ),
    ):
        function = option(function)
    return function


def store_option(function: F) -> F:
    """``--store``."""
    return click.option(
        "--store",
        "store_directory",
        type=click.Path(path_type=Path, file_okay=False),
        help="Directory of the results. Default: BENCHBENCH_STORE, or .benchbench here.",
    )(function)


def format_options(function: F) -> F:
    """``--format`` and ``--output``."""
    for option in (
        click.option(
            "--output",
            "-o",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the report to a file instead of standard output.",
        ),
        click.option(
            "--format",
            "-f",
            "report",
            default="table",
            show_default=True,
            metavar="NAME",
            help="table, markdown, html, csv, json, pytest-benchmark, github-action-benchmark, "
            "bencher, or a plugin's report.",
        ),
    ):
        function = option(function)
    return function


def loader_options(files: tuple[str, ...], blocked: tuple[str, ...]) -> LoaderOptions:
    """Options of the loader, with the allow-list of ``BENCHBENCH_PLUGINS``."""
    allowed = os.environ.get("BENCHBENCH_PLUGINS")
    names = None if allowed is None else tuple(n.strip() for n in allowed.split(",") if n.strip())
    return LoaderOptions(
        files=tuple(str(Path(file).resolve()) for file in files), allowed=names, blocked=blocked
    )


def describe(options: LoaderOptions, *, retry_failed: bool = True) -> Description:
    """The catalogue's description: from the cache, or made in a worker.

    What made a plugin fail may have been mended where the cache cannot see it, so a description
    with a failure is made anew, unless ``retry_failed`` is False.

    Raises:
        UsageError: a plugin file or name does not exist.
        WorkerDied: no worker can be started.
    """
    from benchbench import catalog_cache

    check_names(options, find(options))
    data = catalog_cache.read(options)
    failed = data is not None and any(p["status"] == "failed" for p in data["plugins"])
    if data is None or (failed and retry_failed):
        from benchbench import supervise
        from benchbench.engines.local import LocalEngine

        click.echo("loading plugins ...", err=True)
        data = supervise.describe(LocalEngine(), options, Settings())
        catalog_cache.write(options, data)
    return Description.from_json(data)


def without(options: LoaderOptions, names: tuple[str, ...]) -> LoaderOptions:
    """The same options with more plugins blocked."""
    return replace(options, blocked=tuple(dict.fromkeys((*options.blocked, *names))))


def report_failures(description: Description, *, strict: bool) -> None:
    """One line on standard error for each plugin that failed, and one that says what to do next.

    Raises:
        PluginError: there is one and ``strict`` is set.
    """
    failed = [plugin for plugin in description.plugins if plugin.status == "failed"]
    if not failed:
        return
    for plugin in failed:
        click.echo(failure_line(plugin), err=True)
    files = [p.provider.file for p in failed if p.provider.version == ONE_FILE]
    command = shlex.join(["benchbench", "plugins", "-v", *(f"--plugin={file}" for file in files)])
    if strict:
        raise PluginError(
            f"{len(failed)} plugin{'s' if len(failed) > 1 else ''} failed and --strict is set. "
            f"`{command}` has the traceback"
        )
    left_out = " ".join(f"--no-plugin {plugin.provider.plugin}" for plugin in failed)
    click.echo(
        f"the rest goes on; `{command}` has the traceback, `{left_out}` leaves it out", err=True
    )


def failure_line(plugin: PluginInfo) -> str:
    """``plugin NAME (DISTRIBUTION VERSION, FILE) failed: REASON``."""
    provider = plugin.provider
    place = ", ".join(
        p for p in (f"{provider.distribution} {provider.version}", provider.file) if p
    )
    return f"plugin {provider.plugin} ({place}) failed: {plugin.reason}"


def choose_engine(name: str, description: Description, options: LoaderOptions) -> Engine:
    """The engine called ``name``; one of a plugin makes this process load the plugins.

    Raises:
        UsageError: there is no such engine.
    """
    from benchbench.engines.local import LocalEngine

    if name == "local":
        return LocalEngine()
    known = {"local", *description.engines}
    if name not in known:
        raise UsageError(
            f"there is no engine {name!r}.{suggestion(name, known)} "
            f"Engines: {', '.join(sorted(known))}"
        )
    from benchbench.plugins import load

    return load(options).catalog.engines[name]


def check_report(name: str, description: Description) -> None:
    """Raise a usage error for a report that does not exist, before anything is measured."""
    from benchbench.reports import builtin

    known = {*builtin(), *description.reports}
    if name not in known:
        raise UsageError(
            f"there is no report {name!r}.{suggestion(name, known)} "
            f"Reports: {', '.join(sorted(known))}"
        )


def render(name: str, run: Run, path: Path, options: LoaderOptions) -> str:
    """A run as the report ``name`` shows it; a plugin's report is rendered in a worker."""
    from benchbench.reports import builtin

    reports: dict[str, Report] = builtin()
    if name in reports:
        return reports[name].render(run)
    from benchbench import supervise
    from benchbench.engines.local import LocalEngine

    return supervise.render(LocalEngine(), options, name, str(path))


def deliver(text: str, output: Path | None) -> None:
    """Print a report, or write it to a file and say so."""
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchbenchError(
            f"the report cannot be written to {output}: {error.strerror}. The results are stored; "
            "`benchbench show last` prints them"
        ) from error
    click.echo(f"wrote {output}", err=True)
