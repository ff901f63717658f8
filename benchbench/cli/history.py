"""``benchbench history``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbench.cli.common import store_option
from benchbench.errors import UsageError, suggestion

if TYPE_CHECKING:
    from benchbench.history import Entry


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
    """Show CASE (a kind, a workload, a glob, or a whole case id) over the stored runs.

    Machines and days differ: this is advice, not a verdict. `benchbench compare` names what
    differs between two machines.
    """
    from benchbench import history, store

    directory = store_directory or store.default_directory()
    found = history.entries(directory, case, contenders)
    if not found:
        known = history.workloads(directory)
        who = f" with a contender {' or '.join(contenders)}" if contenders else ""
        raise UsageError(
            f"no stored run has a case {case!r}{who}.{suggestion(case, known)} "
            f"{len(known)} workloads are stored in {directory}"
        )
    runs = list(dict.fromkeys(entry.run for entry in found))[-limit:]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in found:
        if entry.run in runs:
            groups.setdefault((entry.case, entry.contender), []).append(entry)
    for (name, contender), members in sorted(groups.items()):
        click.echo(f"{name}  {click.style(contender, bold=True)}")
        for entry in members:
            click.echo(f"  {_line(entry)}")
    return 0


def _line(entry: Entry) -> str:
    """Run, when, commit, time, spread, speed-up over the baseline of that run."""
    from benchbench.reports import text

    when = entry.started[:16].replace("T", " ")
    line = f"{entry.run}  {when}  {entry.commit:<13}  "
    if entry.latency is None:
        return line + entry.status
    line += f"{text.duration(entry.latency.estimate, entry.unit):>9}  "
    line += f"{text.spread(entry.latency):>7}  "
    return (line + ("baseline" if entry.ratio is None else text.speedup(entry.ratio))).rstrip()
