"""From readings to energy: counters by difference, gauges by trapezoid, means by rectangle.

Gaps are marked, never filled: a failed read is not a zero, and a counter that fell is a wrap only
where its range is known and the implied power is believable (RAPL: `max_energy_range_uj`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import BUCKET_S, Case, Cell, Channel, EnergySeries, Interval, Kind, Sample
from mlflow_carbon.core.units import NS_PER_S, energy_uj, mean_power_w

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GAUGE_GAP_NS", "Ledger", "clip", "integrate", "interval"]

GAUGE_GAP_NS = 5 * NS_PER_S
"""Readings of instantaneous power further apart than this say nothing about the time between them."""

_COUNTER_LAG_NS = NS_PER_S // 10
"""How old what a counter says may be at the two ends of a span (NVML: 20 to 100 ms, RAPL: 1 ms)."""

_NORMAL_95 = 1.96

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
    if energy is not None and _beyond_belief(channel, energy, duration_ns):
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
    delta = after.energy_uj - before.energy_uj
    if delta >= 0:
        return Case.NORMAL, delta
    # A wrap needs both a known range and a believable power; else it is a reset and the time is lost.
    if channel.range_uj is None or channel.power_max_w is None or delta + channel.range_uj < 0:
        return Case.RESET, None
    wrapped = delta + channel.range_uj
    if _beyond_belief(channel, wrapped, after.t_mono_ns - before.t_mono_ns):
        return Case.RESET, None
    return Case.WRAPPED, wrapped


def _beyond_belief(channel: Channel, energy: int, duration_ns: int) -> bool:
    if channel.power_max_w is None:
        return False
    return mean_power_w(energy, duration_ns + _REFRESH_NS) > channel.power_max_w


def integrate(channel: Channel, samples: Iterable[Sample]) -> Iterator[Interval]:
    """Intervals of one channel from its readings in order of time.

    Failed reads end nothing: a counter and a mean carry on from the last good reading, since the
    device kept counting; a gauge that was silent for longer than `GAUGE_GAP_NS` leaves a gap. A reading
    that is not later than the one before it is left out: no time is counted twice.
    """
    before: Sample | None = None
    for sample in samples:
        if sample.error is not None or (before is not None and sample.t_mono_ns <= before.t_mono_ns):
            continue
        if before is not None:
            yield interval(channel, before, sample)
        before = sample


def clip(span: Interval, start_ns: int, end_ns: int) -> Interval | None:
    """The part of an interval inside [start, end), energy in proportion to time; None if there is none.

    Cutting one interval into pieces keeps its energy to the microjoule.
    """
    lo, hi = max(span.start_ns, start_ns), min(span.end_ns, end_ns)
    if hi <= lo:
        return None
    energy = span.energy_uj
    if energy is not None:
        energy = _until(span, energy, hi) - _until(span, energy, lo)
    spread_uj = span.spread_uj * (hi - lo) / span.duration_ns
    return Interval(
        channel=span.channel, start_ns=lo, end_ns=hi, energy_uj=energy, case=span.case, spread_uj=spread_uj
    )


def _until(span: Interval, energy: int, t_ns: int) -> int:
    return energy * (t_ns - span.start_ns) // span.duration_ns


class _Sampling:
    """What is not known of one channel's energy because it is read at moments only."""

    def __init__(self, kind: Kind) -> None:
        self._is_counter = kind is Kind.COUNTER
        self._variance_uj2 = 0.0
        self._first: Interval | None = None
        self._last: Interval | None = None

    def add(self, part: Interval) -> None:
        """Take one interval that carries energy."""
        self._variance_uj2 += part.spread_uj**2
        self._first = self._first or part
        self._last = part

    def half_width_uj(self) -> float:
        """Half of the 95 % range: draws of a gauge add up in squares, a counter is late at both ends."""
        late_uj = 0.0
        if self._is_counter:
            late_uj = sum(
                part.energy_uj * min(1.0, _COUNTER_LAG_NS / part.duration_ns)
                for part in (self._first, self._last)
                if part is not None and part.energy_uj is not None
            )
        return _NORMAL_95 * math.sqrt(self._variance_uj2) + late_uj


class Ledger:
    """Running energy of one span: fed samples in order, it keeps totals by channel and UTC bucket.

    Memory is bounded by channels x buckets, not by samples. The totals equal those of
    `integrate` and `clip` over all samples at once.
    """

    def __init__(
        self,
        channels: Iterable[Channel],
        *,
        start_ns: int,
        wall_offset_ns: int,
        gauge_gap_ns: int = GAUGE_GAP_NS,
    ) -> None:
        self._gauge_gap_ns = gauge_gap_ns
        self._channels = {c.id: c for c in channels}
        self._start_ns = start_ns
        self._wall_offset_ns = wall_offset_ns
        self._last: dict[str, Sample] = {}
        self._cells: dict[tuple[str, int], Cell] = {}
        self._covered_ns: dict[str, int] = dict.fromkeys(self._channels, 0)
        self._cases: dict[str, dict[Case, int]] = {c: {} for c in self._channels}
        self._sampling = {c.id: _Sampling(c.kind) for c in self._channels.values()}

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels in the order they were given."""
        return tuple(self._channels.values())

    def knows(self, channel: str) -> bool:
        """Whether a channel counts in this span; a sensor may read more than that."""
        return channel in self._channels

    def anchor(self, wall_offset_ns: int) -> None:
        """Book what comes by this offset: clocks are set, and one stops while a machine sleeps."""
        self._wall_offset_ns = wall_offset_ns

    def add(self, sample: Sample, *, end_ns: int | None = None) -> Interval | None:
        """Take one reading; return the part of its interval inside the span, if any.

        Args:
            sample: The next reading of its channel.
            end_ns: End of the span where it is known; energy after it is not counted.
        """
        channel = self._channels.get(sample.channel)
        if channel is None or sample.error is not None:
            return None
        before = self._last.get(channel.id)
        if before is not None and sample.t_mono_ns <= before.t_mono_ns:
            return None
        self._last[channel.id] = sample
        if before is None:
            return None
        whole = interval(channel, before, sample, gap_ns=self._gauge_gap_ns)
        part = clip(whole, self._start_ns, end_ns if end_ns is not None else whole.end_ns)
        if part is not None:
            self._book(part)
        return part

    def _book(self, part: Interval) -> None:
        cases = self._cases[part.channel]
        cases[part.case] = cases.get(part.case, 0) + 1
        if part.energy_uj is None:
            return
        self._covered_ns[part.channel] += part.duration_ns
        self._sampling[part.channel].add(part)
        for bucket_s, energy in self._split(part):
            key = (part.channel, bucket_s)
            so_far = self._cells.get(key)
            self._cells[key] = Cell(
                channel=part.channel,
                bucket_s=bucket_s,
                energy_uj=energy + (so_far.energy_uj if so_far is not None else 0),
            )

    def _split(self, part: Interval) -> Iterator[tuple[int, int]]:
        step = BUCKET_S * NS_PER_S
        first = (part.start_ns + self._wall_offset_ns) // step
        last = (part.end_ns + self._wall_offset_ns - 1) // step
        for index in range(first, last + 1):
            lo = index * step - self._wall_offset_ns
            piece = clip(part, lo, lo + step)
            if piece is not None and piece.energy_uj is not None:
                yield index * BUCKET_S, piece.energy_uj

    def series(self, end_ns: int) -> EnergySeries:
        """The energy so far, of a span that ends (or stands) at `end_ns`."""
        return EnergySeries(
            channels=self.channels,
            duration_ns=max(0, end_ns - self._start_ns),
            cells=tuple(self._cells[key] for key in sorted(self._cells)),
            covered_ns=dict(self._covered_ns),
            cases={c: dict(n) for c, n in self._cases.items()},
            sampling_uj={c: s.half_width_uj() for c, s in self._sampling.items()},
        )
