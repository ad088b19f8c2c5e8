"""How benchmarks summarise their repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.record import Goal, median_interval, spread, three


def test_the_interval_of_seven_values_is_their_range():
    """Seven values: 1 - 2 / 2^7 = 98.4 %; leaving out the outermost two would leave 87.5 %."""
    low, high, confidence = median_interval([3.0, 1.0, 2.0, 7.0, 5.0, 4.0, 6.0])
    assert (low, high) == (1.0, 7.0)
    assert confidence == pytest.approx(1 - 2 / 128)


def test_the_interval_of_twelve_values_leaves_out_two_at_each_end():
    """Twelve values: P(X < 3) = (1 + 12 + 66) / 4096, so the third to the tenth hold the median with 96.1 %."""
    low, high, confidence = median_interval([float(n) for n in range(1, 13)])
    assert (low, high) == (3.0, 10.0)
    assert confidence == pytest.approx(1 - 2 * 79 / 4096)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_interval_lies_among_the_values_around_their_median(values):
    """It never reaches beyond the values and never misses the middle one."""
    low, high, confidence = median_interval(values)
    ordered = sorted(values)
    assert ordered[0] <= low <= ordered[(len(values) - 1) // 2] <= high <= ordered[-1]
    assert 0 <= confidence < 1


def test_a_goal_is_judged_by_the_median():
    """One slow repeat does not miss a goal; a slow half does."""
    assert Goal(what="x", limit=5, unit="ms", values=[1, 2, 90]).row()[-1] == "met"
    assert Goal(what="x", limit=5, unit="ms", values=[1, 8, 90]).row()[-1] == "**missed**"


def test_figures_have_three_digits_and_their_spread():
    """Short, and never in scientific notation."""
    assert [three(x) for x in (0, 0.001234, 1.0, 12.34, 123.4, 1234.5)] == [
        "0",
        "0.00123",
        "1.00",
        "12.3",
        "123",
        "1234",
    ]
    assert spread([3.0, 1.0, 2.0], "ms") == "2.00 ms (1.00 to 3.00), n = 3"
