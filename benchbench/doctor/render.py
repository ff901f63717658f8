"""A diagnosis as text, markdown and JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from benchbench import __version__
from benchbench.doctor.findings import UNREAD, Finding, Status
from benchbench.doctor.rules import Diagnosis

SCHEMA = 1
WIDTH = 80
_ORDER: tuple[Status, ...] = ("noisy", "unknown", "good")


def summary(diagnosis: Diagnosis) -> str:
    """``3 noisy, 2 unknown, 17 good``."""
    return ", ".join(f"{len(diagnosis.of(status))} {status}" for status in _ORDER)


def place(diagnosis: Diagnosis) -> str:
    """The machine in one line."""
    machine = diagnosis.machine
    words = [
        machine.system,
        *([machine.cpu] if machine.cpu else []),
        f"{machine.usable} core{'s' * (machine.usable != 1)} to use",
    ]
    if machine.guest:
        words.append("a virtual machine")
    if machine.container:
        words.append(f"a {machine.container} container")
    if machine.probe is not None:
        words.append(f"watched for {machine.probe.seconds:.1f} s")
    return ", ".join(words)


def render_text(
    diagnosis: Diagnosis,
    width: int = WIDTH,
    style: Callable[[str, Status], str] | None = None,
    *,
    short: bool = False,
) -> str:
    """What is noisy with all that belongs to it, the rest with less.

    Args:
        diagnosis: what was found.
        width: columns.
        short: of what is good the names alone.
        style: colours a status's word.
    """
    paint = style or (lambda text, status: text)
    column = max(len(one.name) for one in diagnosis.findings) + 2
    lines = [f"benchbench doctor: {summary(diagnosis)}"]
    lines += _wrapped(place(diagnosis), "", "", width)
    for status in _ORDER:
        found = diagnosis.of(status)
        if found:
            lines += ["", paint(status.upper(), status)]
        if short and status == "good":
            names = ", ".join(one.name for one in found)
            lines += _wrapped(f"{names} (`--all` shows what was read)", "  ", "  ", width)
            break
        for names, one in _alike(found):
            lines += _lines(names, one, column, width)
    lines += ["", *_wrapped(_closing(diagnosis), "", "", width)]
    return "\n".join(lines)


def _alike(findings: Sequence[Finding]) -> list[tuple[str, Finding]]:
    """Unknown ones that say the same share a line; with each line its names."""
    found: dict[object, list[Finding]] = {}
    for one in findings:
        key = (one.read, one.mend) if one.status == "unknown" else one.name
        found.setdefault(key, []).append(one)
    return [(", ".join(one.name for one in group), group[0]) for group in found.values()]


def _lines(names: str, one: Finding, column: int, width: int) -> list[str]:
    indent = " " * (column + 2)
    lines = []
    first = f"  {names}".ljust(column + 2)
    if len(names) + 2 > column:
        lines, first = _wrapped(names, "  ", "  ", width), indent
    lines += _wrapped(one.read, first, indent, width)
    if one.status == "noisy":
        lines += _wrapped(one.effect, indent, indent, width)
    if one.status != "good" and one.mend != UNREAD:
        lines += _wrapped(one.mend, f"{indent}> ", f"{indent}  ", width)
    if one.status != "good" and one.command:
        # Never wrapped: it is to be copied.
        lines.append(f"{indent}  {one.command}")
    return lines


def _wrapped(text: str, first: str, rest: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _closing(diagnosis: Diagnosis) -> str:
    if diagnosis.of("noisy"):
        return (
            "Noise widens intervals, and verdicts become inconclusive rather than wrong. "
            "`benchbench calibrate` measures how far they can be trusted here."
        )
    return "Nothing that can be read here is noisy. `benchbench calibrate` measures what is left."


def render_markdown(diagnosis: Diagnosis) -> str:
    """A table of everything."""
    lines = [
        f"### benchbench doctor: {summary(diagnosis)}",
        "",
        place(diagnosis),
        "",
        "| finding | status | read | what it does | how to mend it |",
        "|---|---|---|---|---|",
    ]
    for status in _ORDER:
        for one in diagnosis.of(status):
            bold = f"**{status}**" if status == "noisy" else status
            does = "" if status == "good" else one.effect
            mend = f"{one.mend} `{one.command}`" if one.command else one.mend
            cells = (one.name, bold, one.read, does, mend)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def render_json(diagnosis: Diagnosis) -> str:
    """Everything, for programs."""
    machine = diagnosis.machine
    return json.dumps(
        {
            "schema": SCHEMA,
            "benchbench": __version__,
            "machine": place(diagnosis),
            "counts": {status: len(diagnosis.of(status)) for status in _ORDER},
            "findings": [asdict(one) for one in diagnosis.findings],
            "probe": None if machine.probe is None else asdict(machine.probe),
        },
        indent=1,
    )


FORMATS: Mapping[str, Callable[[Diagnosis], str]] = {
    "text": render_text,
    "markdown": render_markdown,
    "json": render_json,
}
