"""How long a preset takes in each process, by kind: the goal of ``standard`` is ten minutes.

    python benchmarks/preset_time.py [--preset standard] [KIND|WORKLOAD ...]
    python benchmarks/preset_time.py --every 4          a quarter of the cases, times four
    python benchmarks/preset_time.py --write benchmarks/results/preset_standard.txt

Runs one process with the preset's own settings and adds up what each case took, as ``benchbench
run -n 1`` does; the first process is the dearest, since it compiles. ``--every N`` takes each N-th
case of each workload (at least one) and scales.
"""

from __future__ import annotations

import argparse
import datetime
import resource
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchbench import machine, supervise
from benchbench.catalog import Description
from benchbench.cli.run import usual_settings
from benchbench.contract import PlannedCase, Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions

GOAL = 600.0
"""Seconds a process."""
DEAREST = 12
"""Cases that the report names."""


def settings_of(preset: str) -> Settings:
    """What ``benchbench run -p PRESET -n 1`` takes."""
    return replace(usual_settings(preset), processes=1)


def thinned(cases: Sequence[PlannedCase], every: int) -> list[tuple[PlannedCase, float]]:
    """Each ``every``-th case of each workload, with the number of cases that it stands for."""
    by_workload: dict[str, list[PlannedCase]] = defaultdict(list)
    for case in cases:
        by_workload[case.case.workload].append(case)
    chosen = []
    for found in by_workload.values():
        taken = found[::every]
        chosen += [(case, len(found) / len(taken)) for case in taken]
    return chosen


def measure(
    cases: Iterable[PlannedCase], settings: Settings, options: LoaderOptions, engine: LocalEngine
) -> tuple[dict[str, float], list[str]]:
    """Seconds of each case, and what failed or was wrong."""
    seconds: dict[str, float] = {}
    faults: list[str] = []

    def emit(record: Any) -> None:
        if record["type"] == "event" and record.get("kind") == "case":
            seconds[record["case"]] = float(record["seconds"])
            print(f"  {record['seconds']:7.2f} s  {record['case']}", flush=True)
        elif record["type"] == "result" and record["status"] not in ("ok", "skipped"):
            reason = f"{record['case']} {record['contender']} {record['status']}: "
            faults.append(reason + record["reason"])

    supervise.execute(tuple(cases), settings=settings, engine=engine, options=options, emit=emit)
    return seconds, faults


def report(
    preset: str, chosen: Sequence[tuple[PlannedCase, float]], seconds: Mapping[str, float]
) -> Iterator[str]:
    """Lines: the machine, seconds of each kind and of all, and the dearest cases."""
    now = datetime.datetime.now(datetime.timezone.utc)
    found = {**machine.environment(), **machine.worker_environment()}
    yield f"{now:%Y-%m-%d %H:%M} UTC, preset {preset}, one process, {resource_use()}"
    yield f"cpu {found['cpu']}, usable_cores {found['usable_cores']}, torch {found['torch']}"
    yield ""
    kinds: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for case, weight in chosen:
        row = kinds[case.case.workload.split("/")[0]]
        row[0] += weight
        row[1] += weight * seconds.get(case.case.id, 0.0)
    for kind, (count, spent) in sorted(kinds.items()):
        yield f"{kind:<16} {count:5.0f} cases {spent:8.1f} s"
    count, spent = (sum(column) for column in zip(*kinds.values(), strict=True))
    yield f"{'all':<16} {count:5.0f} cases {spent:8.1f} s a process; the goal is {GOAL:.0f} s"
    if len(seconds) < len(chosen):
        yield f"{len(chosen) - len(seconds)} cases were not run"
    yield ""
    for case_id in sorted(seconds, key=lambda name: -seconds[name])[:DEAREST]:
        yield f"{seconds[case_id]:8.2f} s  {case_id}"


def resource_use() -> str:
    """Processor seconds of the workers so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"{used.ru_utime + used.ru_stime:.0f} s of processors"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--write", type=Path, help="a copy of the report")
    arguments = parser.parse_args()
    options, engine = LoaderOptions(allowed=("benchbench",)), LocalEngine()
    settings = settings_of(arguments.preset)
    description = Description.from_json(supervise.describe(engine, options, settings))
    cases = plan(description, arguments.patterns, preset=arguments.preset)
    chosen = thinned(cases, max(1, arguments.every))
    seconds, faults = measure([case for case, _ in chosen], settings, options, engine)
    text = "\n".join(report(arguments.preset, chosen, seconds))
    print(text)
    for fault in faults:
        print(fault)
    if arguments.write is not None:
        arguments.write.write_text(text + "\n")
    total = sum(weight * seconds.get(case.case.id, 0.0) for case, weight in chosen)
    return 1 if total > GOAL or faults or len(seconds) < len(chosen) else 0


if __name__ == "__main__":
    raise SystemExit(main())
