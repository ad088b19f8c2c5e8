"""Simulated NVIDIA GPUs behind the real `pynvml`: a C library that poses as the driver's.

The library (`nvml_stub.c`, compiled where it is used) answers from a file that this module writes: a clock,
GPUs, waveforms, faults. `pynvml` loads one library per process and keeps it, so a test runs in a process
of its own: started with `NvmlStub.environment`, or one that calls `NvmlStub.load` before anything loads NVML.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from mlflow_carbon.testing.clock import ORIGIN_NS, WALL_OFFSET_NS, MovableClock, RealTimeClock
from mlflow_carbon.testing.meter import Fault, FaultKind
from mlflow_carbon.testing.waveform import Waveform, constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GPU_IS_LOST", "NOT_SUPPORTED", "NvmlStub", "SharedClock", "SimulatedGpu", "compile_stub"]

NOT_SUPPORTED = 3
GPU_IS_LOST = 15

_SOURCE = Path(__file__).with_name("nvml_stub.c")
_LIBRARY = "libnvidia-ml.so.1"
_VARIABLE = "NVML_STUB_STATE"

_MAGIC = 0x4D4C4331
_MAX_GPUS, _MAX_PIECES, _MAX_FAULTS, _MAX_SLICES, _SCOPES = 16, 256, 16, 7, 3
_NS = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedGpu:
    """One GPU. The defaults are those of an A100 as it was measured by others; none is needed to be.

    Attributes:
        waveform: Its power.
        uuid: Identity, `GPU-` and something.
        name: Product name.
        unsupported: Calls and fields it does not know, for example `nvmlDeviceGetTotalEnergyConsumption`
            or `NVML_FI_DEV_POWER_INSTANT`.
        faults: What goes wrong. The value of an `ERROR` is the NVML code.
        counter_refresh_s: The energy counter shows a new value so often.
        power_refresh_s: So do the power readings.
        power_window_s: `nvmlDeviceGetPowerUsage` is the mean of so long; 0: instantaneous.
        instant_window_s: So is field 186.
        average_window_s: So is field 185.
        sample_period_s: Spacing of the driver's buffer of power samples.
        sample_count: How many it holds; 0: there is none.
        first_mj: The counter at t = 0 s.
        limit_w: Power limit; 0: not told.
        mig_slices: Compute slices, of 7, of each MIG device; None: MIG is off, empty: on and without devices.
        has_mig: Whether the GPU knows MIG at all.
        scopes: Power of GPU, module and memory over that of the GPU; 0: not told.
    """

    waveform: Waveform = field(default_factory=lambda: constant(250.0))
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "Simulated A100"
    unsupported: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    counter_refresh_s: float = 0.1
    power_refresh_s: float = 0.1
    power_window_s: float = 0.0
    instant_window_s: float = 0.025
    average_window_s: float = 1.0
    sample_period_s: float = 0.02
    sample_count: int = 0
    first_mj: int = 123_456_789
    limit_w: float = 400.0
    mig_slices: tuple[int, ...] | None = None
    has_mig: bool = True
    scopes: tuple[float, float, float] = (1.0, 0.0, 0.0)


class _Piece(ctypes.Structure):
    _fields_ = [("duration_s", ctypes.c_double), ("start_w", ctypes.c_double), ("end_w", ctypes.c_double)]


class _Fault(ctypes.Structure):
    _fields_ = [
        ("call", ctypes.c_char * 48),
        ("kind", ctypes.c_int64),
        *((name, ctypes.c_double) for name in ("start_s", "end_s", "value")),
    ]


_NUMBERS = ("first_mj", "limit_mw", "mig_mode", "sample_count", "slice_count")
_TIMES = (
    "counter_refresh_s",
    "power_refresh_s",
    "power_window_s",
    "instant_window_s",
    "average_window_s",
    "sample_period_s",
)


class _Gpu(ctypes.Structure):
    _fields_ = [
        ("uuid", ctypes.c_char * 96),
        ("name", ctypes.c_char * 96),
        ("pieces", _Piece * _MAX_PIECES),
        *((name, ctypes.c_int64) for name in ("piece_count", "repeats")),
        *((name, ctypes.c_double) for name in ("swing_w", "swing_period_s", "swing_phase")),
        ("faults", _Fault * _MAX_FAULTS),
        *((name, ctypes.c_int64) for name in ("fault_count", *_NUMBERS)),
        ("slices", ctypes.c_int64 * _MAX_SLICES),
        *((name, ctypes.c_double) for name in _TIMES),
        ("scopes", ctypes.c_double * _SCOPES),
    ]


_HEADER = (
    "magic",
    "size",
    "is_virtual",
    "now_ns",
    "origin_ns",
    "wall_offset_ns",
    "latency_ns",
    "call_count",
    "gpu_count",
)


class _State(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _HEADER),
        ("faults", _Fault * _MAX_FAULTS),
        ("fault_count", ctypes.c_int64),
        ("gpus", _Gpu * _MAX_GPUS),
    ]


def compile_stub(folder: Path) -> Path:
    """Compile the library into a folder, and return its path.

    Raises:
        FileNotFoundError: If there is no C compiler `cc`.
        subprocess.CalledProcessError: If it refuses.
    """
    if shutil.which("cc") is None:
        raise FileNotFoundError(
            "expected a C compiler named cc on the PATH, found none; install gcc or clang"
        )
    library = folder / _LIBRARY
    options = ["-shared", "-fPIC", "-O1", f"-Wl,-soname,{_LIBRARY}"]
    subprocess.run(["cc", *options, "-o", str(library), str(_SOURCE), "-lm"], check=True, capture_output=True)
    return library


class SharedClock:
    """The virtual clock in the stub's file: the library reads it, and its calls that take time move it."""

    def __init__(self, state: Any) -> None:
        self._state = state

    @property
    def origin_ns(self) -> int:
        """Monotonic time at which the waveforms have t = 0 s."""
        return int(self._state.origin_ns)

    def monotonic_ns(self) -> int:
        """Monotonic nanoseconds."""
        return int(self._state.now_ns)

    def wall_ns(self) -> int:
        """UTC nanoseconds since the epoch."""
        return int(self._state.now_ns + self._state.wall_offset_ns)

    def advance(self, seconds: float) -> None:
        """Go on by so much."""
        self._state.now_ns += round(seconds / _NS)


class NvmlStub:
    """The file behind the library; it stays in the folder of the library.

    Args:
        library: What `compile_stub` returned.
        gpus: At most 16.
        faults: Of calls that have no GPU, such as `nvmlInitWithFlags`.
        is_virtual: Whether its clock is virtual; else the waveforms run in real time from now on.
        latency_ns: What each call takes.
    """

    def __init__(
        self,
        library: Path,
        gpus: Sequence[SimulatedGpu],
        *,
        faults: Sequence[Fault] = (),
        is_virtual: bool = True,
        latency_ns: int = 2000,
    ) -> None:
        self._library = library
        with NamedTemporaryFile(dir=library.parent, prefix="nvml-state-", delete=False) as file:
            file.truncate(ctypes.sizeof(_State))
            self._state = _State.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(_State)))
        self._path = file.name
        self._state.is_virtual = is_virtual
        self.clock: MovableClock = SharedClock(self._state) if is_virtual else RealTimeClock()
        self._state.origin_ns = ORIGIN_NS if is_virtual else self.clock.origin_ns
        self._state.now_ns = self._state.origin_ns
        offset_ns = self.clock.wall_ns() - self.clock.monotonic_ns()
        self._state.wall_offset_ns = WALL_OFFSET_NS if is_virtual else offset_ns
        self._state.latency_ns = latency_ns if is_virtual else 0
        self.change(gpus, faults=faults)
        self._state.size = ctypes.sizeof(_State)
        self._state.magic = _MAGIC

    def change(self, gpus: Sequence[SimulatedGpu], *, faults: Sequence[Fault] = ()) -> None:
        """Other GPUs or faults from now on, at the same clock."""
        _limit("GPUs", len(gpus), _MAX_GPUS)
        self._state.gpu_count = len(gpus)
        for there, gpu in zip(self._state.gpus, gpus, strict=False):
            _describe(there, gpu)
        _put_faults(self._state, faults)

    def environment(self) -> Mapping[str, str]:
        """Variables for a process that shall find these GPUs, to be added to its own."""
        found = os.environ.get("LD_LIBRARY_PATH")
        folders = os.pathsep.join((str(self._library.parent), *([found] if found else [])))
        return {"LD_LIBRARY_PATH": folders, _VARIABLE: self._path}

    def load(self) -> None:
        """Give these GPUs to this process, for good: later loads by name find this library."""
        os.environ[_VARIABLE] = self._path
        ctypes.CDLL(str(self._library), mode=ctypes.RTLD_GLOBAL)

    @property
    def call_count(self) -> int:
        """How many NVML calls there have been."""
        return int(self._state.call_count)


def _describe(there: Any, gpu: SimulatedGpu) -> None:
    waveform = gpu.waveform
    there.uuid, there.name = gpu.uuid.encode(), gpu.name.encode()
    _limit("pieces of a waveform", len(waveform.pieces), _MAX_PIECES)
    there.piece_count, there.repeats = len(waveform.pieces), waveform.repeats
    for place, piece in zip(there.pieces, waveform.pieces, strict=False):
        place.duration_s, place.start_w, place.end_w = piece.duration_s, piece.start_w, piece.end_w
    swing = waveform.swing
    there.swing_w = swing.amplitude_w if swing else 0.0
    there.swing_period_s, there.swing_phase = (swing.period_s, swing.phase_ratio) if swing else (1.0, 0.0)
    missing = (Fault(kind=FaultKind.ERROR, value=NOT_SUPPORTED, call=call) for call in gpu.unsupported)
    _put_faults(there, (*missing, *gpu.faults))
    slices = gpu.mig_slices or ()
    _limit("MIG devices", len(slices), _MAX_SLICES)
    there.slice_count = len(slices)
    there.slices[: len(slices)] = slices
    there.first_mj, there.limit_mw, there.sample_count = (
        gpu.first_mj,
        round(gpu.limit_w * 1000),
        gpu.sample_count,
    )
    there.mig_mode = int(gpu.mig_slices is not None) if gpu.has_mig else -1
    for name in _TIMES:
        setattr(there, name, getattr(gpu, name))
    there.scopes[:] = gpu.scopes


def _put_faults(there: Any, faults: Sequence[Fault]) -> None:
    _limit("faults", len(faults), _MAX_FAULTS)
    there.fault_count = len(faults)
    for place, fault in zip(there.faults, faults, strict=False):
        place.call, place.kind = fault.call.encode(), int(fault.kind)
        place.start_s, place.end_s, place.value = fault.start_s, fault.end_s, fault.value


def _limit(what: str, count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"NVML stub: expected at most {most} {what}, got {count}")
