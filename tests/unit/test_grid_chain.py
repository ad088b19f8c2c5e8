"""The chain: fixed figure, live provider, annual figure, and a label for every step down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import PROVIDERS, Access, GridProvider, Window, annual, intensity
from mlflow_carbon.grid.fetch import Cache
from mlflow_carbon.grid.zones import Zone
from mlflow_carbon.settings import Settings
from tests.grid_payloads import body

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot

GB = Zone(id="GB", source="argument")
TABLES = annual.installed()


def at(hour: int, minute: int = 0) -> int:
    """A time on the day of the payloads."""
    return int(datetime(2026, 3, 2, hour, minute, tzinfo=UTC).timestamp())


class Service:
    """A fetch that answers with a payload or fails, and counts."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if self.answer is None:
            raise GridError(f"{url}: expected an answer within 15 s, got ConnectionError")
        return self.answer


def ask(
    service: Service,
    *,
    zone: Zone = GB,
    settings: Settings | None = None,
    folder: Path | None = None,
    now_s: float = at(13, 10),
) -> IntensitySeries:
    """Intensity from 12:10 to 13:10."""
    access = Access(cache=Cache(folder=folder), fetch=service, tables=TABLES)
    window = Window(start_s=at(12, 10), end_s=at(13, 10))
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
    assert "grid=gb does not know DE" in ask(service, zone=germany, settings=Settings(grid="gb")).note
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
    assert [s for s in first.slots if s.start_s < at(13, 10)] == list(again.slots)
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


def test_actuals_are_final_a_day_after_their_slot(tmp_path):
    """Closed slots fetched a day later are never asked for again."""
    service = Service(body("gb_day").replace(b'"actual": null', b'"actual": 99'))
    ask(service, folder=tmp_path, now_s=at(13, 30) + 90_000)
    ask(service, folder=tmp_path, now_s=at(13, 30) + 900_000)
    assert len(service.asked) == 1


def test_a_cache_of_wrong_slots_does_not_break_the_series(tmp_path):
    """Overlapping slots in a damaged file are left out, not raised."""
    ask(Service(body("gb_day")), folder=tmp_path)
    file = next(tmp_path.rglob("*.json"))
    end = f'"end_s": {at(12, 30)}'
    assert end in file.read_text()
    file.write_text(file.read_text().replace(end, f'"end_s": {at(14)}'))
    series = ask(Service(None), folder=tmp_path)
    assert at(12) not in {s.start_s for s in series.slots}


class Hourly:
    """A provider of one's own: one class and one entry."""

    name = "example"
    zones = frozenset({"DE"})
    slot_s = 3600
    scope = "life cycle"
    signal = "average"

    def request(self, zone_id: str, start_s: float, end_s: float) -> list[str]:
        return [f"https://example.invalid/{zone_id}"]

    def parse(self, body: bytes) -> tuple[IntensitySlot, ...]:
        raise GridError("example: nothing today")


def test_a_new_provider_is_one_entry():
    """`auto` finds it by the zone; its errors are handled like any other's."""
    providers: dict[str, GridProvider] = {**PROVIDERS, "example": Hourly()}
    access = Access(cache=Cache(folder=None), fetch=Service(b""), tables=TABLES, providers=providers)
    window = Window(start_s=at(12), end_s=at(13))
    series = intensity(Settings(), Zone(id="DE", source="file"), window=window, access=access, now_s=at(13))
    assert series.note == "example: nothing today; annual figure used instead"
