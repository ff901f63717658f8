"""Numbers as people read them: three digits, a unit, nothing that is not known."""

from __future__ import annotations

import math

from benchbench.stats import Interval

_PREFIXES = ((1e-9, "n"), (1e-6, "µ"), (1e-3, "m"), (1.0, ""))
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))


_SHORT = {"instructions": "instr"}


def significant(value: float, digits: int = 3) -> str:
    """``value`` with so many digits, without an exponent: 12.3, 0.00123, 1230."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    # 9.996 rounds up to another power of ten: 10.0, not 10.00.
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(decimals, 0)}f}"


def counted(number: object, noun: str) -> str:
    """``1 core``, ``2 cores``; ``? cores`` where the number is not known."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float, unit: str = "s") -> str:
    """``12.3 µs``; other units than seconds get a large prefix."""
    if unit != "s":
        return f"{large(seconds)} {_SHORT.get(unit, unit)}"
    for factor, prefix in reversed(_PREFIXES):
        if seconds >= factor * 0.9995:
            return f"{significant(seconds / factor)} {prefix}s"
    return f"{significant(seconds / 1e-9)} ns"


def large(value: float) -> str:
    """``1.23 G``, ``45.6 k``; at the end of a number, before its unit."""
    for factor, prefix in _LARGE:
        if abs(value) >= factor * 0.9995:
            return f"{significant(value / factor)} {prefix}".rstrip()
    return significant(value)


def size(count: float) -> str:
    """``1.5 MiB``."""
    for factor, unit in _BYTES:
        if count >= factor * 0.9995:
            return f"{significant(count / factor)} {unit}"
    return "0 B"


def spread(interval: Interval) -> str:
    """Half-width of an interval relative to its estimate: ``±1.2 %``; empty without one."""
    if not interval.claimed or not interval.estimate:
        return ""
    half = max(interval.high - interval.estimate, interval.estimate - interval.low)
    share = 100 * half / interval.estimate
    if share >= 999.5:
        return ">999 %"
    return f"±{share:.0f} %" if share >= 9.95 else f"±{share:.1f} %"


def speedup(ratio: Interval) -> str:
    """Baseline's time over the contender's: ``1.43x [1.40, 1.46]``."""
    inverse = ratio.map(lambda value: 1.0 / value)
    text = f"{significant(inverse.estimate)}x"
    if ratio.claimed:
        text += f" [{significant(inverse.low)}, {significant(inverse.high)}]"
    return text


def percent(share: float) -> str:
    """``97 %``."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{significant(100 * share, 2)} %"


_EPS_LIMIT = 1e4
"""Errors beyond so many rounding steps are written as plain relative errors."""


def error(value: float, eps: float = 0.0, beside: float | None = None) -> str:
    """``0.52 eps (0.44)``: a relative error, with the baseline's in brackets in the same unit."""
    in_steps = eps > 0 and value < _EPS_LIMIT * eps

    def one(number: float) -> str:
        if number == 0:
            return "0"
        if in_steps and number < 0.05 * eps:
            return "<0.1"
        return significant(number / eps, 2) if in_steps else f"{number:.1e}"

    text = "exact" if value == 0 else f"{one(value)} eps" if in_steps else one(value)
    return text if beside is None else f"{text} ({one(beside)})"


def metric(value: float) -> str:
    """A quality figure of a workload: three digits, no trailing zeros."""
    shown = significant(value) if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.2e}"
    if "." in shown and "e" not in shown:
        shown = shown.rstrip("0").rstrip(".")
    return shown
