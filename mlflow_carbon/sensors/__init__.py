"""Sensors: where readings come from. One file and one entry in `PROBES` per source.

A probe looks for its source and returns either a `Sensor` or a reason why there is none. It
imports its vendor library inside, takes every path and environment it needs as an argument, and
never raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlflow_carbon.core.series import Channel, Sample

__all__ = ["Sensor"]


class Sensor(Protocol):
    """A source of readings for one or more channels."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What this sensor reads; fixed for its lifetime."""

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One reading per channel. A failure is a sample with `error`, never an exception."""

    def close(self) -> None:
        """Release handles. Safe to call twice."""


class Clock(Protocol):
    """The two clocks. Tests pass a virtual one."""

    def monotonic_ns(self) -> int:
        """Monotonic nanoseconds."""

    def wall_ns(self) -> int:
        """UTC nanoseconds since the epoch."""
