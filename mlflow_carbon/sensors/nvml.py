"""NVIDIA GPUs: the driver's energy counter, or power where there is no counter (`nvml_ways`).

Counts whole GPUs, those that CUDA shows to this process. MIG slices have no meter of their own: a slice is
charged with its part of the whole GPU, by compute slices, and that is labelled a model with a range up
to the whole GPU. To refuse would leave out most of the energy; to charge the whole GPU would
charge it once per slice.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample
from mlflow_carbon.sensors.contract import Absence, Found, explain
from mlflow_carbon.sensors.crosscheck import CrossCheck, StillCheck
from mlflow_carbon.sensors.cuda import Visible, visible
from mlflow_carbon.sensors.nvml_boards import CHECK, Board, boards
from mlflow_carbon.sensors.nvml_facts import NvmlObserver
from mlflow_carbon.sensors.nvml_ways import Aspect, Way, ask, best_way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["NvmlSensor", "probe"]

_LOW, _HIGH = 0.95, 1.05
"""What a board errs by in proportion, counter and power alike: they come from one sensor (arXiv 2312.02741).

What reading at moments leaves open is computed from the readings (decision 14).
"""
_DRIVER = "libnvidia-ml.so.1"
_POWER_MAX_W = 2000.0
_OVERSHOOT = 1.5  # Boards exceed their limit for milliseconds, and counters refresh late.
_RATES_NS = (
    900_000_000  # The driver averages utilisation over up to a second, so asking sooner tells nothing.
)
_PPM_PER_PERCENT = 10_000
_SLICE_LOW = 0.1  # An idle slice of a busy GPU still draws its part of the idle power, about a tenth.

_NAME = "name whole GPUs in CUDA_VISIBLE_DEVICES, or unset it"
_MODULE_COUNTER = "GH200"
"""Boards whose counter is of the whole module, CPU and memory included (Zeus pull request 172)."""


class _Gpu(NamedTuple):
    """One GPU that counts, and how it is read."""

    channel: Channel
    way: Way
    handle: Any
    covers: bool
    check: CrossCheck | None
    still: StillCheck


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A board, the part of its slices that counts (None: the whole board), and what to add to its source."""

    board: Board
    share: tuple[int, int] | None
    caveat: str


class NvmlSensor:
    """Reads the energy counter, or the power, of each GPU."""

    def __init__(self, library: Any, gpus: tuple[_Gpu, ...]) -> None:
        self.channels = tuple(gpu.channel for gpu in gpus)
        self._library = library
        self._gpus = gpus
        self._is_open = True
        self._rates_at_ns = 0

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """The readings of each GPU, about once a second with its utilisation where the driver tells it."""
        now_ns = clock.monotonic_ns()
        is_due = now_ns >= self._rates_at_ns
        if is_due:
            self._rates_at_ns = now_ns + _RATES_NS
        return tuple(sample for gpu in self._gpus for sample in self._read(gpu, clock, rates=is_due))

    def findings(self) -> tuple[str, ...]:
        """Counters that do not agree with the power of the same GPU, and powers that do not with its load."""
        checks = (check for gpu in self._gpus for check in (gpu.check, gpu.still) if check is not None)
        return tuple(check.finding for check in checks if check.finding)

    def close(self) -> None:
        """Give the driver back; it counts its users, so others are not disturbed."""
        if self._is_open:
            self._is_open = False
            ask(self._library, self._library.nvmlShutdown)

    def _read(self, gpu: _Gpu, clock: Clock, *, rates: bool) -> tuple[Sample, ...]:
        readings = gpu.way.read(gpu.channel.id, clock)
        if not readings or readings[-1].error is not None:
            return readings
        *older, sample = readings
        # Asked for after the reading, so that it does not blur the reading's time.
        if gpu.check is not None and not gpu.check.is_done and sample.energy_uj is not None:
            power_mw = ask(self._library, self._library.nvmlDeviceGetPowerUsage, gpu.handle)
            if power_mw:
                gpu.check.add(sample.t_mono_ns, sample.energy_uj, power_mw)
        if rates:
            told = ask(self._library, self._library.nvmlDeviceGetUtilizationRates, gpu.handle)
            if told is not None:
                sample = replace(sample, util_ppm=told.gpu * _PPM_PER_PERCENT)
                if sample.power_mw is not None:
                    gpu.still.add(sample.t_mono_ns, sample.power_mw, told.gpu * _PPM_PER_PERCENT)
        return (*older, sample)


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
        return Found(absences=(Absence(sensor="nvml", reason=explain(error), remedy=CHECK),))
    gpus, absences = _gpus(site, library)
    if not gpus:
        ask(library, library.nvmlShutdown)
        return Found(absences=absences)
    covers = frozenset({Component.CPU, Component.DRAM}) if any(gpu.covers for gpu in gpus) else frozenset()
    observer = NvmlObserver(library, {gpu.channel.id: gpu.handle for gpu in gpus})
    return Found(
        sensors=(NvmlSensor(library, gpus),), absences=absences, covers=covers, observers=(observer,)
    )


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


def _gpus(site: Site, library: Any) -> tuple[tuple[_Gpu, ...], tuple[Absence, ...]]:
    listed = boards(library)
    if not listed:
        return (), (Absence(sensor="nvml", reason="the driver lists no GPU", remedy=CHECK),)
    shown = visible(
        site.env.get("CUDA_VISIBLE_DEVICES"),
        [board.uuid if isinstance(board, Board) else "" for board in listed],
        [[part.names for part in board.slices] if isinstance(board, Board) else [] for board in listed],
    )
    wanted = _wanted(listed, shown, in_order=site.env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID")
    found = [
        each if isinstance(each, Absence) else _gpu(library, each, site.settings.period_s) for each in wanted
    ]
    hidden = (Absence(sensor="nvml", reason=reason, remedy=_NAME) for reason in shown.problems)
    failed = (absence for absence in found if isinstance(absence, Absence))
    return tuple(gpu for gpu in found if isinstance(gpu, _Gpu)), (*hidden, *failed)


def _wanted(listed: Sequence[Board | Absence], shown: Visible, *, in_order: bool) -> list[_Wanted | Absence]:
    """What is to be read: whole boards, and of boards in MIG mode the part of the slices shown."""
    models = {board.name for board in listed if isinstance(board, Board)}
    caveat = ""
    if shown.by_number and len(models) > 1 and not in_order:
        caveat = "; number taken in PCI order, CUDA may count otherwise (set CUDA_DEVICE_ORDER=PCI_BUS_ID)"
    named: dict[int, list[int]] = {}
    for index, part in shown.slices:
        named.setdefault(index, []).append(part)
    wanted: list[_Wanted | Absence] = []
    has_slice = bool(named)
    for index in dict.fromkeys((*shown.indices, *named)):
        board = listed[index]
        if isinstance(board, Board) and board.mig and has_slice and index not in named:
            wanted.append(_unnamed(board))
        elif isinstance(board, Board) and board.mig:
            # Where none is named CUDA shows a process one slice, the first that there is.
            wanted.append(_in_slices(board, named.get(index, [0]), caveat))
            has_slice = True
        else:
            wanted.append(_Wanted(board, None, caveat) if isinstance(board, Board) else board)
    return wanted


def _unnamed(board: Board) -> Absence:
    return Absence(
        sensor=f"nvml:{board.number}",
        reason="MIG is on and none of its slices is named; CUDA gives a process no more than one that is not",
        remedy="name the slices in CUDA_VISIBLE_DEVICES, as `nvidia-smi -L` prints them",
    )


def _in_slices(board: Board, parts: Sequence[int], caveat: str) -> _Wanted | Absence:
    if not board.slices:
        return Absence(
            sensor=f"nvml:{board.number}",
            reason="MIG is on and the driver lists no slice, so that the part of the GPU is not known",
            remedy=f"sudo nvidia-smi -i {board.number} -mig 0, if the whole GPU can be yours",
        )
    compute = sum(board.slices[part].compute for part in parts)
    return _Wanted(board, (min(max(compute, 1), board.slices_max), board.slices_max), caveat)


def _gpu(library: Any, wanted: _Wanted, period_s: float) -> _Gpu | Absence:
    board, share = wanted.board, wanted.share
    is_whole_module = board.is_module and _MODULE_COUNTER in board.name
    no_counter = ""
    if board.is_module and not is_whole_module:
        no_counter = "its counter may be of the whole module, GPU and CPU"
    aspect = Aspect(period_s=period_s, share=share or (1, 1), no_counter=no_counter)
    way = best_way(library, board.handle, aspect)
    if isinstance(way, str):
        reason = f"{board.name} tells neither energy nor power: {way}"
        return Absence(sensor=f"nvml:{board.number}", reason=reason, remedy=CHECK)
    by_counter = way.kind is Kind.COUNTER
    covers = is_whole_module and by_counter
    caveat = wanted.caveat + ("; of the whole module: GPU, CPU and memory" if covers else "")
    channel = _channel(library, board, way, caveat)
    if share is not None and share[0] < share[1]:
        channel = _of_slices(channel, *share)
    # Of a module the power is that of the GPU alone, and of a slice only the energy is cut down.
    check = CrossCheck(channel.id) if by_counter and not covers and share is None else None
    still = StillCheck(channel.id)
    return _Gpu(channel=channel, way=way, handle=board.handle, covers=covers, check=check, still=still)


def _channel(library: Any, board: Board, way: Way, caveat: str) -> Channel:
    limit_mw = ask(library, library.nvmlDeviceGetEnforcedPowerLimit, board.handle)
    return Channel(
        id=f"nvml:{board.number}",
        sensor="nvml",
        device=board.name,
        component=Component.GPU,
        kind=way.kind,
        basis=Basis.MEASURED,
        quality=way.quality,
        low_ratio=_LOW,
        high_ratio=_HIGH,
        power_max_w=_OVERSHOOT * limit_mw / 1000 if limit_mw and not board.is_module else _POWER_MAX_W,
        source=way.source + caveat,
    )


def _of_slices(channel: Channel, count: int, of: int) -> Channel:
    """The channel of a part of a GPU: between its part of the idle power and all of the power."""
    part = f"{count} of {of} MIG slices"
    return replace(
        channel,
        device=f"{channel.device}, {part}",
        basis=Basis.MODELLED,
        quality=Quality.L0,
        low_ratio=_SLICE_LOW,
        high_ratio=of / count,
        source=f"{channel.source}; of the whole GPU, times {part}: an estimate, slices have no meter",
    )
