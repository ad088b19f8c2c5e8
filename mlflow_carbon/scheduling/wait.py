"""Wait until the plan of an order says now, planning anew in each slot, and never longer than allowed.

Slots are counted by the wall clock, so that a suspend or a corrected clock is noticed at once; patience also
by the monotonic one, so that a clock that is set back does not make a wait endless.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mlflow_carbon.errors import CarbonError
from mlflow_carbon.scheduling.advice import advise, annual_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.scheduling.advice import Advice, Look
    from mlflow_carbon.scheduling.order import Order

__all__ = ["Progress", "SystemClock", "WaitClock", "Waited", "wait"]

_logger = logging.getLogger("mlflow_carbon")
_TICK_S = 1.0
_NS_PER_S = 1_000_000_000


class WaitClock(Protocol):
    """The two clocks and the sleep. Tests pass a virtual one."""

    def monotonic_s(self) -> float:
        """Monotonic seconds: how long the wait takes."""

    def wall_s(self) -> float:
        """UTC seconds since the epoch: which slot it is."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class SystemClock:
    """The clocks of this machine."""

    def monotonic_s(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall_s(self) -> float:
        """UTC seconds since the epoch."""
        return time.time_ns() / _NS_PER_S

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a wait stands, about once a second.

    Attributes:
        waited_s: Since the order was submitted.
        left_s: Until the planned start.
        now_gco2e_per_kwh: Intensity of the present slot.
        target_gco2e_per_kwh: Expected mean intensity of the planned run.
    """

    waited_s: float
    left_s: float
    now_gco2e_per_kwh: float
    target_gco2e_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """What came of waiting.

    Attributes:
        wait_s: From the submission to the start, in seconds.
        first: The advice when the wait began in this process.
        last: The advice to start.
        reason: Why it starts now.
    """

    wait_s: float
    first: Advice
    last: Advice
    reason: str


def wait(
    order: Order,
    look: Look,
    *,
    clock: WaitClock,
    progress: Callable[[Progress], None] | None = None,
    planned: Callable[[Advice], None] | None = None,
    jitter_s: float = 0.0,
) -> Waited:
    """Wait as long as the plans say so.

    Args:
        order: What is to run and until when; one that was submitted before goes on with its own times.
        look: How the grid is asked.
        clock: Clocks and sleep.
        progress: Called about once a second.
        planned: Called with each new advice, the first one included.
        jitter_s: How long after the start of a slot it is planned anew, so that not all who wait ask and
            start in the same second.

    Raises:
        SettingsError: If the order cannot be planned at all; nothing has been waited for then.
    """
    begun_s, now_s = clock.monotonic_s(), clock.wall_s()
    patience_s = max(0.0, order.latest_start_s - now_s)
    first = advice = _advised(order, look, now_s)
    while True:
        if planned is not None:
            planned(advice)
        waited_s = max(clock.wall_s() - order.submitted_s, clock.monotonic_s() - begun_s)
        if advice.plan.is_now:
            return Waited(wait_s=waited_s, first=first, last=advice, reason=advice.plan.reason)
        if clock.monotonic_s() - begun_s >= patience_s or clock.wall_s() >= order.latest_start_s:
            return Waited(wait_s=waited_s, first=first, last=advice, reason="no wait is left")
        if advice is first and planned is None:  # else the caller tells of it
            left_s = advice.plan.start_s - clock.wall_s()
            _logger.warning("waiting for a cleaner grid, for about %.0f s: %s", left_s, advice.plan.reason)
        _sit_out(order, advice, clock, progress, until_s=begun_s + patience_s, jitter_s=jitter_s)
        advice = _advised(order, look, clock.wall_s(), again=True)


def _advised(order: Order, look: Look, now_s: float, *, again: bool = False) -> Advice:
    """Advice; where planning fails in a way that nobody foresaw, to start now, by the annual figure."""
    try:
        return advise(order, look, now_s, again=again)
    except CarbonError:  # the order itself is wrong, and says what to mend
        raise
    except Exception as error:  # noqa: BLE001 - whatever fails in planning must not keep a training from running
        reason = f"planning failed: {type(error).__name__}: {error}"
        _logger.warning("%s; starting now", reason)
        advice = advise(replace(order, policy="now", places=()), annual_look, now_s)
        return replace(advice, plan=replace(advice.plan, policy=order.policy, reason=reason))


def _sit_out(
    order: Order,
    advice: Advice,
    clock: WaitClock,
    progress: Callable[[Progress], None] | None,
    *,
    until_s: float,
    jitter_s: float,
) -> None:
    """Sleep until the present slot is over, or the patience is."""
    forecast, plan = advice.forecast, advice.plan
    next_s = min(forecast.start_s + forecast.step_s + jitter_s, order.latest_start_s)
    while (left_s := next_s - clock.wall_s()) > 0 and (rest_s := until_s - clock.monotonic_s()) > 0:
        if progress is not None:
            progress(
                Progress(
                    waited_s=max(0.0, clock.wall_s() - order.submitted_s),
                    left_s=max(0.0, plan.start_s - clock.wall_s()),
                    now_gco2e_per_kwh=advice.home.gco2e_per_kwh,
                    target_gco2e_per_kwh=advice.target_gco2e_per_kwh,
                )
            )
        # Short sleeps: after a suspend the wall clock shows at once that the slot is over.
        clock.sleep(min(_TICK_S, left_s, rest_s))
        if clock.wall_s() < forecast.start_s:
            return  # the clock was set back: what was planned is of another time
