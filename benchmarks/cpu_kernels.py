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
and ``calls`` of 16 to 4096 elements, where the way to the kernel counts. A row that misses its goal
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
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernel_goals import GOALS, Goal, Key, of as goal_of, of_a_call

from benchbench import machine, native, store, supervise
from benchbench.catalog import Description
from benchbench.cli.job import run_header
from benchbench.contract import PlannedCase, Run, Settings, format_value
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.stats import Row, figures, summarise

PLUGINS = LoaderOptions(allowed=("activations", "normalizations"))
SIZES = ("beyond", "cache", "calls")
NARROWER = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "BENCHBENCH_ISA": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}
"""Environment variables by which this process and the workers keep to an instruction set."""
DIRECTIONS = {"forward": "forward", "both": "forward+backward"}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Ops that take the same axes."""

    kind: str
    tasks: tuple[str, ...]
    beyond: tuple[int, ...]
    cache: tuple[int, ...]
    calls: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    axes: tuple[tuple[str, str], ...] = ()
    """Further axes and their values, as the command line takes them."""

    def shapes(self, sizes: tuple[str, ...]) -> dict[str, str]:
        """Shape as text to its size class."""
        classes = {"beyond": (self.beyond,), "cache": (self.cache,), "calls": self.calls}
        return {format_value(shape): size for size in sizes for shape in classes[size]}


SMALL = ((1, 16), (4, 64), (16, 256))
FAMILIES = (
    Family(
        kind="activations",
        tasks=(
            *("relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "softplus", "log_sigmoid"),
            *("elu", "selu", "mish", "hardswish", "leaky_relu", "prelu"),
            *("bias_relu", "bias_gelu", "bias_gelu_tanh", "bias_silu"),
            *("swiglu", "geglu", "reglu"),
        ),
        beyond=(8192, 4096),
        cache=(256, 1024),
        calls=SMALL,
    ),
    Family(
        kind="activations",
        tasks=("softmax", "log_softmax"),
        beyond=(65536, 512),
        cache=(512, 512),
        calls=SMALL,
    ),
    Family(
        kind="normalizations",
        tasks=("layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"),
        beyond=(16384, 2048),
        cache=(256, 1024),
        calls=SMALL,
    ),
    Family(
        kind="normalizations",
        tasks=("batch_norm", "batch_norm_relu", "batch_norm_add_relu"),
        beyond=(32, 256, 56, 56),
        cache=(8, 64, 28, 28),
        axes=(("layout", "nchw,channels_last"), ("mode", "train,eval")),
    ),
    Family(
        kind="normalizations",
        tasks=("group_norm", "instance_norm"),
        beyond=(16, 320, 64, 64),
        cache=(2, 320, 16, 16),
        axes=(("layout", "nchw,channels_last"),),
    ),
    Family(
        kind="normalizations",
        tasks=("local_response_norm",),
        beyond=(64, 256, 27, 27),
        cache=(2, 64, 27, 27),
        dtypes=("float32",),  # torch has no 16-bit kernel for it
    ),
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table."""

    op: str
    direction: str
    size: str
    shape: str
    dtype: str
    threads: int
    status: str
    """``ok``, or why there are no figures."""
    microseconds: float | None = None
    floor: float | None = None
    eager: float | None = None
    compiled: float | None = None
    error: float | None = None
    """Largest: ulp where the workload counts them, else relative."""
    eager_error: float | None = None
    goal: Goal | None = None
    met: bool | None = None
    why: str = ""
    """What became of a peer without a time; where the goal is missed, what was measured of why."""

    def text(self) -> str:
        """The row as the table shows it."""
        asked = self.goal or Goal()

        def beside(found: float | None, wanted: float | None) -> str:
            shown = "-" if found is None else f"{found:.2f}"
            return shown + (f" ({wanted:.3g})" if wanted is not None else "")

        word = {None: "", True: "yes", False: "NO"}[self.met]
        spent = "-" if self.microseconds is None else f"{self.microseconds:.1f}"
        errors = " / ".join(
            "-" if error is None else f"{error:.2g}" for error in (self.error, self.eager_error)
        )
        tail = self.why if self.status == "ok" else self.status
        return (
            f"{self.op:<38} {self.direction:<8}{self.size:<7}{self.shape:<15}{self.dtype:<9}"
            f"{self.threads:>2} "
            f"{spent:>10} {beside(self.floor, asked.floor):>12} "
            f"{beside(self.eager, asked.eager):>12} {beside(self.compiled, asked.compile):>12} "
            f"{errors:>18} {word:<4}{tail}"
        ).rstrip()


HEAD = (
    f"{'op':<38} {'':<8}{'size':<7}{'shape':<15}{'dtype':<9}{'th':>2} {'us':>10} {'x floor':>12} "
    f"{'over eager':>12} {'over compile':>12} {'error / eager':>18} goal"
)


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


def key_of(workload: str, params: Mapping[str, Any], sizes: Mapping[str, str]) -> Key:
    """What a case is called in the table of goals."""
    more = [str(params[axis]) for axis in ("layout", "mode") if axis in params]
    op = " ".join([workload.split("/")[1], *more])
    direction = next(k for k, v in DIRECTIONS.items() if v == params["direction"])
    return op, direction, sizes.get(format_value(params["shape"]), ""), str(params["dtype"])


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


def speed_up(own: tuple[float, ...], other: tuple[float, ...]) -> float | None:
    """Over another contender, by pairs of logarithms of times; None where there are no pairs."""
    if not other or len(own) != len(other):
        return None
    return math.exp(statistics.median(b - a for a, b in zip(own, other, strict=True)))


def lines(run: Run, family: Family, instruction_set: str = "avx512") -> Iterator[Line]:
    """The table's rows of one run; those of ``fused``, and of ``fused-direct`` for small calls."""
    sizes = family.shapes(SIZES)
    times = {key: found.times for key, found in figures(run).items()}
    rows = {(row.case, row.contender): row for row in summarise(run)}
    threads = int(run.header["settings"]["threads"])
    empty = statistics.median(p["floor"] for p in run.processes if p.get("floor")) or 0.0
    for (case, contender), row in rows.items():
        size = sizes.get(format_value(row.params["shape"]), "")
        if not size or contender not in ("fused", "fused-direct"):
            continue
        if contender == "fused-direct" and (size != "calls" or row.status == "skipped"):
            continue
        found = {"eager": row.baseline, "compiled": "compiled"}
        peers = {name: rows.get((case, contender)) for name, contender in found.items()}
        shape = format_value(row.params["shape"])
        key = key_of(row.workload, row.params, {shape: size})
        goal = goal_of(key, instruction_set) if threads == 2 else None
        yield _line(row, peers, times, key, goal, threads, empty)


def _line(
    row: Row,
    peers: Mapping[str, Row | None],
    times: dict[tuple[str, str], tuple[float, ...]],
    key: Key,
    goal: Goal | None,
    threads: int,
    empty: float,
) -> Line:
    op, direction, size, dtype = key
    direct = row.contender == "fused-direct"
    if size == "calls" and direction == "forward" and not direct:
        goal = of_a_call(op)
    line: dict[str, Any] = {
        "op": op + (" (direct)" if direct else ""),
        "direction": direction,
        "size": size,
        "shape": format_value(row.params["shape"]),
        "dtype": dtype,
        "threads": threads,
        "goal": goal,
    }
    if row.status != "ok" or row.latency is None:
        return Line(**line, status=f"{row.status}: {row.reason}", met=False if goal else None)
    own, compiled = times[row.case, row.contender], times.get((row.case, "compiled"), ())
    floor = 1 / row.roof_share.estimate if row.roof_share else None
    over = 1 / row.ratio.estimate if row.ratio else None
    over_compiled = speed_up(own, compiled)
    wrong = {name for name, peer in peers.items() if peer is not None and peer.status == "wrong"}
    met = None
    if goal:
        met = goal.met(floor=floor, eager=over, compiled=over_compiled, wrong=wrong)
    eager = peers["eager"]
    return Line(
        **line,
        status="ok",
        microseconds=row.latency.estimate * 1e6,
        floor=floor,
        eager=over,
        compiled=over_compiled,
        error=row.metrics.get("ulp", row.errors.get("max")),
        eager_error=(eager.metrics if eager else {}).get("ulp", row.baseline_errors.get("max")),
        met=met,
        why="; ".join([*_peers_lost(peers), *([] if met is not False else _reasons(row, empty))]),
    )


def _peers_lost(peers: Mapping[str, Row | None]) -> list[str]:
    """Peers of which there is no time, and what became of them."""
    return [
        f"{name} is {peer.status}: {peer.reason}"
        for name, peer in peers.items()
        if peer is not None and peer.status != "ok"
    ]


def _reasons(row: Row, empty: float) -> list[str]:
    assert row.latency is not None
    found = []
    faults, system = row.signals.get("minor_faults", 0.0), row.signals.get("system", 0.0)
    if faults >= 1:
        found.append(f"{faults:.0f} page faults a call")
    if system > 0.02:
        found.append(f"{100 * system:.0f} % in the system")
    share = empty / row.latency.estimate
    if share > 0.02:
        found.append(f"an empty call is {100 * share:.0f} % of it")
    return [*found, *row.notes]


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
    parser.add_argument("--isa", choices=NARROWER, help="Instead of the processor's widest.")
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
    os.environ.update(NARROWER.get(asked.isa, {}))
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
