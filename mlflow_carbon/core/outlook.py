"""Slots that nobody has given: bridged, or continued from the zone's own past.

The simple end of forecasting, of the standard library alone, for costing and for the chain of `grid`. A plan
may put a better forecaster in its place: anything of the type `Outlook`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot

__all__ = ["Given", "Outlook", "continued", "given"]

Outlook = Callable[[Mapping[int, IntensitySlot], Sequence[int], float], tuple[IntensitySlot, ...]]
"""(known slots by start, starts wanted, UTC time now) -> slots for the starts that it dares to fill."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a source itself has said, for a forecaster to start from: nothing of ours and nothing annual.

    Attributes:
        step_s: Length of a slot in seconds; 0 where nothing was said.
        past: gCO2e/kWh of the slots that have begun, by start.
        ahead: gCO2e/kWh of the source's own forecast of the slots to come, by start.
    """

    step_s: int
    past: Mapping[int, float]
    ahead: Mapping[int, float]


def given(series: IntensitySeries, now_s: float) -> Given:
    """Past and forecast of a series by the source that it names."""
    said = [s for s in series.slots if s.source in {"", series.provider}]
    ahead = [s for s in said if s.start_s > now_s]
    return Given(
        step_s=said[0].end_s - said[0].start_s if said else 0,
        past={s.start_s: s.gco2e_per_kwh for s in said if s.start_s <= now_s},
        ahead={s.start_s: s.gco2e_per_kwh for s in ahead},
    )


def continued(
    known: Mapping[int, IntensitySlot], wanted: Sequence[int], now_s: float
) -> tuple[IntensitySlot, ...]:
    """Slots for times that nobody has given, from the first known one on.

    Gaps of up to 2 h are bridged linearly. Else a value is what is usual then, plus the distance of the
    last known slot from what was usual, which decays to 1/e in 12 h. Usual is the mean of the same time
    over the last seven days where three are known, else a typical day at the level of the last 24 h.
    Times up to `now_s` are `estimated`, later ones `forecast`. Nothing is said of times more than seven days
    after the last known slot.

    Args:
        known: Slots of one length, by start.
        wanted: Starts to fill.
        now_s: UTC time now.
    """
    if not known:
        return ()
    past = _Past.of(known)
    guesses = ((t, past.guess(t)) for t in wanted if t not in known)
    return tuple(
        IntensitySlot(
            start_s=t,
            end_s=t + past.step_s,
            gco2e_per_kwh=guess.value,
            low_gco2e_per_kwh=guess.value * (1 - guess.ratio),
            high_gco2e_per_kwh=guess.value * (1 + guess.ratio),
            kind="forecast" if t > now_s else "estimated",
            source=guess.name,
            issued_s=now_s,
            fetched_s=now_s,
        )
        for t, guess in guesses
        if guess is not None
    )


class _Guess(NamedTuple):
    """A value, half its range as a ratio, and how it was made."""

    value: float
    ratio: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What is known, sorted, and what is usual by the time of day.

    Attributes:
        known: Slots by start.
        starts: Their starts, ascending.
        step_s: Their length.
        level: Mean of the last 24 h over that of a typical day.
        profile: Mean by second of the day; empty where too little is known.
    """

    known: Mapping[int, IntensitySlot]
    starts: Sequence[int]
    step_s: int
    level: float
    profile: Mapping[int, float]

    @classmethod
    def of(cls, known: Mapping[int, IntensitySlot]) -> _Past:
        starts = sorted(known)
        newest = starts[-1]
        recent = [t for t in starts if newest - t < _DAY_S]
        by_time: dict[int, list[float]] = {}
        if newest - starts[0] >= _PROFILE_FROM_S:
            for t in starts:
                if newest - t < _PROFILE_DAYS * _DAY_S:
                    by_time.setdefault(t % _DAY_S, []).append(known[t].gco2e_per_kwh)
        return cls(
            known=known,
            starts=starts,
            step_s=known[newest].end_s - newest,
            level=sum(known[t].gco2e_per_kwh for t in recent) / sum(_typical(t) for t in recent),
            profile={time: sum(values) / len(values) for time, values in by_time.items()},
        )

    def usual(self, t: int) -> float:
        """What is usual at a time."""
        return self.profile.get(t % _DAY_S, self.level * _typical(t))

    def guess(self, t: int) -> _Guess | None:
        """A value for a time that is not known; None before the first known slot and long after the last."""
        index = bisect_left(self.starts, t)
        if index == 0 or t - self.starts[index - 1] > _OLDEST_S:
            return None
        before, after = self.starts[index - 1], next(iter(self.starts[index : index + 1]), None)
        last = self.known[before].gco2e_per_kwh
        ratio = min(_ERROR_RATIO_MAX, _ERROR_RATIO + _ERROR_RATIO_PER_H * (t - before) / _HOUR_S)
        if after is not None and after - before - self.step_s <= _BRIDGE_S:
            slope = (self.known[after].gco2e_per_kwh - last) / (after - before)
            return _Guess(last + slope * (t - before), ratio, _NAME_BRIDGE)
        anomaly = (last - self.usual(before)) * math.exp(-(t - before) / _ANOMALY_S)
        name = _NAME_PROFILE if self.profile else _NAME_CLIMATOLOGY
        return _Guess(max(0.0, self.usual(t) + anomaly), ratio, name)


def _typical(t: int) -> float:
    """A typical day around 1: two half cosines between trough and peak, UTC."""
    hour = t % _DAY_S / _HOUR_S
    rise = (_PEAK_H - _TROUGH_H) % 24
    since = (hour - _TROUGH_H) % 24
    phase = since / rise if since < rise else 1 + (since - rise) / (24 - rise)
    return 1 - math.sqrt(2) * _DAILY_SD * math.cos(math.pi * phase)
