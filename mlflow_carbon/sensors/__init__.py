"""Sensors: where readings come from. One file and one entry in a tuple of probes per source.

A probe looks for its source and returns its `Sensor`s or the reason why there is none. It imports its
vendor library inside and takes every path and environment it needs from the `Site`. Sensors of other
packages arrive through the entry point group `mlflow_carbon.sensors`: each entry is a `Probe`.

Counters are looked for first, and each is read as soon as it is found: beside a training that computes, every
import takes 30 ms and all of them seconds, and what a counter has counted before it is read is lost.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Component, Kind
from mlflow_carbon.sensors import choice
from mlflow_carbon.sensors.contract import (
    Absence,
    Clock,
    Doubting,
    Found,
    Observer,
    Probe,
    Sensor,
    Site,
    Start,
    explain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from importlib.metadata import EntryPoint

    from mlflow_carbon.core.series import Channel, Sample
    from mlflow_carbon.settings import Settings

__all__ = [
    "COUNTERS",
    "METERS",
    "MODELS",
    "UNTRIED",
    "Absence",
    "Clock",
    "Discovery",
    "Found",
    "Lazily",
    "Observer",
    "Probe",
    "Sensor",
    "Site",
    "Start",
    "discover",
    "findings",
    "observe",
]


@dataclass(frozen=True, slots=True)
class Lazily:
    """A probe of this package whose module is imported when it is asked."""

    module: str
    name: str = "probe"

    def __call__(self, site: Site) -> Found:
        """Ask it."""
        probe: Probe = getattr(import_module(f"{__package__}.{self.module}"), self.name)
        return probe(site)


COUNTERS: tuple[Probe, ...] = (Lazily("rapl"), Lazily("nvml"))
"""Looked for first: what they count until they are read is lost."""

METERS: tuple[Probe, ...] = (
    Lazily("amd"),
    Lazily("apple"),
    Lazily("hwmon"),
    Lazily("ipmi"),
    Lazily("wall_meter"),
    Lazily("host_facts"),
)
"""Looked for next, before the sensors of other packages."""

MODELS: Mapping[Component, Probe] = MappingProxyType(
    {
        Component.CPU: Lazily("modelled", "probe_cpu"),
        Component.DRAM: Lazily("modelled", "probe_ram"),
    }
)
"""For what nothing measures."""

UNTRIED = frozenset({"nvml", "amd", "rapl", "apple", "hwmon", "ipmi", "wall"})
"""Sensors that their makers have driven through simulated devices only, never on hardware."""

_GROUP = "mlflow_carbon.sensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What this machine offers.

    Attributes:
        sensors: Those to read; whoever gets them closes them.
        absences: What is missing, and what would help.
        channels: The channels that count. A sensor may read others besides: leave their samples out.
        observers: What can be recorded beside power; whoever gets them closes them.
        first: Readings of counters and powers, each taken as soon as its sensor was found.
    """

    sensors: tuple[Sensor, ...]
    absences: tuple[Absence, ...]
    channels: tuple[Channel, ...]
    observers: tuple[Observer, ...] = ()
    first: tuple[Sample, ...] = ()


def discover(
    settings: Settings,
    *,
    root: Path = Path("/"),
    env: Mapping[str, str] | None = None,
    plugins: Iterable[EntryPoint] | None = None,
    start: Start | None = None,
) -> Discovery:
    """Ask every probe, and choose what counts. Never raises: a probe that does becomes an absence.

    Args:
        settings: What the user asked for.
        root: Root of the file system.
        env: Environment; the process's own where not given.
        plugins: Entry points of sensors from other packages; those installed where not given.
        start: What began with this: each meter is read as soon as it is found. None: nothing is read.
    """
    site = Site(
        settings=settings,
        root=root,
        env=os.environ if env is None else env,
        baseline=start.baseline if start is not None else None,
    )
    found, first = _found(site, plugins, start)
    sensors = choice.distinct(found.sensors)
    channels = choice.counted(sensors, found.covers)
    used = tuple(s for s in sensors if any(c in channels for c in s.channels))
    for sensor in found.sensors:
        if not any(sensor is kept for kept in used):
            with suppress(Exception):  # Of no use any more; not even its failure is.
                sensor.close()
    return Discovery(
        sensors=used,
        absences=found.absences,
        channels=channels,
        observers=found.observers,
        # Not those of a sensor that was dropped: another one's channel may have the same id.
        first=tuple(sample for sensor, sample in first if any(sensor is kept for kept in used)),
    )


def _found(
    site: Site, plugins: Iterable[EntryPoint] | None, start: Start | None
) -> tuple[Found, list[tuple[Sensor, Sample]]]:
    """What there is, in the order in which it is chosen, and first readings; models of what has no meter."""
    first: list[tuple[Sensor, Sample]] = []

    def ask(probe: Probe, name: str = "") -> Found:
        found = _guarded(name or getattr(probe, "module", probe.__module__), partial(probe, site))
        if start is not None:
            first.extend(_first_readings(found, start.clock))
        return found

    counters = [ask(probe) for probe in COUNTERS]
    if start is not None:
        start.counters_read()
    meters = [ask(probe) for probe in METERS]
    # Plugins are chosen first: who installs one wants it used.
    found = _joined(ask(partial(_plugged, plugins=plugins), "plugins"), *counters, *meters)
    measured = choice.measured(found)
    models = [ask(probe) for component, probe in MODELS.items() if component not in measured]
    return _joined(found, *models), first


def findings(sensors: Iterable[Sensor]) -> tuple[str, ...]:
    """What sensors have found wrong with their own readings so far, a sentence each."""
    return tuple(finding for s in sensors if isinstance(s, Doubting) for finding in _told(s))


def _told(sensor: Doubting) -> tuple[str, ...]:
    try:
        return tuple(map(str, sensor.findings()))
    except Exception as error:  # noqa: BLE001 - the end of a run must be recorded whatever a sensor of any vendor raises
        return (
            f"{type(sensor).__name__}: what it found wrong with its readings cannot be had: {explain(error)}",
        )


def observe(observers: Iterable[Observer]) -> dict[str, float]:
    """What stands beside power now, by name. Costs a few hundred microseconds: not for every tick."""
    return {name: value for observer in observers for name, value in observer.observe().items()}


def _first_readings(found: Found, clock: Clock) -> Iterable[tuple[Sensor, Sample]]:
    """A reading of what counts or shows power; a mean begins with its baseline, or with its own reading."""
    for sensor in found.sensors:
        with suppress(Exception):  # Whatever is wrong will be so at the next reading too, and is told then.
            if any(channel.kind is not Kind.MEAN for channel in sensor.channels):
                yield from ((sensor, sample) for sample in sensor.read(clock))


def _plugged(site: Site, plugins: Iterable[EntryPoint] | None) -> Found:
    if plugins is None:
        from importlib.metadata import entry_points

        plugins = entry_points(group=_GROUP)
    return _joined(*(_guarded(plugin.name, partial(_load_and_ask, plugin, site)) for plugin in plugins))


def _load_and_ask(plugin: EntryPoint, site: Site) -> Found:
    found = plugin.load()(site)
    if not isinstance(found, Found):
        raise TypeError(f"expected a probe that returns Found, got {type(found).__name__}")
    return found


def _guarded(name: str, look: Callable[[], Found]) -> Found:
    try:
        found = look()
        for sensor in found.sensors:
            tuple(sensor.channels)
    except Exception as error:  # noqa: BLE001 - drivers and other packages may raise anything; training goes on
        remedy = f"report it to the makers of {name}, or uninstall that sensor"
        return Found(absences=(Absence(sensor=name, reason=explain(error), remedy=remedy),))
    return found


def _joined(*found: Found) -> Found:
    return Found(
        sensors=tuple(sensor for each in found for sensor in each.sensors),
        absences=tuple(absence for each in found for absence in each.absences),
        covers=frozenset(component for each in found for component in each.covers),
        observers=tuple(observer for each in found for observer in each.observers),
    )
