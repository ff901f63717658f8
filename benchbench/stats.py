"""From a run's samples to the figures of a table. Pure; imports scipy when it needs it.

The unit of replication is the process: within a process there is one figure for each contender
(a median over blocks), and every interval is over those figures.

Sources: the order-statistic interval is the exact binomial one (H. A. David and H. N. Nagaraja,
Order Statistics, 3rd ed., section 7.1); the Hodges-Lehmann estimate with its signed-rank interval
is in Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd ed., section 3.2 and 3.3.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchbench.contract import Params, Provider, Result, Role, Run, Status, Work
from benchbench.verdict import MARGIN, Word, decide

LEVEL = 0.95
FEWEST = 5
"""Processes below which no interval is claimed."""
FEWEST_COUNTED = 3
"""The same where instructions were counted: the whole range, at the coverage that it has (75 %)."""
HODGES_LEHMANN = 16
"""Processes from which on one bad process in ten no longer moves a rank estimate."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval; ``coverage`` is the level reached, 0 when none is claimed."""

    estimate: float
    low: float
    high: float
    coverage: float = 0.0

    @property
    def claimed(self) -> bool:
        """True when there were processes enough for an interval."""
        return self.coverage > 0.0

    def map(self, function: Callable[[float], float]) -> Interval:
        """The interval of a monotone transform."""
        ends = sorted((float(function(self.low)), float(function(self.high))))
        return Interval(
            estimate=float(function(self.estimate)),
            low=ends[0],
            high=ends[1],
            coverage=self.coverage,
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one case, over all processes."""

    case: str
    workload: str
    params: Params
    contender: str
    baseline: str
    status: Status
    role: Role = "contender"
    provider: Provider = Provider()
    reason: str = ""
    stage: str = ""
    unit: str = "s"
    processes: int = 0
    """Processes that measured it."""
    attempted: int = 0
    """Processes that tried."""
    latency: Interval | None = None
    """Per call, in ``unit``."""
    quantiles: Mapping[str, float] = field(default_factory=dict)
    """``p90`` and ``p99`` of single calls, in ``unit``, where the workload asks for them."""
    ratio: Interval | None = None
    """Time over the baseline's; below 1 is faster."""
    verdict: Word | None = None
    roof_share: Interval | None = None
    """Time of copying the compulsory bytes over this contender's time."""
    work: Work | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    baseline_errors: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    signals: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def throughput(self) -> float | None:
        """Items (``work.item``) a second, or None."""
        if self.work is None or not self.work.items or self.latency is None or self.unit != "s":
            return None
        return self.work.items / self.latency.estimate

    @property
    def flops(self) -> float | None:
        """Floating-point operations a second, or None."""
        if self.work is None or not self.work.flops or self.latency is None or self.unit != "s":
            return None
        return self.work.flops / self.latency.estimate


def order_statistic_interval(
    values: Sequence[float], level: float = LEVEL, fewest: int = FEWEST
) -> Interval:
    """Median with the narrowest symmetric order-statistic interval of at least ``level``.

    Where even the whole range does not reach the level, the range is given with the coverage that
    it has; below ``fewest`` values no coverage is claimed.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("an interval needs at least one value")
    estimate = statistics.median(ordered)
    if count < fewest:
        return Interval(estimate=estimate, low=ordered[0], high=ordered[-1])
    rank, coverage = 1, binomial_coverage(count, 1)
    while rank + 1 <= count // 2 and binomial_coverage(count, rank + 1) >= level:
        rank += 1
        coverage = binomial_coverage(count, rank)
    return Interval(
        estimate=estimate, low=ordered[rank - 1], high=ordered[count - rank], coverage=coverage
    )


def binomial_coverage(count: int, rank: int) -> float:
    """Chance that the ``rank``-th smallest and largest of ``count`` values enclose the median."""
    tail = sum(math.comb(count, k) for k in range(rank))
    return 1.0 - 2.0 * tail / 2.0**count


def hodges_lehmann(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Median of the pairwise means, with the interval that inverts the signed-rank test."""
    ordered = sorted(values)
    count = len(ordered)
    means = sorted((ordered[i] + ordered[j]) / 2 for i in range(count) for j in range(i, count))
    rank, coverage = _signed_rank(count, level)
    return Interval(
        estimate=statistics.median(means),
        low=means[rank],
        high=means[len(means) - 1 - rank],
        coverage=coverage,
    )


def _signed_rank(count: int, level: float) -> tuple[int, float]:
    """Pairwise means to drop at each end, and the coverage left, exact.

    Number of subsets of 1..count with each sum, by the usual recursion; the statistic of the
    signed-rank test is such a sum under the null.
    """
    total = count * (count + 1) // 2
    ways = [1] + [0] * total
    for term in range(1, count + 1):
        for value in range(total, term - 1, -1):
            ways[value] += ways[value - term]
    tail, rank, covered = 0, 0, 1.0
    for value in range(total):
        tail += ways[value]
        now = 1.0 - 2.0 * tail / 2.0**count
        if now < level:
            break
        rank, covered = value, now
    return rank, covered


def interval(values: Sequence[float], level: float = LEVEL, fewest: int = FEWEST) -> Interval:
    """The interval for a figure of each process: see the module's docstring."""
    if len(values) >= HODGES_LEHMANN:
        return hodges_lehmann(values, level)
    return order_statistic_interval(values, level, fewest)


def blocks(samples: Sequence[float]) -> list[float]:
    """Means of passes ``2b`` and ``2b + 1``; a lone last pass is a block of its own."""
    return [statistics.fmean(samples[i : i + 2]) for i in range(0, len(samples), 2)]


def log_ratio(samples: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Median over blocks of ``ln(contender / baseline)`` in one process, or None without pairs."""
    pairs = [
        math.log(own / other)
        for own, other in zip(blocks(samples), blocks(baseline), strict=False)
        if own > 0 and other > 0
    ]
    return statistics.median(pairs) if pairs else None


def margin_of(run: Run) -> float:
    """The margin that a run was made for; the usual one unless its header names another."""
    return float(run.header.get("margin", MARGIN))


def level_of(run: Run) -> float:
    """The level of a run's intervals; the usual one unless its header names another."""
    return float(run.header.get("level", LEVEL))


def summarise(run: Run, *, margin: float | None = None, level: float | None = None) -> list[Row]:
    """A row for each case and contender, in the order in which cases first appear.

    Margin and level are the run's own (:func:`margin_of`, :func:`level_of`) unless they are given.

    Status over processes: a contender that was wrong or failed anywhere is so in the table, with
    the first reason; quarantined or skipped only where no process measured it.
    """
    grouped: dict[str, dict[str, list[Result]]] = {}
    for result in run.results:
        grouped.setdefault(result.case, {}).setdefault(result.contender, []).append(result)
    rows: list[Row] = []
    margin = margin_of(run) if margin is None else margin
    level = level_of(run) if level is None else level
    for contenders in grouped.values():
        by_role = {r.role: name for name, results in contenders.items() for r in results[:1]}
        roof = _by_process(contenders.get(by_role.get("roof", ""), ()))
        for results in contenders.values():
            baseline = contenders.get(results[0].baseline, [])
            rows.append(_row(results, baseline, roof, margin, level))
    return rows


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One contender in one case: a figure for each process that measured it, as logarithms."""

    baseline: str
    unit: str
    times: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    """Over the baseline of the same process."""


def figures(run: Run) -> dict[tuple[str, str], Figures]:
    """What intervals are made of, by case and contender; contenders that were not measured or not
    right have none.
    """
    grouped: dict[str, dict[str, list[Result]]] = {}
    for result in run.results:
        if result.role == "contender":
            grouped.setdefault(result.case, {}).setdefault(result.contender, []).append(result)
    found = {}
    for case, contenders in grouped.items():
        for name, results in contenders.items():
            first = results[0]
            measured = _by_process(results) if _status(results)[0] == "ok" else {}
            against = _by_process(contenders.get(first.baseline, []))
            found[case, name] = Figures(
                baseline=first.baseline,
                unit=first.unit,
                times=tuple(math.log(statistics.median(r.samples)) for r in measured.values()),
                ratios=tuple(_paired(measured, against)),
            )
    return found


def _by_process(results: Iterable[Result]) -> dict[int, Result]:
    return {r.process: r for r in results if r.status == "ok" and r.samples}


def _row(
    results: Sequence[Result],
    baseline: Sequence[Result],
    roof: Mapping[int, Result],
    margin: float,
    level: float,
) -> Row:
    first = results[0]
    status, spokesman = _status(results)
    measured = _by_process(results)
    against = _by_process(baseline)
    latency = ratio = share = None
    verdict: Word | None = None
    if measured and status == "ok":
        medians = [math.log(statistics.median(r.samples)) for r in measured.values()]
        fewest = FEWEST if first.unit == "s" else FEWEST_COUNTED
        latency = interval(medians, level, fewest).map(math.exp)
        logs = _paired(measured, against)
        if logs:
            over = interval(logs, level, fewest)
            ratio = over.map(math.exp)
            if first.contender != first.baseline:
                verdict = decide(ratio.low, ratio.high, margin) if ratio.claimed else None
        shares = _paired(measured, roof)
        if shares:
            share = interval(shares, level).map(lambda log: math.exp(-log))
    own_errors = [r.errors for r in measured.values() if r.errors] or [spokesman.errors]
    base_errors = [r.errors for r in against.values() if r.errors]
    worst = _worst(own_errors)
    return Row(
        case=first.case,
        workload=first.workload,
        params=first.params,
        contender=first.contender,
        baseline=first.baseline,
        status=status,
        role=first.role,
        provider=first.provider,
        reason=spokesman.reason if status != "ok" else "",
        stage=spokesman.stage if status != "ok" else "",
        unit=first.unit,
        processes=len(measured),
        attempted=len(results),
        latency=latency,
        quantiles=_quantiles(measured.values()) if latency is not None else {},
        ratio=ratio,
        verdict=verdict,
        roof_share=share,
        work=next((r.work for r in results if r.work is not None), None),
        errors=worst,
        baseline_errors=_beside(worst) or _worst(base_errors),
        metrics=_median([r.metrics for r in measured.values()]),
        signals=_median([r.signals for r in measured.values()]),
        notes=_notes(list(measured.values())),
    )


def _quantiles(results: Iterable[Result]) -> dict[str, float]:
    """Of the calls of all processes together; only those that at least two calls lie beyond."""
    single = [r for r in results if r.signals.get("tail") and r.calls == 1]
    calls = sorted(sample for result in single for sample in result.samples)
    return {
        f"p{percent}": statistics.quantiles(calls, n=100, method="inclusive")[percent - 1]
        for percent in (90, 99)
        if len(calls) * (100 - percent) >= 200
    }


def _status(results: Sequence[Result]) -> tuple[Status, Result]:
    """The status of the row, and the result whose reason it gives."""
    for status in ("wrong", "failed"):
        for result in results:
            if result.status == status:
                return result.status, result
    for result in results:
        if result.status == "ok":
            return "ok", result
    return results[0].status, results[0]


def _paired(one: Mapping[int, Result], other: Mapping[int, Result]) -> list[float]:
    logs = []
    for process, result in one.items():
        if process in other:
            value = log_ratio(result.samples, other[process].samples)
            if value is not None:
                logs.append(value)
    return logs


def _worst(errors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The errors of the process with the largest one."""
    worst: Mapping[str, float] = {}
    for found in errors:
        if found.get("max", -1.0) > worst.get("max", -2.0):
            worst = found
    return dict(worst)


def _beside(errors: Mapping[str, float]) -> dict[str, float]:
    """The baseline's errors that :func:`benchbench.checks.judge` put beside a contender's."""
    prefix = "baseline_"
    return {
        name.removeprefix(prefix): error
        for name, error in errors.items()
        if name.startswith(prefix)
    }


def _median(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for figure in figures for name in figure)
    return {
        name: statistics.median([figure[name] for figure in figures if name in figure])
        for name in names
    }


def _notes(results: Sequence[Result]) -> tuple[str, ...]:
    """Notes that at least half of the processes made; a clock held down counts in any."""
    counts: dict[str, int] = {}
    for result in results:
        for note in result.notes:
            counts[note] = counts.get(note, 0) + 1
    return tuple(
        note
        for note, count in counts.items()
        if 2 * count >= len(results) or note.startswith("throttled")
    )
