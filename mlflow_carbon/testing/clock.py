"""Clocks that a test can move: a virtual one, and a real one for the few tests that must wait."""

from __future__ import annotations

import time
from typing import Protocol

from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.sampler import SystemClock
from mlflow_carbon.sensors.contract import Clock

__all__ = ["ORIGIN_NS", "WALL_OFFSET_NS", "MovableClock", "RealTimeClock", "VirtualClock"]

ORIGIN_NS = 1000 * NS_PER_S
"""Where virtual time begins: not at zero, so that a clock of zero is not taken for none."""

WALL_OFFSET_NS = 1_700_000_000 * NS_PER_S
"""UTC minus monotonic nanoseconds of the clocks that invent both."""


class MovableClock(Clock, Protocol):
    """A clock with the time of a waveform, which `advance` moves."""

    @property
    def origin_ns(self) -> int:
        """Monotonic time at which the waveforms have t = 0 s."""

    def advance(self, seconds: float) -> None:
        """Go on by so much."""


class VirtualClock:
    """A clock that moves only when told.

    Args:
        latency_ns: How far it moves each time it is read, as a real one does while a sensor is read.
    """

    def __init__(self, *, latency_ns: int = 0) -> None:
        self._now_ns = ORIGIN_NS
        self._latency_ns = latency_ns

    @property
    def origin_ns(self) -> int:
        """Where it began."""
        return ORIGIN_NS

    def monotonic_ns(self) -> int:
        """Monotonic nanoseconds."""
        self._now_ns += self._latency_ns
        return self._now_ns

    def wall_ns(self) -> int:
        """UTC nanoseconds since the epoch."""
        return self._now_ns + WALL_OFFSET_NS

    def advance(self, seconds: float) -> None:
        """Go on by so much."""
        self._now_ns += round(seconds * NS_PER_S)


class RealTimeClock(SystemClock):
    """The clocks of this machine; the time of waveforms begins when this is made, and `advance` waits."""

    def __init__(self) -> None:
        self.origin_ns = self.monotonic_ns()

    def advance(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)
