"""The mock: the documents' day, a pure function, and noise that lasts as that of real grids does."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.grid.contract import Window
from mlflow_carbon.grid.diurnal import Diurnal, value

HOUR = 3600
YEAR = range(0, 365 * 24 * HOUR, HOUR)


@pytest.fixture(scope="module")
def year() -> list[float]:
    """A year of hours."""
    return [value(0, "GB", 1_767_225_600 + t) for t in YEAR]


def correlation(values: list[float], lag: int) -> float:
    """Correlation of a series with itself, moved."""
    return statistics.correlation(values[:-lag], values[lag:])


def test_the_peak_is_at_18_and_the_trough_at_3():
    """Of the mean day over many seeds, within an hour."""
    day = [statistics.fmean(value(seed, "GB", h * HOUR) for seed in range(400)) for h in range(24)]
    smooth = [sum(day[(h + d) % 24] for d in (-1, 0, 1)) for h in range(24)]
    assert abs(smooth.index(max(smooth)) - 18) <= 1
    assert abs(smooth.index(min(smooth)) - 3) <= 1


def test_the_anomaly_lasts(year):
    """Above 0.95 after an hour, 0.5 to 0.85 after a day: measured on real grids, so that waiting looks no better."""
    assert 0.95 < correlation(year, 1) < 0.9999
    assert 0.5 < correlation(year, 24) < 0.85
    assert 0.15 < statistics.pstdev(year) / statistics.fmean(year) < 0.35


@given(seed=st.integers(0, 10**9 - 1), t=st.integers(0, 4_000_000_000))
def test_it_is_a_pure_function(seed, t):
    """The same arguments give the same value, another seed another one; all are believable."""
    assert value(seed, "GB", t) == value(seed, "GB", t)
    assert 0 < value(seed, "GB", t) < 1500


def test_another_zone_and_another_seed_are_another_weather():
    """Each argument counts."""
    assert len({value(s, z, 10**9) for s in (0, 1) for z in ("GB", "DE")}) == 4


def test_slots_are_never_actual():
    """What has been is `estimated`, what comes is `forecast`; slots are half hours that overlap the window."""
    slots = Diurnal().slots("GB", Window(start_s=1_800_100, end_s=1_807_300), 1_803_700)
    assert [(s.start_s, s.kind) for s in slots] == [
        (1_800_000, "estimated"),
        (1_801_800, "estimated"),
        (1_803_600, "estimated"),
        (1_805_400, "forecast"),
        (1_807_200, "forecast"),
    ]
    assert Diurnal.name == "mock:diurnal"
