"""A row of the CPU kernels' table: figures of a run, the goal beside them, and why it is missed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kernel_families import SIZES, Family, key_of
from kernel_goals import Goal, Key, of as goal_of, of_a_call

from benchbench.contract import Run, format_value
from benchbench.stats import Row, figures, summarise


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
    """What became of a peer without a time; where no goal is met, what was measured of why."""

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
        why="; ".join([*_peers_lost(peers), *([] if met else _reasons(row, empty))]),
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
