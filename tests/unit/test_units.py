"""Units: the few numbers everything else rests on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core import units


def test_a_kilowatt_hour_is_three_point_six_megajoules():
    """1 kW x 3600 s = 3 600 000 J = 3.6e12 uJ = 1 kWh."""
    assert units.J_PER_KWH == 1000 * 3600
    assert units.UJ_PER_KWH == 3_600_000_000_000
    assert units.uj_to_kwh(3_600_000_000_000) == 1.0
    assert units.j_to_kwh(1_800_000) == 0.5
    assert units.uj_to_j(2_500_000) == 2.5


def test_a_watt_for_a_second_is_a_joule():
    """1000 mW x 1e9 ns = 1 J = 1 000 000 uJ."""
    assert units.energy_uj(1000, 1_000_000_000) == 1_000_000


def test_energy_is_rounded_to_the_nearest_microjoule():
    """1 mW for 1.6 ms is 1.6 uJ, and 2 is the nearest whole one."""
    assert units.energy_uj(1, 1_600_000) == 2


def test_mean_power_undoes_energy():
    """250 J in 2.5 s are 100 W."""
    assert units.mean_power_w(250_000_000, 2_500_000_000) == 100.0


@pytest.mark.parametrize("duration_ns", [0, -1])
def test_no_time_has_no_power(duration_ns):
    """Without a duration the mean power is 0, not a division by zero."""
    assert units.mean_power_w(1_000_000, duration_ns) == 0.0


@pytest.mark.parametrize("power_mw", [math.nan, math.inf])
def test_energy_of_a_power_that_is_no_number_is_refused(power_mw):
    """A whole number of microjoules cannot be made from NaN or infinity."""
    with pytest.raises((ValueError, OverflowError)):
        units.energy_uj(power_mw, 1_000_000_000)


@given(st.integers(0, 2_000_000), st.integers(1, 3600 * 10**9))
def test_power_survives_the_way_to_energy_and_back(power_mw, duration_ns):
    """Half a microjoule of rounding is all that is lost."""
    back_w = units.mean_power_w(units.energy_uj(power_mw, duration_ns), duration_ns)
    assert back_w == pytest.approx(power_mw / 1000, abs=0.5 * 1000 / duration_ns, rel=1e-12)
