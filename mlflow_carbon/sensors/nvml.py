"""NVIDIA GPUs: the driver's energy counter, or sampled power where there is no counter.

Counts whole GPUs, those that CUDA shows to this process. MIG slices have no meter of their own and are
left out with a reason, not charged with the whole GPU.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample
from mlflow_carbon.sensors.contract import Absence, Found, Values, explain, take
from mlflow_carbon.sensors.cuda import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["NvmlSensor", "probe"]

_DRIVER = "libnvidia-ml.so.1"
_POWER_MAX_W = 2000.0
_OVERSHOOT = 1.5  # Boards exceed their limit for milliseconds, and counters refresh late.
_PPM_PER_PERCENT = 10_000

_COUNTER = "NVML nvmlDeviceGetTotalEnergyConsumption"
_POWER = "NVML nvmlDeviceGetPowerUsage: no energy counter; since Ampere, but for GA100, a mean of 1 s"
_NAME = "name whole GPUs in CUDA_VISIBLE_DEVICES, or unset it"
_CHECK = "check that `nvidia-smi` lists the GPU; after an update of the driver, reboot or reload it"


class _Board(NamedTuple):
    """One GPU of the machine, counted or not.

    Its number names it in what is stored: a UUID would tell on whose machine a run was.
    """

    number: int
    handle: Any
    uuid: str
    name: str


class _Gpu(NamedTuple):
    """One GPU that counts, and how it is read."""

    channel: Channel
    read: Callable[[], Values]
    handle: Any


class NvmlSensor:
    """Reads the energy counter, or the power, of each GPU."""

    def __init__(self, library: Any, gpus: tuple[_Gpu, ...]) -> None:
        self.channels = tuple(gpu.channel for gpu in gpus)
        self._library = library
        self._gpus = gpus
        self._is_open = True

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One reading per GPU, with its utilisation where the driver tells it."""
        return tuple(self._read(gpu, clock) for gpu in self._gpus)

    def close(self) -> None:
        """Give the driver back; it counts its users, so others are not disturbed."""
        if self._is_open:
            self._is_open = False
            _ask(self._library, self._library.nvmlShutdown)

    def _read(self, gpu: _Gpu, clock: Clock) -> Sample:
        sample = take(gpu.channel.id, clock, gpu.read, errors=(self._library.NVMLError,))
        if sample.error is not None:
            return sample
        # Asked for after the reading, so that it does not blur the reading's time.
        rates = _ask(self._library, self._library.nvmlDeviceGetUtilizationRates, gpu.handle)
        return sample if rates is None else replace(sample, util_ppm=rates.gpu * _PPM_PER_PERCENT)


def probe(site: Site, *, library: Any = None) -> Found:
    """The GPUs that CUDA shows to this process.

    Args:
        site: Where to look; `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` of its environment matter.
        library: The `pynvml` module, or a fake of it; imported where not given.
    """
    try:
        library = library or _import_library()
    except (OSError, ImportError) as error:
        return Found(absences=(_no_driver(error),))
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return Found(absences=(Absence(sensor="nvml", reason=explain(error), remedy=_CHECK),))
    gpus, absences = _gpus(site, library)
    if not gpus:
        _ask(library, library.nvmlShutdown)
    return Found(sensors=(NvmlSensor(library, gpus),) if gpus else (), absences=absences)


def _import_library() -> Any:
    if sys.platform == "linux":
        ctypes.CDLL(_DRIVER)  # Fails at once where there is no driver; the import costs 20 ms of CPU.
    import pynvml

    return pynvml


def _no_driver(error: Exception) -> Absence:
    return Absence(
        sensor="nvml",
        reason=f"no NVIDIA driver: {explain(error)}",
        remedy="none needed without an NVIDIA GPU; else install its driver, or give the container --gpus all",
    )


def _ask(library: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of the driver, or None where it has none."""
    try:
        return call(*arguments)
    except library.NVMLError:
        return None


def _gpus(site: Site, library: Any) -> tuple[tuple[_Gpu, ...], tuple[Absence, ...]]:
    boards = [_board(library, i) for i in range(_ask(library, library.nvmlDeviceGetCount) or 0)]
    if not boards:
        return (), (Absence(sensor="nvml", reason="the driver lists no GPU", remedy=_CHECK),)
    uuids = [board.uuid if isinstance(board, _Board) else "" for board in boards]
    shown = visible(site.env.get("CUDA_VISIBLE_DEVICES"), uuids)
    models = {board.name for board in boards if isinstance(board, _Board)}
    caveat = ""
    if shown.by_number and len(models) > 1 and site.env.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        caveat = "; number taken in PCI order, CUDA may count otherwise (set CUDA_DEVICE_ORDER=PCI_BUS_ID)"
    found = [_gpu(library, boards[index], caveat) for index in shown.indices]
    hidden = (Absence(sensor="nvml", reason=reason, remedy=_NAME) for reason in shown.problems)
    failed = (absence for absence in found if isinstance(absence, Absence))
    return tuple(gpu for gpu in found if isinstance(gpu, _Gpu)), (*hidden, *failed)


def _board(library: Any, index: int) -> _Board | Absence:
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        uuid, name = library.nvmlDeviceGetUUID(handle), library.nvmlDeviceGetName(handle)
    except library.NVMLError as error:
        return Absence(sensor=f"nvml:{index}", reason=explain(error), remedy=_CHECK)
    return _Board(number=index, handle=handle, uuid=uuid, name=name)


def _gpu(library: Any, board: _Board | Absence, caveat: str) -> _Gpu | Absence:
    if isinstance(board, Absence):
        return board
    mig = _ask(library, library.nvmlDeviceGetMigMode, board.handle)
    if mig is not None and mig[0]:
        return Absence(
            sensor=f"nvml:{board.number}",
            reason="MIG is on: the meter is of the whole GPU, and slices are not measured yet",
            remedy=f"sudo nvidia-smi -i {board.number} -mig 0, if the whole GPU can be yours",
        )
    problem = ""
    for values, by_counter in ((_energy, True), (_power, False)):
        read = partial(values, library, board.handle)
        try:
            read()
        except library.NVMLError as error:
            problem = explain(error)
        else:
            channel = _channel(library, board, caveat, by_counter=by_counter)
            return _Gpu(channel=channel, read=read, handle=board.handle)
    reason = f"{board.name} tells neither energy nor power: {problem}"
    return Absence(sensor=f"nvml:{board.number}", reason=reason, remedy=_CHECK)


def _energy(library: Any, handle: Any) -> Values:
    return Values(energy_uj=library.nvmlDeviceGetTotalEnergyConsumption(handle) * 1000)  # from mJ


def _power(library: Any, handle: Any) -> Values:
    return Values(power_mw=library.nvmlDeviceGetPowerUsage(handle))


def _channel(library: Any, board: _Board, caveat: str, *, by_counter: bool) -> Channel:
    limit_mw = _ask(library, library.nvmlDeviceGetEnforcedPowerLimit, board.handle)
    low, high = (0.95, 1.05) if by_counter else (0.85, 1.15)  # decision 6
    return Channel(
        id=f"nvml:{board.number}",
        sensor="nvml",
        device=board.name,
        component=Component.GPU,
        kind=Kind.COUNTER if by_counter else Kind.GAUGE,
        basis=Basis.MEASURED,
        quality=Quality.L3 if by_counter else Quality.L1,
        low_ratio=low,
        high_ratio=high,
        power_max_w=_OVERSHOOT * limit_mw / 1000 if limit_mw else _POWER_MAX_W,
        source=(_COUNTER if by_counter else _POWER) + caveat,
    )
