"""The values of planning: a job, the terms of waiting, and a plan with what it is expected to save."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.units import j_to_kwh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_carbon.core.forecast import Forecast

__all__ = ["HELD_MIN_GAIN_RATIO", "Job", "Plan", "Terms", "doubt_of", "plan_of", "start_now"]

HELD_MIN_GAIN_RATIO = 0.02
"""Expected saving below which a machine is not held, whatever is asked for (decision record 0017)."""
_SD_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to run, and how long it may wait.

    Attributes:
        length_s: How long it runs at its full power, in seconds; an estimate.
        max_wait_s: Longest delay of the start, in seconds. With pauses: of the end.
        power_w: Mean power while it runs; costs are proportional to it.
        idle_w: Power of the machine while it waits or pauses, if it is held; 0 if it is given back.
        resume_s: What each resuming costs, as seconds at full power (load, warm up, repeat).
        min_run_s: Shortest stretch worth running between two pauses.
        min_pause_s: Shortest pause.
    """

    length_s: float
    max_wait_s: float
    power_w: float = 1000.0
    idle_w: float = 0.0
    resume_s: float = 0.0
    min_run_s: float = 0.0
    min_pause_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("length_s", "power_w"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"job: expected {name} above 0, got {getattr(self, name)}")
        for name in ("max_wait_s", "idle_w", "resume_s", "min_run_s", "min_pause_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"job: expected {name} of at least 0, got {getattr(self, name)}")

    @property
    def idle_ratio(self) -> float:
        """Idle power over the job's power."""
        return self.idle_w / self.power_w

    @property
    def energy_kwh(self) -> float:
        """Energy of the run itself."""
        return j_to_kwh(self.power_w * self.length_s)

    def spread(self, step_s: int) -> Job:
        """The job over whole slots, as plans count: the same energy, so at less power where it fills none."""
        length_s = step_s * max(1, math.ceil(self.length_s / step_s - 1e-9))
        share = self.length_s / length_s
        return replace(self, length_s=length_s, power_w=self.power_w * share, resume_s=self.resume_s / share)

    def in_slots(self, forecast: Forecast) -> tuple[int, int, str]:
        """Slots of the run, number of starts to choose from, and a note if the forecast cuts them short.

        Raises:
            ValueError: If the forecast does not even cover the run.
        """
        length = round(self.spread(forecast.step_s).length_s / forecast.step_s)
        wanted = math.floor(self.max_wait_s / forecast.step_s) + 1
        starts = min(wanted, len(forecast.values) - length + 1)
        if starts < 1:
            raise ValueError(
                f"the job lasts {length} slots of {forecast.step_s} s, the forecast {len(forecast.values)}: "
                "forecast further, or give a shorter duration"
            )
        if starts == wanted:
            return length, starts, ""
        return (
            length,
            starts,
            f"planned only as far as the forecast reaches, {starts - 1} of {wanted - 1} slots",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When waiting is worth it.

    Attributes:
        min_gain_ratio: Start at once if less than this share is expected to be saved.
        tolerance_ratio: Start if now is dearer than the best start by no more than this share.
        threshold_gco2e_per_kwh: Limit of the policy `threshold`.
        percentile_ratio: Share of the week before, for the policy `percentile`.
    """

    min_gain_ratio: float = 0.03
    tolerance_ratio: float = 0.0
    threshold_gco2e_per_kwh: float | None = None
    percentile_ratio: float = 0.25

    def again(self) -> Terms:
        """The terms of a plan made anew while waiting: the gain was worth a wait already."""
        return replace(self, min_gain_ratio=0.0)

    def held(self) -> Terms:
        """The terms on a machine that idles while the job waits: no less than `HELD_MIN_GAIN_RATIO`."""
        return replace(self, min_gain_ratio=max(self.min_gain_ratio, HELD_MIN_GAIN_RATIO))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When to run, why, and what it is expected to save against starting now.

    Attributes:
        policy: Which policy made it.
        start_s: Start of the first segment, UTC seconds since the epoch.
        segments: Stretches to run, half-open, in seconds; one unless the job may pause.
        is_now: Whether to start at once.
        now_gco2e: Expected emissions of starting now.
        planned_gco2e: Expected emissions of the plan, with idling, resuming and moving.
        planned_low_gco2e: Lower end of the 95 % range of the latter.
        planned_high_gco2e: Upper end.
        reason: Why, in words.
        source: Where the forecast comes from.
        zone: Where to run, if the policy chose.
        warning: What is wrong with what was asked for; empty if nothing.
    """

    policy: str
    start_s: int
    segments: tuple[tuple[int, int], ...]
    is_now: bool
    now_gco2e: float
    planned_gco2e: float
    planned_low_gco2e: float
    planned_high_gco2e: float
    reason: str
    source: str
    zone: str = ""
    warning: str = ""

    @property
    def saving_ratio(self) -> float:
        """Expected share saved against starting now."""
        return 1 - self.planned_gco2e / self.now_gco2e if self.now_gco2e > 0 else 0.0

    @property
    def saving_low_ratio(self) -> float:
        """Lower end of its 95 % range: what now would emit is taken as expected."""
        return 1 - self.planned_high_gco2e / self.now_gco2e if self.now_gco2e > 0 else 0.0

    @property
    def saving_high_ratio(self) -> float:
        """Upper end of its 95 % range."""
        return 1 - self.planned_low_gco2e / self.now_gco2e if self.now_gco2e > 0 else 0.0


def start_now(forecast: Forecast, job: Job, policy: str, reason: str) -> Plan:
    """The plan to start at once, run in one piece."""
    length, _, _ = job.in_slots(forecast)
    return plan_of(forecast, job, policy, [(0, length)], reason)


def doubt_of(forecast: Forecast, job: Job, segments: Sequence[tuple[int, int]]) -> float:
    """Half the 95 % range of the emissions of running so many slots, in gCO2e."""
    running = [i for first, end in segments for i in range(first, end)]
    return job.energy_kwh * _SD_95 * sum(forecast.sd[i] for i in running) / len(running)


def plan_of(
    forecast: Forecast, job: Job, policy: str, segments: Sequence[tuple[int, int]], reason: str
) -> Plan:
    """The plan that runs the given slots, costed with the forecast.

    The deviations of the slots that run are taken as fully correlated, which makes the range wide rather
    than narrow. A run that starts now saves nothing and has no range.
    """
    length, _, _ = job.in_slots(forecast)
    per_slot, whole = job.energy_kwh / length, job.spread(forecast.step_s)
    running = [i for first, end in segments for i in range(first, end)]
    idle = sorted(set(range(running[-1])) - set(running))
    resumed = sum(forecast.values[first] for first, _ in segments[1:]) * whole.resume_s / forecast.step_s
    idled = whole.idle_ratio * sum(forecast.values[i] for i in idle)
    planned = per_slot * (sum(forecast.values[i] for i in running) + idled + resumed)
    base = per_slot * sum(forecast.values[:length])
    is_now = running == list(range(length))
    doubt = 0.0 if is_now else doubt_of(forecast, job, segments)
    at = [forecast.start_s + i * forecast.step_s for i in range(len(forecast.values) + 1)]
    return Plan(
        policy=policy,
        start_s=at[running[0]],
        segments=tuple((at[first], at[end]) for first, end in segments),
        is_now=is_now,
        now_gco2e=base,
        planned_gco2e=planned,
        planned_low_gco2e=max(0.0, planned - doubt),
        planned_high_gco2e=planned + doubt,
        reason=reason,
        source=forecast.source,
    )
