"""Great Britain, live: the Carbon Intensity API of the National Energy System Operator (no key).

Builds requests and reads answers; the network is in `fetch`. The figures are direct CO2 with
imports, not life-cycle, in half-hour slots (CC BY 4.0). What the service is known to get wrong is
handled here: null actuals, duplicated and missing slots, answers that are no answer. Regional
figures are not read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.errors import GridError

__all__ = ["CarbonIntensityGB"]

_SLOT_S = 1800
_MAX_REQUEST_S = 13 * 86_400  # the service answers at most 14 days at once
_MAX_GCO2E_PER_KWH = 2000

# Mean absolute error of the published forecasts over 1.3 million pairs (nmpowell's tracker). For a
# normal error the 95 % half width is 1.96 x sqrt(pi / 2) = 2.456 times that.
_FORECAST_ERROR_G = 24 * 2.456
_ACTUAL_RATIO = 0.1  # the "actual" is itself estimated from metered generation: an engineering choice


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonIntensityGB:
    """Request and parse for the national figure.

    Attributes:
        base_url: Where the service is; tests point it at themselves.
    """

    base_url: str = "https://api.carbonintensity.org.uk"

    name: ClassVar[str] = "carbonintensity.org.uk"
    zones: ClassVar[frozenset[str]] = frozenset({"GB"})
    slot_s: ClassVar[int] = _SLOT_S
    scope: ClassVar[str] = "direct"
    signal: ClassVar[str] = "average"

    def request(self, zone_id: str, start_s: float, end_s: float) -> list[str]:  # noqa: ARG002 - one zone only
        """Addresses that together cover [start, end), each at most 13 days long.

        A time exactly on the half hour also brings the slot that ends then, so the minute after is
        asked for; that makes the address the same for all of a slot, too.
        """
        first = int(start_s // _SLOT_S) * _SLOT_S
        last = max(first + _SLOT_S, -int(-end_s // _SLOT_S) * _SLOT_S)
        starts = range(first, last, _MAX_REQUEST_S)
        return [
            f"{self.base_url}/intensity/{_minute(t)}/{_minute(min(t + _MAX_REQUEST_S, last))}" for t in starts
        ]

    def parse(self, body: bytes) -> tuple[IntensitySlot, ...]:
        """Slots of one answer, sorted; of a duplicated slot the one written last.

        Raises:
            GridError: If the answer is empty, no JSON, an error or holds no usable slot.
        """
        slots: dict[int, IntensitySlot] = {}
        for row in _rows(_decoded(body)):
            slot = _slot(row)
            if slot is not None:
                slots[slot.start_s] = slot
        if not slots:
            raise GridError(f"{self.name}: expected half-hour slots, got none that can be used")
        return tuple(slots[t] for t in sorted(slots))


def _minute(t_s: int) -> str:
    return datetime.fromtimestamp(t_s + 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _decoded(body: bytes) -> Any:
    name = CarbonIntensityGB.name
    if not body.strip():
        raise GridError(f"{name}: expected JSON, got an empty body")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        start = body.lstrip()[:40].decode("utf-8", "replace")
        raise GridError(f"{name}: expected JSON, got {start!r}") from None
    if isinstance(content, dict) and "error" in content:
        error = content["error"]
        message = error.get("message") if isinstance(error, dict) else error
        raise GridError(f"{name}: the service says {str(message)[:200]!r}")
    return content


def _rows(content: Any) -> list[Any]:
    """The rows under `data`, which is a list in some answers and an object with another `data` in others."""
    for _ in range(2):
        if isinstance(content, dict):
            content = content.get("data")
    if isinstance(content, list):
        return content
    raise GridError(f"{CarbonIntensityGB.name}: expected a list under `data`, got {type(content).__name__}")


def _slot(row: Any) -> IntensitySlot | None:
    if not isinstance(row, dict) or not isinstance(row.get("intensity"), dict):
        return None
    start_s, end_s = _epoch(row.get("from")), _epoch(row.get("to"))
    if start_s is None or end_s != start_s + _SLOT_S or start_s % _SLOT_S:
        return None
    for kind in ("actual", "forecast"):
        value = _believable(row["intensity"].get(kind))
        if value is not None:
            error = value * _ACTUAL_RATIO if kind == "actual" else _FORECAST_ERROR_G
            return IntensitySlot(
                start_s=start_s,
                end_s=end_s,
                gco2e_per_kwh=value,
                low_gco2e_per_kwh=max(0.0, value - error),
                high_gco2e_per_kwh=value + error,
                kind=kind,
            )
    return None


def _believable(value: Any) -> float | None:
    """A figure the whole country can have; zero means missing, since some gas always runs."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value <= _MAX_GCO2E_PER_KWH else None


def _epoch(text: Any) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp())
    except (TypeError, ValueError):
        return None
