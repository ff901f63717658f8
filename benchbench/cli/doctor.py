"""``benchbench doctor``."""

from __future__ import annotations

import click

from benchbench.cli.emits import emit_option, targets, write

_COLOURS = {"noisy": "yellow", "unknown": "cyan", "good": "green"}


@click.command(name="doctor")
@click.option("--threads", type=click.IntRange(0), default=0, help="Of your runs; as in `run`.")
@click.option(
    "--spin/--no-spin", default=True, help="Also work for 2 s and see what becomes of it."
)
@click.option("--all", "everything", is_flag=True, help="Also what was read of what is good.")
@click.option("--strict", is_flag=True, help="Exit with 1 when something is noisy.")
@emit_option("text, markdown or json")
def command(
    threads: int, spin: bool, everything: bool, strict: bool, emits: tuple[str, ...]
) -> int:
    """Say what makes numbers noisy on this machine, and how to mend it.

    Looks at clocks, cores, neighbours, the limits of the container, memory, the allocator and
    GPUs. It changes nothing. What is noisy comes first, with what it does to numbers and a command
    that mends it, or why it cannot be mended here. Exit code 0 whatever is found.

    \b
    benchbench doctor
    benchbench doctor --strict --emit markdown=doctor.md
    """
    from shutil import get_terminal_size

    from benchbench.doctor.place import here
    from benchbench.doctor.render import FORMATS, WIDTH, render_text
    from benchbench.doctor.rules import diagnose

    wanted = targets(emits, FORMATS)
    diagnosis = diagnose(here(threads, spin=spin))
    width = max(60, min(100, get_terminal_size((WIDTH, 24)).columns))

    def style(text: str, status: str) -> str:
        return click.style(text, fg=_COLOURS[status], bold=True)

    click.echo(render_text(diagnosis, width, style, short=not everything))
    write(diagnosis, wanted, FORMATS)
    return 1 if strict and diagnosis.of("noisy") else 0
