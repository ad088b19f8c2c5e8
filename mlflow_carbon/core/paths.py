"""Simple forecasts of a history, for every slot of it at once: row t is the forecast made in slot t.

A row uses values up to its own slot and no later one; column 0 is the present, column h is h slots ahead.
Loaded only where a plan is made, since it needs numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlflow_carbon.core.history import DAY_S, HOUR_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlflow_carbon.core.history import Archive, History

__all__ = [
    "ANOMALY_H",
    "PROFILE_DAYS",
    "SHAPES",
    "Track",
    "climatology",
    "deviation",
    "persistence",
    "profile",
]

PROFILE_DAYS = 28
ANOMALY_H = 24.0
"""Days of the profile, and the hours in which its anomaly decays to 1/e (decision record 0017)."""

_ERROR_DAYS = (7, 90)
_TYPICAL_SD_RATIO = 0.25

SHAPES = {"evening": (3.0, 19.0, 0.08), "solar": (12.0, 20.0, 0.21), "mixed": (14.0, 21.0, 0.08)}
"""Local hour of the trough and of the peak, and the standard deviation over the day as a share of the mean.

Rounded typical values of three kinds of grid (wind and gas with an evening peak; solar; wind and solar).
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """A history without gaps, as an array.

    Attributes:
        values: gCO2e/kWh, one per slot.
        start_s: Start of the first slot.
        step_s: Length of a slot.
        archive: Forecasts that a provider has published, if any.
    """

    values: NDArray[np.float64]
    start_s: int
    step_s: int
    archive: Archive | None = None

    @classmethod
    def of(cls, history: History, archive: Archive | None = None) -> Track:
        """The history as an array, its gaps filled.

        Raises:
            ValueError: If every value is missing, or the archive has slots of another length.
        """
        if archive and archive.forecasts and archive.forecasts[0].step_s != history.step_s:
            raise ValueError(
                f"expected forecasts in slots of {history.step_s} s, as the history has, "
                f"got {archive.forecasts[0].step_s} s; bring both to one slot length"
            )
        full, _ = history.filled()
        values = np.array(full.values, dtype=np.float64)
        return cls(values=values, start_s=history.start_s, step_s=history.step_s, archive=archive)

    @property
    def per_day(self) -> int:
        """Slots in a day."""
        return DAY_S // self.step_s

    def slots(self, hours: float) -> int:
        """Slots that hold a number of hours, at least one."""
        return max(1, math.ceil(hours * HOUR_S / self.step_s - 1e-9))

    def hour(self) -> NDArray[np.float64]:
        """UTC hour of the day of each slot's start."""
        seconds = self.start_s + self.step_s * np.arange(len(self.values))
        return np.asarray(seconds % DAY_S / HOUR_S, dtype=np.float64)

    def weekday(self) -> NDArray[np.int64]:
        """Day of the week of each slot in UTC, Monday 0 (the epoch began on a Thursday)."""
        seconds = self.start_s + self.step_s * np.arange(len(self.values))
        return np.asarray((seconds // DAY_S + 3) % 7, dtype=np.int64)


def persistence(track: Track, horizon: int) -> NDArray[np.float64]:
    """The value of the same time on the last day that is known; the present while there is none."""
    rows, ahead = np.arange(len(track.values))[:, None], np.arange(horizon)[None, :]
    back = rows + _day_offset(ahead, track.per_day)
    found = np.where(back >= 0, track.values[np.maximum(back, 0)], track.values[:, None])
    found[:, 0] = track.values
    return np.asarray(found)


def profile(
    track: Track, horizon: int, *, days: int = PROFILE_DAYS, anomaly_h: float = ANOMALY_H
) -> NDArray[np.float64]:
    """Mean of the same time over the last days, plus the present's distance from it, decaying with time."""
    mean = same_time_mean(track, days)
    rows, ahead = np.arange(len(track.values))[:, None], np.arange(horizon)[None, :]
    back = rows + _day_offset(ahead, track.per_day)
    usual = np.where(back >= 0, mean[np.maximum(back, 0)], track.values[:, None])
    anomaly = track.values - usual_now(track, mean)
    found = usual + anomaly[:, None] * np.exp(-np.arange(horizon) * track.step_s / HOUR_S / anomaly_h)
    found[:, 0] = track.values
    return np.asarray(np.maximum(found, 0.0))


def same_time_mean(track: Track, days: int) -> NDArray[np.float64]:
    """For each slot the mean of itself and of the same time of the days before, over so many days at most."""
    total, count = np.zeros_like(track.values), np.zeros_like(track.values)
    for day in range(min(days, -(-len(track.values) // track.per_day))):
        offset = day * track.per_day
        total[offset:] += track.values[: len(track.values) - offset]
        count[offset:] += 1
    return total / count


def usual_now(track: Track, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the days before say of each slot itself; its own value on the first day."""
    usual = track.values.copy()
    usual[track.per_day :] = mean[: -track.per_day] if len(mean) > track.per_day else usual[track.per_day :]
    return usual


def deviation(track: Track, paths: NDArray[np.float64]) -> NDArray[np.float64]:
    """One standard deviation of the error of each forecast: what it was off by in the last 90 days.

    Column h of row t counts forecasts made up to slot t - h, whose outcome is known in slot t. With less than
    a week of them a typical deviation stands in.
    """
    count, horizon = paths.shape
    ahead_h = np.arange(horizon) * track.step_s / HOUR_S
    typical = _TYPICAL_SD_RATIO * np.sqrt(1 - np.exp(-2 * ahead_h / ANOMALY_H))
    level = np.cumsum(track.values) / np.arange(1, count + 1)
    found = level[:, None] * typical[None, :]
    least, most = _ERROR_DAYS[0] * track.per_day, _ERROR_DAYS[1] * track.per_day
    for ahead in range(min(horizon, max(0, count - least + 1))):
        square = (paths[: count - ahead, ahead] - track.values[ahead:]) ** 2
        total = np.concatenate([[0.0], np.cumsum(square)])
        end = np.arange(least, len(total))
        first = np.maximum(end - most, 0)
        found[end + ahead - 1, ahead] = np.sqrt((total[end] - total[first]) / (end - first))
    return np.asarray(found)


def climatology(track: Track, horizon: int) -> NDArray[np.float64]:
    """A typical day at the level of the last day: for a history too short to have a profile of its own.

    Of the shapes in `SHAPES`, at each hour of shift, the one that fits the last day best is taken, since
    local time is not known here.
    """
    level, fitted = _level_and_shape(track)
    values, count, per_day = track.values, len(track.values), track.per_day
    seconds = track.start_s + track.step_s * np.arange(count)
    slot = (seconds // track.step_s % per_day)[:, None] + np.arange(horizon)[None, :]
    usual = level[:, None] * np.take_along_axis(fitted, slot % per_day, axis=1)
    decay = np.exp(-np.arange(horizon) * track.step_s / HOUR_S / ANOMALY_H)
    found = usual + (values - usual[:, 0])[:, None] * decay
    found[:, 0] = values
    return np.asarray(np.maximum(found, 0.0))


def _level_and_shape(track: Track) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the last day, and the typical day that fits it best, by slot of the UTC day."""
    values, per_day = track.values, track.per_day
    count = len(values)
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(count) - per_day + 1, 0)
    level = (total[1:] - total[first]) / (np.arange(count) + 1 - first)
    hour = np.arange(per_day) * track.step_s / HOUR_S
    shapes = np.stack([_shape(hour + shift, *shape) for shape in SHAPES.values() for shift in range(24)])
    slot = (track.start_s // track.step_s + np.arange(count)) % per_day
    product = np.cumsum(values[:, None] * (shapes[:, slot].T - 1.0), axis=0)
    before = np.concatenate([np.zeros((per_day, len(shapes))), product])[:count]
    norm = np.sqrt(((shapes - 1.0) ** 2).sum(axis=1))
    # Of a day in one slot all shapes are flat, and fit alike.
    best = np.argmax((product - before) / np.maximum(norm, 1e-9), axis=1)
    return level, shapes[best]


def _shape(hour: NDArray[np.float64], trough: float, peak: float, sd_ratio: float) -> NDArray[np.float64]:
    """Two half cosines, up from trough to peak and down again, with mean 1 within a few per cent."""
    rise = (peak - trough) % 24
    since = (hour - trough) % 24
    phase = np.where(since < rise, since / rise, 1 + (since - rise) / (24 - rise))
    wave = -np.cos(math.pi * phase) * math.sqrt(2) * sd_ratio
    return np.asarray(1.0 + wave - wave.mean())


def _day_offset(ahead: NDArray[np.int64], per_day: int) -> NDArray[np.int64]:
    """From the present to the newest known slot at the time of day of a slot ahead: 0 or negative."""
    return np.where(ahead > 0, (ahead - 1) % per_day + 1 - per_day, -per_day)
