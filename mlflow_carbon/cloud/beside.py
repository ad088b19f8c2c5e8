"""A provider's figures and ours side by side, by month and grid zone. Never one minus the other.

They answer different questions, so that there is no column of differences, and none of savings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.cloud.contract import LOCATION, MARKET, TOTAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from mlflow_carbon.cloud.contract import Line

__all__ = ["WHY_THEY_DIFFER", "BesideRow", "MeasuredRun", "beside", "not_nested"]

WHY_THEY_DIFFER = (
    "the provider's figure holds everything that the account used, ours only runs that were measured",
    "the provider allots all that its sites used by its own keys; ours is one machine while a run lasted",
    "market-based figures count contracts and certificates; ours is location-based, as its scope 2 can be",
    "scope 3 holds the making of machines and buildings; ours does not",
    "the provider's grid is a mean of an hour, a month or a year, and the month comes weeks late",
)
"""Why the two columns are not expected to agree."""

_G_PER_KG = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """One run with our figures.

    Attributes:
        id: Run id.
        month: UTC month of its start, as in `2025-04`.
        zone: Grid zone that it was costed in.
        energy_kwh: Its energy.
        emissions_gco2e: Its operational emissions; None if unknown.
        is_shared: Whether other runs used the machine at the same time.
        end_month: UTC month of its end.
    """

    id: str
    month: str
    zone: str
    energy_kwh: float
    emissions_gco2e: float | None
    is_shared: bool = False
    end_month: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideRow:
    """One month and grid zone. None: nobody says.

    Attributes:
        month: As in `2025-04`.
        zone: Grid zone; empty where the export does not tell the region, or it is in no zone.
        regions: Regions of the cloud in it.
        location_kg: The provider's total by the location-based method, kgCO2e.
        market_kg: The same, market-based.
        scope2_location_kg: Of its location-based total the bought energy, scope 2.
        runs: How many of our runs.
        energy_kwh: Their energy.
        emissions_kg: Their operational, location-based emissions, kgCO2e.
    """

    month: str
    zone: str
    regions: tuple[str, ...]
    location_kg: float | None
    market_kg: float | None
    scope2_location_kg: float | None
    runs: int = 0
    energy_kwh: float | None = None
    emissions_kg: float | None = None


def beside(
    lines: Sequence[Line], runs: Sequence[MeasuredRun], *, zone_of: Callable[[str, str], str]
) -> list[BesideRow]:
    """Rows for each month and zone of the export, and for runs of its months in other zones.

    Args:
        lines: The export.
        runs: Ours, none inside another; those of months that the export does not have are left out.
        zone_of: Grid zone of a provider and region; empty for none.
    """
    placed = [(line, zone_of(line.provider, line.region)) for line in lines]
    months = {line.month for line in lines}
    ours = [run for run in runs if run.month in months]
    places = {(line.month, zone) for line, zone in placed} | {(run.month, run.zone) for run in ours}
    return [
        _row(
            place,
            [line for line, zone in placed if (line.month, zone) == place],
            [run for run in ours if (run.month, run.zone) == place],
        )
        for place in sorted(places)
    ]


def not_nested(parents: Mapping[str, str], measured: Collection[str]) -> set[str]:
    """Of the measured runs those outside any other: a parent's energy holds its children's (decision 2).

    Args:
        parents: Parent id of each nested run, measured or not.
        measured: Ids of the measured runs.
    """
    return {run_id for run_id in measured if not _has_measured_parent(run_id, parents, measured)}


def _has_measured_parent(run_id: str, parents: Mapping[str, str], measured: Collection[str]) -> bool:
    seen = {run_id}
    parent = parents.get(run_id)
    while parent is not None and parent not in seen:  # a tag may say anything, also a circle
        if parent in measured:
            return True
        seen.add(parent)
        parent = parents.get(parent)
    return False


def _row(place: tuple[str, str], lines: Sequence[Line], runs: Sequence[MeasuredRun]) -> BesideRow:
    month, zone = place
    grams = [run.emissions_gco2e for run in runs if run.emissions_gco2e is not None]
    return BesideRow(
        month=month,
        zone=zone,
        regions=tuple(sorted({line.region for line in lines if line.region})),
        location_kg=_sum(lines, TOTAL, LOCATION),
        market_kg=_sum(lines, TOTAL, MARKET),
        scope2_location_kg=_sum(lines, "2", LOCATION),
        runs=len(runs),
        energy_kwh=sum(run.energy_kwh for run in runs) if runs else None,
        emissions_kg=sum(grams) / _G_PER_KG if grams else None,
    )


def _sum(lines: Sequence[Line], scope: str, method: str) -> float | None:
    found = [line.kgco2e for line in lines if (line.scope, line.method) == (scope, method)]
    return sum(found) if found else None
