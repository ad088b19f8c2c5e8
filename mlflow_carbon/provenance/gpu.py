"""GPU names, driver and power limits through NVML.

Only the background calls this: starting NVML can take long.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["Gpu", "Gpus", "load_nvml", "read"]

_DRIVER = "libnvidia-ml.so.1"
_MW_PER_W = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device. What the driver does not tell is None.

    Attributes:
        name: Product name.
        uuid: Identity of the board: personal data, see `privacy`.
        memory_bytes: Its memory.
        power_limit_w: Enforced power limit.
    """

    name: str
    uuid: str | None
    memory_bytes: int | None
    power_limit_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """All devices of the machine and their driver."""

    driver: str | None
    devices: tuple[Gpu, ...]


def load_nvml() -> Any:
    """The NVML binding; None if it or the driver is not installed."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(_DRIVER)  # fails at once without a driver; importing the binding costs 10 ms of CPU
        return import_module("pynvml")
    except (OSError, ImportError):
        return None


def read(nvml: Any) -> Gpus | None:
    """What NVML tells; None without binding, driver or device.

    Args:
        nvml: The module `pynvml`, or something with its functions. Starting and stopping it is
            counted, so a sensor that uses it at the same time is not disturbed.
    """
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError, OSError):
        return None
    try:
        count = int(_told(nvml, nvml.nvmlDeviceGetCount) or 0)
        devices = tuple(d for d in (_device(nvml, i) for i in range(count)) if d is not None)
        driver = _told(nvml, nvml.nvmlSystemGetDriverVersion)
        return Gpus(driver=_text(driver), devices=devices) if devices else None
    finally:
        _told(nvml, nvml.nvmlShutdown)


def _device(nvml: Any, index: int) -> Gpu | None:
    handle = _told(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return None
    memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    limit_mw = _told(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return Gpu(
        name=_text(_told(nvml, nvml.nvmlDeviceGetName, handle)) or "unknown",
        uuid=_text(_told(nvml, nvml.nvmlDeviceGetUUID, handle)),
        memory_bytes=None if memory is None else int(memory.total),
        power_limit_w=None if limit_mw is None else limit_mw / _MW_PER_W,
    )


def _told(nvml: Any, ask: Any, *args: Any) -> Any:
    try:
        return ask(*args)
    except nvml.NVMLError:
        return None


def _text(value: Any) -> str | None:
    """Older bindings give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
