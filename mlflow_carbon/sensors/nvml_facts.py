"""What an NVIDIA GPU tells beside its power: temperature, fan, clocks, and what holds the clocks down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_carbon.sensors.nvml_ways import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["NvmlObserver"]

# Constants of nvml.h; bindings name the last ones differently from version to version.
_DIE, _SM, _MEMORY = 0, 1, 2
_BY_POWER = 0x4 | 0x80  # software power cap, hardware power brake
_BY_HEAT = 0x20 | 0x40  # thermal slowdown by software, by hardware
_REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")


class NvmlObserver:
    """Asks GPUs that a sensor has open; when that closes, there is nothing to be had.

    Args:
        library: The `pynvml` module.
        handles: NVML's handle by channel id.
    """

    def __init__(self, library: Any, handles: Mapping[str, Any]) -> None:
        self._library = library
        self._handles = dict(handles)

    def observe(self) -> dict[str, float]:
        """Degrees Celsius, percent, megahertz, and 1 where power or heat holds the clocks down."""
        return {
            f"{channel}/{name}": float(value)
            for channel, handle in self._handles.items()
            for name, value in self._of(handle)
            if value is not None
        }

    def close(self) -> None:
        """The sensor gives the driver back."""

    def _of(self, handle: Any) -> Iterator[tuple[str, float | None]]:
        yield "temperature_c", self._ask("nvmlDeviceGetTemperature", handle, _DIE)
        yield "fan_percent", self._ask("nvmlDeviceGetFanSpeed", handle)
        yield "clock_sm_mhz", self._ask("nvmlDeviceGetClockInfo", handle, _SM)
        yield "clock_memory_mhz", self._ask("nvmlDeviceGetClockInfo", handle, _MEMORY)
        told = (self._ask(name, handle) for name in _REASONS)
        reasons = next((bits for bits in told if bits is not None), None)
        if reasons is not None:
            yield "limited_by_power", float(bool(reasons & _BY_POWER))
            yield "limited_by_heat", float(bool(reasons & _BY_HEAT))

    def _ask(self, name: str, *arguments: Any) -> Any:
        call: Callable[..., Any] | None = getattr(self._library, name, None)
        return None if call is None else ask(self._library, call, *arguments)
