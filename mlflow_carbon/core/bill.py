"""What energy costs in grams, cell by cell: the one place where a gram is computed.

A `Bill` costs each closed cell of a run once, so that asking again costs as much as there are channels,
however old the run is. With another intensity it is another bill, which goes through all cells once.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter
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
    """Costs the energy of one span, again and again as it grows.

    Two threads may ask at a time: what is known is replaced as a whole, and what one of them loses is found
    again.

    The sum is made in the order in which the cells were closed, from the first to the last, so it is the same
    whether it was asked for in between or not.

    Args:
        intensity: Grid intensity by time.
        pue_ratio: Facility energy over IT energy.
    """

    def __init__(self, intensity: IntensitySeries, pue_ratio: float = 1.0) -> None:
        self._intensity = intensity
        self._pue_ratio = pue_ratio
        # The log, and what is known of it: after so many closed cells the cost was this.
        self._known: tuple[Sequence[Cell], tuple[tuple[int, Cost], ...]] = ((), ())

    def is_of(self, intensity: IntensitySeries, pue_ratio: float) -> bool:
        """Whether it costs at this price."""
        return self._intensity is intensity and self._pue_ratio == pue_ratio

    def of(self, series: EnergySeries) -> Cost:
        """The cost of a span so far."""
        cells = series.book()
        parts = {c.id for c in series.parts()}
        log, known = self._known
        if log is not cells.log:
            log, known = cells.log, ()
        at = bisect_right(known, cells.count, key=itemgetter(0))
        count, cost = known[at - 1] if at else (0, _NOTHING)
        for cell in cells.closed(count):
            cost = self._plus(cost, cell, parts)
        if cells.count > count:
            self._known = (log, (*known[:at], (cells.count, cost), *known[at:]))
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
