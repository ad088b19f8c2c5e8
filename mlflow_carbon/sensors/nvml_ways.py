"""The ways to read an NVIDIA GPU, best first; which one works is found by calling, not by architecture.

1. The energy counter (mJ, refreshed every 20 to 100 ms; absent on Pascal and on virtual GPUs).
2. Power by name, fields 186 (instantaneous) and 185 (mean of 1 s): `nvmlDeviceGetPowerUsage` is the one or
   the other, depending on the architecture. Below 2 Hz the mean comes first, since it sees all of the time.
3. The driver's buffer of power samples with their times.
4. `nvmlDeviceGetPowerUsage`, whatever it means.

No GPU draws nothing: a power of 0 mW is a driver that does not know, and a failed read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_carbon.core.series import Kind, Quality, Sample
from mlflow_carbon.sensors.contract import Values, explain, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_carbon.sensors.contract import Clock

__all__ = ["Aspect", "Way", "answers", "ask", "best_way"]

_INSTANT, _AVERAGE = 186, 185  # NVML_FI_DEV_POWER_INSTANT and _AVERAGE; old bindings lack the names
_TOTAL_POWER_SAMPLES = 0  # NVML_TOTAL_POWER_SAMPLES
_MEAN_FROM_S = 0.5  # with readings this far apart the mean of 1 s misses less than an instantaneous value
_TEN_HZ_S = 0.1

Share = tuple[int, int]


class Way(NamedTuple):
    """One way to read one GPU; `read` takes the id of the channel and never raises the driver's errors."""

    kind: Kind
    quality: Quality
    source: str
    read: Callable[[str, Clock], tuple[Sample, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """What is wanted of a GPU.

    Attributes:
        period_s: Seconds between readings.
        share: Slices that count and slices there are, for a GPU in MIG mode.
        no_counter: Why the energy counter shall not be used; empty: it may.
    """

    period_s: float
    share: Share = (1, 1)
    no_counter: str = ""


def ask(library: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of the driver, or None where it has none."""
    try:
        return call(*arguments)
    except library.NVMLError:
        return None


def answers(library: Any, handle: Any, field: int, scope: int) -> bool:
    """Whether a field is told for a scope: 0 GPU, 1 module, 2 memory."""
    try:
        return _field(library, handle, field, scope) > 0
    except (library.NVMLError, TypeError):  # TypeError: a binding that knows no scopes
        return False


def best_way(library: Any, handle: Any, aspect: Aspect) -> Way | str:
    """The first way that works, or why none does."""
    problems = [aspect.no_counter] if aspect.no_counter else []
    for way, attempt in _ways(library, handle, aspect):
        try:
            attempt()
        except (library.NVMLError, ValueError) as error:
            problems.append(explain(error))
        else:
            return way
    return problems[-1]


def _ways(library: Any, handle: Any, aspect: Aspect) -> Iterator[tuple[Way, Callable[[], object]]]:
    """Each way with the call that shows whether it works."""
    if not aspect.no_counter:
        energy = partial(_energy, library, handle, aspect.share)
        yield (
            Way(Kind.COUNTER, Quality.L3, _SAYS_COUNTER, _single(library, energy)),
            energy,
        )
    why = aspect.no_counter or "no energy counter"
    quality = Quality.L2 if aspect.period_s <= _TEN_HZ_S else Quality.L1
    fields = (_INSTANT, _AVERAGE) if aspect.period_s < _MEAN_FROM_S else (_AVERAGE, _INSTANT)
    for field in fields:
        power = partial(_field_power, library, handle, aspect.share, field)
        source = f"{_SAYS_FIELD[field]}; {why}"
        yield Way(Kind.GAUGE, quality, source, _single(library, power)), power
    buffer = Buffer(library, handle, aspect.share)
    yield Way(Kind.GAUGE, Quality.L2, f"{_SAYS_BUFFER}; {why}", buffer.read), buffer.try_out
    usage = partial(_usage, library, handle, aspect.share)
    yield Way(Kind.GAUGE, quality, f"{_SAYS_USAGE}; {why}", _single(library, usage)), usage


_SAYS_COUNTER = "NVML nvmlDeviceGetTotalEnergyConsumption"
_SAYS_FIELD = {
    _INSTANT: "NVML field 186 (NVML_FI_DEV_POWER_INSTANT), instantaneous",
    _AVERAGE: "NVML field 185 (NVML_FI_DEV_POWER_AVERAGE), mean of 1 s",
}
_SAYS_BUFFER = "NVML nvmlDeviceGetSamples(TOTAL_POWER), the driver's buffer"
_SAYS_USAGE = "NVML nvmlDeviceGetPowerUsage; since Ampere, but for GA100, a mean of 1 s"


def _single(library: Any, values: Callable[[], Values]) -> Callable[[str, Clock], tuple[Sample, ...]]:
    def read(channel: str, clock: Clock) -> tuple[Sample, ...]:
        return (take(channel, clock, values, errors=(library.NVMLError, ValueError)),)

    return read


def _energy(library: Any, handle: Any, share: Share) -> Values:
    return Values(energy_uj=_part(library.nvmlDeviceGetTotalEnergyConsumption(handle) * 1000, share))


def _usage(library: Any, handle: Any, share: Share) -> Values:
    return Values(power_mw=_part(_drawn(library.nvmlDeviceGetPowerUsage(handle)), share))


def _field_power(library: Any, handle: Any, share: Share, field: int) -> Values:
    return Values(power_mw=_part(_drawn(_field(library, handle, field)), share))


def _field(library: Any, handle: Any, field: int, scope: int = 0) -> int:
    """A field in milliwatts; each field carries its own error code."""
    wanted: Any = (field, scope) if scope else field
    (value,) = library.nvmlDeviceGetFieldValues(handle, [wanted])
    if value.nvmlReturn != 0:
        raise library.NVMLError(value.nvmlReturn)
    return int(value.value.uiVal)


def _drawn(power_mw: int) -> int:
    if power_mw == 0:
        raise ValueError(_NOTHING)
    return power_mw


_NOTHING = "expected a power above 0 mW, got 0: no GPU draws nothing"


def _part(value: int, share: Share) -> int:
    return value * share[0] // share[1]


class Buffer:
    """The driver's buffer of power samples: every reading brings what has come since the one before.

    The driver stamps with UTC microseconds; they are moved to the monotonic clock at each reading.
    """

    def __init__(self, library: Any, handle: Any, share: Share) -> None:
        self._library = library
        self._handle = handle
        self._share = share
        self._seen_us = 0

    def try_out(self) -> None:
        """Raise what `look` does, or ValueError where no sample tells a power."""
        _drawn(max(sample.sampleValue.uiVal for sample in self.look()))

    def look(self) -> list[Any]:
        """The samples since the last reading, oldest first.

        Raises:
            NVMLError: If there is none, among others.
        """
        _, found = self._library.nvmlDeviceGetSamples(self._handle, _TOTAL_POWER_SAMPLES, self._seen_us)
        if not found:
            raise self._library.NVMLError(_NOT_FOUND)
        return sorted(found, key=_stamp_us)

    def read(self, channel: str, clock: Clock) -> tuple[Sample, ...]:
        """All new samples; at first only the latest, since the others are of a time before."""
        start_ns = clock.monotonic_ns()
        try:
            found = self.look()
        except self._library.NVMLError as error:
            if self._seen_us and getattr(error, "value", None) == _NOT_FOUND:
                return ()  # nothing new yet
            end_ns = clock.monotonic_ns()
            return (
                Sample(channel=channel, t_mono_ns=end_ns, read_ns=end_ns - start_ns, error=explain(error)),
            )
        end_ns = clock.monotonic_ns()
        offset_ns = clock.wall_ns() - end_ns
        new = [s for s in found if _stamp_us(s) > self._seen_us] if self._seen_us else found[-1:]
        self._seen_us = max(self._seen_us, _stamp_us(found[-1]))
        told = [sample for sample in new if sample.sampleValue.uiVal]
        readings = tuple(
            Sample(
                channel=channel,
                t_mono_ns=min(_stamp_us(sample) * 1000 - offset_ns, end_ns),
                read_ns=end_ns - start_ns,
                power_mw=_part(sample.sampleValue.uiVal, self._share),
            )
            for sample in told
        )
        if len(told) == len(new):
            return readings
        failed = Sample(
            channel=channel, t_mono_ns=end_ns, read_ns=end_ns - start_ns, error=f"ValueError: {_NOTHING}"
        )
        return (failed, *readings)


_NOT_FOUND = 6  # NVML_ERROR_NOT_FOUND


def _stamp_us(sample: Any) -> int:
    return int(sample.timeStamp)
