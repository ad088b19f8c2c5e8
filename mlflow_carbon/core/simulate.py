"""How much each policy would have saved on a trace, against starting at once and against perfect foresight.

A job of constant power is submitted at every slot of the last year and may be delayed by the slack. Every
decision sees the values up to its own slot only. Savings are sums over all starts (decision 34).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mlflow_carbon.core.history import HOUR_S
from mlflow_carbon.core.plans import Terms
from mlflow_carbon.core.scene import DEFAULT_THRESHOLD, Scenario, Scene, scene_of
from mlflow_carbon.core.windows import is_due, pausing_costs, runs_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mlflow_carbon.core.paths import Track
    from mlflow_carbon.core.plans import Job

__all__ = ["SCORED", "Scenario", "Score", "delays", "has_waiting_paid", "simulate"]

_EVIDENCE_DAYS = 90
_LEAST_DAYS = 14
_FIRST_DAYS = 7  # before that a forecast knows no day like the next one
_SURE = 3.0  # standard errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One policy at one length of the job.

    Attributes:
        policy: Name in `SCORED`.
        hours: Length of the job.
        interruptible: Whether it may pause.
        saving_ratio: Emissions saved against starting at once, over all starts.
        oracle_ratio: The same by perfect foresight with the same freedom (pauses, idling).
        harm_ratio: Share of starts that emitted more than at once.
        wait_mean_h: Mean delay of the start; of the end where it may pause.
        starts: How many starts were scored.
    """

    policy: str
    hours: float
    interruptible: bool
    saving_ratio: float
    oracle_ratio: float
    harm_ratio: float
    wait_mean_h: float
    starts: int

    @property
    def reached_ratio(self) -> float | None:
        """Saving over that of perfect foresight; None where there is nothing to save."""
        return self.saving_ratio / self.oracle_ratio if self.oracle_ratio > 0 else None


Outcome = tuple["NDArray[np.float64]", "NDArray[np.int64]"]
"""For each submission what it emitted, in intensity times slots, and how many slots it was delayed."""


def simulate(track: Track, scenario: Scenario, policies: Sequence[str] | None = None) -> tuple[Score, ...]:
    """Score policies at every length of the scenario.

    Args:
        track: The trace; with an archive the policies `window` and `interruptible` use its forecasts,
            and jobs are submitted only while they were issued.
        scenario: Lengths, slack, idling and terms.
        policies: Names in `SCORED`; None takes all.

    Raises:
        ValueError: If a policy is unknown or the trace is too short.
    """
    names = list(SCORED) if policies is None else list(policies)
    unknown = [name for name in names if name not in SCORED]
    if unknown:
        raise ValueError(f"policy: expected some of {', '.join(SCORED)}, got {', '.join(unknown)}")
    forecasts: dict[str, NDArray[np.float64]] = {}
    scenes = [scene_of(track, scenario, hours, forecasts) for hours in scenario.hours]
    pairs = zip(scenario.hours, scenes, strict=True)
    return tuple(_score(name, hours, scene) for hours, scene in pairs for name in names)


def _score(name: str, hours: float, scene: Scene) -> Score:
    interruptible = name in _PAUSING
    emitted, delay = SCORED[name](scene)
    base = scene.costs(scene.came())[:, 0]
    best, _ = (_pausing_oracle if interruptible else _oracle)(scene)
    return Score(
        policy=name,
        hours=hours,
        interruptible=interruptible,
        saving_ratio=float(1 - emitted.sum() / base.sum()),
        oracle_ratio=float(1 - best.sum() / base.sum()),
        harm_ratio=float((emitted > base * (1 + 1e-9)).mean()),
        wait_mean_h=float(delay.mean()) * scene.track.step_s / HOUR_S,
        starts=scene.starts,
    )


def delays(due: NDArray[np.bool_], starts: int) -> NDArray[np.int64]:
    """For each submission the slots until it is due: element (t, r) of `due` says so with r slots left."""
    slack = due.shape[1] - 1
    found = np.full(starts, slack, dtype=np.int64)
    for waited in range(slack, -1, -1):
        found[due[waited : waited + starts, slack - waited]] = waited
    return found


def _started(scene: Scene, delay: NDArray[np.int64]) -> Outcome:
    return np.take_along_axis(scene.costs(scene.came()), delay[:, None], axis=1)[:, 0], delay


def _while_it_pays(policy: Callable[[Scene], Outcome]) -> Callable[[Scene], Outcome]:
    """A policy that holds a machine only while waiting for cleaner slots has paid.

    What idling costs is certain, what it gains is not, and among many forecasts the best one flatters: so a
    job waits only for an expected gain of 2 %, and if those of the last 90 days that did so have saved by it
    beyond doubt (`_has_paid`). Why these numbers: decision record 0017.
    """

    def scored(scene: Scene) -> Outcome:
        if scene.scenario.idle_ratio <= 0:
            return policy(scene)
        longer, more = _held(scene).earlier(_EVIDENCE_DAYS)
        emitted, delay = policy(longer)
        base = longer.costs(longer.came())[:, 0]
        known = np.maximum(np.arange(longer.starts) - longer.slack - longer.length + 1, 0)
        has_paid = _has_paid(base - emitted, scene.track.per_day)[known]
        return np.where(has_paid, emitted, base)[more:], np.where(has_paid, delay, 0)[more:]

    return scored


def _held(scene: Scene) -> Scene:
    return replace(scene, scenario=replace(scene.scenario, terms=scene.scenario.terms.held()))


def _has_paid(gain: NDArray[np.float64], per_day: int) -> NDArray[np.bool_]:
    """Element n: whether the first n submissions show that waiting saves.

    The mean gain of a day, over the 90 days before n, is above three of its standard errors; two weeks of
    days must be known. Submissions of one day share their weather, so days are counted and not submissions.
    """
    total = np.concatenate([[0.0], np.cumsum(gain)])
    daily = total[per_day:] - total[:-per_day]
    blocks = np.concatenate([daily, np.zeros(-len(daily) % per_day)]).reshape(-1, per_day)
    sums, squares = (_last(values, _EVIDENCE_DAYS).ravel()[: len(daily)] for values in (blocks, blocks**2))
    days = np.minimum(np.arange(len(daily)) // per_day + 1, _EVIDENCE_DAYS)
    spread = np.maximum(squares - sums**2 / days, 0.0) * days / np.maximum(days - 1, 1)  # days² * se²
    is_sure = (sums > _SURE * np.sqrt(spread)) & (days >= _LEAST_DAYS)
    return np.concatenate([np.zeros(per_day, dtype=bool), is_sure])


def _last(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Sums over each row and those before it, so many at most."""
    total = np.cumsum(values, axis=0)
    total[count:] = total[count:] - total[:-count]
    return total


def has_waiting_paid(
    track: Track, job: Job, *, terms: Terms | None = None, pauses: bool = False
) -> bool | None:
    """Whether jobs of the past that waited on a held machine like this one have saved by it beyond doubt.

    The rule of `simulate` for one job: from the track's second week on, forecast from what was known then.
    None where fewer than two weeks of such jobs are known to the end.
    """
    length, slack = track.slots(job.length_s / HOUR_S), int(job.max_wait_s // track.step_s)
    first = _FIRST_DAYS * track.per_day
    scene = Scene(
        track=track,
        scenario=Scenario(idle_ratio=job.idle_ratio, terms=(terms or Terms()).held()),
        first=first,
        starts=len(track.values) - first - slack - length + 1,
        length=length,
        slack=slack,
        horizon=slack + length,
        forecasts={},
    )
    if scene.starts < _LEAST_DAYS * track.per_day:
        return None
    emitted, _ = _interruptible(scene) if pauses else _best_window(scene)
    base = scene.costs(scene.came())[:, 0]
    return bool(_has_paid(base - emitted, track.per_day)[-1])


def _window(scene: Scene, forecaster: str) -> Outcome:
    """Planned anew in each slot: start when no later start is forecast to be cheaper."""
    costs, terms = scene.costs(scene.paths(forecaster)), scene.scenario.terms
    due = is_due(costs, terms.tolerance_ratio)
    due[:, -1] |= costs.min(axis=1) > costs[:, 0] * (1 - terms.min_gain_ratio)
    return _started(scene, delays(due, scene.starts))


def _once(scene: Scene, forecaster: str) -> Outcome:
    """Planned at submission and never again."""
    costs = scene.costs(scene.paths(forecaster)[: scene.starts])
    return _started(scene, costs.argmin(axis=1).astype(np.int64))


def _best_window(scene: Scene) -> Outcome:
    return _window(scene, _default(scene))


def _interruptible(scene: Scene) -> Outcome:
    """In each slot: run it if it is among the best that are left, as forecast then."""
    paths, count = scene.paths(_default(scene)), scene.starts
    columns, idle = scene.slack + scene.length, scene.scenario.idle_ratio
    left = np.full(count, scene.length)
    emitted, end, each = np.zeros(count), np.zeros(count, dtype=np.int64), np.arange(count)
    straight = _gains_little(scene, paths[:count, :columns])
    for waited in range(columns):
        ahead = paths[waited : waited + count, : columns - waited]
        runs = (runs_now(ahead, length=scene.length, idle_ratio=idle)[each, left] | straight) & (left > 0)
        price = scene.values[waited : waited + count]
        emitted += np.where(runs, price, np.where(left > 0, idle * price, 0.0))
        left -= runs
        end[runs] = waited + 1
    return emitted, end - scene.length


def _gains_little(scene: Scene, paths: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which submissions expect less than the minimum gain and so run at once, in one piece."""
    if scene.scenario.terms.min_gain_ratio <= 0:
        return np.zeros(len(paths), dtype=bool)
    both = pausing_costs(paths, length=scene.length, idle_ratio=scene.scenario.idle_ratio)
    best = np.minimum(*both)[:, scene.length]
    now = paths[:, : scene.length].sum(axis=1)
    return np.asarray(best > now * (1 - scene.scenario.terms.min_gain_ratio))


def _now(scene: Scene) -> Outcome:
    return _started(scene, np.zeros(scene.starts, dtype=np.int64))


def _threshold(scene: Scene) -> Outcome:
    limit = scene.scenario.terms.threshold_gco2e_per_kwh
    return _within(scene, np.full(len(scene.values), DEFAULT_THRESHOLD if limit is None else limit))


def _percentile(scene: Scene) -> Outcome:
    """Within a quantile of the week that ends with the present slot."""
    week = 7 * scene.track.per_day
    weeks = np.lib.stride_tricks.sliding_window_view(scene.track.values, week)[scene.first - week + 1 :]
    share = scene.scenario.terms.percentile_ratio
    return _within(scene, np.quantile(weeks, share, axis=1, method="lower"))


def _within(scene: Scene, limit: NDArray[np.float64]) -> Outcome:
    due = np.repeat((scene.values <= limit)[:, None], scene.slack + 1, axis=1)
    due[:, 0] = True
    return _started(scene, delays(due, scene.starts))


def _oracle(scene: Scene) -> Outcome:
    costs = scene.costs(scene.came())
    return costs.min(axis=1), costs.argmin(axis=1).astype(np.int64)


def _pausing_oracle(scene: Scene) -> Outcome:
    idle = scene.scenario.idle_ratio
    both = pausing_costs(scene.came(), length=scene.length, idle_ratio=idle)
    return np.minimum(*both)[:, scene.length], np.zeros(scene.starts, dtype=np.int64)


def _default(scene: Scene) -> str:
    return "blend" if scene.track.archive is None else "provider"


SCORED: Mapping[str, Callable[[Scene], Outcome]] = {
    "now": _now,
    "threshold": _threshold,
    "percentile": _percentile,
    "persistence": partial(_once, forecaster="persistence"),
    "climatology": _while_it_pays(partial(_window, forecaster="climatology")),
    "profile": _while_it_pays(partial(_window, forecaster="profile")),
    "ridge": _while_it_pays(partial(_window, forecaster="ridge")),
    "window": _while_it_pays(_best_window),
    "interruptible": _while_it_pays(_interruptible),
    "oracle": _oracle,
}
"""Policies by name. `window` and `interruptible` use the best forecaster there is; the name of a forecaster
means the window by it. `persistence` is planned once, which suits it better than planning anew."""

_PAUSING = {"interruptible"}
