"""What a wait was worth: worked examples by hand, and what must hold for any grid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.core.savings import Integral, Stay, saving
from tests.fakes import intensity

HOUR = 3600
START = 1_772_452_800


def grid(*values: float, kind: str = "actual") -> IntensitySeries:
    """Hours from START on; 500 otherwise."""
    slots = (
        IntensitySlot(
            start_s=START + i * HOUR,
            end_s=START + (i + 1) * HOUR,
            gco2e_per_kwh=v,
            low_gco2e_per_kwh=v,
            high_gco2e_per_kwh=v,
            kind=kind,
        )
        for i, v in enumerate(values)
    )
    return intensity(500, slots)


def stay(start_h: float, length_h: float, *, slack_h: float = 3, idle_w: float = 0.0) -> Stay:
    """Submitted at START."""
    return Stay(
        submitted_s=START,
        started_s=START + start_h * HOUR,
        ended_s=START + (start_h + length_h) * HOUR,
        latest_start_s=START + slack_h * HOUR,
        idle_w=idle_w,
    )


def test_the_documents_example_by_hand():
    """2 kWh at 420.5 would be 841 g, at 285.3 it is 570.6 g: 32.15 % saved."""
    found = saving(grid(420.5, 285.3, 300, 310, 320), stay(1, 1), energy_kwh=2)
    assert found.now_gco2e == pytest.approx(841)
    assert found.spent_gco2e == pytest.approx(570.6)
    assert found.saving_ratio == pytest.approx(0.32152, abs=1e-5)
    assert found.saving_oracle_ratio == pytest.approx(found.saving_ratio)
    assert (found.kind, found.signal) == ("actual", "average")


def test_a_saving_that_is_none_is_negative():
    """Waiting from 200 to 300 costs half as much again; the oracle would have started at once."""
    found = saving(grid(200, 300, 400, 400, 400), stay(1, 1), energy_kwh=1)
    assert found.saving_gco2e == pytest.approx(-100)
    assert found.saving_ratio == pytest.approx(-0.5)
    assert found.saving_oracle_ratio == 0


def test_idling_of_a_held_machine_counts():
    """An hour at 100 W and 400 g/kWh is 40 g, on top of 1 kWh at 300: 340 instead of 400."""
    found = saving(grid(400, 300, 400, 400, 400), stay(1, 1, idle_w=100), energy_kwh=1)
    assert found.spent_gco2e == pytest.approx(340)
    assert found.intensity_training_gco2e_per_kwh == pytest.approx(300)


def test_the_best_start_may_lie_within_a_slot():
    """An hour and a half fits best from 0:30 on: an hour at 100 and the half hour before it at 200."""
    found = saving(grid(200, 100, 400, 400, 400), stay(0, 1.5), energy_kwh=1)
    assert found.intensity_oracle_gco2e_per_kwh == pytest.approx((0.5 * 200 + 100) / 1.5)


def test_the_best_start_may_be_the_last_one():
    """Where the grid gets cleaner all along and the wait ends in mid-slot, its end is best: half of 300 and 200."""
    found = saving(grid(300, 200, 100, 50), stay(0, 1, slack_h=0.5), energy_kwh=1)
    assert found.intensity_oracle_gco2e_per_kwh == pytest.approx(250)


def test_the_weakest_kind_speaks_for_all():
    """Where only the annual figure covers the run, it says so."""
    assert saving(grid(kind="actual"), stay(1, 1), energy_kwh=1).kind == "static"
    assert saving(grid(200, 200, 200, 200, kind="forecast"), stay(1, 1), energy_kwh=1).kind == "forecast"
    assert saving(grid(200, 200), stay(0, 1, slack_h=3), energy_kwh=1).kind == "static"


def test_a_mean_is_weighted_by_time():
    """A quarter of an hour at 100 and three quarters at 300 make 250; beyond the slots the annual figure stands."""
    whole = Integral(grid(100, 300), START - HOUR, START + 3 * HOUR)
    assert whole.mean(START + 2700, START + 6300) == pytest.approx(250)
    assert whole.mean(START + HOUR, START + 3 * HOUR) == pytest.approx(400)
    assert whole.mean(START - HOUR, START + HOUR) == pytest.approx(300)
    assert whole.kinds == {"actual", "static"}
    assert Integral(grid(100, 300), START + 10, START + 20).kinds == {"actual"}


def test_a_run_that_ends_before_it_starts_is_refused():
    """Both orders of times are checked."""
    with pytest.raises(ValueError, match="submission <= start < end"):
        stay(1, -1)
    with pytest.raises(ValueError, match="submission <= start < end"):
        stay(-1, 1)


@given(
    st.lists(st.floats(0, 1000), min_size=6, max_size=12),
    st.floats(0, 3),
    st.floats(0.1, 3),
    st.floats(0, 200),
)
def test_nobody_beats_foresight(values, start_h, length_h, idle_w):
    """Neither the run as it was nor a start at any minute of its wait."""
    series = grid(*values)
    found = saving(series, stay(start_h, length_h, idle_w=idle_w), energy_kwh=1)
    assert found.oracle_gco2e <= min(found.now_gco2e, found.spent_gco2e) + 1e-9
    if idle_w == 0:
        for minute in range(0, 181, 7):
            begin_s = START + minute * 60
            mean = Integral(series, begin_s, begin_s + length_h * HOUR).mean(
                begin_s, begin_s + length_h * HOUR
            )
            assert found.intensity_oracle_gco2e_per_kwh <= mean + 1e-6
