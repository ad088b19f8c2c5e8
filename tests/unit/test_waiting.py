"""Waiting on a virtual clock: how long, why, and what is reported meanwhile."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlflow_carbon
from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.errors import SettingsError, ZoneError
from mlflow_carbon.waiting import Wait, wait_until_clean

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
    """An intensity by half hours from BEGIN, static afterwards; counts how often it is asked."""

    def __init__(self, *values: float, static: float = 500.0) -> None:
        self.series = IntensitySeries(
            zone="GB",
            provider="live",
            static=slot(0, static, "static", 10**11),
            static_provider="annual",
            slots=tuple(slot(BEGIN + i * HALF_HOUR, v) for i, v in enumerate(values)),
        )
        self.asked: list[tuple[float, float]] = []

    def __call__(self, start_s: float, end_s: float) -> IntensitySeries:
        self.asked.append((start_s, end_s))
        return self.series


def wait(look: Grid, clock: Clock, *, threshold: float = 100.0, max_wait_s: float = 7200.0) -> Wait:
    """Two hours of patience for 100 g."""
    return wait_until_clean(
        threshold_gco2e_per_kwh=threshold, max_wait_s=max_wait_s, clock=clock, intensity=look
    )


def test_a_clean_grid_starts_at_once():
    """Nothing is slept and the grid is asked once."""
    clock, look = Clock(), Grid(80.0)
    found = wait(look, clock)
    assert (found.wait_s, found.initial_gco2e_per_kwh, found.training_gco2e_per_kwh) == (0, 80, 80)
    assert (found.kind, found.provider) == ("forecast", "live")
    assert clock.sleeps == 0
    assert look.asked == [(BEGIN, BEGIN + 7200)]


def test_it_waits_for_the_boundary_of_the_first_clean_slot():
    """From 12:10 on, slots of 300, 200 and 90 g: 50 minutes, with a look at each boundary."""
    clock, look = Clock(wall_s=BEGIN + 600), Grid(300.0, 200.0, 90.0)
    found = wait(look, clock)
    assert found.wait_s == 3000
    assert (found.initial_gco2e_per_kwh, found.training_gco2e_per_kwh) == (300, 90)
    assert [start for start, _ in look.asked] == [BEGIN + 600, BEGIN + 1800, BEGIN + 3600]
    assert "90 gCO2e/kWh (forecast) is within the threshold of 100" in found.reason


def test_it_gives_up_after_the_longest_wait():
    """1000 s of patience and a grid that stays dirty."""
    clock = Clock()
    found = wait(Grid(300.0, 300.0), clock, max_wait_s=1000)
    assert found.wait_s == 1000
    assert "longest wait of 1000 s is over" in found.reason


def test_a_wait_is_announced_once(caplog):
    """What it waits for, how long at most, and the figure of now beside the one it waits for."""
    wait(Grid(300.0, 200.0, 90.0), Clock())
    assert caplog.messages == [
        "waiting for a cleaner grid, at most 7200 s: 300 gCO2e/kWh (forecast) is above the threshold of 100"
    ]


def test_no_patience_is_no_wait():
    """Zero seconds start at once, whatever the grid."""
    clock = Clock()
    assert wait(Grid(300.0), clock, max_wait_s=0).wait_s == 0
    assert clock.sleeps == 0


def test_a_static_factor_starts_now_and_says_so():
    """No live figure, no wait; the provider is that of the static figure."""
    clock = Clock()
    found = wait(Grid(), clock)
    assert (found.wait_s, found.kind, found.provider) == (0, "static", "annual")
    assert (
        found.reason
        == "500 gCO2e/kWh (static): an annual or fixed figure does not say when to start, so no wait"
    )


def test_when_the_live_figures_end_it_starts():
    """A service that goes away in mid-wait leaves only the static figure: the wait is over."""
    found = wait(Grid(300.0), Clock())
    assert (found.wait_s, found.kind) == (1800, "static")


def test_marginal_and_average_are_not_compared():
    """The marginal source falls silent after one slot: both figures of the wait are then the annual average."""
    marginal, silent = Grid(900.0, 50.0), Grid()
    marginal.series = replace(marginal.series, signal="marginal")

    def look(start_s: float, end_s: float) -> IntensitySeries:
        return (marginal if start_s < BEGIN + HALF_HOUR else silent)(start_s, end_s)

    found = wait_until_clean(threshold_gco2e_per_kwh=100, max_wait_s=7200, intensity=look, clock=Clock())
    assert (found.initial_gco2e_per_kwh, found.training_gco2e_per_kwh, found.signal) == (500, 500, "average")
    assert (found.wait_s, found.kind) == (HALF_HOUR, "static")


def test_a_wait_by_marginal_figures_says_so():
    """900 g, then 50 g, both of what one more kWh emits."""
    grid = Grid(900.0, 50.0)
    grid.series = replace(grid.series, signal="marginal")
    found = wait(grid, Clock())
    assert (found.initial_gco2e_per_kwh, found.training_gco2e_per_kwh, found.signal) == (900, 50, "marginal")


def test_progress_comes_about_once_a_second():
    """Called with seconds waited, longest wait and the current intensity."""
    seen: list[tuple[float, float, float]] = []
    wait_until_clean(
        threshold_gco2e_per_kwh=100,
        max_wait_s=3.5,
        progress=lambda *values: seen.append(values),
        clock=Clock(),
        intensity=Grid(300.0),
    )
    assert seen == [(0, 3.5, 300), (1, 3.5, 300), (2, 3.5, 300), (3, 3.5, 300)]


def test_a_suspended_machine_notices_that_the_slot_is_over():
    """The wall clock jumps by an hour while the monotonic clock stands: one short sleep is enough."""
    clock = Clock(jump=3600)
    found = wait(Grid(300.0, 300.0, 90.0), clock)
    assert found.wait_s == 1
    assert found.training_gco2e_per_kwh == 90


def test_a_wall_clock_set_back_does_not_prolong_the_wait():
    """The longest wait is counted by the monotonic clock."""
    clock = Clock(jump=-900)
    assert wait(Grid(300.0), clock, max_wait_s=1200).wait_s == 1200


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(1, 600), max_size=3),
    threshold=st.floats(0, 600),
    max_wait_s=st.integers(0, 6000),
    offset=st.integers(0, HALF_HOUR - 1),
)
def test_never_longer_than_allowed_and_always_with_a_cause(values, threshold, max_wait_s, offset):
    """Each wait ends clean, static or at the limit, and at the earliest such moment."""
    clock = Clock(wall_s=BEGIN + offset)
    found = wait(Grid(*values), clock, threshold=threshold, max_wait_s=max_wait_s)
    clean = next((i for i, v in enumerate(values) if v <= threshold), len(values))
    assert found.wait_s == min(max_wait_s, max(0, clean * HALF_HOUR - offset))
    assert found.wait_s <= max_wait_s


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "300", None, True])
@pytest.mark.parametrize("name", ["threshold_gco2e_per_kwh", "max_wait_s"])
def test_arguments_are_checked(name, wrong):
    """The message names the argument, what was expected and what was got."""
    arguments = {"threshold_gco2e_per_kwh": 100.0, "max_wait_s": 1.0} | {name: wrong}
    with pytest.raises(SettingsError, match=f"{name}: expected a number of at least 0, got"):
        wait_until_clean(**arguments, clock=Clock(), intensity=Grid())


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
    """A real wait of twenty milliseconds in a slot that lasts the hour."""
    import time

    now = int(time.time_ns() / 1e9)
    live = slot(now - 1800, 300.0, "actual", now + 1800)
    look = Grid()
    series = IntensitySeries(
        zone="GB", provider="live", static=look.series.static, static_provider="annual", slots=(live,)
    )
    found = wait_until_clean(threshold_gco2e_per_kwh=1, max_wait_s=0.02, intensity=lambda start, end: series)
    assert 0.02 <= found.wait_s < 5
    assert found.kind == "actual"


def test_it_is_part_of_the_public_face():
    """`mlflow_carbon.wait_until_clean` and `mlflow_carbon.Wait`."""
    assert mlflow_carbon.wait_until_clean is wait_until_clean
    assert mlflow_carbon.Wait is Wait
