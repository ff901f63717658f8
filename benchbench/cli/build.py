"""``benchbench build``."""

from __future__ import annotations

import logging

import click


@click.command(name="build")
@click.option("--verbose", "-v", is_flag=True, help="Show the compiler's commands.")
@click.option("--force", is_flag=True, help="Compile even if the library is there.")
def command(verbose: bool, force: bool) -> int:
    """Compile the fused kernels ahead of their first use."""
    from benchbench import native

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    path = native.prebuilt()
    if path is None or force:
        path = native.build(verbose=verbose, force=True)
    click.echo(f"the kernels are in {path}")
    for name, value in native.load().build_info().items():
        click.echo(f"  {name}: {value}")
    return 0
