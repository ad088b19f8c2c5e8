"""AWS Data Exports, table CARBON_EMISSIONS, as CSV (plain or gzip).

Columns: https://docs.aws.amazon.com/cur/latest/userguide/carbon-emissions-columns.html. Files before method
v3 lack the columns of the scopes. Reports of the console (Sustainability, Customer Carbon Footprint Tool)
have other, undocumented columns and are not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.cloud.contract import KG_PER_UNIT, LOCATION, MARKET, TOTAL, Line, Shape, month_of, number
from mlflow_carbon.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SHAPES"]

_FIGURES = {
    "total_lbm_emissions_value": (TOTAL, LOCATION),
    "total_mbm_emissions_value": (TOTAL, MARKET),
    "total_scope_1_emissions_value": ("1", ""),
    "total_scope_2_lbm_emissions_value": ("2", LOCATION),
    "total_scope_2_mbm_emissions_value": ("2", MARKET),
    "total_scope_3_lbm_emissions_value": ("3", LOCATION),
    "total_scope_3_mbm_emissions_value": ("3", MARKET),
}
_UNIT = "MTCO2e"  # the only one that is documented; a cell may be empty


def _parse(row: Mapping[str, str], _month: str) -> Iterator[Line]:
    month = month_of(row["usage_period_start"], "usage_period_start")
    for column, (scope, method) in _FIGURES.items():
        value = number(row, column)
        if value is not None:
            yield Line(
                provider="aws",
                month=month,
                region=row["region_code"].strip() or row.get("location", "").strip(),
                service=row["product_code"].strip(),
                account=row["usage_account_id"].strip(),
                scope=scope,
                method=method,
                kgco2e=value * _kg_per_unit(row, column.removesuffix("value") + "unit"),
                model=row.get("model_version", "").strip(),
            )


def _kg_per_unit(row: Mapping[str, str], column: str) -> float:
    unit = row.get(column, "").strip() or _UNIT
    if unit.lower() not in KG_PER_UNIT:
        raise ExportError(f"{column}: expected MTCO2e, kgCO2e or gCO2e, got {unit!r}")
    return KG_PER_UNIT[unit.lower()]


SHAPES = (
    Shape(
        provider="aws",
        name="AWS Data Exports, carbon emissions",
        required=("usage_period_start", "region_code", "product_code", "usage_account_id"),
        figures=tuple(_FIGURES),
        parse=_parse,
    ),
)
