"""CPU package and memory energy from RAPL, through the kernel's powercap files.

Only packages and memory are read: a package contains its core and uncore zones, `psys` contains the
package, and `intel-rapl-mmio` repeats it. Counters refresh about every millisecond and wrap at
`max_energy_range_uj`; the ledger undoes the wrap.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality
from mlflow_carbon.core.units import UJ_PER_J
from mlflow_carbon.sensors.contract import Absence, Found, Values, explain, take
from mlflow_carbon.sensors.cpuinfo import read_cpuinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlflow_carbon.core.series import Sample
    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["RaplSensor", "probe"]

_ERRORS = (OSError, ValueError)
_LOW, _HIGH = 0.95, 1.05  # decision 6
_POWER_MAX_W = 1000.0  # Twice the largest package sold; wraps need a ceiling, a reset is then no wrap.
_MIRROR_UJ = UJ_PER_J  # Two reads of one counter, one after the other, differ by less than this.
# The kernel lists all zones flat; a mounted copy may have the nested tree only. Flat comes last and wins.
_LAYOUTS = ("intel-rapl/*/intel-rapl:*", "intel-rapl/intel-rapl:*", "intel-rapl:*")

_READABLE = (
    "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next boot; for good: "
    """echo 'SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", RUN+="/bin/chmod a+r %S%p/energy_uj"' | """
    "sudo tee /etc/udev/rules.d/70-rapl.rules). It is closed by default because fine-grained energy can "
    "leak secrets to other users of the machine (CVE-2020-8694)"
)
_MODEL = "set MLFLOW_CARBON_CPU_POWER_W to the design power of the CPU for a better model"
_UNMASK = "docker run --security-opt systempaths=unconfined ... (it unmasks all of /proc and /sys)"


class _Zone(NamedTuple):
    """One powercap directory that counts: a package or a memory zone."""

    path: Path
    label: str
    component: Component


class _Meter(NamedTuple):
    """An open counter and its value when it was opened."""

    zone: _Zone
    descriptor: int
    first_uj: int


class RaplSensor:
    """Reads kept-open counter files: 2 us each, against 30 us to open and read."""

    def __init__(self, channels: tuple[Channel, ...], descriptors: tuple[int, ...]) -> None:
        self.channels = channels
        self._descriptors = descriptors

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One counter reading per zone."""
        return tuple(
            take(channel.id, clock, partial(_values, descriptor), errors=_ERRORS)
            for channel, descriptor in zip(self.channels, self._descriptors, strict=False)
        )

    def close(self) -> None:
        """Close the files."""
        descriptors, self._descriptors = self._descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)


def probe(site: Site, *, open_file: Callable[[Path, int], int] = os.open) -> Found:
    """The packages and memory zones of `<root>/sys/class/powercap`.

    A component of which any zone cannot be read is left out whole: half the packages is not the CPU.
    """
    zones = _zones(site.root)
    if not zones:
        return Found(absences=(_absent(site.root),))
    meters: list[_Meter] = []
    failures: dict[_Zone, Exception] = {}
    for zone in zones:
        try:
            meters.append(_meter(zone, open_file))
        except _ERRORS as error:
            failures[zone] = error
    incomplete = {zone.component for zone in failures}
    for meter in [m for m in meters if m.zone.component in incomplete]:
        os.close(meter.descriptor)
        meters.remove(meter)
    channels = _channels(meters, is_virtual=read_cpuinfo(site.root).is_virtual)
    return Found(
        sensors=(RaplSensor(channels, tuple(m.descriptor for m in meters)),) if meters else (),
        absences=tuple(_unreadable(zone, error) for zone, error in failures.items()),
    )


def _zones(root: Path) -> list[_Zone]:
    base = root / "sys/class/powercap"
    paths = {path.name: path for layout in _LAYOUTS for path in base.glob(layout)}
    names = {zone: _text(path / "name") for zone, path in sorted(paths.items())}
    found: list[_Zone] = []
    for zone, name in names.items():
        label, component = name, Component.CPU
        if name == "dram":
            label, component = f"{names.get(zone.rpartition(':')[0]) or zone}-dram", Component.DRAM
        elif not name.startswith("package"):
            continue
        if any(other.label == label for other in found):
            label = f"{label}@{zone}"
        found.append(_Zone(path=paths[zone], label=label, component=component))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _meter(zone: _Zone, open_file: Callable[[Path, int], int]) -> _Meter:
    descriptor = open_file(zone.path / "energy_uj", os.O_RDONLY)
    try:
        return _Meter(zone=zone, descriptor=descriptor, first_uj=_values(descriptor)["energy_uj"])
    except _ERRORS:
        os.close(descriptor)
        raise


def _values(descriptor: int) -> Values:
    return Values(energy_uj=int(os.pread(descriptor, 32, 0)))


def _channels(meters: Sequence[_Meter], *, is_virtual: bool) -> tuple[Channel, ...]:
    caveat = "; virtual machine: what it counts is up to the hypervisor" if is_virtual else ""
    return tuple(_channel(meter, _twin(meter, meters[:i]), caveat) for i, meter in enumerate(meters))


def _channel(meter: _Meter, twin: str, caveat: str) -> Channel:
    zone, range_uj = meter.zone, _text(meter.zone.path / "max_energy_range_uj")
    repeats = f"; may repeat the counter of {twin}, so it may add nothing" if twin else ""
    return Channel(
        id=f"rapl:{zone.label}",
        sensor="rapl",
        device=zone.label,
        component=zone.component,
        kind=Kind.COUNTER,
        basis=Basis.MEASURED,
        quality=Quality.L3,
        low_ratio=0.0 if twin else _LOW,
        high_ratio=_HIGH,
        range_uj=int(range_uj) or None if range_uj.isdecimal() else None,
        power_max_w=_POWER_MAX_W,
        source=f"powercap {zone.path.name}/energy_uj{repeats}{caveat}",
    )


def _twin(meter: _Meter, earlier: Sequence[_Meter]) -> str:
    """The earlier package with the same count: dies of one AMD socket may all mirror the socket's counter."""
    if meter.zone.component is not Component.CPU or meter.first_uj == 0:
        return ""
    packages = (other for other in earlier if other.zone.component is Component.CPU)
    return next((p.zone.label for p in packages if abs(p.first_uj - meter.first_uj) < _MIRROR_UJ), "")


def _absent(root: Path) -> Absence:
    info = read_cpuinfo(root)
    zones = (root / "sys/class/powercap").glob("intel-rapl:*")
    if not all((zone / "name").exists() for zone in zones):
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


def _unreadable(zone: _Zone, error: Exception) -> Absence:
    check = f"check that `cat {zone.path / 'energy_uj'}` prints a number"
    remedy = _READABLE if isinstance(error, PermissionError) else check
    return Absence(sensor=f"rapl:{zone.label}", reason=explain(error), remedy=remedy)
