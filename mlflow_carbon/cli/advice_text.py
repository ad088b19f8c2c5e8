"""Advice on when to run, as text with a chart, or as JSON. Times are UTC, with those of here beside them."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflow_carbon import grid
from mlflow_carbon.cli.chart import bars
from mlflow_carbon.core.times import clock, second

if TYPE_CHECKING:
    from mlflow_carbon.core.plans import Plan
    from mlflow_carbon.scheduling.advice import Advice
    from mlflow_carbon.scheduling.order import Order

__all__ = ["as_dict", "text"]

_COLUMNS = 72
_WIDTH = 100
_LABEL = len("03:00 ")
_HOUR_S = 3600


def text(advice: Advice, order: Order, now_s: float, *, has_power: bool) -> str:
    """For people.

    Args:
        advice: What was planned.
        order: What for.
        now_s: UTC time of the plan.
        has_power: Whether the job's power was given, so that grams mean something.
    """
    plan, job, zone = advice.plan, order.job, advice.intensity.zone
    facts = grid.zones.facts(zone)
    name = f"{zone}, {facts.name}" if facts else zone
    power = f" at {job.power_w:g} W" if has_power else ""
    notes = [line for note in advice.notes for line in textwrap.wrap(note, _WIDTH, subsequent_indent="  ")]
    lines = [
        f"Zone {name}: {job.length_s / _HOUR_S:g} h{power}, {_patience(order)}",
        "",
        f"  start   {_start(plan, now_s)}",
        *([f"          {_pieces(plan)}"] if len(plan.segments) > 1 else []),
        f"  because {plan.reason}",
        f"  saves   {_saving(advice, order, has_power=has_power)}",
        f"  from    {advice.forecast.source}; {advice.intensity.signal}, {advice.intensity.scope}",
        *_chart(advice, order),
        *(f"  {line}" for line in notes),
    ]
    return "\n".join(lines)


def as_dict(advice: Advice, order: Order, now_s: float, *, has_power: bool) -> dict[str, Any]:
    """For programs: the plan, what it rests on, and the order with absolute times in UTC seconds.

    Without the job's power there are no grams, only shares and intensities.
    """
    plan = advice.plan
    grams = () if has_power else ("now_gco2e", "planned_gco2e", "planned_low_gco2e", "planned_high_gco2e")
    return {
        "zone": advice.intensity.zone,
        "start": second(max(now_s, plan.start_s)),
        "asked_s": now_s,
        "plan": asdict(plan) | dict.fromkeys(grams),
        "saving_ratio": plan.saving_ratio,
        "saving_low_ratio": plan.saving_low_ratio,
        "saving_high_ratio": plan.saving_high_ratio,
        "intensity_present_gco2e_per_kwh": advice.home.gco2e_per_kwh,
        "intensity_now_gco2e_per_kwh": plan.now_gco2e / order.job.energy_kwh,
        "intensity_target_gco2e_per_kwh": advice.target_gco2e_per_kwh,
        "basis": "modelled: expected by a forecast, nothing is measured",
        "signal": advice.intensity.signal,
        "scope": advice.intensity.scope,
        "provider": advice.intensity.provider,
        "forecast": asdict(advice.forecast),
        "order": {
            "length_s": order.job.length_s,
            "power_w": order.job.power_w if has_power else None,
            "idle_ratio": order.job.idle_ratio,
            "submitted_s": order.submitted_s,
            "latest_start_s": order.latest_start_s,
            "finish_by_s": order.finish_by_s,
            "policy": order.policy,
        },
        "notes": list(advice.notes),
    }


def _patience(order: Order) -> str:
    wait_h = (order.latest_start_s - order.submitted_s) / _HOUR_S
    until = f", to be over by {_utc(order.finish_by_s)}" if order.finish_by_s is not None else ""
    held = f", holding a machine that idles at {order.job.idle_ratio:.0%}" if order.job.idle_w > 0 else ""
    return f"may wait {wait_h:.3g} h{until}{held}"


def _start(plan: Plan, now_s: float) -> str:
    where = f" in {plan.zone}" if plan.policy == "region" else ""
    if plan.is_now or plan.start_s <= now_s:
        return f"now{where}"
    hours, minutes = divmod(round((plan.start_s - now_s) / 60), 60)
    return f"{_utc(plan.start_s)}{_here(plan.start_s)}{where}, in {hours} h {minutes:02d} min"


def _pieces(plan: Plan) -> str:
    spans = ", ".join(f"{clock(a)}-{clock(b)}" for a, b in plan.segments)
    return f"in {len(plan.segments)} pieces: {spans} UTC; it must be able to stop and go on"


def _saving(advice: Advice, order: Order, *, has_power: bool) -> str:
    plan = advice.plan
    now_g = plan.now_gco2e / order.job.energy_kwh
    if plan.is_now and plan.saving_ratio == 0:
        return f"nothing against now, which is {now_g:.0f} gCO2e/kWh"
    grams = f", {plan.now_gco2e - plan.planned_gco2e:.3g} of {plan.now_gco2e:.3g} gCO2e" if has_power else ""
    saved = f"{plan.saving_ratio:.0%} ({plan.saving_low_ratio:.0%} to {plan.saving_high_ratio:.0%})"
    return (
        f"{saved} of starting now{grams}: {advice.target_gco2e_per_kwh:.0f} instead of {now_g:.0f} "
        "gCO2e/kWh; expected, not measured"
    )


def _chart(advice: Advice, order: Order) -> list[str]:
    """The forecast as far as the job may reach, with the chosen time pointed at."""
    forecast, plan = advice.forecast, advice.plan
    if forecast.kind == "static":
        return []
    end_s = min(forecast.end_s, order.latest_start_s + order.job.length_s)
    count = max(1, math.ceil((end_s - forecast.start_s) / forecast.step_s))
    width = max(1, math.ceil(count / _COLUMNS))
    groups = [forecast.values[i : min(i + width, count)] for i in range(0, count, width)]
    starts = [forecast.start_s + i * forecast.step_s for i in range(0, count, width)]
    column_s = width * forecast.step_s
    marks = [any(a < t + column_s and t < b for a, b in plan.segments) for t in starts]
    rows = bars([sum(group) / len(group) for group in groups], marks=marks)
    indent = rows[0].index("|") + 1 if rows else 0
    every = max(_LABEL, round(3 * _HOUR_S / column_s))
    hours = "".join(f"{clock(t):{every}}" for t in starts[::every])
    return [
        "",
        f"  gCO2e/kWh from {_utc(forecast.start_s)} on; ^ is the plan",
        "",
        *(f"  {row}" for row in rows),
        f"  {' ' * indent}{hours}".rstrip(),
        "",
    ]


def _utc(t_s: float) -> str:
    return datetime.fromtimestamp(t_s, UTC).strftime("%a %Y-%m-%d %H:%M UTC")


def _here(t_s: float) -> str:
    """The same in the time zone of this machine, where that is another."""
    local = datetime.fromtimestamp(t_s, UTC).astimezone()
    return "" if not local.utcoffset() else f" ({local:%H:%M %Z})"
