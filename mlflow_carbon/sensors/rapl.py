"""CPU package and memory energy from RAPL: the powercap files first, then perf events.

Counters refresh about every millisecond. Those of powercap wrap at `max_energy_range_uj`; the ledger undoes
the wrap. Registers are never read directly: their units differ between models, and the kernel knows them.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality
from mlflow_carbon.sensors import rapl_powercap
from mlflow_carbon.sensors.contract import Absence, Found, Values, explain, take
from mlflow_carbon.sensors.cpuinfo import CpuInfo, read_cpuinfo
from mlflow_carbon.sensors.rapl_powercap import ERRORS, Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mlflow_carbon.core.series import Sample
    from mlflow_carbon.sensors.contract import Clock, Site
    from mlflow_carbon.sensors.rapl_meter import RaplMeter

__all__ = ["RaplSensor", "probe"]

_LOW, _HIGH = 0.95, 1.05  # decision 6
_POWER_MAX_W = 1000.0  # Twice the largest package sold; wraps need a ceiling, a reset is then no wrap.
_NODE_MAX_W = 10_000.0

_READABLE = (
    "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next boot; for good: "
    """echo 'SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", RUN+="/bin/chmod a+r %S%p/energy_uj"' | """
    "sudo tee /etc/udev/rules.d/70-rapl.rules). It is closed by default because fine-grained energy can "
    "leak secrets to other users of the machine (CVE-2020-8694)"
)
_MODEL = "set MLFLOW_CARBON_CPU_POWER_W to the design power of the CPU for a better model"
_UNMASK = "docker run --security-opt systempaths=unconfined ... (it unmasks all of /proc and /sys)"


class RaplSensor:
    """Reads counters whose files stay open."""

    def __init__(self, channels: tuple[Channel, ...], meters: tuple[RaplMeter, ...]) -> None:
        self.channels = channels
        self._meters = meters

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One counter reading per zone."""
        return tuple(
            take(channel.id, clock, partial(_values, meter), errors=ERRORS)
            for channel, meter in zip(self.channels, self._meters, strict=False)
        )

    def close(self) -> None:
        """Close the files."""
        meters, self._meters = self._meters, ()
        for meter in meters:
            os.close(meter.descriptor)


def probe(
    site: Site,
    *,
    open_file: Callable[[Path, int], int] = os.open,
    open_event: Callable[[int, int, int], int] | None = None,
) -> Found:
    """Packages, memory and platform, of `<root>/sys/class/powercap` or else of the `power` PMU.

    A component of which any zone cannot be read is left out whole: half the packages is not the CPU.
    """
    zones = rapl_powercap.zones(site.root)
    meters, failures = _open_all(zones, open_file)
    meters, repeated = _without_mirrors(meters)
    absences = [*_mirrors(repeated), *_unreadable(failures)]
    if not any(meter.component is Component.CPU for meter in meters):
        missing = [c for c in (Component.CPU, Component.DRAM, Component.NODE) if not _has(meters, c)]
        by_event, refused = _from_events(site.root, missing, open_event)
        # What powercap refuses does no harm where perf events have it.
        absences = refused if by_event else [*absences, *refused]
        meters = _without_lone_platform([*meters, *by_event])
    if not meters and not failures:
        absences.insert(0, _absent(site.root))
    channels = _channels(meters, read_cpuinfo(site.root))
    sensors = (RaplSensor(channels, tuple(meters)),) if meters else ()
    return Found(sensors=sensors, absences=tuple(absences))


def _open_all(
    zones: Iterable[Zone], open_file: Callable[[Path, int], int]
) -> tuple[list[RaplMeter], dict[Zone, Exception]]:
    meters: list[RaplMeter] = []
    failures: dict[Zone, Exception] = {}
    for zone in zones:
        try:
            meters.append(rapl_powercap.open_zone(zone, open_file))
        except ERRORS as error:
            failures[zone] = error
    incomplete = {zone.component for zone in failures}
    for meter in [m for m in meters if m.component in incomplete]:
        os.close(meter.descriptor)
        meters.remove(meter)
    return meters, failures


def _without_mirrors(meters: list[RaplMeter]) -> tuple[list[RaplMeter], dict[str, str]]:
    kept, repeated = rapl_powercap.mirrored(meters)
    for meter in meters:
        if meter.label in repeated:
            os.close(meter.descriptor)
    return kept, repeated


def _without_lone_platform(meters: list[RaplMeter]) -> list[RaplMeter]:
    """Without `psys` where there is no package: in virtual machines it is listed and stands at 0 for ever."""
    if _has(meters, Component.CPU):
        return meters
    for meter in meters:
        if meter.component is Component.NODE:
            os.close(meter.descriptor)
    return [meter for meter in meters if meter.component is not Component.NODE]


def _has(meters: Iterable[RaplMeter], component: Component) -> bool:
    return any(meter.component is component for meter in meters)


def _from_events(
    root: Path, missing: Iterable[Component], open_event: Callable[[int, int, int], int] | None
) -> tuple[list[RaplMeter], list[Absence]]:
    from mlflow_carbon.sensors import rapl_perf  # counters that powercap has do not wait for its import

    meters: list[RaplMeter] = []
    for component in missing:
        try:
            meters += rapl_perf.perf_meters(root, component, open_event or rapl_perf.open_event)
        except ERRORS as error:
            return meters, [
                Absence(sensor="rapl:perf", reason=explain(error), remedy=rapl_perf.REMEDY),
            ]
    return meters, []


def _values(meter: RaplMeter) -> Values:
    return Values(energy_uj=meter.read_uj())


def _channels(meters: Iterable[RaplMeter], info: CpuInfo) -> tuple[Channel, ...]:
    caveat = f"; microcode {info.microcode}" if info.microcode else ""
    caveat += "; virtual machine: what it counts is up to the hypervisor" if info.is_virtual else ""
    return tuple(
        Channel(
            id=f"rapl:{meter.label}",
            sensor="rapl",
            device=meter.label,
            component=meter.component,
            kind=Kind.COUNTER,
            basis=Basis.MEASURED,
            quality=Quality.L3,
            low_ratio=0.0 if meter.is_doubted else _LOW,
            high_ratio=_HIGH,
            range_uj=meter.range_uj,
            power_max_w=_NODE_MAX_W if meter.component is Component.NODE else _POWER_MAX_W,
            source=meter.source + caveat,
        )
        for meter in meters
    )


def _mirrors(repeated: Mapping[str, str]) -> list[Absence]:
    return [
        Absence(
            sensor=f"rapl:{label}",
            reason=f"repeats the counter of {twin}, which is read already",
            remedy="none needed: counted twice it would be too much",
        )
        for label, twin in repeated.items()
    ]


def _unreadable(failures: Mapping[Zone, Exception]) -> list[Absence]:
    """Why zones cannot be read; those that lack a permission in one, since one command helps them all."""
    denied = [zone for zone, error in failures.items() if isinstance(error, PermissionError)]
    others = [
        Absence(
            sensor=f"rapl:{zone.label}",
            reason=explain(error),
            remedy=f"check that `cat {zone.path / 'energy_uj'}` prints a number",
        )
        for zone, error in failures.items()
        if zone not in denied
    ]
    if not denied:
        return others
    also = f" (as are {', '.join(zone.label for zone in denied[1:])})" if len(denied) > 1 else ""
    reason = explain(failures[denied[0]]) + also
    return [Absence(sensor=f"rapl:{denied[0].label}", reason=reason, remedy=_READABLE), *others]


def _absent(root: Path) -> Absence:
    info = read_cpuinfo(root)
    if rapl_powercap.is_hidden(root):
        reason, remedy = "RAPL zones are listed but hidden, as containers do", _UNMASK
    elif not info.is_x86:
        reason = "the CPU is no x86 one as far as /proc/cpuinfo says, and RAPL is x86 only"
        remedy = _MODEL
    elif info.is_virtual:
        reason = "virtual machine (hypervisor flag in /proc/cpuinfo), which passes no energy counter on"
        remedy = f"run on bare metal, or {_MODEL}"
    else:
        reason = "no RAPL package in /sys/class/powercap, and this is no virtual machine"
        remedy = "sudo modprobe intel_rapl_msr"
    return Absence(sensor="rapl", reason=reason, remedy=remedy)
