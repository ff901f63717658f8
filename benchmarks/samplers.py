"""The sampler kernels against their goals, each a ratio within one run.

    python benchmarks/samplers.py [--processes 5] [--write benchmarks/results/samplers.json]

A goal is how many times as fast as a peer, or as the best of all peers, the contender ``fused`` has
to be, by medians over processes. Audio has a quality goal too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchbench import machine, supervise
from benchbench.catalog import Description
from benchbench.contract import Run, Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.stats import Row, summarise


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What ``fused`` has to reach in one case."""

    workload: str
    axes: Mapping[str, list[str]]
    threads: int
    peer: str
    """A contender, or ``best`` of all others."""
    times: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Upper bounds of quality figures."""


MILLION = ["1000000"]
GOALS = (
    Goal(workload="samplers/bootstrap-mean", axes={"rows": MILLION, "replicates": ["100"]},
         threads=1, peer="best", times=5.0),
    Goal(workload="samplers/bootstrap-mean", axes={"rows": MILLION, "replicates": ["100"]},
         threads=2, peer="best", times=8.0),
    Goal(workload="samplers/poisson-bootstrap-mean",
         axes={"rows": MILLION, "replicates": ["100"]}, threads=1, peer="numpy", times=8.0),
    Goal(workload="samplers/weighted-draw",
         axes={"categories": MILLION, "tables": ["once", "each-call"]},
         threads=1, peer="torch", times=15.0),
    Goal(workload="samplers/oversample", axes={"rows": MILLION},
         threads=2, peer="imbalanced-learn", times=5.0),
    Goal(workload="samplers/audio-44100-to-16000", axes={"seconds": ["60"]},
         threads=1, peer="soxr-hq", times=1.0, metrics={"alias_db": -120.0}),
)  # fmt: skip


def measure(goal: Goal, processes: int) -> list[Row]:
    """One run; its rows."""
    engine, options = LocalEngine(), LoaderOptions(allowed=("samplers",))
    settings = Settings(processes=processes, threads=goal.threads, budget=0.0, min_passes=4)
    description = Description.from_json(supervise.describe(engine, options, settings))
    results = []

    def keep(record: Mapping[str, object]) -> None:
        if record["type"] == "result":
            fields = {name: value for name, value in record.items() if name != "type"}
            results.append(result_from_json(fields))

    cases = plan(description, (goal.workload,), preset="standard", axes=goal.axes, device="cpu")
    supervise.execute(cases, settings=settings, engine=engine, options=options, emit=keep)
    return summarise(Run(id="", header={}, results=tuple(results)))


def judged(goal: Goal, rows: list[Row]) -> list[dict[str, object]]:
    """A line for each case of the goal."""
    found: list[dict[str, object]] = []
    for case in dict.fromkeys(row.case for row in rows):
        timed = {r.contender: r for r in rows if r.case == case and r.latency is not None}
        line: dict[str, object] = {"case": case, "threads": goal.threads, "goal": goal.times}
        found.append(line)
        ours = timed.pop("fused", None)
        if ours is None or ours.latency is None:
            reasons = [r.reason for r in rows if r.case == case and r.contender == "fused"]
            line["missing"] = f"fused: {'; '.join(reasons) or 'not measured'}"
            continue
        if goal.peer != "best":
            timed = {name: row for name, row in timed.items() if name == goal.peer}
        if not timed:
            line["missing"] = f"no {goal.peer} to compare with"
            continue
        best = min(timed.values(), key=lambda row: row.latency.estimate if row.latency else 0.0)
        assert best.latency is not None
        ratio = best.latency.estimate / ours.latency.estimate
        quality = {name: ours.metrics[name] for name in goal.metrics}
        line.update(
            peer=best.contender,
            peer_ms=1e3 * best.latency.estimate,
            fused_ms=1e3 * ours.latency.estimate,
            times=ratio,
            quality=quality,
            met=ratio >= goal.times
            and all(quality[name] <= bound for name, bound in goal.metrics.items()),
        )
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--write", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    lines = []
    for goal in GOALS:
        for line in judged(goal, measure(goal, arguments.processes)):
            lines.append(line)
            if "missing" in line:
                print(f"{line['case']} threads={line['threads']}: {line['missing']}")
                continue
            word = "met" if line["met"] else "MISSED"
            quality = "".join(f", {k} {v:.1f}" for k, v in line["quality"].items())  # type: ignore[attr-defined]
            print(
                f"{line['case']} threads={line['threads']}: {line['fused_ms']:.2f} ms, "
                f"{line['times']:.1f} times as fast as {line['peer']} ({line['peer_ms']:.1f} ms; "
                f"goal {line['goal']:g}){quality}: {word}",
                flush=True,
            )
    if arguments.write:
        facts = {"environment": machine.environment(), "goals": lines}
        arguments.write.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
