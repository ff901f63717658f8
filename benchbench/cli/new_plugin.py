"""``benchbench new-plugin``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="new-plugin")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path), help="Default: ./NAME")
@click.option(
    "--workload", metavar="KIND/TASK", help="In which it competes; see `benchbench list`."
)
def command(name: str, directory: Path | None, workload: str | None) -> int:
    """Write a package called NAME that adds one contender."""
    from benchbench import scaffold

    path = directory or Path(name)
    files = scaffold.create(path, name, workload) if workload else scaffold.create(path, name)
    for file in files:
        click.echo(f"wrote {file}")
    click.echo(f"next: pip install -e {path} && benchbench check {name}")
    return 0
