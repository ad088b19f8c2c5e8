"""Sensors: where readings come from. One file and one entry in `PROBES` per source.

A probe looks for its source and returns its `Sensor`s or the reason why there is none. It imports its
vendor library inside and takes every path and environment it needs from the `Site`. Sensors of other
packages arrive through the entry point group `mlflow_carbon.sensors`: each entry is a `Probe`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Basis, Component
from mlflow_carbon.sensors import amd, apple, host_facts, hwmon, ipmi, modelled, nvml, rapl, wall_meter
from mlflow_carbon.sensors.contract import (
    Absence,
    Clock,
    Doubting,
    Found,
    Observer,
    Probe,
    Sensor,
    Site,
    explain,
)
from mlflow_carbon.sensors.cpu_table import table_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from importlib.metadata import EntryPoint

    from mlflow_carbon.core.series import Channel
    from mlflow_carbon.cpu_time import Baseline
    from mlflow_carbon.settings import Settings

__all__ = [
    "PROBES",
    "UNTRIED",
    "Absence",
    "Clock",
    "Discovery",
    "Found",
    "Observer",
    "Probe",
    "Sensor",
    "Site",
    "discover",
    "findings",
    "observe",
    "table_record",
]

PROBES: tuple[Probe, ...] = (
    nvml.probe,
    amd.probe,
    rapl.probe,
    apple.probe,
    hwmon.probe,
    ipmi.probe,
    wall_meter.probe,
    modelled.probe_cpu,
    modelled.probe_ram,
    host_facts.probe,
)

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
    """

    sensors: tuple[Sensor, ...]
    absences: tuple[Absence, ...]
    channels: tuple[Channel, ...]
    observers: tuple[Observer, ...] = ()


def discover(
    settings: Settings,
    *,
    root: Path = Path("/"),
    env: Mapping[str, str] | None = None,
    plugins: Iterable[EntryPoint] | None = None,
    baseline: Baseline | None = None,
) -> Discovery:
    """Ask every probe, and choose what counts. Never raises: a probe that does becomes an absence.

    Args:
        settings: What the user asked for.
        root: Root of the file system.
        env: Environment; the process's own where not given.
        plugins: Entry points of sensors from other packages; those installed where not given.
        baseline: CPU time when measuring began.
    """
    site = Site(settings=settings, root=root, env=os.environ if env is None else env, baseline=baseline)
    # Plugins come first: who installs one wants it used.
    found = _joined(
        _guarded("plugins", partial(_plugged, site, plugins)),
        *(_guarded(probe.__module__, partial(probe, site)) for probe in PROBES),
    )
    distinct = _distinct(found.sensors)
    channels = _counted(distinct, found.covers)
    used = tuple(s for s in distinct if any(c in channels for c in s.channels))
    for sensor in found.sensors:
        if not any(sensor is kept for kept in used):
            with suppress(Exception):  # Of no use any more; not even its failure is.
                sensor.close()
    return Discovery(sensors=used, absences=found.absences, channels=channels, observers=found.observers)


def findings(sensors: Iterable[Sensor]) -> tuple[str, ...]:
    """What sensors have found wrong with their own readings so far, a sentence each."""
    return tuple(finding for s in sensors if isinstance(s, Doubting) for finding in s.findings())


def observe(observers: Iterable[Observer]) -> dict[str, float]:
    """What stands beside power now, by name. Costs a few hundred microseconds: not for every tick."""
    return {name: value for observer in observers for name, value in observer.observe().items()}


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


def _distinct(sensors: Iterable[Sensor]) -> tuple[Sensor, ...]:
    """The sensors whose channels no earlier one has."""
    taken: set[str] = set()
    distinct = []
    for sensor in sensors:
        ids = {channel.id for channel in sensor.channels}
        if not ids & taken:
            distinct.append(sensor)
            taken |= ids
    return tuple(distinct)


def _counted(sensors: Sequence[Sensor], covered: frozenset[Component]) -> tuple[Channel, ...]:
    """The channels that count: of each component the measured ones, or else the modelled ones.

    A sensor that measures one GPU and models another keeps both. CPU and memory exist once, so that only
    the first sensor that has them counts; GPUs add up. What a channel of another component covers already
    counts nowhere else.
    """
    counted: list[Channel] = []
    for component in (c for c in Component if c not in covered):
        offers = [(s, c) for s in sensors for c in s.channels if c.component is component]
        meters = [s for s, c in offers if c.basis is not Basis.MODELLED]
        offers = [(s, c) for s, c in offers if any(s is meter for meter in meters)] or offers
        once = component in {Component.CPU, Component.DRAM}
        counted += [c for s, c in offers if not once or s is offers[0][0]]
    return tuple(counted)
