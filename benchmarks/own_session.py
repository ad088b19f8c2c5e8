"""What a measured run takes as it goes on: memory over hours, and CPU of a reading, of a `Session` in virtual time."""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Kind, Tick
from mlflow_carbon.journal import Journal
from mlflow_carbon.sensors import Discovery
from mlflow_carbon.session.live import RunSpec, Session, Usage
from mlflow_carbon.settings import Settings
from mlflow_carbon.testing import FakeSensor, Meter, VirtualClock, fake_channel, training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_carbon.sensors import Sensor
    from mlflow_carbon.testing import MovableClock

FLUSH_S = 5
HOUR_S = 3600


def memory_growth(hours: int) -> dict[str, float]:
    """Megabytes that are held after the first minutes, and what each hour at 1 Hz adds."""
    with tempfile.TemporaryDirectory() as folder:
        clock = VirtualClock()
        meters = {
            fake_channel(str(i), kind=kind): Meter(truth=training())
            for i, kind in enumerate((Kind.COUNTER, Kind.GAUGE, Kind.COUNTER))
        }
        sensor = FakeSensor(meters, clock=clock)
        discovery = Discovery(sensors=(sensor,), absences=(), channels=sensor.channels)
        journal = Journal(Path(folder), "run", host="host")
        usage = Usage(process_s=0.0, own_s=0.0, machine_s=0.0)
        session = Session(
            RunSpec(run_id="run"), Settings(), journal=journal, clock=clock, cpu_times=lambda: usage
        )
        session.start()
        tracemalloc.start()
        held = []
        for second in range(600 + hours * HOUR_S):
            if second == 600 or (second > 600 and (second - 600) % HOUR_S == 0):
                held.append(_held_mb())
            clock.advance(1.0)
            for phase in ("data", "forward", "backward"):
                session.phases.enter(phase)
                session.phases.leave()
            tick = Tick(
                seq=second,
                t_mono_ns=clock.monotonic_ns(),
                t_wall_ns=clock.wall_ns(),
                samples=sensor.read(clock),
            )
            session.on_tick(tick, discovery)
            if second % FLUSH_S == 0:
                session.mark(second)
                session.take()
        held.append(_held_mb())
        tracemalloc.stop()
        journal.close()
    return {"after_10_min_mb": held[0], "mb_per_hour": (held[-1] - held[0]) / hours}


def reading_ms(sensors: Sequence[Sensor], clock: MovableClock, number: int) -> list[float]:
    """CPU milliseconds of each of many passes over sensors with all bookkeeping, one after the other."""
    channels = tuple(channel for sensor in sensors for channel in sensor.channels)
    discovery = Discovery(sensors=tuple(sensors), absences=(), channels=channels)
    usage = Usage(process_s=0.0, own_s=0.0, machine_s=0.0)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), "run", host="host")
        spec = RunSpec(run_id="run")
        session = Session(spec, Settings(), journal=journal, clock=clock, cpu_times=lambda: usage)
        session.start()
        for seq in range(number):
            clock.advance(0.1)
            begin_ns = time.thread_time_ns()
            samples = tuple(sample for sensor in sensors for sample in sensor.read(clock))
            tick = Tick(seq=seq, t_mono_ns=clock.monotonic_ns(), t_wall_ns=clock.wall_ns(), samples=samples)
            session.on_tick(tick, discovery)
            found.append((time.thread_time_ns() - begin_ns) / 1e6)
        journal.close()
    return found


def _held_mb() -> float:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1e6
