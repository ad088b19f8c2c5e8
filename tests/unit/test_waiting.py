"""Waiting on a virtual clock: how long, why, and what is reported meanwhile."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlflow_carbon
from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.errors import SettingsError, ZoneError
from mlflow_carbon.waiting import Progress, Wait, wait_until_clean

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.advice import Look
    from mlflow_carbon.settings import Settings

HALF_HOUR = 1800
BEGIN = 1_772_452_800  # a half hour


class Clock:
    """Time passes only in sleep; `jump` is what the wall clock gains in the first sleep (a suspend)."""

    def __init__(self, *, wall_s: float = BEGIN, jump: float = 0.0) -> None:
        self.mono = 5.0
        self.wall = wall_s
        self.jump = jump
        self.sleeps = 0

    def monotonic_s(self) -> float:
        return self.mono

    def wall_s(self) -> float:
        return self.wall

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps += 1
        self.mono += seconds
        self.wall += seconds + self.jump
        self.jump = 0.0


def slot(start_s: int, value: float, kind: str = "forecast", end_s: int = 0) -> IntensitySlot:
    """A slot of half an hour without a range."""
    return IntensitySlot(
        start_s=start_s,
        end_s=end_s or start_s + HALF_HOUR,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value,
        high_gco2e_per_kwh=value,
        kind=kind,
    )


class Grid:
    """An intensity by half hours from BEGIN, of which only what has begun is told; static afterwards."""

    def __init__(self, *values: float, static: float = 500.0) -> None:
        self.series = IntensitySeries(
            zone="GB",
            provider="live",
            static=slot(0, static, "static", 10**11),
            static_provider="annual",
            slots=tuple(slot(BEGIN + i * HALF_HOUR, v) for i, v in enumerate(values)),
        )
        self.asked: list[tuple[float, float]] = []

    def __call__(self, given: Settings, start_s: float, end_s: float, now_s: float) -> IntensitySeries:
        self.asked.append((now_s, end_s))
        begun = [s for s in self.series.slots if s.start_s <= now_s]
        return replace(self.series, slots=tuple(begun))


def wait(look: Look, clock: Clock, *, threshold: float = 100.0, max_wait_s: float = 7200.0) -> Wait:
    """Two hours of patience for 100 g, for half an hour of work."""
    return wait_until_clean(
        threshold_gco2e_per_kwh=threshold, max_wait_s=max_wait_s, duration_s=1800, clock=clock, look=look
    )


def test_a_clean_grid_starts_at_once():
    """Nothing is slept and the grid is asked once, as far as the job may reach."""
    clock, look = Clock(), Grid(80.0)
    found = wait(look, clock)
    assert (found.wait_s, found.initial_gco2e_per_kwh, found.training_gco2e_per_kwh) == (0, 80, 80)
    assert (found.kind, found.provider, found.policy) == ("forecast", "live", "threshold")
    assert clock.sleeps == 0
    assert look.asked == [(BEGIN, BEGIN + 7200 + 1800)]


def test_it_waits_for_the_boundary_of_the_first_clean_slot():
    """From 12:10 on, slots of 300, 200 and 90 g: 50 minutes, with a look at each boundary."""
    clock, look = Clock(wall_s=BEGIN + 600), Grid(300.0, 200.0, 90.0)
    found = wait(look, clock)
    assert found.wait_s == 3000
    assert (found.initial_gco2e_per_kwh, found.training_gco2e_per_kwh) == (300, 90)
    assert [now for now, _ in look.asked] == [BEGIN + 600, BEGIN + 1800, BEGIN + 3600]
    assert found.reason.startswith("now is within 100 gCO2e/kWh")
    assert found.started_s == BEGIN + 3600


def test_it_gives_up_after_the_longest_wait():
    """At the last slot that it can still wait for: 4000 s of patience reach two of them."""
    found = wait(Grid(300.0, 300.0, 300.0), Clock(), max_wait_s=4000)
    assert found.wait_s == 3600
    assert found.reason.startswith("not within 100 gCO2e/kWh before the wait is over")


def test_within_a_slot_there_is_nothing_to_wait_for():
    """Half an hour has one figure: who may wait a quarter of it starts at once."""
    clock = Clock()
    assert wait(Grid(300.0, 50.0), clock, max_wait_s=900).wait_s == 0
    assert clock.sleeps == 0


def test_a_wait_is_announced_once(caplog):
    """For how long about, and why."""
    wait(Grid(300.0, 200.0, 90.0), Clock())
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("waiting for a cleaner grid, for about 7200 s: not within 100 gCO2e")


def test_no_patience_is_no_wait():
    """Zero seconds start at once, whatever the grid."""
    clock = Clock()
    assert wait(Grid(300.0), clock, max_wait_s=0).wait_s == 0
    assert clock.sleeps == 0


def test_a_static_factor_starts_now_and_says_so():
    """No live figure, no wait; the provider is that of the static figure."""
    found = wait(Grid(), Clock())
    assert (found.wait_s, found.kind, found.provider) == (0, "static", "annual")
    assert found.reason == "an annual or fixed figure does not say when to start"


def test_when_the_live_figures_end_it_starts():
    """A service that goes away in mid-wait leaves only the static figure: the wait is over."""
    found = wait(Grid(300.0), Clock())
    assert (found.wait_s, found.kind) == (1800, "static")


def test_the_window_is_the_policy_where_no_threshold_is_given():
    """By what the source forecasts: 300 now, 100 in an hour."""
    look = Grid(300.0, 250.0, 100.0, 280.0)
    found = wait_until_clean(
        max_wait_s=3600, duration_s=1800, clock=Clock(), look=lambda given, start_s, end_s, now_s: look.series
    )
    assert (found.policy, found.wait_s, found.training_gco2e_per_kwh) == ("window", 3600, 100)
    assert "no wait is left" in found.reason


def test_a_wait_can_be_costed_afterwards():
    """One hour later at 100 instead of 300: two thirds saved; the best there was."""
    look = Grid(300.0, 250.0, 100.0, 280.0, 290.0)
    everything = lambda given, start_s, end_s, now_s: look.series  # noqa: E731 - a look in one line
    found = wait_until_clean(max_wait_s=3600, duration_s=1800, clock=Clock(), look=everything)
    saved = found.saved(2.0, ended_s=found.started_s + 1800, look=everything)
    assert saved.saving_ratio == pytest.approx(2 / 3)
    assert saved.saving_oracle_ratio == pytest.approx(2 / 3)
    assert saved.spent_gco2e == pytest.approx(200)


def test_a_clock_that_was_set_back_does_not_fail_the_sum_afterwards():
    """By the clock the training has ended before it started: it is costed as a moment."""
    look = Grid(300.0, 90.0, 90.0)
    waited = replace(wait(look, Clock()), started_s=4e9)
    assert waited.saved(1.0, look=look).kind == "static"


def test_progress_comes_about_once_a_second():
    """Seconds waited, seconds left, the intensity now and the one that is waited for."""
    seen: list[Progress] = []
    clock = Clock(wall_s=BEGIN + HALF_HOUR - 3.5)
    wait_until_clean(
        threshold_gco2e_per_kwh=100, max_wait_s=60, progress=seen.append, clock=clock, look=Grid(300.0, 50.0)
    )
    assert [p.waited_s for p in seen] == [0, 1, 2, 3]
    assert all(p.now_gco2e_per_kwh == 300 for p in seen)
    assert all(p.left_s >= 0 for p in seen)


def test_a_suspended_machine_notices_that_the_slot_is_over():
    """The wall clock jumps by an hour while the monotonic clock stands: one short sleep is enough."""
    clock = Clock(jump=3600)
    found = wait(Grid(300.0, 300.0, 90.0), clock)
    assert (clock.sleeps, found.wait_s) == (1, 3601)
    assert found.training_gco2e_per_kwh == 90


def test_a_wall_clock_set_back_does_not_prolong_the_wait():
    """The longest wait is counted by the monotonic clock, too."""
    clock = Clock(wall_s=BEGIN + 1200, jump=-900)
    assert wait(Grid(300.0, 300.0), clock, max_wait_s=1200).wait_s == 1200


def test_a_clock_set_back_by_a_year_ends_the_wait():
    """What was planned was of another time; nothing is known of this one."""
    clock = Clock(jump=-365 * 86_400.0)
    found = wait(Grid(300.0, 300.0), clock, max_wait_s=7200)
    assert found.wait_s <= 7200
    assert clock.sleeps <= 2


@pytest.mark.parametrize("good", [0, 1])
def test_a_plan_that_fails_starts_the_training(good, caplog):
    """Whatever goes wrong in planning, at first or in mid-wait: the training runs, and the reason says what."""
    calls = []

    def look(given, start_s, end_s, now_s):
        calls.append(now_s)
        if len(calls) > good:
            raise MemoryError("no room")
        return Grid(300.0)(given, start_s, end_s, now_s)

    found = wait(look, Clock())
    assert found.wait_s == 1800 * good
    assert "planning failed: MemoryError: no room" in found.reason
    assert "starting now" in caplog.text
    assert (found.kind, found.provider) == ("static", "codecarbon")


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(1, 600), max_size=3),
    threshold=st.floats(0, 600),
    max_wait_s=st.integers(0, 6000),
    offset=st.integers(0, HALF_HOUR - 1),
)
def test_never_longer_than_allowed_and_always_with_a_cause(values, threshold, max_wait_s, offset):
    """Each wait ends clean, static or with its last slot, and at the earliest such moment."""
    clock = Clock(wall_s=BEGIN + offset)
    found = wait(Grid(*values), clock, threshold=threshold, max_wait_s=max_wait_s)
    clean = next((i for i, v in enumerate(values) if v <= threshold), len(values))
    last = (max_wait_s + offset) // HALF_HOUR
    assert found.wait_s == max(0, min(last, clean) * HALF_HOUR - offset)
    assert found.wait_s <= max_wait_s


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "300", True])
@pytest.mark.parametrize("name", ["threshold_gco2e_per_kwh", "max_wait_s", "duration_s", "power_w", "idle_w"])
def test_arguments_are_checked(name, wrong):
    """The message names the argument, what was expected and what was got."""
    arguments: dict[str, Any] = {"threshold_gco2e_per_kwh": 100.0, "max_wait_s": 1.0} | {name: wrong}
    with pytest.raises(SettingsError, match=f"{name}: expected a number of at least"):
        wait_until_clean(**arguments, clock=Clock(), look=Grid())


def test_policies_are_checked():
    """Unknown ones, one that cannot hold the process, one without its threshold, and options that are none."""
    for wrong in ("luck", "interruptible", "region"):
        with pytest.raises(SettingsError, match="policy: expected one of now, threshold"):
            wait_until_clean(max_wait_s=1, policy=wrong, clock=Clock(), look=Grid())
    with pytest.raises(SettingsError, match="expected threshold_gco2e_per_kwh as well"):
        wait_until_clean(max_wait_s=1, policy="threshold", clock=Clock(), look=Grid())
    with pytest.raises(SettingsError, match="got treshold"):
        wait_until_clean(max_wait_s=1, clock=Clock(), look=Grid(), treshold=1)  # type: ignore[call-arg]


def test_an_unknown_zone_is_refused_before_any_wait():
    """With near names, as everywhere."""
    with pytest.raises(ZoneError, match="did you mean DE"):
        wait_until_clean(threshold_gco2e_per_kwh=1, max_wait_s=1, zone="Germny", clock=Clock())


def test_without_a_live_provider_the_grid_itself_says_start(monkeypatch, tmp_path):
    """The default path: Germany has an annual figure only, so nothing is asked of any network."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    found = wait_until_clean(threshold_gco2e_per_kwh=1, max_wait_s=60, zone="DE", clock=Clock())
    assert found.training_gco2e_per_kwh == pytest.approx(380.95)
    assert (found.wait_s, found.kind, found.provider) == (0, "static", "codecarbon")


def test_the_clocks_of_the_system_serve():
    """A real wait of a second at most, for the next of the seconds of a made-up grid."""
    now = int(time.time_ns() / 1e9)

    def look(given: Settings, start_s: float, end_s: float, now_s: float) -> IntensitySeries:
        seconds = (
            slot(t, 300.0 if t <= now else 1.0, "actual", t + 1) for t in range(now - 5, int(now_s) + 1)
        )
        return replace(Grid().series, slots=tuple(seconds))

    found = wait_until_clean(threshold_gco2e_per_kwh=1, max_wait_s=3, duration_s=1, look=look)
    assert 0 <= found.wait_s < 5
    assert (found.kind, found.training_gco2e_per_kwh) == ("actual", 1)


def test_it_is_part_of_the_public_face():
    """`mlflow_carbon.wait_until_clean` and `mlflow_carbon.Wait`."""
    assert mlflow_carbon.wait_until_clean is wait_until_clean
    assert mlflow_carbon.Wait is Wait
