"""From power by kind of station to an intensity: what is left out of it."""

from __future__ import annotations

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import mix

FACTORS = {"coal": 800.0, "wind": 10.0}


def answer(*rows: mix.Row, slots_s: tuple[int, int] = (3600, 3600)):
    """Start and value of each slot; one row an hour."""
    found = mix.answer(
        {3600 * i: row for i, row in enumerate(rows)}, FACTORS, name="me", place="DE", slots_s=slots_s
    )
    return [(s.start_s, s.gco2e_per_kwh) for s in found.slots]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5.0),
        (-5, 0.0),
        (0, 0.0),
        (1e6, None),
        (float("nan"), None),
        (True, None),
        ("5", None),
        (None, None),
    ],
)
def test_power_is_a_number_of_megawatts(value, expected):
    """What a station takes at night is nothing; what is no number, or a terawatt, is not reported."""
    assert mix.power(value) == expected


def test_a_spike_is_left_out_and_a_rise_is_not():
    """Usual are 200 MW: 600 is thrice that and stays, 601 goes, however clean it looks."""
    usual: mix.Row = {"coal": 100.0, "wind": 100.0}
    assert answer(usual, usual, usual, {"coal": 100.0, "wind": 500.0})[-1] == (10_800, 141.66666666666666)
    assert len(answer(usual, usual, usual, {"coal": 100.0, "wind": 501.0})) == 3


def test_a_row_without_anything_is_no_clean_one():
    """Zero generation is a missing report."""
    assert answer({"coal": 1.0, "wind": 0.0}, {"coal": 0.0, "wind": 0.0}) == [(0, 800.0)]


def test_a_kind_that_makes_little_may_be_missing():
    """Below a twentieth of a usual hour it does not matter much; above, the hour goes."""
    full: mix.Row = {"coal": 97.0, "wind": 3.0}
    assert len(answer(full, {"coal": 97.0, "wind": None})) == 2
    assert len(answer(full, {"coal": None, "wind": 3.0})) == 1


def test_a_row_is_cut_into_slots():
    """An hour into two halves of the same value."""
    assert answer({"wind": 5.0}, slots_s=(3600, 1800)) == [(0, 10.0), (1800, 10.0)]


def test_no_row_is_a_grid_error():
    """The message says what is missing."""
    with pytest.raises(GridError, match="me: expected the generation of DE by kind"):
        answer()
