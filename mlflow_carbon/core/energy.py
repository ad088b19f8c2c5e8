"""Running energy of a span from its readings: by channel, by UTC bucket, and how far it may be off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlflow_carbon.core.cells import BUCKET_S, CellBook
from mlflow_carbon.core.intervals import GAUGE_GAP_NS, Stream, clip
from mlflow_carbon.core.series import Case, Channel, EnergySeries, Interval, Kind
from mlflow_carbon.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_carbon.core.series import Sample

__all__ = ["Ledger"]

_LAG_NS = NS_PER_S // 10
"""How old what a meter says may be at the two ends of a span (NVML: 20 to 100 ms, RAPL: 1 ms)."""

_NORMAL_95 = 1.96


class _Sampling:
    """What is not known of one channel's energy because it is read at moments only."""

    def __init__(self, kind: Kind) -> None:
        self._is_read = kind is not Kind.MEAN  # a mean is computed from times that are exact
        self._variance_uj2 = 0.0
        self._first: Interval | None = None
        self._last: Interval | None = None

    def add(self, part: Interval) -> None:
        """Take one interval that carries energy."""
        self._variance_uj2 += part.spread_uj**2
        self._first = self._first or part
        self._last = part

    def half_width_uj(self) -> float:
        """Half of the 95 % range: draws of a power add up in squares, a meter is late at both ends."""
        late_uj = 0.0
        if self._is_read:
            late_uj = sum(
                part.energy_uj * min(1.0, _LAG_NS / part.duration_ns)
                for part in (self._first, self._last)
                if part is not None and part.energy_uj is not None
            )
        return _NORMAL_95 * math.sqrt(self._variance_uj2) + late_uj


class Ledger:
    """Running energy of one span: fed samples in order, it keeps totals by channel and UTC bucket.

    Memory is bounded by channels x buckets, not by samples, and `series` costs the same at any age. The
    totals equal those of `integrate` and `clip` over all samples at once.
    """

    def __init__(
        self,
        channels: Iterable[Channel],
        *,
        start_ns: int,
        wall_offset_ns: int,
        gauge_gap_ns: int = GAUGE_GAP_NS,
    ) -> None:
        self._channels = {c.id: c for c in channels}
        self._streams = {c.id: Stream(c, gap_ns=gauge_gap_ns) for c in self._channels.values()}
        self._start_ns = start_ns
        self._wall_offset_ns = wall_offset_ns
        self._cells = CellBook()
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
        stream = self._streams.get(sample.channel)
        whole = stream.take(sample) if stream is not None else None
        if whole is None:
            return None
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
            self._cells.add(part.channel, bucket_s, energy)

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
        """The energy so far, of a span that ends (or stands) at `end_ns`; quick, however long the span."""
        return EnergySeries(
            channels=self.channels,
            duration_ns=max(0, end_ns - self._start_ns),
            cells=self._cells.cells(),
            covered_ns=dict(self._covered_ns),
            cases={c: dict(n) for c, n in self._cases.items()},
            sampling_uj={c: s.half_width_uj() for c, s in self._sampling.items()},
        )
