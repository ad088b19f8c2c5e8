"""GPU facts through a fake NVML with the functions of the real one."""
# ruff: noqa: N802 - the names are those of NVML

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

from mlflow_carbon.provenance import gpu


class Nvml:
    """Two boards, one of which does not tell its power limit."""

    class NVMLError(Exception):
        """As in pynvml."""

    def __init__(self, *, devices: int = 2, has_driver: bool = True) -> None:
        self.devices = devices
        self.has_driver = has_driver
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.has_driver:
            raise self.NVMLError("driver not loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.devices

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == 2:
            raise self.NVMLError("lost")
        return index

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return b"NVIDIA A100" if handle == 0 else "NVIDIA A100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=80 * 2**30)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        if handle == 1:
            raise self.NVMLError("not supported")
        return 400_000

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"


def test_devices_and_driver_are_read():
    """Bytes become text, 400 000 mW become 400 W, what is not told is None."""
    nvml = Nvml()
    assert gpu.read(nvml) == gpu.Gpus(
        driver="580.65.06",
        devices=(
            gpu.Gpu(name="NVIDIA A100", uuid="GPU-0", memory_bytes=80 * 2**30, power_limit_w=400.0),
            gpu.Gpu(name="NVIDIA A100", uuid="GPU-1", memory_bytes=80 * 2**30, power_limit_w=None),
        ),
    )
    assert nvml.open == 0


def test_a_lost_device_is_left_out():
    """The others are still read, and NVML is closed."""
    nvml = Nvml(devices=3)
    found = gpu.read(nvml)
    assert found is not None
    assert len(found.devices) == 2
    assert nvml.open == 0


def test_no_binding_no_driver_no_device():
    """Three ways to have no GPU, none of them an error."""
    assert gpu.read(None) is None
    assert gpu.read(Nvml(has_driver=False)) is None
    empty = Nvml(devices=0)
    assert gpu.read(empty) is None
    assert empty.open == 0


def test_the_real_binding_has_the_functions_that_are_used():
    """Every name of the fake is in the installed pynvml, so the fake cannot drift."""
    real = importlib.import_module("pynvml")
    names = [n for n in vars(Nvml) if n.startswith(("nvml", "NVML"))]
    assert len(names) == 10
    assert all(hasattr(real, n) for n in names)


def test_the_real_binding_is_never_an_error():
    """With or without a driver on this machine."""
    found = gpu.read(gpu.load_nvml())
    assert found is None or found.devices
