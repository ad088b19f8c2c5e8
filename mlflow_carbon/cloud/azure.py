"""Azure carbon optimization: CSV files of its page in the portal, and answers of its REST API as CSV.

The API: https://learn.microsoft.com/rest/api/carbon/carbon-service/query-carbon-emission-reports, in kgCO2e.
The page's columns are known from public code that makes the same files. Scope 2 is taken as market-based, as
others describe it. The Emissions Impact Dashboard, which ends in March 2027, publishes no columns and is not
read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.cloud.contract import MARKET, TOTAL, Line, Shape, month_of, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SHAPES"]

_TRENDS = {
    "totalemissions": (TOTAL, MARKET),
    "scope1": ("1", ""),
    "scope2": ("2", MARKET),
    "scope3": ("3", ""),
}


def _details(row: Mapping[str, str], month: str) -> Iterator[Line]:
    return _total(row, "latest_month_emissions_kgco2e", month, account=row["subscription_id"])


def _items(row: Mapping[str, str], month: str) -> Iterator[Line]:
    name, kind = row["itemname"].strip(), row["categorytype"].strip().lower()
    is_type = kind in {"resource", "resourcetype"}
    return _total(
        row,
        "latestmonthemissions",
        month,
        region=row.get("location", "") or (name if kind == "location" else ""),
        service=row.get("resourcetype", "") or (name if is_type else ""),
        account=row.get("subscriptionid", "") or (name if kind == "subscription" else ""),
    )


def _months(row: Mapping[str, str], _month: str) -> Iterator[Line]:
    return _total(row, "latestmonthemissions", month_of(row["date"], "date"))


def _trends(row: Mapping[str, str], _month: str) -> Iterator[Line]:
    month = month_of(row["month"], "month")
    for column, (scope, method) in _TRENDS.items():
        yield from _line(number(row, column), month, scope=scope, method=method)


def _total(row: Mapping[str, str], column: str, month: str, **where: str) -> Iterator[Line]:
    return _line(number(row, column), month, scope=TOTAL, method=MARKET, **where)


def _line(value: float | None, month: str, *, scope: str, method: str, **where: str) -> Iterator[Line]:
    if value is not None:
        yield Line(
            provider="azure",
            month=month,
            region=where.get("region", "").strip().lower().replace(" ", ""),
            service=where.get("service", "").strip(),
            account=where.get("account", "").strip(),
            scope=scope,
            method=method,
            kgco2e=value,
        )


SHAPES = (
    Shape(
        provider="azure",
        name="Azure carbon optimization, details by subscription",
        required=("subscription_id",),
        figures=("latest_month_emissions_kgco2e",),
        parse=_details,
        needs_month=True,
    ),
    Shape(
        provider="azure",
        name="Azure carbon optimization, emission trends",
        required=("month", "carbonintensity"),
        figures=tuple(_TRENDS),
        parse=_trends,
    ),
    Shape(
        provider="azure",
        name="Azure carbon API, ItemDetailsReport",
        required=("itemname", "categorytype"),
        figures=("latestmonthemissions",),
        parse=_items,
        needs_month=True,
    ),
    Shape(
        provider="azure",
        name="Azure carbon API, MonthlySummaryReport",
        required=("date", "carbonintensity"),
        figures=("latestmonthemissions",),
        parse=_months,
    ),
)
