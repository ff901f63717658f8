"""What a gate costs, and whether it finds 5 %: the example project of the tests, really installed.

    python benchmarks/gate.py [--cases 100] [--processes 12] [--write benchmarks/results/NAME.json]

Two gates between two commits of the project. In the first only a comment of the timed code changed:
as many cases as wanted, both builds, a fixed number of processes; its duration is the cost. In the
second one operation does 5 % more work; ten cases with the usual looks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchbench import machine

PROJECT = Path(__file__).resolve().parent.parent / "tests" / "gated"
GIT = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]


class Example:
    """The project with its commits, and the candidate installed where only the gate finds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        shutil.copytree(PROJECT, self.source)
        self.git("init", "-q")
        self.commit("first")

    def git(self, *arguments: str) -> None:
        """Run git in the project."""
        subprocess.run([*GIT, *arguments], cwd=self.source, check=True)

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def edit(self, old: str, new: str) -> None:
        """Change the timed operation, commit and install it."""
        ops = self.source / "src" / "gated" / "ops.py"
        ops.write_text(ops.read_text().replace(old, new))
        self.commit(new)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
        command += ["--no-build-isolation", "--target", str(self.folder / "site")]
        subprocess.run([*command, str(self.source)], check=True)
        for built in (self.source / "build", self.source / "src" / "gated.egg-info"):
            shutil.rmtree(built, ignore_errors=True)

    def gate(self, sizes: list[int], *arguments: str) -> tuple[dict, float]:
        """The report of a gate against the commit before, and its seconds."""
        report = self.folder / "report.json"
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder / "site"),
            "BENCHBENCH_CACHE": str(self.folder / "cache"),
            "BENCHBENCH_STORE": str(self.folder / "store"),
            "BENCHBENCH_PLUGINS": "gated",
        }
        command = [sys.executable, "-m", "benchbench", "gate", "--baseline-rev", "HEAD~1"]
        command += ["-c", "ours", "-a", f"n={','.join(map(str, sizes))}"]
        command += ["--emit", f"json={report}", *arguments]
        started = time.monotonic()
        done = subprocess.run(command, cwd=self.source, env=environment)
        seconds = time.monotonic() - started
        if done.returncode not in (0, 1, 4):
            raise SystemExit(done.returncode)
        return json.loads(report.read_text()), seconds


def main() -> None:
    """Run both gates and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        example = Example(Path(folder))
        example.edit("import torch\n", "import torch  # a comment\n")
        sizes = [1_000 + 500 * index for index in range(asked.cases)]
        same, seconds = example.gate(sizes, "--looks", str(asked.processes))
        example.edit("TERMS = 20", "TERMS = 21")
        slow, slow_seconds = example.gate([20_000 + 10_000 * index for index in range(10)])
    environment = machine.environment()
    result = {
        "machine": {name: environment.get(name) for name in ("cpu", "usable_cores", "load")},
        "cases": asked.cases,
        "processes": asked.processes,
        "seconds": round(seconds, 1),
        "verdict": same["verdict"],
        "words": Counter(line["word"] for line in same["lines"]),
        "controls": [control["text"] for control in same["controls"]],
        "five percent": {
            "seconds": round(slow_seconds, 1),
            "verdict": slow["verdict"],
            "words": Counter(line["word"] for line in slow["lines"]),
            "ratios": [round(line["ratio"]["estimate"], 4) for line in slow["lines"]],
            "controls": [control["text"] for control in slow["controls"]],
        },
    }
    text = json.dumps(result, indent=1)
    print(text)
    if asked.write is not None:
        asked.write.write_text(text + "\n")


if __name__ == "__main__":
    main()
