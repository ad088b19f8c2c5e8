"""WattTime: pounds per MWh, what counts of an answer, and that marginal and average are never mixed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon import assembly
from mlflow_carbon.cli import grid as cli_grid
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import (
    AUTO,
    PROVIDERS,
    Access,
    Window,
    annual,
    average_intensity,
    intensity,
    zones,
)
from mlflow_carbon.grid.cache import Cache
from mlflow_carbon.grid.contract import FORECAST, HISTORY, Request
from mlflow_carbon.grid.watttime import REGIONS, VARIABLE, WattTime
from mlflow_carbon.grid.zones import Zone
from mlflow_carbon.settings import Settings
from tests.grid_payloads import body, request

WT = WattTime()
HOUR, DAY = 3600, 86_400
NOON = int(datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp())
CISO = Zone(id="US-CAL-CISO", source="argument")


def parsed(name: str):
    """The answer of a payload."""
    return WT.parse(body(name), request(name))


def asked(start_s: float, end_s: float, now_s: float) -> list[tuple[str, str]]:
    """Kind and path of each question."""
    found = WT.request("US-CAL-CISO", Window(start_s=start_s, end_s=end_s), now_s)
    return [(r.what, urlsplit(r.url).path) for r in found]


def test_pounds_per_mwh_are_grams_per_kwh():
    """1000 lb/MWh x 453.59237 g/lb / 1000 kWh/MWh = 453.59 g/kWh, +-25 % by our own choice."""
    slot = parsed("watttime_historical").slots[0]
    assert (slot.start_s, slot.end_s, slot.kind) == (NOON, NOON + 300, "actual")
    assert slot.gco2e_per_kwh == pytest.approx(453.59237)
    assert slot.low_gco2e_per_kwh == pytest.approx(340.194, abs=1e-3)
    assert slot.high_gco2e_per_kwh == pytest.approx(566.990, abs=1e-3)


def test_zero_is_a_figure():
    """Where sun is thrown away one kWh more costs nothing; an average of zero would be a missing one."""
    assert parsed("watttime_historical").slots[2].gco2e_per_kwh == 0


def test_a_forecast_keeps_when_it_was_issued():
    """`generated_at`; the present is a forecast too. The region and the service's warnings are noted."""
    answer = parsed("watttime_forecast")
    assert {(s.kind, s.issued_s) for s in answer.slots} == {("forecast", NOON + 1800)}
    assert answer.note == (
        "marginal emissions of the region CAISO_NORTH; the service warns: This is just an example"
    )


def test_points_that_cannot_be_used_are_left_out():
    """Null, negative, absurd, text, off the raster and without a zone go; the last of two counts."""
    slots = parsed("watttime_bad_rows").slots
    assert [(s.start_s, round(s.gco2e_per_kwh)) for s in slots] == [(NOON + 1800, 454)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("watttime_other_region", "expected region 'CAISO_NORTH', got 'PJM_DC'"),
        ("watttime_average", "expected signal_type 'co2_moer', got 'co2_aoer'"),
        ("watttime_percentile", "expected units 'lbs_co2_per_mwh', got 'percentile'"),
        ("watttime_hourly", "expected data_point_period_seconds 300, got 3600"),
        ("watttime_no_meta", "expected `data` and `meta`"),
        ("watttime_list", "expected `data` and `meta`"),
        ("watttime_nothing", "none that can be used"),
        ("watttime_error", "the service says 'Forbidden'"),
        ("watttime_html", "expected JSON, got '<html>"),
        ("watttime_empty", "got an empty body"),
        ("watttime_truncated", "expected JSON, got"),
    ],
)
def test_an_answer_that_is_no_answer_is_refused(name, message):
    """The message says what came instead; what does not say what it is, is nothing."""
    with pytest.raises(GridError, match=message):
        parsed(name)


def test_the_forecast_begins_with_the_present():
    """Now is one question to it; the past is another, up to now."""
    now = NOON + 100
    assert asked(now, now + 60, now) == [(FORECAST, "/v3/forecast")]
    assert asked(now - HOUR, now + HOUR, now) == [(FORECAST, "/v3/forecast"), (HISTORY, "/v3/historical")]
    assert asked(now - 2 * HOUR, now - HOUR, now) == [(HISTORY, "/v3/historical")]


@pytest.mark.parametrize(
    ("hours", "horizon"), [(0.5, "1"), (1.5, "2"), (24, "24"), (71.5, "72"), (200, "72")]
)
def test_the_horizon_is_in_whole_hours_up_to_72(hours, horizon):
    """The service has no longer one."""
    (found,) = WT.request("US-CAL-CISO", Window(start_s=NOON, end_s=NOON + hours * HOUR), NOON)
    assert parse_qs(urlsplit(found.url).query)["horizon_hours"] == [horizon]


def test_an_address_names_region_and_signal_and_no_secret():
    """Name and password are known by their variable; they go to the login only."""
    (found,) = WT.request("US-CAL-CISO", Window(start_s=NOON - HOUR, end_s=NOON - 60), NOON)
    assert parse_qs(urlsplit(found.url).query) == {
        "region": ["CAISO_NORTH"],
        "signal_type": ["co2_moer"],
        "start": ["2026-03-02T11:00Z"],
        "end": ["2026-03-02T12:00Z"],
    }
    assert found.token is not None
    assert found.token.login is not None
    assert found.token.login.url == "https://api.watttime.org/login"
    assert (found.token.variable, found.token.header, found.token.parameter) == (VARIABLE, "", "")
    assert VARIABLE in found.remedy


@given(start=st.integers(0, 2_000_000_000), length=st.integers(1, 90 * DAY), ago=st.integers(-DAY, 90 * DAY))
def test_the_questions_leave_no_gap(start, length, ago):
    """Ranges of the past follow each other, each at most 30 days, up to now or the end."""
    now_s = start + length + ago
    found = WT.request("US-CAL-CISO", Window(start_s=start, end_s=start + length), now_s)
    queries = [parse_qs(urlsplit(r.url).query) for r in found if r.what == HISTORY]
    ranges = [[datetime.fromisoformat(q[k][0]).timestamp() for k in ("start", "end")] for q in queries]
    assert all(0 < end - begin <= 30 * DAY for begin, end in ranges)
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    if ranges:
        assert ranges[0][0] <= start
        assert ranges[-1][1] >= min(start + length, now_s // 300 * 300)


def test_its_zones_are_ours():
    """Regions are known from documents only; what it may read without a subscription is northern California."""
    assert set(REGIONS) <= zones.known()
    assert REGIONS["US-CAL-CISO"] == "CAISO_NORTH"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda c: (
        st.lists(c)
        | st.dictionaries(st.sampled_from(["data", "meta", "error", "point_time", "value", "region"]), c)
    ),
)


@given(
    _JSON,
    st.lists(_JSON | st.fixed_dictionaries({"point_time": st.just("2026-03-02T12:00Z"), "value": _JSON})),
)
def test_nothing_but_a_grid_error_leaves_the_parser(content, rows):
    """Any JSON, and any rows beside a good description, give valid slots or a GridError."""
    meta = json.loads(body("watttime_historical"))["meta"] | {"warnings": content}
    for given_ in (content, {"data": rows, "meta": meta}):
        try:
            slots = WT.parse(
                json.dumps(given_).encode(), Request(url="", what=HISTORY, place="US-CAL-CISO")
            ).slots
        except GridError:
            continue
        assert all(0 <= s.gco2e_per_kwh <= 2000 for s in slots)


def at_home(folder, *answers: str, fetched: list[str] | None = None) -> Access:
    """Access to a service that gives payloads by kind of question; without any it gives nothing."""

    def fetch(asked: Request) -> bytes:
        if fetched is not None:
            fetched.append(asked.url)
        name = next((a for a in answers if a.endswith("forecast") == (asked.what == FORECAST)), "")
        if not name:
            raise GridError("nobody there")
        return body(name)

    return Access(
        cache=Cache(folder=folder), fetch=fetch, env={VARIABLE: "me:pass"}, tables=annual.installed()
    )


def look(access: Access, now_s: float = NOON + 1800, find=intensity):
    """The series of an hour around now."""
    window = Window(start_s=NOON, end_s=NOON + HOUR)
    return find(Settings(grid="watttime"), CISO, window=window, access=access, now_s=now_s)


def test_a_marginal_series_is_marginal_throughout(tmp_path):
    """No slot, and nothing behind the slots, is the annual average of the zone: means of two signals mean nothing."""
    found = look(at_home(tmp_path, "watttime_historical", "watttime_forecast"))
    average = annual.series(CISO, tables=annual.installed()).static
    assert (found.signal, found.scope, found.provider) == ("marginal", "direct", "watttime.org")
    assert {s.source for s in found.slots} <= {"watttime.org"} | {
        s.source for s in found.slots if s.source.startswith(("own history", "typical day"))
    }
    mean = sum(s.gco2e_per_kwh for s in found.slots) / len(found.slots)
    assert found.at(NOON + 100 * DAY).gco2e_per_kwh == pytest.approx(mean)
    assert found.static.gco2e_per_kwh != average.gco2e_per_kwh
    assert found.static.kind == "static"
    assert found.static_provider == "watttime.org"
    assert "where a slot is missing: mean of these 12 slots (marginal), direct" in found.note


def test_nothing_but_zeros_is_carried_on(tmp_path):
    """A sunny noon of zeros is no division by zero, here or in what carries it on."""
    content = json.loads(body("watttime_historical"))
    content["data"] = [row | {"value": 0} for row in content["data"]]
    access = Access(
        cache=Cache(folder=tmp_path),
        fetch=lambda asked: json.dumps(content).encode(),
        env={VARIABLE: "me:pass"},
        tables=annual.installed(),
    )
    assert {s.gco2e_per_kwh for s in look(access).slots} == {0}


def test_where_it_is_silent_the_series_is_average_throughout(tmp_path):
    """The annual average then stands alone and says what it is."""
    found = look(at_home(tmp_path))
    assert (found.signal, found.slots, found.at(NOON).kind) == ("average", (), "static")
    assert "nobody there; annual figure used instead" in found.note


def test_emissions_are_never_counted_by_it(tmp_path):
    """Who plans by marginal figures is charged by the average; nobody is even asked."""
    fetched: list[str] = []
    access = at_home(tmp_path, "watttime_historical", "watttime_forecast", fetched=fetched)
    found = look(access, find=average_intensity)
    assert (found.signal, found.slots, fetched) == ("average", (), [])
    assert found.static == annual.series(CISO, tables=annual.installed()).static
    assert found.note.startswith("grid=watttime is marginal: it may choose when to run, but")


def test_a_run_is_charged_by_the_average(tmp_path, monkeypatch):
    """What costs every run, live or recovered, does not look at the marginal figures of the settings."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "me:pass")
    settings = Settings(grid="watttime", zone="US-CAL-CISO", zone_source="argument")
    found = assembly.costing(settings, NOON, NOON + HOUR).intensity
    assert (found.signal, found.slots, found.zone) == ("average", (), "US-CAL-CISO")
    assert "is marginal" in found.note


def test_whoever_looks_is_told_that_it_is_marginal(tmp_path):
    """`mlflow-carbon grid` shows the signal beside the figure: 950 lb/MWh at half past twelve."""
    access = at_home(tmp_path, "watttime_historical", "watttime_forecast")
    settings = Settings(grid="watttime", zone="US-CAL-CISO", zone_source="argument")
    shown = cli_grid.render(cli_grid.look(settings, access=access, now_s=NOON + 1800))
    assert "now 431 gCO2e/kWh (280 to 582): forecast, marginal, scope direct" in shown


def test_average_sources_count_emissions_as_before(tmp_path):
    """So does a figure that the user gives, whatever plans."""
    window = Window(start_s=NOON, end_s=NOON + HOUR)
    access = at_home(tmp_path)
    for settings in (
        Settings(grid="diurnal"),
        Settings(grid="annual"),
        Settings(grid="watttime", intensity_gco2e_per_kwh=100),
    ):
        counted, planned = (
            find(settings, CISO, window=window, access=access, now_s=NOON)
            for find in (average_intensity, intensity)
        )
        assert counted == planned


def test_a_source_of_averages_is_no_stand_in(tmp_path):
    """Neither is offered in place of the other: eia knows Texas, but not what one more kWh emits."""
    texas = Zone(id="US-TEX-ERCO", source="argument")
    window = Window(start_s=NOON, end_s=NOON + HOUR)
    notes = [
        intensity(Settings(grid=grid), zone, window=window, access=at_home(tmp_path), now_s=NOON).note
        for grid, zone in (("watttime", texas), ("gb", CISO))
    ]
    assert notes[0].startswith("grid=watttime does not know US-TEX-ERCO; no live source does")
    assert notes[1].startswith("grid=gb does not know US-CAL-CISO; electricity_maps and eia may")


def test_auto_never_asks_a_marginal_source():
    """It is for runs that nobody has told anything."""
    assert {PROVIDERS[name].signal for name in AUTO} == {"average"}


def test_without_a_login_it_says_what_is_missing(tmp_path):
    """The variable's name, and what is used instead."""
    access = Access(cache=Cache(folder=tmp_path), env={}, tables=annual.installed())
    assert look(access).note.startswith(f"grid=watttime needs a token in {VARIABLE}; annual figure used")
