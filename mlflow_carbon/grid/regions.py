"""Regions of clouds: which one a process is in by its environment, and the grid zone of each.

Some variables are defaults of command lines and stand on many laptops. A region is *proven* only where a
variable stands beside it that the cloud's own runtimes set; otherwise it names a zone and nothing else.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mlflow_carbon.zone_ids import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CLOUD_VARIABLES", "RUNTIMES", "Region", "from_environment", "known", "normal", "zone_of"]

RUNTIMES = (
    (
        "AWS_REGION",
        "aws",
        ("AWS_EXECUTION_ENV", "ECS_CONTAINER_METADATA_URI_V4", "AWS_BATCH_JOB_ID", "TRAINING_JOB_ARN"),
    ),
    ("CLOUD_ML_REGION", "gcp", ("CLOUD_ML_JOB_ID",)),
    ("FUNCTION_REGION", "gcp", ("FUNCTION_NAME", "K_SERVICE")),
    ("REGION_NAME", "azure", ("WEBSITE_INSTANCE_ID",)),
)
"""Variable of the region, cloud, and variables of which its runtimes set one: proof that this runs there."""

CLOUD_VARIABLES = (
    ("AWS_REGION", "aws"),
    ("AWS_DEFAULT_REGION", "aws"),
    ("GOOGLE_CLOUD_REGION", "gcp"),
    ("CLOUD_ML_REGION", "gcp"),
    ("FUNCTION_REGION", "gcp"),
    ("CLOUDSDK_COMPUTE_REGION", "gcp"),
    ("CLOUDSDK_COMPUTE_ZONE", "gcp"),
    ("CLOUDSDK_RUN_REGION", "gcp"),
    ("CLOUDSDK_FUNCTIONS_REGION", "gcp"),
    ("GOOGLE_CLOUD_LOCATION", "gcp"),
    ("AZURE_REGION", "azure"),
    ("AZURE_LOCATION", "azure"),
    ("AZURE_DEFAULTS_LOCATION", "azure"),
    ("REGION_NAME", "azure"),
)
"""Variables that clouds (or their users) set, in order of trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A region of a cloud and how it was found.

    Attributes:
        provider: `aws`, `gcp` or `azure`.
        name: The region as its cloud writes it, for example `europe-west2`.
        origin: The variable that named it, or `metadata` for the cloud's metadata service.
        is_proven: Whether this process certainly runs there.
    """

    provider: str
    name: str
    origin: str
    is_proven: bool = False

    @property
    def zone(self) -> str:
        """Its grid zone; empty for a region that is not in the table."""
        return zone_of(self.provider, self.name)


def from_environment(env: Mapping[str, str]) -> Region | None:
    """The region that the environment names: proven ones first; None without a region that is known."""
    return next(_named(env), None)


def known(provider: str, value: str) -> str:
    """The region of a region's or data centre's name, in any case; empty if it is not in the table."""
    plain = normal(value)
    # `us-central1-a` and `eu-west-2b` name a data centre inside a region.
    shorter = re.sub(r"(?<=\d)-?[a-f]$", "", plain)
    return next((name for name in (plain, shorter) if zone_of(provider, name)), "")


def normal(value: str) -> str:
    """A region as the table writes it: `West Europe` is `westeurope`."""
    return value.strip().lower().replace(" ", "")


def zone_of(provider: str, region: str) -> str:
    """The grid zone of a region; empty if it is not in the table."""
    return _zones().get((provider, region), "")


def _named(env: Mapping[str, str]) -> Iterator[Region]:
    for variable, provider, companions in RUNTIMES:
        name = known(provider, env.get(variable, ""))
        if name and any(env.get(companion) for companion in companions):
            yield Region(provider=provider, name=name, origin=variable, is_proven=True)
    for variable, provider in CLOUD_VARIABLES:
        name = known(provider, env.get(variable, ""))
        if name:
            yield Region(provider=provider, name=name, origin=variable)


@cache
def _zones() -> dict[tuple[str, str], str]:
    with (TABLES / "clouds.csv").open(encoding="utf-8", newline="") as file:
        return {(row["provider"], row["region"]): row["zone"] for row in csv.DictReader(file)}
