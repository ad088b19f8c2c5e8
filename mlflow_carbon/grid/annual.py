"""Annual factors from the data files of the installed CodeCarbon (MIT), read without importing it.

One static figure per zone: it says how much, never when. The chain is cloud region, sub-zone,
country, world average; each step down is written in the note. The sources differ in scope, and
the series says which: the country figures are life-cycle, those of US states (eGRID) and of Google's
regions count what comes out of the stack.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.grid import zones

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAME", "STATIC_RATIO", "Tables", "fixed_slot", "installed", "series"]

NAME = "codecarbon"
"""Provider of these figures."""

STATIC_RATIO = 0.2
"""Half width of the 95 % range of a static figure, as a ratio: an engineering choice, not a statistic."""

G_PER_LB = 453.59237
_KWH_PER_MWH = 1000
_MAX_GCO2E_PER_KWH = 5000
_END_S = 253_402_300_799  # the last second of the year 9999
_COUNTRIES = "private_infra/global_energy_mix.json"
_STATES = "private_infra/2023/usa_emissions.json"
_NORDIC = "private_infra/nordic_emissions.json"
_SOURCES = "private_infra/carbon_intensity_per_source.json"
_GCP = "cloud/impact.csv"
_MISSPELT = {"me-central1": "me-cenrtal1"}

# Used only where the tables cannot be read: the world average of CodeCarbon 3.3.2 (IEA 2019) and the
# range of its country figures.
_WORLD = (475.0, 24.457, 893.913)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Where CodeCarbon's data files are, and of which version."""

    folder: Path
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    value: float
    origin: str
    file: str
    scope: str = "life cycle"
    low: float | None = None
    high: float | None = None
    note: str = ""


def installed() -> Tables | None:
    """The tables of the CodeCarbon in this environment; None where there is none."""
    try:
        spec = find_spec("codecarbon")
        version = metadata.version("codecarbon")
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Tables(folder=Path(spec.submodule_search_locations[0]) / "data", version=version)


def series(zone: zones.Zone, *, tables: Tables | None) -> IntensitySeries:
    """The annual figure of a zone as a series without slots. Never raises for missing data."""
    notes: list[str] = []
    figure = None if tables is None else _figure(zone, tables.folder, notes)
    if figure is None:
        if zone.id != zones.WORLD:
            notes.append(f"no figure for {zone.id}")
        figure = _world(tables, notes)
    of = "built-in" if tables is None else f"CodeCarbon {tables.version}, {figure.file}"
    return IntensitySeries(
        zone=zone.id,
        provider=NAME,
        static=fixed_slot(figure.value, low=figure.low, high=figure.high),
        static_provider=NAME,
        scope=figure.scope,
        dataset=f"{figure.origin} ({of})",
        note="; ".join([*notes, *([figure.note] if figure.note else [])]),
    )


def fixed_slot(value: float, *, low: float | None = None, high: float | None = None) -> IntensitySlot:
    """A static slot that covers all times; the range is +-20 % where none is given."""
    return IntensitySlot(
        start_s=0,
        end_s=_END_S,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value * (1 - STATIC_RATIO) if low is None else low,
        high_gco2e_per_kwh=value * (1 + STATIC_RATIO) if high is None else high,
        kind="static",
    )


def _figure(zone: zones.Zone, folder: Path, notes: list[str]) -> _Figure | None:
    provider, _, region = zone.region.partition(":")
    if provider == "gcp":
        found = _tried(_google, folder, region, notes)
        if found is not None:
            return found
    facts = zones.facts(zone.id)
    if facts is None:
        return None
    found = _tried(_READERS[facts.table], folder, facts.key, notes)
    if facts.id == facts.country:
        return found
    if found is None or facts.table == "country":
        notes.append(f"no figure for {facts.id}: the figure of {facts.country} is used")
    return found or _tried(_country, folder, facts.iso3, notes)


def _tried(
    read: Callable[[Path, str], _Figure | None], folder: Path, key: str, notes: list[str]
) -> _Figure | None:
    try:
        return read(folder, key)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        notes.append(f"CodeCarbon's table cannot be read ({type(error).__name__})")
        return None


def _country(folder: Path, iso3: str) -> _Figure | None:
    row = _json(folder, _COUNTRIES).get(iso3, {})
    value = _positive(row.get("carbon_intensity"))
    if value is None:
        return None
    return _Figure(value=value, origin=f"Our World in Data {row.get('year')}", file=_COUNTRIES)


def _state(folder: Path, state: str) -> _Figure | None:
    table = _json(folder, _STATES)
    value = _positive(table.get(state, {}).get("emissions"))
    if value is None:
        return None
    year = table.get("_source", {}).get("year", "of unknown year")
    return _Figure(
        value=value * G_PER_LB / _KWH_PER_MWH,
        origin=f"EPA eGRID {year}, {state.title()}",
        file=_STATES,
        scope="direct",
    )


def _bidding_zone(folder: Path, key: str) -> _Figure | None:
    row = _json(folder, _NORDIC).get("data", {}).get(key, {})
    value = _positive(row.get("emission_factor"))
    if value is None:
        return None
    # The table warns where part of the generation has no factor, and so counts as nothing.
    note = str(row.get("note", "")) if "Lower bound" in str(row.get("note", "")) else ""
    return _Figure(
        value=value, origin=f"ENTSO-E generation mix {row.get('year')}", file=_NORDIC, note=note[:200]
    )


def _google(folder: Path, region: str) -> _Figure | None:
    with (folder / _GCP).open(encoding="utf-8-sig", newline="") as file:
        rows = {row["region"]: row for row in csv.DictReader(file) if row["provider"] == "gcp"}
    row = rows.get(region) or rows.get(_MISSPELT.get(region, ""))
    value = _positive(float(row["impact"])) if row else None
    if value is None:
        return None
    return _Figure(
        value=value, origin=f"Google Cloud region {region}, year not stated", file=_GCP, scope="direct"
    )


def _world(tables: Tables | None, notes: list[str]) -> _Figure:
    """The world average; its range holds the middle 95 % of the country figures (nearest rank)."""
    value, low, high = _WORLD
    if tables is not None:
        try:
            value = float(_json(tables.folder, _SOURCES)["world_average"])
            figures = sorted(
                float(row["carbon_intensity"])
                for row in _json(tables.folder, _COUNTRIES).values()
                if _positive(row["carbon_intensity"]) is not None
            )
            low, high = (figures[round(p * (len(figures) - 1))] for p in (0.025, 0.975))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            notes.append(f"CodeCarbon's table cannot be read ({type(error).__name__}): built-in figure")
    notes.append("world average, the range holds 95 % of the country figures: name a zone for a better one")
    return _Figure(
        value=value,
        low=min(low, value),
        high=max(high, value),
        origin="world average, IEA 2019",
        file=_SOURCES,
        scope="not stated",
    )


def _positive(value: Any) -> float | None:
    """A figure, or None: CodeCarbon writes 0.0 where a country has no figure."""
    return float(value) if isinstance(value, int | float) and 0 < value <= _MAX_GCO2E_PER_KWH else None


def _json(folder: Path, name: str) -> dict[str, Any]:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{name}: expected an object, got {type(content).__name__}")
    return content


_READERS: dict[str, Callable[[Path, str], _Figure | None]] = {
    "country": _country,
    "usa": _state,
    "nordic": _bidding_zone,
}
