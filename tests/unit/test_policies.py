"""Policies: worked examples of plans, idling, pauses, places, and what makes them start at once."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.history import History
from mlflow_carbon.core.pauses import best_slots
from mlflow_carbon.core.policies import POLICIES, Case, Job, Plan, Region, Terms, plan
from tests.grids import START_S, forecast

H = 3600


def job(hours: float = 1, wait_h: float = 24, **more: float) -> Job:
    """A job of 1 kW."""
    return Job(length_s=hours * H, max_wait_s=wait_h * H, power_w=1000, **more)


def at(made: Plan) -> int:
    """Hours from now to the start."""
    return (made.start_s - START_S) // H


def test_the_window_is_the_cleanest_contiguous_one() -> None:
    """300, 200, 100, 150, 400 and two hours: start after two; 250 saved of 500 gCO2e at 1 kW."""
    made = plan(Case(forecast=forecast(300, 200, 100, 150, 400), job=job(2)))
    assert at(made) == 2
    assert (made.now_gco2e, made.planned_gco2e) == pytest.approx((500, 250))
    assert made.saving_ratio == pytest.approx(0.5)
    assert not made.is_now


def test_the_wait_is_kept() -> None:
    """With an hour of patience the trough in three hours is out of reach."""
    made = plan(Case(forecast=forecast(300, 250, 200, 100), job=job(1, wait_h=1)))
    assert at(made) == 1


def test_a_small_gain_is_not_waited_for() -> None:
    """2 % is under the default minimum of 3 %, 4 % is not; a plan made anew asks for no gain any more."""
    small, large = forecast(100, 98), forecast(100, 96)
    assert "gain too small" in plan(Case(forecast=small, job=job())).reason
    assert at(plan(Case(forecast=large, job=job()))) == 1
    assert at(plan(Case(forecast=small, job=job(), terms=Terms().again()))) == 1


def test_the_tolerance_starts_a_job_that_is_good_enough() -> None:
    """100 against 96 is within 5 %."""
    made = plan(Case(forecast=forecast(100, 96), job=job(), terms=Terms(tolerance_ratio=0.05)))
    assert made.is_now


def test_idling_on_a_held_machine_can_eat_the_gain() -> None:
    """300, 300, 250: two hours at 10 % cost 60, more than the 50 that are saved; given back, waiting pays."""
    values = forecast(300, 300, 250)
    assert plan(Case(forecast=values, job=job(idle_w=100))).is_now
    assert at(plan(Case(forecast=values, job=job()))) == 2


def test_idling_is_in_the_plan() -> None:
    """300, 200: one hour at 10 % of 300 and one at 200 make 230 gCO2e."""
    assert plan(Case(forecast=forecast(300, 200), job=job(idle_w=100))).planned_gco2e == pytest.approx(230)


def test_a_static_figure_never_makes_a_job_wait() -> None:
    """Every policy starts now and says so."""
    case = Case(
        forecast=forecast(300, 300, kind="static"), job=job(), terms=Terms(threshold_gco2e_per_kwh=100)
    )
    for name in set(POLICIES) - {"region"}:
        made = plan(case, name)
        assert made.is_now
        assert "does not say when" in made.reason


def test_the_range_comes_from_the_deviations() -> None:
    """Planned at 100 with a deviation of 10: 80 to 120 gCO2e, so 60 to 73 % of 300 are saved."""
    made = plan(Case(forecast=forecast(300, 100, sd=10), job=job()))
    assert (made.planned_low_gco2e, made.planned_high_gco2e) == pytest.approx((100 - 19.6, 100 + 19.6))
    assert (made.saving_low_ratio, made.saving_high_ratio) == pytest.approx((0.6013, 0.7320), abs=1e-4)


def test_the_best_slots_are_taken_with_pauses() -> None:
    """300, 100, 300, 100 and two hours: the second and the fourth."""
    made = plan(Case(forecast=forecast(300, 100, 300, 100), job=job(2)), "interruptible")
    assert [((a - START_S) // H, (b - START_S) // H) for a, b in made.segments] == [(1, 2), (3, 4)]
    assert made.planned_gco2e == pytest.approx(200)


def test_resuming_and_shortest_stretches_cost_pauses() -> None:
    """A resume of two hours, a run or a pause of at least two hours: each rules the split out."""
    values = forecast(300, 100, 150, 100)
    free = plan(Case(forecast=values, job=job(2)), "interruptible")
    assert len(free.segments) == 2
    for more in ({"resume_s": 2 * H}, {"min_run_s": 2 * H}, {"min_pause_s": 2 * H}):
        made = plan(Case(forecast=values, job=job(2, **more)), "interruptible")
        assert len(made.segments) == 1


def test_idling_counts_in_full_beside_a_job_that_does_not_fill_its_slots() -> None:
    """Six minutes at 1 kW are 30 g at 300 and 20 g at 200, but an hour at 100 W before them is 30 g more."""
    short = forecast(300, 200)
    assert plan(Case(forecast=short, job=job(0.1, idle_w=100))).is_now
    assert at(plan(Case(forecast=short, job=job(0.1, idle_w=10)))) == 1
    held = plan(Case(forecast=short, job=job(0.1, idle_w=10)))
    assert (held.now_gco2e, held.planned_gco2e) == pytest.approx((30, 23))


def test_resuming_counts_in_full_beside_slots_that_are_not_filled() -> None:
    """An hour and a half over two slots: resuming for six minutes at 1 kW and 100 g/kWh is 10 g on top of 150."""
    paused = forecast(100, 400, 100)
    made = plan(Case(forecast=paused, job=job(1.5, wait_h=1, resume_s=360)), "interruptible")
    assert len(made.segments) == 2
    assert made.planned_gco2e == pytest.approx(160)


def test_the_wait_ends_elsewhere_when_it_ends_at_home() -> None:
    """A slot of half an hour there has begun half an hour after the hour of home: an hour's wait is half of it."""
    there = replace(forecast(100, 90, 10, 10, 10), start_s=START_S + H // 2, step_s=H // 2)
    home = Region(zone="HOME", annual_gco2e_per_kwh=300)
    away = Region(zone="AWAY", annual_gco2e_per_kwh=100, forecast=there)
    made = plan(
        Case(forecast=forecast(300, 300, 300), job=job(0.5, wait_h=1), home=home, regions=(away,)), "region"
    )
    assert (made.zone, made.start_s) == ("AWAY", START_S + H)


def cost(values, running, idle, resume) -> float:
    """Cost of running exactly these slots, written out."""
    total = 0.0
    for slot in range(max(running) + 1):
        total += values[slot] if slot in running else idle * values[slot]
        total += (
            resume * values[slot]
            if slot in running and slot - 1 not in running and slot > min(running)
            else 0
        )
    return total


@given(
    st.lists(st.integers(1, 50), min_size=3, max_size=8),
    st.integers(1, 3),
    st.floats(0, 0.3),
    st.floats(0, 2),
)
def test_pauses_are_planned_as_well_as_trying_everything(values, length, idle, resume) -> None:
    """No choice of slots is cheaper than the planned one."""
    found = best_slots(values, length=length, idle_ratio=idle, resume=resume)
    running = [slot for a, b in found for slot in range(a, b)]
    assert len(running) == length
    least = min(cost(values, set(c), idle, resume) for c in combinations(range(len(values)), length))
    assert cost(values, set(running), idle, resume) == pytest.approx(least)


def test_the_threshold_starts_at_the_first_slot_within_it() -> None:
    """310, 305, 290 and a limit of 300: after two hours; never within it: when the wait is over."""
    terms = Terms(threshold_gco2e_per_kwh=300)
    case = Case(forecast=forecast(310, 305, 290, 280), job=job(1, wait_h=3), terms=terms)
    assert at(plan(case, "threshold")) == 2
    never = replace(case, forecast=forecast(310, 305, 301, 302))
    assert at(plan(never, "threshold")) == 3


@pytest.mark.parametrize(("past", "word"), [(500.0, "never"), (100.0, "always")])
def test_the_threshold_warns_where_it_decides_nothing(past, word) -> None:
    """History that is always or never within the limit is said, and never means no wait."""
    case = Case(
        forecast=forecast(past, past, past),
        job=job(),
        terms=Terms(threshold_gco2e_per_kwh=300),
        history=History(start_s=0, step_s=H, values=(past,) * 100),
    )
    made = plan(case, "threshold")
    assert word in made.warning
    assert made.is_now


def test_the_percentile_takes_its_limit_from_the_last_week() -> None:
    """A quarter of 1 to 100 is 25: the first slot at or below starts."""
    history = History(start_s=0, step_s=H, values=tuple(float(v) for v in range(1, 101)))
    made = plan(Case(forecast=forecast(60, 26, 25, 10), job=job(), history=history), "percentile")
    assert at(made) == 2


def places(annual: float, allowed: bool = True, transfer: float = 0.0) -> Case:
    """Poland at 700, and Sweden at what is given."""
    home = Region(zone="PL", annual_gco2e_per_kwh=700)
    there = Region(
        zone="SE",
        annual_gco2e_per_kwh=annual,
        forecast=forecast(annual, annual - 10),
        transfer_kwh=transfer,
        is_allowed=allowed,
    )
    return Case(forecast=forecast(700, 600), job=job(), home=home, regions=(there,))


def test_a_cleaner_place_beats_a_cleaner_hour() -> None:
    """A kilowatt hour at 30 instead of 600 or 700, and the yearly advice before it."""
    made = plan(places(40), "region")
    assert (made.zone, at(made), made.policy) == ("SE", 1, "region")
    assert made.planned_gco2e == pytest.approx(30)
    assert "by yearly figures SE emits 94% less than PL" in made.reason


def test_moving_is_costed_and_may_be_forbidden() -> None:
    """1 kWh of transfer at 700 is more than the move saves; where data must stay, they stay."""
    assert plan(places(40, transfer=1.0), "region").zone == "PL"
    assert plan(places(40, allowed=False), "region").zone == "PL"
    assert plan(places(40, transfer=0.1), "region").planned_gco2e == pytest.approx(100)


def test_the_end_of_the_forecast_is_said() -> None:
    """A wait beyond it is planned as far as it goes; a job beyond it is refused."""
    assert "as far as the forecast reaches" in plan(Case(forecast=forecast(3, 2, 1), job=job(1))).reason
    with pytest.raises(ValueError, match="forecast further"):
        plan(Case(forecast=forecast(3, 2), job=job(3)))


@pytest.mark.parametrize(
    "more",
    [
        {"length_s": 0},
        {"length_s": float("nan")},
        {"max_wait_s": -1},
        {"power_w": 0},
        {"idle_w": float("inf")},
    ],
)
def test_a_job_refuses_impossible_numbers(more) -> None:
    """Lengths, waits and powers are checked."""
    with pytest.raises(ValueError, match="job: expected"):
        Job(**({"length_s": 1, "max_wait_s": 1} | more))


def test_policies_say_what_they_lack() -> None:
    """An unknown name, a missing limit, history or home."""
    case = Case(forecast=forecast(1, 2), job=job())
    for name, lack in (
        ("luck", "expected one of now"),
        ("threshold", "threshold_gco2e"),
        ("percentile", "history"),
        ("region", "home"),
    ):
        with pytest.raises(ValueError, match=lack):
            plan(case, name)


@given(
    st.lists(st.floats(0, 900, allow_subnormal=False), min_size=6, max_size=30),
    st.floats(0, 500, allow_subnormal=False),
    st.integers(1, 5),
)
def test_every_plan_is_feasible(values, idle_w, hours) -> None:
    """It runs the whole job, after now, within the wait, and is never expected to be dearer than now."""
    case = Case(forecast=forecast(*values), job=job(hours, wait_h=12, idle_w=idle_w))
    for name in ("now", "window", "interruptible"):
        made = plan(case, name)
        assert sum(end - start for start, end in made.segments) == hours * H
        assert made.start_s >= START_S
        assert made.segments[-1][1] <= START_S + (12 + hours) * H
        assert made.planned_gco2e <= made.now_gco2e * (1 + 1e-9) + 1e-9
