"""``benchbench compare``: two stored runs."""

from __future__ import annotations

from pathlib import Path

import click

from benchbench.cli.common import store_option
from benchbench.errors import UsageError


@click.command(name="compare")
@click.argument("old")
@click.argument("new")
@click.option("--force", is_flag=True, help="Compare runs of different machines.")
@store_option
def command(old: str, new: str, force: bool, store_directory: Path | None) -> int:
    """Compare run OLD with run NEW (ids, their beginnings, paths, or 'last').

    The runs were not interleaved: contenders are compared by their ratio to the baseline of the
    same run.
    """
    from benchbench import store
    from benchbench.comparison import MARGIN, compare, different_machines
    from benchbench.reports import text

    directory = store_directory or store.default_directory()
    before = store.read(store.find(directory, old))
    after = store.read(store.find(directory, new))
    differs = different_machines(before, after)
    if differs and not force:
        raise UsageError(
            f"the runs are of different machines ({'; '.join(differs)}), so their times say "
            "nothing about the code; --force compares them all the same"
        )
    for difference in differs:
        click.echo(f"machines differ: {difference}", err=True)
    changes = compare(before, after)
    if not changes:
        raise UsageError(
            f"the runs {before.id} and {after.id} have no case and contender in common"
        )
    click.echo(
        f"old {before.id}   new {after.id}\n"
        "Changes are of the ratio to the baseline, in which a faster or slower machine cancels; "
        "those of a baseline\nitself (marked *) are of its time, where it does not, and get no "
        f"verdict. Margin {100 * MARGIN:.0f} %."
    )
    width = max(len(change.contender) for change in changes) + 2
    case = ""
    for change in changes:
        if change.case != case:
            case = change.case
            click.echo(f"\n{case}")
        click.echo(
            f"  {change.contender + ('' if change.relative else ' *'):<{width}} "
            f"{text.duration(change.old, change.unit):>9} -> "
            f"{text.duration(change.new, change.unit):>9}   {change.text()}"
        )
    return 0
