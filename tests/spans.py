"""A measured span whose every moment is made by hand: no threads, no waiting, the same each time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_carbon.journal import Journal
from mlflow_carbon.sampler import Sampler
from mlflow_carbon.sensors import Discovery
from mlflow_carbon.session.live import RunSpec, Session
from mlflow_carbon.session.publisher import Publisher
from mlflow_carbon.session.usage import Usage
from mlflow_carbon.settings import Settings
from mlflow_carbon.worker import Worker
from tests.fakes import ConstantPower, VirtualClock, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow_carbon.core.series import EnergySeries
    from mlflow_carbon.sensors import Sensor
    from mlflow_carbon.session.delivery import Sink


class Jobs(Worker):
    """A worker whose jobs run when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Callable[[], object], float]] = []

    def submit(self, job: Callable[[], object], *, delay_s: float = 0.0) -> None:
        self.waiting.append((job, delay_s))

    def run(self) -> float:
        """Run the oldest job; how long it asked to wait."""
        job, delay_s = self.waiting.pop(0)
        job()
        return delay_s


class Span:
    """A session with a virtual clock, at 100 W unless other sensors are given."""

    def __init__(
        self,
        folder: Path,
        *sensors: Sensor,
        spec: RunSpec | None = None,
        clock: VirtualClock | None = None,
        detail: bool = False,
        grid: str = "annual",
    ) -> None:
        self.folder = folder
        self.clock = clock or VirtualClock()
        self.sensors: tuple[Any, ...] = sensors or (ConstantPower(),)
        self.discovery = Discovery(
            sensors=self.sensors, absences=(), channels=tuple(c for s in self.sensors for c in s.channels)
        )
        self.session = Session(
            spec or RunSpec(run_id="run1", tracking_uri="fake://store"),
            Settings(period_s=1.0, detail=detail, grid=grid),
            journal=Journal(folder, "run1", host="here"),
            clock=self.clock,
            cpu_times=lambda: Usage(process_s=self.clock.now_ns / 2e9, own_s=0, machine_s=self.clock.now_ns / 1e9),
        )  # fmt: skip
        # For its way of reading sensors; its thread is never started.
        self.sampler = Sampler(discover=lambda: self.discovery, period_s=1.0, clock=self.clock)
        self.session.start()

    def tick(self, after_s: float = 1.0, facts: dict[str, float] | None = None) -> None:
        """Read all sensors so much later, with what stands beside power."""
        self.clock.advance(after_s)
        tick = replace(self.sampler._tick(self.sensors), facts=facts)
        self.session.on_tick(tick, self.discovery)

    def stop(self, status: str = "FINISHED") -> None:
        """End the span now, with its last reading a moment later."""
        self.session.stop(status)
        self.tick(0.01)

    def kill(self) -> Path:
        """What a killed process leaves behind: its journal, without a lock."""
        self.session.journal.close()
        assert self.session.journal.path is not None
        return self.session.journal.path

    def series(self) -> EnergySeries:
        """Energy so far."""
        series = self.session.series()
        assert series is not None
        return series

    def publisher(self, sink: Sink | None, jobs: Worker | None = None, **changes: Any) -> Publisher:
        """Who stores it, with surroundings changed as wanted."""
        around = replace(surroundings(self.folder, self.sensors), **changes)
        return Publisher(self.session, sink, surroundings=around, worker=jobs or Jobs())
