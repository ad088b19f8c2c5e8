"""Energy and carbon of every MLflow run.

Call `mlflow_carbon.autolog()` once; every MLflow run of the process is then measured from start
to end. Names are loaded on first use (PEP 562): MLflow imports this package while it is itself
half imported, so nothing here may import MLflow, torch or pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_carbon._version import __version__

if TYPE_CHECKING:
    from mlflow_carbon.autologging import autolog
    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.errors import CarbonError, SettingsError, ZoneError
    from mlflow_carbon.marks import count, flush, log_step, phase, snapshot
    from mlflow_carbon.tracking import track
    from mlflow_carbon.waiting import Progress, Saving, Wait, WaitOptions, wait_until_clean

__all__ = [
    "CarbonError",
    "Progress",
    "RunFootprint",
    "Saving",
    "SettingsError",
    "Wait",
    "WaitOptions",
    "ZoneError",
    "__version__",
    "autolog",
    "count",
    "flush",
    "log_step",
    "phase",
    "snapshot",
    "track",
    "wait_until_clean",
]

_HOME = {
    "CarbonError": "errors",
    "Progress": "waiting",
    "RunFootprint": "core.footprint",
    "Saving": "waiting",
    "SettingsError": "errors",
    "Wait": "waiting",
    "WaitOptions": "waiting",
    "ZoneError": "errors",
    "autolog": "autologging",
    "count": "marks",
    "flush": "marks",
    "log_step": "marks",
    "phase": "marks",
    "snapshot": "marks",
    "track": "tracking",
    "wait_until_clean": "waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
