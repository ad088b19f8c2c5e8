"""Electricity Maps: which questions a window needs, and what counts of an answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.contract import FORECAST, HISTORY, NOW, Request, Window
from mlflow_carbon.grid.electricity_maps import VARIABLE, ElectricityMaps
from tests.grid_payloads import body, request

EM = ElectricityMaps()
HOUR = 3600


def at(hour: int, minute: int = 0, day: int = 2) -> int:
    """A time on the day of the payloads, seconds since the epoch."""
    return int(datetime(2026, 3, day, hour, minute, tzinfo=UTC).timestamp())


def parsed(name: str):
    """The answer of a payload."""
    return EM.parse(body(name), request(name))


def asked(start_s: float, end_s: float, now_s: float = at(13, 10)) -> list[tuple[str, str]]:
    """Kind and path of each question."""
    found = EM.request("DE", Window(start_s=start_s, end_s=end_s), now_s)
    return [(r.what, urlsplit(r.url).path.rsplit("/", 1)[1]) for r in found]


def test_the_running_hour_is_one_question():
    """Where neither past nor future is wanted."""
    assert asked(at(13, 5), at(13, 40)) == [(NOW, "latest")]


def test_the_last_day_is_one_question_and_the_future_another():
    """What a free token may read comes first, so that it is there if the forecast is refused."""
    assert asked(at(9), at(13, 40)) == [(HISTORY, "history")]
    assert asked(at(9), at(20)) == [(HISTORY, "history"), (FORECAST, "forecast")]


def test_older_days_are_asked_in_pieces_of_ten():
    """25 days: the last one by `history`, 24 before by three ranges."""
    found = asked(at(13) - 25 * 24 * HOUR, at(13, 30))
    assert found == [(HISTORY, "history")] + 3 * [(HISTORY, "past-range")]


@pytest.mark.parametrize(("hours", "horizon"), [(5, "6"), (7, "24"), (30, "48"), (49, "72"), (200, "72")])
def test_the_horizon_is_one_that_the_service_has(hours, horizon):
    """The smallest that reaches far enough, else the largest."""
    *_, forecast = EM.request("DE", Window(start_s=at(13), end_s=at(13) + hours * HOUR), at(13, 10))
    assert parse_qs(urlsplit(forecast.url).query)["horizonHours"] == [horizon]


def test_an_address_names_zone_scope_and_no_secret():
    """The place of the caller's address never stands in; the token is named by its variable only."""
    (found,) = EM.request("DE", Window(start_s=at(13), end_s=at(13, 30)), at(13, 10))
    query = parse_qs(urlsplit(found.url).query)
    assert found.url.startswith("https://api.electricitymaps.com/v4/carbon-intensity/latest?")
    assert query["zone"] == ["DE"]
    assert query["emissionFactorType"] == ["lifecycle"]
    assert (query["shouldUseFallbackCallerLookup"], query["disableCallerLookup"]) == (["false"], ["true"])
    assert found.token is not None
    assert (found.token.header, found.token.variable) == ("auth-token", VARIABLE)
    assert VARIABLE in found.remedy


def test_an_estimated_value_is_labelled():
    """412 +-25 % by our own choice of range; the note counts them."""
    answer = parsed("electricity_maps_latest")
    (slot,) = answer.slots
    assert (slot.start_s, slot.gco2e_per_kwh, slot.kind) == (at(13), 412, "estimated")
    assert (slot.low_gco2e_per_kwh, slot.high_gco2e_per_kwh) == (309, 515)
    assert answer.note == "1 of 1 h estimated by the service"


def test_hours_that_cannot_be_used_are_left_out():
    """Null, zero, negative, absurd and off the hour go; of an hour that comes twice the last one counts."""
    slots = parsed("electricity_maps_history").slots
    assert [(s.start_s, s.gco2e_per_kwh, s.kind) for s in slots] == [
        (at(8), 380, "actual"),
        (at(11), 390, "actual"),
        (at(12), 400, "actual"),
        (at(13), 412, "estimated"),
    ]


def test_a_range_has_its_rows_under_data():
    """Version 4 calls them so."""
    assert [s.gco2e_per_kwh for s in parsed("electricity_maps_past_range").slots] == [380, 385]


def test_a_forecast_keeps_when_it_was_issued():
    """`updatedAt` of the answer; every hour is a forecast, the running one too."""
    slots = parsed("electricity_maps_forecast").slots
    assert [s.gco2e_per_kwh for s in slots] == [408, 371, 322, 287, 300]
    assert {(s.kind, s.issued_s) for s in slots} == {("forecast", at(12, 51))}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("electricity_maps_sandbox", "sandbox token are made up"),
        ("electricity_maps_disclaimer", "sandbox token are made up"),
        ("electricity_maps_error", "the service says 'Invalid auth-token'"),
        ("electricity_maps_message", "the service says \"Zone 'DE' has no data\""),
        ("electricity_maps_other_zone", "expected zone 'DE', got 'SE-SE3'"),
        ("electricity_maps_direct", "expected emissionFactorType 'lifecycle', got 'direct'"),
        ("electricity_maps_coarse", "expected temporalGranularity 'hourly', got 'daily'"),
        ("electricity_maps_empty", "got an empty body"),
        ("electricity_maps_html", "expected JSON, got '<!DOCTYPE html>"),
        ("electricity_maps_truncated", "expected JSON, got"),
    ],
)
def test_an_answer_that_is_no_answer_is_refused(name, message):
    """The message says what came instead."""
    with pytest.raises(GridError, match=message):
        parsed(name)


def test_an_answer_that_does_not_name_its_zone_is_refused():
    """It could be of anywhere."""
    row = {"carbonIntensity": 100, "datetime": "2026-03-02T13:00:00.000Z", "isEstimated": False}
    with pytest.raises(GridError, match="that names its zone 'DE', got none"):
        EM.parse(json.dumps(row).encode(), request("electricity_maps_latest"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda c: (
            st.lists(c)
            | st.dictionaries(
                st.sampled_from(
                    ["zone", "carbonIntensity", "datetime", "history", "forecast", "data", "error"]
                ),
                c,
            )
        ),
    )
)
def test_nothing_but_a_grid_error_leaves_the_parser(content):
    """Any JSON gives valid slots or a GridError."""
    try:
        slots = EM.parse(json.dumps(content).encode(), Request(url="", what=HISTORY, place="DE")).slots
    except GridError:
        return
    assert all(0 < s.gco2e_per_kwh <= 2000 for s in slots)


@given(
    start=st.integers(0, 2_000_000_000), length=st.integers(0, 60 * 86_400), ahead=st.integers(0, 86_400 * 90)
)
def test_the_questions_of_a_past_window_leave_no_gap(start, length, ahead):
    """Ranges follow each other, each at most ten days, up to the day that `history` covers."""
    now_s = start + ahead
    found = EM.request("DE", Window(start_s=start, end_s=start + length), now_s)
    ranges = [parse_qs(urlsplit(r.url).query) for r in found if "past-range" in r.url]
    spans = [[datetime.fromisoformat(q[k][0]).timestamp() for k in ("start", "end")] for q in ranges]
    assert all(0 < end - begin <= 864_000 for begin, end in spans)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    covered = min(spans[0][0] if spans else now_s, now_s - 86_400 if found else now_s)
    assert covered <= start or start >= now_s // HOUR * HOUR - 86_400
