"""Energy of named phases from the time each took between two readings.

Energy of a reading interval is shared out by time: a phase gets energy x (its time / interval).
This is exact where phases are longer than the readings are apart and coarse where they are
shorter, so each row says how much it can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.units import NS_PER_S, uj_to_j

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["METHOD", "OTHER", "PhaseBook", "PhaseRow"]

METHOD = "time-proportional"
OTHER = "other"
_LONG_ENOUGH = 3  # reading intervals that a phase must last before its share is more than a guess


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """Time and energy of one phase.

    Attributes:
        phase: Its name; `other` is the rest of the run.
        time_s: Own time, without that of phases inside it.
        energy_j: Energy by `METHOD`.
        energy_ratio: Share of the run's energy.
        entries: How often it was entered (0 for `other`).
        confidence: `fair`, or `low` where single stays are short against the sampling.
    """

    phase: str
    time_s: float
    energy_j: float
    energy_ratio: float
    entries: int
    confidence: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class PhaseBook:
    """Running time and energy per phase, in whole nanoseconds and microjoules."""

    def __init__(self) -> None:
        self._time_ns: dict[str, int] = {}
        self._energy_uj: dict[str, int] = {}
        self._entries: dict[str, int] = {}
        self._total_ns = 0
        self._total_uj = 0

    def add(self, phases_ns: Mapping[str, int], *, energy_uj: int, duration_ns: int) -> None:
        """Share out the energy of one reading interval.

        Args:
            phases_ns: Time of each phase inside the interval.
            energy_uj: Energy of the interval.
            duration_ns: Its length. Phases of several threads may add up to more.
        """
        self._total_ns += duration_ns
        self._total_uj += energy_uj
        whole = max(duration_ns, sum(phases_ns.values()), 1)
        for name, time_ns in phases_ns.items():
            self._time_ns[name] = self._time_ns.get(name, 0) + time_ns
            self._energy_uj[name] = self._energy_uj.get(name, 0) + energy_uj * time_ns // whole

    def count(self, entries: Mapping[str, int]) -> None:
        """Set how often each phase has been entered so far."""
        self._entries.update(entries)

    def rows(self, period_s: float) -> tuple[PhaseRow, ...]:
        """One row per phase, dearest first, and `other`; energies add up to the run's."""
        if not self._time_ns:
            return ()
        # A phase that the user named `other` is part of the rest: there is one row of a name.
        names = sorted(self._energy_uj.keys() - {OTHER}, key=lambda n: (-self._energy_uj[n], n))
        rest_uj = self._total_uj - sum(self._energy_uj[n] for n in names)
        rest_ns = max(0, self._total_ns - sum(self._time_ns[n] for n in names))
        return (
            *(self._row(n, self._time_ns[n], self._energy_uj[n], period_s) for n in names),
            self._row(OTHER, rest_ns, rest_uj, period_s),
        )

    def _row(self, name: str, time_ns: int, energy_uj: int, period_s: float) -> PhaseRow:
        entries = self._entries.get(name, 0)
        time_s = time_ns / NS_PER_S
        long_stays = entries > 0 and time_s / entries >= _LONG_ENOUGH * period_s
        return PhaseRow(
            phase=name,
            time_s=time_s,
            energy_j=uj_to_j(energy_uj),
            energy_ratio=energy_uj / self._total_uj if self._total_uj else 0.0,
            entries=entries,
            confidence="fair" if long_stays else "low",
        )
