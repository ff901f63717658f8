"""The report ``profile``: who is how often within which factor of the fastest, over all cases.

Performance profiles of Dolan and Moré (2002), with geometric-mean speed-ups beside them; one table
a kind, since contenders of different kinds share no name that means something. Works for any run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import benchbench as bb
from benchbench.stats import Row, summarise

FACTORS = (1.0, 1.1, 1.5, 2.0, 5.0, 10.0)
NOT_MEASURED = ("skipped", "quarantined")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One contender over the cases of a kind in which it took part."""

    contender: str
    cases: int
    shares: tuple[float, ...]
    """Share of its cases in which its time is at most each of FACTORS times the fastest's."""
    speed_up: float
    """Geometric mean of the baseline's time over its own, where both were measured; else nan."""
    misses: int
    """Cases that it lost by a wrong or failed result: infinitely long."""


def profiles(rows: Sequence[Row]) -> list[Profile]:
    """Profiles of one kind, best first (by the area under the profile's logarithm).

    A contender that could not run in a case did not take part in it; one that was wrong, failed or
    missed its target did, with an infinite time.
    """
    times: dict[str, dict[str, float]] = {}
    baselines: dict[str, str] = {}
    for row in rows:
        if row.role != "contender" or row.status in NOT_MEASURED:
            continue
        measured = row.status == "ok" and row.latency is not None
        time = row.latency.estimate if measured and row.latency is not None else math.inf
        times.setdefault(row.case, {})[row.contender] = time
        baselines[row.case] = row.baseline
    found = []
    for contender in {name for case in times.values() for name in case}:
        taken = {case: values for case, values in times.items() if contender in values}
        ratios = [_ratio(values, contender) for values in taken.values()]
        logs = [
            math.log(values[baselines[case]] / values[contender])
            for case, values in taken.items()
            if math.isfinite(values.get(baselines[case], math.inf) + values[contender])
        ]
        found.append(
            Profile(
                contender=contender,
                cases=len(taken),
                shares=tuple(sum(r <= f for r in ratios) / len(ratios) for f in FACTORS),
                speed_up=math.exp(sum(logs) / len(logs)) if logs else math.nan,
                misses=sum(math.isinf(values[contender]) for values in taken.values()),
            )
        )
    return sorted(found, key=lambda p: (-sum(p.shares), p.contender))


def _ratio(values: Mapping[str, float], contender: str) -> float:
    """Time over the fastest's; infinite where its own is, even when everyone's is."""
    own = values[contender]
    return own / min(values.values()) if math.isfinite(own) else math.inf


def render(run: bb.Run) -> str:
    """A table for each kind, as text."""
    rows = summarise(run)
    kinds = list(dict.fromkeys(row.workload.split("/", 1)[0] for row in rows))
    lines = [f"run {run.id}: share of cases within a factor of the fastest"]
    for kind in kinds:
        table = profiles([row for row in rows if row.workload.startswith(f"{kind}/")])
        if not table:
            continue
        width = max(len("contender"), *(len(profile.contender) for profile in table))
        heads = "".join(f"{f'x{factor:g}':>7}" for factor in FACTORS)
        lines += [
            "",
            kind,
            f"{'contender':<{width}}{'cases':>7}{heads}{'speed-up':>10}{'missed':>8}",
        ]
        for p in table:
            shares = "".join(f"{share:>7.0%}" for share in p.shares)
            speed_up = "" if math.isnan(p.speed_up) else f"{p.speed_up:.3g}x"
            missed = str(p.misses) if p.misses else ""
            lines.append(
                f"{p.contender:<{width}}{p.cases:>7}{shares}{speed_up:>10}{missed:>8}".rstrip()
            )
    lines += [
        "",
        "x1 is the share of its cases in which it is the fastest; wrong and failed results count "
        "as infinitely long,",
        "unavailable ones not at all; speed-up: geometric mean over the baseline's time",
    ]
    return "\n".join(lines) + "\n"


def reports() -> list[bb.Report]:
    """The one report."""
    doc = "Performance profiles and geometric-mean speed-ups, a table a kind."
    return [bb.Report(name="profile", render=render, doc=doc)]
