"""Advice on orders: what is asked of the grid, what comes of it, and what is said where nothing can be known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon import grid as grids
from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.core.plans import Job, Terms
from mlflow_carbon.grid import regions
from mlflow_carbon.scheduling.advice import Advice, advise, system_look
from mlflow_carbon.scheduling.order import Order, Place
from mlflow_carbon.settings import Settings
from tests.fakes import intensity
from tests.grids import wave

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR = 3600
NOW = 1_772_452_800 + 600  # ten minutes into an hour
SLOT = NOW - 600
HOME = Settings(zone="GB", zone_source="argument")


def slot(start_s: int, value: float, kind: str = "forecast") -> IntensitySlot:
    """An hour without a range."""
    return IntensitySlot(
        start_s=start_s,
        end_s=start_s + HOUR,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value,
        high_gco2e_per_kwh=value,
        kind=kind,
    )


class World:
    """Grids by zone, as hours from the present slot on; notes what was asked."""

    def __init__(self, zones: Mapping[str, IntensitySeries]) -> None:
        self.zones = zones
        self.asked: list[tuple[str, float, float, str]] = []

    def __call__(self, given: Settings, start_s: float, end_s: float, now_s: float) -> IntensitySeries:
        self.asked.append((given.zone or "", start_s, end_s, given.grid))
        return self.zones[given.zone or ""]


def grid(
    *values: float, zone: str = "GB", past: list[float] | None = None, annual: float = 300
) -> IntensitySeries:
    """Figures of the source itself: hours before the present slot, then those from it on."""
    before = [slot(SLOT - (len(past) - i) * HOUR, v, "actual") for i, v in enumerate(past)] if past else []
    coming = [slot(SLOT + i * HOUR, v) for i, v in enumerate(values)]
    return replace(intensity(annual, [*before, *coming]), zone=zone)


def order(hours: float = 2, slack_h: float = 5, **changes: Any) -> Order:
    """Two hours that may wait for five, submitted now."""
    job = Job(length_s=hours * HOUR, max_wait_s=slack_h * HOUR, power_w=1000)
    return replace(Order(settings=HOME, job=job, submitted_s=NOW), **changes)


def ask(wanted: Order, *values: float, now_s: float = NOW, again: bool = False) -> Advice:
    """Advice with one grid."""
    return advise(wanted, World({"GB": grid(*values)}), now_s, again=again)


def test_the_cleanest_window_within_the_wait():
    """2 h at 1 kW: from 300 + 300 now to 100 + 120 in three hours, 600 g to 220 g."""
    found = ask(order(), 300, 300, 200, 100, 120, 400, 90, 400)
    assert found.plan.start_s == SLOT + 3 * HOUR
    assert found.plan.now_gco2e == pytest.approx(600)
    assert found.plan.planned_gco2e == pytest.approx(220)
    assert found.target_gco2e_per_kwh == pytest.approx(110)
    assert found.plan.zone == "GB"
    assert (found.now.gco2e_per_kwh, found.home.gco2e_per_kwh) == (300, 300)


def test_the_wait_is_counted_from_now_not_from_the_slot():
    """Ten minutes into a slot, two hours and forty minutes reach the slot that begins in 2 h 50 no more."""
    values = (300, 280, 260, 50, 50, 300)
    assert ask(order(slack_h=2.84), *values).plan.start_s == SLOT + 3 * HOUR
    assert ask(order(slack_h=2.82), *values).plan.start_s == SLOT + 2 * HOUR


def test_a_deadline_binds_where_it_comes_first():
    """Over in five hours means starting in three at the latest, for two hours of work."""
    wanted = order(slack_h=24, finish_by_s=SLOT + 5 * HOUR)
    assert wanted.latest_start_s == SLOT + 3 * HOUR
    assert ask(wanted, 300, 290, 280, 270, 50, 50, 50).plan.start_s == SLOT + 3 * HOUR


@pytest.mark.parametrize("finish_by_s", [NOW - 86_400, NOW + 600])
def test_a_deadline_that_cannot_be_met_starts_now(finish_by_s):
    """In the past, or too near: no wait, and it says so."""
    wanted = order(finish_by_s=finish_by_s)
    assert wanted.is_too_late
    found = ask(wanted, 300, 100, 100, 100)
    assert found.plan.is_now
    assert "cannot end in time" in found.plan.reason


def test_times_are_those_of_the_submission():
    """Three hours later three hours less are left; after the last of them it starts whatever comes."""
    values = (300, 300, 200, 100, 120, 400, 90, 90)
    world = World({"GB": grid(*values)})
    assert advise(order(slack_h=3), world, NOW + 2 * HOUR, again=True).plan.start_s == SLOT + 3 * HOUR
    late = advise(order(slack_h=1), world, NOW + 2 * HOUR, again=True)
    assert late.plan.is_now
    assert late.plan.reason == "no wait is left"


def test_a_small_gain_is_not_worth_a_wait_but_does_not_end_one():
    """2 % of 600 g: at once at submission; who waits already goes on for it."""
    values = (300, 300, 294, 294, 300, 300, 300)
    assert "gain too small: 2.00%" in ask(order(), *values).plan.reason
    assert not ask(order(), *values, again=True).plan.is_now


def test_without_live_figures_it_starts_now():
    """The annual figure does not say when."""
    found = advise(order(), World({"GB": intensity(200)}), NOW)
    assert found.plan.is_now
    assert "annual" in found.plan.reason


def test_the_cleaner_region_is_chosen_with_the_way_there():
    """600 g at home; 240 g there and 0.1 kWh of transfer at 300 g: 270 g."""
    there = grid(120, 120, 120, 120, 120, 120, 120, 120, zone="SE", annual=40)
    world = World({"GB": grid(300, 300, 300, 300, 300, 300, 300, 300), "SE": there})
    wanted = order(policy="region", places=(Place(zone="SE", transfer_kwh=0.1),))
    found = advise(wanted, world, NOW)
    assert found.plan.zone == "SE"
    assert found.plan.planned_gco2e == pytest.approx(270)
    assert found.plan.saving_ratio == pytest.approx(0.55)
    assert found.home.gco2e_per_kwh == 300
    assert "by yearly figures SE emits" in found.plan.reason


def test_figures_of_another_kind_are_not_compared():
    """Direct emissions at home, life cycle there: it stays, and says which was left out."""
    there = replace(grid(10, 10, 10, 10, 10, 10, 10, 10, zone="SE"), scope="direct")
    world = World({"GB": grid(300, 300, 300, 300, 300, 300, 300, 300), "SE": there})
    found = advise(order(policy="region", places=(Place(zone="SE"),)), world, NOW)
    assert found.plan.zone == "GB"
    assert "SE left out: its figures are of another kind" in found.plan.reason


def test_a_postcode_of_home_is_not_asked_elsewhere():
    """Other zones are asked of the automatic source."""
    world = World({"GB": grid(300, 300, 300, 300, 300, 300, 300, 300), "DE": intensity(300)})
    wanted = order(policy="region", places=(Place(zone="DE"),), settings=replace(HOME, grid="gb:SW7"))
    advise(wanted, world, NOW)
    assert [(zone, source) for zone, *_, source in world.asked] == [("GB", "gb:SW7"), ("DE", "auto")]


def test_a_held_machine_waits_only_where_waiting_has_paid():
    """On a flat grid with noise, idling at a tenth costs more than its best hours gave in the last weeks."""
    past = [float(v) for v in wave(40, weather=30.0).values]
    level = [250.0] * len(past)
    wanted = order(hours=1, slack_h=24)
    held = replace(wanted, job=replace(wanted.job, idle_w=100.0))
    coming = [250.0, *[200.0] * 3, *[10.0] * 30]
    flat = advise(held, World({"GB": grid(*coming, past=level)}), NOW)
    assert flat.plan.is_now
    assert "has not paid" in flat.plan.reason
    assert not advise(wanted, World({"GB": grid(*coming, past=level)}), NOW).plan.is_now


def test_a_policy_without_what_it_needs_is_refused():
    """A threshold needs its limit."""
    with pytest.raises(ValueError, match="expected threshold_gco2e_per_kwh"):
        ask(order(policy="threshold"), 300, 300, 300, 300)
    limit = Terms(threshold_gco2e_per_kwh=150)
    assert (
        ask(order(policy="threshold", terms=limit), 300, 300, 120, 90, 300, 300, 300).plan.start_s
        == SLOT + 2 * HOUR
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1, 900), min_size=1, max_size=60),
    st.floats(0.02, 30),
    st.floats(0, 40),
    st.sampled_from(["window", "interruptible", "now"]),
    st.floats(0, 300),
)
def test_every_plan_can_be_kept(values, hours, slack_h, policy, idle_w):
    """It starts within the wait, runs as long as the job, in order, and expects no more than starting now."""
    wanted = order(hours, slack_h, policy=policy)
    wanted = replace(wanted, job=replace(wanted.job, idle_w=idle_w))
    plan = ask(wanted, *values).plan
    assert plan.is_now or SLOT <= plan.start_s <= wanted.latest_start_s
    ran = sum(end - start for start, end in plan.segments)
    assert hours * HOUR <= ran + 1e-3 < hours * HOUR + HOUR + 1
    assert all(a[1] < b[0] for a, b in zip(plan.segments, plan.segments[1:], strict=False))
    assert plan.segments[-1][1] <= wanted.latest_start_s + wanted.job.length_s + HOUR
    assert plan.planned_gco2e <= plan.now_gco2e + 1e-6


def test_marginal_and_average_places_are_not_compared():
    """At home only marginal figures: a place of averages is left out, however clean, and yearly figures are averages.

    Behind the marginal slots stands 9 g, their own mean; the yearly comparison takes the tables' figure of GB.
    """
    home = replace(grid(*[400.0] * 12, annual=9), signal="marginal")
    world = World({"GB": home, "SE": grid(*[20.0] * 12, zone="SE", annual=40)})
    found = advise(order(policy="region", places=(Place(zone="SE"),)), world, NOW)
    assert found.plan.zone == "GB"
    assert "SE left out: its figures are of another kind" in found.plan.reason
    assert "by yearly figures SE emits 83% less than GB" in found.plan.reason


def test_the_zone_is_that_of_the_run(monkeypatch):
    """Where the metadata service may be asked, its region counts for plans as it does for what they plan."""
    there = regions.Region(provider="aws", name="eu-north-1", origin="metadata")
    monkeypatch.setattr("mlflow_carbon.assembly._region_asked", lambda _at: there)
    look = system_look(grids.Access(cache=grids.fetch.Cache(folder=None)))
    found = look(Settings(cloud_metadata=True), NOW, NOW + HOUR, NOW)
    assert found.zone.startswith("SE")
