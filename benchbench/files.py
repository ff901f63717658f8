"""Reading small files of ``/proc`` and ``/sys``, or of a tree that stands for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class Files:
    """Files under ``root``; what cannot be read is empty or None."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str) -> str:
        """Content without surrounding blanks, ``""`` where there is none."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def number(self, path: str) -> int | None:
        """Content as an integer."""
        try:
            return int(self.text(path))
        except ValueError:
            return None

    def fields(self, path: str) -> dict[str, str]:
        """Lines ``name value`` or ``name: value`` as a mapping."""
        found = {}
        for line in self.text(path).splitlines():
            name, _, value = line.replace(":", " ", 1).strip().partition(" ")
            found[name] = value.strip()
        return found

    def find(self, pattern: str) -> list[str]:
        """Paths that match, without the root, sorted."""
        try:
            return sorted(str(path.relative_to(self.root)) for path in self.root.glob(pattern))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether there is such a path."""
        try:
            return (self.root / path).exists()
        except OSError:
            return False


def processors(text: str) -> tuple[int, ...]:
    """``0-3,8`` as numbers; nothing where the text is no such list."""
    found: list[int] = []
    try:
        for part in text.split(","):
            if part.strip():
                first, _, last = part.partition("-")
                found += range(int(first), int(last or first) + 1)
    except ValueError:
        return ()
    return tuple(found)


def listed(numbers: Iterable[int]) -> str:
    """Numbers as ``0-3,8``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def whole(text: str | None) -> int | None:
    """An integer, or None for anything else."""
    try:
        return int(text or "")
    except ValueError:
        return None
