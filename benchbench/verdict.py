"""Faster, slower, same, or inconclusive: what an interval says about a margin."""

from __future__ import annotations

from typing import Literal

Word = Literal["faster", "slower", "same", "inconclusive"]

MARGIN = 0.02
"""Differences below 2 % are called the same: the placement of code and data alone makes them."""


def decide(low: float, high: float, margin: float = MARGIN) -> Word:
    """The verdict on a ratio of times (contender over baseline) with the interval ``[low, high]``.

    *faster* or *slower* when the whole interval lies beyond the margin, *same* when it lies within,
    otherwise *inconclusive*. The margin is symmetric in the logarithm: ``1 + margin`` and its
    reciprocal, so that swapping the two sides swaps the verdict.

    Raises:
        ValueError: the interval is empty or not of positive numbers, or the margin is negative.
    """
    if not 0 < low <= high:
        raise ValueError(f"[{low}, {high}] is no interval of a ratio")
    if margin < 0:
        raise ValueError(f"the margin must not be negative, it is {margin}")
    upper = 1.0 + margin
    lower = 1.0 / upper
    if high < lower:
        return "faster"
    if low > upper:
        return "slower"
    if low >= lower and high <= upper:
        return "same"
    return "inconclusive"
