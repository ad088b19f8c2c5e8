"""Fakes of what sensors read: a clock, the NVML library, a powercap tree and a CPU description."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from mlflow_carbon.sensors.contract import Site
from mlflow_carbon.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WRAP_UJ = 262_143_328_850
"""`max_energy_range_uj` of common Intel packages."""


@dataclass
class VirtualClock:
    """A clock that goes on by `step_ns` each time it is asked."""

    now_ns: int = 0
    step_ns: int = 1000

    def monotonic_ns(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns


def site(
    root: Path = Path("/nonexistent"), env: Mapping[str, str] | None = None, **settings: float | str
) -> Site:
    """A site with no environment."""
    return Site(settings=Settings(**settings), root=root, env=env or {})  # type: ignore[arg-type]


class FakeNvmlError(Exception):
    """Stands for `pynvml.NVMLError`, with its code."""

    @property
    def value(self) -> int:
        return 6 if str(self) == "Not Found" else 3


@dataclass
class FakeGpu:
    """One GPU. A value of None: the driver does not support the query."""

    uuid: str
    name: str = "NVIDIA A100"
    energy_mj: int | None = 5000
    power_mw: int | None = 250_000
    limit_mw: int | None = 400_000
    util_percent: int | None = 75
    mig: int | None = None
    slices: list[FakeSlice] = field(default_factory=list)
    fields_mw: dict[tuple[int, int], int] = field(default_factory=dict)
    """Field values by field and scope."""
    samples: list[tuple[int, int]] = field(default_factory=list)
    """The driver's buffer: UTC microseconds and milliwatts."""
    facts: dict[str, int] = field(default_factory=dict)
    """Temperature, fan, clocks by kind, and throttle reasons."""


@dataclass
class FakeSlice:
    """One MIG slice."""

    uuid: str
    compute: int
    instances: tuple[int, int] = (1, 0)


def _known(value: object) -> object:
    if value is None:
        raise FakeNvmlError("Not Supported")
    return value


@dataclass
class FakeNvml:
    """The part of `pynvml` that the sensor uses; a handle is the GPU itself."""

    gpus: list[FakeGpu]
    init_error: str = ""
    users: int = 0

    NVMLError = FakeNvmlError

    def nvmlInit(self) -> None:  # noqa: N802 - the names are NVML's
        if self.init_error:
            raise FakeNvmlError(self.init_error)
        self.users += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        if self.users == 0:
            raise FakeNvmlError("Uninitialized")
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        if self.gpus[index].uuid == "lost":
            raise FakeNvmlError("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, gpu: FakeGpu | FakeSlice) -> str:  # noqa: N802
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:  # noqa: N802
        return gpu.name

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> object:  # noqa: N802
        return [_known(gpu.mig), gpu.mig]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeSlice:  # noqa: N802
        if index >= len(gpu.slices):
            raise FakeNvmlError("Not Found")
        return gpu.slices[index]

    def nvmlDeviceGetAttributes(self, part: FakeSlice) -> object:  # noqa: N802
        return SimpleNamespace(computeInstanceSliceCount=part.compute)

    def nvmlDeviceGetGpuInstanceId(self, part: FakeSlice) -> int:  # noqa: N802
        return part.instances[0]

    def nvmlDeviceGetComputeInstanceId(self, part: FakeSlice) -> int:  # noqa: N802
        return part.instances[1]

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, wanted: list[object]) -> list[object]:  # noqa: N802
        keys = [key if isinstance(key, tuple) else (key, 0) for key in wanted]
        return [
            SimpleNamespace(
                nvmlReturn=0 if key in gpu.fields_mw else 3,
                value=SimpleNamespace(uiVal=gpu.fields_mw.get(key, 0)),
            )
            for key in keys
        ]

    def nvmlDeviceGetSamples(self, gpu: FakeGpu, kind: int, seen_us: int) -> object:  # noqa: N802
        if kind != 0 or not gpu.samples:
            raise FakeNvmlError("Not Supported")
        found = [
            SimpleNamespace(timeStamp=stamp_us, sampleValue=SimpleNamespace(uiVal=power_mw))
            for stamp_us, power_mw in gpu.samples
            if stamp_us > seen_us
        ]
        if not found:
            raise FakeNvmlError("Not Found")
        return 1, found

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> object:  # noqa: N802
        return _known(gpu.facts.get("temperature"))

    def nvmlDeviceGetFanSpeed(self, gpu: FakeGpu) -> object:  # noqa: N802
        return _known(gpu.facts.get("fan"))

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> object:  # noqa: N802
        return _known(gpu.facts.get(f"clock {kind}"))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: FakeGpu) -> object:  # noqa: N802
        return _known(gpu.facts.get("reasons"))

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> object:  # noqa: N802
        return _known(gpu.energy_mj)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> object:  # noqa: N802
        return _known(gpu.power_mw)

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> object:  # noqa: N802
        return _known(gpu.limit_mw)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> object:  # noqa: N802
        return SimpleNamespace(gpu=_known(gpu.util_percent), memory=0)


def add_zone(root: Path, zone: str, name: str, *, energy_uj: int | str = 1_000_000) -> Path:
    """Add a powercap zone such as `intel-rapl:0` and return the path of its counter."""
    path = root / "sys/class/powercap" / zone
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{WRAP_UJ}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    return path / "energy_uj"


def add_cpuinfo(
    root: Path, model: str, *, threads: int = 2, sockets: int = 1, flags: str = "fpu vme"
) -> None:
    """Write a `/proc/cpuinfo` as Linux on x86 does."""
    (root / "proc").mkdir(parents=True, exist_ok=True)
    blocks = (
        f"processor\t: {i}\nmodel name\t: {model}\nphysical id\t: {i % sockets}\nflags\t\t: {flags}\n"
        for i in range(threads)
    )
    (root / "proc/cpuinfo").write_text("\n".join(blocks))


def add_pmu(root: Path, events: Mapping[str, int], *, cpus: str) -> None:
    """Add the `power` PMU of perf events with the type 18 and a scale of 2**-32 J."""
    pmu = root / "sys/bus/event_source/devices/power"
    (pmu / "events").mkdir(parents=True)
    (pmu / "type").write_text("18\n")
    (pmu / "cpumask").write_text(f"{cpus}\n")
    for event, config in events.items():
        (pmu / "events" / event).write_text(f"event={config:#04x}\n")
        (pmu / f"events/{event}.scale").write_text("2.3283064365386962890625e-10\n")


@dataclass
class Polls:
    """Stands for the thread of a slow sensor: polls once at the start, and then when told."""

    polls: list[Callable[[], None]] = field(default_factory=list)
    stopped: int = 0

    def start(self, poll: Callable[[], None], every_s: float) -> Callable[[], None]:
        self.polls.append(poll)
        poll()
        return self._stop

    def again(self) -> None:
        for poll in self.polls:
            poll()

    def _stop(self) -> None:
        self.stopped += 1


DCMI = """
    Instantaneous power reading:                   214 Watts
    Minimum during sampling period:                  2 Watts
    Maximum during sampling period:                468 Watts
    Average power reading over sample period:      184 Watts
    IPMI timestamp:                           Sun May  5 13:06:44 2024
    Sampling period:                          00000001 Seconds.
    Power reading state is:                   activated
"""


def add_hwmon(root: Path, number: int, name: str, files: Mapping[str, object]) -> Path:
    """Add a hwmon device and return its folder."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    for file, content in {"name": name, **files}.items():
        (folder / file).write_text(f"{content}\n")
    return folder


class FakeAmdError(Exception):
    """Stands for `amdsmi.AmdSmiException`."""


@dataclass
class FakeAmdGpu:
    """One AMD GPU. A counter that moves does so by `step` each time it is read; None: not supported."""

    power_w: object = 200
    accumulator: int | None = 1_000_000
    step: int = 1_307_190
    name: str = "AMD Instinct MI300X"
    hip: tuple[int, str] | None = None
    resolution: float = 15.3


@dataclass
class FakeAmd:
    """The part of `amdsmi` that the sensor uses; a handle is the GPU itself."""

    gpus: list[FakeAmdGpu]
    init_error: Exception | None = None
    users: int = 0

    AmdSmiException = FakeAmdError

    def amdsmi_init(self) -> None:
        if self.init_error:
            raise self.init_error
        self.users += 1

    def amdsmi_shut_down(self) -> None:
        self.users -= 1

    def amdsmi_get_processor_handles(self) -> list[FakeAmdGpu]:
        return self.gpus

    def amdsmi_get_gpu_asic_info(self, gpu: FakeAmdGpu) -> dict[str, object]:
        return {"market_name": gpu.name}

    def amdsmi_get_gpu_enumeration_info(self, gpu: FakeAmdGpu) -> dict[str, object]:
        if gpu.hip is None:
            raise FakeAmdError("2 | not supported")
        return {"hip_id": gpu.hip[0], "hip_uuid": gpu.hip[1]}

    def amdsmi_get_power_info(self, gpu: FakeAmdGpu) -> dict[str, object]:
        return {"current_socket_power": "N/A", "average_socket_power": gpu.power_w}

    def amdsmi_get_energy_count(self, gpu: FakeAmdGpu) -> dict[str, object]:
        if gpu.accumulator is None:
            raise FakeAmdError("2 | not supported")
        gpu.accumulator += gpu.step
        return {"energy_accumulator": gpu.accumulator, "counter_resolution": gpu.resolution, "timestamp": 1}


@dataclass
class FakeApple:
    """`zeus_apple_silicon`: each call counts 1000 mJ more of all that the chip tells; None: it does not."""

    told: dict[str, int | None]
    error: Exception | None = None

    def AppleEnergyMonitor(self) -> FakeApple:  # noqa: N802 - the name is the library's
        return self

    def get_cumulative_energy(self) -> object:
        if self.error:
            raise self.error
        self.told = {name: None if value is None else value + 1000 for name, value in self.told.items()}
        return SimpleNamespace(**self.told)
