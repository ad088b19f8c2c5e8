"""Most of the world, live: the Electricity Maps API, version 4 (a token from the environment).

Average intensity by flow tracing, life cycle, in hours. A free token reads one zone: the newest value and the
last 24 hours, no forecast, and not for commercial use. The newest hours are usually estimated by the service;
they are labelled so, and replaced when the measured ones come. Where no zone is recognised the service
would answer for the place of the caller's address: that is switched off, and the zone of each answer is
compared with the one asked for. Values of a sandbox token are made up and never count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import zones
from mlflow_carbon.grid.answers import believable, decoded, epoch, ranged, said
from mlflow_carbon.grid.contract import FORECAST, HISTORY, NOW, Answer, Request, Token

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.contract import Window

__all__ = ["VARIABLE", "ElectricityMaps"]

VARIABLE = "MLFLOW_CARBON_ELECTRICITY_MAPS_TOKEN"
"""Environment variable that holds the token."""

_SLOT_S = 3600
_DAY_S = 86_400
_MAX_RANGE_S = 10 * _DAY_S  # the service answers at most ten days of hours at once
_HORIZONS_H = (6, 24, 48, 72)
_RATIOS = {"actual": 0.1, "estimated": 0.25, "forecast": 0.25}  # engineering choices: no error is published
_REMEDY = (
    f"set {VARIABLE} to a token that may read this zone "
    "(a free one reads the one zone chosen with it, and no forecast)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectricityMaps:
    """Request and parse for the newest value, the last 24 h, ranges of the past, and the forecast.

    Attributes:
        base_url: Where the service is; tests point it at themselves.
    """

    base_url: str = "https://api.electricitymaps.com"

    name: ClassVar[str] = "electricitymaps.com"
    dataset: ClassVar[str] = "electricitymaps.com, consumption by flow tracing"
    slot_s: ClassVar[int] = _SLOT_S
    history_s: ClassVar[int] = _DAY_S
    scope: ClassVar[str] = "life cycle"
    signal: ClassVar[str] = "average"
    variable: ClassVar[str] = VARIABLE

    def knows(self, zone_id: str) -> bool:
        """Whether it may know the zone: our ids follow its style, but for the regions of Great Britain."""
        return zones.facts(zone_id) is not None and not zone_id.startswith("GB-")

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:
        """The newest value or the last 24 h, then what is older, then the forecast."""
        this_hour = now_s // _SLOT_S * _SLOT_S
        end_s = max(window.end_s, window.start_s + 1)
        asked = []
        if window.start_s >= this_hour:
            asked.append(self._ask(place, NOW, "latest"))
        elif end_s > this_hour - _DAY_S:
            asked.append(self._ask(place, HISTORY, "history"))
        first = int(window.start_s // _SLOT_S) * _SLOT_S
        last = min(-int(-end_s // _SLOT_S) * _SLOT_S, int(this_hour) - _DAY_S + _SLOT_S)
        for start in range(first, last, _MAX_RANGE_S):
            end = min(start + _MAX_RANGE_S, last)
            asked.append(self._ask(place, HISTORY, "past-range", start=minute(start), end=minute(end)))
        if end_s > this_hour + _SLOT_S:
            ahead_h = (end_s - this_hour) / _SLOT_S
            horizon = next((h for h in _HORIZONS_H if h >= ahead_h), _HORIZONS_H[-1])
            asked.append(self._ask(place, FORECAST, "forecast", horizonHours=str(horizon)))
        return tuple(asked)

    def _ask(self, place: str, what: str, path: str, **more: str) -> Request:
        query = {
            "zone": place,
            **more,
            "emissionFactorType": "lifecycle",
            "temporalGranularity": "hourly",
            # Two spellings of one switch are documented; the zone of the answer is compared anyway.
            "shouldUseFallbackCallerLookup": "false",
            "disableCallerLookup": "true",
        }
        return Request(
            url=f"{self.base_url}/v4/carbon-intensity/{path}?{urlencode(query)}",
            what=what,
            place=place,
            token=Token(header="auth-token", variable=VARIABLE),
            remedy=_REMEDY,
        )

    def parse(self, body: bytes, request: Request) -> Answer:
        """Slots of one answer, sorted; of a duplicated hour the one written last.

        Raises:
            GridError: If the answer is empty, no JSON, an error, of another zone, scope or granularity, of a
                sandbox token, or without a usable hour.
        """
        content = decoded(body, self.name)
        rows = _rows(content)
        _check(content, rows, request.place)
        is_forecast = request.what == FORECAST
        issued_s = epoch(content.get("updatedAt"))
        slots: dict[int, IntensitySlot] = {}
        for row in rows:
            slot = _slot(row, is_forecast=is_forecast)
            if slot is not None:
                slots[slot.start_s] = slot
        if not slots:
            raise GridError(f"{self.name}: expected hours with a carbonIntensity, got none that can be used")
        found = tuple(_issued(slots[t], issued_s if is_forecast else None) for t in sorted(slots))
        estimated = sum(s.kind == "estimated" for s in found)
        return Answer(
            slots=found, note=f"{estimated} of {len(found)} h estimated by the service" if estimated else ""
        )


def _rows(content: Any) -> list[Any]:
    """Rows of `history`, `forecast` or `data`; an object with a value is a row itself."""
    if isinstance(content, dict):
        for key in ("history", "forecast", "data"):
            if isinstance(content.get(key), list):
                rows: list[Any] = content[key]
                return rows
        if "carbonIntensity" in content:
            return [content]
    words = said(content)
    raise GridError(
        f"{ElectricityMaps.name}: "
        + (
            f"the service says {words!r}"
            if words
            else "expected `carbonIntensity`, `history`, `forecast` or `data`"
        )
    )


def _check(content: dict[str, Any], rows: list[Any], place: str) -> None:
    """Refuse what is not what was asked for."""
    name = ElectricityMaps.name
    methods = [str(row.get("estimationMethod")) for row in rows if isinstance(row, dict)]
    if any("SANDBOX" in text.upper() for text in (str(content.get("_disclaimer")), *methods)):
        raise GridError(
            f"{name}: the values of a sandbox token are made up; put a live token into {VARIABLE}"
        )
    expected = {"zone": place, "emissionFactorType": "lifecycle", "temporalGranularity": "hourly"}
    for given in (content, *rows):
        for key, value in expected.items():
            if isinstance(given, dict) and given.get(key, value) != value:
                raise GridError(f"{name}: expected {key} {value!r}, got {given[key]!r}")
    if content.get("zone") is None and not any(isinstance(row, dict) and row.get("zone") for row in rows):
        raise GridError(f"{name}: expected an answer that names its zone {place!r}, got none")


def _slot(row: Any, *, is_forecast: bool) -> IntensitySlot | None:
    if not isinstance(row, dict):
        return None
    start_s = epoch(row.get("datetime"))
    value = believable(row.get("carbonIntensity", row.get("value")))
    if start_s is None or start_s % _SLOT_S or value is None:
        return None
    measured = "actual" if row.get("isEstimated") is False else "estimated"
    kind = "forecast" if is_forecast else measured
    return ranged(start_s, _SLOT_S, value, value * _RATIOS[kind], kind)


def _issued(slot: IntensitySlot, issued_s: float | None) -> IntensitySlot:
    return slot if issued_s is None else replace(slot, issued_s=issued_s)
