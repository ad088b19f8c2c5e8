"""What energy costs in grams, cell by cell: the one place where a gram is computed.

A `Bill` costs each closed cell of a run once, so that asking again costs as much as there are channels,
however old the run is. With another intensity it is another bill, which goes through all cells once.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.core.cells import BUCKET_S
from mlflow_carbon.core.units import uj_to_kwh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_carbon.core.carbon import IntensitySeries
    from mlflow_carbon.core.cells import Cell
    from mlflow_carbon.core.series import EnergySeries

__all__ = ["Bill", "Cost", "emissions_gco2e"]


def emissions_gco2e(energy_kwh: float, intensity_gco2e_per_kwh: float, pue_ratio: float = 1.0) -> float:
    """Operational emissions in gCO2e of IT energy in kWh (GHG Protocol Scope 2, location-based)."""
    return energy_kwh * pue_ratio * intensity_gco2e_per_kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Emissions in gCO2e with the ends of their range by the intensity alone, and which kinds costed them."""

    grams: float = 0.0
    low: float = 0.0
    high: float = 0.0
    kinds: frozenset[str] = frozenset()


_NOTHING = Cost()


class Bill:
    """Costs the energy of one span, again and again as it grows. For one thread.

    The sum is made in the order in which the cells were closed, from the first to the last, so it is the same
    whether it was asked for in between or not.

    Args:
        intensity: Grid intensity by time.
        pue_ratio: Facility energy over IT energy.
    """

    def __init__(self, intensity: IntensitySeries, pue_ratio: float = 1.0) -> None:
        self._intensity = intensity
        self._pue_ratio = pue_ratio
        self._log: Sequence[Cell] | None = None
        self._counts = [0]  # after so many closed cells ...
        self._costs = [_NOTHING]  # ... the cost was this

    def of(self, series: EnergySeries) -> Cost:
        """The cost of a span so far."""
        cells = series.book()
        parts = {c.id for c in series.parts()}
        if self._log is not cells.log:
            self._log, self._counts, self._costs = cells.log, [0], [_NOTHING]
        at = bisect_right(self._counts, cells.count) - 1
        count, cost = self._counts[at], self._costs[at]
        for cell in cells.closed(count):
            cost = self._plus(cost, cell, parts)
        if cells.count > count:
            self._counts.insert(at + 1, cells.count)
            self._costs.insert(at + 1, cost)
        for cell in cells.open:
            cost = self._plus(cost, cell, parts)
        return cost

    def _plus(self, so_far: Cost, cell: Cell, parts: set[str]) -> Cost:
        if cell.channel not in parts:
            return so_far
        slot = self._intensity.at(cell.bucket_s + BUCKET_S / 2)
        kwh = uj_to_kwh(cell.energy_uj)
        return Cost(
            grams=so_far.grams + emissions_gco2e(kwh, slot.gco2e_per_kwh, self._pue_ratio),
            low=so_far.low + emissions_gco2e(kwh, slot.low_gco2e_per_kwh, self._pue_ratio),
            high=so_far.high + emissions_gco2e(kwh, slot.high_gco2e_per_kwh, self._pue_ratio),
            kinds=so_far.kinds | {slot.kind} if cell.energy_uj > 0 else so_far.kinds,
        )
