"""A sensor of pure Python that follows a waveform: for everything that needs no real binding."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample
from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.sensors.contract import Values, take
from mlflow_carbon.testing.meter import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_carbon.sensors.contract import Clock
    from mlflow_carbon.testing.clock import MovableClock
    from mlflow_carbon.testing.meter import Meter

__all__ = ["FakeSensor", "fake_channel"]

_LEVELS = {Kind.COUNTER: Quality.L3, Kind.GAUGE: Quality.L2, Kind.MEAN: Quality.L2}


def fake_channel(
    name: str = "0", *, kind: Kind = Kind.COUNTER, component: Component = Component.GPU
) -> Channel:
    """A measured channel with the id `fake:<name>`, a range of 5 % and a ceiling of 2 kW."""
    return Channel(
        id=f"fake:{name}",
        sensor="fake",
        device=f"fake device {name}",
        component=component,
        kind=kind,
        basis=Basis.MEASURED,
        quality=_LEVELS[kind],
        low_ratio=0.95,
        high_ratio=1.05,
        power_max_w=2000.0,
        source="simulated waveform",
    )


class FakeSensor:
    """Reads simulated meters.

    Args:
        meters: A meter for each channel. The range of a counter is taken over into its channel.
        clock: The clock whose origin is t = 0 s of the waveforms; a hang moves it.
    """

    def __init__(self, meters: Mapping[Channel, Meter], *, clock: MovableClock) -> None:
        self._meters = {
            channel.id: (replace(channel, range_uj=meter.range_uj), meter)
            for channel, meter in meters.items()
        }
        self._clock = clock
        self._last_ns: dict[str, int] = {}
        self.is_closed = False

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What it reads."""
        return tuple(channel for channel, _meter in self._meters.values())

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One reading per channel."""
        return tuple(
            take(channel.id, clock, partial(self._values, channel, meter, clock), errors=(OSError,))
            for channel, meter in self._meters.values()
        )

    def close(self) -> None:
        """Nothing to release; remembers that it was asked to."""
        self.is_closed = True

    def _values(self, channel: Channel, meter: Meter, clock: Clock) -> Values:
        if hang := meter.fault(FaultKind.HANG, self._t_s(clock)):
            self._clock.advance(hang.value)
        now_ns = clock.monotonic_ns()
        t_s = (now_ns - self._clock.origin_ns) / NS_PER_S
        if meter.fault(FaultKind.ERROR, t_s):
            raise OSError(f"simulated failure of {channel.id}")
        if wrong := meter.fault(FaultKind.VALUE, t_s):
            value = int(wrong.value)
            return Values(energy_uj=value) if channel.kind is Kind.COUNTER else Values(power_mw=value)
        if channel.kind is Kind.COUNTER:
            return Values(energy_uj=meter.counter_uj(t_s))
        if channel.kind is Kind.GAUGE:
            return Values(power_mw=meter.power_mw(t_s))
        return self._mean(channel, meter, now_ns)

    def _mean(self, channel: Channel, meter: Meter, now_ns: int) -> Values:
        """Mean power since the last reading, as the models report it; none at the first."""
        last_ns = self._last_ns.get(channel.id)
        self._last_ns[channel.id] = now_ns
        if last_ns is None or last_ns == now_ns:
            return Values()
        origin_ns = self._clock.origin_ns
        start_s, end_s = (last_ns - origin_ns) / NS_PER_S, (now_ns - origin_ns) / NS_PER_S
        return Values(power_mw=round(1000 * meter.truth.energy_j(start_s, end_s) / (end_s - start_s)))

    def _t_s(self, clock: Clock) -> float:
        return (clock.monotonic_ns() - self._clock.origin_ns) / NS_PER_S
