"""What one more kWh emits, live: the marginal operating emissions of WattTime, version 3 (name and password).

Marginal is another question than average (decision 21): it may choose when to run, never what a run is
charged with. In slots of 5 minutes; direct CO2 in pounds per MWh, by the service's own model. A login gives a
token of 30 minutes. Without a subscription it answers about CAISO_NORTH alone. The first point of a forecast
is the present; the past comes late and is revised. Zero is a figure here: where sun is thrown away, one kWh
more costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.answers import MAX_GCO2E_PER_KWH, decoded, epoch, ranged
from mlflow_carbon.grid.contract import FORECAST, HISTORY, Answer, Login, Request, Token

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.contract import Window

__all__ = ["REGIONS", "VARIABLE", "WattTime"]

VARIABLE = "MLFLOW_CARBON_WATTTIME_LOGIN"
"""Environment variable that holds `name:password`."""

REGIONS = {
    "US-CAL-BANC": "BANC",
    "US-CAL-CISO": "CAISO_NORTH",
    "US-CAL-LDWP": "LDWP",
    "US-NW-BPAT": "BPA",
    "US-TEN-TVA": "TVA",
}
"""The service's region of a zone; of a zone that it cuts into parts, the one that can be read for nothing."""

_SIGNAL, _UNITS = "co2_moer", "lbs_co2_per_mwh"
_G_PER_KWH = 0.45359237  # of a pound per MWh: 453.59237 g over 1000 kWh
_SLOT_S, _HOUR_S, _DAY_S = 300, 3600, 86_400
_MAX_RANGE_S = 30 * _DAY_S  # the service answers at most 32 days at once
_MAX_HORIZON_H = 72
_TOKEN_S = 30 * 60
_RATIOS = {"actual": 0.25, "forecast": 0.35}  # engineering choices: no error is published
_REMEDY = (
    f"set {VARIABLE} to name:password of an account that may read this region "
    "(without a subscription: CAISO_NORTH, zone US-CAL-CISO)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WattTime:
    """Request and parse for the past and the forecast of a region.

    Attributes:
        base_url: Where the service is; tests point it at themselves.
    """

    base_url: str = "https://api.watttime.org"

    name: ClassVar[str] = "watttime.org"
    dataset: ClassVar[str] = "watttime.org, marginal operating emissions (co2_moer)"
    slot_s: ClassVar[int] = _SLOT_S
    history_s: ClassVar[int] = 7 * _DAY_S
    scope: ClassVar[str] = "direct"
    signal: ClassVar[str] = "marginal"
    variable: ClassVar[str] = VARIABLE

    def knows(self, zone_id: str) -> bool:
        """Whether it is a zone of the table."""
        return zone_id in REGIONS

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:
        """The forecast, which begins with the present, then the past."""
        this_slot = int(now_s // _SLOT_S) * _SLOT_S
        asked = []
        if max(window.end_s, window.start_s + 1) > this_slot:
            ahead_h = math.ceil((window.end_s - this_slot) / _HOUR_S)
            asked.append(
                self._ask(place, FORECAST, "forecast", horizon_hours=min(max(ahead_h, 1), _MAX_HORIZON_H))
            )
        first = int(window.start_s // _SLOT_S) * _SLOT_S
        last = min(-int(-window.end_s // _SLOT_S) * _SLOT_S, this_slot)
        for start in range(first, last, _MAX_RANGE_S):
            end = min(start + _MAX_RANGE_S, last)
            asked.append(self._ask(place, HISTORY, "historical", start=minute(start), end=minute(end)))
        return tuple(asked)

    def _ask(self, place: str, what: str, path: str, **more: str | int) -> Request:
        query = {"region": REGIONS[place], "signal_type": _SIGNAL, **more}
        login = Login(url=f"{self.base_url}/login", key="token", lasts_s=_TOKEN_S)
        return Request(
            url=f"{self.base_url}/v3/{path}?{urlencode(query)}",
            what=what,
            place=place,
            token=Token(variable=VARIABLE, login=login),
            remedy=_REMEDY,
        )

    def parse(self, body: bytes, request: Request) -> Answer:
        """Slots of one answer, sorted; of a duplicated slot the one written last.

        Raises:
            GridError: If the answer is empty, no JSON, an error, of another region, signal, unit or slot
                length, or without a usable slot.
        """
        content = decoded(body, self.name)
        meta = content.get("meta") if isinstance(content, dict) else None
        rows = content.get("data") if isinstance(content, dict) else None
        if not isinstance(meta, dict) or not isinstance(rows, list):
            raise GridError(f"{self.name}: expected `data` and `meta`, got something else")
        _check(meta, REGIONS.get(request.place, ""))
        kind = "forecast" if request.what == FORECAST else "actual"
        issued_s = epoch(meta.get("generated_at")) if kind == "forecast" else None
        slots: dict[int, IntensitySlot] = {}
        for row in rows:
            slot = _slot(row, kind)
            if slot is not None:
                slots[slot.start_s] = slot if issued_s is None else replace(slot, issued_s=issued_s)
        if not slots:
            raise GridError(f"{self.name}: expected slots of 5 minutes, got none that can be used")
        return Answer(slots=tuple(slots[t] for t in sorted(slots)), note=_note(meta))


def _check(meta: dict[str, Any], region: str) -> None:
    """Refuse what is not what was asked for, or does not say what it is."""
    expected = {
        "region": region,
        "signal_type": _SIGNAL,
        "units": _UNITS,
        "data_point_period_seconds": _SLOT_S,
    }
    for key, value in expected.items():
        if meta.get(key) != value:
            raise GridError(f"{WattTime.name}: expected {key} {value!r}, got {meta.get(key)!r}")


def _slot(row: Any, kind: str) -> IntensitySlot | None:
    if not isinstance(row, dict):
        return None
    start_s, pounds = epoch(row.get("point_time")), row.get("value")
    if start_s is None or start_s % _SLOT_S or isinstance(pounds, bool):
        return None
    if not isinstance(pounds, int | float) or not 0 <= pounds * _G_PER_KWH <= MAX_GCO2E_PER_KWH:
        return None
    value = pounds * _G_PER_KWH
    return ranged(start_s, _SLOT_S, value, value * _RATIOS[kind], kind)


def _note(meta: dict[str, Any]) -> str:
    """Which region it is, and what the service warns of."""
    given = meta.get("warnings")
    words = [
        " ".join(str(w.get("message") or w.get("type") if isinstance(w, dict) else w).split())
        for w in (given if isinstance(given, list) else [])
    ]
    warned = f"; the service warns: {', '.join(dict.fromkeys(words))[:200]}" if words else ""
    return f"marginal emissions of the region {meta['region']}{warned}"
