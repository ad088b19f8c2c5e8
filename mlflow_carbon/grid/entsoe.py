"""Europe, live: generation by type of the ENTSO-E Transparency Platform (a token; the extra `entsoe`).

The document A75, made an intensity as said in `mix`; slots of 15 minutes, over which a type that is reported
by the hour is spread. The network is ours; codes of areas and the reading of the XML are those of entsoe-py,
which is imported where it is used, since it brings pandas. It reads what a broken connection has left as if
it were all, so that the end of the document is looked for here. "No data" comes as a good answer.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import factors, mix
from mlflow_carbon.grid.contract import HISTORY, Request, Token

if TYPE_CHECKING:
    from mlflow_carbon.grid.contract import Answer, Window

__all__ = ["AREAS", "FACTORS", "VARIABLE", "Entsoe"]

VARIABLE = "MLFLOW_CARBON_ENTSOE_TOKEN"
"""Environment variable that holds the token."""

_COUNTRIES = "AT BA BE BG CH CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV ME MK NL NO PL PT RO RS SE SI SK"
AREAS = {country: country for country in _COUNTRIES.split()} | {
    f"{country}-{country}{number}": f"{country}_{number}"
    for country, count in (("NO", 5), ("SE", 4))
    for number in range(1, count + 1)
}
"""Name of the area in entsoe-py of each zone: countries, and bidding zones of Norway and Sweden."""

FACTORS = {
    "B01": factors.BIOMASS,
    "B02": factors.COAL,  # lignite
    "B04": factors.GAS,
    "B05": factors.COAL,
    "B09": factors.GEOTHERMAL,
    "B11": factors.HYDRO,
    "B12": factors.HYDRO,
    "B13": factors.OCEAN,
    "B14": factors.NUCLEAR,
    "B16": factors.SOLAR,
    "B18": factors.WIND_OFFSHORE,
    "B19": factors.WIND_ONSHORE,
}
"""Factor of each type of station, by ENTSO-E's code."""

_STORAGE = ("B10", "B25")
_CONSUMED = "Actual Consumption"
_ROOT = "GL_MarketDocument"
_SLOT_S, _HOUR_S, _DAY_S = 900, 3600, 86_400
_LENGTHS_S = (900, 1800, 3600)
_PIECE_S = 10 * _DAY_S  # about 2 MB of XML, half of what one answer may be
_NO_DATA = 404  # as a service of today would answer that it has nothing of this place and time
_REMEDY = f"set {VARIABLE} to a token of your account at transparency.entsoe.eu"
_BROKEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entsoe:
    """Request and parse for the generation by type of an area.

    Attributes:
        base_url: Where the service is; tests point it at themselves.
    """

    base_url: str = "https://web-api.tp.entsoe.eu"

    name: ClassVar[str] = "entsoe.eu"
    dataset: ClassVar[str] = f"entsoe.eu (A75), generation mix x {factors.TABLE}, imports not counted"
    slot_s: ClassVar[int] = _SLOT_S
    history_s: ClassVar[int] = 7 * _DAY_S  # entsoe-py takes about a third of a second to read a day
    scope: ClassVar[str] = "life cycle"
    signal: ClassVar[str] = "average"
    variable: ClassVar[str] = VARIABLE

    def knows(self, zone_id: str) -> bool:
        """Whether it is an area of the table."""
        return zone_id in AREAS

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:
        """Addresses of at most 10 days in whole hours, from a day before the window: the newest come late.

        Raises:
            GridError: If entsoe-py is not there.
        """
        mappings, _ = _library()
        code = mappings.Area[AREAS[place]].code
        last = -int(-min(window.end_s, now_s) // _HOUR_S) * _HOUR_S
        first = int(min(window.start_s, last) - _DAY_S) // _DAY_S * _DAY_S
        spans = [(t, min(t + _PIECE_S, last)) for t in range(first, last, _PIECE_S)]
        return tuple(self._ask(place, code, start, end) for start, end in reversed(spans))

    def _ask(self, place: str, code: str, start_s: int, end_s: int) -> Request:
        query = {
            "documentType": "A75",
            "processType": "A16",
            "in_Domain": code,
            "periodStart": _minute(start_s),
            "periodEnd": _minute(end_s),
        }
        return Request(
            url=f"{self.base_url}/api?{urlencode(query)}",
            what=HISTORY,
            place=place,
            token=Token(parameter="securityToken", variable=VARIABLE),
            remedy=_REMEDY,
        )

    def parse(self, body: bytes, request: Request) -> Answer:
        """Intensity by the quarter hour, sorted.

        Raises:
            GridError: If the answer is empty, no XML, cut off, no data, of another area or unit, cannot be
                read by entsoe-py, or has no slot in which most of the generation is reported and has a
                factor; or if entsoe-py is not there.
        """
        mappings, parsers = _library()
        document = _document(body)
        _check(document, mappings.Area[AREAS[request.place]].code)
        try:
            rows = _rows(parsers.parse_generation(document), mappings.PSRTYPE_MAPPINGS)
        except _BROKEN as error:
            got = f"{type(error).__name__}: {error}"[:200]
            raise GridError(f"{self.name}: expected what entsoe-py can read, got {got}") from error
        return mix.answer(rows, FACTORS, name=self.name, place=request.place, slots_s=(_SLOT_S, _SLOT_S))


def _library() -> tuple[Any, Any]:
    """Codes and parsers of entsoe-py."""
    try:
        from entsoe import mappings, parsers
    except ImportError:
        raise GridError("grid=entsoe needs entsoe-py: pip install mlflow-carbon[entsoe]") from None
    return mappings, parsers


def _minute(t_s: float) -> str:
    return datetime.fromtimestamp(t_s, UTC).strftime("%Y%m%d%H%M")


def _document(body: bytes) -> str:
    """The whole generation document, without what stands before it."""
    name, text = Entsoe.name, body.decode("utf-8", "replace").strip()
    if not text:
        raise GridError(f"{name}: expected XML, got an empty body")
    if "<Acknowledgement_MarketDocument" in text:
        reason = re.search(r"<Reason>.*?<text>(.*?)</text>", text, re.DOTALL)
        words = " ".join(unescape(reason.group(1)).split())[:200] if reason else "nothing more"
        raise GridError(f"{name}: the service says {words!r}", status=_NO_DATA)
    start = text.find(f"<{_ROOT}")
    if start < 0:
        raise GridError(f"{name}: expected a {_ROOT}, got {text[:40]!r}")
    if not text.endswith(f"</{_ROOT}>"):
        raise GridError(f"{name}: expected a whole {_ROOT}, got one that is cut off")
    return text[start:]


def _check(document: str, code: str) -> None:
    """Refuse what is not the generation of this area in megawatts."""
    for tag, expected in (("inBiddingZone_Domain.mRID", code), ("quantity_Measure_Unit.name", "MAW")):
        found = set(re.findall(rf"<{re.escape(tag)}[^>]*>\s*([^<]*?)\s*<", document))
        if found != {expected}:
            got = ", ".join(sorted(found)) or "none"
            raise GridError(f"{Entsoe.name}: expected {tag} {expected!r}, got {got[:100]}")


def _rows(table: Any, types: dict[str, str]) -> dict[int, mix.Row]:
    """Power by type in each quarter hour; each type spread over the quarters of its own length."""
    codes = {label: code for code, label in types.items()}
    rows: dict[int, mix.Row] = {}
    for column in table.columns:
        label, metric = column if isinstance(column, tuple) else (column, "")
        code = codes.get(label, str(label))
        if metric == _CONSUMED or code in _STORAGE:
            continue
        powers = {int(t.timestamp()): mix.power(float(v)) for t, v in table[column].dropna().items()}
        for start_s, value in _spread(powers).items():
            rows.setdefault(start_s, {})[code] = value
    return rows


def _spread(powers: dict[int, float | None]) -> dict[int, float | None]:
    """Values by the quarter hour: what was reported, and between it what was reported for the whole span."""
    starts = sorted(t for t in powers if t % _SLOT_S == 0)
    steps = Counter(b - a for a, b in pairwise(starts) if b - a in _LENGTHS_S)
    length_s = steps.most_common(1)[0][0] if steps else _SLOT_S
    found = {t: powers[t] for t in starts}
    for t in starts:
        for quarter in range(t + _SLOT_S, t + length_s, _SLOT_S):
            found.setdefault(quarter, powers[t])
    return found
