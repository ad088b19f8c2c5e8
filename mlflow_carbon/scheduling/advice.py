"""Advice on an order: asks the grid, forecasts, plans. Network trouble ends in a labelled fallback."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mlflow_carbon import assembly, grid
from mlflow_carbon.core.plans import start_now
from mlflow_carbon.core.policies import Case, Region, plan
from mlflow_carbon.core.prospects import PAST_S, prospects

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
    from mlflow_carbon.core.forecast import Forecast
    from mlflow_carbon.core.plans import Job, Plan
    from mlflow_carbon.core.prospects import Prospects
    from mlflow_carbon.scheduling.order import Order, Place
    from mlflow_carbon.settings import Settings

__all__ = ["Advice", "Look", "advise", "annual_look", "elsewhere", "system_look"]

_PAUSING = {"interruptible"}


class Look(Protocol):
    """How the grid is asked: the seam between planning and the world."""

    def __call__(self, given: Settings, start_s: float, end_s: float, now_s: float) -> IntensitySeries:
        """What is known of the zone in the settings from `start_s` to `end_s`; grid trouble never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One grid as it was found."""

    series: IntensitySeries
    found: Prospects


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A plan with what it rests on.

    Attributes:
        plan: When, where and why.
        forecast: Of the zone that was chosen.
        intensity: What the source said of that zone, with its labels.
        now: The present slot there.
        home: The present slot at home, where the job would run if nobody planned.
        target_gco2e_per_kwh: Expected emissions of the plan over the energy of the run.
        notes: What a reader must know.
    """

    plan: Plan
    forecast: Forecast
    intensity: IntensitySeries
    now: IntensitySlot
    home: IntensitySlot
    target_gco2e_per_kwh: float
    notes: tuple[str, ...] = ()


def advise(order: Order, look: Look, now_s: float, *, again: bool = False) -> Advice:
    """Plan an order as things stand now.

    Args:
        order: What is to run.
        look: How the grid is asked.
        now_s: UTC time now.
        again: The order has waited already, so no minimum gain is asked for any more.

    Raises:
        SettingsError: If the policy lacks what it needs, for example a threshold.
        ZoneError: If nobody knows a zone.
    """
    here = _seen(order, order.settings, look, now_s)
    there = {place: _seen(order, elsewhere(order, place), look, now_s) for place in order.places}
    job = order.job_at(here.found.forecast.start_s)
    terms = order.terms.again() if again else order.terms.held() if job.idle_w > 0 else order.terms
    case = Case(
        forecast=here.found.forecast,
        job=job,
        terms=terms,
        history=here.found.history,
        home=_region(here),
        regions=tuple(_region(seen, place) for place, seen in there.items()),
    )
    made = _made(case, order, job, now_s)
    chosen = next((s for s in there.values() if s.series.zone == made.zone), here)
    refused = _why_not_held(order, job, chosen.found) if not made.is_now and not again else ""
    if refused:
        made, chosen = start_now(here.found.forecast, job, order.policy, refused), here
    notes = dict.fromkeys((here.series.note, chosen.series.note, chosen.found.forecast.note, made.warning))
    return Advice(
        plan=replace(made, zone=chosen.series.zone),
        forecast=chosen.found.forecast,
        intensity=chosen.series,
        now=chosen.series.at(now_s),
        home=here.series.at(now_s),
        target_gco2e_per_kwh=made.planned_gco2e / job.energy_kwh,
        notes=tuple(note for note in notes if note),
    )


def elsewhere(order: Order, place: Place) -> Settings:
    """The settings for another zone: a postcode or a file of home says nothing of it."""
    source = order.settings.grid.partition(":")
    return replace(
        order.settings,
        zone=place.zone,
        zone_source="argument",
        grid="auto" if source[0] in {"gb", "recorded"} else order.settings.grid,
        intensity_gco2e_per_kwh=None,
    )


def _seen(order: Order, given: Settings, look: Look, now_s: float) -> _Seen:
    """Past and prospects of a zone, as far as the order may reach."""
    end_s = max(order.latest_start_s, now_s) + order.job.length_s
    series = look(given, now_s - PAST_S, end_s, now_s)
    return _Seen(series=series, found=prospects(series, now_s=now_s, horizon_s=end_s - now_s))


def _region(seen: _Seen, place: Place | None = None) -> Region:
    static = seen.found.forecast.kind == "static"
    return Region(
        zone=seen.series.zone,
        signal="annual" if static else f"{seen.series.signal}, {seen.series.scope}",
        annual_gco2e_per_kwh=_yearly(seen.series),
        forecast=seen.found.forecast,
        transfer_kwh=place.transfer_kwh if place is not None else 0.0,
    )


def _yearly(series: IntensitySeries) -> float:
    """The annual average of a zone, also of a marginal series, behind which its own mean stands."""
    if series.signal == "average":
        return series.static.gco2e_per_kwh
    zone = grid.zones.Zone(id=series.zone, source="argument")
    return grid.annual.series(zone, tables=grid.annual.installed()).static.gco2e_per_kwh


def _made(case: Case, order: Order, job: Job, now_s: float) -> Plan:
    """The plan of the policy, or now where no wait is left."""
    if order.is_too_late:
        return start_now(case.forecast, job, order.policy, "it cannot end in time even if it starts at once")
    if now_s >= order.latest_start_s and order.policy not in {"now", "region"}:
        return start_now(case.forecast, job, order.policy, "no wait is left")
    return plan(case, order.policy)


def _why_not_held(order: Order, job: Job, found: Prospects) -> str:
    """Why a machine that would idle meanwhile is not held; empty where it may be, or nothing is held."""
    if job.idle_w <= 0 or found.history is None:
        return ""
    from mlflow_carbon.core.paths import Track
    from mlflow_carbon.core.simulate import has_waiting_paid

    track, whole = Track.of(found.history), job.spread(found.history.step_s)
    has_paid = has_waiting_paid(track, whole, terms=order.terms, pauses=order.policy in _PAUSING)
    if has_paid is False:
        return "holding the machine has not paid: such waits have not surely saved more than they idled"
    return ""


def system_look(access: grid.Access) -> Look:
    """The grid as services, files and tables tell it."""

    def look(given: Settings, start_s: float, end_s: float, now_s: float) -> IntensitySeries:
        zone = grid.zones.resolve(given, env=os.environ, region=assembly.region(given))
        provider, _ = grid.provider_of(given, zone, access)
        reach_s = provider.history_s if provider is not None else PAST_S
        window = grid.Window(start_s=max(start_s, now_s - reach_s), end_s=end_s)
        return grid.intensity(given, zone, window=window, access=access, now_s=now_s)

    return look


def annual_look(given: Settings, start_s: float, end_s: float, now_s: float) -> IntensitySeries:  # noqa: ARG001 - a figure for all times
    """The annual figure alone: asks nobody, and no policy waits by it."""
    zone = grid.zones.resolve(given, env=os.environ)
    return grid.annual.series(zone, tables=grid.annual.installed())
