"""The chain through a real socket: a service on the loopback with its faults, the real GET, files on disk."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from mlflow_carbon.grid import Access, Window, annual, eia, entsoe, intensity, watttime
from mlflow_carbon.grid.electricity_maps import VARIABLE, ElectricityMaps
from mlflow_carbon.grid.energy_charts import EnergyCharts
from mlflow_carbon.grid.fetch import Cache, get
from mlflow_carbon.grid.gb import CarbonIntensityGB
from mlflow_carbon.grid.zones import Zone
from mlflow_carbon.settings import Settings
from tests.grid_payloads import body
from tests.loopback import loopback

NOON = int(datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp())
SECRET = "s3cret-t0ken"  # noqa: S105 - opens nothing
LOGIN = "me:pa55word"
SECRETS = ("s3cret", "pa55word", b64encode(LOGIN.encode()).decode())
PAYLOADS = {
    "/intensity/": "gb_day",
    "/regional/": "gb_region",
    "/v4/carbon-intensity/history": "electricity_maps_history",
    "/v4/carbon-intensity/forecast": "electricity_maps_forecast",
    "/public_power": "energy_charts_day",
    "/v2/electricity/rto/fuel-type-data/data/": "eia_numbers",
    "/api?": "entsoe_mixed",
    "/v3/historical": "watttime_historical",
    "/v3/forecast": "watttime_forecast",
}


class Service:
    """All services at once: payloads by path, or one fault for every path but the login; remembers what it was asked.

    `tokens` holds what came in any header, and the key that came in the address, which `paths` leaves out.
    """

    def __init__(self) -> None:
        self.fault: tuple[int, dict[str, str], bytes] | None = None
        self.paths: list[str] = []
        self.tokens: set[str] = set()

    def answer(self, path: str, token: str) -> tuple[int, dict[str, str], bytes]:
        path, _, key = path.replace("&securityToken=", "&api_key=").partition("&api_key=")
        self.paths.append(path)
        self.tokens.add(token or key)
        if path == "/login":
            is_known = token == f"Basic {b64encode(LOGIN.encode()).decode()}"
            return (200, {}, b'{"token": "' + SECRET.encode() + b'"}') if is_known else (401, {}, b"")
        if self.fault is not None:
            return self.fault
        return 200, {}, body(next(name for start, name in PAYLOADS.items() if path.startswith(start)))


@pytest.fixture
def served():
    """A service on the loopback and its address."""
    service = Service()

    def reply(path, headers):
        return service.answer(path, headers.get("auth-token") or headers.get("Authorization") or "")

    with loopback(reply) as url:
        yield service, url


def at_home(url: str, folder, *, budget_s: float = 1) -> Access:
    """Access to services at an address."""
    env = {VARIABLE: SECRET, eia.VARIABLE: SECRET, entsoe.VARIABLE: SECRET, watttime.VARIABLE: LOGIN}
    return Access(
        cache=Cache(folder=folder),
        fetch=partial(get, env=env, budget_s=budget_s, passes={}),
        env=env,
        providers={
            "gb": CarbonIntensityGB(base_url=url),
            "electricity_maps": ElectricityMaps(base_url=url),
            "energy_charts": EnergyCharts(base_url=url),
            "eia": eia.EnergyInformationAdministration(base_url=url),
            "entsoe": entsoe.Entsoe(base_url=url),
            "watttime": watttime.WattTime(base_url=url),
        },
        tables=annual.installed(),
    )


def test_a_window_is_fetched_costed_and_kept(served, tmp_path):
    """One request for the window; the service gone, the cache answers with a note."""
    service, url = served
    zone = Zone(id="GB", source="argument")
    window = Window(start_s=NOON + 60, end_s=NOON + 3000)
    live = intensity(Settings(), zone, window=window, access=at_home(url, tmp_path), now_s=NOON + 3000)
    assert service.paths == ["/intensity/2026-03-02T12:01Z/2026-03-02T13:01Z"]
    assert [live.at(NOON + t).gco2e_per_kwh for t in (100, 1900, 3700)] == [148, 151, 140]

    gone = at_home("http://127.0.0.1:1", tmp_path, budget_s=0.2)
    stale = intensity(Settings(), zone, window=window, access=gone, now_s=NOON + 9000)
    assert [stale.at(NOON + t).gco2e_per_kwh for t in (100, 1900)] == [148, 151]
    assert "earlier answers used" in stale.note


CASES = (
    ("gb", "GB", 151.0),
    ("gb", "GB-LONDON", 144.0),
    ("electricity_maps", "DE", 400.0),
    ("eia", "US-CAL-CISO", 370.5),
    ("entsoe", "DE", 519_500 / 3500),
    ("watttime", "US-CAL-CISO", 950 * 0.45359237),
)
TOLD = {  # what each service was told that is not for everybody
    "electricity_maps": {SECRET},
    "eia": {SECRET},
    "entsoe": {SECRET},
    "watttime": {f"Basic {SECRETS[2]}", f"Bearer {SECRET}"},
}
FAULTS: tuple[tuple[tuple[int, dict[str, str], bytes], str], ...] = (
    ((401, {}, b'{"error": "Invalid auth-token s3cret-t0ken"}'), "HTTP 401"),
    ((429, {"Retry-After": "7200"}, b""), "HTTP 429"),
    ((500, {}, b"oops"), "HTTP 500"),
    ((200, {}, b""), "an empty body"),
    ((200, {}, b"<html>Sorry</html>"), "<html>Sorry"),
    ((200, {}, b'{"data": [{"from": "2026'), "expected JSON|expected a GL_"),
    (
        (200, {}, b'{"zone": "DE", "data": []}'),
        "none that can be used|expected rows under|expected `data` and `meta`|expected a GL_",
    ),
    ((200, {}, b"[]"), "expected "),
    ((200, {}, b'{"error": "no such token: s3cret-t0ken"}'), "no such token"),
)


@pytest.mark.parametrize(("grid", "zone_id", "value"), CASES)
def test_each_service_is_read_and_its_silence_outlived(served, tmp_path, grid, zone_id, value):
    """Every fault gives the earlier answer with a note, never an exception, and nothing on disk holds the token."""
    service, url = served
    zone, window = Zone(id=zone_id, source="argument"), Window(start_s=NOON, end_s=NOON + 4000)
    access, settings = at_home(url, tmp_path, budget_s=0.3), Settings(grid=grid)
    good = intensity(settings, zone, window=window, access=access, now_s=NOON + 4000)
    assert good.at(NOON + 1900).gco2e_per_kwh == value
    for number, (fault, words) in enumerate(FAULTS, start=2):
        service.fault = fault
        insisting = replace(access, insists=True)
        found = intensity(settings, zone, window=window, access=insisting, now_s=NOON + 7200 * number)
        assert found.at(NOON + 1900).gco2e_per_kwh == value
        assert re.search(words, found.note)
        assert "earlier answers used" in found.note
        # Great Britain was never told a token, and may say what it likes.
        assert grid == "gb" or not [s for s in SECRETS if s in found.note]
    assert service.tokens == TOLD.get(grid, {""})
    if grid != "gb":
        files = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
        assert files
        assert not [s for s in SECRETS if any(s in text for text in files)]


def test_a_service_that_wants_to_be_left_alone_is(served, tmp_path):
    """429 with Retry-After of two hours: no further question for two hours, in any process that shares the folder."""
    service, url = served
    service.fault = (429, {"Retry-After": "7200"}, b"")
    zone, window = Zone(id="GB", source="argument"), Window(start_s=NOON, end_s=NOON + 1800)
    for minutes in (0, 10, 119, 121):
        access = at_home(url, tmp_path, budget_s=0.3)
        found = intensity(Settings(), zone, window=window, access=access, now_s=NOON + 60 * minutes)
        assert found.at(NOON).kind == "static"
        assert len(service.paths) == (2 if minutes == 121 else 1)


def test_one_login_serves_past_and_future(served, tmp_path):
    """Two questions and the login; the series is marginal, with the forecast for the present."""
    service, url = served
    found = intensity(
        Settings(grid="watttime"),
        Zone(id="US-CAL-CISO", source="argument"),
        window=Window(start_s=NOON, end_s=NOON + 3600),
        access=at_home(url, tmp_path),
        now_s=NOON + 1800,
    )
    about = "?region=CAISO_NORTH&signal_type=co2_moer&"
    assert service.paths == [
        "/login",
        f"/v3/forecast{about}horizon_hours=1",
        f"/v3/historical{about}start=2026-03-02T12%3A00Z&end=2026-03-02T12%3A30Z",
    ]
    assert found.signal == "marginal"
    assert (found.at(NOON).kind, found.at(NOON + 1800).kind) == ("actual", "forecast")


def test_a_mix_becomes_an_intensity(served, tmp_path):
    """Energy-Charts through the socket: the last level is carried on to the present."""
    service, url = served
    zone, window = Zone(id="DE", source="argument"), Window(start_s=NOON, end_s=NOON + 900)
    found = intensity(
        Settings(grid="energy_charts"),
        zone,
        window=window,
        access=at_home(url, tmp_path),
        now_s=NOON + 60,
    )
    assert service.paths == ["/public_power?country=de&start=2026-03-01T00:00Z&end=2026-03-02T12:15Z"]
    assert found.at(NOON).kind == "estimated"
    assert 300 < found.at(NOON).gco2e_per_kwh < 400
