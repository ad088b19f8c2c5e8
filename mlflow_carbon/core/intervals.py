"""From readings to intervals: counters by difference, gauges by trapezoid, means by rectangle.

Gaps are marked, never filled: a failed read is not a zero, and a counter that fell is a wrap only
where its range is known and the implied power is believable (RAPL: `max_energy_range_uj`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Case, Channel, Interval, Kind, Sample
from mlflow_carbon.core.units import NS_PER_S, energy_uj, mean_power_w

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GAUGE_GAP_NS", "Stream", "clip", "integrate", "interval"]

GAUGE_GAP_NS = 5 * NS_PER_S
"""Readings of instantaneous power further apart than this say nothing about the time between them."""

_REFRESH_NS = NS_PER_S // 5
"""Counters refresh every 1 to 100 ms, so a short interval may hold up to this much more time's energy."""


def interval(channel: Channel, before: Sample, after: Sample, *, gap_ns: int = GAUGE_GAP_NS) -> Interval:
    """Energy between two successful readings of one channel.

    Args:
        channel: The channel.
        before: The earlier reading.
        after: The later one.
        gap_ns: Powers further apart than this say nothing about the time between them.
    """
    case, energy = _difference(channel, before, after, gap_ns)
    duration_ns = after.t_mono_ns - before.t_mono_ns
    if energy is not None and (
        _beyond_belief(channel, energy, duration_ns)
        if channel.kind is Kind.COUNTER
        else _is_absurd(channel, before) or _is_absurd(channel, after)
    ):
        case, energy = Case.IMPLAUSIBLE, None
    return Interval(
        channel=channel.id,
        start_ns=before.t_mono_ns,
        end_ns=after.t_mono_ns,
        energy_uj=energy,
        case=case,
        spread_uj=_spread_uj(channel, before, after) if energy is not None else 0.0,
    )


def _spread_uj(channel: Channel, before: Sample, after: Sample) -> float:
    """Standard uncertainty of a trapezoid between two powers: their difference over the square root of two.

    Two readings of a power that varies fast are two draws, and half the mean square of their difference is
    its variance (von Neumann 1941, mean square successive difference). Of a slow one it is an upper bound.
    """
    if channel.kind is not Kind.GAUGE or before.power_mw is None or after.power_mw is None:
        return 0.0
    return energy_uj(abs(after.power_mw - before.power_mw), after.t_mono_ns - before.t_mono_ns) / math.sqrt(2)


def _difference(channel: Channel, before: Sample, after: Sample, gap_ns: int) -> tuple[Case, int | None]:
    duration_ns = after.t_mono_ns - before.t_mono_ns
    if channel.kind is Kind.COUNTER:
        return _counter_difference(channel, before, after)
    if after.power_mw is None:
        return Case.GAP, None
    if channel.kind is Kind.MEAN:
        return Case.NORMAL, energy_uj(after.power_mw, duration_ns)
    if before.power_mw is None or duration_ns > gap_ns:
        return Case.GAP, None
    return Case.NORMAL, energy_uj((before.power_mw + after.power_mw) / 2, duration_ns)


def _counter_difference(channel: Channel, before: Sample, after: Sample) -> tuple[Case, int | None]:
    if before.energy_uj is None or after.energy_uj is None:
        return Case.GAP, None
    duration_ns = after.t_mono_ns - before.t_mono_ns
    if _may_wrap_twice(channel, duration_ns):
        return Case.GAP, None
    delta = after.energy_uj - before.energy_uj
    if delta >= 0:
        return Case.NORMAL, delta
    # A wrap needs both a known range and a believable power; else it is a reset and the time is lost.
    if channel.range_uj is None or channel.power_max_w is None or delta + channel.range_uj < 0:
        return Case.RESET, None
    wrapped = delta + channel.range_uj
    if _beyond_belief(channel, wrapped, duration_ns):
        return Case.RESET, None
    return Case.WRAPPED, wrapped


def _is_absurd(channel: Channel, reading: Sample) -> bool:
    return (
        channel.power_max_w is not None
        and reading.power_mw is not None
        and reading.power_mw > 1000 * channel.power_max_w
    )


def _may_wrap_twice(channel: Channel, duration_ns: int) -> bool:
    """Whether so much time could hold a whole turn of the counter besides what its difference says."""
    if channel.range_uj is None or channel.power_max_w is None:
        return False
    return energy_uj(1000 * channel.power_max_w, duration_ns) >= channel.range_uj


def _beyond_belief(channel: Channel, energy: int, duration_ns: int) -> bool:
    if channel.power_max_w is None:
        return False
    return mean_power_w(energy, duration_ns + _REFRESH_NS) > channel.power_max_w


class Stream:
    """Intervals of one channel from its readings, one at a time and in order.

    Failed reads end nothing: a counter and a mean carry on from the last good reading, since the device kept
    counting; a power that was silent for longer than `gap_ns` leaves a gap. A reading that is not later than
    the one before it is left out: no time is counted twice. A counter that has not moved says nothing yet.

    A reading that cannot be believed after the one before it makes an interval without energy. The next one
    tells which of the two was wrong: if it fits the earlier, the interval over both has the energy.
    """

    def __init__(self, channel: Channel, *, gap_ns: int = GAUGE_GAP_NS) -> None:
        self._channel = channel
        self._gap_ns = gap_ns
        self._base: Sample | None = None
        self._doubted: Sample | None = None

    def take(self, sample: Sample) -> Interval | None:
        """The interval that a reading ends, if any."""
        latest = self._doubted or self._base
        if sample.error is not None or (latest is not None and sample.t_mono_ns <= latest.t_mono_ns):
            return None
        if self._base is None:
            self._base = sample
            return None
        if self._doubted is None:
            return self._next(self._base, sample)
        base, doubted, self._doubted = self._base, self._doubted, None
        over, after = self._between(base, sample), self._between(doubted, sample)
        # A counter that fell and goes on from there was reset, even if it has passed its old value already.
        was_reset = (doubted.energy_uj or 0) < (base.energy_uj or 0) and after.energy_uj is not None
        if over.energy_uj is None or was_reset:
            return self._next(doubted, sample)
        self._base = sample
        return over

    def _next(self, base: Sample, sample: Sample) -> Interval | None:
        self._base = base
        if self._channel.kind is Kind.COUNTER and sample.energy_uj == base.energy_uj:
            return None
        found = self._between(base, sample)
        if found.case in (Case.RESET, Case.IMPLAUSIBLE):
            self._doubted = sample
        else:
            self._base = sample
        return found

    def _between(self, before: Sample, after: Sample) -> Interval:
        return interval(self._channel, before, after, gap_ns=self._gap_ns)


def integrate(channel: Channel, samples: Iterable[Sample]) -> Iterator[Interval]:
    """Intervals of one channel from its readings in order of time, as `Stream` makes them."""
    stream = Stream(channel)
    return (found for found in map(stream.take, samples) if found is not None)


def clip(span: Interval, start_ns: int, end_ns: int) -> Interval | None:
    """The part of an interval inside [start, end), energy in proportion to time; None if there is none.

    Cutting one interval into pieces keeps its energy to the microjoule.
    """
    lo, hi = max(span.start_ns, start_ns), min(span.end_ns, end_ns)
    if hi <= lo:
        return None
    if lo == span.start_ns and hi == span.end_ns:  # as nearly all do
        return span
    energy = span.energy_uj
    if energy is not None:
        energy = _until(span, energy, hi) - _until(span, energy, lo)
    spread_uj = span.spread_uj * (hi - lo) / span.duration_ns
    return Interval(
        channel=span.channel, start_ns=lo, end_ns=hi, energy_uj=energy, case=span.case, spread_uj=spread_uj
    )


def _until(span: Interval, energy: int, t_ns: int) -> int:
    return energy * (t_ns - span.start_ns) // span.duration_ns
