"""Forecasters: what they know, worked examples, and that none sees the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.core.forecast import forecast, static
from mlflow_carbon.core.forecasters import FORECASTERS
from mlflow_carbon.core.history import Archive, History, PublishedForecast
from mlflow_carbon.core.nowcast import CORRECTION_H, provider, published
from mlflow_carbon.core.paths import ANOMALY_H, Track, climatology, persistence, profile
from mlflow_carbon.core.ridge import blend, ridge
from tests.grids import START_S, wave

H = 3600


def daily_archive(track: Track, *, bias: float = 0.0, length: int = 48) -> Archive:
    """A forecast at each midnight: what came, plus a bias."""
    issues = range(0, len(track.values) - length + 24, 24)
    made = [
        PublishedForecast(
            issued_s=track.start_s + i * H,
            start_s=track.start_s + i * H,
            step_s=H,
            values=tuple((track.values[i : i + length] + bias).tolist()),
        )
        for i in issues
    ]
    return Archive(forecasts=tuple(made))


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_forecast_begins_with_the_present_and_covers_every_slot(name) -> None:
    """One row per slot, the present first, finite and never negative."""
    track = wave(40)
    paths = FORECASTERS[name](track, 30)
    assert paths.shape == (40 * 24, 30)
    assert paths[:, 0] == pytest.approx(track.values)
    assert np.isfinite(paths).all()
    assert (paths >= 0).all()


@pytest.mark.parametrize("name", FORECASTERS)
@given(at=st.integers(24, 59 * 24), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_no_forecast_sees_a_later_value(name, at, seed) -> None:
    """Other values after a slot change no forecast made in it or before."""
    track = replace(wave(60), archive=daily_archive(wave(60)))
    values = track.values.copy()
    values[at + 1 :] = np.random.default_rng(seed).uniform(0, 900, len(values) - at - 1)
    changed = replace(track, values=values)
    before, after = FORECASTERS[name](track, 26), FORECASTERS[name](changed, 26)
    # Not pytest.approx: one object for each of 37 000 elements takes ten seconds in a full suite.
    np.testing.assert_allclose(after[: at + 1], before[: at + 1], rtol=1e-9, atol=1e-6)


def test_no_forecast_sees_a_later_issue() -> None:
    """Forecasts issued after a slot change nothing in it."""
    track = wave(40)
    archive = daily_archive(track)
    at = 30 * 24 - 1
    fewer = Archive(forecasts=tuple(f for f in archive.forecasts if f.issued_s <= START_S + at * H))
    rows = [provider(replace(track, archive=a), 26)[: at + 1] for a in (archive, fewer)]
    np.testing.assert_allclose(*rows, rtol=1e-9)


def test_persistence_is_the_same_time_of_the_last_day() -> None:
    """In slot 30 one hour ahead is slot 7, 24 h ahead slot 30, 25 h ahead slot 7 again."""
    track = Track(values=np.arange(48.0), start_s=START_S, step_s=H)
    assert persistence(track, 26)[30, [0, 1, 24, 25]] == pytest.approx([30, 7, 30, 7])


def test_the_profile_is_the_mean_plus_a_decaying_anomaly() -> None:
    """Two days of 100 and a third of 130: an hour ahead 100 + 30 exp(-1/24), 12 h ahead 100 + 30 exp(-1/2)."""
    track = Track(values=np.r_[np.full(48, 100.0), 130.0], start_s=START_S, step_s=H)
    found = profile(track, 13)[-1]
    assert found[[0, 1, 12]] == pytest.approx(
        [130, 100 + 30 * np.exp(-1 / ANOMALY_H), 100 + 30 * np.exp(-0.5)]
    )


def test_climatology_finds_a_typical_day_in_one_day_of_values() -> None:
    """A day with its trough at noon and its peak at 20 h is forecast to have its trough at noon again."""
    track = wave(3, weather=0.0)
    hours = track.hour()
    solar = 300 + 100 * np.where((hours > 8) & (hours < 16), -1.0, 0.3)
    found = climatology(replace(track, values=solar), 25)[-1]
    assert 10 <= (int(np.argmin(found)) + 23) % 24 <= 14


def test_learning_beats_the_profile_where_there_is_something_to_learn() -> None:
    """Where weather goes round in 40 h ridge and blend err less than the profile, and all less than persistence."""
    track = wave(200, weather=10)
    turns = 40 * np.sin(np.arange(len(track.values)) * 2 * np.pi / 40)
    track = replace(track, values=track.values + turns)
    came = np.lib.stride_tricks.sliding_window_view(track.values, 25)
    rows = slice(100 * 24, len(came))
    makers = (ridge, blend, profile, persistence)
    errors = [float(((f(track, 25)[: len(came)] - came)[rows, 1:13] ** 2).mean()) for f in makers]
    assert errors[0] < errors[2] < errors[3]
    assert errors[1] < errors[2]


def test_slots_of_half_an_hour_and_of_three_hours_work() -> None:
    """Horizons and lags follow the slot length."""
    for step_s in (1800, 3 * H):
        track = wave(60, step_s=step_s)
        assert np.isfinite(blend(track, 20)).all()


def test_a_published_forecast_is_corrected_by_the_present() -> None:
    """With one issue only nothing is learned: F(h) + (A - F(0)) exp(-h / tau)."""
    track = wave(10)
    made = tuple((track.values[-1] - 20.0) + np.zeros(48))
    one = PublishedForecast(
        issued_s=track.start_s + 239 * H, start_s=track.start_s + 239 * H, step_s=H, values=made
    )
    found = provider(replace(track, archive=Archive(forecasts=(one,))), 25)[-1]
    assert found[6] == pytest.approx(made[6] + 20 * np.exp(-6 / CORRECTION_H))


def test_past_its_end_our_own_forecast_goes_on() -> None:
    """Four published hours of ten: from the fifth on the blend, drawn to the last published value."""
    track = wave(30)
    at = len(track.values) - 1
    one = PublishedForecast(
        issued_s=START_S + at * H, start_s=START_S + at * H, step_s=H, values=(500.0,) * 4
    )
    given = replace(track, archive=Archive(forecasts=(one,)))
    own, found = blend(track, 60)[-1], provider(given, 60)[-1]
    assert np.isfinite(published(given, 60)[-1]).sum() == 4
    assert abs(found[59] - own[59]) < 0.02 * abs(found[3] - own[3])


def test_a_constant_bias_is_learned() -> None:
    """A forecast that is always 50 too high is soon corrected over its whole length."""
    track = wave(80)
    found = provider(replace(track, archive=daily_archive(track, bias=50.0)), 20)
    rows = slice(60 * 24, 78 * 24)
    came = np.lib.stride_tricks.sliding_window_view(track.values, 20)[rows]
    assert np.abs(found[rows][:, 12] - came[:, 12]).mean() < 15


def history(track: Track) -> History:
    """The track as a history."""
    return History(
        start_s=track.start_s, step_s=track.step_s, values=tuple(track.values.tolist()), source="t"
    )


def test_the_default_forecaster_follows_the_history() -> None:
    """A day: a typical day; a week: the profile; three weeks: the blend; a published forecast: that one."""
    names = [forecast(history(wave(d)), horizon_s=6 * H).source for d in (1, 8, 30)]
    assert names == [f"our forecast ({n}) from the past of t" for n in ("climatology", "profile", "blend")]
    track = wave(30)
    archive = daily_archive(track)
    assert forecast(history(track), horizon_s=6 * H, archive=archive).source.startswith("forecast of t")


def test_a_forecast_says_how_far_it_has_been_off() -> None:
    """The deviation is nothing for the present, grows with the distance and is of the size of the errors."""
    made = forecast(history(wave(100)), horizon_s=24 * H, name="profile")
    assert made.sd[0] == pytest.approx(0, abs=1e-9)
    assert made.sd[1] < made.sd[12] < 60


def test_a_forecast_says_what_was_filled_in_and_where_it_ends() -> None:
    """Missing slots and the end of a published forecast are in the note."""
    track = wave(30)
    values = list(track.values.tolist())
    values[5] = None
    archive = daily_archive(track)
    made = forecast(
        History(start_s=START_S, step_s=H, values=tuple(values)), horizon_s=96 * H, archive=archive
    )
    assert "1 missing slots" in made.note
    assert "ends" in made.note


def test_bad_input_is_refused() -> None:
    """Unknown forecasters and archives of another slot length say what was expected."""
    with pytest.raises(ValueError, match="expected one of persistence"):
        forecast(history(wave(2)), horizon_s=H, name="crystal ball")
    with pytest.raises(ValueError, match="slots of 1800 s"):
        forecast(history(wave(5, step_s=1800)), horizon_s=H, archive=daily_archive(wave(5)))


def test_a_static_figure_repeats() -> None:
    """It has no deviation and is labelled."""
    made = static(200, start_s=0, step_s=H, slots=3, source="table")
    assert (made.values, made.kind, made.end_s) == ((200, 200, 200), "static", 3 * H)
