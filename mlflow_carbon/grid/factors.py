"""What a kWh of each kind of power station emits, life cycle, in gCO2e/kWh: the medians of the IPCC.

Source: Schlömer et al., Annex III of Working Group III, Fifth Assessment Report, IPCC 2014, table A.III.2.
They are medians of studies over the world and older than most of what has been built since. The table has
no figure of its own for lignite (taken as coal, which is too low), and none for oil, waste, peat, oil shale
and gas made of coal: those stay uncovered, and the share is said.
"""

from __future__ import annotations

__all__ = ["DIRTIEST", "TABLE", "YEAR"]

TABLE = "IPCC AR5 WG3 Annex III medians (2014)"
YEAR = 2014

COAL = 820.0
GAS = 490.0
BIOMASS = 230.0
GEOTHERMAL = 38.0
HYDRO = 24.0
NUCLEAR = 12.0
SOLAR = 48.0  # utility scale; 41 on roofs
WIND_ONSHORE = 11.0
WIND_OFFSHORE = 12.0
OCEAN = 17.0

DIRTIEST = 1200.0
"""Upper end for what has no factor: about what lignite and oil shale emit; not of the table."""
