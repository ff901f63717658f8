"""How fast the command line answers, and that it imports nothing heavy to do so.

    python benchmarks/startup.py [--repeats 10] [--plugins 50]

Prints the median and the best wall time of ``--help``, ``--version``, ``list`` and ``plugins`` in
fresh processes, beside the bare interpreter, and which of torch, numpy, pandas, scipy and rich each
command imported. ``list`` is timed with a warm cache, on the installed plugins and, beside them,
as many generated one-file plugins as ``--plugins`` says. Goals: ``--help`` and ``--version`` 80 ms,
``list`` with 50 plugins 150 ms, none of them importing torch, numpy or pandas.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("torch", "numpy", "pandas", "scipy", "rich")
MODULES = f"""
import json, sys
from benchbench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    if stop.code:
        raise
print("MODULES " + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))
"""
PLUGIN = """
import benchbench as bb


@bb.implementation("startup{i}/nothing", "nothing")
def nothing(inputs):
    return inputs.thunk(lambda x: x)


@bb.hookimpl
def benchbench_workloads():
    return [
        bb.Workload(
            name="startup{i}/nothing", make=lambda params, seed: bb.Inputs({{"x": 1}}),
            baseline="nothing", axes={{"n": (1, 2)}}, check=lambda evidence: None, doc="Nothing.",
        )
    ]


@bb.hookimpl
def benchbench_implementations():
    return [nothing]
"""


def timed(command: list[str], repeats: int) -> list[float]:
    """Wall times in milliseconds of fresh processes, after one that warms the file cache."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(1e3 * (time.perf_counter() - start))
    return times[1:]


def imported(arguments: list[str]) -> list[str]:
    """Which heavy modules a command leaves imported."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments], check=True, capture_output=True, text=True
    )
    return list(json.loads(done.stdout.rpartition("MODULES ")[2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--plugins", type=int, default=50)
    given = parser.parse_args()
    script = Path(sys.executable).with_name("benchbench")
    prefix = [str(script)] if script.exists() else [sys.executable, "-m", "benchbench"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCHBENCH_CACHE"] = str(Path(folder) / "cache")
        many = []
        for i in range(given.plugins):
            file = Path(folder) / f"startup{i}.py"
            file.write_text(PLUGIN.format(i=i))
            many += ["--plugin", str(file)]
        commands = {
            "--help": ["--help"],
            "--version": ["--version"],
            "run --help": ["run", "--help"],
            "list": ["list"],
            "plugins": ["plugins"],
            f"list, {given.plugins} more plugins": ["list", *many],
        }
        bare = timed([sys.executable, "-c", "pass"], given.repeats)
        print(f"{'':<26}{'median':>8}{'best':>8}   imported")
        print(f"{'python -c pass':<26}{statistics.median(bare):>5.0f} ms{min(bare):>5.0f} ms")
        for name, arguments in commands.items():
            times = timed([*prefix, *arguments], given.repeats)
            heavy = ", ".join(imported(arguments)) or "none of " + ", ".join(HEAVY)
            print(f"{name:<26}{statistics.median(times):>5.0f} ms{min(times):>5.0f} ms   {heavy}")


if __name__ == "__main__":
    main()
