"""Judges a sensor: reads it over a known waveform, integrates with the real core, compares with the truth.

`drive` tells how far off the energy is and whether the stated range covers the truth. `check_sensor`
adds what every sensor promises, and raises `AssertionError` with all that does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot, account
from mlflow_carbon.core.recording import Recording
from mlflow_carbon.core.rules import judge
from mlflow_carbon.core.series import Case, Channel, Component, EnergySeries, Sample, Tick
from mlflow_carbon.core.units import J_PER_KWH, NS_PER_S, UJ_PER_J
from mlflow_carbon.sampler import read
from mlflow_carbon.sensors import Discovery, findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlflow_carbon.sensors.contract import Sensor
    from mlflow_carbon.testing.clock import MovableClock
    from mlflow_carbon.testing.waveform import Truth

__all__ = ["Outcome", "Plan", "Reckoning", "drive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often and how long a sensor is read.

    Attributes:
        duration_s: Length of the span.
        period_s: Time between beats.
        late_ratio: A reading is late for its beat by up to this share of a period, as a thread wakes on a
            busy machine: the median at 6 % of this, p99 at 96 %. The beats stay where they are.
        dither_ratio: Each period is longer or shorter by up to this share of it, on purpose.
        seed: Of both.
        before_s: How long after t = 0 s of the waveforms the span begins, where the clock stands there.
    """

    duration_s: float = 120.0
    period_s: float = 1.0
    late_ratio: float = 0.0
    dither_ratio: float = 0.0
    seed: int = 0
    before_s: float = 0.0

    def pauses_s(self) -> Iterator[float]:
        """Time from reading to reading; together `duration_s`."""
        random = Random(self.seed)  # noqa: S311 - jitter, no secret
        now_s = beat_s = 0.0
        while True:
            beat_s += self.period_s * (1 + self.dither_ratio * random.uniform(-1, 1))
            read_s = max(now_s, beat_s + self.late_ratio * self.period_s * random.random() ** 4)
            if read_s > self.duration_s - self.period_s / 1000:  # a remainder of nanoseconds is no period
                break
            yield read_s - now_s
            now_s = read_s
        yield self.duration_s - now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """Energy of one channel, or of all parts, beside the truth.

    Attributes:
        true_j: Energy of the waveform.
        measured_j: What the core made of the readings.
        low_j: Lower end of the stated 95 % range.
        high_j: Upper end.
        coverage_ratio: Share of the span with data, worst channel.
        cases: How many intervals of each case.
        errors: How many reads failed.
    """

    true_j: float
    measured_j: float
    low_j: float
    high_j: float
    coverage_ratio: float
    cases: Mapping[Case, int]
    errors: int

    @property
    def error_ratio(self) -> float:
        """Measured over true, minus 1."""
        return self.measured_j / self.true_j - 1 if self.true_j else float(self.measured_j > 0)

    @property
    def covers(self) -> bool:
        """Whether the stated range holds the truth."""
        return self.low_j <= self.true_j <= self.high_j

    @property
    def half_width_ratio(self) -> float:
        """Half the stated range over the measured energy."""
        return (self.high_j - self.low_j) / 2 / self.measured_j if self.measured_j else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a drive.

    Attributes:
        total: All parts; whole-machine meters are none.
        channels: Each channel that has a truth, by id.
        samples: All readings in order.
        series: What the core made of them.
        findings: What the verdict of a run would say of them; empty: all is well.
    """

    total: Reckoning
    channels: Mapping[str, Reckoning]
    samples: tuple[Sample, ...]
    series: EnergySeries
    findings: tuple[str, ...]


def drive(
    reader: Sensor | Discovery,
    truth: Truth | Mapping[str, Truth],
    *,
    clock: MovableClock,
    plan: Plan | None = None,
    before_read: Callable[[float], None] | None = None,
) -> Outcome:
    """Read over a waveform and integrate, as a run does: a reading at the start, on each beat, after the end.

    A sensor that raises has failed to read, all channels of it, as in the sampler.

    Args:
        reader: A sensor, or all that a machine offers.
        truth: The waveform of each channel by its id, or one waveform for every channel.
        clock: Moved by the drive; its origin is t = 0 s of the waveforms.
        plan: How often and how long.
        before_read: Called before each reading with the waveform's time: simulated files are written there.
    """
    plan = plan or Plan()
    sensors, channels = _parts(reader)
    truths = dict(truth) if isinstance(truth, Mapping) else {c.id: truth for c in channels}
    clock.advance(plan.before_s)
    start_ns = clock.monotonic_ns()
    recording = Recording(channels, start_ns=start_ns, wall_offset_ns=clock.wall_ns() - start_ns)
    samples: list[Sample] = []

    def look(end_ns: int | None = None) -> None:
        if before_read is not None:
            before_read((clock.monotonic_ns() - clock.origin_ns) / NS_PER_S)
        now_ns = clock.monotonic_ns()
        taken = tuple(sample for sensor in sensors for sample in read(sensor, clock))
        samples.extend(taken)
        tick = Tick(seq=recording.ticks, t_mono_ns=now_ns, t_wall_ns=clock.wall_ns(), samples=taken)
        recording.add(tick, end_ns=end_ns)

    look()
    for pause_s in plan.pauses_s():
        clock.advance(pause_s)
        look()
    end_ns = clock.monotonic_ns()
    look(end_ns)
    outcome = _outcome(recording, end_ns, truths, clock.origin_ns, tuple(samples))
    return replace(outcome, findings=(*outcome.findings, *findings(sensors)))


def _parts(reader: Sensor | Discovery) -> tuple[Sequence[Sensor], tuple[Channel, ...]]:
    if isinstance(reader, Discovery):
        return reader.sensors, reader.channels
    return (reader,), reader.channels


def _outcome(
    recording: Recording,
    end_ns: int,
    truths: Mapping[str, Truth],
    origin_ns: int,
    samples: tuple[Sample, ...],
) -> Outcome:
    series = recording.series(end_ns)
    start_s, end_s = (recording.start_ns - origin_ns) / NS_PER_S, (end_ns - origin_ns) / NS_PER_S
    true_j = {name: truth.energy_j(start_s, end_s) for name, truth in truths.items()}
    known = [c for c in series.channels if c.id in true_j]
    parts = [c for c in known if c.component is not Component.NODE]
    return Outcome(
        total=_reckon(series, parts, sum(true_j[c.id] for c in parts), recording.errors),
        channels={c.id: _reckon(series, [c], true_j[c.id], recording.errors) for c in known},
        samples=samples,
        series=series,
        findings=judge(series, recording.errors, recording.ticks)[1],
    )


def _reckon(
    series: EnergySeries, channels: Sequence[Channel], true_j: float, errors: Mapping[str, int]
) -> Reckoning:
    ids = {c.id for c in channels}
    # A whole-machine meter is no part of a sum, but here its own figure is what is judged.
    as_parts = tuple(replace(c, component=Component.CPU) for c in channels)
    only = replace(series, channels=as_parts, cells=tuple(c for c in series.cells if c.channel in ids))
    stated = account(only, _ANY_GRID)
    cases: dict[Case, int] = {}
    for name in ids:
        for case, count in series.cases.get(name, {}).items():
            cases[case] = cases.get(case, 0) + count
    return Reckoning(
        true_j=true_j,
        measured_j=only.energy_uj() / UJ_PER_J,
        low_j=(stated.energy_low_kwh or 0.0) * J_PER_KWH,
        high_j=(stated.energy_high_kwh or 0.0) * J_PER_KWH,
        coverage_ratio=stated.coverage_ratio or 0.0,
        cases=cases,
        errors=sum(errors.get(name, 0) for name in ids),
    )


# `account` states the range of the energy; the grid plays no part in it.
_ANY_GRID = IntensitySeries(
    zone="XX",
    provider="none",
    static=IntensitySlot(
        start_s=0,
        end_s=2**40,
        gco2e_per_kwh=1.0,
        low_gco2e_per_kwh=1.0,
        high_gco2e_per_kwh=1.0,
        kind="static",
    ),
    static_provider="none",
)
