"""The arithmetic of starting later, for many decisions at once: costs of each start, and when to run a slot.

Costs are in units of the job's own power times one slot: an intensity of 200 for 4 slots costs 800. Idling
for a slot on a held machine costs `idle_ratio` (idle power over the job's power) of that slot's intensity.
Loaded only where a plan is made, since it needs numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_due", "pausing_costs", "runs_now", "start_costs"]


def start_costs(
    paths: NDArray[np.float64], *, length: int, starts: int, idle_ratio: float = 0.0
) -> NDArray[np.float64]:
    """Cost of starting 0, 1, ... slots later: P sum F[j..j+L) + P_idle sum F[0..j).

    Args:
        paths: Intensity of each slot ahead, one row per decision; at least `starts - 1 + length` columns.
        length: Slots that the job runs.
        starts: How many starts to cost.
        idle_ratio: Idle power while waiting over the job's power; 0 if nothing is held.
    """
    zero = np.zeros((len(paths), 1))
    total = np.concatenate([zero, np.cumsum(paths[:, : starts - 1 + length], axis=1)], axis=1)
    return np.asarray(total[:, length : length + starts] - (1 - idle_ratio) * total[:, :starts])


def is_due(costs: NDArray[np.float64], tolerance_ratio: float = 0.0) -> NDArray[np.bool_]:
    """Element (t, r): with r slots of patience left, is it time to start: no later start is cheaper.

    Args:
        costs: From `start_costs`.
        tolerance_ratio: Start also if now is dearer than the best by no more than this share.
    """
    best_later = np.full_like(costs, np.inf)
    best_later[:, 1:] = np.minimum.accumulate(costs[:, 1:], axis=1)
    return np.asarray(costs[:, :1] <= best_later * (1 + tolerance_ratio))


def pausing_costs(
    paths: NDArray[np.float64], *, length: int, idle_ratio: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least cost of running so many slots within the columns, if the present slot runs and if it does not.

    Backward over the slots: V_i(k) = min(F_i + V_{i+1}(k - 1), idle F_i + V_{i+1}(k)), V(0) = 0. Pausing and
    resuming cost nothing here but the idling.

    Returns:
        For each row, columns 0 to `length` of slots still to run: cost if it runs now, and if it waits.
    """
    rows, columns = paths.shape
    after = np.full((rows, length + 1), np.inf)
    after[:, 0] = 0.0
    runs = waits = after
    for slot in range(columns - 1, -1, -1):
        price = paths[:, slot : slot + 1]
        runs, waits = np.full_like(after, np.inf), np.full_like(after, np.inf)
        runs[:, 1:] = price + after[:, :-1]
        waits[:, 1:] = idle_ratio * price + after[:, 1:]
        after = np.minimum(runs, waits)
        after[:, 0] = 0.0
    return runs, waits


def runs_now(paths: NDArray[np.float64], *, length: int, idle_ratio: float = 0.0) -> NDArray[np.bool_]:
    """Element (t, k): with k slots still to run within the columns, does the present slot run."""
    runs, waits = pausing_costs(paths, length=length, idle_ratio=idle_ratio)
    return np.asarray((runs <= waits) & np.isfinite(runs))
