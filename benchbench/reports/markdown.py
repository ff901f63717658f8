"""Tables in GitHub's Markdown, for a pull request or the summary of a CI job."""

from __future__ import annotations

from collections.abc import Iterable

from benchbench.contract import Run
from benchbench.reports.sheet import Sheet, document, is_number, title


def render(run: Run) -> str:
    """Markdown of all tables."""
    content = document(run)
    lines = ["## benchbench", "", *(f"{line}  " for line in content.heading)]
    for sheet in content.sheets:
        lines += ["", f"### {sheet.title}", ""]
        if sheet.constants:
            lines += [f"`{sheet.constants}`", ""]
        lines += _table(sheet)
    lines += ["", *(f"{line}  " for line in content.closing)]
    return "\n".join(lines) + "\n"


def _table(sheet: Sheet) -> Iterable[str]:
    columns = sheet.columns
    if any(group.lines for group in sheet.groups):
        yield _cells(title(column) for column in columns)
        yield _cells("---:" if is_number(column) else "---" for column in columns)
    for group in sheet.groups:
        if group.label and group.lines:
            yield _cells([f"*{group.label}*", *[""] * (len(columns) - 1)])
        for line in group.lines:
            bold = "**" if line.tone in ("faster", "slower") else ""
            cells = [line.cells.get(column, "") for column in columns]
            if bold:
                cells = [
                    f"**{cell}**" if column == "verdict" else cell
                    for column, cell in zip(columns, cells, strict=True)
                ]
            yield _cells(cells)
    remarks = [(group.label, *remark) for group in sheet.groups for remark in group.remarks]
    if remarks:
        yield ""
    seen = set()
    for label, contender, status, reason in remarks:
        text = f"- `{contender}` {status}: {_escape(reason)}"
        if status != "unavailable" and label:
            text += f" (`{label}`)"
        if text not in seen:
            seen.add(text)
            yield text


def _cells(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
