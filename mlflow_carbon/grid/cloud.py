"""What a cloud publishes about the place a process runs in: PUE and share of carbon-free energy.

Each figure has its source and its year. The share of carbon-free energy is information: it counts contracts
of the provider, so that it is never multiplied into location-based emissions (decision 0020).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mlflow_carbon.zone_ids import TABLES

if TYPE_CHECKING:
    from mlflow_carbon.grid.regions import Region

__all__ = ["ANY_REGION", "CloudSite", "pue", "site"]

ANY_REGION = "*"
"""Row of a provider's mean, for regions without a figure of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSite:
    """A region of a cloud with what is published about it.

    Attributes:
        provider: `aws`, `gcp` or `azure`.
        region: Name of the region.
        zone: Its grid zone.
        pue: Power usage effectiveness; None where none is published.
        pue_scope: What the PUE is of: `region`, or a mean of more.
        pue_source: Who published it where, and whether it was read there or second hand.
        pue_year: The year that it is of; 0 without one.
        carbon_free_ratio: Share of carbon-free energy by the hour, contracts of the provider included; None
            where none is published.
        cfe_source: As `pue_source`.
        cfe_year: As `pue_year`.
        origin: The variable that named the region, or `metadata`.
        is_proven: Whether the process certainly runs there, so that the PUE counts.
    """

    provider: str
    region: str
    zone: str
    pue: float | None = None
    pue_scope: str = ""
    pue_source: str = ""
    pue_year: int = 0
    carbon_free_ratio: float | None = None
    cfe_source: str = ""
    cfe_year: int = 0
    origin: str = ""
    is_proven: bool = False

    @property
    def pue_label(self) -> str:
        """Short source of the PUE for a tag, for example `aws 2025, us-east-1`."""
        scope = self.region if self.pue_scope == "region" else self.pue_scope
        return f"{self.provider} {self.pue_year}, {scope}"


def site(region: Region) -> CloudSite:
    """A region with its published figures; those that nobody publishes are None."""
    pue = _row("cloud_pue.csv", region)
    cfe = _row("cloud_cfe.csv", region)
    return CloudSite(
        provider=region.provider,
        region=region.name,
        zone=region.zone,
        pue=float(pue["pue"]) if pue else None,
        pue_scope=pue.get("scope", ""),
        pue_source=_source(pue),
        pue_year=int(pue.get("year", 0)),
        carbon_free_ratio=float(cfe["carbon_free_ratio"]) if cfe else None,
        cfe_source=_source(cfe),
        cfe_year=int(cfe.get("year", 0)),
        origin=region.origin,
        is_proven=region.is_proven,
    )


def pue(place: CloudSite | None, *, given: float, source: str) -> tuple[float, str]:
    """The PUE that counts, with its source: the user's own, else the provider's where the place is proven.

    A default of a command line proves no place, so that it changes no figure but the zone's.

    Args:
        place: Region of a cloud, if any.
        given: PUE of the settings.
        source: Where that comes from; `default` if the user gave none.
    """
    if source != "default" or place is None or place.pue is None or not place.is_proven:
        return given, source
    return place.pue, place.pue_label


def _row(table: str, region: Region) -> dict[str, str]:
    rows = _rows(table)
    own = rows.get((region.provider, region.name))
    return own or rows.get((region.provider, ANY_REGION), {})


def _source(row: dict[str, str]) -> str:
    if not row:
        return ""
    of = _sources()[row["source"]]
    return f"{of['publisher']}, {of['title']} ({of['period']}; {of['read']})"


@cache
def _rows(table: str) -> dict[tuple[str, str], dict[str, str]]:
    with (TABLES / table).open(encoding="utf-8", newline="") as file:
        return {(row["provider"], row["region"]): row for row in csv.DictReader(file)}


@cache
def _sources() -> dict[str, dict[str, str]]:
    with (TABLES / "cloud_sources.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}
