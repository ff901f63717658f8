"""Print a command of the README, so that what is documented is what is tested.

A command is the code block that follows a marker: ``<!-- command: NAME -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def command(name: str) -> str:
    """The text of the command called ``name``.

    Raises:
        SystemExit: the README has no such command.
    """
    blocks = dict(
        re.findall(r"<!-- command: (\w+) -->\s*```\w*\n(.*?)```", README.read_text(), re.DOTALL)
    )
    if name not in blocks:
        sys.exit(f"README.md has no command {name!r}; it has {', '.join(blocks) or 'none'}")
    return blocks[name].strip()


if __name__ == "__main__":
    print(command(*sys.argv[1:2]))
