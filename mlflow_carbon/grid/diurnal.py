"""A mock: invented figures, peak at 18:00 and trough at 03:00 UTC. Only where asked for, always labelled.

A pure function of seed, zone and time: no clock, no generator with a state, so any part of it can be asked
for in any order. Noise that changed from slot to slot at random would make waiting look far too good; the
anomaly here lasts, as that of real grids does (correlation above 0.95 after an hour, 0.5 to 0.8 after a day).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar

from mlflow_carbon.grid.answers import ranged

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.contract import Window

__all__ = ["Diurnal", "value"]

_PEAK_H, _TROUGH_H = 18.0, 3.0
_DAY_S, _HOUR_S, _SLOT_S = 86_400, 3600, 1800
_DAILY_SD = 0.08
# Length between independent knots in hours, and standard deviation as a share of the mean.
_ANOMALIES = ((96.0, 0.20), (12.0, 0.09), (1.0, 0.02))
_LOWEST = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Diurnal:
    """The mock as a source.

    Attributes:
        seed: Another seed is another week of weather.
    """

    seed: int = 0

    name: ClassVar[str] = "mock:diurnal"
    dataset: ClassVar[str] = "invented: peak 18:00, trough 03:00 UTC"
    slot_s: ClassVar[int] = _SLOT_S
    scope: ClassVar[str] = "not stated"
    signal: ClassVar[str] = "average"

    def slots(self, zone_id: str, window: Window, now_s: float) -> tuple[IntensitySlot, ...]:
        """Slots that overlap the window; those to come are `forecast`, the others `estimated`."""
        first = int(window.start_s // _SLOT_S) * _SLOT_S
        last = max(first + _SLOT_S, math.ceil(window.end_s))
        starts = range(first, last, _SLOT_S)
        found = ((t, value(self.seed, zone_id, t + _SLOT_S / 2)) for t in starts)
        return tuple(ranged(t, _SLOT_S, v, 0.0, "forecast" if t > now_s else "estimated") for t, v in found)


def value(seed: int, zone_id: str, t_s: float) -> float:
    """The invented intensity at a time, in gCO2e/kWh: mean of the zone x (1 + time of day + anomaly)."""
    level = 150 + 300 * _uniform(seed, zone_id, "level", 0)
    anomaly = sum(sd * _noise(seed, zone_id, hours, t_s) for hours, sd in _ANOMALIES)
    return level * max(_LOWEST, 1 + _of_day(t_s) + anomaly)


def _of_day(t_s: float) -> float:
    """Two half cosines, up from the trough to the peak and down again."""
    hour = t_s % _DAY_S / _HOUR_S
    rise = (_PEAK_H - _TROUGH_H) % 24
    since = (hour - _TROUGH_H) % 24
    phase = since / rise if since < rise else 1 + (since - rise) / (24 - rise)
    return -math.sqrt(2) * _DAILY_SD * math.cos(math.pi * phase)


def _noise(seed: int, zone_id: str, hours: float, t_s: float) -> float:
    """Normal values at knots, joined so that the variance stays 1 between them."""
    index, part = divmod(t_s / _HOUR_S / hours, 1.0)
    before, after = (_normal(seed, zone_id, f"{hours}", int(index) + n) for n in (0, 1))
    angle = part * math.pi / 2
    return before * math.cos(angle) + after * math.sin(angle)


def _normal(seed: int, zone_id: str, name: str, index: int) -> float:
    """A standard normal value, at most 2.5 from zero (Box and Muller)."""
    u, v = (_uniform(seed, zone_id, f"{name}/{half}", index) for half in ("u", "v"))
    found = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
    return max(-2.5, min(2.5, found))


def _uniform(seed: int, zone_id: str, name: str, index: int) -> float:
    """A number in (0, 1) that depends on its arguments only."""
    digest = blake2b(f"{seed}/{zone_id}/{name}/{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / (2**64 + 2)
