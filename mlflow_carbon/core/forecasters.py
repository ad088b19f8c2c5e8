"""The table of forecasters. Each gives, for every slot of a track, the forecast made in that slot.

Row t uses only values of slots up to t and forecasts issued by its start; column 0 is the present value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.core.nowcast import provider
from mlflow_carbon.core.paths import climatology, persistence, profile
from mlflow_carbon.core.ridge import blend, ridge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from mlflow_carbon.core.paths import Track

__all__ = ["FORECASTERS", "MIN_DAYS"]

FORECASTERS: Mapping[str, Callable[[Track, int], NDArray[np.float64]]] = {
    "persistence": persistence,
    "climatology": climatology,
    "profile": profile,
    "ridge": ridge,
    "blend": blend,
    "provider": provider,
}
"""Forecasters by name: (track, slots of the horizon) -> array of [slots of the track, slots ahead]."""

MIN_DAYS = {"blend": 21, "profile": 7, "climatology": 0}
"""Days of history from which each is the default, best first; with a published forecast it is `provider`."""
