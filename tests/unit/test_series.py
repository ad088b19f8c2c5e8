"""The values between sensors and footprints refuse what cannot be."""

from __future__ import annotations

import math

import pytest

from mlflow_carbon.core.series import Case, Cell, Component, EnergySeries, Interval, Sample
from tests.fakes import channel


@pytest.mark.parametrize(
    ("low", "high"), [(-0.1, 1.1), (1.1, 1.2), (0.9, 0.99), (math.nan, 1.1), (0.9, math.nan), (0.9, math.inf)]
)
def test_a_range_that_does_not_hold_the_value_is_refused(low, high):
    """The 95 % range is finite, not negative and holds the value itself."""
    with pytest.raises(ValueError, match="expected 0 <= low_ratio <= 1 <= high_ratio, got"):
        channel(low_ratio=low, high_ratio=high)


@pytest.mark.parametrize("range_uj", [0, -1])
def test_a_counter_cannot_wrap_at_nothing(range_uj):
    """The range of a counter is above 0."""
    with pytest.raises(ValueError, match=f"expected range_uj > 0, got {range_uj}"):
        channel(range_uj=range_uj)


@pytest.mark.parametrize("power_max_w", [0.0, -5.0, math.nan, math.inf])
def test_a_ceiling_of_power_is_a_positive_number(power_max_w):
    """A NaN would let every reading pass, and a 0 none."""
    with pytest.raises(ValueError, match="expected power_max_w > 0"):
        channel(power_max_w=power_max_w)


@pytest.mark.parametrize("field", ["energy_uj", "power_mw", "util_ppm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1.5, "1"])
def test_a_reading_is_a_whole_number_of_at_least_zero(field, value):
    """NaN, infinity, negative values and fractions never enter a sum."""
    with pytest.raises(ValueError, match="reading of fake:cpu: expected whole numbers of at least 0, got"):
        Sample(channel="fake:cpu", t_mono_ns=0, **{field: value})


def test_a_reading_without_a_value_is_allowed():
    """A failed read has an error, and a model has no power before its second reading."""
    assert Sample(channel="fake:cpu", t_mono_ns=0, error="cable pulled").energy_uj is None


def test_an_interval_does_not_run_backwards():
    """Its end is not before its start."""
    with pytest.raises(ValueError, match=r"interval of a: expected end >= start, got 2\.\.1"):
        Interval(channel="a", start_ns=2, end_ns=1, energy_uj=0, case=Case.NORMAL)


def test_an_interval_holds_no_negative_energy():
    """A counter that fell is a wrap or a reset, never energy given back."""
    with pytest.raises(ValueError, match="interval of a: expected energy >= 0, got -1 uJ"):
        Interval(channel="a", start_ns=1, end_ns=2, energy_uj=-1, case=Case.NORMAL)


def test_a_whole_machine_meter_is_no_part_of_the_total():
    """CPU 3 + GPU 4 = 7, whatever the wall socket says; it has its own figure."""
    series = EnergySeries(
        channels=(
            channel(id="cpu"),
            channel(id="gpu", component=Component.GPU),
            channel(id="wall", component=Component.NODE),
        ),
        duration_ns=1,
        cells=tuple(
            Cell(channel=c, bucket_s=0, energy_uj=e) for c, e in (("cpu", 3), ("gpu", 4), ("wall", 9))
        ),
        covered_ns={},
        cases={},
    )
    assert series.energy_uj() == 7
    assert series.energy_uj(Component.GPU) == 4
    assert series.energy_uj(Component.NODE) == 9
    assert [c.id for c in series.parts()] == ["cpu", "gpu"]
