"""Read the CI files of the guide, and run their jobs as a runner would.

Only the part of YAML that these files use is read (mappings, lists, plain and quoted text, literal
blocks, comments); anything else is an error, so a file that this reads is read alike by every
parser.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = re.compile(r"([A-Za-z_][\w.-]*):(?: +(.*))?")
PLAIN = re.compile(r"[A-Za-z0-9$./][^#\t]*")


class Lines:
    """The lines of a file that say something, with their indentation."""

    def __init__(self, text: str) -> None:
        self.raw = text.splitlines()
        self.at = 0

    def peek(self) -> tuple[int, str] | None:
        while self.at < len(self.raw):
            line = self.raw[self.at]
            stripped = line.strip()
            if stripped and not stripped.startswith("#"):
                assert "\t" not in line, f"line {self.at + 1}: a tab"
                assert line == line.rstrip(), f"line {self.at + 1}: spaces at its end"
                return len(line) - len(line.lstrip()), stripped
            self.at += 1
        return None


def read(path: Path) -> Any:
    """The file as mappings, lists and text."""
    lines = Lines(path.read_text())
    value = _node(lines, 0)
    assert lines.peek() is None, f"{path}, line {lines.at + 1}: it belongs to nothing"
    return value


def _node(lines: Lines, indent: int) -> Any:
    found = lines.peek()
    assert found is not None and found[0] == indent, f"line {lines.at + 1}: indentation"
    return _list(lines, indent) if found[1].startswith("- ") else _mapping(lines, indent)


def _list(lines: Lines, indent: int) -> list[Any]:
    items = []
    while (found := lines.peek()) is not None and found[0] == indent and found[1].startswith("- "):
        rest = found[1][2:]
        if KEY.fullmatch(rest):
            lines.raw[lines.at] = " " * (indent + 2) + rest
            items.append(_mapping(lines, indent + 2))
        else:
            lines.at += 1
            items.append(_text(rest, lines.at))
    return items


def _mapping(lines: Lines, indent: int) -> dict[str, Any]:
    items: dict[str, Any] = {}
    while (found := lines.peek()) is not None and found[0] == indent:
        match = KEY.fullmatch(found[1])
        assert match is not None, f"line {lines.at + 1}: {found[1]!r} is no key"
        key, rest = match.groups()
        assert key not in items, f"line {lines.at + 1}: {key} for the second time"
        lines.at += 1
        if rest == "|":
            items[key] = _block(lines, indent)
        elif rest:
            items[key] = _text(rest, lines.at)
        else:
            after = lines.peek()
            deeper = after is not None and after[0] > indent
            items[key] = _node(lines, after[0]) if after is not None and deeper else None
    return items


def _block(lines: Lines, indent: int) -> str:
    kept = []
    while lines.at < len(lines.raw):
        line = lines.raw[lines.at]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        kept.append(line)
        lines.at += 1
    margin = min(len(line) - len(line.lstrip()) for line in kept if line.strip())
    return "\n".join(line[margin:] for line in kept).rstrip("\n") + "\n"


def _text(text: str, line: int) -> str:
    if text[0] == '"':
        assert text[-1] == '"' and "\\" not in text and text.count('"') == 2, f"line {line}"
        return text[1:-1]
    assert PLAIN.fullmatch(text) and ": " not in text, f"line {line}: {text!r} needs quotes"
    return text


def steps(path: Path, job: str) -> list[str]:
    """The shell commands of a job, in order, each as one shell gets them."""
    content = read(path)
    if "jobs" in content:
        return [step["run"] for step in content["jobs"][job]["steps"] if "run" in step]
    lines = [*content[job].get("before_script", ()), *content[job]["script"]]
    return ["\n".join(lines)]


def run(command: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run one step as both services do: bash that ends at the first failure."""
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout
