"""Zones: the order in which one is found, and what an id means."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import ZoneError
from mlflow_carbon.grid import annual, regions, zones
from mlflow_carbon.settings import Settings

TABLES = Path(zones.__file__).parent / "tables"
NOWHERE = Path("/nonexistent")


def find(
    settings: Settings | None = None,
    *,
    env: dict[str, str] | None = None,
    region: regions.Region | None = None,
    **paths: Path,
) -> zones.Zone:
    """The zone of a machine that shows nothing but what the test gives."""
    where = {"localtime": NOWHERE, "timezone_file": NOWHERE} | paths
    return zones.resolve(settings or Settings(), env=env or {}, region=region, **where)


def link(folder: Path, target: str) -> Path:
    """A /etc/localtime that points at a time zone."""
    path = folder / "localtime"
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("source", ["argument", "environment", "file"])
def test_a_named_zone_wins_over_everything(source, tmp_path):
    """The user's own zone is taken, with where it was named."""
    settings = Settings(zone="de", zone_source=source)
    zone = find(settings, env={"AWS_REGION": "eu-west-2", "TZ": "Europe/Paris"})
    assert zone == zones.Zone(id="DE", source=source)
    assert zone.is_named


@pytest.mark.parametrize(
    ("variable", "value", "zone_id", "region"),
    [
        ("AWS_REGION", "eu-west-2", "GB", "aws:eu-west-2"),
        ("AWS_DEFAULT_REGION", "us-west-1", "US-CAL-CISO", "aws:us-west-1"),
        ("AWS_REGION", "eu-central-1a", "DE", "aws:eu-central-1"),
        ("GOOGLE_CLOUD_REGION", "europe-west9", "FR", "gcp:europe-west9"),
        ("CLOUDSDK_COMPUTE_ZONE", "us-central1-a", "US-IA", "gcp:us-central1"),
        ("REGION_NAME", "West Europe", "NL", "azure:westeurope"),
    ],
)
def test_a_cloud_variable_wins_over_the_time_zone(variable, value, zone_id, region):
    """Regions and data centres of the three clouds are zones, and the variable is named."""
    zone = find(env={variable: value, "TZ": "Asia/Tokyo"})
    assert zone == zones.Zone(id=zone_id, source=f"cloud:{variable}", region=region)
    assert not zone.is_named


def test_a_cloud_region_nobody_knows_is_passed_over():
    """A region that is not in the table leaves the decision to the next source."""
    assert find(env={"AWS_REGION": "mars-north-1", "TZ": "Asia/Tokyo"}).id == "JP"


@pytest.mark.parametrize(
    ("name", "zone_id"),
    [
        ("Europe/Kiev", "UA"),
        (":Europe/Berlin", "DE"),
        ("US/Pacific", "US"),
        ("/usr/share/zoneinfo/posix/Europe/London", "GB"),
        ("Iceland", "IS"),
        ("Africa/Timbuktu", "ML"),
    ],
)
def test_the_time_zone_variable_gives_the_country(name, zone_id):
    """Current and backward names, with the decorations that TZ allows."""
    assert find(env={"TZ": name}) == zones.Zone(id=zone_id, source="timezone")


@pytest.mark.parametrize(
    "name", ["UTC", "Etc/UTC", "Etc/GMT-1", "GMT", "EST5EDT", "CET", "UTC0", "Moon/Base", ""]
)
def test_a_time_zone_without_a_place_is_no_zone(name):
    """UTC and abbreviations say nothing about where a machine is."""
    assert find(env={"TZ": name}) == zones.Zone(id="WORLD", source="world-average")


@pytest.mark.parametrize(
    ("target", "zone_id"),
    [
        ("/usr/share/zoneinfo/Europe/Lisbon", "PT"),
        ("../usr/share/zoneinfo/America/Argentina/Buenos_Aires", "AR"),
        ("/var/db/timezone/zoneinfo/Asia/Kolkata", "IN"),
        ("/usr/share/zoneinfo/Etc/UTC", "WORLD"),
    ],
)
def test_the_localtime_link_gives_the_country(tmp_path, target, zone_id):
    """The link is read, not followed: its target need not exist."""
    assert find(localtime=link(tmp_path, target)).id == zone_id


def test_the_time_zone_file_is_the_last_resort(tmp_path):
    """Debian's /etc/timezone counts where /etc/localtime is a plain file."""
    plain, named = tmp_path / "localtime", tmp_path / "timezone"
    plain.write_bytes(b"TZif2")
    named.write_text("Australia/ACT\n")
    assert find(localtime=plain, timezone_file=named).id == "AU"


def test_a_time_zone_file_of_rubbish_is_the_world(tmp_path):
    """Bytes that are no text are no zone and no error."""
    bad = tmp_path / "timezone"
    bad.write_bytes(b"\xff\xfe\x00")
    assert find(timezone_file=bad).source == "world-average"


@pytest.mark.parametrize(
    ("given_id", "canonical"),
    [
        ("gb", "GB"),
        (" GBR ", "GB"),
        ("uk", "GB"),
        ("us_cal_ciso", "US-CAL-CISO"),
        ("CISO", "US-CAL-CISO"),
        ("se3", "SE-SE3"),
        ("US-CA", "US-CA"),
        ("world", "WORLD"),
    ],
)
def test_ids_are_canonical(given_id, canonical):
    """Any case, alpha-3 codes and the usual short names are understood."""
    assert zones.check(given_id) == canonical


@pytest.mark.parametrize(
    ("wrong", "offered"), [("Germny", "DE (Germany)"), ("US-CAL-CSIO", "US-CAL-CISO"), ("Atlantis", "")]
)
def test_an_unknown_zone_says_what_to_do(wrong, offered):
    """The message says what was expected and got, and offers near names."""
    with pytest.raises(ZoneError, match="expected a grid zone id such as GB") as caught:
        zones.check(wrong)
    assert repr(wrong) in str(caught.value)
    assert offered in str(caught.value)


def test_an_unknown_zone_in_the_settings_raises():
    """A zone that the user named is never replaced in silence."""
    with pytest.raises(ZoneError):
        find(Settings(zone="Narnia", zone_source="file"))


@given(st.text(max_size=12))
def test_check_is_idempotent_or_refuses(text):
    """Whatever is given, the answer is a known id or a ZoneError."""
    try:
        canonical = zones.check(text)
    except ZoneError:
        return
    assert canonical in zones.known()
    assert zones.check(canonical) == canonical


@given(
    st.dictionaries(st.sampled_from([v for v, _ in regions.CLOUD_VARIABLES] + ["TZ"]), st.text(max_size=20))
)
def test_resolving_never_fails_on_what_the_environment_holds(env):
    """Only the user's own setting can be refused."""
    assert find(env=env).id in zones.known()


def rows(name: str) -> list[dict[str, str]]:
    """The rows of one of our tables."""
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_zone_in_the_tables_is_known():
    """Time zones, cloud regions and sub-zones lead to zones that exist, once each."""
    for name in ("timezones.csv", "clouds.csv"):
        assert {r["zone"] for r in rows(name)} <= zones.known()
    assert {r["country"] for r in rows("subzones.csv")} <= zones.known()
    ids = [r["zone"] for n in ("countries.csv", "subzones.csv") for r in rows(n)]
    aliases = [r["also"] for n in ("countries.csv", "subzones.csv") for r in rows(n) if r["also"]]
    aliases += [r["iso3"] for r in rows("countries.csv")]
    assert len(set(ids)) == len(ids)
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & set(ids)


def test_countries_agree_with_pycountry():
    """Alpha-3 codes are those of ISO 3166-1; Kosovo is the one user-assigned code."""
    pycountry = pytest.importorskip("pycountry", reason="comes with codecarbon")
    expected = {c.alpha_2: c.alpha_3 for c in pycountry.countries} | {"XK": "XKX"}
    assert {r["zone"]: r["iso3"] for r in rows("countries.csv")} == expected


def test_time_zones_agree_with_the_installed_tzdata():
    """Every line of zone.tab that is in our table has the same country."""
    pytest.importorskip("tzdata", reason="not needed to run, only to compare")
    text = files("tzdata").joinpath("zoneinfo/zone.tab").read_text(encoding="utf-8")
    official = {
        c[2]: c[0] for c in (line.split("\t") for line in text.splitlines() if line[:1] not in {"#", ""})
    }
    ours = {r["timezone"]: r["zone"] for r in rows("timezones.csv")}
    common = official.keys() & ours.keys()
    assert len(common) > 400
    assert {n: ours[n] for n in common} == {n: official[n] for n in common}


def test_every_key_of_a_subzone_is_in_codecarbons_tables():
    """A sub-zone that promises a figure has one."""
    tables = annual.installed()
    assert tables is not None
    states = json.loads((tables.folder / "private_infra/2023/usa_emissions.json").read_text())
    nordic = json.loads((tables.folder / "private_infra/nordic_emissions.json").read_text())["data"]
    for row in rows("subzones.csv"):
        where = {"usa": states, "nordic": nordic}.get(row["table"])
        assert where is None or row["key"] in where
