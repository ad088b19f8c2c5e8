"""Slots that nobody has given: bridged, or continued from the zone's own past.

The simple end of forecasting, of the standard library alone, for costing and for the chain of `grid`. A plan
may put a better forecaster in its place: anything of the type `Outlook`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.carbon import IntensitySlot

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Outlook", "continued"]

Outlook = Callable[[Mapping[int, IntensitySlot], Sequence[int], float], tuple[IntensitySlot, ...]]
"""(known slots by start, starts wanted, UTC time now) -> slots for those of the starts that it dares to fill."""

_DAY_S, _HOUR_S = 86_400, 3600
_BRIDGE_S = 2 * _HOUR_S
_PROFILE_DAYS = 7
_PROFILE_FROM_S = 3 * _DAY_S  # a profile needs each time of day a few times
_ANOMALY_S = 12 * _HOUR_S
_OLDEST_S = 7 * _DAY_S
# Of a typical grid with an evening peak: trough 03:00, peak 19:00, 8 % standard deviation over the day.
_TROUGH_H, _PEAK_H, _DAILY_SD = 3.0, 19.0, 0.08
_ERROR_RATIO, _ERROR_RATIO_PER_H, _ERROR_RATIO_MAX = 0.1, 0.02, 0.5  # engineering choices
_NAME_BRIDGE = "own history: between two known slots"
_NAME_PROFILE = "own history: same time of the last days"
_NAME_CLIMATOLOGY = "typical day x last level"


@dataclass(frozen=True, slots=True)
class _Usual:
    """What is usual at a time, and how we know."""

    name: str
    at: Callable[[int], float]


def continued(
    known: Mapping[int, IntensitySlot], wanted: Sequence[int], now_s: float
) -> tuple[IntensitySlot, ...]:
    """Slots for times that nobody has given, from the first known one on.

    Gaps of up to 2 h are bridged linearly. Else a value is what is usual then, plus the distance of the last
    known slot from what was usual, which decays to 1/e in 12 h. Usual is the mean of the same time over the last
    seven days where three are known, else a typical day at the level of the last 24 h. Times before `now_s` are
    `estimated`, later ones `forecast`. Nothing is said of times more than seven days after the last known slot.

    Args:
        known: Slots of one length, by start.
        wanted: Starts to fill.
        now_s: UTC time now.
    """
    if not known:
        return ()
    starts = sorted(known)
    step_s = known[starts[0]].end_s - starts[0]
    usual = _usual(known, starts)
    return tuple(
        replace(slot, issued_s=now_s, fetched_s=now_s)
        for t in wanted
        if t not in known
        for slot in _filled(known, starts, t, step_s, usual, now_s)
    )


def _filled(  # noqa: PLR0913 - what one slot is made of, inside this module
    known: Mapping[int, IntensitySlot],
    starts: Sequence[int],
    t: int,
    step_s: int,
    usual: _Usual,
    now_s: float,
) -> Iterator[IntensitySlot]:
    from bisect import bisect_left

    index = bisect_left(starts, t)
    if index == 0 or t - starts[index - 1] > _OLDEST_S:
        return
    before, after = starts[index - 1], starts[index] if index < len(starts) else None
    last = known[before].gco2e_per_kwh
    if after is not None and after - before - step_s <= _BRIDGE_S:
        value = last + (known[after].gco2e_per_kwh - last) * (t - before) / (after - before)
        name = _NAME_BRIDGE
    else:
        value = usual.at(t) + (last - usual.at(before)) * math.exp(-(t - before) / _ANOMALY_S)
        name = usual.name
    value = max(0.0, value)
    ratio = min(_ERROR_RATIO_MAX, _ERROR_RATIO + _ERROR_RATIO_PER_H * (t - before) / _HOUR_S)
    yield IntensitySlot(
        start_s=t,
        end_s=t + step_s,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value * (1 - ratio),
        high_gco2e_per_kwh=value * (1 + ratio),
        kind="forecast" if t > now_s else "estimated",
        source=name,
    )


def _usual(known: Mapping[int, IntensitySlot], starts: Sequence[int]) -> _Usual:
    """A profile of the last days, or a typical day at the last level."""
    newest = starts[-1]
    recent = [t for t in starts if newest - t < _DAY_S]
    by_time: dict[int, list[float]] = {}
    for t in starts:
        if newest - t < _PROFILE_DAYS * _DAY_S:
            by_time.setdefault(t % _DAY_S, []).append(known[t].gco2e_per_kwh)
    level = sum(known[t].gco2e_per_kwh for t in recent) / sum(_typical(t) for t in recent)
    if newest - starts[0] < _PROFILE_FROM_S:
        return _Usual(_NAME_CLIMATOLOGY, lambda t: level * _typical(t))
    mean = {time: sum(values) / len(values) for time, values in by_time.items()}
    return _Usual(_NAME_PROFILE, lambda t: mean.get(t % _DAY_S, level * _typical(t)))


def _typical(t: int) -> float:
    """A typical day around 1: two half cosines between trough and peak, UTC."""
    hour = t % _DAY_S / _HOUR_S
    rise = (_PEAK_H - _TROUGH_H) % 24
    since = (hour - _TROUGH_H) % 24
    phase = since / rise if since < rise else 1 + (since - rise) / (24 - rise)
    return 1 - math.sqrt(2) * _DAILY_SD * math.cos(math.pi * phase)
