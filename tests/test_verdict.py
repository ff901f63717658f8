from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from benchbench.verdict import MARGIN, decide

ratios = st.floats(0.01, 100.0)
intervals = st.tuples(ratios, ratios).map(sorted)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.90, 0.95, "faster"),
        (1.05, 1.10, "slower"),
        (0.99, 1.01, "same"),
        (0.95, 1.00, "inconclusive"),
        (1.00, 1.05, "inconclusive"),
        (0.50, 2.00, "inconclusive"),
        (1.01, 1.01, "same"),
    ],
)
def test_the_whole_interval_decides(low, high, word):
    assert decide(low, high) == word


@given(intervals, st.floats(0.0, 0.5))
def test_swapping_the_sides_swaps_the_verdict(interval, margin):
    low, high = interval
    opposite = {"faster": "slower", "slower": "faster"}
    word = decide(low, high, margin)
    edge = 1.0 + margin
    # 1/(1/x) is not x in floating point; only points on the very edge notice.
    for end in (low, high):
        if any(abs(end * e - 1) < 1e-12 or abs(end / e - 1) < 1e-12 for e in (edge,)):
            return
    assert decide(1 / high, 1 / low, margin) == opposite.get(word, word)


@given(intervals, st.floats(0.0, 0.5))
def test_a_narrower_interval_never_contradicts(interval, margin):
    low, high = interval
    word = decide(low, high, margin)
    middle = (low * high) ** 0.5
    middle = min(max(middle, low), high)
    inner = decide(middle, middle, margin)
    if word != "inconclusive":
        assert inner == word


@given(intervals, st.floats(0.0, 0.2), st.floats(0.0, 0.2))
def test_a_wider_margin_never_turns_same_into_a_difference(interval, one, other):
    low, high = interval
    narrow, wide = sorted((one, other))
    if decide(low, high, narrow) == "same":
        assert decide(low, high, wide) == "same"


@pytest.mark.parametrize(
    ("low", "high", "margin"), [(0.0, 1.0, 0.02), (2.0, 1.0, 0.02), (1.0, 1.0, -1)]
)
def test_nonsense_is_refused(low, high, margin):
    with pytest.raises(ValueError):
        decide(low, high, margin)


def test_the_default_margin_is_two_percent():
    assert MARGIN == 0.02
    assert decide(1.021, 1.03) == "slower"
    assert decide(1.0, 1.0199) == "same"
