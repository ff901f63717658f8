"""Tables for a terminal, and for a pipe."""

from __future__ import annotations

import io
import os
import shutil
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchbench.contract import Run
from benchbench.reports.sheet import (
    METRIC,
    NOTES,
    Document,
    Group,
    Sheet,
    document,
    is_number,
    title,
)

WIDTH = 120
NARROWEST = 60
GAP = 2
NOTES_WIDTH = 12
"""Notes wrap, to no less than this."""
STYLES = {"faster": "green", "slower": "red", "baseline": "bold"}
DISPENSABLE = ("rate", "memory", "±", "error", "host", "roof")
"""Columns to leave out, in this order, where the terminal is too narrow."""


def render(run: Run) -> str:
    """Text of all tables; coloured when standard output is a terminal."""
    return draw(document(run))


def draw(content: Document, width: int | None = None) -> str:
    """Draw a document ``width`` columns wide: the terminal's, ``COLUMNS``, or 120 in a pipe."""
    is_terminal = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if width is None:
        width = shutil.get_terminal_size((WIDTH, 24)).columns
        if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
            width = WIDTH
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=max(width, NARROWEST),
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
    columns, left_out = _fitting(sheet, console.width)
    widths = _widths(sheet, columns)
    if NOTES in columns:
        others = sum(widths[column] + GAP for column in columns if column != NOTES)
        widths[NOTES] = max(NOTES_WIDTH, min(widths[NOTES], console.width - others))
    measured = [group for group in sheet.groups if group.lines]
    total = sum(widths.values()) + GAP * (len(columns) - 1)
    prose = console.width
    # A line that cannot be made to fit is longer than the terminal; cut names help nobody.
    console.width = max(total, prose)
    if measured:
        console.print(_grid(columns, widths, [({c: title(c) for c in columns}, "dim")]))
        console.print("─" * total, style="dim")
    for index, group in enumerate(measured):
        if index:
            console.print()
        if group.label:
            console.print(Text(group.label, style="italic"))
        lines = [(line.cells, STYLES.get(line.tone, "")) for line in group.lines]
        console.print(_grid(columns, widths, lines))
    console.width = prose
    if left_out:
        console.print(
            f"  left out for want of width: {', '.join(map(title, left_out))}", style="dim"
        )
    remarks = [(group, remark) for group in sheet.groups for remark in group.remarks]
    for (contender, status, reason), labels in _merged(remarks).items():
        where = f" [{'; '.join(labels)}]" if labels and len(labels) < len(sheet.groups) else ""
        style = "dim" if status == "unavailable" else "bold red"
        console.print(Text(f"  {contender} {status}{where}: {reason}", style=style))


def _grid(
    columns: tuple[str, ...],
    widths: dict[str, int],
    lines: list[tuple[dict[str, str], str]],
) -> Table:
    """Lines under each other; the same widths for every group keep a sheet aligned."""
    grid = Table.grid(padding=(0, GAP))
    for column in columns:
        grid.add_column(
            width=widths[column],
            justify="right" if is_number(column) else "left",
            no_wrap=column != NOTES,
        )
    for cells, style in lines:
        grid.add_row(*(Text(cells.get(column, ""), style=style) for column in columns))
    return grid


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


def _widths(sheet: Sheet, columns: tuple[str, ...]) -> dict[str, int]:
    lines = [line for group in sheet.groups for line in group.lines]
    return {
        column: max([len(title(column)), *(len(line.cells.get(column, "")) for line in lines)])
        for column in columns
    }


def _fitting(sheet: Sheet, width: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns that fit, and those left out: the least important go first."""
    columns = list(sheet.columns)
    widths = _widths(sheet, sheet.columns)
    if NOTES in widths:
        widths[NOTES] = NOTES_WIDTH
    metrics = [column for column in columns if column.startswith(METRIC)]
    left_out = []
    for column in (*DISPENSABLE[:2], *reversed(metrics[1:]), *DISPENSABLE[2:], *metrics[:1]):
        if sum(widths[c] for c in columns) + GAP * (len(columns) - 1) <= width:
            break
        if column in columns:
            columns.remove(column)
            left_out.append(column)
    return tuple(columns), tuple(left_out)
