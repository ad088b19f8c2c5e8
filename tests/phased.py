"""A training whose energy of each phase is known: marks, power that lags behind them, and a meter that is read."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from mlflow_carbon.core.recording import Recording
from mlflow_carbon.core.series import Tick
from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.session.phase_clock import PhaseClock
from mlflow_carbon.testing import FakeSensor, Meter, VirtualClock, fake_channel

POWERS_W = {"data": 90.0, "forward": 250.0, "backward": 320.0, "update": 200.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A phase of so long with so much power."""

    phase: str
    duration_s: float
    power_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lagging:
    """The power of stays, `lag_s` behind them: a `Truth` for the meters of the oracle."""

    stays: tuple[Stay, ...]
    lag_s: float = 0.0
    ends_s: list[float] = field(init=False)
    energies_j: list[float] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "ends_s", list(accumulate(s.duration_s for s in self.stays)))
        energies = accumulate((s.duration_s * s.power_w for s in self.stays), initial=0.0)
        object.__setattr__(self, "energies_j", list(energies))

    def power_w(self, t_s: float) -> float:
        """Power at a time; before the first stay and after the last, theirs."""
        at = bisect_right(self.ends_s, t_s - self.lag_s)
        return self.stays[min(at, len(self.stays) - 1)].power_w

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy between two times."""
        return self._upto_j(end_s) - self._upto_j(start_s)

    def _upto_j(self, t_s: float) -> float:
        t_s -= self.lag_s
        if t_s <= 0:
            return t_s * self.stays[0].power_w
        at = bisect_right(self.ends_s, t_s)
        if at == len(self.stays):
            return self.energies_j[-1] + (t_s - self.ends_s[-1]) * self.stays[-1].power_w
        begin_s = self.ends_s[at - 1] if at else 0.0
        return self.energies_j[at] + (t_s - begin_s) * self.stays[at].power_w


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training and how it is metered.

    Attributes:
        step_s: Length of a step.
        ratios: What its four phases take of it.
        duration_s: Length of the training.
        period_s: Time between readings.
        refresh_s: The counter shows a new value so often; 0: always.
        lag_s: How far its power is behind the marks.
        noise_ratio: Standard deviation of the power of a stay around its phase's.
        jitter_ratio: Standard deviation of the length of a stay.
        drift_ratio: How much the power rises from beginning to end.
        late_s: Readings are late by up to this.
        seed: Of all that.
    """

    step_s: float
    ratios: tuple[float, float, float, float] = (0.2, 0.3, 0.35, 0.15)
    duration_s: float = 600.0
    period_s: float = 1.0
    refresh_s: float = 0.0
    lag_s: float = 0.0
    noise_ratio: float = 0.0
    jitter_ratio: float = 0.02
    drift_ratio: float = 0.0
    late_s: float = 0.01
    seed: int = 0

    def stays(self) -> tuple[Stay, ...]:
        """What the program does."""
        random = Random(self.seed)
        lengths = dict(zip(POWERS_W, self.ratios, strict=True))
        found, now_s = [], 0.0
        while now_s < self.duration_s:
            for phase, ratio in lengths.items():
                length_s = self.step_s * ratio * max(0.2, random.gauss(1, self.jitter_ratio))
                power_w = POWERS_W[phase] * (1 + self.drift_ratio * now_s / self.duration_s)
                power_w *= max(0.1, random.gauss(1, self.noise_ratio))
                found.append(Stay(phase=phase, duration_s=length_s, power_w=power_w))
                now_s += length_s
        return tuple(found)


def measure(training: Training):
    """The recording of a training, and the true energy of each phase in joules."""
    stays = training.stays()
    clock, marks = VirtualClock(latency_ns=0), VirtualClock(latency_ns=0)
    meter = Meter(truth=Lagging(stays=stays, lag_s=training.lag_s), refresh_s=training.refresh_s)
    sensor = FakeSensor({fake_channel(): meter}, clock=clock)
    phases = PhaseClock(marks.monotonic_ns)
    start_ns = clock.monotonic_ns()
    recording = Recording(sensor.channels, start_ns=start_ns, wall_offset_ns=0, period_s=training.period_s)
    random = Random(f"readings {training.seed}")
    times_s = iter(_readings_s(training, random))
    next_s, now_s = next(times_s), 0.0

    def read(at_s):
        clock.advance(start_ns / NS_PER_S + at_s - clock.monotonic_ns() / NS_PER_S)
        now_ns = clock.monotonic_ns()
        tick = Tick(
            seq=recording.ticks, t_mono_ns=now_ns, t_wall_ns=now_ns, samples=tuple(sensor.read(clock))
        )
        recording.add(tick, phases.since_last(now_ns), tail=phases.tail(now_ns))

    end_s = 0.0
    for stay in stays:
        phases.enter(stay.phase)
        now_s += stay.duration_s
        while next_s is not None and next_s <= now_s:
            read(next_s)
            end_s, next_s = next_s, next(times_s, None)
        marks.advance(stay.duration_s)
        phases.leave()
        if next_s is None:
            break
    recording.count_entries(phases.entries())
    return recording, _true_j(stays, end_s)


def _readings_s(training: Training, random: Random):
    number = int(training.duration_s / training.period_s)
    yield 0.0
    for beat in range(1, number):
        yield beat * training.period_s + training.late_s * random.random() ** 4


def _true_j(stays, end_s):
    energies = dict.fromkeys(POWERS_W, 0.0)
    now_s = 0.0
    for stay in stays:
        energies[stay.phase] += stay.power_w * max(0.0, min(stay.duration_s, end_s - now_s))
        now_s += stay.duration_s
    return energies
