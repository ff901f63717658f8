"""How long a preset takes in each process, by kind: the goal of ``standard`` is ten minutes.

    python benchmarks/preset_time.py [--preset standard] [KIND|WORKLOAD ...]
    python benchmarks/preset_time.py --every 4          a quarter of the cases, times four
    python benchmarks/preset_time.py --estimate         from the plan alone, nothing is run

Runs one process with the preset's own settings and adds up what each case took, as ``benchbench
run -n 1`` does; the first process is the dearest, since it compiles. ``--every N`` takes each N-th
case of each workload (at least one) and scales. The estimate counts the timed budget, the warm-up
and the overhead of each contender, and a few seconds for one that compiles.
"""

from __future__ import annotations

import argparse
import resource
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from benchbench import supervise
from benchbench.catalog import Catalog, Description, ask_unavailable
from benchbench.cli.run import usual_settings
from benchbench.contract import PlannedCase, Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions, load

GOAL = 600.0
"""Seconds a process."""
CONTENDER, COMPILED = 0.25, 4.0
"""Seconds beyond budget and warm-up: building and checking; compiling a function."""


def settings_of(preset: str) -> Settings:
    """What ``benchbench run -p PRESET -n 1`` takes."""
    return replace(usual_settings(preset), processes=1)


def estimate(case: PlannedCase, settings: Settings, catalog: Catalog) -> float:
    """Seconds of a case, from how many contenders it has; those that cannot run cost nothing."""
    found = catalog.implementations[case.case.workload]
    able = [
        name
        for name in case.contenders
        if ask_unavailable(found[name].unavailable, case.case.params) is None
    ]
    if case.baseline not in able:
        return 0.0
    compiled = sum(name.startswith("compiled") for name in able)
    return settings.budget + len(able) * (settings.warmup + CONTENDER) + compiled * COMPILED


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--estimate", action="store_true")
    arguments = parser.parse_args()
    options, engine = LoaderOptions(allowed=("benchbench",)), LocalEngine()
    settings = settings_of(arguments.preset)
    description = Description.from_json(supervise.describe(engine, options, settings))
    cases = plan(description, arguments.patterns, preset=arguments.preset)
    chosen = thinned(cases, max(1, arguments.every))
    faults: list[str] = []
    if arguments.estimate:
        catalog = load(options).catalog
        seconds = {c.case.id: estimate(c, settings, catalog) for c, _ in chosen}
    else:
        seconds, faults = measure([case for case, _ in chosen], settings, options, engine)
    kinds: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for case, weight in chosen:
        row = kinds[case.case.workload.split("/")[0]]
        row[0] += weight
        row[1] += weight * seconds.get(case.case.id, 0.0)
    if not arguments.estimate:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"workers used {used.ru_utime + used.ru_stime:.1f} s of processors for these cases")
    for kind, (count, total) in sorted(kinds.items()):
        print(f"{kind:<16} {count:5.0f} cases {total:8.1f} s")
    total = sum(spent for _, spent in kinds.values())
    print(f"{'all':<16} {len(cases):5d} cases {total:8.1f} s a process; the goal is {GOAL:.0f} s")
    for fault in faults:
        print(fault)
    return 1 if total > GOAL or faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
