"""What a gate found, and how it reads: as text, Markdown, JUnit XML, JSON, to trackers. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.etree import ElementTree

from benchbench.records import to_json
from benchbench.reports import text, trackers
from benchbench.reports.trackers.gate import of_gate
from benchbench.stats import Interval

Word = Literal[
    "slower", "faster", "same", "not slower", "inconclusive", "unchanged", "wrong", "failed",
    "skipped", "new", "gone",
]  # fmt: skip
RED = ("slower", "wrong", "failed")
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contender of one case."""

    case: str
    contender: str
    word: Word
    reason: str = ""
    unit: str = "s"
    candidate: float | None = None
    """Median over processes of one call, in ``unit``."""
    baseline: float | None = None
    ratio: Interval | None = None
    """Candidate over baseline: above 1 is slower."""
    adjusted: float | None = None
    processes: int = 0
    times: tuple[float, ...] = ()
    """The candidate's median of each process, in ``unit``."""

    @property
    def red(self) -> bool:
        """True when it fails the gate."""
        return self.word in RED


@dataclass(frozen=True, kw_only=True)
class Control:
    """A comparison whose outcome is known."""

    name: str
    case: str
    ratio: Interval | None
    ok: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """The whole verdict."""

    verdict: Literal["passed", "failed", "inconclusive"]
    summary: str
    mode: str
    margin: float
    alpha: float
    looks: tuple[int, ...]
    candidate: str
    baseline: str
    lines: tuple[Line, ...]
    controls: tuple[Control, ...] = ()
    notes: tuple[str, ...] = ()
    run: str = ""
    """Id of the stored run; empty when nothing was timed."""
    seconds: float = 0.0
    started: str = ""
    """UTC time in ISO 8601."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """The machine, as :func:`benchbench.machine.environment` says it."""


def _percent(ratio: Interval | None) -> str:
    if ratio is None:
        return ""
    low, high = (f"{100 * (end - 1):+.1f}" for end in (ratio.low, ratio.high))
    return f"{100 * (ratio.estimate - 1):+.1f} % [{low}, {high}]"


def _detail(line: Line) -> str:
    parts = [_percent(line.ratio)]
    if line.candidate is not None and line.baseline is not None:
        times = (text.duration(line.baseline, line.unit), text.duration(line.candidate, line.unit))
        parts.append(f"{times[0]} -> {times[1]}")
    if line.processes:
        parts.append(f"{line.processes} processes")
    return ", ".join(p for p in (*parts, line.reason) if p)


_ORDER = ("slower", "wrong", "failed", "inconclusive", "gone", "skipped", "new", "faster")


def _counts(report: GateReport) -> str:
    counts = Counter(line.word for line in report.lines)
    return ", ".join(f"{count} {word}" for word, count in counts.most_common())


def _head(report: GateReport) -> list[str]:
    looks = ", ".join(map(str, report.looks))
    return [
        f"candidate {report.candidate}",
        f"baseline  {report.baseline}",
        f"{report.mode}; margin {100 * report.margin:g} %, any false alarm in at most "
        f"{100 * report.alpha:g} % of gates, looks at {looks} processes",
    ]


def _advice(report: GateReport) -> list[str]:
    if report.verdict != "inconclusive":
        return []
    return [
        "`benchbench doctor` says what makes this machine noisy; more processes (--looks) or a "
        "wider --margin decide more"
    ]


def render_text(report: GateReport) -> str:
    """For a terminal: what fails first, what passed as counts."""
    out = [*_head(report), ""]
    for word in _ORDER:
        for line in report.lines:
            if line.word == word:
                out.append(f"{word:>12}  {line.case}  {line.contender}: {_detail(line)}")
    out += [f"{'control':>12}  {c.name}, {c.case}: {c.text}" for c in report.controls]
    out += [f"{'note':>12}  {note}" for note in (*report.notes, *_advice(report))]
    return "\n".join([*out, "", f"{report.verdict}: {report.summary} ({_counts(report)})"])


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")


def render_markdown(report: GateReport) -> str:
    """For the summary page of a CI job."""
    out = [f"## benchbench gate: {report.verdict}", "", _cell(report.summary) + ".", ""]
    out += [f"- {_cell(line)}" for line in _head(report)]
    out += [f"- control {_cell(f'{c.name}, {c.case}: {c.text}')}" for c in report.controls]
    out += [f"- {_cell(note)}" for note in (*report.notes, *_advice(report))]
    shown = [line for word in _ORDER for line in report.lines if line.word == word]
    rest = [line for line in report.lines if line not in shown]
    for title, lines in (("", shown), (f"{len(rest)} more that passed", rest)):
        if not lines:
            continue
        table = ["", "| verdict | case | contender | change |", "|---|---|---|---|"]
        table += [
            f"| {line.word} | {_cell(line.case)} | {_cell(line.contender)} "
            f"| {_cell(_detail(line))} |"
            for line in lines
        ]
        if title:
            table = ["", f"<details><summary>{title}</summary>", *table, "", "</details>"]
        out += table
    return "\n".join(out) + "\n"


_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""


def render_junit(report: GateReport) -> str:
    """JUnit XML: a test case for each contender of each case."""

    def clean(value: str) -> str:
        return _ILLEGAL.sub("?", value)

    suite = ElementTree.Element(
        "testsuite",
        name="benchbench gate",
        tests=str(len(report.lines)),
        failures=str(sum(line.word == "slower" for line in report.lines)),
        errors=str(sum(line.word in ("wrong", "failed") for line in report.lines)),
        skipped=str(sum(line.word in ("inconclusive", "skipped") for line in report.lines)),
        time=f"{report.seconds:.1f}",
    )
    for line in report.lines:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=clean(line.case),
            name=clean(line.contender),
            time=f"{line.candidate if line.candidate and line.unit == 's' else 0:.9f}",
        )
        tag = {"slower": "failure", "wrong": "error", "failed": "error"}.get(line.word)
        tag = tag or ("skipped" if line.word in ("inconclusive", "skipped") else None)
        if tag is not None:
            ElementTree.SubElement(case, tag, message=clean(f"{line.word}: {_detail(line)}"))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def render_json(report: GateReport) -> str:
    """Everything, with the names of the fields above."""
    return json.dumps({"schema": SCHEMA, **to_json(report)}, indent=1) + "\n"


FORMATS: Mapping[str, Callable[[GateReport], str]] = {
    "text": render_text,
    "markdown": render_markdown,
    "junit": render_junit,
    "json": render_json,
    **trackers.renderers(of_gate),
}
