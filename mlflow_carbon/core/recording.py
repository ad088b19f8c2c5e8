"""One measured span as a fold over its ticks: the same code live, in `recover` and in an audit.

Fed the same ticks, marks and counts in the same order, a `Recording` yields the same snapshots
and the same totals. It knows no clock, thread, file or server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.core.beside import FactBook
from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.intervals import GAUGE_GAP_NS
from mlflow_carbon.core.phases import PhaseBook
from mlflow_carbon.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_carbon.core.beside import FactRow
    from mlflow_carbon.core.phases import PhaseTable, Tail
    from mlflow_carbon.core.series import Channel, EnergySeries, Interval, Tick

__all__ = ["Recording", "Snapshot", "StepMark", "point_period_s"]

_GAP_PERIODS = 5
_FIRST_PERIOD_S = 5
_FIRST_SPAN_S = 600
_SECOND_PERIOD_S = 10
_DOUBLING_FROM_S = 19_400  # 120 points in the first ten minutes and 1880 more: 2000 points


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The run so far at one reading.

    Attributes:
        t_ns: Monotonic time of the reading.
        t_wall_ns: UTC time of the reading.
        elapsed_s: Whole seconds since the start of the run: the step of `carbon/time/*`.
        series: Energy since the start.
        before: Energy at the snapshot before, where there was one.
    """

    t_ns: int
    t_wall_ns: int
    elapsed_s: int
    series: EnergySeries
    before: EnergySeries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMark:
    """The run at a training step, between two readings.

    Attributes:
        step: Training step.
        t_ns: Monotonic time of the mark.
        t_wall_ns: UTC time of the mark.
        before: Energy at the reading before the mark.
        after: Energy at the reading after it.
        ratio: Where between the two the mark lies, 0 to 1.
    """

    step: int
    t_ns: int
    t_wall_ns: int
    before: EnergySeries
    after: EnergySeries
    ratio: float


def point_period_s(elapsed_s: float) -> int:
    """Seconds between logged points: 5, after ten minutes 10, and doubling beyond 2000 points."""
    if elapsed_s < _FIRST_SPAN_S:
        return _FIRST_PERIOD_S
    period, until = _SECOND_PERIOD_S, _DOUBLING_FROM_S
    while elapsed_s >= until:
        period, until = period * 2, until * 2
    return period


class Recording:
    """Energy, phases and steps of one span, tick by tick.

    Args:
        channels: What is read.
        start_ns: Monotonic start of the span.
        wall_offset_ns: UTC nanoseconds minus monotonic nanoseconds, at the start; each tick brings its own.
        period_s: Seconds between readings: powers five of them apart say nothing about the time between.
    """

    def __init__(
        self, channels: Iterable[Channel], *, start_ns: int, wall_offset_ns: int, period_s: float = 1.0
    ) -> None:
        channels = tuple(channels)
        self.start_ns = start_ns
        self.wall_offset_ns = wall_offset_ns
        self.errors: dict[str, int] = {}
        self.ticks = 0
        self._ledger = Ledger(
            channels,
            start_ns=start_ns,
            wall_offset_ns=wall_offset_ns,
            gauge_gap_ns=max(GAUGE_GAP_NS, round(_GAP_PERIODS * period_s * NS_PER_S)),
        )
        self._phases = PhaseBook(channels)
        self._beside = FactBook()
        self._last_ns = start_ns
        self._next_s: float = _FIRST_PERIOD_S
        self._last_point: Snapshot | None = None
        self._marks: list[tuple[int, int]] = []

    def mark(self, t_ns: int, step: int) -> None:
        """Note that the training reached `step` at `t_ns`; resolved by the next tick."""
        self._marks.append((t_ns, step))

    def add(
        self,
        tick: Tick,
        phases_ns: Mapping[str, int] | None = None,
        *,
        tail: Tail | None = None,
        end_ns: int | None = None,
    ) -> tuple[Snapshot | None, list[StepMark]]:
        """Take one tick; return the snapshot that is due, if any, and the marks it resolves.

        Args:
            tick: The readings.
            phases_ns: Time of each phase since the tick before.
            tail: Phases just before the tick; None: not known.
            end_ns: End of the span where it is known.
        """
        self.ticks += 1
        self._beside.add(tick.t_mono_ns, tick.facts)
        self.wall_offset_ns = tick.t_wall_ns - tick.t_mono_ns
        self._ledger.anchor(self.wall_offset_ns)
        before = self._ledger.series(self._last_ns) if self._marks else None
        parts = self._book(tick, end_ns)
        stop_ns = tick.t_mono_ns if end_ns is None else min(tick.t_mono_ns, end_ns)
        self._phases.add(parts, phases_ns or {}, duration_ns=max(0, stop_ns - self._last_ns), tail=tail)
        steps = self._resolve(before, stop_ns) if before is not None else []
        self._last_ns = max(self._last_ns, stop_ns)
        return self._due(stop_ns), steps

    def close(self, end_ns: int) -> Snapshot:
        """The last snapshot, of a span that ends at `end_ns`."""
        return self._snapshot(end_ns)

    def series(self, end_ns: int | None = None) -> EnergySeries:
        """Energy of a span that ends at `end_ns`; None: at the last reading."""
        return self._ledger.series(self._last_ns if end_ns is None else end_ns)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What is read."""
        return self._ledger.channels

    @property
    def last_ns(self) -> int:
        """Monotonic time of the last reading."""
        return self._last_ns

    @property
    def last_wall_ns(self) -> int:
        """UTC time of the last reading."""
        return self._last_ns + self.wall_offset_ns

    def count_entries(self, entries: Mapping[str, int]) -> None:
        """Set how often each phase has been entered so far."""
        self._phases.count(entries)

    def phases(self) -> PhaseTable:
        """Time and energy per phase so far."""
        return self._phases.table()

    def facts(self) -> tuple[FactRow, ...]:
        """What stood beside power so far."""
        return self._beside.rows()

    def _book(self, tick: Tick, end_ns: int | None) -> list[Interval]:
        parts = []
        for sample in tick.samples:
            if sample.error is not None and self._ledger.knows(sample.channel):
                self.errors[sample.channel] = self.errors.get(sample.channel, 0) + 1
            part = self._ledger.add(sample, end_ns=end_ns)
            if part is not None:
                parts.append(part)
        return parts

    def _resolve(self, before: EnergySeries, stop_ns: int) -> list[StepMark]:
        after = self._ledger.series(stop_ns)
        width = max(1, stop_ns - self._last_ns)
        marks, self._marks = self._marks, []
        return [
            StepMark(
                step=step,
                t_ns=t_ns,
                t_wall_ns=t_ns + self.wall_offset_ns,
                before=before,
                after=after,
                ratio=min(1.0, max(0.0, (t_ns - self._last_ns) / width)),
            )
            for t_ns, step in marks
        ]

    def _due(self, t_ns: int) -> Snapshot | None:
        elapsed_s = (t_ns - self.start_ns) / NS_PER_S
        if elapsed_s < self._next_s:
            return None
        period = point_period_s(elapsed_s)
        self._next_s = (elapsed_s // period + 1) * period
        return self._snapshot(t_ns)

    def _snapshot(self, t_ns: int) -> Snapshot:
        before = self._last_point.series if self._last_point else None
        self._last_point = Snapshot(
            t_ns=t_ns,
            t_wall_ns=t_ns + self.wall_offset_ns,
            elapsed_s=(t_ns - self.start_ns) // NS_PER_S,
            series=self._ledger.series(t_ns),
            before=before,
        )
        return self._last_point
