"""What a submission meets, played: a clock, a grid by the hour, MLflow's runs in memory and a training."""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.errors import StoreError
from mlflow_carbon.scheduling.progress import Display
from mlflow_carbon.scheduling.submission import World
from mlflow_carbon.store import Point
from tests.fakes import intensity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.scheduling.config import Target
    from mlflow_carbon.scheduling.state import Seat
    from mlflow_carbon.settings import Settings

HOUR = 3600
SLOT = 1_772_452_800
NOW = SLOT + 600  # ten minutes into an hour


class Clock:
    """Time passes only in sleep and in trainings; `events` are called at or after a wall time."""

    def __init__(self, wall_s: float = NOW) -> None:
        self.wall = wall_s
        self.mono = 100.0
        self.events: list[tuple[float, Callable[[], None]]] = []

    def monotonic_s(self) -> float:
        return self.mono

    def wall_s(self) -> float:
        return self.wall

    def sleep(self, seconds: float) -> None:
        # A second at a time is slow to play; nothing is due in between but the events.
        self.go(seconds)

    def go(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds
        due = [event for at_s, event in self.events if at_s <= self.wall]
        self.events = [(at_s, event) for at_s, event in self.events if at_s > self.wall]
        for event in due:
            event()


class Grids:
    """Hours from SLOT on by zone; actuals for what is over, forecasts for what comes; static where unknown."""

    def __init__(self, clock: Clock, **zones: tuple[float, ...]) -> None:
        self.clock = clock
        self.zones = zones
        self.broken: Exception | bool = False
        self.note = ""
        self.signal = "average"

    def __call__(self, given: Settings, start_s: float, end_s: float, now_s: float) -> IntensitySeries:
        if self.broken:
            raise self.broken if isinstance(self.broken, Exception) else RuntimeError("no such table")
        values = self.zones.get(given.zone or "", ())
        slots = [
            IntensitySlot(
                start_s=SLOT + i * HOUR,
                end_s=SLOT + (i + 1) * HOUR,
                gco2e_per_kwh=value,
                low_gco2e_per_kwh=value,
                high_gco2e_per_kwh=value,
                kind="actual" if SLOT + (i + 1) * HOUR <= now_s else "forecast",
            )
            for i, value in enumerate(values)
        ]
        found = replace(intensity(300, slots), zone=given.zone or "GB", note=self.note)
        return replace(found, signal=self.signal)


@dataclass
class Run:
    """One MLflow run in memory, which notes every status it had."""

    status: str = "RUNNING"
    ended_s: float | None = None
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: list[str] = field(default_factory=list)
    is_away: bool = False
    told: threading.Event = field(default_factory=threading.Event)

    def standing(self) -> tuple[str, float | None] | None:
        self._reached()
        return self.status, self.ended_s

    def set_status(self, status: str) -> None:
        self._reached()
        self.status = status
        self.statuses.append(status)

    def end(self, status: str, t_ms: int | None = None) -> None:
        self._reached()
        if self.status in {"RUNNING", "SCHEDULED"}:
            self.set_status(status)

    def write_tags(self, tags: Mapping[str, str]) -> None:
        self._reached()
        self.tags |= tags
        self.told.set()

    def write_points(self, points: Any) -> None:
        self._reached()
        self.metrics |= {p.key: p.value for p in points if isinstance(p, Point)}

    def write_file(self, name: str, content: bytes) -> None:
        self._reached()
        self.files[name] = content

    def read_metrics(self) -> dict[str, float]:
        self._reached()
        return self.metrics

    def _reached(self) -> None:
        if self.is_away:
            raise StoreError("the server is away")


class Gone(Run):
    """A run that somebody has deleted."""

    def standing(self) -> tuple[str, float | None] | None:
        return None


@dataclass
class Child:
    """A training of an hour that ends as it is told."""

    run_id: str
    clock: Clock
    succeeds: bool = True
    raises: type[BaseException] | None = None
    cancelled: bool = False

    def wait(self) -> bool:
        self.clock.go(HOUR)
        if self.raises is not None:
            raise self.raises
        return self.succeeds

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Around:
    footprint: RunFootprint | None = None


@dataclass
class Project:
    """A project whose trainings are noted; what happens in one is set before."""

    clock: Clock
    runs: dict[str, Run] = field(default_factory=dict)
    launched: list[tuple[str, Target, dict[str, str]]] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    version: str = ""
    succeeds: bool = True
    raises: type[BaseException] | None = None
    refuses: Exception | None = None
    child_run_id: str = ""
    living: list[int] = field(default_factory=list)
    footprint: RunFootprint | None = None
    own_kwh: float | None = None
    own_pue: float = 1.0
    published: list[str] = field(default_factory=list)

    def pin(self, version: str) -> None:
        self.version = version

    def create(self) -> str:
        run_id = f"run{len(self.runs) + 1}"
        self.runs[run_id] = Run()
        return run_id

    def run(self, run_id: str) -> Run:
        return self.runs.setdefault(run_id, Gone())

    def launch(self, run_id: str, target: Target, settings: Mapping[str, str]) -> Child:
        self.launched.append((run_id, target, dict(settings)))
        if self.refuses is not None:
            raise self.refuses
        if self.own_kwh is not None:
            self.runs[run_id].metrics |= {
                "carbon/energy_kwh": self.own_kwh,
                "carbon/pue_ratio": self.own_pue,
            }
        child = Child(self.child_run_id or run_id, self.clock, self.succeeds, self.raises)
        self.children.append(child)
        return child

    def trainers(self, run_id: str) -> list[int]:
        return self.living

    @contextmanager
    def measure(self, run_id: str, target: Target, settings: Mapping[str, str]) -> Iterator[Around]:
        yield Around(self.footprint if target.backend == "local" else None)

    def publish(self, run_id: str, footprint: RunFootprint) -> None:
        self.published.append(run_id)


@dataclass
class Stage:
    """All of it together, with the folder of the states."""

    clock: Clock
    grids: Grids
    project: Project
    screen: io.StringIO = field(default_factory=io.StringIO)

    def world(self, seat: Seat, host: str = "here") -> World:
        return World(
            project=self.project,
            look=self.grids,
            clock=self.clock,
            display=Display(self.screen),
            seat=seat,
            host=host,
            pid=7,
        )


def stage(wall_s: float = NOW, **zones: tuple[float, ...]) -> Stage:
    """A stage with grids by zone."""
    clock = Clock(wall_s)
    return Stage(clock=clock, grids=Grids(clock, **zones), project=Project(clock))
