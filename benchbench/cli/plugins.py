"""``benchbench plugins``."""

from __future__ import annotations

import textwrap

import click

from benchbench.cli.common import describe, loader_options, plugin_options
from benchbench.contract import PluginInfo
from benchbench.errors import PluginError


@click.command(name="plugins")
@click.option("--verbose", "-v", is_flag=True, help="Contributions and tracebacks.")
@plugin_options
def command(verbose: bool, files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> int:
    """List plugins, what they contribute, and what failed."""
    description = describe(loader_options(files, blocked))
    for plugin in description.plugins:
        _print(plugin, verbose)
    if not description.plugins:
        click.echo("no plugins: no installed package has an entry point of the group 'benchbench'")
    failed = sum(plugin.status == "failed" for plugin in description.plugins)
    if failed and strict:
        raise PluginError(f"{failed} failed and --strict is set")
    return 0


def _print(plugin: PluginInfo, verbose: bool) -> None:
    provider = plugin.provider
    counts = ", ".join(
        f"{len(names)} {word if len(names) != 1 else word.rstrip('s')}"
        for word, names in (
            ("workloads", plugin.workloads),
            ("implementations", plugin.implementations),
            ("timers", plugin.timers),
            ("reports", plugin.reports),
            ("engines", plugin.engines),
        )
        if names
    )
    style = {"ok": "green", "failed": "red"}.get(plugin.status, "yellow")
    click.echo(
        f"{click.style(f'{plugin.status:<8}', fg=style)}{provider.plugin:<18} "
        f"{provider.distribution} {provider.version}  {counts}".rstrip()
    )
    if plugin.reason:
        click.echo(textwrap.indent(textwrap.fill(plugin.reason, 100), " " * 8))
    if verbose:
        if provider.file:
            click.echo(f"        {provider.file}")
        for name in (*plugin.workloads, *plugin.implementations):
            click.echo(f"        {name}")
        if plugin.detail:
            click.echo(textwrap.indent(plugin.detail.rstrip(), " " * 8))
