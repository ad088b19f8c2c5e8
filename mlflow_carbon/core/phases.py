"""Energy of named phases, from the energy of each reading and the time of each phase in it.

What was read while one phase alone was on counts as it is. The rest is shared out by the powers that least
squares find (`phase_fit`), each kind of meter for itself, since each is late in its own way. Where they say
too little, time decides, and the row says so. The rows add up to the run's energy, to the microjoule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.phase_fit import EDGES_US
from mlflow_carbon.core.phase_meter import PhaseMeter, slices
from mlflow_carbon.core.series import Component, Kind
from mlflow_carbon.core.units import NS_PER_S, uj_to_j

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow_carbon.core.phase_meter import Shares
    from mlflow_carbon.core.series import Channel, Interval

__all__ = ["OTHER", "PhaseBook", "PhaseRow", "PhaseTable", "Tail"]

Tail = list[tuple[str, int, int]]
"""Phases in the 200 ms before a reading: name, begin and end in microseconds before it."""

OTHER = "other"
_MOST = 12  # phases with a power of their own; further ones share what `other` gets
_EXACT = 0.5  # of a phase's energy was read while it was alone
_NO_PHASE = slices(())
_TOO_WIDE = 0.25  # a standard error above this share of the energy is little better than a guess


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """Time and energy of one phase.

    Attributes:
        phase: Its name; `other` is the rest of the run.
        time_s: Own time, without that of phases inside it.
        energy_j: Its energy.
        energy_error_j: Standard error of the sharing out; what the meters themselves err by comes on top.
        energy_ratio: Share of the run's energy.
        entries: How often it was entered (0 for `other`).
        confidence: `exact`: most of it was read while the phase was alone; `fitted`: by least squares;
            `low`: by time, for want of anything better.
    """

    phase: str
    time_s: float
    energy_j: float
    energy_error_j: float
    energy_ratio: float
    entries: int
    confidence: str

    @property
    def energy_error_ratio(self) -> float | None:
        """The standard error as a share of the energy; None where there is no energy."""
        return self.energy_error_j / self.energy_j if self.energy_j else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"energy_error_ratio": self.energy_error_ratio}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTable:
    """The phases of a run.

    Attributes:
        rows: Dearest first, then `other`; empty without phases.
        lags_s: How far each fitted kind of meter is behind the marks, in seconds.
    """

    rows: tuple[PhaseRow, ...]
    lags_s: Mapping[str, float]


class PhaseBook:
    """Time and energy per phase, reading by reading, in memory that does not grow with time.

    Args:
        channels: What is read. Meters of the whole machine add nothing.
    """

    def __init__(self, channels: Iterable[Channel]) -> None:
        parts = [c for c in channels if c.component is not Component.NODE]
        self._sensors = {c.id: c.sensor for c in parts}
        self._meters = {
            sensor: PhaseMeter(
                sum(c.sensor == sensor for c in parts),
                # An instantaneous power says what was on at a moment, not in the time between two.
                is_fitted=all(c.kind is not Kind.GAUGE for c in parts if c.sensor == sensor),
            )
            for sensor in dict.fromkeys(self._sensors.values())
        }
        self._index = {OTHER: 0}
        self._time_ns: dict[str, int] = {}
        self._entries: dict[str, int] = {}
        self._total_ns = 0
        self._seen: dict[int, tuple[int, int]] = {}

    def add(
        self,
        parts: Iterable[Interval],
        phases_ns: Mapping[str, int],
        *,
        duration_ns: int,
        tail: Tail | None = None,
    ) -> None:
        """Take one reading.

        Args:
            parts: The energy it brought, of each channel that had news.
            phases_ns: Time of each phase since the reading before. Phases of several threads may add up
                to more than `duration_ns`.
            duration_ns: Time since the reading before.
            tail: Phases just before this reading; None: not known.
        """
        self._total_ns += duration_ns
        times_ns = {0: max(0, duration_ns - sum(phases_ns.values()))}
        for name, time_ns in phases_ns.items():
            self._time_ns[name] = self._time_ns.get(name, 0) + time_ns
            index = self._index_of(name)
            times_ns[index] = times_ns.get(index, 0) + time_ns
        now = None if tail is None else _NO_PHASE
        if tail:
            stays = [(self._index_of(name), a, b) for name, a, b in tail]
            now = slices(stays)
            self._see(stays)
        news: dict[str, list[Interval]] = {sensor: [] for sensor in self._meters}
        for part in parts:
            if part.channel in self._sensors:
                news[self._sensors[part.channel]].append(part)
        for sensor, meter in self._meters.items():
            meter.add(news[sensor], times_ns, duration_ns=duration_ns, now=now)

    def count(self, entries: Mapping[str, int]) -> None:
        """Set how often each phase has been entered so far."""
        self._entries.update(entries)

    def table(self) -> PhaseTable:
        """The phases so far."""
        if not self._time_ns:
            return PhaseTable(rows=(), lags_s={})
        stays_s = self._stays_s()
        shares = {sensor: meter.shares(stays_s) for sensor, meter in self._meters.items()}
        lags_s = {sensor: share.fit.lag_s for sensor, share in shares.items() if share.fit is not None}
        found = _joined(list(shares.values()), len(self._index))
        total_uj = sum(figure.energy_uj for figure in found)
        named = [
            self._row(name, found[index], total_uj, self._time_ns.get(name, 0))
            for name, index in self._index.items()
            if index
        ]
        *more, other = self._rest(found[0], total_uj)
        rows = sorted((*named, *more), key=lambda row: (-row.energy_j, row.phase))
        return PhaseTable(rows=(*rows, other), lags_s=lags_s)

    def _stays_s(self) -> list[float]:
        """How long each phase stays on average: its time in the tails over how many stays began there.

        Readings in step with the training see the same piece of it again and again. But no phase can have
        had more stays than there were entries of all phases: each goes on at most once after another.
        """
        entries = max(1, sum(self._entries.values()))
        times_ns = self._time_ns | {OTHER: self._rest_ns()}
        found = []
        for name, index in self._index.items():
            us, begun = self._seen.get(index, (0, 0))
            least_s = times_ns.get(name, 0) / NS_PER_S / entries
            found.append(max(us / begun / 1e6 if begun else 0.0, least_s))
        return found

    def _rest_ns(self) -> int:
        """Time of no phase, and of those named `other`."""
        return max(0, self._total_ns - sum(t for n, t in self._time_ns.items() if n != OTHER))

    def _see(self, stays: Sequence[tuple[int, int, int]]) -> None:
        left_us, all_begun = EDGES_US[-1], 0
        for index, older_us, newer_us in stays:
            us, begun = self._seen.get(index, (0, 0))
            has_begun = older_us < EDGES_US[-1]
            self._seen[index] = us + older_us - newer_us, begun + has_begun
            left_us, all_begun = left_us - (older_us - newer_us), all_begun + has_begun
        us, begun = self._seen.get(0, (0, 0))  # after each phase there may be a moment of none
        self._seen[0] = us + max(0, left_us), begun + all_begun

    def _index_of(self, name: str) -> int:
        # A phase that the user named `other` is part of the rest: there is one row of a name.
        if name not in self._index and len(self._index) <= _MOST:
            self._index[name] = len(self._index)
        return self._index.get(name, 0)

    def _rest(self, rest: _Figure, total_uj: int) -> list[PhaseRow]:
        """Rows of the phases beyond the first ones, shared out by time, and of `other`, the last."""
        times_ns = {n: t for n, t in self._time_ns.items() if n not in self._index}
        times_ns[OTHER] = self._rest_ns()
        if len(times_ns) == 1:
            return [self._row(OTHER, rest, total_uj, times_ns[OTHER])]
        energies = _apportion(rest.energy_uj, list(times_ns.values()))
        return [
            self._row(name, _Figure(energy_uj=uj, error_uj=uj, confidence="low"), total_uj, times_ns[name])
            for name, uj in zip(times_ns, energies, strict=True)
        ]

    def _row(self, name: str, figure: _Figure, total_uj: int, time_ns: int) -> PhaseRow:
        return PhaseRow(
            phase=name,
            time_s=time_ns / NS_PER_S,
            energy_j=uj_to_j(figure.energy_uj),
            energy_error_j=uj_to_j(round(figure.error_uj)),
            energy_ratio=figure.energy_uj / total_uj if total_uj else 0.0,
            entries=0 if name == OTHER else self._entries.get(name, 0),
            confidence=figure.confidence,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    energy_uj: int
    error_uj: float
    confidence: str


def _joined(shares: Sequence[Shares], phases: int) -> list[_Figure]:
    """All kinds of meters together; what is little better than a guess is shared out by time."""
    alone = [sum(s.alone_uj[j] for s in shares) for j in range(phases)]
    mixed = [math.fsum(s.by_power_uj[j] for s in shares) for j in range(phases)]
    errors = [math.hypot(*(s.errors_uj[j] for s in shares)) for j in range(phases)]
    low = [j for j in range(phases) if not errors[j] <= _TOO_WIDE * (alone[j] + mixed[j])]
    by_time = [math.fsum(s.by_time_uj[j] for s in shares) for j in low]
    pool, weight = math.fsum(mixed[j] for j in low), math.fsum(by_time)
    for j, uj in zip(low, by_time, strict=True):
        guess = pool * uj / weight if weight else 0.0
        errors[j] = math.hypot(errors[j], guess - mixed[j])
        mixed[j] = guess
    energies = _apportion(sum(s.mixed_uj for s in shares), mixed)
    return [
        _Figure(
            energy_uj=alone[j] + energies[j],
            error_uj=errors[j],
            confidence=_confidence(alone[j], energies[j], is_low=j in low),
        )
        for j in range(phases)
    ]


def _confidence(alone_uj: int, mixed_uj: int, *, is_low: bool) -> str:
    if is_low or not alone_uj + mixed_uj:
        return "low"
    return "exact" if alone_uj >= _EXACT * (alone_uj + mixed_uj) else "fitted"


def _apportion(whole: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the weights that add up to `whole`."""
    upto = [0.0, *accumulate(weights)]
    if not upto[-1]:
        return [whole, *[0] * (len(weights) - 1)]
    cuts = [*(min(whole, int(whole * at / upto[-1])) for at in upto[:-1]), whole]
    return [b - a for a, b in pairwise(cuts)]
