"""How far instruction counts of identical code differ, and what counting costs.

    python benchmarks/instructions.py [--processes 5] [--sizes 256 4096 65536 1048576]

Runs three contenders with the same code (silu, float32) under ``--timer instructions`` and prints,
for each size: the count, its range over processes, the largest difference between the two samples
of a process, the range of the ratio of the copies to the baseline, and the seconds that a case
took. The route is the one that this machine has (``BENCHBENCH_INSTRUCTIONS=callgrind`` forces one).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchbench import store
from benchbench.contract import Run

PLUGIN = """
import torch

import benchbench as bb


def make(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


def build(inputs):
    return inputs.thunk(torch.nn.functional.silu)


@bb.hookimpl
def benchbench_workloads():
    return [
        bb.Workload(
            name="counts/silu", make=make, baseline="a", axes={"n": (256,)}, doc="Thrice the same.",
            reference=lambda inputs: torch.nn.functional.silu(inputs.x.double()),
        )
    ]


@bb.hookimpl
def benchbench_implementations():
    return [bb.Implementation(workload="counts/silu", name=n, build=build) for n in "abc"]
"""


def counted(processes: int, sizes: list[int], folder: Path) -> Run:
    """The finished run."""
    plugin = folder / "counts.py"
    plugin.write_text(PLUGIN)
    command = [sys.executable, "-m", "benchbench", "run", "counts", "--timer", "instructions"]
    command += ["-n", str(processes), "--plugin", str(plugin), "--store", str(folder)]
    command += ["-a", "n=" + ",".join(map(str, sizes))]
    environment = {**os.environ, "BENCHBENCH_PLUGINS": ""}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return store.read(store.find(folder, "last"))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 4096, 65536, 1048576])
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = counted(given.processes, given.sizes, Path(folder))
    seconds = time.monotonic() - started
    print(run.processes[0]["environment"].get("counter", "?"))
    print(f"{given.processes} processes, {seconds:.0f} s in all; least and most, in percent")
    print("       n      count  processes  in process         ratio to a     case")
    for size in given.sizes:
        rows = [r for r in run.results if r.params["n"] == size and r.status == "ok"]
        counts = {(r.contender, r.process): statistics.fmean(r.samples) for r in rows}
        base = [count for (name, _), count in counts.items() if name == "a"]
        inside = max(max(r.samples) / min(r.samples) for r in rows)
        ratios = [
            count / counts["a", process] for (name, process), count in counts.items() if name != "a"
        ]
        took = [
            event["seconds"]
            for event in run.events
            if event.get("kind") == "case" and f"n={size}]" in event["case"]
        ]
        spread, within = 100 * (max(base) / min(base) - 1), 100 * (inside - 1)
        low, high = 100 * (min(ratios) - 1), 100 * (max(ratios) - 1)
        print(
            f"{size:>8} {statistics.median(base):>10.0f} {spread:>10.3f} {within:>11.3f} "
            f"{low:>+9.3f}{high:>+9.3f} {statistics.median(took):>6.1f} s"
        )


if __name__ == "__main__":
    main()
