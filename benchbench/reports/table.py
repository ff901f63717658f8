"""Tables for a terminal, and for a pipe."""

from __future__ import annotations

import io
import os
import shutil
import sys

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchbench.contract import Run
from benchbench.reports.sheet import RIGHT, Document, Group, Sheet, document

WIDTH = 120
STYLES = {"faster": "green", "slower": "red", "baseline": "bold"}
LAST = ("notes", "memory", "baseline's", "±", "quality")
"""Columns to leave out, in this order, when the terminal is too narrow."""


def render(run: Run) -> str:
    """Text of all tables; coloured when standard output is a terminal."""
    return draw(document(run))


def draw(content: Document) -> str:
    """Draw a document for the terminal that standard output is, or 120 columns wide."""
    is_terminal = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=max(width, 60),
        force_terminal=is_terminal,
        color_system="auto" if is_terminal else None,
        highlight=False,
    )
    for line in content.heading:
        console.print(escape(line), style="dim" if not line.startswith("INTERRUPTED") else "bold")
    for sheet in content.sheets:
        console.print()
        console.print(f"[bold]{escape(sheet.title)}[/bold]  {escape(sheet.constants)}")
        _draw_sheet(console, sheet)
    console.print()
    for line in content.closing:
        console.print(escape(line), style="dim")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _draw_sheet(console: Console, sheet: Sheet) -> None:
    columns = _fitting(sheet, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 1))
    for column in columns:
        last = column == columns[-1] and column in ("notes", "quality")
        table.add_column(
            column,
            justify="right" if column in RIGHT else "left",
            no_wrap=not last,
            header_style="",
        )
    remarks: list[tuple[Group, tuple[str, str, str]]] = []
    for index, group in enumerate(sheet.groups):
        if index:
            table.add_section()
        if group.label:
            table.add_row(Text(group.label, style="italic"))
        for line in group.lines:
            style = STYLES.get(line.tone, "")
            table.add_row(*(Text(line.cells.get(column, ""), style=style) for column in columns))
        remarks += [(group, remark) for remark in group.remarks]
    if any(group.lines for group in sheet.groups):
        console.print(table)
    for (contender, status, reason), labels in _merged(remarks).items():
        where = f" [{'; '.join(labels)}]" if labels and len(labels) < len(sheet.groups) else ""
        style = "dim" if status == "unavailable" else "bold red"
        console.print(Text(f"  {contender} {status}{where}: {reason}", style=style))


def _merged(
    remarks: list[tuple[Group, tuple[str, str, str]]],
) -> dict[tuple[str, str, str], list[str]]:
    """The same remark about several cases once, with their labels."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for group, remark in remarks:
        labels = merged.setdefault(remark, [])
        if group.label:
            labels.append(group.label)
    return merged


def _fitting(sheet: Sheet, width: int) -> tuple[str, ...]:
    """Columns that fit; the least important go first."""
    columns = list(sheet.columns)
    widths = {
        column: max(
            [len(column)]
            + [len(line.cells.get(column, "")) for group in sheet.groups for line in group.lines]
        )
        for column in columns
    }
    labels = [len(group.label) for group in sheet.groups if group.lines]
    widths["contender"] = max([widths["contender"], *labels])
    for column in LAST:
        if sum(widths[c] + 2 for c in columns) <= width:
            break
        if column in columns and (column != "quality" or columns[-1] != "quality"):
            columns.remove(column)
    return tuple(columns)
