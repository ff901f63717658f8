"""``benchbench new-plugin``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="new-plugin")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path), help="Default: ./NAME")
@click.option(
    "--workload", default="activations/silu", show_default=True, help="In which it competes."
)
def command(name: str, directory: Path | None, workload: str) -> int:
    """Write a package called NAME that adds one contender."""
    from benchbench import scaffold

    for file in scaffold.create(directory or Path(name), name, workload):
        click.echo(f"wrote {file}")
    click.echo(f"next: pip install -e {directory or name} && benchbench check {name}")
    return 0
