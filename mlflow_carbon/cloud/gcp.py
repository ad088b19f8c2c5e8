"""Google Cloud Carbon Footprint, the BigQuery table that it exports to, as CSV.

Columns: https://cloud.google.com/carbon-footprint/docs/data-schema, in kgCO2e. BigQuery writes no nested
fields into a CSV file, so that the columns are selected one by one, under names with a dot or with `_`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.cloud.contract import LOCATION, MARKET, TOTAL, Line, Shape, month_of, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SHAPES"]

_FIGURES = {
    "carbon_footprint_total_kgco2e_location_based": (TOTAL, LOCATION),
    "carbon_footprint_total_kgco2e_market_based": (TOTAL, MARKET),
    "carbon_footprint_kgco2e_scope1": ("1", ""),
    "carbon_footprint_kgco2e_scope2_location_based": ("2", LOCATION),
    "carbon_footprint_kgco2e_scope2_market_based": ("2", MARKET),
    "carbon_footprint_kgco2e_scope3": ("3", ""),
}
_ACCOUNTS = ("project_id", "project_number", "billing_account_id")


def _parse(row: Mapping[str, str], _month: str) -> Iterator[Line]:
    month = month_of(row["usage_month"], "usage_month")
    for column, (scope, method) in _FIGURES.items():
        value = number(row, column)
        if value is not None:
            yield Line(
                provider="gcp",
                month=month,
                region=row["location_region"].strip() or row.get("location_location", "").strip(),
                service=row.get("service_description", "").strip(),
                account=next((row[name].strip() for name in _ACCOUNTS if row.get(name, "").strip()), ""),
                scope=scope,
                method=method,
                kgco2e=value,
                model=row.get("carbon_model_version", "").strip(),
            )


SHAPES = (
    Shape(
        provider="gcp",
        name="Google Cloud Carbon Footprint, BigQuery export",
        required=("usage_month", "location_region"),
        figures=tuple(_FIGURES),
        parse=_parse,
    ),
)
