"""Great Britain, live: the Carbon Intensity API of the National Energy System Operator (no key).

Builds requests and reads answers; the network is in `fetch`. The figures are direct CO2 with imports, not
life cycle, in half-hour slots (CC BY 4.0): of the country, of its 17 regions, and by outward postcode.
Regions have no actual, only the forecast as it was last revised. What the service is known to get wrong is
handled here: null actuals, duplicated and missing slots, an object where a list was, answers that are none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.answers import believable, decoded, epoch, ranged
from mlflow_carbon.grid.contract import HISTORY, Answer, Request

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.contract import Window

__all__ = ["REGIONS", "CarbonIntensityGB"]

REGIONS = {
    "GB-NORTH-SCOTLAND": 1,
    "GB-SOUTH-SCOTLAND": 2,
    "GB-NORTH-WEST-ENGLAND": 3,
    "GB-NORTH-EAST-ENGLAND": 4,
    "GB-YORKSHIRE": 5,
    "GB-NORTH-WALES-AND-MERSEYSIDE": 6,
    "GB-SOUTH-WALES": 7,
    "GB-WEST-MIDLANDS": 8,
    "GB-EAST-MIDLANDS": 9,
    "GB-EAST-ENGLAND": 10,
    "GB-SOUTH-WEST-ENGLAND": 11,
    "GB-SOUTH-ENGLAND": 12,
    "GB-LONDON": 13,
    "GB-SOUTH-EAST-ENGLAND": 14,
    "GB-ENGLAND": 15,
    "GB-SCOTLAND": 16,
    "GB-WALES": 17,
}
"""The service's numbers of the regions: 1 to 14 are areas of network operators."""

_SLOT_S = 1800
_MAX_REQUEST_S = 13 * 86_400  # the service answers at most 14 days at once
_POSTCODE = re.compile(r"[A-Z]{1,2}[0-9][A-Z0-9]?")

# Mean absolute error of the published forecasts over 1.3 million pairs (nmpowell's tracker). For a
# normal error the 95 % half width is 1.96 x sqrt(pi / 2) = 2.456 times that.
_FORECAST_ERROR_G = 24 * 2.456
_ACTUAL_RATIO = 0.1  # the "actual" is itself estimated from metered generation: an engineering choice


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonIntensityGB:
    """Request and parse for the country, a region, or an outward postcode (`GB:SW7`).

    Attributes:
        base_url: Where the service is; tests point it at themselves.
    """

    base_url: str = "https://api.carbonintensity.org.uk"

    name: ClassVar[str] = "carbonintensity.org.uk"
    dataset: ClassVar[str] = "carbonintensity.org.uk (NESO, CC BY 4.0)"
    slot_s: ClassVar[int] = _SLOT_S
    history_s: ClassVar[int] = 2 * _MAX_REQUEST_S
    scope: ClassVar[str] = "direct"
    signal: ClassVar[str] = "average"
    variable: ClassVar[str] = ""

    def knows(self, zone_id: str) -> bool:
        """Whether it is Great Britain or one of its regions."""
        return zone_id == "GB" or zone_id in REGIONS

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:  # noqa: ARG002 - past and future are asked alike
        """Addresses that together cover the window, each at most 13 days long.

        A time exactly on the half hour also brings the slot that ends then, so the minute after is
        asked for; that makes the address the same for all of a slot, too.
        """
        first = int(window.start_s // _SLOT_S) * _SLOT_S
        last = max(first + _SLOT_S, -int(-window.end_s // _SLOT_S) * _SLOT_S)
        before, after = _path(place)
        spans = [(t, min(t + _MAX_REQUEST_S, last)) for t in range(first, last, _MAX_REQUEST_S)]
        return tuple(
            Request(
                url=f"{self.base_url}{before}/{minute(start + 60)}/{minute(end + 60)}{after}",
                what=HISTORY,
                place=place,
                remedy="check the outward postcode, for example grid=gb:SW7" if ":" in place else "",
            )
            for start, end in spans
        )

    def parse(self, body: bytes, request: Request) -> Answer:
        """Slots of one answer, sorted; of a duplicated slot the one written last.

        Raises:
            GridError: If the answer is empty, no JSON, an error, of another region or without a usable slot.
        """
        slots: dict[int, IntensitySlot] = {}
        for row in _rows(decoded(body, self.name), REGIONS.get(request.place)):
            slot = _slot(row)
            if slot is not None:
                slots[slot.start_s] = slot
        if not slots:
            raise GridError(f"{self.name}: expected half-hour slots, got none that can be used")
        note = (
            "" if request.place == "GB" else f"{request.place}: regional figures are forecasts, never actuals"
        )
        return Answer(slots=tuple(slots[t] for t in sorted(slots)), note=note)


def _path(place: str) -> tuple[str, str]:
    """What stands before and after the times in an address."""
    zone_id, _, postcode = place.partition(":")
    if postcode:
        if not _POSTCODE.fullmatch(postcode.upper()):
            raise GridError(f"grid=gb:{postcode}: expected the outward part of a postcode, such as SW7")
        return "/regional/intensity", f"/postcode/{postcode.upper()}"
    if zone_id in REGIONS:
        return "/regional/intensity", f"/regionid/{REGIONS[zone_id]}"
    return "/intensity", ""


def _rows(content: Any, region: int | None) -> list[Any]:
    """The rows under `data`: a list, or an object (or a list of one) with the rows under its own `data`."""
    for _ in range(2):
        if isinstance(content, dict):
            content = _of_region(content, region).get("data")
        if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
            content = content[0] if "data" in content[0] else content
    if isinstance(content, list):
        return content
    raise GridError(f"{CarbonIntensityGB.name}: expected a list under `data`, got {type(content).__name__}")


def _of_region(content: dict[str, Any], region: int | None) -> dict[str, Any]:
    """The object, if it is of the region that was asked for."""
    found = content.get("regionid", region)
    if region is not None and found != region:
        raise GridError(f"{CarbonIntensityGB.name}: expected region {region}, got {found!r}")
    return content


def _slot(row: Any) -> IntensitySlot | None:
    if not isinstance(row, dict) or not isinstance(row.get("intensity"), dict):
        return None
    start_s, end_s = epoch(row.get("from")), epoch(row.get("to"))
    if start_s is None or end_s != start_s + _SLOT_S or start_s % _SLOT_S:
        return None
    for kind in ("actual", "forecast"):
        value = believable(row["intensity"].get(kind))
        if value is not None:
            error = value * _ACTUAL_RATIO if kind == "actual" else _FORECAST_ERROR_G
            return ranged(start_s, _SLOT_S, value, error, kind)
    return None
