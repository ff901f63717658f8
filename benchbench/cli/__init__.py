"""The command line, the only part that reads arguments; commands are imported on use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from benchbench import __version__
from benchbench.errors import BenchbenchError, suggestion

COMMANDS = {
    "run": ("benchbench.cli.run", "Time contenders and print a table."),
    "list": ("benchbench.cli.listing", "List workloads and contenders, and what is unavailable."),
    "plugins": ("benchbench.cli.plugins", "List plugins, what they contribute, and what failed."),
    "show": ("benchbench.cli.show", "Print the table of a stored run."),
    "compare": ("benchbench.cli.compare", "Compare two stored runs."),
    "calibrate": (
        "benchbench.cli.calibrate",
        "How far verdicts on this machine can be trusted.",
    ),
    "doctor": ("benchbench.cli.doctor", "What makes numbers noisy here, and how to mend it."),
    "gate": ("benchbench.cli.gate", "Compare a project with an earlier build; for CI."),
    "history": ("benchbench.cli.history", "Show a case over all stored runs."),
    "check": ("benchbench.cli.check", "Check that a plugin behaves."),
    "new-plugin": ("benchbench.cli.new_plugin", "Write a plugin package to start from."),
    "build": ("benchbench.cli.build", "Compile the fused kernels ahead of their first use."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when one is called, not for ``--help``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands with their one line, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, doc) for name, (_, doc) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a mistyped one gets a suggestion."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(
                f"there is no command {name!r}.{suggestion(name, COMMANDS)} "
                "`benchbench --help` lists them."
            )
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="benchbench")
def group() -> None:
    """Which implementation of this PyTorch component is faster here, by how much, and is it right?

    Start with `benchbench run`. Exit codes: 0 fine, 1 a contender is wrong or failed or a
    gate found it slower, 2 usage, 3 a plugin failed under --strict, 4 an inconclusive gate.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    try:
        code: Any = group.main(
            args=None if arguments is None else list(arguments),
            prog_name="benchbench",
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    except BenchbenchError as error:
        click.echo(f"benchbench: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # `benchbench show | head` is not an error; nothing more can be printed.
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
