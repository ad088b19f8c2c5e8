"""What the machine tells beside its power: heat, clock and throttling of the CPU, fans, disks, network.

From files of the kernel that answer at once. Firmware that may stop the machine to answer (`dell_smm` and the
like) is not asked. Counters are since boot: two of them make a rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon.sensors.contract import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mlflow_carbon.sensors.contract import Site

__all__ = ["HostObserver", "probe"]

_CPU_CHIPS = ("coretemp", "k10temp", "zenpower")
_FAN_CHIPS = ("nct", "it87", "it86", "w83", "f718")  # super I/O chips, answered by port in microseconds
_POLICIES = 8  # clocks of so many groups of cores; a server has hundreds
_SECTOR = 512  # bytes, whatever the disk's own sector is (kernel documentation, iostats)
_READ, _WRITTEN = 5, 9  # fields of /proc/diskstats
_RECEIVED, _SENT = 0, 8  # fields of /proc/net/dev


@dataclass(frozen=True, slots=True)
class _Number:
    """A file with one number in it."""

    name: str
    path: Path
    scale: float

    def read(self) -> Iterator[tuple[str, float]]:
        """Its name and its value."""
        yield self.name, int(self.path.read_text(encoding="ascii")) * self.scale


class HostObserver:
    """Reads each source; one that fails is left out.

    Args:
        sources: Each gives names and values; they may raise `OSError`, `ValueError` and `IndexError`.
    """

    def __init__(self, sources: Iterable[Callable[[], Iterator[tuple[str, float]]]]) -> None:
        self._sources = tuple(sources)

    def observe(self) -> dict[str, float]:
        """Degrees Celsius, megahertz, revolutions per minute, bytes since boot, counts since boot."""
        found: dict[str, float] = {}
        for source in self._sources:
            try:
                found.update(source())
            except (OSError, ValueError, IndexError):
                continue
        return found

    def close(self) -> None:
        """Nothing is held."""


def probe(site: Site) -> Found:
    """What this machine has of it."""
    numbers = [
        *_temperatures(site.root),
        *_fans(site.root),
        *_clocks(site.root),
        *_throttling(site.root),
    ]
    sources: list[Callable[[], Iterator[tuple[str, float]]]] = [
        *(number.read for number in numbers),
        partial(_disks, site.root),
        partial(_network, site.root),
    ]
    observer = HostObserver(sources)
    return Found(observers=(observer,) if observer.observe() else ())


def _temperatures(root: Path) -> Iterator[_Number]:
    """Of each package: what the driver calls package, or Tctl; the hottest core is not told."""
    number = 0
    for folder in _chips(root):
        if _text(folder / "name") not in _CPU_CHIPS:
            continue
        for label in sorted(folder.glob("temp*_label")):
            if _text(label).startswith(("Package id", "Tctl")):
                yield _Number(f"cpu:{number}/temperature_c", _input(label), 1e-3)
                number += 1


def _fans(root: Path) -> Iterator[_Number]:
    for folder in _chips(root):
        if _text(folder / "name").startswith(_FAN_CHIPS):
            for file in sorted(folder.glob("fan*_input")):
                yield _Number(f"fan:{folder.name}-{file.name.removesuffix('_input')}/speed_rpm", file, 1.0)


def _clocks(root: Path) -> Iterator[_Number]:
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    for policy in policies[:_POLICIES]:
        yield _Number(f"cpu:{policy.name}/clock_mhz", policy / "scaling_cur_freq", 1e-3)


def _throttling(root: Path) -> Iterator[_Number]:
    counter = root / "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    if counter.exists():
        yield _Number("cpu:0/throttled_count", counter, 1.0)


def _disks(root: Path) -> Iterator[tuple[str, float]]:
    """Bytes of all disks together. Partitions and stacked devices would count twice."""
    disks = [line.split() for line in (root / "proc/diskstats").read_text(encoding="ascii").splitlines()]
    real = [fields for fields in disks if (root / "sys/block" / fields[2] / "device").exists()]
    if real:
        yield "disk/read_bytes", float(sum(int(fields[_READ]) for fields in real) * _SECTOR)
        yield "disk/written_bytes", float(sum(int(fields[_WRITTEN]) for fields in real) * _SECTOR)


def _network(root: Path) -> Iterator[tuple[str, float]]:
    """Bytes of all network cards together; of all interfaces but the loopback where there is no card."""
    text = (root / "proc/net/dev").read_text(encoding="ascii")
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    counts = {name.strip(): numbers.split() for name, _, numbers in lines if name.strip() != "lo"}
    cards = {name: c for name, c in counts.items() if (root / "sys/class/net" / name / "device").exists()}
    chosen = (cards or counts).values()
    if chosen:
        yield "network/received_bytes", float(sum(int(count[_RECEIVED]) for count in chosen))
        yield "network/sent_bytes", float(sum(int(count[_SENT]) for count in chosen))


def _chips(root: Path) -> list[Path]:
    return sorted((root / "sys/class/hwmon").glob("hwmon*"))


def _input(label: Path) -> Path:
    return label.with_name(label.name.replace("_label", "_input"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
