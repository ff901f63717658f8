"""``benchbench history``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import click

from benchbench.cli.common import store_option
from benchbench.errors import UsageError, suggestion


@click.command(name="history")
@click.argument("case")
@click.option(
    "--contender", "-c", "contenders", multiple=True, metavar="NAME", help="Name or glob."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Latest runs.")
@store_option
def command(
    case: str, contenders: tuple[str, ...], limit: int, store_directory: Path | None
) -> int:
    """Show CASE (a workload, a glob, or a whole case id) over the stored runs."""
    from benchbench import history, store

    directory = store_directory or store.default_directory()
    found = history.entries(directory, case, contenders)
    if not found:
        known = history.workloads(directory)
        raise UsageError(
            f"no stored run has a case {case!r}.{suggestion(case, known)} "
            f"{len(known)} workloads are stored in {directory}"
        )
    runs = list(dict.fromkeys(entry.run for entry in found))[-limit:]
    groups = dict.fromkeys((entry.case, entry.contender) for entry in found)
    for name, contender in groups:
        if contenders and not any(fnmatchcase(contender, p) for p in contenders):
            continue
        click.echo(f"{name}  {contender}")
        for entry in found:
            if (entry.case, entry.contender) == (name, contender) and entry.run in runs:
                click.echo(f"  {entry.text()}")
    return 0
