"""The table of live providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.grid import eia, electricity_maps, energy_charts, entsoe, gb, watttime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_carbon.grid.contract import GridProvider

__all__ = ["AUTO", "PROVIDERS", "SEEN_LIVE"]

PROVIDERS: Mapping[str, GridProvider] = {
    "gb": gb.CarbonIntensityGB(),
    "electricity_maps": electricity_maps.ElectricityMaps(),
    "energy_charts": energy_charts.EnergyCharts(),
    "eia": eia.EnergyInformationAdministration(),
    "entsoe": entsoe.Entsoe(),
    "watttime": watttime.WattTime(),
}
"""Live providers by the name that `settings.grid` takes."""

AUTO = ("gb", "electricity_maps")
"""What `grid=auto` may ask, in this order; the second only where its token is set. Never a marginal one."""

SEEN_LIVE: frozenset[str] = frozenset()
"""Names of the providers whose real answers were read by those who made this: none yet."""
