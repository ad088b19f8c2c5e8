"""What every sensor promises, checked on one sensor with no knowledge of what is inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Basis, Kind, Quality
from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.testing.oracle import Plan, drive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_carbon.core.series import Channel, Sample
    from mlflow_carbon.sensors.contract import Sensor
    from mlflow_carbon.testing.clock import MovableClock
    from mlflow_carbon.testing.oracle import Outcome
    from mlflow_carbon.testing.waveform import Truth

__all__ = ["breaches", "check_sensor"]

_VALUE_OF = {Kind.COUNTER: "energy_uj", Kind.GAUGE: "power_mw", Kind.MEAN: "power_mw"}


def check_sensor(
    sensor: Sensor,
    truth: Truth | Mapping[str, Truth],
    *,
    clock: MovableClock,
    plan: Plan | None = None,
    tolerance_ratio: float = 0.01,
    before_read: Callable[[float], None] | None = None,
) -> Outcome:
    """Check a sensor against its promises and a waveform; closes it.

    Args:
        sensor: What is judged. It reads something that follows the waveform and the clock.
        truth: The waveform of each channel by its id, or one waveform for every channel.
        clock: The clock of both.
        plan: How often and how long it is read.
        tolerance_ratio: How far the energy of a channel may be off.
        before_read: See `drive`.

    Returns:
        The outcome of the drive, for further questions.

    Raises:
        AssertionError: With everything that does not hold, one line each.
    """
    if before_read is not None:
        before_read((clock.monotonic_ns() - clock.origin_ns) / NS_PER_S)
    found = list(breaches(sensor, clock))
    outcome = drive(sensor, truth, clock=clock, plan=plan, before_read=before_read)
    for name, reckoning in outcome.channels.items():
        if abs(reckoning.error_ratio) > tolerance_ratio:
            found.append(
                f"{name}: expected {reckoning.true_j:.3f} J within {tolerance_ratio:.3%}, "
                f"got {reckoning.measured_j:.3f} J ({reckoning.error_ratio:+.3%})"
            )
        if not reckoning.covers:
            found.append(
                f"{name}: the stated range {reckoning.low_j:.3f} to {reckoning.high_j:.3f} J "
                f"does not hold the true {reckoning.true_j:.3f} J"
            )
    found += _close_twice(sensor)
    if found:
        raise AssertionError("\n".join(found))
    return outcome


def breaches(sensor: Sensor, clock: MovableClock) -> tuple[str, ...]:
    """Which promises a sensor breaks in its channels and in two readings; nothing is closed."""
    channels = sensor.channels
    found = [*_channels(channels)]
    for _ in range(2):
        before_ns = clock.monotonic_ns()
        try:
            samples = tuple(sensor.read(clock))
        except Exception as error:  # noqa: BLE001 - that it raises at all is the finding
            found.append(f"read raised {type(error).__name__}: {error}; expected samples with `error`")
            break
        found += _samples(channels, samples, (before_ns, clock.monotonic_ns()))
        clock.advance(0.01)
    if sensor.channels != channels:
        found.append("channels changed; expected the same as long as the sensor lives")
    return tuple(dict.fromkeys(found))


def _channels(channels: tuple[Channel, ...]) -> Iterator[str]:
    if not channels:
        yield "no channels; a probe that finds nothing returns an Absence and no sensor"
    if len({c.id for c in channels}) < len(channels):
        yield f"channel ids repeat: {[c.id for c in channels]}"
    for channel in channels:
        if not channel.id.startswith(f"{channel.sensor}:"):
            yield f"{channel.id}: expected an id that begins with {channel.sensor!r} and a colon"
        if not (channel.device and channel.source):
            got = f"{channel.device!r} and {channel.source!r}"
            yield f"{channel.id}: expected a device and a source in words, got {got}"
        if (channel.quality is Quality.L0) != (channel.basis is Basis.MODELLED):
            yield f"{channel.id}: level L0 and basis `modelled` belong together, got {channel.quality!r}"
        if channel.low_ratio == channel.high_ratio:
            yield f"{channel.id}: expected a range; no meter is exact"


def _samples(
    channels: tuple[Channel, ...], samples: tuple[Sample, ...], between_ns: tuple[int, int]
) -> Iterator[str]:
    """A slow meter may have nothing new, a buffer several readings, a baseline one that is older."""
    by_id = {channel.id: channel for channel in channels}
    latest_ns: dict[str, int] = {}
    for sample in samples:
        channel = by_id.get(sample.channel)
        if channel is None:
            yield f"expected samples of {list(by_id)}, got one of {sample.channel!r}"
            continue
        if sample.t_mono_ns > between_ns[1]:
            yield f"{channel.id}: the reading has a time after the read, by the clock that was given"
        if sample.t_mono_ns <= latest_ns.get(channel.id, -1):
            yield f"{channel.id}: its readings are not in order of time"
        latest_ns[channel.id] = sample.t_mono_ns
        values = {v for v in ("energy_uj", "power_mw") if getattr(sample, v) is not None}
        wanted = {_VALUE_OF[channel.kind]}
        if sample.error is not None:
            yield f"{channel.id}: the read failed: {sample.error}"
        elif values != wanted and not (channel.kind is Kind.MEAN and not values):
            yield f"{channel.id}: a {channel.kind} has {wanted}, got {values or 'no value'}"


def _close_twice(sensor: Sensor) -> Iterator[str]:
    try:
        sensor.close()
        sensor.close()
    except Exception as error:  # noqa: BLE001 - that it raises at all is the finding
        yield f"close, called twice, raised {type(error).__name__}: {error}"
