"""One kind of meter and the phases: what it read while a phase was alone, and how the rest is shared out.

Phases go by index here; index 0 is the time that belongs to no phase.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mlflow_carbon.core.phase_fit import EDGES_US, SLICES, STRIDE, PowerFit
from mlflow_carbon.core.units import NS_PER_S, uj_to_j

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow_carbon.core.phase_fit import Fit
    from mlflow_carbon.core.series import Interval

__all__ = ["PhaseMeter", "Shares", "Slices", "slices"]

Slices = dict[int, int]
"""Microseconds of each phase in each slice of the time before a reading, by index of the feature."""

_US_PER_S = 1_000_000
_ALONE = 0.995  # of a reading's time, and of the slices before it
_GUESS = 1 / math.sqrt(3)  # standard error of "anything from nothing to twice as much"
_PATIENCE = 8  # readings that a silent channel is waited for
_SHORTEST_S = 1e-6
_SLACK_NS = 20_000_000  # what a channel's time may differ from that between the marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Energy of each phase by one kind of meter, in microjoules, by index.

    Attributes:
        alone_uj: Read while the phase was alone.
        mixed_uj: Energy of all other readings together.
        by_power_uj: Of it each phase's share by its power; by time where no power is known.
        by_time_uj: Of it each phase's share by its time.
        errors_uj: Standard errors of `by_power_uj`.
        fit: Where the powers come from.
    """

    alone_uj: tuple[int, ...]
    mixed_uj: int
    by_power_uj: tuple[float, ...]
    by_time_uj: tuple[float, ...]
    errors_uj: tuple[float, ...]
    fit: Fit | None


def slices(stays: Iterable[tuple[int, int, int]]) -> Slices:
    """Stays (phase, begin and end in microseconds before a reading) by slice; the rest is phase 0."""
    found: Slices = {}
    rest = [b - a for a, b in pairwise(EDGES_US)]
    for phase, older_us, newer_us in stays:
        for i in range(bisect_right(EDGES_US, newer_us) - 1, bisect_left(EDGES_US, older_us, hi=SLICES)):
            part_us = min(older_us, EDGES_US[i + 1]) - max(newer_us, EDGES_US[i])
            feature = phase * STRIDE + 1 + i
            found[feature] = found.get(feature, 0) + part_us
            rest[i] -= part_us
    for i, left_us in enumerate(rest):
        if left_us > 0:  # phases of several threads may fill a slice more than once
            found[1 + i] = found.get(1 + i, 0) + left_us
    return found


class PhaseMeter:
    """Energy of the channels of one kind of meter, and the phases in the time that it took.

    A counter that has not moved says nothing yet: the times go on adding up until every channel has told.

    Args:
        channels: How many channels it has.
        is_fitted: Whether its energy belongs to the whole time between two readings.
    """

    def __init__(self, channels: int, *, is_fitted: bool) -> None:
        self._channels = channels
        self._fit = PowerFit() if is_fitted else None
        self._alone_uj: dict[int, int] = {}
        self._mixed = _Mixed()
        self._before: Slices | None = slices(())
        self._has_told = False
        self._open = _Stretch()

    def add(
        self, parts: Iterable[Interval], times_ns: Mapping[int, int], *, duration_ns: int, now: Slices | None
    ) -> None:
        """Take one reading: what its channels told, time of each phase, and the slices before it."""
        self._open.add(parts, times_ns, duration_ns)
        self._has_told = self._has_told or bool(self._open.covered_ns)
        if self._has_told and not self._open.is_over(self._channels):
            return
        stretch, self._open = self._open, _Stretch()
        before, self._before = self._before, now
        if not stretch.covered_ns:
            return
        if stretch.readings >= _PATIENCE or len(stretch.covered_ns) > self._channels:
            self._channels = len(stretch.covered_ns)  # the others are dead, or back
        self._book(stretch, before)
        if self._fit is not None and before is not None and now is not None and stretch.is_sound():
            self._fit.add(_features(stretch.times_ns, before, now), uj_to_j(stretch.energy_uj))

    def shares(self, stays_s: Sequence[float]) -> Shares:
        """Energy of each phase, of which a stay takes so long on average."""
        phases = range(len(stays_s))
        mixed = self._mixed.with_(self._open)  # a channel may not have told of the last readings
        by_time = tuple(mixed.by_time_uj.get(j, 0.0) for j in phases)
        by_power, errors = by_time, tuple(_GUESS * uj for uj in by_time)
        fit = self._fit.solve(len(phases)) if self._fit is not None and mixed.energy_uj else None
        if fit is not None and any(fit.powers_w):
            times_s = [mixed.times_ns.get(j, 0) / NS_PER_S for j in phases]
            drawn_j = math.fsum(p * t for p, t in zip(fit.powers_w, times_s, strict=True))
            scale = mixed.energy_uj / drawn_j if drawn_j else 0.0
            by_power = tuple(scale * p * t for p, t in zip(fit.powers_w, times_s, strict=True))
            blur_w = _blur_w(fit, times_s)
            errors = tuple(
                min(float(mixed.energy_uj), scale * t * math.hypot(e, blur_w / max(stay_s, _SHORTEST_S)))
                for e, t, stay_s in zip(fit.errors_w, times_s, stays_s, strict=True)
            )
        return Shares(
            alone_uj=tuple(self._alone_uj.get(j, 0) for j in phases),
            mixed_uj=mixed.energy_uj,
            by_power_uj=by_power,
            by_time_uj=by_time,
            errors_uj=errors,
            fit=fit,
        )

    def _book(self, stretch: _Stretch, before: Slices | None) -> None:
        """Add the energy to the phase that was alone, or to what is shared out."""
        alone = stretch.alone()
        if alone is not None and before is not None:
            first = alone * STRIDE + 1
            if sum(before.get(first + i, 0) for i in range(SLICES)) >= _ALONE * EDGES_US[-1]:
                self._alone_uj[alone] = self._alone_uj.get(alone, 0) + stretch.energy_uj
                return
        self._mixed.add(stretch)


def _blur_w(fit: Fit, times_s: Sequence[float]) -> float:
    """Watts x seconds by which a phase may be wrong because the lag is known to a slice only.

    An edge that is off by a sixth of a slice puts the difference of two powers into the wrong phase for so
    long; the largest difference from the mean stands for all. The sixth is what simulated meters ask for.
    """
    mean_w = math.fsum(p * t for p, t in zip(fit.powers_w, times_s, strict=True)) / max(
        math.fsum(times_s), 1e-9
    )
    return max(abs(p - mean_w) for p, t in zip(fit.powers_w, times_s, strict=True) if t) * fit.blur_s / 6


class _Stretch:
    """The time from one reading of all channels to the next."""

    __slots__ = ("covered_ns", "duration_ns", "energy_uj", "is_broken", "readings", "times_ns")

    def __init__(self) -> None:
        self.times_ns: dict[int, int] = {}
        self.covered_ns: dict[str, int] = {}
        self.energy_uj = self.duration_ns = self.readings = 0
        self.is_broken = False

    def add(self, parts: Iterable[Interval], times_ns: Mapping[int, int], duration_ns: int) -> None:
        """Take one reading."""
        self.readings += 1
        self.duration_ns += duration_ns
        for phase, time_ns in times_ns.items():
            if time_ns:
                self.times_ns[phase] = self.times_ns.get(phase, 0) + time_ns
        for part in parts:
            if part.energy_uj is None:
                self.is_broken = True
                continue
            self.energy_uj += part.energy_uj
            self.covered_ns[part.channel] = self.covered_ns.get(part.channel, 0) + part.duration_ns

    def alone(self) -> int | None:
        """The phase that had all of the time, if there is one."""
        longest = max(self.times_ns, key=self.times_ns.__getitem__, default=0)
        is_alone = self.times_ns.get(longest, 0) >= _ALONE * max(1, sum(self.times_ns.values()))
        return longest if is_alone else None

    def is_over(self, channels: int) -> bool:
        """Whether every channel has told, or is not waited for any longer."""
        return len(self.covered_ns) >= channels or self.is_broken or self.readings >= _PATIENCE

    def is_sound(self) -> bool:
        """Whether the energy of every channel is that of the whole time between the marks."""
        return not self.is_broken and all(
            abs(ns - self.duration_ns) <= _SLACK_NS for ns in self.covered_ns.values()
        )


class _Mixed:
    """Energy of readings with several phases, its time by phase, and what each would get by time."""

    __slots__ = ("by_time_uj", "energy_uj", "times_ns")

    def __init__(self) -> None:
        self.energy_uj = 0
        self.times_ns: dict[int, int] = {}
        self.by_time_uj: dict[int, float] = {}

    def add(self, stretch: _Stretch) -> None:
        """Take one stretch."""
        self.energy_uj += stretch.energy_uj
        whole_ns = max(1, sum(stretch.times_ns.values()))
        for phase, time_ns in stretch.times_ns.items():
            self.times_ns[phase] = self.times_ns.get(phase, 0) + time_ns
            by_time_uj = stretch.energy_uj * time_ns / whole_ns
            self.by_time_uj[phase] = self.by_time_uj.get(phase, 0.0) + by_time_uj

    def with_(self, stretch: _Stretch) -> _Mixed:
        """The same with a stretch that may go on."""
        if not stretch.covered_ns:
            return self
        more = _Mixed()
        more.energy_uj = self.energy_uj
        more.times_ns, more.by_time_uj = dict(self.times_ns), dict(self.by_time_uj)
        more.add(stretch)
        return more


def _features(times_ns: Mapping[int, int], before: Slices, now: Slices) -> list[tuple[int, float]]:
    """What `PowerFit` is given of one stretch."""
    values = {phase * STRIDE: ns / NS_PER_S for phase, ns in times_ns.items()}
    # Nearly always the two are equal: no phase began or ended for long.
    for feature in before.keys() | now.keys() if before != now else ():
        difference_us = before.get(feature, 0) - now.get(feature, 0)
        if difference_us:
            values[feature] = difference_us / _US_PER_S
    return sorted(values.items())
