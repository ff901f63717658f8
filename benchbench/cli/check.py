"""``benchbench check``."""

from __future__ import annotations

import click


@click.command(name="check")
@click.argument("plugin")
@click.option("--preset", "-p", default="quick", show_default=True)
def command(plugin: str, preset: str) -> int:
    """Check that PLUGIN (a name, a distribution, or a .py file) behaves.

    Builds its contenders, compares them with the reference and times them briefly. Ends with exit
    code 1 when anything is wrong.
    """
    from benchbench.testing import check_plugin

    findings = check_plugin(plugin, preset=preset)
    for finding in findings:
        color = "red" if finding.severity == "error" else "yellow"
        click.echo(click.style(finding.severity, fg=color) + str(finding)[len(finding.severity) :])
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    click.echo(f"{plugin}: {errors} errors, {warnings} warnings")
    return int(errors > 0)
