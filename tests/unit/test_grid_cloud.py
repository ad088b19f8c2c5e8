"""Regions of clouds and what is published about them: proof, tables, and which PUE counts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mlflow_carbon.grid import cloud, regions, zones
from mlflow_carbon.grid.regions import Region
from mlflow_carbon.settings import Settings

TABLES = Path(zones.__file__).parent / "tables"
NOWHERE = Path("/nonexistent")


def rows(name: str) -> list[dict[str, str]]:
    """The rows of one of our tables."""
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("env", "provider", "name", "is_proven"),
    [
        ({"AWS_REGION": "eu-west-2"}, "aws", "eu-west-2", False),
        (
            {"AWS_REGION": "eu-west-2", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"},
            "aws",
            "eu-west-2",
            True,
        ),
        ({"AWS_REGION": "eu-west-2", "AWS_EXECUTION_ENV": ""}, "aws", "eu-west-2", False),
        ({"AWS_DEFAULT_REGION": "us-west-1", "AWS_BATCH_JOB_ID": "1"}, "aws", "us-west-1", False),
        ({"FUNCTION_REGION": "us-central1", "FUNCTION_NAME": "f"}, "gcp", "us-central1", True),
        ({"CLOUD_ML_REGION": "us-east5"}, "gcp", "us-east5", False),
        ({"CLOUDSDK_RUN_REGION": "europe-west1"}, "gcp", "europe-west1", False),
        ({"REGION_NAME": "West Europe"}, "azure", "westeurope", False),
        ({"REGION_NAME": "West Europe", "WEBSITE_INSTANCE_ID": "a1"}, "azure", "westeurope", True),
        ({"AZURE_DEFAULTS_LOCATION": "uksouth"}, "azure", "uksouth", False),
    ],
)
def test_a_region_is_proven_by_the_runtime_beside_it_only(env, provider, name, is_proven):
    """A variable that may be a default of a command line proves nothing; with one of the runtime it does."""
    found = regions.from_environment(env)
    assert found is not None
    assert (found.provider, found.name, found.is_proven) == (provider, name, is_proven)


def test_a_proven_region_wins_over_an_earlier_default():
    """An AWS default on an Azure machine does not decide."""
    env = {"AWS_REGION": "eu-west-2", "REGION_NAME": "westeurope", "WEBSITE_INSTANCE_ID": "a1"}
    found = regions.from_environment(env)
    assert found == Region(provider="azure", name="westeurope", origin="REGION_NAME", is_proven=True)


@pytest.mark.parametrize("value", ["", "mars-north-1", "global", "\u0000", "eu-west-2z"])
def test_a_region_that_is_not_in_the_table_is_none(value):
    """Nothing is guessed from a name that nobody knows."""
    assert regions.from_environment({"AWS_REGION": value, "GOOGLE_CLOUD_LOCATION": value}) is None


def test_a_region_found_better_wins_over_variables_and_not_over_the_user():
    """The zone follows the metadata service, and the user's own zone all the same."""
    at = Region(provider="gcp", name="europe-west9", origin="metadata", is_proven=True)
    where = {"localtime": NOWHERE, "timezone_file": NOWHERE}
    found = zones.resolve(Settings(), env={"AWS_REGION": "eu-west-2"}, region=at, **where)
    assert found == zones.Zone(id="FR", source="cloud:metadata", region="gcp:europe-west9")
    own = Settings(zone="PL", zone_source="argument")
    assert zones.resolve(own, env={}, region=at, **where).id == "PL"


def test_published_figures_have_their_source_and_year():
    """A region of Google has both figures, the share by its own table, the PUE second hand."""
    site = cloud.site(Region(provider="gcp", name="europe-west1", origin="metadata", is_proven=True))
    assert (site.zone, site.pue, site.pue_year, site.pue_scope) == ("BE", 1.08, 2025, "region")
    assert site.pue_source == "Google, Environmental Report 2026 (calendar year 2025; second hand)"
    assert (site.carbon_free_ratio, site.cfe_year) == (0.79, 2025)
    assert site.cfe_source == "Google, region-carbon-info 2025 (calendar year 2025; publisher's file)"
    assert site.pue_label == "gcp 2025, europe-west1"


@pytest.mark.parametrize(
    ("provider", "name", "pue", "label"),
    [
        ("aws", "us-east-1", 1.15, "aws 2025, us-east-1"),
        ("aws", "eu-south-1", 1.11, "aws 2025, mean of Europe"),
        ("aws", "ap-east-1", 1.14, "aws 2025, global mean"),
        ("azure", "japaneast", 1.28, "azure 2025, mean of Asia Pacific"),
        ("gcp", "europe-west2", 1.09, "gcp 2025, mean of the sites that Google owns"),
    ],
)
def test_a_mean_says_of_what_it_is_one(provider, name, pue, label):
    """A region without a figure of its own has a mean, and its label says so."""
    site = cloud.site(Region(provider=provider, name=name, origin="metadata"))
    assert (site.pue, site.pue_label) == (pue, label)


def test_no_share_is_made_of_a_claim():
    """Amazon and Microsoft publish yearly matching only, which is no share of carbon-free hours: none is given."""
    for provider, name in (("aws", "eu-west-1"), ("azure", "northeurope")):
        site = cloud.site(Region(provider=provider, name=name, origin="metadata"))
        assert (site.carbon_free_ratio, site.cfe_source, site.cfe_year) == (None, "", 0)


def test_only_a_proven_place_brings_its_pue():
    """The user's PUE stands; a default gives way to the provider's where the process certainly runs there."""
    sure = cloud.site(Region(provider="aws", name="us-east-1", origin="metadata", is_proven=True))
    maybe = cloud.site(Region(provider="aws", name="us-east-1", origin="AWS_REGION"))
    assert cloud.pue(sure, given=1.0, source="default") == (1.15, "aws 2025, us-east-1")
    assert cloud.pue(maybe, given=1.0, source="default") == (1.0, "default")
    assert cloud.pue(None, given=1.0, source="default") == (1.0, "default")
    assert cloud.pue(sure, given=1.0, source="argument") == (1.0, "argument")
    assert cloud.pue(sure, given=1.4, source="file") == (1.4, "file")


def test_the_tables_hold_together():
    """Each figure is of a region with a zone, once, within its bounds, and names a source that is described."""
    known = {(r["provider"], r["region"]) for r in rows("clouds.csv")}
    sources = {r["id"] for r in rows("cloud_sources.csv")}
    assert len(known) == len(rows("clouds.csv"))
    assert {r["zone"] for r in rows("clouds.csv")} <= zones.known()
    for table, column, low, high in (
        ("cloud_pue.csv", "pue", 1.0, 2.0),
        ("cloud_cfe.csv", "carbon_free_ratio", 0.0, 1.0),
    ):
        found = rows(table)
        keys = [(r["provider"], r["region"]) for r in found]
        assert len(set(keys)) == len(keys)
        assert {k for k in keys if k[1] != cloud.ANY_REGION} <= known
        assert {r["source"] for r in found} <= sources
        assert all(low <= float(r[column]) <= high and int(r["year"]) >= 2020 for r in found)
    assert {r["provider"] for r in rows("cloud_pue.csv") if r["region"] == cloud.ANY_REGION} == {
        "aws",
        "azure",
        "gcp",
    }
    assert {r["read"] for r in rows("cloud_sources.csv")} == {"second hand", "publisher's file"}
