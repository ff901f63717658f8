"""``--emit FORMAT=FILE``: what a command prints, written to files in other formats too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from benchbench.errors import BenchbenchError, UsageError, suggestion

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Formats = Mapping[str, Callable[[T], str]]


def emit_option(formats: str) -> Callable[[F], F]:
    """The option; ``formats`` names them for the help."""
    return click.option(
        "--emit",
        "emits",
        multiple=True,
        metavar="FORMAT=FILE",
        help=f"Also write {formats}. Repeatable.",
    )


def targets(emits: Sequence[str], formats: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Format and file of each ``--emit``.

    Raises:
        UsageError: one cannot be read, or names a format that there is not.
    """
    found = []
    for text in emits:
        name, sign, file = text.partition("=")
        if not sign or not file:
            raise UsageError(f"--emit {text!r} is not FORMAT=FILE; write json=report.json")
        if name not in formats:
            raise UsageError(
                f"there is no format {name!r}.{suggestion(name, formats)} "
                f"Formats: {', '.join(formats)}"
            )
        found.append((name, Path(file)))
    return found


def write(report: T, wanted: Sequence[tuple[str, Path]], formats: Formats[T]) -> None:
    """Write the files, with the folders that they need.

    Raises:
        BenchbenchError: one cannot be written.
    """
    for name, path in wanted:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(formats[name](report), encoding="utf-8")
        except OSError as error:
            raise BenchbenchError(f"{path} cannot be written: {error.strerror}") from error
