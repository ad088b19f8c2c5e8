"""Least squares of energy on phase times: powers, errors and lags, without keeping the readings."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.phase_fit import EDGES_US, SLICES, STRIDE, PowerFit, delays
from mlflow_carbon.core.phase_meter import slices


def test_a_delay_without_spread_is_a_step():
    """A lag of 5 ms reaches beyond all of the first two slices of 2.5 ms and nothing of the third."""
    (delay,) = [d for d in delays() if d.mean_s == 0.005 and set(d.weights) == {0.0, 1.0}]
    assert delay.weights[:4] == (1.0, 1.0, 1.0, 0.0)
    assert delay.blur_s == 0.0025


def test_the_mean_lag_of_a_spread_is_its_middle():
    """A lag anywhere from 0 to 100 ms is 50 ms on average; its likelihood falls in a straight line."""
    delay = next(
        d for d in delays() if d.weights[-1] == 0 and d.mean_s == pytest.approx(0.05) and d.weights[1] < 1
    )
    assert all(a >= b for a, b in zip(delay.weights, delay.weights[1:], strict=False))
    assert all(0 <= w <= 1 for d in delays() for w in d.weights)


def test_two_readings_of_two_phases_by_hand():
    """1 s of a and 2 s of b are 500 J, 3 s and 1 s are 600 J: 140 W and 180 W; repeated, so that it can be told."""
    fit = PowerFit()
    for number in range(20):
        times = ((1.0, 2.0, 500.0), (3.0, 1.0, 600.0))[number % 2]
        fit.add([(0, times[0]), (STRIDE, times[1])], times[2])
    found = fit.solve(2)
    assert found is not None
    assert found.powers_w == pytest.approx((140, 180))
    assert max(found.errors_w) < 0.01


def test_too_few_readings_say_nothing():
    """Eleven readings of two phases are not enough, twelve are."""
    fit = PowerFit()
    for number in range(12):
        assert fit.solve(2) is None
        fit.add([(0, 1.0 + number % 3), (STRIDE, 1.0)], 100.0)
    assert fit.solve(2) is not None


def test_no_power_is_negative():
    """Energy that falls with the time of a phase: its power is 0 W at least, and the other's what is left."""
    fit = PowerFit()
    for number in range(30):
        fit.add([(0, 1.0), (STRIDE, 0.1 * (number % 5))], 100.0 - 10 * (number % 5))
    found = fit.solve(2)
    assert found is not None
    assert found.powers_w[1] == 0
    assert found.powers_w[0] == pytest.approx(80)


def test_the_halves_widen_the_error_where_they_disagree():
    """Power that changes with every block of eight readings: each half fits well, and neither speaks for the other."""
    errors = []
    for change_w in (0.0, 50.0):
        fit, random = PowerFit(), Random(1)
        for number in range(64):
            part = random.random()
            power_w = 200 + (change_w if number // 8 % 2 else -change_w)
            fit.add([(0, part), (STRIDE, 1 - part)], power_w * part + 100 * (1 - part) + random.gauss(0, 0.1))
        found = fit.solve(2)
        assert found is not None
        errors.append(found.errors_w[0])
    assert errors[0] < 1
    assert errors[1] >= 49


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200_000), st.integers(0, 199_999)), max_size=6))
def test_slices_hold_every_microsecond(stays):
    """Of each phase as much as its stays had, and of none what they leave of each slice."""
    stays = [(phase, max(a, b + 1), b) for phase, a, b in stays]
    found = slices(stays)
    for phase in (1, 2, 3):
        had = sum(older - newer for index, older, newer in stays if index == phase)
        assert sum(found.get(phase * STRIDE + 1 + i, 0) for i in range(SLICES)) == had
    for i in range(SLICES):
        assert (
            sum(found.get(phase * STRIDE + 1 + i, 0) for phase in range(4)) >= EDGES_US[i + 1] - EDGES_US[i]
        )
