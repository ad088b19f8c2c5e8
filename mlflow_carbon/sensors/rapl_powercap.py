"""RAPL through the kernel's powercap files: packages, memory, and the platform where it has a counter.

A package contains its core and uncore zones, `intel-rapl-mmio` repeats it, and dies of one AMD socket may all
mirror the counter of the socket: none of these is read. `psys` contains the packages and is a
meter of the node, beside the parts.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mlflow_carbon.core.series import Component
from mlflow_carbon.core.units import UJ_PER_J
from mlflow_carbon.sensors.rapl_meter import RaplMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["ERRORS", "Zone", "is_hidden", "mirrored", "open_zone", "zones"]

ERRORS = (OSError, ValueError)

_BASE = "sys/class/powercap"
# The kernel lists all zones flat; a mounted copy may have the nested tree only. Flat comes last and wins.
_LAYOUTS = ("intel-rapl/*/intel-rapl:*", "intel-rapl/intel-rapl:*", "intel-rapl:*")
_MIRROR_UJ = UJ_PER_J  # Two reads of one counter, one after the other, differ by less than this.
_LOOKS = 3


class Zone(NamedTuple):
    """One powercap directory that counts."""

    path: Path
    label: str
    component: Component


def zones(root: Path) -> list[Zone]:
    """The zones of `<root>/sys/class/powercap` that count."""
    paths = {path.name: path for layout in _LAYOUTS for path in (root / _BASE).glob(layout)}
    names = {zone: _text(path / "name") for zone, path in sorted(paths.items())}
    found: list[Zone] = []
    for zone, name in names.items():
        label, component = name, Component.CPU
        if name == "dram":
            label, component = f"{names.get(zone.rpartition(':')[0]) or zone}-dram", Component.DRAM
        elif name.startswith("psys"):
            component = Component.NODE
        elif not name.startswith("package"):
            continue
        if any(other.label == label for other in found):
            label = f"{label}@{zone}"
        found.append(Zone(path=paths[zone], label=label, component=component))
    return found


def is_hidden(root: Path) -> bool:
    """Whether zones are listed but lead nowhere, as in containers."""
    return not all((zone / "name").exists() for zone in (root / _BASE).glob("intel-rapl:*"))


def open_zone(zone: Zone, open_file: Callable[[Path, int], int]) -> RaplMeter:
    """Open a counter and read it once. Kept open, a read takes 2 us; opened each time, 30 us.

    Raises:
        OSError: If it cannot be opened or read.
        ValueError: If there is no number in it.
    """
    descriptor = open_file(zone.path / "energy_uj", os.O_RDONLY)
    read_uj = partial(_read_uj, descriptor)
    try:
        read_uj()
    except ERRORS:
        os.close(descriptor)
        raise
    range_uj = _text(zone.path / "max_energy_range_uj")
    return RaplMeter(
        label=zone.label,
        component=zone.component,
        descriptor=descriptor,
        read_uj=read_uj,
        range_uj=int(range_uj) or None if range_uj.isdecimal() else None,
        source=f"powercap {zone.path.name}/energy_uj",
    )


def mirrored(meters: Sequence[RaplMeter]) -> tuple[list[RaplMeter], dict[str, str]]:
    """The meters without those that repeat another one, and which those repeat.

    Read between two reads of the other, a mirror lies between their values; of two counters that are not
    one, by chance about once in a million. One that is merely near is kept and doubted.
    """
    kept: list[RaplMeter] = []
    repeated: dict[str, str] = {}
    for meter in meters:
        packages = [k for k in kept if k.component is Component.CPU and meter.component is Component.CPU]
        twin = next((k for k in packages if _repeats(k, meter)), None)
        near = next((k for k in packages if _is_near(k, meter)), None)
        if twin is not None:
            repeated[meter.label] = twin.label
        elif near is not None:
            doubt = f"{meter.source}; may repeat the counter of {near.label}, so it may add nothing"
            kept.append(meter._replace(source=doubt, is_doubted=True))
        else:
            kept.append(meter)
    return kept, repeated


def _repeats(first: RaplMeter, second: RaplMeter) -> bool:
    """Whether one counter lies between two reads of the other, each time it is looked at."""
    try:
        looks = [(first.read_uj(), second.read_uj(), first.read_uj()) for _ in range(_LOOKS)]
    except ERRORS:
        return False
    return all(0 < before <= value <= after for before, value, after in looks)


def _is_near(first: RaplMeter, second: RaplMeter) -> bool:
    try:
        return second.read_uj() > 0 and abs(first.read_uj() - second.read_uj()) < _MIRROR_UJ
    except ERRORS:
        return False


def _read_uj(descriptor: int) -> int:
    return int(os.pread(descriptor, 32, 0))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
