"""``benchbench show``."""

from __future__ import annotations

from pathlib import Path

import click

from benchbench.cli.common import (
    deliver,
    describe,
    format_options,
    loader_options,
    plugin_options,
    render,
    store_option,
)
from benchbench.errors import UsageError, suggestion


@click.command(name="show")
@click.argument("run", default="last")
@format_options
@store_option
@plugin_options
def command(
    run: str,
    report: str,
    output: Path | None,
    store_directory: Path | None,
    files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> int:
    """Print the table of a stored run: an id, its beginning, a path, or 'last'."""
    from benchbench import store
    from benchbench.reports import builtin

    path = store.find(store_directory or store.default_directory(), run)
    options = loader_options(files, blocked)
    if report not in builtin():
        reports = describe(options).reports
        if report not in reports:
            known = {*builtin(), *reports}
            raise UsageError(
                f"there is no report {report!r}.{suggestion(report, known)} "
                f"Reports: {', '.join(sorted(known))}"
            )
    deliver(render(report, store.read(path), path, options), output)
    return 0
