"""The USA, live: hourly generation by fuel of the Energy Information Administration (a free key).

What balancing authorities report on form EIA-930, made an intensity as said in `mix`; with a lag of hours to
a day, so that the present is carried on from it. The key goes into the address, since nothing else is
documented; `secret` keeps it out of what is said. A period is the hour that ENDS then, UTC. Values are text
or null; beyond 5000 rows an answer is cut off. Pumped storage that is not reported apart is in the hydro.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import factors, mix
from mlflow_carbon.grid.answers import decoded, epoch
from mlflow_carbon.grid.contract import HISTORY, Answer, Request, Token

if TYPE_CHECKING:
    from mlflow_carbon.grid.contract import Window

__all__ = ["FACTORS", "RESPONDENTS", "VARIABLE", "EnergyInformationAdministration"]

VARIABLE = "MLFLOW_CARBON_EIA_KEY"
"""Environment variable that holds the key."""

RESPONDENTS = {
    "US": "US48",
    "US-CAL-BANC": "BANC",
    "US-CAL-CISO": "CISO",
    "US-CAL-LDWP": "LDWP",
    "US-CAR-DUK": "DUK",
    "US-CENT-SWPP": "SWPP",
    "US-FLA-FPL": "FPL",
    "US-MIDA-PJM": "PJM",
    "US-MIDW-MISO": "MISO",
    "US-NE-ISNE": "ISNE",
    "US-NW-BPAT": "BPAT",
    "US-NY-NYIS": "NYIS",
    "US-SE-SOCO": "SOCO",
    "US-SW-AZPS": "AZPS",
    "US-SW-NEVP": "NEVP",
    "US-TEN-TVA": "TVA",
    "US-TEX-ERCO": "ERCO",
}
"""The service's code of each zone: a balancing authority, or the lower 48 states."""

FACTORS = {
    "COL": factors.COAL,
    "GEO": factors.GEOTHERMAL,
    "NG": factors.GAS,
    "NUC": factors.NUCLEAR,
    "SNB": factors.SOLAR,  # with a battery of its own
    "SUN": factors.SOLAR,
    "WAT": factors.HYDRO,
    "WNB": factors.WIND_ONSHORE,  # with a battery of its own
    "WND": factors.WIND_ONSHORE,
}
"""Factor of each fuel, by the service's code; oil and others have none."""

_STORAGE = frozenset({"BAT", "OES", "PS", "UES"})
_THERMAL = frozenset({"COL", "GEO", "NG", "NUC", "OIL"})
_OWN_USE_MW = 100  # a thermal fleet that takes more than this from its grid is a wrong report
_HOUR_S, _DAY_S = 3600, 86_400
_MAX_ROWS = 5000
_PIECE_S = 12 * _DAY_S  # 288 hours of at most 16 fuels are 4608 rows
_LAG_S = 2 * _DAY_S
_PERIOD = re.compile(r"\d{4}-\d\d-\d\dT\d\d")
_REMEDY = f"set {VARIABLE} to a key of your own, free at www.eia.gov/opendata/register.php"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyInformationAdministration:
    """Request and parse for the generation by fuel of a balancing authority.

    Attributes:
        base_url: Where the service is; tests point it at themselves.
    """

    base_url: str = "https://api.eia.gov"

    name: ClassVar[str] = "eia.gov"
    dataset: ClassVar[str] = f"eia.gov (EIA-930), generation mix x {factors.TABLE}, imports not counted"
    slot_s: ClassVar[int] = _HOUR_S
    history_s: ClassVar[int] = 28 * _DAY_S
    scope: ClassVar[str] = "life cycle"
    signal: ClassVar[str] = "average"
    variable: ClassVar[str] = VARIABLE

    def knows(self, zone_id: str) -> bool:
        """Whether it is a balancing authority of the table, or the USA."""
        return zone_id in RESPONDENTS

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:
        """Addresses of at most 12 days, from two days before the window: reports come late."""
        last = -int(-min(window.end_s, now_s) // _HOUR_S) * _HOUR_S
        first = int(min(window.start_s, last) - _LAG_S) // _DAY_S * _DAY_S
        spans = [(t, min(t + _PIECE_S, last)) for t in range(first, last, _PIECE_S)]
        return tuple(self._ask(place, start, end) for start, end in reversed(spans))

    def _ask(self, place: str, start_s: int, end_s: int) -> Request:
        query = {
            "frequency": "hourly",
            "data[0]": "value",
            "facets[respondent][]": RESPONDENTS[place],
            # The hours from start to end are named by their ends, and both limits are included.
            "start": minute(start_s + _HOUR_S)[:13],
            "end": minute(end_s)[:13],
            "sort[0][column]": "period",
            "sort[0][direction]": "asc",
            "offset": 0,
            "length": _MAX_ROWS,
        }
        return Request(
            url=f"{self.base_url}/v2/electricity/rto/fuel-type-data/data/?{urlencode(query)}",
            what=HISTORY,
            place=place,
            token=Token(parameter="api_key", variable=VARIABLE),
            remedy=_REMEDY,
        )

    def parse(self, body: bytes, request: Request) -> Answer:
        """Intensity by the hour, sorted; of a fuel that comes twice in an hour the one written last.

        Raises:
            GridError: If the answer is empty, no JSON, an error, of another authority or unit, or has no
                hour in which most of the generation is reported and has a factor.
        """
        content = decoded(body, self.name)
        found = content.get("response") if isinstance(content, dict) else None
        given = found.get("data") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(given, list):
            raise GridError(f"{self.name}: expected rows under `response` and `data`, got something else")
        rows = _rows(given, RESPONDENTS.get(request.place, ""))
        is_cut = len(given) >= _MAX_ROWS or _number(found.get("total")) not in {None, float(len(given))}
        if is_cut and rows:
            del rows[max(rows)]  # the hour at the cut may lack some of its fuels
        answer = mix.answer(rows, FACTORS, name=self.name, place=request.place, slots_s=(_HOUR_S, _HOUR_S))
        cut = f"; cut off after {len(given)} rows, the last hour is left out" if is_cut else ""
        return Answer(slots=answer.slots, note=f"{answer.note}{cut}{_warned(found.get('warnings'))}")


def _rows(given: list[Any], respondent: str) -> dict[int, mix.Row]:
    """Power by fuel in each hour, by its start."""
    name = EnergyInformationAdministration.name
    rows: dict[int, mix.Row] = {}
    for row in given:
        if not isinstance(row, dict):
            continue
        for key, expected in (("respondent", respondent), ("value-units", "megawatthours")):
            if row.get(key, expected) != expected:
                raise GridError(f"{name}: expected {key} {expected!r}, got {row[key]!r}")
        period, fuel = row.get("period"), row.get("fueltype")
        is_hour = isinstance(period, str) and _PERIOD.fullmatch(period)
        end_s = epoch(f"{period}:00Z") if is_hour else None
        if end_s is not None and isinstance(fuel, str) and fuel not in _STORAGE:
            rows.setdefault(end_s - _HOUR_S, {})[fuel] = _power(fuel, _number(row.get("value")))
    return rows


def _power(fuel: str, value: float | None) -> float | None:
    """Mean megawatts in the hour; None where a report cannot be true."""
    if value is not None and fuel in _THERMAL and value < -_OWN_USE_MW:
        return None
    return mix.power(value)


def _number(value: Any) -> float | None:
    """A number, also one written as text."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _warned(warnings: Any) -> str:
    """The service's own warnings."""
    given = warnings if isinstance(warnings, list) else []
    words = [str(w.get("warning") or "") for w in given if isinstance(w, dict)]
    said = ", ".join(dict.fromkeys(w for w in words if w))[:200]
    return f"; the service warns: {said}" if said else ""
