"""The CPU kernels beside the floor, eager and torch.compile, by benchbench itself.

    python benchmarks/cpu_kernels.py                            every op
    python benchmarks/cpu_kernels.py --goals -n 3               only what has a goal, two threads
    python benchmarks/cpu_kernels.py tanh layer_norm -t 2       two ops, two threads
    python benchmarks/cpu_kernels.py --sizes cache calls --dtypes float32 --processes 5
    python benchmarks/cpu_kernels.py --write benchmarks/results/cpu_kernels.txt   (or .json)
    python benchmarks/cpu_kernels.py tanh --goals --isa avx2

A row for each op, direction, size class, dtype and number of threads: the time of a call, its
multiple of the floor (a copy of the bytes that the op has to move, interleaved with it), its
speed-up over eager and over torch.compile, its largest error beside eager's, and whether the goal
of ``kernel_goals.py`` is met. Sizes: ``beyond`` the last-level cache, in ``cache`` (about 1 MiB),
and ``calls`` of 16 to 4096 elements, where the way to the kernel counts. A row that meets no goal
says what was measured of the reasons: page faults and system time of its calls, and the share of a
call that an empty one takes. A peer whose answer is rejected as wrong has no speed to reach. Each
row costs about a second for each process and contender, and as much again where torch.compile has
to compile first.

With ``--isa avx2`` all code that can be told to keeps to AVX2: our kernels, ATen, oneDNN, MKL, and
torch.compile, which gets a cache of its own, since it would take code for AVX-512 out of the usual
one. Ops with an exponential may then take 1.6 times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kernel_families import DIRECTIONS, FAMILIES, SIZES, Family, key_of
from kernel_goals import GOALS
from kernel_lines import HEAD, Line, lines

from benchbench import machine, native, store, supervise
from benchbench.catalog import Description
from benchbench.cli.job import run_header
from benchbench.contract import PlannedCase, Run, Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.timers.instructions_launch import AVX2

PLUGINS = LoaderOptions(allowed=("activations", "normalizations"))
ISAS = {"avx2": AVX2}
"""Environment variables by which this process and the workers keep to an instruction set."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What one run is asked for, as the command line takes it."""

    patterns: list[str]
    axes: dict[str, str]
    contenders: list[str]


def select(asked: argparse.Namespace, family: Family) -> Selection | None:
    """The part of ``family`` that is asked for, or None."""
    tasks = [task for task in family.tasks if not asked.ops or task in asked.ops]
    shapes = family.shapes(tuple(asked.sizes))
    dtypes = [dtype for dtype in asked.dtypes if dtype in family.dtypes]
    if not (tasks and shapes and dtypes):
        return None
    directions = ",".join(DIRECTIONS[direction] for direction in asked.directions)
    direct = ["fused-direct"] if family.calls and "calls" in asked.sizes else []
    return Selection(
        patterns=[f"{family.kind}/{task}" for task in tasks],
        axes={
            "shape": ",".join(shapes),
            "dtype": ",".join(dtypes),
            "direction": directions,
            **dict(family.axes),
        },
        contenders=["compiled", "fused", *direct],
    )


def chosen(
    asked: argparse.Namespace, family: Family, description: Description
) -> tuple[PlannedCase, ...]:
    """The cases of ``family`` that are asked for; with ``--goals`` those that have one."""
    selection = select(asked, family)
    if selection is None:
        return ()
    axes = {axis: values.split(",") for axis, values in selection.axes.items()}
    cases = plan(
        description, selection.patterns, axes=axes, contenders=selection.contenders, device="cpu"
    )
    sizes = family.shapes(SIZES)
    if asked.goals:
        return tuple(c for c in cases if key_of(c.case.workload, c.case.params, sizes) in GOALS)
    return cases


def measure(
    asked: argparse.Namespace,
    description: Description,
    work: list[tuple[Family, tuple[PlannedCase, ...]]],
    folder: Path,
) -> Iterator[tuple[Run, Family]]:
    """A run for each family and number of threads."""
    for threads in asked.threads:
        settings = Settings(processes=asked.processes, budget=asked.budget, threads=threads)
        for family, cases in work:
            yield record(cases, settings, description, PLUGINS, folder), family


def record(
    cases: tuple[PlannedCase, ...],
    settings: Settings,
    description: Description,
    plugins: LoaderOptions,
    folder: Path,
) -> Run:
    """A run of these cases, finished and stored in ``folder``."""
    writer = store.create(folder, run_header(settings, cases, description, plugins))
    supervise.execute(
        cases, settings=settings, engine=LocalEngine(), options=plugins, emit=writer.append
    )
    writer.close("complete")
    return store.read(writer.path)


def heading(seconds: float, processes: int) -> list[str]:
    """What machine this is of, for the head of the recorded table."""
    facts = machine.environment()
    built = native.load().build_info()
    shown = {
        name: facts[name] for name in ("cpu", "usable_cores", "memory", "load") if name in facts
    }
    return [
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {seconds:.0f} s, "
        f"{processes} processes for each case",
        ", ".join(f"{name} {value}" for name, value in shown.items()),
        f"torch {built['torch']}, {built['compiler']}, kernels for {built['instruction_set']}",
        "Floor: a copy of the compulsory bytes in the same blocks. Speed-ups: above 1 is faster. "
        "In brackets: the goal. Errors: the largest, in ulp for activations, else relative.",
        "",
    ]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "ops", nargs="*", help="such as tanh or batch_norm; every one when left out"
    )
    parser.add_argument("-t", "--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--directions", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS))
    parser.add_argument("-n", "--processes", type=int, default=5)
    parser.add_argument(
        "--budget", type=float, default=0.3, help="Timed seconds a case and process."
    )
    parser.add_argument("--store", type=Path, help="Keep the runs here.")
    parser.add_argument("--write", type=Path, help="The table too: .json, or text.")
    parser.add_argument("--isa", choices=ISAS, help="Instead of the processor's widest.")
    parser.add_argument("--goals", action="store_true", help="Only ops and sizes that have a goal.")
    asked = parser.parse_args(arguments)
    if asked.goals:
        asked.ops = asked.ops or sorted({op.split()[0] for op, *_ in GOALS})
        asked.sizes = [size for size in asked.sizes if size != "calls"]
        asked.threads = [2]  # of the prototypes
    known = {task for family in FAMILIES for task in family.tasks}
    unknown = [op for op in asked.ops if op not in known]
    if unknown:
        parser.error(f"no op {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return asked


def main() -> None:
    """Measure, print, write."""
    asked = parse()
    started = time.monotonic()
    table: list[Line] = []
    os.environ.update(ISAS.get(asked.isa, {}))
    instruction_set = native.load().build_info()["instruction_set"]
    described = supervise.describe(LocalEngine(), PLUGINS, Settings())
    description = Description.from_json(described)
    work = [(family, chosen(asked, family, description)) for family in FAMILIES]
    work = [(family, cases) for family, cases in work if cases]
    count = len(asked.threads) * sum(len(cases) for _, cases in work)
    print(f"{count} cases, each in {asked.processes} processes", file=sys.stderr)
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if asked.isa:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "inductor")
        for run, family in measure(asked, description, work, asked.store or Path(folder)):
            for line in lines(run, family, instruction_set):
                table.append(line)
                print(line.text(), flush=True)
    judged = [line for line in table if line.met is not None]
    summary = f"{sum(line.met or False for line in judged)} of {len(judged)} goals are met"
    print(summary)
    if asked.write is None:
        return
    head = heading(time.monotonic() - started, asked.processes)
    if asked.write.suffix == ".json":
        content = {"machine": head[:3], "lines": [asdict(line) for line in table]}
        asked.write.write_text(json.dumps(content, indent=1) + "\n")
    else:
        text = [*head, HEAD, *(line.text() for line in table), "", summary]
        asked.write.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
