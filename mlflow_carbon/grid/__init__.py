"""Grid carbon intensity: zones, sources and the chain that falls back with a label.

A live provider is one file with `request` and `parse` and one entry in `PROVIDERS`; the network is in
`fetch`, what was fetched in `cache`, what failed in `ledger`. `live` asks one
service, `chain` goes from one source to the next; `intensity` never raises for grid trouble.
"""

from __future__ import annotations

from mlflow_carbon.grid import annual, fetch, zones
from mlflow_carbon.grid.access import Access
from mlflow_carbon.grid.chain import average_intensity, intensity, provider_of
from mlflow_carbon.grid.contract import Answer, GridProvider, LocalSource, Request, Token, Window
from mlflow_carbon.grid.providers import AUTO, PROVIDERS, SEEN_LIVE

__all__ = [
    "AUTO",
    "PROVIDERS",
    "SEEN_LIVE",
    "Access",
    "Answer",
    "GridProvider",
    "LocalSource",
    "Request",
    "Token",
    "Window",
    "annual",
    "average_intensity",
    "fetch",
    "intensity",
    "provider_of",
    "zones",
]
