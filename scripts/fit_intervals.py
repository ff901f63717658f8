"""Fit the tables of csrc/cpu/interval_tables.h: functions as short polynomials on 32 intervals.

    python scripts/fit_intervals.py            print the header
    python scripts/fit_intervals.py --check    what the fits leave of error, interval by interval

A table covers 0 <= x < ``limit``. The interval of x is read from the upper bits of u = 1 + x scale,
which runs from 1 to 16: four binades of eight intervals each, as wide as the functions allow, which
are steep near 0 and flat far out. Coefficients are weighted least squares, iterated towards the
least largest error (Lawson's algorithm), and rounded to float one after the other, each fit of the
rest knowing what the rounding before it left. Needs numpy and mpmath, which torch brings along.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import mpmath
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FIRST = 0x3F8
"""The bits of u = 1 that choose an interval: its exponent and three of its fraction."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One function and how it is fitted."""

    name: str
    says: str
    function: Callable[[mpmath.mpf], mpmath.mpf]
    centred: bool
    """Whether the polynomial is around a middle of the interval, or around 0 throughout."""
    exact: bool = False
    """For tanh: the middle is a place where value and slope are floats almost exactly (Gal,
    Computing Elementary Functions: A New Approach for Achieving High Accuracy and Good
    Performance, 1986), so that a sum of these two terms can be kept without a rounding error."""
    limit: float
    degree: int

    @property
    def scale(self) -> np.float32:
        """u never reaches 16."""
        return np.float32(15 / self.limit * (1 - 2e-7))

    def edges(self) -> list[float]:
        """Where the intervals begin, and where the last one ends."""
        steps = [2.0 ** (k // 8) * (1 + k % 8 / 8) for k in range(33)]
        return [(u - 1) / float(self.scale) for u in steps]


def step(y: Array) -> Array:
    """What one unit in the last place of a float is worth at ``y``."""
    return np.asarray(np.exp2(np.floor(np.log2(np.abs(y))) - 23))


def least(basis: Array, target: Array, weight: Array) -> Array:
    """Coefficients whose largest weighted error is about the least."""
    w = np.ones(len(target))
    best, found = np.inf, np.zeros(basis.shape[1])
    for _ in range(60):
        root = np.sqrt(w) * weight
        c, *_ = np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)
        error = np.abs((basis @ c - target) * weight)
        if error.max() < best:
            best, found = error.max(), c
        if error.max() == 0:
            break
        w = w * (error / error.max() + 1e-3)
        w /= w.sum()
    return found


def middle(table: Table, low: float, high: float) -> tuple[float, list[float]]:
    """The middle of an interval, and the coefficients that are fixed by it."""
    centre = np.float32((low + high) / 2)
    if not table.exact:
        return float(centre) if table.centred else 0.0, []
    if low == 0:  # an odd function of slope 1
        return 0.0, [0.0, 1.0]
    # Far out the function hardly moves, and the next float that it meets is further off.
    share = 0.02 if high < table.limit * 0.99 else 0.1
    span = int((high - low) * share / float(np.spacing(centre)))
    near = (np.arange(-span, span + 1) + int(centre.view(np.int32))).astype(np.int32)
    x = near.view(np.float32)
    y = np.tanh(x.astype(np.float64))
    d = (1 - y) * (1 + y)
    lost = np.abs(y - y.astype(np.float32)) + np.abs(d - d.astype(np.float32)) * (high - low) / 2
    best = int((lost / step(y)).argmin())
    return float(x[best]), [float(np.float32(y[best])), float(np.float32(d[best]))]


def fit(table: Table) -> tuple[list[list[float]], list[float]]:
    """For each interval middle and coefficients, and the largest error in steps of a float."""
    rows, errors = [], []
    edges = table.edges()
    for k in range(32):
        low, high = edges[k], edges[k + 1]
        centre, fixed = middle(table, low, high)
        if not table.exact and low == 0 and table.function(mpmath.mpf(0)) == 0:
            fixed = [0.0]  # or the relative error at 0 is infinite
        margin = 1e-6 * (high - low) + 1e-6  # u is rounded
        nodes = np.cos(np.linspace(0, np.pi, 400)) * ((high - low) / 2 + margin)
        x = np.maximum((low + high) / 2 + nodes, 1e-5 * high)
        t = x - centre
        exact = [table.function(mpmath.mpf(v)) for v in x]
        weight = 1 / step(np.array([float(v) for v in exact]))
        around = [mpmath.mpf(v) - mpmath.mpf(centre) for v in x]
        known = [sum(c * v**n for n, c in enumerate(fixed)) for v in around]
        left = np.array([float(a - b) for a, b in zip(exact, known, strict=True)])
        unit = np.abs(t).max()
        coefficients = list(fixed)
        for n in range(len(fixed), table.degree + 1):
            basis = np.stack([(t / unit) ** j for j in range(n, table.degree + 1)], axis=1)
            c = float(np.float32(least(basis, left, weight)[0] / unit**n))
            coefficients.append(c)
            left = left - c * t**n
        errors.append(float(np.abs(left * weight).max()))
        rows.append([*([centre] if table.centred else []), *coefficients])
    return rows, errors


def tail(x: mpmath.mpf) -> mpmath.mpf:
    """Upper tail of the standard normal distribution over e^(-x^2/2)."""
    return mpmath.erfc(x / mpmath.sqrt(2)) * mpmath.exp(x * x / 2) / 2


TABLES = (
    Table(
        name="TANH",
        says="tanh, around middles where it and its slope are floats",
        function=mpmath.tanh,
        centred=True,
        exact=True,
        limit=9.02,
        degree=6,
    ),
    Table(
        name="SHORT_TANH",
        says="tanh for 16-bit results",
        function=mpmath.tanh,
        centred=False,
        limit=5.0,
        degree=3,
    ),
    Table(
        name="SHORT_NORMAL_TAIL",
        says="the normal distribution's upper tail over e^(-x^2/2), for 16-bit results",
        function=tail,
        centred=False,
        limit=14.51,
        degree=3,
    ),
)

HEAD = """\
// Functions as polynomials on 32 intervals; made by scripts/fit_intervals.py, which says how.
// A row is one coefficient of all intervals, in the order in which their numbers' low bits count.
#pragma once

namespace benchbench {
namespace {
"""


def header() -> str:
    """The text of csrc/cpu/interval_tables.h."""
    parts = [HEAD]
    for table in TABLES:
        rows, _ = fit(table)
        places = np.array(rows, dtype=np.float32).T
        turned = np.roll(places, FIRST % 32, axis=1)
        names = [*(["middle"] if table.centred else []), *map(str, range(table.degree + 1))]
        parts.append(f"// {table.says}: {', '.join(names)}")
        parts.append(f"constexpr float {table.name}_SCALE = {float(table.scale).hex()}f;")
        parts.append(f"constexpr float {table.name}_LIMIT = {table.limit}f;")
        parts.append(f"alignas(64) constexpr float {table.name}[{len(names)}][32] = {{")
        for row in turned:
            words = [f"{float(value).hex()}f".replace("0x0.0p+0", "0.0") for value in row]
            lines = [", ".join(words[at : at + 4]) for at in range(0, 32, 4)]
            parts.append("    {" + ",\n     ".join(lines) + "},")
        parts.append("};\n")
    return "\n".join([*parts, "}  // namespace", "}  // namespace benchbench", ""])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="Print errors, in steps of a float.")
    if not parser.parse_args().check:
        print(header(), end="")
        return
    for table in TABLES:
        _, errors = fit(table)
        print(f"{table.name:<20} largest {max(errors):.5f}:", *(f"{e:.5f}" for e in errors))


if __name__ == "__main__":
    main()
