"""One HTML file with everything in it: no script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from benchbench.contract import Run
from benchbench.reports.sheet import Group, Sheet, document, is_number, title

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .2rem 0; } .dim, thead th { color: #808080; font-weight: normal; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem .15rem 0; text-align: left; white-space: nowrap; }
td:last-child { white-space: normal; } .number { text-align: right; }
thead th { border-bottom: 1px solid #80808080; }
tbody th { padding-top: .7rem; font-style: italic; }
.faster { color: #188038; } .slower, .bad { color: #d33030; } .baseline { font-weight: 600; }
""".strip()


def render(run: Run) -> str:
    """A page with all tables."""
    content = document(run)
    name = escape(f"benchbench {run.id}")
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{name}</h1>",
        *(f"<p>{escape(line)}</p>" for line in content.heading),
    ]
    for sheet in content.sheets:
        parts += _sheet(sheet)
    parts += ["<hr>", *(f'<p class="dim">{escape(line)}</p>' for line in content.closing)]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _sheet(sheet: Sheet) -> Iterator[str]:
    yield f'<h2>{escape(sheet.title)} <span class="dim">{escape(sheet.constants)}</span></h2>'
    if any(group.lines for group in sheet.groups):
        heads = (_cell("th", c, title(c)) for c in sheet.columns)
        yield f"<table><thead><tr>{''.join(heads)}</tr></thead>"
        for group in sheet.groups:
            yield from _group(group, sheet.columns)
        yield "</table>"
    seen = set()
    for group in sheet.groups:
        for contender, status, reason in group.remarks:
            unavailable = status == "unavailable"
            where = f" [{group.label}]" if group.label and not unavailable else ""
            text = escape(f"{contender} {status}{where}: {reason}")
            if text not in seen:
                seen.add(text)
                yield f'<p class="{"dim" if unavailable else "bad"}">{text}</p>'


def _group(group: Group, columns: tuple[str, ...]) -> Iterator[str]:
    if not group.lines:
        return
    yield "<tbody>"
    if group.label:
        yield f'<tr><th colspan="{len(columns)}">{escape(group.label)}</th></tr>'
    for line in group.lines:
        cells = (_cell("td", column, line.cells.get(column, "")) for column in columns)
        yield f'<tr class="{line.tone}">{"".join(cells)}</tr>'
    yield "</tbody>"


def _cell(tag: str, column: str, text: str) -> str:
    number = ' class="number"' if is_number(column) else ""
    return f"<{tag}{number}>{escape(text)}</{tag}>"
