"""Europe, live: the generation mix of Energy-Charts (Fraunhofer ISE; no key), made an intensity by us.

How, and what is left out, is said in `mix`; slots of 15 minutes. Countries that report by the hour are spread
over its quarters. There is no forecast of all kinds, so none is asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import factors, mix
from mlflow_carbon.grid.answers import decoded
from mlflow_carbon.grid.contract import HISTORY, Request

if TYPE_CHECKING:
    from mlflow_carbon.grid.contract import Answer, Window

__all__ = ["COUNTRIES", "FACTORS", "EnergyCharts"]

_LISTED = "AT BA BE BG CH CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV ME MK NL NO PL PT RO RS SE SI SK"
COUNTRIES = frozenset(_LISTED.split())
"""Zones it is asked about: countries that it lists and that report most of what they make."""

FACTORS = {
    "biomass": factors.BIOMASS,
    "fossil brown coal lignite": factors.COAL,
    "fossil gas": factors.GAS,
    "fossil hard coal": factors.COAL,
    "geothermal": factors.GEOTHERMAL,
    "hydro run of river": factors.HYDRO,
    "hydro run of river and poundage": factors.HYDRO,
    "hydro water reservoir": factors.HYDRO,
    "marine": factors.OCEAN,
    "nuclear": factors.NUCLEAR,
    "solar": factors.SOLAR,
    "wind offshore": factors.WIND_OFFSHORE,
    "wind onshore": factors.WIND_ONSHORE,
}
"""Factor of each kind of station, by its name in lower case."""

_NO_SOURCE = re.compile(
    r"load|share|consumption|trading|cross border|import|export|pumped|battery|storage|price"
)
_SLOT_S = 900
_DAY_S = 86_400
_LENGTHS_S = (900, 1800, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCharts:
    """Request and parse for the generation mix of a country.

    Attributes:
        base_url: Where the service is; tests point it at themselves.
    """

    base_url: str = "https://api.energy-charts.info"

    name: ClassVar[str] = "energy-charts.info"
    dataset: ClassVar[str] = f"energy-charts.info, generation mix x {factors.TABLE}, imports not counted"
    slot_s: ClassVar[int] = _SLOT_S
    history_s: ClassVar[int] = 28 * _DAY_S
    scope: ClassVar[str] = "life cycle"
    signal: ClassVar[str] = "average"
    variable: ClassVar[str] = ""

    def knows(self, zone_id: str) -> bool:
        """Whether it is one of the countries that it is asked about."""
        return zone_id in COUNTRIES

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:
        """One address, from a day before the window: the newest hours come late and are carried on."""
        last = -int(-min(window.end_s, now_s) // _SLOT_S) * _SLOT_S
        first = int(min(window.start_s, last) - _DAY_S) // _DAY_S * _DAY_S
        url = f"{self.base_url}/public_power?country={place.lower()}&start={minute(first)}&end={minute(last)}"
        return (Request(url=url, what=HISTORY, place=place),)

    def parse(self, body: bytes, request: Request) -> Answer:
        """Intensity by the quarter hour, sorted.

        Raises:
            GridError: If the answer is empty, no JSON, an error, has other columns than times, or no slot
                in which most of the generation is reported and has a factor.
        """
        content = decoded(body, self.name)
        times, columns = _table(content)
        length_s = _length_s(times)
        rows = {t: {n: c[i] for n, c in columns.items()} for i, t in enumerate(times) if t % _SLOT_S == 0}
        return mix.answer(rows, FACTORS, name=self.name, place=request.place, slots_s=(length_s, _SLOT_S))


def _table(content: Any) -> tuple[list[int], dict[str, list[float | None]]]:
    """Times and the columns of kinds that make electricity, each as long as the times."""
    name = EnergyCharts.name
    times = content.get("unix_seconds") if isinstance(content, dict) else None
    kinds = content.get("production_types") if isinstance(content, dict) else None
    if not isinstance(times, list) or not isinstance(kinds, list):
        raise GridError(f"{name}: expected `unix_seconds` and `production_types`, got something else")
    if not all(isinstance(t, int) and not isinstance(t, bool) and 0 <= t < 2**40 for t in times):
        raise GridError(f"{name}: expected times in whole seconds, got something else")
    columns: dict[str, list[float | None]] = {}
    for kind in kinds:
        if not isinstance(kind, dict) or not isinstance(kind.get("data"), list):
            continue
        label = " ".join(re.findall(r"[a-z]+", str(kind.get("name")).lower()))
        if _NO_SOURCE.search(label):
            continue
        values = [mix.power(v) for v in kind["data"][: len(times)]]
        columns[label] = values + [None] * (len(times) - len(values))
    return times, columns


def _length_s(times: list[int]) -> int:
    """The usual distance of two times: a quarter, a half or a whole hour."""
    steps = Counter(b - a for a, b in pairwise(times) if b - a in _LENGTHS_S)
    return steps.most_common(1)[0][0] if steps else _SLOT_S
