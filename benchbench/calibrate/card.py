"""What a calibration found, against what the harness promises. Pure."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from benchbench.calibrate.measure import Observed, Round
from benchbench.records import to_json
from benchbench.reports import text
from benchbench.sequential import Design
from benchbench.stats import Interval, order_statistic_interval
from benchbench.verdict import MARGIN, decide

SCHEMA = 1
Standing = Literal["met", "missed", "too few", "shown"]

POWER = {0.03: 0.85, 0.05: 0.99, 0.10: 0.999}
NOISY_POWER = {0.05: 0.90}
"""Where a neighbour is kept busy; only this shift has a promise there."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One property."""

    name: str
    goal: str
    found: str
    standing: Standing


@dataclass(frozen=True, kw_only=True)
class Card:
    """A machine's calibration."""

    machine: Mapping[str, Any]
    load: int
    """Processors kept busy beside it."""
    design: Design
    settings: Mapping[str, Any]
    cases: tuple[str, ...]
    rounds: int
    lines: tuple[Line, ...]
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What the lines were made of."""
    notes: tuple[str, ...] = ()
    started: str = ""
    seconds: float = 0.0
    runs: tuple[str, ...] = ()
    """Ids of the stored runs, one for each round."""

    @property
    def met(self) -> bool:
        """No promise was missed."""
        return all(line.standing != "missed" for line in self.lines)


def at_most(hits: int, trials: int, level: float = 0.95) -> float:
    """Upper bound of a rate, exact (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934)."""
    from scipy.stats import beta

    return 1.0 if hits >= trials else float(beta.ppf(level, hits + 1, trials - hits))


def make_lines(rounds: Sequence[Round], design: Design, load: int) -> tuple[list[Line], Any]:
    """The properties that pairs show, and the counts behind them."""
    seen = [one for found in rounds for one in found.observed if one.decision is not None]
    nulls = [one for one in seen if not one.pair.shift]
    lines = [_false(nulls), _gates([red for found in rounds for red in found.gates])]
    counts: dict[str, Any] = {
        "null": _words(nulls),
        "noise": _noise(nulls),
    }
    for shift in sorted({one.pair.shift for one in seen} - {0.0}):
        slowed = [one for one in seen if one.pair.shift == shift]
        lines.append(_power(shift, slowed, (NOISY_POWER if load else POWER).get(shift)))
        counts[f"slowed {100 * shift:g} %"] = {
            **_words(slowed),
            "measured": [100 * math.expm1(statistics.median(one.logs)) for one in slowed],
        }
    big = [one for one in seen if one.pair.shift == 0.05]
    if big:
        same = sum(_word(one) == "same" for one in big)
        lines.append(
            _rate('a +5 % slow-down called "same"', "at most 1 %", same, len(big), 0.01, most=True)
        )
    lines.append(_coverage(nulls, design))
    bound = 0.03 if load else 0.015
    repeated = reproducibility(rounds, bound)
    lines += _reproduced(repeated, bound)
    counts["reproducibility"] = {
        "copies beyond": sum(value > bound for value in repeated.copies),
        "copies p99": _percent(repeated.copies, 99),
        "others": [round(100 * value, 3) for value in repeated.others],
        "others with wider intervals": [round(100 * value, 3) for value in repeated.wide],
    }
    return lines, counts


def _word(one: Observed) -> str:
    assert one.decision is not None
    if one.decision.word == "undecided" and one.decision.not_slower:
        return "not slower"
    return one.decision.word


def _words(seen: Sequence[Observed]) -> dict[str, int]:
    return dict(Counter(_word(one) for one in seen))


def _noise(nulls: Sequence[Observed]) -> dict[str, float]:
    """Spread of one pair's log-ratios over processes, percent: its quantiles over pairs.

    By the median absolute deviation, so that ruined processes do not enter it.
    """
    spreads = sorted(
        148.26 * statistics.median(abs(v - statistics.median(one.logs)) for v in one.logs)
        for one in nulls
        if len(one.logs) > 1
    )
    if not spreads:
        return {}
    return {
        f"spread p{q}": round(spreads[min(len(spreads) - 1, len(spreads) * q // 100)], 3)
        for q in (10, 50, 90, 99)
    }


def _false(nulls: Sequence[Observed]) -> Line:
    wrong = sum(_word(one) in ("slower", "faster") for one in nulls)
    bound = 100 * at_most(wrong, len(nulls)) if nulls else 100.0
    return Line(
        name="A/A: unchanged code called slower or faster",
        goal="0",
        found=f"{wrong} of {len(nulls)} (the rate is at most {bound:.2g} %)",
        standing="missed" if wrong else "met" if nulls else "too few",
    )


def _gates(red: Sequence[bool]) -> Line:
    if not red:
        return Line(
            name="gates of 100 unchanged cases that are red",
            goal="at most 2 %",
            found="fewer than 100 null pairs in a round",
            standing="too few",
        )
    return _rate(
        "gates of 100 unchanged cases that are red",
        "at most 2 %",
        sum(red),
        len(red),
        0.02,
        most=True,
    )


def _power(shift: float, slowed: Sequence[Observed], goal: float | None) -> Line:
    hits = sum(_word(one) == "slower" for one in slowed)
    true = 100 * math.expm1(statistics.median(statistics.median(o.logs) for o in slowed))
    line = _rate(
        f"+{100 * shift:g} % called slower (of 100 cases; measured {true:+.1f} %)",
        "no promise" if goal is None else f"at least {100 * goal:g} %",
        hits,
        len(slowed),
        goal or 0.0,
        most=False,
    )
    return line if goal is not None else _shown(line)


def _shown(line: Line) -> Line:
    return Line(name=line.name, goal=line.goal, found=line.found, standing="shown")


def _rate(name: str, goal: str, hits: int, trials: int, bound: float, *, most: bool) -> Line:
    """A share against a bound. Few trials cannot miss a bound that one of them would break."""
    share = hits / trials if trials else 0.0
    good = share <= bound if most else share >= bound
    allowed = math.floor(trials * (bound if most else 1 - bound))
    off = hits if most else trials - hits
    standing: Standing = "met" if good else "missed"
    if not trials or (not good and allowed == 0 and off == 1):
        standing = "too few"
    return Line(
        name=name, goal=goal, found=f"{hits} of {trials} ({100 * share:.4g} %)", standing=standing
    )


def _coverage(nulls: Sequence[Observed], design: Design) -> Line:
    """Intervals of the first look, which all pairs have."""
    count = design.looks[0]
    intervals = [
        order_statistic_interval(one.logs[:count]) for one in nulls if len(one.logs) >= count
    ]
    hits = sum(interval.low <= 0.0 <= interval.high for interval in intervals)
    share = hits / len(intervals) if intervals else 0.0
    level = intervals[0].coverage if intervals else 0.0
    standing: Standing = "met" if 0.93 <= share <= 0.99 else "missed"
    if len(intervals) < 500:
        standing = "too few" if standing == "missed" else standing
    return Line(
        name=f"intervals that contain the truth ({count} processes, {100 * level:.1f} % nominal)",
        goal="93 to 99 % of at least 500",
        found=f"{hits} of {len(intervals)} ({100 * share:.4g} %)",
        standing=standing,
    )


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """By how much two rounds' log-ratios differ, rising."""

    copies: tuple[float, ...]
    """Of pairs of copies (same case, same shift) that a gate decided in both rounds."""
    others: tuple[float, ...]
    """Of contenders that both rounds decided, with intervals within the bound."""
    wide: tuple[float, ...]
    """Of contenders that both rounds decided, but know less well than the bound."""


def reproducibility(rounds: Sequence[Round], bound: float) -> Repeated:
    """Ratios of each round beside those of the next.

    Args:
        rounds: with processes of their own.
        bound: a ratio whose interval reaches further from its estimate is not known that well.
    """
    copies: list[float] = []
    others: list[float] = []
    wide: list[float] = []
    for one, other in pairwise(rounds):
        first, second = _decided_copies(one), _decided_copies(other)
        copies += [abs(first[key] - second[key]) for key in first.keys() & second.keys()]
        for key in one.contenders.keys() & other.contenders.keys():
            both = [order_statistic_interval(r.contenders[key]) for r in (one, other)]
            if all(_decided(interval) for interval in both):
                known = all(_reach(interval) <= math.log1p(bound) for interval in both)
                (others if known else wide).append(abs(both[0].estimate - both[1].estimate))
    return Repeated(
        copies=tuple(sorted(copies)), others=tuple(sorted(others)), wide=tuple(sorted(wide))
    )


def _decided_copies(found: Round) -> dict[tuple[str, float, int], float]:
    """Log-ratios by case, shift and place among the pairs that have both."""
    places: Counter[tuple[str, float]] = Counter()
    logs = {}
    for one in found.observed:
        group = one.pair.case, one.pair.shift
        if one.decision is not None and one.decision.word != "undecided":
            logs[group[0], group[1], places[group]] = statistics.median(one.logs)
        places[group] += 1
    return logs


def _reach(interval: Interval) -> float:
    return max(interval.high - interval.estimate, interval.estimate - interval.low)


def _decided(interval: Interval) -> bool:
    ratio = interval.map(math.exp)
    return ratio.claimed and decide(ratio.low, ratio.high, MARGIN) != "inconclusive"


def _reproduced(repeated: Repeated, bound: float) -> list[Line]:
    """The promise is for ratios that are decided; one with a wide interval says so by itself."""
    lines = []
    for what, differences in (
        ("decided pairs of copies", repeated.copies),
        (f"other contenders' ratios known to {100 * bound:g} %", repeated.others),
    ):
        line = _rate(
            f"{what} that a second round finds again within {100 * bound:g} %",
            "at least 95 %",
            sum(value <= bound for value in differences),
            len(differences),
            0.95,
            most=False,
        )
        lines.append(line)
    if repeated.wide:
        found = f"{lines[-1].found}; {len(repeated.wide)} more have wider intervals"
        lines[-1] = replace(lines[-1], found=found)
    return lines


def _percent(values: Sequence[float], quantile: int) -> float | None:
    """A quantile of log-ratios that rise, in percent."""
    if not values:
        return None
    return round(100 * values[min(len(values) - 1, len(values) * quantile // 100)], 3)


def render_text(card: Card) -> str:
    """For a terminal."""
    out = [*_head(card), ""]
    width = max(len(line.name) for line in card.lines)
    goals = max(len(line.goal) for line in card.lines)
    out += [
        f"{line.standing:>8}  {line.name:<{width}}  {line.goal:<{goals}}  {line.found}"
        for line in card.lines
    ]
    return "\n".join([*out, *(f"    note  {note}" for note in _notes(card))])


def _notes(card: Card) -> list[str]:
    advice = "`benchbench doctor` says what makes this machine noisy, and how to mend it"
    return [*card.notes, *([] if card.met else [advice])]


def _head(card: Card) -> list[str]:
    machine, design = card.machine, card.design
    busy = f"{text.counted(card.load, 'processor')} kept busy beside it"
    load = busy if card.load else "nothing beside it"
    cores = text.counted(machine.get("usable_cores", "?"), "core")
    threads = text.counted(card.settings.get("threads", "?"), "thread")
    looks = ", ".join(map(str, design.looks))
    return [
        f"{machine.get('cpu', 'unknown processor')}, {cores}, {threads}, {load}; {card.started}",
        f"looks at {looks} processes, margin {100 * design.margin:g} %, alpha "
        f"{100 * design.alpha:g} %; {len(card.cases)} cases, {card.rounds} rounds, "
        f"{card.seconds:.0f} s",
    ]


def render_markdown(card: Card) -> str:
    """For a page."""
    rows = ["| property | goal | found | |", "|---|---|---|---|"]
    rows += [f"| {one.name} | {one.goal} | {one.found} | {one.standing} |" for one in card.lines]
    head = [f"- {line}" for line in _head(card)]
    return "\n".join([*head, "", *rows, "", *(f"- {note}" for note in _notes(card))]) + "\n"


def render_json(card: Card) -> str:
    """Everything, with the names of the fields above."""
    return json.dumps({"schema": SCHEMA, **to_json(card)}, indent=1) + "\n"


FORMATS: Mapping[str, Callable[[Card], str]] = {
    "text": render_text,
    "markdown": render_markdown,
    "json": render_json,
}
