"""Power meters that the kernel shows under `/sys/class/hwmon`: the machine's, a Grace CPU's, a Jetson's.

Only meters of a whole are read. Rails of a board add up to nothing that is known, and the power that a GPU's
own driver shows here is read through its vendor's library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality
from mlflow_carbon.sensors.background import Background, Pace, Reading, in_thread
from mlflow_carbon.sensors.contract import Absence, Found, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["probe"]

_LOW, _HIGH = 0.9, 1.1
_MAX_W = 20_000.0
# The firmware may take long to answer, and keeps its answer for a second or more.
_PACE = Pace(every_s=1.0, timeout_s=5.0, tries=3)

_GRACE = "Grace Power Socket"
_TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")  # Jetson Orin and Xavier NX; Nano and TX2


@dataclass(frozen=True, slots=True)
class _Meter:
    """One power file, or a voltage and a current."""

    name: str
    device: str
    component: Component
    files: tuple[Path, ...]
    caveat: str = ""

    def read_mw(self) -> int:
        """Milliwatts: microwatts / 1000, or millivolts x milliamperes / 1000 (hwmon's sysfs interface)."""
        product = 1
        for file in self.files:
            product *= int(file.read_text(encoding="ascii"))
        # What it is the whole of runs this: it draws something, and a meter that says 0 does not know.
        power_mw = product // 1000
        if power_mw <= 0:
            raise ValueError(f"expected a power of at least 1 mW, got {product} uW")
        return power_mw


def probe(
    site: Site,
    *,
    start: Callable[[Callable[[], None], float], Callable[[], None]] = in_thread,
) -> Found:
    """The meters under `<root>/sys/class/hwmon`, one sensor each: one that hangs holds up no other."""
    meters = [m for folder in sorted((site.root / "sys/class/hwmon").glob("hwmon*")) for m in _meters(folder)]
    absences: list[Absence] = []
    sensors = []
    for number, meter in enumerate(meters):
        try:
            for file in meter.files:  # To open is quick; to read may make the firmware measure.
                file.open("rb").close()
        except OSError as error:
            absences.append(_failed(meter, error))
            continue
        channel = _channel(meter, number)
        sensors.append(Background((channel,), partial(_ask, meter), pace=_PACE, start=start))
    return Found(sensors=tuple(sensors), absences=tuple(absences))


def _meters(folder: Path) -> Sequence[_Meter]:
    name = _text(folder / "name")
    if name == "power_meter":
        told = _text(folder / "power1_oem_info")
        power = (folder / "power1_average",)
        if told.startswith(_GRACE):
            return [
                _Meter("grace", told, Component.CPU, power, "; CPU and its memory, as NVIDIA describes it")
            ]
        # Other sockets' figures are parts of a part; the module's holds the GPU too.
        return [] if "Socket" in told else [_Meter("acpi", told or "ACPI power meter", Component.NODE, power)]
    if name == "ina3221":
        return [
            _Meter("ina3221", _text(label), Component.NODE, _rail(label))
            for label in sorted(folder.glob("in*_label"))
            if _text(label) in _TOTAL_RAILS
        ]
    return []


def _rail(label: Path) -> tuple[Path, Path]:
    """Voltage and current of the rail with this label."""
    number = label.name.removeprefix("in").removesuffix("_label")
    return label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")


def _ask(meter: _Meter, clock: Clock) -> list[Reading]:
    start_ns = clock.monotonic_ns()
    power_mw = meter.read_mw()
    return [Reading(0, (start_ns + clock.monotonic_ns()) // 2, Values(power_mw=power_mw))]


def _channel(meter: _Meter, number: int) -> Channel:
    return Channel(
        id=f"hwmon:{meter.name}-{number}",
        sensor="hwmon",
        device=meter.device,
        component=meter.component,
        kind=Kind.MEAN,
        basis=Basis.MEASURED,
        quality=Quality.L1,
        low_ratio=_LOW,
        high_ratio=_HIGH,
        power_max_w=_MAX_W,
        source=f"{meter.files[0].parent.name}/{' x '.join(file.name for file in meter.files)}{meter.caveat}",
    )


def _failed(meter: _Meter, error: OSError) -> Absence:
    command = f"sudo chmod a+r {meter.files[0]}"
    remedy = (
        command
        if isinstance(error, PermissionError)
        else f"check that `cat {meter.files[0]}` prints a number"
    )
    return Absence(
        sensor=f"hwmon:{meter.name}", reason=f"{type(error).__name__}: {error.strerror}", remedy=remedy
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
