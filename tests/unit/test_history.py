"""Histories and archives: regular slots, gaps, and what is refused."""

from __future__ import annotations

import pytest

from mlflow_carbon.core.history import Archive, History, PublishedForecast

H = 3600


def test_slots_in_any_order_make_a_history_with_gaps_marked() -> None:
    """Slots are sorted, the missing one between them is None, and the last one is the present."""
    made = History.of({2 * H: 30.0, 0: 10.0, 3 * H: 40.0}, step_s=H, source="a")
    assert made.values == (10.0, None, 30.0, 40.0)
    assert (made.present_s, made.end_s) == (3 * H, 4 * H)


def test_a_short_gap_is_bridged_linearly() -> None:
    """Two missing hours between 10 and 40 become 20 and 30."""
    filled, count = History(start_s=0, step_s=H, values=(10, None, None, 40)).filled()
    assert filled.values == pytest.approx((10, 20, 30, 40))
    assert count == 2


def test_a_long_gap_takes_the_same_time_of_the_days_before() -> None:
    """Four missing hours on the third day are the means of the two days before."""
    day = [float(h) for h in range(24)]
    second = [v + 10 for v in day]
    third = [*day[:4], None, None, None, None, *day[8:]]
    filled, count = History(start_s=0, step_s=H, values=(*day, *second, *third)).filled()
    assert filled.values[52:56] == pytest.approx((9, 10, 11, 12))
    assert count == 4


def test_gaps_at_both_ends_take_the_nearest_value() -> None:
    """Before the first value there is nothing but it; after the last one the last value stays."""
    filled, _ = History(start_s=0, step_s=H, values=(None, 10, 20, None)).filled()
    assert filled.values == (10, 10, 20, 20)


@pytest.mark.parametrize(
    ("start_s", "step_s", "values", "message"),
    [
        (0, 7 * H, (1.0,), "divides a day"),
        (60, H, (1.0,), "raster"),
        (0, H, (-1.0,), "expected 0 to 2000"),
        (0, H, (2001.0,), "expected 0 to 2000"),
        (0, H, (float("nan"),), "expected 0 to 2000"),
    ],
)
def test_a_history_refuses_what_cannot_be(start_s, step_s, values, message) -> None:
    """Odd slots and absurd values are refused with what was expected."""
    with pytest.raises(ValueError, match=message):
        History(start_s=start_s, step_s=step_s, values=values)


def test_a_history_needs_slots_on_one_raster() -> None:
    """No slot at all, slots off the raster and nothing but gaps are refused."""
    with pytest.raises(ValueError, match="at least one"):
        History.of({}, step_s=H)
    with pytest.raises(ValueError, match="got one at 5400"):
        History.of({0: 1.0, 5400: 2.0}, step_s=H)
    with pytest.raises(ValueError, match="every value is missing"):
        History(start_s=0, step_s=H, values=(None, None)).filled()


def published(issued_s: int) -> PublishedForecast:
    """Two hours of it."""
    return PublishedForecast(issued_s=issued_s, start_s=issued_s, step_s=H, values=(1.0, 2.0))


def test_an_archive_gives_the_newest_forecast_known_at_a_time() -> None:
    """Nothing before the first issue, then always the last one issued by then."""
    archive = Archive(forecasts=(published(0), published(24 * H)))
    found = [archive.known_at(t) for t in (-1, 0, 24 * H - 1, 24 * H)]
    assert [f.issued_s if f else None for f in found] == [None, 0, 0, 24 * H]
    with pytest.raises(ValueError, match="order of issue"):
        Archive(forecasts=(published(24 * H), published(0)))
