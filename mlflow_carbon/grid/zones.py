"""Grid zones: which one a machine is in, and what its id means.

Never asks the network. The order is the user's own setting, the region of a cloud, the machine's time
zone, and the world average; the source is kept beside the id, since a guessed zone is never sent to
a live service (decision 8).
"""

from __future__ import annotations

import csv
import re
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_carbon.errors import ZoneError
from mlflow_carbon.grid import regions
from mlflow_carbon.zone_ids import TABLES, WORLD, normal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_carbon.settings import Settings

__all__ = ["WORLD", "Zone", "ZoneFacts", "check", "facts", "known", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A grid zone and how it was found.

    Attributes:
        id: Grid zone id, for example `GB`.
        source: `argument`, `environment`, `file`, `cloud:<variable>`, `cloud:metadata`, `timezone` or
            `world-average`.
        region: Cloud region behind the zone, for example `gcp:europe-west2`; empty otherwise.
    """

    id: str
    source: str
    region: str = ""

    @property
    def is_named(self) -> bool:
        """Whether the user named the zone, so that a live service may be asked about it."""
        return self.source in {"argument", "environment", "file"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneFacts:
    """What the tables know about a zone.

    Attributes:
        id: Grid zone id.
        name: Name for people.
        country: Id of the country's zone, the same for a country.
        iso3: ISO 3166 alpha-3 code of the country.
        table: Where the annual figure is: `country`, `usa` or `nordic`.
        key: Row in that table.
    """

    id: str
    name: str
    country: str
    iso3: str
    table: str
    key: str


def resolve(
    settings: Settings,
    *,
    env: Mapping[str, str],
    region: regions.Region | None = None,
    localtime: Path = Path("/etc/localtime"),
    timezone_file: Path = Path("/etc/timezone"),
) -> Zone:
    """The zone of this machine: setting, cloud region, time zone, world average.

    Args:
        settings: The user's own zone, if any.
        env: Environment, with its cloud variables and `TZ`.
        region: A cloud region that is known better than from variables.
        localtime: Link to the time zone.
        timezone_file: File that names it.

    Raises:
        ZoneError: If the setting names a zone that nobody knows.
    """
    if settings.zone is not None:
        return Zone(id=check(settings.zone), source=settings.zone_source or "argument")
    here = region or regions.from_environment(env)
    if here is not None and here.zone:
        return Zone(id=here.zone, source=f"cloud:{here.origin}", region=f"{here.provider}:{here.name}")
    for name in _timezone_names(env, localtime, timezone_file):
        zone_id = _timezones().get(name, "")
        if zone_id:
            return Zone(id=zone_id, source="timezone")
    return Zone(id=WORLD, source="world-average")


def check(zone_id: str) -> str:
    """The canonical id of a zone given in any case, as alpha-3 code or by a common short name.

    Raises:
        ZoneError: If nobody knows it; the message offers near names.
    """
    wanted = normal(zone_id)
    if wanted in known():
        return wanted
    canonical = _aliases().get(wanted)
    if canonical is None:
        raise ZoneError(
            f"zone: expected a grid zone id such as GB, DE or US-CAL-CISO, got {zone_id!r}{_near(wanted)}"
        )
    return canonical


def facts(zone_id: str) -> ZoneFacts | None:
    """What is known about a canonical zone id; None for the world average."""
    return _facts().get(zone_id)


def known() -> frozenset[str]:
    """Every canonical id, `WORLD` among them."""
    return frozenset(_facts()) | {WORLD}


def _near(wanted: str) -> str:
    names = {f.name.upper(): f for f in _facts().values()} | {f.id: f for f in _facts().values()}
    near = dict.fromkeys(names[n].id for n in get_close_matches(wanted, names, n=3))
    if not near:
        return "; docs/how-to/settings.md links the list of all zones"
    return "; did you mean " + " or ".join(f"{n} ({_facts()[n].name})" for n in near) + "?"


def _timezone_names(env: Mapping[str, str], localtime: Path, timezone_file: Path) -> Iterator[str]:
    yield _zone_name(env.get("TZ", ""))
    with suppress(OSError):
        # One step only: the last target of a link such as `Iceland` may lie in another country.
        yield _zone_name(str(localtime.readlink()))
    with suppress(OSError, ValueError):
        yield _zone_name(timezone_file.read_text(encoding="utf-8"))


def _zone_name(text: str) -> str:
    name = text.strip().lstrip(":")
    _, found, inside = name.rpartition("zoneinfo/")
    return re.sub("^(posix|right)/", "", inside if found else name)


def _rows(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def _facts() -> dict[str, ZoneFacts]:
    countries = {
        row["zone"]: ZoneFacts(
            id=row["zone"],
            name=row["name"],
            country=row["zone"],
            iso3=row["iso3"],
            table="country",
            key=row["iso3"],
        )
        for row in _rows("countries.csv")
    }
    parts = {
        row["zone"]: ZoneFacts(
            id=row["zone"],
            name=row["name"],
            country=row["country"],
            iso3=countries[row["country"]].iso3,
            table=row["table"],
            key=row["key"] or countries[row["country"]].iso3,
        )
        for row in _rows("subzones.csv")
    }
    return countries | parts


@cache
def _aliases() -> dict[str, str]:
    short = {row["also"]: row["zone"] for name in ("countries.csv", "subzones.csv") for row in _rows(name)}
    iso3 = {row["iso3"]: row["zone"] for row in _rows("countries.csv")}
    return {key: zone for key, zone in (short | iso3).items() if key}


@cache
def _timezones() -> dict[str, str]:
    return {row["timezone"]: row["zone"] for row in _rows("timezones.csv")}
