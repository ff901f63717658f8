"""Runs whose figures are known, for the tests of what reads runs; no worker is needed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from benchbench.contract import Case, PlannedCase, Provider, Result, Role, Run, Settings, Work
from benchbench.records import to_json

PROVIDER = Provider(plugin="shapes", distribution="shapes-pack", version="1.2")
MACHINE = {
    "cpu": "Example CPU",
    "machine": "x86_64",
    "logical_cpus": 4,
    "usable_cores": 2,
    "caches": {"L2": "2048K", "L3": "32768K"},
    "python": "3.11.0",
    "system": "Linux 6.1",
    "commit": "0123456789ab",
}
WORKER = {"torch": "2.11.0", "threads": 2}


def result(
    contender: str,
    process: int,
    samples: Sequence[float] = (),
    *,
    workload: str = "shapes/area",
    params: Mapping[str, Any] | None = None,
    baseline: str = "eager",
    role: Role = "contender",
    **fields: Any,
) -> Result:
    """A result of one process."""
    case = Case(workload=workload, params={"n": 1024} if params is None else params)
    return Result(
        case=case.id,
        workload=workload,
        params=case.params,
        contender=contender,
        baseline=baseline,
        process=process,
        status=fields.pop("status", "ok"),
        role=role,
        provider=PROVIDER,
        samples=tuple(samples),
        work=fields.pop("work", Work(bytes=8192.0, flops=2048.0, items=1024.0, item="element")),
        **fields,
    )


def measured(
    factors: Mapping[str, float],
    *,
    processes: int = 6,
    passes: int = 8,
    base: float = 10e-6,
    noise: float = 0.003,
    seed: int = 0,
    **fields: Any,
) -> list[Result]:
    """``factors`` times ``base`` for each contender, with shared noise and noise of their own.

    The shared part (a neighbour, another process) moves raw times by tens of percent and must
    cancel in ratios.
    """
    rng = random.Random(seed)
    rows = []
    for process in range(processes):
        place = rng.uniform(0.0, 0.4)
        drift = [place + rng.uniform(0.0, 0.1) for _ in range(passes)]
        for name, factor in factors.items():
            own = rng.gauss(0.0, noise)
            samples = [base * factor * math.exp(d + own + rng.gauss(0.0, noise)) for d in drift]
            role: Role = "roof" if name == "roof:copy" else "contender"
            errors = {"max": 1e-7 * factor, "rms": 2e-8, "allowed": 5e-7, "eps": 1.19e-7}
            rows.append(
                result(
                    name,
                    process,
                    samples,
                    role=role,
                    errors={} if role == "roof" else errors,
                    **fields,
                )
            )
    return rows


def run(results: Sequence[Result], *, identity: str = "20250102-030405-abcd", **header: Any) -> Run:
    """A run with these results and a full header."""
    processes = len({r.process for r in results})
    planned: dict[str, PlannedCase] = {}
    for r in results:
        old = planned.get(r.case)
        names = (*(old.contenders if old else ()), *(() if r.role == "roof" else (r.contender,)))
        planned[r.case] = PlannedCase(
            case=Case(workload=r.workload, params=r.params),
            baseline=r.baseline,
            contenders=tuple(dict.fromkeys(names)),
        )
    full = {
        "id": identity,
        "started": "2025-01-02T03:04:05+00:00",
        "command": ["benchbench", "run"],
        "settings": to_json(Settings(processes=max(processes, 1))),
        "environment": MACHINE,
        "plugins": [],
        "plugin_options": {"files": [], "allowed": None, "blocked": []},
        "cases": to_json(list(planned.values())),
        **header,
    }
    return Run(
        id=identity,
        header=full,
        results=tuple(results),
        processes=tuple(
            {"process": p, "environment": WORKER, "floor": 4e-8} for p in range(processes)
        ),
        complete=True,
    )
