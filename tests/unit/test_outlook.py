"""What is said where nobody has said anything: bridged, carried on, and never without a label."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.core.outlook import continued
from mlflow_carbon.core.outlook import given as said_by
from tests.fakes import intensity

HOUR, DAY = 3600, 86_400
START = 1_772_409_600  # 2026-03-02T00:00Z


def known(values: dict[int, float]) -> dict[int, IntensitySlot]:
    """Hours from midnight on, by their number."""
    return {
        START + HOUR * h: IntensitySlot(
            start_s=START + HOUR * h,
            end_s=START + HOUR * (h + 1),
            gco2e_per_kwh=v,
            low_gco2e_per_kwh=v,
            high_gco2e_per_kwh=v,
            kind="actual",
        )
        for h, v in values.items()
    }


def filled(values: dict[int, float], *hours: int, now: float = 1000.0) -> list[IntensitySlot]:
    """What is said of some hours."""
    return list(continued(known(values), [START + HOUR * h for h in hours], START + HOUR * now))


def test_a_gap_of_two_hours_is_bridged():
    """100 at 0 and 160 at 3 o'clock: 120 and 140 between them, estimated, with the time of the estimate."""
    first, second = filled({0: 100, 3: 160}, 1, 2, now=10)
    assert [first.gco2e_per_kwh, second.gco2e_per_kwh] == pytest.approx([120, 140])
    assert (first.kind, first.source) == ("estimated", "own history: between two known slots")
    assert (first.issued_s, first.fetched_s) == (START + 10 * HOUR, START + 10 * HOUR)


def test_days_that_repeat_are_repeated():
    """Four days of the same 24 values: the fifth has them too, since nothing is unusual."""
    day = [100 + 10 * math.sin(h) for h in range(24)]
    found = filled({h: day[h % 24] for h in range(96)}, *range(96, 120), now=95.5)
    assert [s.gco2e_per_kwh for s in found] == pytest.approx(day)
    assert {(s.kind, s.source) for s in found} == {("forecast", "own history: same time of the last days")}


def test_what_is_unusual_now_decays():
    """Three days of 100, then 150 for one hour: its mean of that hour is 112.5, so 37.5 too much, x exp(-12/12) after 12 h."""
    values = dict.fromkeys(range(73), 100.0) | {72: 150.0}
    (later,) = filled(values, 84, now=72)
    assert later.gco2e_per_kwh == pytest.approx(100 + (150 - 112.5) * math.exp(-1))


def test_a_short_past_has_a_typical_day_at_its_level():
    """Six flat hours of 200: the label says so, the mean of the coming day is near 200 and its peak in the evening."""
    found = filled(dict.fromkeys(range(6), 200.0), *range(6, 30), now=5)
    assert {s.source for s in found} == {"typical day x last level"}
    values = [s.gco2e_per_kwh for s in found]
    assert sum(values) / 24 == pytest.approx(200, rel=0.15)
    assert 6 + values.index(max(values)) in {18, 19, 20}


def test_nothing_is_said_before_the_first_and_long_after_the_last_slot():
    """Before it nobody knows; a week later the annual figure is as good."""
    assert filled({5: 100}, 0, 4) == []
    assert len(filled({5: 100}, 6, 5 + 168, 6 + 168, 500)) == 2
    assert filled({}, 0) == []


def test_the_range_widens():
    """10 % and 2 % more for each hour, at most 50 %."""
    near, far = filled(dict.fromkeys(range(6), 100.0), 6, 40, now=5)
    for slot, ratio in ((near, 0.12), (far, 0.5)):
        assert slot.low_gco2e_per_kwh == pytest.approx(slot.gco2e_per_kwh * (1 - ratio))
        assert slot.high_gco2e_per_kwh == pytest.approx(slot.gco2e_per_kwh * (1 + ratio))


@given(
    st.dictionaries(st.integers(0, 200), st.floats(0, 2000), max_size=60),
    st.lists(st.integers(-10, 400), unique=True),
)
def test_any_past_gives_slots_of_what_was_asked_only(values, hours):
    """Each once, never one that is known, all finite and at least 0."""
    found = filled(values, *hours)
    starts = [(s.start_s - START) // HOUR for s in found]
    assert len(set(starts)) == len(starts)
    assert set(starts) <= set(hours) - set(values)
    assert all(0 <= s.gco2e_per_kwh < 1e5 for s in found)


def test_a_forecaster_starts_from_what_the_source_itself_has_said():
    """Own guesses and the annual figure are no history; the age of a forecast is that of its oldest part."""
    said = list(known({0: 100, 1: 110, 2: 120, 3: 130}).values())
    said[2:] = [replace(s, kind="forecast", issued_s=START + 60 * n) for n, s in enumerate(said[2:])]
    end_s = said[3].end_s
    guess = replace(said[3], start_s=end_s, end_s=end_s + HOUR, source="typical day x last level")
    found = said_by(intensity(slots=[*said, guess]), START + HOUR)
    assert found.past == {START: 100, START + HOUR: 110}
    assert found.ahead == {START + 2 * HOUR: 120, START + 3 * HOUR: 130}
    assert found.step_s == HOUR
    assert said_by(intensity(), START).step_s == 0
