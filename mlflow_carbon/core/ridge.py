"""Forecasts that learn: ridge regression on the own history, walked forward, and its blend with the profile.

Once a week of history all weights are fitted anew on everything that had happened by then, so a row knows
only its past. Why this model and these constants: decision record 0017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlflow_carbon.core.history import HOUR_S
from mlflow_carbon.core.paths import profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlflow_carbon.core.paths import Track

__all__ = ["blend", "ridge"]

PENALTY = 3.0
"""Ridge penalty on standardised features; one row of history weighs 1."""
HARMONICS = 3
EQUAL_WEIGHT = 0.1
"""How strongly the blend is drawn to equal weights, as a share of the mean squared error."""
_TRAIN_DAYS = 7
_LEARN_DAYS = 18
_GROUP_H = 4
_LAGS_H = (
    *range(26),
    27,
    30,
    33,
    36,
    42,
    47,
    48,
    49,
    71,
    72,
    73,
    95,
    96,
    119,
    120,
    143,
    144,
    145,
    166,
    167,
    168,
)


def ridge(track: Track, horizon: int) -> NDArray[np.float64]:
    """Direct ridge: each slot ahead is regressed on past values, means, the clock and the weekday.

    The profile stands in for rows before enough history has passed (about four weeks).
    """
    return _learned(track, horizon, profile(track, horizon))[0]


def blend(track: Track, horizon: int) -> NDArray[np.float64]:
    """Ridge and profile, weighted for each stretch of the horizon by the errors that both have made so far.

    The weight minimises the squared error of the past (Bates and Granger 1969), drawn to one half.
    """
    second = profile(track, horizon)
    first, is_learned = _learned(track, horizon, second)
    target = np.where(is_learned[:, None], _ahead(track.values, horizon), np.nan)
    errors = first - target, second - target
    block, step = track.per_day * _TRAIN_DAYS, track.slots(_GROUP_H)
    sums = [_running(errors[i] * errors[j]) for i, j in ((0, 0), (0, 1), (1, 1))]
    found = 0.5 * (first + second)
    for start in range(block, len(track.values), block):
        last = start - horizon  # its whole horizon has happened by `start`
        if not is_learned[: max(0, last - block)].any():
            continue
        rows = slice(start, start + block)
        for ahead in range(1, horizon, step):
            columns = slice(ahead, min(ahead + step, horizon))
            a, both, b = (float(total[last, columns].sum()) for total in sums)
            share = _share(a, both, b)
            found[rows, columns] = share * first[rows, columns] + (1 - share) * second[rows, columns]
    return found


def _learned(
    track: Track, horizon: int, otherwise: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The ridge's forecasts, another's where it has none yet, and which rows are its own."""
    made = _walk(_features(track), _ahead(track.values, horizon), track.per_day)
    is_learned = np.asarray(np.isfinite(made).all(axis=1))
    found = np.where(is_learned[:, None], np.maximum(made, 0.0), otherwise)
    found[:, 0] = track.values
    return found, is_learned


def _share(a: float, both: float, b: float) -> float:
    """Weight of the first of two forecasts from the sums of their squared errors and of the product."""
    pull = EQUAL_WEIGHT * (a + b) / 2
    spread = a - 2 * both + b + 2 * pull
    return min(1.0, max(0.0, (b - both + pull) / spread)) if spread > 0 else 0.5


def _running(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the rows so far; what has not happened yet counts as nothing and is never read."""
    return np.asarray(np.cumsum(np.nan_to_num(products), axis=0))


def _ahead(values: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """Row t: what came in slots t to t + horizon - 1, not a number beyond the end."""
    longer = np.concatenate([values, np.full(horizon - 1, np.nan)])
    return np.lib.stride_tricks.sliding_window_view(longer, horizon)


@dataclass(slots=True, eq=False)
class _Sums:
    """Sums of products of features (with a leading 1) and targets: all that a fit needs of the past."""

    features: NDArray[np.float64]
    targets: NDArray[np.float64]

    def add(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self.features += x.T @ x
        self.targets += x.T @ y

    def fit(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Means of the features, slopes and means of the targets."""
        count = self.features[0, 0]
        mean, level = self.features[0, 1:] / count, self.targets[0] / count
        covariance = self.features[1:, 1:] / count - np.outer(mean, mean)
        scale = np.sqrt(np.maximum(np.diag(covariance), 1e-9))
        matrix = covariance / np.outer(scale, scale) + PENALTY / count * np.eye(len(mean))
        right = (self.targets[1:] / count - np.outer(mean, level)) / scale[:, None]
        return mean, np.linalg.solve(matrix, right) / scale[:, None], level


def _walk(x: NDArray[np.float64], y: NDArray[np.float64], per_day: int) -> NDArray[np.float64]:
    """Fit at the start of each week on the rows whose targets were all known then, and forecast the week."""
    count, horizon = y.shape
    ones = np.concatenate([np.ones((count, 1)), x], axis=1)
    is_whole = np.isfinite(x).all(axis=1)
    first = int(np.argmax(is_whole)) if is_whole.any() else count
    sums = _Sums(np.zeros((ones.shape[1],) * 2), np.zeros((ones.shape[1], horizon)))
    found, done, block = np.full(y.shape, np.nan), first, _TRAIN_DAYS * per_day
    for start in range(block, count, block):
        known = start - horizon + 1
        if known > done:
            sums.add(ones[done:known], y[done:known])
            done = known
        if done - first >= _LEARN_DAYS * per_day:
            mean, slopes, level = sums.fit()
            found[start : start + block] = (x[start : start + block] - mean) @ slopes + level
    return found


def _features(track: Track) -> NDArray[np.float64]:
    """What each slot knows: past values, means of days, the clock, the weekday and some of their products."""
    values, per_hour = track.values, HOUR_S / track.step_s
    day, week = track.per_day, 7 * track.per_day
    lags = sorted({round(hours * per_hour) for hours in _LAGS_H})
    past = np.stack([_shifted(values, lag) for lag in lags], axis=1)
    a_week, a_day, a_while = (_mean(values, n) for n in (week, day, track.slots(6)))
    ahead = sorted({round(hour * per_hour) for hour in range(24)})
    usual = np.stack([_same_time(values, day, slots) for slots in ahead], axis=1)
    hour, weekday = track.hour(), track.weekday()
    clock = (hour.astype(int)[:, None] == np.arange(24)).astype(float)
    days = (weekday[:, None] == np.arange(7)).astype(float)
    turns = 2 * np.pi * hour[:, None] / 24 * np.arange(1, HARMONICS + 1)
    waves = np.concatenate([np.sin(turns), np.cos(turns)], axis=1)
    lift = np.stack([values - a_week, a_while - a_week, a_day - a_week], axis=1)
    weekend = days[:, 4:]  # Friday to Sunday: the days whose next day differs
    products = [(part[:, :, None] * waves[:, None, :]).reshape(len(values), -1) for part in (lift, weekend)]
    daily = np.stack([_shifted(a_day, n * day) for n in range(3)], axis=1)
    parts = [past, clock, days, a_week[:, None], usual - a_week[:, None], daily, *products]
    return np.concatenate(parts, axis=1)


def _shifted(values: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """The values so many slots before; not a number where there is none."""
    return np.concatenate([np.full(min(lag, len(values)), np.nan), values[: max(0, len(values) - lag)]])


def _mean(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Mean of the last so many slots; not a number before there are as many."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    found = np.full(len(values), np.nan)
    found[count - 1 :] = (total[count:] - total[:-count]) / count
    return found


def _same_time(values: NDArray[np.float64], day: int, ahead: int) -> NDArray[np.float64]:
    """Mean over the last seven days of the time of day that is so many slots ahead."""
    return np.asarray(np.mean([_shifted(values, day * back - ahead) for back in range(1, 8)], axis=0))
