"""Fakes for the seams: a clock, sensors, a sink and surroundings that tests can steer."""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample
from mlflow_carbon.errors import StoreError
from mlflow_carbon.sampler import SystemClock
from mlflow_carbon.sensors import Absence, Discovery
from mlflow_carbon.session.publish import Costing
from mlflow_carbon.session.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mlflow_carbon.sensors import Clock, Sensor
    from mlflow_carbon.store import Point

FOREVER_S = 2**40


def channel(**changes: Any) -> Channel:
    """A measured CPU counter, changed as wanted."""
    values: dict[str, Any] = {
        "id": "fake:cpu",
        "sensor": "fake",
        "device": "fake package",
        "component": Component.CPU,
        "kind": Kind.COUNTER,
        "basis": Basis.MEASURED,
        "quality": Quality.L3,
        "low_ratio": 0.95,
        "high_ratio": 1.05,
    }
    return Channel(**(values | changes))


def static(value: float = 200.0, *, low: float = 0.8, high: float = 1.2) -> IntensitySlot:
    """A static intensity with a range around it."""
    return IntensitySlot(
        start_s=0,
        end_s=FOREVER_S,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value * low,
        high_gco2e_per_kwh=value * high,
        kind="static",
    )


def intensity(value: float = 200.0, slots: Iterable[IntensitySlot] = ()) -> IntensitySeries:
    """The intensity of zone XX."""
    return IntensitySeries(
        zone="XX", provider="fake", static=static(value), static_provider="fake", slots=tuple(slots)
    )


def costing(value: float = 200.0) -> Costing:
    """A costing without PUE."""
    return Costing(intensity=intensity(value), pue_ratio=1.0, pue_source="default", zone_source="argument")


@dataclass
class VirtualClock:
    """A clock that moves when told."""

    now_ns: int = 1_000_000_000_000
    wall_offset_ns: int = 1_700_000_000 * 10**9

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self.wall_offset_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@dataclass
class ConstantPower:
    """A sensor whose energy counter grows with the clock at a constant power."""

    power_w: float = 100.0
    error: Exception | None = None
    channels: tuple[Channel, ...] = field(default_factory=lambda: (channel(),))

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        if self.error is not None:
            raise self.error
        now_ns = clock.monotonic_ns()
        return tuple(
            Sample(channel=c.id, t_mono_ns=now_ns, energy_uj=round(self.power_w * now_ns / 1000))
            for c in self.channels
        )

    def close(self) -> None:
        pass


class MemorySink:
    """A sink that keeps everything; `down` makes it refuse."""

    def __init__(self) -> None:
        self.down = False
        self.hang = threading.Event()
        self.hang.set()
        self.points: list[Point] = []
        self.tags: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.notes: list[str] = []
        self.status: str | None = None

    def _ask(self) -> None:
        self.hang.wait(30)
        if self.down:
            raise StoreError("the fake store is down")

    def write_points(self, points: Iterable[Point]) -> None:
        self._ask()
        self.points.extend(points)

    def write_tags(self, tags: Mapping[str, str]) -> None:
        self._ask()
        self.tags.update(tags)

    def write_file(self, name: str, content: bytes | Iterable[bytes]) -> None:
        self._ask()
        self.files[name] = content if isinstance(content, bytes) else b"".join(content)

    def write_note(self, block: str) -> None:
        self._ask()
        self.notes.append(block)

    def read_metrics(self) -> dict[str, float]:
        self._ask()
        return self.last()

    def read_last_step(self, key: str) -> int:
        self._ask()
        return max((p.step for p in self.points if p.key == key), default=-1)

    def read_file(self, name: str) -> bytes | None:
        self._ask()
        return self.files.get(name)

    def list_files(self, folder: str = "") -> dict[str, int]:
        self._ask()
        places = {PurePosixPath(name): len(content) for name, content in self.files.items()}
        return {place.name: size for place, size in places.items() if place.parent == PurePosixPath(folder)}

    def end(self, status: str, t_ms: int | None = None) -> None:
        self._ask()
        self.status = status

    def last(self) -> dict[str, float]:
        """The latest value of each key, as MLflow shows it: highest step wins, then latest."""
        found: dict[str, Point] = {}
        for point in self.points:
            if point.key not in found or point.step >= found[point.key].step:
                found[point.key] = point
        return {key: point.value for key, point in found.items()}


def surroundings(
    folder: Path,
    sensors: Iterable[Sensor] = (),
    *,
    recover: Callable[[str], None] = lambda _run_id: None,
) -> Surroundings:
    """Surroundings with the given sensors, a fixed intensity and a tiny environment."""
    sensors = tuple(sensors)
    return Surroundings(
        discover=lambda: Discovery(
            sensors=sensors,
            absences=(Absence(sensor="nvml", reason="no GPU in this test", remedy="none"),),
            channels=tuple(c for s in sensors for c in s.channels),
        ),
        costing=lambda _settings, _start_s, _end_s: costing(),
        environment=lambda _settings: ({"carbon.host.kernel": "fake"}, {"kernel": "fake"}),
        recover=recover,
        folder=folder,
        host=platform.node() or "host",
        clock=SystemClock(),
    )
