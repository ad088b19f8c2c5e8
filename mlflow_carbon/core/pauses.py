"""Which slots to run when a job may pause: exact, by dynamic programming over the slots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["best_slots"]

_State = tuple[int, bool, int]  # slots still to run, running or not, slots since that changed (capped)


def best_slots(
    values: Sequence[float],
    *,
    length: int,
    idle_ratio: float = 0.0,
    resume: float = 0.0,
    min_run: int = 1,
    min_pause: int = 1,
) -> list[tuple[int, int]]:
    """The cheapest way to run so many slots, as half-open segments.

    Cost: intensity of each slot that runs, `idle_ratio` of each one that waits before the last of them, and
    `resume` times the intensity at each resuming. The last segment may be shorter than `min_run`.

    Raises:
        ValueError: If the slots are too few.
    """
    if length > len(values):
        raise ValueError(f"expected at least {length} slots to run in, got {len(values)}")
    best: dict[_State, float] = {}
    choice: list[dict[_State, bool]] = []
    for price in reversed(values):
        costs: dict[_State, float] = {}
        chosen: dict[_State, bool] = {}
        for state in _states(length, min_run, min_pause):
            run, wait = (_after(state, min_run, min_pause, run=is_run) for is_run in (True, False))
            again = resume * price if run is not None and not state[1] and state[0] < length else 0.0
            runs = math.inf if run is None else price + again + _rest(best, run)
            waits = math.inf if wait is None else idle_ratio * price + _rest(best, wait)
            costs[state], chosen[state] = min(runs, waits), runs <= waits
        best = costs
        choice.append(chosen)
    return _segments(choice[::-1], (length, False, min_pause), min_run, min_pause)


def _states(length: int, min_run: int, min_pause: int) -> list[_State]:
    return [
        (left, is_running, age)
        for left in range(1, length + 1)
        for is_running, longest in ((True, min_run), (False, min_pause))
        for age in range(1, longest + 1)
    ]


def _after(state: _State, min_run: int, min_pause: int, *, run: bool) -> _State | None:
    """The state after a slot, or None where the shortest run or pause forbids the choice."""
    left, is_running, age = state
    longest = min_run if is_running else min_pause
    if run != is_running and age < longest:
        return None
    return left - run, run, min(age + 1, longest) if run == is_running else 1


def _rest(best: dict[_State, float], state: _State) -> float:
    """Cost of what is left to do; nothing to do costs nothing, no slots left cost everything."""
    return 0.0 if state[0] == 0 else best.get(state, math.inf)


def _segments(
    choice: list[dict[_State, bool]], state: _State, min_run: int, min_pause: int
) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for slot, chosen in enumerate(choice):
        if state[0] == 0:
            break
        runs = chosen[state]
        if runs and state[1]:
            found[-1] = (found[-1][0], slot + 1)
        elif runs:
            found.append((slot, slot + 1))
        after = _after(state, min_run, min_pause, run=runs)
        if after is None:
            raise ValueError("no way to run the job within these slots and pauses; allow a longer wait")
        state = after
    return found
