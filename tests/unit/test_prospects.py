"""From what a source says to a forecast: its own where there is one, ours where not, a static one else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.core.outlook import continued
from mlflow_carbon.core.prospects import forecasted, prospects
from tests.fakes import intensity
from tests.grids import START_S, wave

HOUR = 3600


def slots(
    values: list[float], *, start_s: int = START_S, step_s: int = HOUR, kind: str = "actual", sd: float = 0.0
):
    """Slots of a source."""
    return [
        IntensitySlot(
            start_s=start_s + i * step_s,
            end_s=start_s + (i + 1) * step_s,
            gco2e_per_kwh=v,
            low_gco2e_per_kwh=max(0.0, v - 1.96 * sd),
            high_gco2e_per_kwh=v + 1.96 * sd,
            kind=kind,
        )
        for i, v in enumerate(values)
    ]


def source(days: int, ahead: list[float], *, sd: float = 0.0) -> tuple[IntensitySeries, float]:
    """A made-up grid of so many days, with a forecast of the source; and the time now, ten minutes into a slot."""
    past = [float(v) for v in wave(days).values]
    now_s = START_S + (len(past) - 1) * HOUR + 600
    coming = slots(ahead, start_s=START_S + len(past) * HOUR, kind="forecast", sd=sd)
    return intensity(slots=[*slots(past), *coming]), now_s


def test_the_forecast_begins_with_the_present_slot_and_reaches_over_the_horizon():
    """24 hours from 0:10 past the hour on end in the 25th slot."""
    series, now_s = source(30, [])
    found = prospects(series, now_s=now_s, horizon_s=24 * HOUR).forecast
    assert found.start_s == now_s - 600
    assert found.values[0] == pytest.approx(series.at(now_s).gco2e_per_kwh)
    assert found.end_s >= now_s + 24 * HOUR
    assert "blend" in found.source


@pytest.mark.parametrize("days", [2, 30])
def test_a_run_of_a_year_is_planned_in_days(days, recwarn):
    """Two hundred slots do not reach over it, and no slot is longer than a day; numpy does not complain."""
    series, now_s = source(days, [])
    found = prospects(series, now_s=now_s, horizon_s=366 * 24 * HOUR).forecast
    assert found.step_s == 24 * HOUR
    assert found.end_s >= now_s + 366 * 24 * HOUR
    assert not recwarn


def test_the_source_s_own_forecast_is_taken_with_its_range():
    """Where it ends, ours goes on, and the note says so."""
    ahead = [300.0 - i for i in range(12)]
    series, now_s = source(30, ahead, sd=7.0)
    found = prospects(series, now_s=now_s, horizon_s=24 * HOUR).forecast
    assert found.source.startswith("forecast of fake")
    assert list(found.values[1:13]) == pytest.approx(ahead)
    assert list(found.sd[1:13]) == pytest.approx([7.0] * 12)
    assert "ends" in found.note


def test_a_gap_up_to_now_is_filled_and_said():
    """A source that lags by hours: the present is not known, and the history ends with it all the same."""
    past = slots([float(v) for v in wave(30).values])
    now_s = past[-1].end_s + 2 * HOUR
    carried = [replace(s, source="own history") for s in slots([250.0] * 3, start_s=past[-1].end_s)]
    found = prospects(intensity(slots=[*past, *carried]), now_s=now_s, horizon_s=6 * HOUR)
    assert found.forecast.start_s == now_s
    assert "3 missing slots" in found.forecast.note


def test_very_many_slots_are_brought_together():
    """A month of five minutes is planned in quarters of an hour: three slots of 100, 200 and 300 are one of 200."""
    fine = slots([100.0, 200.0, 300.0] * 96 * 30, step_s=300)
    found = prospects(intensity(slots=fine), now_s=fine[-1].start_s - 100, horizon_s=48 * HOUR)
    assert found.history is not None
    assert found.history.step_s == 900
    assert found.history.values[:-1] == (200.0,) * (len(found.history.values) - 1)
    assert found.history.values[-1] == 150  # of the present one two thirds have begun


def test_a_few_short_slots_stay_as_they_are():
    """Ten minutes of a demonstration are not blurred."""
    found = prospects(intensity(slots=slots([420.5, 285.3], step_s=600)), now_s=START_S + 700, horizon_s=HOUR)
    assert (found.forecast.step_s, found.forecast.values[0]) == (600, 285.3)


def test_without_live_figures_it_is_static_with_the_range_of_the_figure():
    """From 160 to 240 around 200: one standard deviation is 20.4."""
    found = prospects(intensity(200), now_s=START_S + 10, horizon_s=6 * HOUR)
    assert (found.forecast.kind, found.history) == ("static", None)
    assert found.forecast.end_s >= START_S + 10 + 6 * HOUR
    assert found.forecast.sd[0] == pytest.approx(40 / 1.96)
    assert "annual figure" in found.forecast.source


def test_figures_that_have_ended_are_not_planned_with():
    """A day after the last slot nothing is known of the present any more."""
    said = intensity(slots=slots([float(v) for v in wave(3).values]))
    assert prospects(said, now_s=START_S + 4 * 86_400, horizon_s=HOUR).forecast.kind == "static"


def test_a_source_that_knows_only_what_comes_can_be_planned_with():
    """Its first word stands for the present."""
    series = intensity(slots=slots([150.0, 120.0, 180.0], start_s=START_S + HOUR, kind="forecast"))
    found = prospects(series, now_s=START_S + 60, horizon_s=2 * HOUR).forecast
    assert found.values[:3] == pytest.approx((150, 150, 120))


def test_what_the_source_did_not_say_is_no_history():
    """Slots that the chain has carried on itself do not teach a forecaster."""
    past = slots([float(v) for v in wave(30).values])
    guess = IntensitySlot(
        start_s=past[-1].end_s,
        end_s=past[-1].end_s + HOUR,
        gco2e_per_kwh=999,
        low_gco2e_per_kwh=999,
        high_gco2e_per_kwh=999,
        kind="estimated",
        source="own history",
    )
    found = prospects(intensity(slots=[*past, guess]), now_s=guess.start_s, horizon_s=HOUR)
    assert found.history is not None
    assert found.history.values[-1] is None
    assert found.forecast.values[0] < 500


def test_the_outlook_of_the_grid_command_is_the_forecast_of_plans():
    """Beyond what is known it says what a plan would be made with, with its own name and range."""
    known = {s.start_s: s for s in slots([float(v) for v in wave(30).values])}
    now_s = max(known) + 600
    wanted = range(max(known) - 5 * HOUR, max(known) + 25 * HOUR, HOUR)
    found = {s.start_s: s for s in forecasted(known, [t for t in wanted if t not in known], now_s)}
    planned = prospects(intensity(slots=known.values()), now_s=now_s, horizon_s=24 * HOUR).forecast
    assert [found[t].gco2e_per_kwh for t in sorted(found)] == pytest.approx(list(planned.values[1:25]))
    assert all(s.kind == "forecast" and "blend" in s.source for s in found.values())
    assert found[max(found)].high_gco2e_per_kwh > found[max(found)].gco2e_per_kwh


def test_of_a_few_hours_the_outlook_is_the_plain_one():
    """Less than a day has no shape; a gap between known slots is bridged as everywhere."""
    known = {s.start_s: s for s in slots([200.0, 210.0, 220.0])}
    del known[START_S + HOUR]
    wanted = [START_S + HOUR, START_S + 3 * HOUR]
    found = forecasted(known, wanted, START_S + 2 * HOUR)
    assert found == continued(known, wanted, START_S + 2 * HOUR)
    assert found[0].gco2e_per_kwh == 210
    assert forecasted({}, [START_S], START_S) == ()
