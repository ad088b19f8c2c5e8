"""The GB provider: addresses of a window and slots of an answer, every known fault included."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.contract import HISTORY, Request, Window
from mlflow_carbon.grid.gb import REGIONS, CarbonIntensityGB
from mlflow_carbon.grid.zones import facts
from tests.grid_payloads import body, request

GB = CarbonIntensityGB()
ASKED = Request(url="", what=HISTORY, place="GB")


def parsed(name: str):
    """Slots of a payload."""
    return GB.parse(body(name), request(name)).slots


def urls(place: str, start_s: float, end_s: float) -> list[str]:
    """Addresses of a window."""
    return [r.url for r in GB.request(place, Window(start_s=start_s, end_s=end_s), 0)]


def at(hour: int, minute: int) -> int:
    """A time on the day of the payloads, seconds since the epoch."""
    return int(datetime(2026, 3, 2, hour, minute, tzinfo=UTC).timestamp())


def test_actuals_win_and_forecasts_are_labelled():
    """A null actual gives the forecast, with the wider range of a forecast."""
    slots = parsed("gb_day")
    assert [(s.start_s, s.gco2e_per_kwh, s.kind) for s in slots] == [
        (at(12, 0), 148, "actual"),
        (at(12, 30), 151, "actual"),
        (at(13, 0), 140, "forecast"),
        (at(13, 30), 120, "forecast"),
        (at(14, 0), 96, "forecast"),
    ]
    assert all(s.end_s - s.start_s == 1800 for s in slots)


def test_ranges_follow_from_the_published_error():
    """Actual 148 +-10 %; forecast 140 +- 24 x 2.456 = 58.9 g."""
    actual, _, forecast, *_ = parsed("gb_day")
    assert actual.low_gco2e_per_kwh == pytest.approx(133.2)
    assert actual.high_gco2e_per_kwh == pytest.approx(162.8)
    assert forecast.low_gco2e_per_kwh == pytest.approx(140 - 58.944)
    assert forecast.high_gco2e_per_kwh == pytest.approx(140 + 58.944)


def test_of_a_duplicated_slot_the_last_one_counts():
    """Order in the answer does not matter for the result's order, only for duplicates."""
    slots = parsed("gb_duplicates")
    assert [(s.start_s, s.gco2e_per_kwh) for s in slots] == [(at(12, 0), 148), (at(12, 30), 160)]


def test_data_may_be_an_object():
    """The forms that nest the list are read, too."""
    assert len(parsed("gb_nested")) == 1


def test_rows_that_cannot_be_used_are_left_out():
    """Of ten rows one is good; its impossible actual is replaced by the forecast."""
    (slot,) = parsed("gb_bad_rows")
    assert (slot.start_s, slot.gco2e_per_kwh, slot.kind) == (at(12, 0), 150, "forecast")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gb_error", "the service says 'Please enter a valid start date"),
        ("gb_empty", "got an empty body"),
        ("gb_html", "expected JSON, got '<!DOCTYPE html>"),
        ("gb_no_data", "expected a list under `data`"),
        ("gb_truncated", "expected JSON, got"),
    ],
)
def test_an_answer_that_is_no_answer_is_refused(name, message):
    """The message says what came instead."""
    with pytest.raises(GridError, match=message):
        parsed(name)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda c: (
                st.lists(c)
                | st.dictionaries(st.sampled_from(["data", "from", "to", "intensity", "error"]), c)
            ),
        ).map(lambda j: json.dumps(j).encode()),
    )
)
def test_nothing_but_a_grid_error_leaves_the_parser(answer):
    """Any bytes give valid slots or a GridError."""
    try:
        slots = GB.parse(answer, ASKED).slots
    except GridError:
        return
    assert all(0 < s.gco2e_per_kwh <= 2000 for s in slots)


def test_the_minute_after_the_half_hour_is_asked_for():
    """12:10 to 13:05 lies in the slots 12:00 to 13:30; exactly :00 would bring the slot before."""
    assert urls("GB", at(12, 10), at(13, 5)) == [
        "https://api.carbonintensity.org.uk/intensity/2026-03-02T12:01Z/2026-03-02T13:31Z"
    ]


def test_the_address_is_the_same_for_all_of_a_slot():
    """So a proxy may cache it."""
    assert urls("GB", at(12, 1), at(12, 2)) == urls("GB", at(12, 0), at(12, 29))


@given(start=st.integers(0, 2_000_000_000), length=st.integers(0, 90 * 86_400))
def test_addresses_cover_the_window_in_pieces_of_thirteen_days(start, length):
    """Pieces follow each other without a gap and none is longer than the service answers."""
    pieces = [u.rsplit("/", 2)[1:] for u in urls("GB", start, start + length)]
    times = [
        [datetime.strptime(t, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp() for t in p] for p in pieces
    ]
    assert times[0][0] - 60 <= start
    assert times[-1][1] - 60 >= start + length
    assert all(0 < end - begin <= 13 * 86_400 for begin, end in times)
    assert all(a[1] == b[0] for a, b in pairwise(times))


def test_a_region_is_asked_by_its_number_and_has_forecasts_only():
    """`data` is an object there; a slot without an actual is a forecast, and the note says so."""
    assert urls("GB-LONDON", at(12, 10), at(12, 40)) == [
        "https://api.carbonintensity.org.uk/regional/intensity/2026-03-02T12:01Z/2026-03-02T13:01Z/regionid/13"
    ]
    answer = GB.parse(body("gb_region"), request("gb_region"))
    assert [(s.gco2e_per_kwh, s.kind) for s in answer.slots] == [(150, "forecast"), (144, "forecast")]
    assert "never actuals" in answer.note


def test_another_region_than_the_one_asked_for_is_refused():
    """Region 14 is not London."""
    with pytest.raises(GridError, match="expected region 13, got 14"):
        parsed("gb_other_region")


def test_every_region_is_a_zone_of_ours():
    """Seventeen regions, each with a name and the country behind it."""
    assert sorted(REGIONS.values()) == list(range(1, 18))
    assert {found.country for zone_id in REGIONS if (found := facts(zone_id))} == {"GB"}
    assert all(map(facts, REGIONS))


def test_a_postcode_is_asked_by_its_outward_part():
    """In the address as in the documents; the answer wraps its rows in a list of one."""
    assert urls("GB:sw7", at(12, 0), at(12, 30))[0].endswith("/2026-03-02T12:31Z/postcode/SW7")
    assert [s.gco2e_per_kwh for s in parsed("gb_postcode")] == [150, 144]


@pytest.mark.parametrize("postcode", ["SW7 2AZ", "7", "../..", "SW7?x=1"])
def test_a_whole_or_wrong_postcode_goes_nowhere(postcode):
    """The inward part is a street; it is never sent."""
    with pytest.raises(GridError, match="expected the outward part of a postcode"):
        urls(f"GB:{postcode}", 0, 1)


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_days_of_23_and_25_hours_have_48_slots(day):
    """Times are UTC, so nothing is missing and nothing comes twice when the clocks change."""
    start = int(datetime.fromisoformat(f"{day}T00:00Z").timestamp())
    times = [datetime.fromtimestamp(start + 1800 * i, UTC).strftime("%Y-%m-%dT%H:%MZ") for i in range(49)]
    rows = [{"from": a, "to": b, "intensity": {"forecast": 100}} for a, b in pairwise(times)]
    slots = GB.parse(json.dumps({"data": rows}).encode(), ASKED).slots
    assert [s.start_s for s in slots] == list(range(start, start + 86_400, 1800))
