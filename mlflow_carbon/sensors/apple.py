"""Apple silicon through IOReport, without sudo, by `zeus-apple-silicon` (extra `apple`).

Never run on hardware. Apple's counters come from a model inside the chip, not from a meter, so that they are
labelled modelled. They count CPU, GPU, Neural Engine and, on newer chips, memory.
"""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample
from mlflow_carbon.sensors.contract import Absence, Found, explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["AppleSensor", "probe"]

_LOW, _HIGH = 0.7, 1.3
_POWER_MAX_W = 500.0
_UJ_PER_MJ = 1000  # microjoules per millijoule
_INSTALL = 'pip install "mlflow-carbon[apple]"'

_PARTS: Mapping[str, tuple[Component, tuple[str, ...]]] = {
    "cpu": (Component.CPU, ("cpu_total_mj",)),
    "gpu": (Component.GPU, ("gpu_mj", "gpu_sram_mj")),
    "ane": (Component.GPU, ("ane_mj",)),
    "dram": (Component.DRAM, ("dram_mj",)),
}


class AppleSensor:
    """Reads all counters of the chip with one call."""

    def __init__(self, monitor: Any, parts: tuple[str, ...]) -> None:
        self.channels = tuple(_channel(part) for part in parts)
        self._monitor = monitor
        self._parts = parts

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One counter reading per part."""
        start_ns = clock.monotonic_ns()
        problem = ""
        told = None
        try:
            told = self._monitor.get_cumulative_energy()
        except RuntimeError as failure:  # what the extension raises
            problem = explain(failure)
        read_ns = clock.monotonic_ns() - start_ns
        samples = []
        for channel, part in zip(self.channels, self._parts, strict=True):
            energy_uj = _energy_uj(told, part) if told is not None else None
            error = None if energy_uj is not None else problem or f"no counter of {part} any more"
            samples.append(
                Sample(
                    channel=channel.id,
                    t_mono_ns=start_ns + read_ns // 2,
                    read_ns=read_ns,
                    energy_uj=energy_uj,
                    error=error,
                )
            )
        return tuple(samples)

    def close(self) -> None:
        """The library has no handle to give back."""


def probe(site: Site, *, library: Any = None) -> Found:
    """The counters of an Apple chip; says nothing on other machines.

    Args:
        site: Where to look; nothing of it matters here.
        library: The `zeus_apple_silicon` module, or a fake of it; imported where not given.
    """
    del site
    if library is None and not (sys.platform == "darwin" and platform.machine() == "arm64"):
        return Found()
    try:
        library = library or _import_library()
        monitor = library.AppleEnergyMonitor()
        told = monitor.get_cumulative_energy()
    except (ImportError, RuntimeError) as error:
        return Found(absences=(Absence(sensor="apple", reason=explain(error), remedy=_INSTALL),))
    parts = tuple(part for part in _PARTS if _energy_uj(told, part) is not None)
    return Found(sensors=(AppleSensor(monitor, parts),) if parts else ())


def _import_library() -> Any:
    import zeus_apple_silicon

    return zeus_apple_silicon


def _energy_uj(told: Any, part: str) -> int | None:
    """Energy of a part: the sum of what the chip tells of it; None where it tells nothing."""
    values = [getattr(told, name, None) for name in _PARTS[part][1]]
    known = [value for value in values if isinstance(value, int) and value >= 0]
    return _UJ_PER_MJ * sum(known) if known else None


def _channel(part: str) -> Channel:
    return Channel(
        id=f"apple:{part}",
        sensor="apple",
        device=f"Apple silicon, {part}",
        component=_PARTS[part][0],
        kind=Kind.COUNTER,
        basis=Basis.MODELLED,
        quality=Quality.L0,
        low_ratio=_LOW,
        high_ratio=_HIGH,
        power_max_w=_POWER_MAX_W,
        source=(
            f"IOReport Energy Model ({' + '.join(_PARTS[part][1])}) by zeus-apple-silicon: "
            "modelled in the chip; never run on hardware by the makers of this sensor"
        ),
    )
