"""The chain: fixed figure, live provider, annual figure, and a label for every step down."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import PROVIDERS, Access, Answer, GridProvider, Request, Window, annual, intensity
from mlflow_carbon.grid.fetch import Cache
from mlflow_carbon.grid.zones import Zone
from mlflow_carbon.settings import Settings
from tests.grid_payloads import body

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_carbon.core.carbon import IntensitySeries

GB = Zone(id="GB", source="argument")
TABLES = annual.installed()


def at(hour: int, minute: int = 0) -> int:
    """A time on the day of the payloads."""
    return int(datetime(2026, 3, 2, hour, minute, tzinfo=UTC).timestamp())


class Service:
    """A fetch that answers with a payload or fails, and counts."""

    def __init__(self, answer: bytes | dict[str, bytes | GridError] | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, request: Request) -> bytes:
        self.asked.append(request.url)
        told = self.answer
        answer = (
            next(a for path, a in told.items() if path in request.url) if isinstance(told, dict) else told
        )
        if isinstance(answer, GridError):
            raise answer
        if answer is None:
            raise GridError(f"{request.url}: expected an answer within 15 s, got ConnectionError")
        return answer


def ask(
    service: Service,
    *,
    zone: Zone = GB,
    settings: Settings | None = None,
    folder: Path | None = None,
    now_s: float = at(13, 10),
    window: Window | None = None,
    env: dict[str, str] | None = None,
) -> IntensitySeries:
    """Intensity, from 12:10 to 13:10 where no window is given."""
    access = Access(cache=Cache(folder=folder), fetch=service, tables=TABLES, env=env or {})
    window = window or Window(start_s=at(12, 10), end_s=at(13, 10))
    return intensity(settings or Settings(), zone, window=window, access=access, now_s=now_s)


def test_live_slots_with_the_annual_figure_behind_them():
    """Each slot keeps its kind; a time without a slot has the annual figure."""
    series = ask(Service(body("gb_day")))
    assert (series.provider, series.static_provider) == ("carbonintensity.org.uk", "codecarbon")
    assert (series.scope, series.signal) == ("direct", "average")
    assert series.at(at(12, 59)).kind == "actual"
    assert series.at(at(13, 5)).kind == "forecast"
    assert series.at(at(23)).kind == "static"
    assert "where a slot is missing: Our World in Data 2023" in series.note
    assert "life cycle" in series.note


@pytest.mark.parametrize("source", ["timezone", "cloud:AWS_REGION", "world-average"])
def test_a_guessed_zone_is_never_sent_anywhere(source):
    """Decision 8: no request, the annual figure, and a hint."""
    service = Service(body("gb_day"))
    for grid in ("auto", "gb"):
        series = ask(service, zone=Zone(id="GB", source=source), settings=Settings(grid=grid))
        assert series.provider == "codecarbon"
        assert "only if you name the zone, for example zone=GB" in series.note
    assert service.asked == []


@pytest.mark.parametrize("source", ["argument", "environment", "file"])
def test_a_named_zone_is_asked_about(source):
    """The three places where a user names a zone."""
    service = Service(body("gb_day"))
    ask(service, zone=Zone(id="GB", source=source))
    assert len(service.asked) == 1


def test_a_fixed_figure_replaces_everything():
    """No request, no range, and the label says who gave it."""
    service = Service(body("gb_day"))
    series = ask(service, settings=Settings(intensity_gco2e_per_kwh=42.0))
    slot = series.at(at(12))
    assert (slot.low_gco2e_per_kwh, slot.gco2e_per_kwh, slot.high_gco2e_per_kwh) == (42, 42, 42)
    assert (series.provider, slot.kind) == ("fixed", "static")
    assert "given by the user" in series.note
    assert service.asked == []


def test_grid_annual_asks_nobody():
    """The setting switches live figures off, without a note."""
    service = Service(body("gb_day"))
    series = ask(service, settings=Settings(grid="annual"))
    assert (series.provider, series.slots, series.note, service.asked) == ("codecarbon", (), "", [])


def test_a_zone_without_a_live_provider_is_annual():
    """Silently with auto, with a note where a provider was asked for by name."""
    germany = Zone(id="DE", source="argument")
    service = Service(body("gb_day"))
    assert ask(service, zone=germany).note == ""
    named = ask(service, zone=germany, settings=Settings(grid="gb"))
    assert "grid=gb does not know DE; electricity_maps and energy_charts and entsoe may" in named.note
    assert service.asked == []


@pytest.mark.parametrize("answer", [None, b"", b"<html>", b'{"error": {"message": "no"}}', b'{"data": []}'])
def test_a_failing_service_falls_back_with_a_label(answer):
    """Whatever goes wrong, there is a figure, its provider is the annual one and the note says why."""
    series = ask(Service(answer))
    assert series.provider == "codecarbon"
    assert series.at(at(12, 30)).kind == "static"
    assert "annual figure used instead" in series.note


def test_within_a_slot_the_cache_answers(tmp_path):
    """A second call in the same half hour asks nobody; one in the next half hour does."""
    service = Service(body("gb_day"))
    first = ask(service, folder=tmp_path)
    again = ask(service, folder=tmp_path, now_s=at(13, 20))
    # The answer reached beyond the window, the cache is read for the window only.
    assert [s for s in first.slots if s.start_s < at(13, 10)] == [
        s for s in again.slots if s.start_s < at(13, 10)
    ]
    assert len(service.asked) == 1
    ask(service, folder=tmp_path, now_s=at(13, 40))
    assert len(service.asked) == 2


def test_an_old_answer_is_better_than_none(tmp_path):
    """After a failure the slots of earlier answers are used, and the note says so."""
    ask(Service(body("gb_day")), folder=tmp_path)
    series = ask(Service(None), folder=tmp_path, now_s=at(14, 40))
    assert series.provider == "carbonintensity.org.uk"
    assert series.at(at(12, 30)).kind == "actual"
    assert "ConnectionError" in series.note
    assert "earlier answers used" in series.note


def test_a_damaged_cache_is_nothing_lost(tmp_path):
    """In the same slot the service is asked again, and the answer is kept."""
    service = Service(body("gb_day"))
    first = ask(service, folder=tmp_path)
    for file in (tmp_path / "carbonintensity.org.uk" / "GB").iterdir():
        file.write_text("[{")
    assert ask(service, folder=tmp_path).slots == first.slots
    assert ask(service, folder=tmp_path).slots[:3] == first.slots[:3]
    assert len(service.asked) == 2


def test_actuals_are_final_a_day_after_their_slot(tmp_path):
    """Closed slots fetched a day later are never asked for again."""
    service = Service(body("gb_day").replace(b'"actual": null', b'"actual": 99'))
    ask(service, folder=tmp_path, now_s=at(13, 30) + 90_000)
    ask(service, folder=tmp_path, now_s=at(13, 30) + 900_000)
    assert len(service.asked) == 1


def test_a_cache_of_wrong_slots_does_not_break_the_series(tmp_path):
    """Overlapping slots in a damaged file are left out, not raised."""
    ask(Service(body("gb_day")), folder=tmp_path)
    file = next((tmp_path / "carbonintensity.org.uk" / "GB").glob("*.json"))
    end = f'"end_s": {at(12, 30)}'
    assert end in file.read_text()
    file.write_text(file.read_text().replace(end, f'"end_s": {at(14)}'))
    series = ask(Service(None), folder=tmp_path, now_s=at(13, 40))
    assert at(12) not in {s.start_s for s in series.slots}


class Hourly:
    """A provider of one's own: one class and one entry."""

    name = "example"
    slot_s = 3600
    history_s = 86_400
    dataset = "example"
    scope = "life cycle"
    signal = "average"
    variable = ""

    def knows(self, zone_id: str) -> bool:
        return zone_id == "DE"

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:
        return (Request(url=f"https://example.invalid/{place}", what="now", place=place),)

    def parse(self, body: bytes, request: Request) -> Answer:
        raise GridError("example: nothing today")


def test_a_new_provider_is_one_entry():
    """The setting finds it by its name; its errors are handled like any other's."""
    providers: dict[str, GridProvider] = {**PROVIDERS, "example": Hourly()}
    access = Access(cache=Cache(folder=None), fetch=Service(b""), tables=TABLES, providers=providers)
    window = Window(start_s=at(12), end_s=at(13))
    asked = Settings(grid="example")
    series = intensity(asked, Zone(id="DE", source="file"), window=window, access=access, now_s=at(13))
    assert series.note == "example: nothing today; annual figure used instead"


DE = Zone(id="DE", source="argument")
TOKEN = {"MLFLOW_CARBON_ELECTRICITY_MAPS_TOKEN": "secret"}
REFUSED = GridError("refused: HTTP 401", status=401)


def maps(**answers: str | GridError) -> Service:
    """Electricity Maps with a payload, or an error, by kind of question."""
    found = {"past-range": "past_range", "history": "history", "forecast": "forecast", "latest": "latest"}
    return Service(
        {
            path: a if isinstance(a := answers.get(name, name), GridError) else body(f"electricity_maps_{a}")
            for path, name in found.items()
        }
    )


def test_every_value_carries_who_said_it_and_when():
    """Source, time of issue (the fetch, where the service does not say) and time of the fetch."""
    series = ask(maps(), zone=DE, env=TOKEN, window=Window(start_s=at(12), end_s=at(16)))
    by_start = {s.start_s: s for s in series.slots}
    assert (by_start[at(12)].kind, by_start[at(13)].kind, by_start[at(14)].kind) == (
        "actual",
        "estimated",
        "forecast",
    )
    assert {s.source for s in series.slots} == {"electricitymaps.com"}
    assert {s.fetched_s for s in series.slots} == {at(13, 10)}
    assert (by_start[at(12)].issued_s, by_start[at(14)].issued_s) == (at(13, 10), at(12, 51))
    assert (series.signal, series.scope) == ("average", "life cycle")


@pytest.mark.parametrize("env", [{}, {"MLFLOW_CARBON_ELECTRICITY_MAPS_TOKEN": ""}])
def test_without_a_token_electricity_maps_is_not_asked(env):
    """Silently with auto; by name the note says which variable is needed."""
    service = maps()
    assert ask(service, zone=DE, env=env).note == ""
    named = ask(service, zone=DE, env=env, settings=Settings(grid="electricity_maps"))
    assert "needs a token in MLFLOW_CARBON_ELECTRICITY_MAPS_TOKEN" in named.note
    assert (named.provider, service.asked) == ("codecarbon", [])


def test_a_refused_forecast_leaves_the_history_and_is_replaced_by_it():
    """A free token reads no forecast: what comes is a typical day at the last level, and said so."""
    series = ask(maps(forecast=REFUSED), zone=DE, env=TOKEN, window=Window(start_s=at(12), end_s=at(16)))
    coming = [s for s in series.slots if s.start_s > at(13)]
    assert [s.start_s for s in coming] == [at(14), at(15)]
    assert {(s.kind, s.source) for s in coming} == {("forecast", "typical day x last level")}
    assert "refused: HTTP 401" in series.note
    assert "2 of 4 slots: typical day x last level" in series.note


def test_a_service_that_has_failed_is_left_in_peace(tmp_path):
    """After a fault it is not asked for a minute, then for two; `insists` asks all the same."""
    broken = Service(None)
    for minute in (0, 0.5):
        series = ask(broken, folder=tmp_path, now_s=at(13, 10) + 60 * minute)
        assert "ConnectionError" in series.note
    assert len(broken.asked) == 1
    assert "not asked again before 2026-03-02T13:11Z" in series.note
    ask(broken, folder=tmp_path, now_s=at(13, 12))
    ask(broken, folder=tmp_path, now_s=at(13, 13))
    assert len(broken.asked) == 2
    good = Service(body("gb_day"))
    access = Access(cache=Cache(folder=tmp_path), fetch=good, tables=TABLES, insists=True)
    window = Window(start_s=at(12, 10), end_s=at(13, 10))
    assert intensity(Settings(), GB, window=window, access=access, now_s=at(13, 13)).slots
    assert ask(good, folder=tmp_path, now_s=at(13, 40)).slots, "its success has closed the breaker"


def test_a_refusal_stops_that_question_only(tmp_path):
    """With a token of another plan the forecast is not asked for every half hour, the history is."""
    service = maps(forecast=REFUSED)
    window = Window(start_s=at(12), end_s=at(18))
    for hour in (13, 14, 15):
        ask(service, zone=DE, env=TOKEN, folder=tmp_path, window=window, now_s=at(hour, 1))
    kinds = [u.split("carbon-intensity/")[1].split("?")[0] for u in service.asked]
    assert kinds == ["history", "forecast", "history", "forecast", "history", "forecast"]
    ask(service, zone=DE, env=TOKEN, folder=tmp_path, window=window, now_s=at(15, 5))
    assert len(service.asked) == 6


def test_a_stale_forecast_is_not_planned_with(tmp_path):
    """More than six hours old it is said; more than a day old the own past stands in."""
    ask(Service(body("gb_day")), folder=tmp_path, window=Window(start_s=at(12), end_s=at(14)))
    broken = Service(None)
    cache = Cache(folder=tmp_path)
    slots = cache.load("carbonintensity.org.uk", "GB", at(0), at(23))
    for age_s, source in ((7 * 3600, "carbonintensity.org.uk"), (25 * 3600, "typical day x last level")):
        old = [replace(s, issued_s=at(13, 10) - age_s, fetched_s=at(13, 10) - age_s) for s in slots.values()]
        for file in tmp_path.rglob("*.json"):
            file.unlink()
        cache.save("carbonintensity.org.uk", "GB", old)
        series = ask(broken, folder=tmp_path, window=Window(start_s=at(13, 10), end_s=at(14)))
        assert {s.source for s in series.slots if s.start_s == at(13, 30)} == {source}
        assert ("h ago" in series.note) == (age_s < 86_400)


def test_what_a_late_service_has_not_told_yet_is_carried_on():
    """Energy-Charts ends at 11:45: the running slot is `estimated`, not the annual figure."""
    window = Window(start_s=at(12), end_s=at(13))
    series = ask(
        Service(body("energy_charts_day")),
        zone=DE,
        settings=Settings(grid="energy_charts"),
        now_s=at(12, 20),
        window=window,
    )
    assert [(s.start_s, s.kind) for s in series.slots] == [
        (at(12), "estimated"),
        (at(12, 15), "estimated"),
        (at(12, 30), "forecast"),
        (at(12, 45), "forecast"),
    ]
    assert series.provider == "energy-charts.info"
    assert "no factor" in series.note


def test_a_forecast_that_is_cut_off_is_carried_on_with_a_label():
    """The service ends at 14:30; nothing is planned past that in silence."""
    series = ask(Service(body("gb_day")), window=Window(start_s=at(13), end_s=at(16)))
    assert [s.start_s for s in series.slots] == list(range(at(13), at(16), 1800))
    own = [s for s in series.slots if s.source != "carbonintensity.org.uk"]
    assert [s.start_s for s in own] == [at(14, 30), at(15), at(15, 30)]
    assert {(s.kind, s.source) for s in own} == {("forecast", "typical day x last level")}
    assert "3 of 6 slots: typical day x last level" in series.note


def test_only_what_is_not_final_is_asked_again(tmp_path):
    """After two days the first of three days is final; the next question begins where it ends."""
    service = Service(body("gb_day").replace(b'"actual": null', b'"actual": 99'))
    ask(service, folder=tmp_path, now_s=at(13, 30) + 90_000)
    ask(service, folder=tmp_path, now_s=at(14) + 90_000, window=Window(start_s=at(12, 10), end_s=at(15)))
    assert "/intensity/2026-03-02T14:31Z/" in service.asked[-1]


def test_a_recorded_trace_is_asked_of_nobody(tmp_path):
    """A guessed zone will do; what lies ahead is carried on from the file's past, not read from it."""
    path = tmp_path / "trace.csv"
    lines = [f"2026-03-02T{h:02d}:00Z,{100 + 10 * h}\n" for h in range(24)]
    path.write_text("slot_start_utc,gco2_per_kwh\n" + "".join(lines))
    service = Service(None)
    series = ask(
        service,
        zone=Zone(id="GB", source="timezone"),
        settings=Settings(grid=f"recorded:{path}"),
        window=Window(start_s=at(12), end_s=at(16)),
    )
    assert service.asked == []
    assert series.provider == "recorded:trace.csv"
    assert [s.gco2e_per_kwh for s in series.slots[:2]] == [220, 230]
    assert [(s.kind, s.source) for s in series.slots[1:3]] == [
        ("actual", "recorded:trace.csv"),
        ("forecast", "typical day x last level"),
    ]
    missing = ask(service, settings=Settings(grid="recorded:/nowhere.csv"))
    assert "cannot be read" in missing.note
    assert missing.at(at(12)).kind == "static"


def test_the_mock_is_labelled():
    """Provider and note say that the figures are invented; none is actual."""
    series = ask(Service(None), settings=Settings(grid="diurnal:7"))
    assert series.provider == "mock:diurnal"
    assert series.note.startswith("MOCK: invented figures")
    assert {s.kind for s in series.slots} == {"estimated"}


def test_a_postcode_has_a_cache_of_its_own(tmp_path):
    """Figures of a street never stand in for those of the country."""
    service = Service(body("gb_postcode"))
    series = ask(service, folder=tmp_path, settings=Settings(grid="gb:SW7"))
    assert service.asked[0].endswith("/postcode/SW7")
    assert series.at(at(12, 10)).gco2e_per_kwh == 150
    assert ask(Service(None), folder=tmp_path, now_s=at(13, 20)).provider == "codecarbon"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"asked": [], "pauses": {"*": 1}}', '{"pauses": {"*": {"failures": "x"}}}']
)
def test_a_damaged_ledger_is_nothing_lost(tmp_path, text):
    """The question is asked, and the file is written anew."""
    file = tmp_path / "carbonintensity.org.uk" / "ledger.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert ask(Service(body("gb_day")), folder=tmp_path).slots
    assert set(json.loads(file.read_text())) == {"asked", "pauses"}


@given(st.binary(max_size=200))
def test_no_answer_breaks_the_chain(answer):
    """Whatever a service sends, there is a figure for the present."""
    for grid, zone in (("gb", GB), ("energy_charts", DE), ("electricity_maps", DE)):
        series = ask(Service(answer), zone=zone, settings=Settings(grid=grid), env=TOKEN)
        assert series.at(at(13)).gco2e_per_kwh > 0
