"""The sampler kernels against their goals, each a ratio within one run.

    python benchmarks/samplers.py                                  every goal, six minutes
    python benchmarks/samplers.py audio weighted --processes 5     workloads that are named so
    python benchmarks/samplers.py --write benchmarks/results/samplers.txt   (or .json)
    python benchmarks/samplers.py --small -n 1                     fewer rows: does it run

A goal is how many times as fast as a peer, or as the best of all peers, the contender ``fused``
has to be, by medians over processes. Audio has a quality goal too. All contenders of a goal are
checked and timed in the same passes; where the goal names a peer, only that one, the baseline and
``fused``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchbench import machine, supervise
from benchbench.catalog import Description
from benchbench.contract import Run, Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.stats import Row, summarise

BEST = "best"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What ``fused`` has to reach in one workload."""

    workload: str
    axes: Mapping[str, tuple[str, ...]]
    small: Mapping[str, tuple[str, ...]]
    """Axes that are other with ``--small``."""
    threads: int
    peer: str
    """A contender, or ``best`` of all others."""
    times: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Upper bounds of quality figures."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A goal in one case, and what was measured."""

    case: str
    threads: int
    goal: str
    """In words."""
    missing: str = ""
    """Why there are no figures."""
    peer: str = ""
    peer_ms: float = 0.0
    fused_ms: float = 0.0
    times: float = 0.0
    quality: Mapping[str, float] = field(default_factory=dict)
    met: bool = False


MILLION, FEW = {"rows": ("1000000",)}, {"rows": ("100000",)}
REPLICATES = {"replicates": ("100",)}
GOALS = (
    *(
        Goal(
            workload="samplers/bootstrap-mean",
            axes={**MILLION, **REPLICATES},
            small=FEW,
            threads=threads,
            peer=BEST,
            times=times,
        )
        for threads, times in ((1, 5.0), (2, 8.0))
    ),
    Goal(
        workload="samplers/poisson-bootstrap-mean",
        axes={**MILLION, **REPLICATES},
        small=FEW,
        threads=1,
        peer="numpy",
        times=8.0,
    ),
    Goal(
        workload="samplers/weighted-draw",
        axes={
            "categories": ("1000000",),
            "tables": ("once", "each-call"),
            "dtype": ("float64", "float32"),
        },
        small={"categories": ("50000",)},
        threads=2,
        peer="torch",
        times=15.0,
    ),
    Goal(
        workload="samplers/oversample",
        axes={**MILLION, "ratio": ("9x1", "16x3x1")},
        small=FEW,
        threads=2,
        peer="imbalanced-learn",
        times=5.0,
    ),
    *(
        Goal(
            workload="samplers/audio-44100-to-16000",
            axes={"seconds": ("60",)},
            small={"seconds": ("5",)},
            threads=threads,
            peer="soxr-hq",
            times=1.0,
            metrics={"alias_db": -120.0},
        )
        for threads in (1, 2)
    ),
)


def measure(goal: Goal, processes: int, small: bool = False) -> list[Row]:
    """One run; its rows."""
    engine, options = LocalEngine(), LoaderOptions(allowed=("samplers",))
    settings = Settings(processes=processes, threads=goal.threads, budget=0.5)
    description = Description.from_json(supervise.describe(engine, options, settings))
    results = []

    def keep(record: Mapping[str, object]) -> None:
        if record["type"] == "result":
            fields = {name: value for name, value in record.items() if name != "type"}
            results.append(result_from_json(fields))

    cases = plan(
        description,
        (goal.workload,),
        preset="standard",
        axes={**goal.axes, **(goal.small if small else {})},
        contenders=() if goal.peer == BEST else ("fused", goal.peer),
        device="cpu",
    )
    supervise.execute(cases, settings=settings, engine=engine, options=options, emit=keep)
    return summarise(Run(id="", header={}, results=tuple(results)))


def judged(goal: Goal, rows: list[Row]) -> Iterator[Line]:
    """A line for each case of the goal."""
    bounds = "".join(f", {name} at most {bound:g}" for name, bound in goal.metrics.items())
    peer = "the best other" if goal.peer == BEST else goal.peer
    words = f"{goal.times:g} times {peer}{bounds}"
    for case in dict.fromkeys(row.case for row in rows):
        timed = {r.contender: r for r in rows if r.case == case and r.latency is not None}
        common = {"case": case, "threads": goal.threads, "goal": words}
        ours = timed.pop("fused", None)
        if ours is None or ours.latency is None:
            reasons = [r.reason for r in rows if r.case == case and r.contender == "fused"]
            yield Line(**common, missing=f"fused: {'; '.join(reasons) or 'not measured'}")
            continue
        if goal.peer != BEST:
            timed = {name: row for name, row in timed.items() if name == goal.peer}
        timed = {name: row for name, row in timed.items() if not name.startswith("roof:")}
        if not timed:
            reasons = [r.reason for r in rows if r.case == case and r.contender == goal.peer]
            yield Line(**common, missing=f"no {goal.peer} to compare with: {'; '.join(reasons)}")
            continue
        name, best = min(timed.items(), key=lambda item: _seconds(item[1]))
        ratio = _seconds(best) / _seconds(ours)
        quality = {metric: ours.metrics[metric] for metric in goal.metrics}
        yield Line(
            **common,
            peer=name,
            peer_ms=1e3 * _seconds(best),
            fused_ms=1e3 * _seconds(ours),
            times=ratio,
            quality=quality,
            met=ratio >= goal.times
            and all(quality[metric] <= bound for metric, bound in goal.metrics.items()),
        )


def _seconds(row: Row) -> float:
    assert row.latency is not None
    return row.latency.estimate


def describe(line: Line) -> str:
    """In one line of text."""
    start = f"{line.case} threads={line.threads}"
    if line.missing:
        return f"{start}: goal {line.goal}: not measured, {line.missing}"
    quality = "".join(f", {name} {value:.1f}" for name, value in line.quality.items())
    return (
        f"{start}: fused {line.fused_ms:.2f} ms, {line.peer} {line.peer_ms:.1f} ms: "
        f"{line.times:.1f} times{quality}; goal {line.goal}: {'met' if line.met else 'MISSED'}"
    )


def machine_in_words() -> str:
    """What the figures were measured on."""
    facts = machine.environment()
    caches = facts.get("caches", {})
    sizes = "  ".join(f"{name} {size}" for name, size in caches.items()) if caches else ""
    return (
        f"{facts.get('cpu', 'an unknown processor')}  {facts.get('usable_cores')} cores  {sizes}\n"
        f"torch {version('torch')}  python {facts['python']}  {facts['system']}  "
        f"load {facts.get('load', '?')} before\n"
        f"{datetime.date.today().isoformat()}  commit {facts.get('commit', 'unknown')}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of workloads' names; all when left out")
    parser.add_argument("-n", "--processes", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="fewer rows; figures mean nothing")
    parser.add_argument("--write", type=Path, help="also into this file, as text or .json")
    arguments = parser.parse_args()
    goals = [
        goal
        for goal in GOALS
        if not arguments.names or any(name in goal.workload for name in arguments.names)
    ]
    if not goals:
        known = ", ".join(dict.fromkeys(goal.workload for goal in GOALS))
        sys.exit(f"no goal's workload is named like {arguments.names}; there are {known}")
    about = machine_in_words()
    print(about, flush=True)
    lines: list[Line] = []
    for goal in goals:
        for line in judged(goal, measure(goal, arguments.processes, arguments.small)):
            lines.append(line)
            print(describe(line), flush=True)
    if arguments.write:
        arguments.write.write_text(written(about, lines, arguments.write.suffix == ".json"))


def written(about: str, lines: list[Line], as_json: bool) -> str:
    """What goes into the file."""
    if as_json:
        facts: dict[str, Any] = {
            "environment": machine.environment(),
            "goals": [asdict(line) for line in lines],
        }
        return json.dumps(facts, indent=1) + "\n"
    return "\n".join([about, "", *(describe(line) for line in lines)]) + "\n"


if __name__ == "__main__":
    main()
