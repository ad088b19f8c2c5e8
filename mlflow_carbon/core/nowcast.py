"""A provider's forecast, corrected by what has happened since it was issued, and extended past its end.

F(h) + (A_now - F(0)) exp(-h / tau) to begin with; where many forecasts of the past are known, the weights of
the present error, of its mean over six hours and of our own forecast are learned, starting from that formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlflow_carbon.core.history import HOUR_S
from mlflow_carbon.core.paths import ANOMALY_H
from mlflow_carbon.core.ridge import blend

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlflow_carbon.core.history import PublishedForecast
    from mlflow_carbon.core.paths import Track

__all__ = ["provider", "published"]

CORRECTION_H = ANOMALY_H / 2
"""Hours in which the present error decays to 1/e while nothing is learned: half that of the profile."""
PENALTY = 50.0
"""Strength of the prior in hourly rows: about two days of forecasts weigh as much."""
_MEAN_H = 6


def provider(track: Track, horizon: int) -> NDArray[np.float64]:
    """The newest published forecast, corrected; the blend of the own history where there is none.

    Past the end of what was published the blend goes on, with the distance between both decaying.
    """
    own = blend(track, horizon)
    given = published(track, horizon)
    found = np.where(np.isfinite(given[:, :1]), _extended(_corrected(track, given, own), own, track), own)
    found = np.maximum(found, 0.0)
    found[:, 0] = track.values
    return found


def published(track: Track, horizon: int) -> NDArray[np.float64]:
    """For each slot the newest forecast issued by its start, slot by slot ahead; else not a number."""
    count = len(track.values)
    found = np.full((count, horizon), np.nan)
    issued = track.archive.forecasts if track.archive else ()
    ends = [*(_row(track, f.issued_s) for f in issued[1:]), *[count][: len(issued)]]
    for forecast, end in zip(issued, ends, strict=True):
        first = max(0, _row(track, forecast.issued_s))
        if first < min(end, count):
            rows = np.arange(first, min(end, count))
            found[rows] = _by_slot(track, forecast, rows, horizon)
    return found


def _row(track: Track, t_s: int) -> int:
    """The first slot that starts at a time or later."""
    return -((track.start_s - t_s) // track.step_s)


def _by_slot(
    track: Track, forecast: PublishedForecast, rows: NDArray[np.int64], horizon: int
) -> NDArray[np.float64]:
    values = np.array([np.nan if v is None else v for v in forecast.values], dtype=np.float64)
    first = (forecast.start_s - track.start_s) // track.step_s
    index = rows[:, None] + np.arange(horizon)[None, :] - first
    inside = (index >= 0) & (index < len(values))
    return np.where(inside, values[np.clip(index, 0, len(values) - 1)], np.nan)


def _corrected(track: Track, given: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """The published forecast plus weighted present error, recent error and distance to our own forecast."""
    count, horizon = given.shape
    error = np.nan_to_num(track.values - given[:, 0])
    recent = _trailing_mean(error, track.slots(_MEAN_H))
    target = np.concatenate([track.values, np.full(horizon - 1, np.nan)])
    found = given.copy()
    for ahead in range(1, horizon):
        x = np.stack([error, recent, np.nan_to_num(own[:, ahead] - given[:, ahead])], axis=1)
        missed = target[ahead : ahead + count] - given[:, ahead]
        is_known = np.isfinite(missed) & np.isfinite(given[:, 0])
        prior = np.array([np.exp(-ahead * track.step_s / HOUR_S / CORRECTION_H), 0.0, 0.0])
        x_known = np.where(is_known[:, None], x, 0.0)
        weights = _weights(x_known, np.where(is_known, missed, 0.0), prior, track=track, horizon=horizon)
        found[:, ahead] += (x * np.repeat(weights, track.per_day, axis=0)[:count]).sum(axis=1)
    return found


def _weights(
    x: NDArray[np.float64], y: NDArray[np.float64], prior: NDArray[np.float64], *, track: Track, horizon: int
) -> NDArray[np.float64]:
    """Weights for each day, fitted to the days whose whole horizon had happened before it began."""
    day = track.per_day
    pad = -len(y) % day
    x = np.concatenate([x, np.zeros((pad, 3))]).reshape(-1, day, 3)
    y = np.concatenate([y, np.zeros(pad)]).reshape(-1, day)
    products, targets = np.einsum("dti,dtj->dij", x, x), np.einsum("dti,dt->di", x, y)
    wait = 1 + -(-horizon // day)  # days between the last one that is fully known and the one it serves
    past = np.concatenate([np.zeros((wait, 3, 3)), np.cumsum(products, axis=0)])[: len(y)]
    answers = np.concatenate([np.zeros((wait, 3)), np.cumsum(targets, axis=0)])[: len(y)]
    rows = np.concatenate([np.zeros(wait), np.cumsum((x != 0).any(axis=2).sum(axis=1))])[: len(y)]
    mean_square = np.einsum("dii->di", past) / np.maximum(rows, 1)[:, None]
    strength = PENALTY * day / 24 * mean_square + 1e-9
    matrix = past + strength[:, :, None] * np.eye(3)
    right = answers - past @ prior
    return np.asarray(prior + np.linalg.solve(matrix, right[:, :, None])[:, :, 0])


def _trailing_mean(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    total = np.concatenate([np.zeros(count), np.cumsum(values)])
    return np.asarray((total[count:] - total[:-count]) / count)


def _extended(given: NDArray[np.float64], own: NDArray[np.float64], track: Track) -> NDArray[np.float64]:
    """Where the published forecast has no value, our own, drawn to the last published one."""
    is_given = np.isfinite(given)
    ahead = np.arange(given.shape[1])
    last = np.maximum.accumulate(np.where(is_given, ahead, 0), axis=1)
    distance = np.take_along_axis(np.nan_to_num(given) - own, last, axis=1)
    decay = np.exp(-(ahead - last) * track.step_s / HOUR_S / CORRECTION_H)
    return np.where(is_given, given, own + distance * decay)
