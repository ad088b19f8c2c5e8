"""When, where and in which pieces to run: pure functions from a forecast and a job to a plan.

A caller asks at submission, then again at each slot with a fresh forecast, the patience that is left and
`Terms.again()`, and starts when the plan says now. Nothing here sleeps or asks anybody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.pauses import best_slots
from mlflow_carbon.core.plans import Job, Plan, Terms, doubt_of, plan_of, start_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_carbon.core.forecast import Forecast
    from mlflow_carbon.core.history import History

__all__ = ["POLICIES", "Case", "Job", "Plan", "Region", "Terms", "plan"]

_RARE_RATIO = 0.02
_WEEK_S = 7 * 86_400
_LEAST_PAST_S = 86_400  # of less than a day nothing follows for the hours to come


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Another place where the job may run.

    Attributes:
        zone: Grid zone.
        annual_gco2e_per_kwh: Its yearly average.
        forecast: What is to come there; None if only the yearly figure is known.
        transfer_kwh: Energy of moving data and software there, costed with the present intensity at home.
        is_allowed: False where data must not go there.
        signal: What its figures are, such as `average, life cycle`: only like is compared with like.
    """

    zone: str
    annual_gco2e_per_kwh: float
    forecast: Forecast | None = None
    transfer_kwh: float = 0.0
    is_allowed: bool = True
    signal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that a policy may know.

    Attributes:
        forecast: Intensity at home from now on.
        job: What is to run.
        terms: When waiting is worth it.
        history: The past, for `threshold` and `percentile`.
        home: Where the job runs unless it moves; only `region` needs its yearly figure.
        regions: Where else it may run.
    """

    forecast: Forecast
    job: Job
    terms: Terms = field(default_factory=Terms)
    history: History | None = None
    home: Region | None = None
    regions: tuple[Region, ...] = ()


def plan(case: Case, policy: str = "window") -> Plan:
    """The plan of a policy; now, with the reason, wherever the figures do not say when.

    Raises:
        ValueError: If the policy is unknown or the forecast is shorter than the job.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy: expected one of {', '.join(POLICIES)}, got {policy!r}")
    if case.forecast.kind == "static" and policy != "region":
        return start_now(
            case.forecast, case.job, policy, "an annual or fixed figure does not say when to start"
        )
    return POLICIES[policy](case)


def now(case: Case) -> Plan:
    """Start at once: what every other policy is compared with."""
    return start_now(case.forecast, case.job, "now", "asked to start at once")


def window(case: Case) -> Plan:
    """The cheapest contiguous window within the patience, idling included where a machine is held."""
    import numpy as np

    from mlflow_carbon.core.windows import start_costs

    forecast, job, terms = case.forecast, case.job, case.terms
    length, starts, short = job.in_slots(forecast)
    row = np.array([forecast.values])
    idle_ratio = job.spread(forecast.step_s).idle_ratio
    costs = start_costs(row, length=length, starts=starts, idle_ratio=idle_ratio)[0]
    best = int(costs.argmin())
    gain = 1 - costs[best] / costs[0] if costs[0] > 0 else 0.0
    if best == 0 or costs[0] <= costs[best] * (1 + terms.tolerance_ratio):
        reason = "no later start within the wait is cleaner" if best == 0 else "now is as good as the best"
        return start_now(forecast, job, "window", _also(reason, short))
    if gain < terms.min_gain_ratio:
        reason = f"gain too small: {gain:.2%} expected, at least {terms.min_gain_ratio:.0%} asked for"
        return start_now(forecast, job, "window", _also(reason, short))
    reason = f"the cleanest {length * forecast.step_s / 3600:.3g} h within the wait"
    return plan_of(forecast, job, "window", [(best, best + length)], _also(reason, short))


def interruptible(case: Case) -> Plan:
    """The best slots between now and the latest end, with the costs of resuming, and of idling if held."""
    forecast, job, terms = case.forecast, case.job, case.terms
    length, starts, short = job.in_slots(forecast)
    whole = job.spread(forecast.step_s)
    segments = best_slots(
        forecast.values[: starts - 1 + length],
        length=length,
        idle_ratio=whole.idle_ratio,
        resume=whole.resume_s / forecast.step_s,
        min_run=max(1, math.ceil(job.min_run_s / forecast.step_s)),
        min_pause=max(1, math.ceil(job.min_pause_s / forecast.step_s)),
    )
    found = plan_of(forecast, job, "interruptible", segments, _also(f"the best {length} slots", short))
    if segments == [(0, length)]:
        return start_now(forecast, job, "interruptible", _also("no pause makes it cleaner", short))
    if found.saving_ratio < terms.min_gain_ratio:
        reason = f"gain too small: {found.saving_ratio:.2%} expected, {terms.min_gain_ratio:.0%} asked for"
        return start_now(forecast, job, "interruptible", _also(reason, short))
    return found


def threshold(case: Case) -> Plan:
    """Start at the first slot within a fixed intensity, or when the patience is over."""
    limit = case.terms.threshold_gco2e_per_kwh
    if limit is None:
        raise ValueError("threshold: expected threshold_gco2e_per_kwh, got none; name one or take `window`")
    return _first_within(case, limit, "threshold")


def percentile(case: Case) -> Plan:
    """Start at the first slot within a percentile of the week before."""
    if case.history is None:
        raise ValueError("percentile: expected a history of at least a day, got none; take `window`")
    recent = sorted(v for v in case.history.values[-(_WEEK_S // case.history.step_s) :] if v is not None)
    if not recent:
        raise ValueError("percentile: every value of the last week is missing; take `window`")
    limit = recent[math.floor(case.terms.percentile_ratio * (len(recent) - 1))]
    return _first_within(case, limit, "percentile")


def region(case: Case) -> Plan:
    """The place first, by yearly figures, which often decide alone; then place and time by the forecasts.

    A move is planned where it beats staying by the minimum gain, its transfer energy included.
    """
    home = case.home
    if home is None:
        raise ValueError("region: expected the yearly figure of home, got none; give `home`")
    allowed = [r for r in case.regions if r.is_allowed]
    stay = replace(plan(replace(case, forecast=home.forecast or case.forecast)), zone=home.zone)
    advice = _static_advice(home, allowed, case.job)
    best, kind = stay, (home.forecast or case.forecast).kind
    for place in allowed:
        if place.forecast is None or (place.forecast.kind, place.signal) != (kind, home.signal):
            advice += f"; {place.zone} left out: its figures are of another kind"
            continue
        there = _moved(case, place, stay)
        best = there if there.planned_gco2e < best.planned_gco2e else best
    gain = 1 - best.planned_gco2e / stay.planned_gco2e if stay.planned_gco2e > 0 else 0.0
    if best is not stay and gain < case.terms.min_gain_ratio:
        best = stay
    where = f"staying in {home.zone} emits least, moving included: " if best is stay and allowed else ""
    return replace(best, policy="region", reason=f"{where}{best.reason}; {advice}")


def _static_advice(home: Region, allowed: list[Region], job: Job) -> str:
    kwh = job.energy_kwh
    carried = {
        r.zone: kwh * r.annual_gco2e_per_kwh + r.transfer_kwh * home.annual_gco2e_per_kwh for r in allowed
    }
    carried[home.zone] = kwh * home.annual_gco2e_per_kwh
    best = min(carried, key=carried.__getitem__)
    if best == home.zone:
        return f"by yearly figures no allowed place is cleaner than {home.zone}"
    saved = 1 - carried[best] / carried[home.zone]
    return f"by yearly figures {best} emits {saved:.0%} less than {home.zone}"


def _moved(case: Case, place: Region, stay: Plan) -> Plan:
    """The plan at another place, compared with starting now at home."""
    forecast = place.forecast or case.forecast
    later_s = forecast.start_s - case.forecast.start_s  # slots there may be of another length
    job = replace(case.job, max_wait_s=max(0.0, case.job.max_wait_s - later_s))
    there = plan(replace(case, forecast=forecast, job=job))
    carried = place.transfer_kwh * case.forecast.values[0]
    planned = there.planned_gco2e + carried
    slots = [
        ((a - forecast.start_s) // forecast.step_s, (b - forecast.start_s) // forecast.step_s)
        for a, b in there.segments
    ]
    doubt = doubt_of(forecast, case.job, slots)  # even of now: the error there is not that of home
    move = f", {carried:.3g} gCO2e of transfer included" if carried else ""
    return replace(
        there,
        zone=place.zone,
        now_gco2e=stay.now_gco2e,
        planned_gco2e=planned,
        planned_low_gco2e=max(0.0, planned - doubt),
        planned_high_gco2e=planned + doubt,
        reason=f"{there.reason} in {place.zone}{move}",
    )


def _first_within(case: Case, limit: float, name: str) -> Plan:
    """The plan of a limit, with a warning where the past says that it always or never holds."""
    forecast, job = case.forecast, case.job
    length, starts, short = job.in_slots(forecast)
    warning = _warning(case.history, limit)
    if "never" in warning:
        return replace(
            start_now(forecast, job, name, f"{warning}: waiting would bring nothing"), warning=warning
        )
    found = next((i for i, value in enumerate(forecast.values[:starts]) if value <= limit), None)
    if found == 0:
        made = start_now(forecast, job, name, _also(f"now is within {limit:.4g} gCO2e/kWh", short))
    else:
        at = starts - 1 if found is None else found
        reason = (
            f"not within {limit:.4g} gCO2e/kWh before the wait is over"
            if found is None
            else f"the first slot within {limit:.4g} gCO2e/kWh"
        )
        made = plan_of(forecast, job, name, [(at, at + length)], _also(reason, short))
    return replace(made, warning=warning)


def _warning(history: History | None, limit: float) -> str:
    known = [value for value in history.values if value is not None] if history is not None else []
    if history is None or len(known) * history.step_s < _LEAST_PAST_S:
        return ""
    share = sum(value <= limit for value in known) / len(known)
    if share <= _RARE_RATIO:
        return f"the history is (almost) never within {limit:.4g} gCO2e/kWh"
    if share >= 1 - _RARE_RATIO:
        return f"the history is (almost) always within {limit:.4g} gCO2e/kWh"
    return ""


def _also(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


POLICIES: Mapping[str, Callable[[Case], Plan]] = {
    "now": now,
    "threshold": threshold,
    "percentile": percentile,
    "window": window,
    "interruptible": interruptible,
    "region": region,
}
"""Policies by name; `window` is the default."""
