"""What a sensor is, where a probe may look, what it hands back, and how a reading is stamped.

This is all that a sensor from another package needs to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict, runtime_checkable

from mlflow_carbon.core.series import Channel, Component, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_carbon.cpu_time import Baseline
    from mlflow_carbon.settings import Settings

__all__ = [
    "Absence",
    "Clock",
    "Doubting",
    "Found",
    "Observer",
    "Probe",
    "Sensor",
    "Site",
    "Start",
    "Values",
    "explain",
    "take",
]


class Clock(Protocol):
    """The two clocks. Tests pass a virtual one."""

    def monotonic_ns(self) -> int:
        """Monotonic nanoseconds."""

    def wall_ns(self) -> int:
        """UTC nanoseconds since the epoch."""


class Sensor(Protocol):
    """A source of readings for one or more channels."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What this sensor reads; fixed for its lifetime."""

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One reading per channel, before it any that are older and not yet told.

        A source that is slower than the sampler has none where there is nothing new. A failure is a
        sample with `error`, never an exception.
        """

    def close(self) -> None:
        """Release handles. Safe to call twice."""


@runtime_checkable
class Doubting(Protocol):
    """A sensor that may come to doubt its own readings. Optional: most cannot tell."""

    def findings(self) -> tuple[str, ...]:
        """What is wrong with the readings so far, a sentence each."""


class Observer(Protocol):
    """A source of what stands beside power: temperatures, clocks, bytes moved. None of it is energy."""

    def observe(self) -> dict[str, float]:
        """Values by name, `<source>/<what>_<unit>`. What cannot be read is left out; it never raises.

        The name tells how a run sums them up: see `core.beside`.
        """

    def close(self) -> None:
        """Release handles. Safe to call twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a probe may look.

    Attributes:
        settings: What the user asked for.
        root: Root of the file system; tests pass a directory.
        env: Environment variables.
        baseline: CPU time when measuring began, for models that need the time before their first reading.
    """

    settings: Settings
    root: Path
    env: Mapping[str, str]
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The start of measuring, where sensors are looked for because of one.

    Attributes:
        clock: Stamps first readings.
        baseline: CPU time at the start.
        counters_read: Called once the usual counters have been read for the first time, or are not there.
    """

    clock: Clock
    baseline: Baseline | None
    counters_read: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Why something is not measured.

    Attributes:
        sensor: The sensor or device.
        reason: What was looked for and what was found.
        remedy: The command or the sentence that would make it better.
    """

    sensor: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one probe found; each may be empty.

    Attributes:
        sensors: What can be read.
        absences: What cannot, and why.
        covers: Components whose energy is in these sensors' channels already, under another name.
        observers: What can be recorded beside power.
    """

    sensors: tuple[Sensor, ...] = ()
    absences: tuple[Absence, ...] = ()
    covers: frozenset[Component] = frozenset()
    observers: tuple[Observer, ...] = ()


Probe = Callable[[Site], Found]
"""Looks for one kind of source. Never raises: what is missing is an `Absence`."""


class Values(TypedDict, total=False):
    """The values of a reading, as fields of `Sample`."""

    energy_uj: int
    power_mw: int
    util_ppm: int


def take(
    channel: str, clock: Clock, read: Callable[[], Values], *, errors: tuple[type[Exception], ...]
) -> Sample:
    """One reading, stamped with the middle of the time it took; `errors` and values below 0 make it fail."""
    start_ns = clock.monotonic_ns()
    values: Values = {}
    error = None
    try:
        values = read()
    except errors as problem:
        error = explain(problem)
    read_ns = clock.monotonic_ns() - start_ns
    t_ns = start_ns + read_ns // 2
    try:
        return Sample(channel=channel, t_mono_ns=t_ns, read_ns=read_ns, error=error, **values)
    except ValueError as problem:  # a value that no reading can have: this channel fails, and no other
        return Sample(channel=channel, t_mono_ns=t_ns, read_ns=read_ns, error=explain(problem))


def explain(error: Exception) -> str:
    """An exception in one line, with its type, since the text alone may be empty."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
