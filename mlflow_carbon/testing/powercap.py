"""A powercap tree of plain files whose counters follow waveforms.

Counters are updated in place with a fixed width: a sensor keeps the files open, so that replacing
them would freeze it, and shortening them would show it an empty file. What plain files cannot do is
refuse root: drop privileges for `deny` to work, or use `hide`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.testing.meter import FaultKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow_carbon.testing.meter import Meter

__all__ = ["RANGE_UJ", "PowercapTree", "Zone"]

RANGE_UJ = 262_143_328_850
"""`max_energy_range_uj` of common Intel packages: 15 minutes at 300 W."""

_WIDTH = 20  # the digits of 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One powercap directory.

    Attributes:
        path: Its name, for example `intel-rapl:0`, `intel-rapl:0:1` or `intel-rapl-mmio:0`.
        name: What its file `name` says: `package-0`, `dram`, `core`, `uncore`, `psys`.
        meter: What its counter follows; it wraps at `RANGE_UJ` where it says nothing else. Dies that mirror
            one counter share a meter.
    """

    path: str
    name: str
    meter: Meter


class PowercapTree:
    """Writes `<root>/sys/class/powercap`.

    Args:
        root: Root of the file system to build; give it to a probe as `Site.root`.
        zones: What is in it.
        is_nested: Subzones inside their zones, as a copied or mounted tree has them, and not side by side.
    """

    def __init__(self, root: Path, zones: Sequence[Zone], *, is_nested: bool = False) -> None:
        self._base = root / "sys/class/powercap"
        self._is_nested = is_nested
        self._meters = {z.path: replace(z.meter, range_uj=z.meter.range_uj or RANGE_UJ) for z in zones}
        for zone, meter in zip(zones, self._meters.values(), strict=True):
            folder = self.folder(zone.path)
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"{zone.name}\n", encoding="ascii")
            (folder / "max_energy_range_uj").write_text(f"{meter.range_uj}\n", encoding="ascii")
            (folder / "energy_uj").touch()
        self.show(0.0)

    def folder(self, zone: str) -> Path:
        """The directory of a zone."""
        control, *indices = zone.split(":")
        if not self._is_nested:
            return self._base / zone
        names = [":".join((control, *indices[: i + 1])) for i in range(len(indices))]
        return self._base.joinpath(control, *names)

    def show(self, t_s: float) -> None:
        """Let every counter show what it does at this time of the waveforms."""
        for zone, meter in self._meters.items():
            self._write(self.folder(zone) / "energy_uj", self._text(meter, t_s))

    def hide(self, zone: str) -> None:
        """A directory in place of the counter, which root cannot read either: `IsADirectoryError`.

        The kernel's own refusal is `PermissionError`: see `deny`.
        """
        del self._meters[zone]
        counter = self.folder(zone) / "energy_uj"
        counter.unlink()
        counter.mkdir()

    def deny(self, zone: str) -> None:
        """Nobody but root may read the counter, as by default since Linux 5.10."""
        del self._meters[zone]
        (self.folder(zone) / "energy_uj").chmod(0)

    @staticmethod
    def _text(meter: Meter, t_s: float) -> str:
        if meter.fault(FaultKind.ERROR, t_s):
            return "no number"  # what int() refuses: plain files have no other way to fail
        if wrong := meter.fault(FaultKind.VALUE, t_s):
            return str(int(wrong.value))
        return str(meter.counter_uj(t_s))

    @staticmethod
    def _write(counter: Path, text: str) -> None:
        descriptor = os.open(counter, os.O_WRONLY)
        try:
            os.pwrite(descriptor, f"{text:<{_WIDTH}}\n".encode("ascii"), 0)
        finally:
            os.close(descriptor)
