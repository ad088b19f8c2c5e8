"""How the outside is reached: network, files and what stands in for them in tests."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon.core.outlook import Outlook, continued
from mlflow_carbon.grid import annual, fetch
from mlflow_carbon.grid.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_carbon.grid.cache import Cache
    from mlflow_carbon.grid.contract import GridProvider, Request

__all__ = ["Access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the outside is reached.

    Attributes:
        cache: Slots that were fetched before.
        providers: Live providers by the name that `settings.grid` takes.
        fetch: Body of an answer; raises `GridError`.
        env: Where tokens are.
        tables: CodeCarbon's data files.
        outlook: Fills what no source has given.
        insists: Ask also a service that has just failed.
    """

    cache: Cache
    providers: Mapping[str, GridProvider] = field(default_factory=lambda: PROVIDERS)
    # One place for tokens of logins as long as this lives.
    fetch: Callable[[Request], bytes] = field(default_factory=lambda: partial(fetch.get, passes={}))
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    tables: annual.Tables | None = field(default_factory=annual.installed)
    outlook: Outlook = continued
    insists: bool = False
