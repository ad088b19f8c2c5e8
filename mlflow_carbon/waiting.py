"""Wait for a cleaner grid before a training starts, holding the process.

A fixed threshold is a modest policy: on a grid that is always above or always below it does nothing,
and waiting on an idling GPU can cost more than it saves. So the wait is bounded, needs live figures of
a zone that the user named, and everything else starts at once with the reason written down.
"""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mlflow_carbon import grid, settings
from mlflow_carbon.core.schedule import decide
from mlflow_carbon.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot

__all__ = ["Wait", "WaitClock", "wait_until_clean"]

_logger = logging.getLogger("mlflow_carbon")
_TICK_S = 1.0
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What came of waiting.

    Attributes:
        wait_s: How long it took, in seconds.
        initial_gco2e_per_kwh: Intensity when the wait began; where a marginal source fell silent and the
            average took its place, when that happened: the two are not to be compared.
        training_gco2e_per_kwh: Intensity when it ended and the training may start.
        kind: `actual`, `forecast`, `estimated` or `static`, of the latter.
        provider: Who says so.
        reason: Why the training starts now.
        signal: `average`, or `marginal`: of both figures.
    """

    wait_s: float
    initial_gco2e_per_kwh: float
    training_gco2e_per_kwh: float
    kind: str
    provider: str
    reason: str
    signal: str = "average"


class WaitClock(Protocol):
    """The two clocks and the sleep. Tests pass a virtual one."""

    def monotonic_s(self) -> float:
        """Monotonic seconds: how long the wait takes."""

    def wall_s(self) -> float:
        """UTC seconds since the epoch: which slot it is."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class _SystemClock:
    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time_ns() / _NS_PER_S

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def wait_until_clean(
    *,
    threshold_gco2e_per_kwh: float,
    max_wait_s: float,
    zone: str | None = None,
    progress: Callable[[float, float, float], None] | None = None,
    clock: WaitClock | None = None,
    intensity: Callable[[float, float], IntensitySeries] | None = None,
) -> Wait:
    """Wait until the grid intensity is at or below a threshold, but never longer than allowed.

    Looks again at each slot boundary (half hours in Great Britain). Network trouble is not an error: without
    live figures there is nothing to wait for, and the reason says so.

    Args:
        threshold_gco2e_per_kwh: Start at this intensity or below.
        max_wait_s: Longest wait, in seconds of the monotonic clock.
        zone: Grid zone id; None takes the settings. Only a zone that is named has live figures.
        progress: Called about once a second with seconds waited, longest wait and current intensity.
        clock: Clocks and sleep; None takes those of the system.
        intensity: Series for UTC seconds from, to; None asks the grid as the settings say.

    Raises:
        SettingsError: If an argument is no number of its kind.
        ZoneError: If nobody knows the zone.
    """
    threshold = _checked("threshold_gco2e_per_kwh", threshold_gco2e_per_kwh)
    longest = _checked("max_wait_s", max_wait_s)
    look = intensity or _from_grid(zone)
    patience = _Patience(clock=clock or _SystemClock(), longest_s=longest, progress=progress)
    initial, signal = math.nan, ""
    while True:
        now_s = patience.clock.wall_s()
        series = look(now_s, now_s + longest)
        slot = series.at(now_s)
        if series.signal != signal:
            initial, signal = slot.gco2e_per_kwh, series.signal
        waited_s = patience.waited_s()
        decision = decide(slot, threshold_gco2e_per_kwh=threshold, waited_s=waited_s, max_wait_s=longest)
        if decision.start:
            return Wait(
                wait_s=waited_s,
                initial_gco2e_per_kwh=initial,
                training_gco2e_per_kwh=slot.gco2e_per_kwh,
                kind=slot.kind,
                provider=series.static_provider if slot.kind == "static" else series.provider,
                reason="; ".join(n for n in (decision.reason, series.note) if n),
                signal=signal,
            )
        patience.sit_out(slot, decision.reason)


class _Patience:
    """One bounded wait: counts from when it is made, by the monotonic clock."""

    def __init__(
        self, *, clock: WaitClock, longest_s: float, progress: Callable[[float, float, float], None] | None
    ) -> None:
        self.clock = clock
        self._longest_s = longest_s
        self._progress = progress
        self._start_s = clock.monotonic_s()
        self._is_told = False

    def waited_s(self) -> float:
        return self.clock.monotonic_s() - self._start_s

    def sit_out(self, slot: IntensitySlot, reason: str) -> None:
        """Sleep until the slot or the patience is over. Says once why, and how long it can last."""
        if not self._is_told:
            self._is_told = True
            _logger.warning("waiting for a cleaner grid, at most %g s: %s", self._longest_s, reason)
        while (left_s := slot.end_s - self.clock.wall_s()) > 0 and self.waited_s() < self._longest_s:
            if self._progress is not None:
                self._progress(self.waited_s(), self._longest_s, slot.gco2e_per_kwh)
            # Short sleeps: after a suspend the wall clock shows at once that the slot is over.
            self.clock.sleep(max(0.0, min(_TICK_S, left_s, self._longest_s - self.waited_s())))


def _checked(name: str, value: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise SettingsError(f"{name}: expected a number of at least 0, got {value!r}")
    return float(value)


def _from_grid(zone: str | None) -> Callable[[float, float], IntensitySeries]:
    """The grid as the settings of this process say; the zone is checked before any wait begins."""
    given, _ = settings.resolve({"zone": zone})
    found = grid.zones.resolve(given, env=os.environ)
    access = grid.Access(cache=grid.fetch.Cache(folder=settings.home() / "grid"))

    def look(start_s: float, end_s: float) -> IntensitySeries:
        window = grid.Window(start_s=start_s, end_s=end_s)
        return grid.intensity(given, found, window=window, access=access, now_s=start_s)

    return look
