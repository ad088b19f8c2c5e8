"""The public API as a user types it. Never run, only checked by mypy: the types are part of the API."""

from __future__ import annotations

from typing import assert_type

import mlflow_carbon
from mlflow_carbon import CarbonError, RunFootprint, SettingsError, ZoneError


def switch_on_and_off() -> None:
    """`autolog` takes settings by name."""
    mlflow_carbon.autolog()
    mlflow_carbon.autolog(zone="GB", pue=1.2, period_s=0.5, detail=True, silent=True)
    mlflow_carbon.autolog(disable=True)


def measure_a_block() -> float | None:
    """`track` is a context manager that holds the figures."""
    with mlflow_carbon.track(run_id="0" * 32, zone="DE") as block:
        with mlflow_carbon.phase("forward"):
            mlflow_carbon.count("image", 64)
        mlflow_carbon.log_step(1)
        assert_type(mlflow_carbon.snapshot(), RunFootprint | None)
    assert_type(block.footprint, RunFootprint | None)
    assert_type(mlflow_carbon.flush(timeout_s=5.0), bool)
    return block.footprint.energy_kwh if block.footprint else None


@mlflow_carbon.track(zone="FR")
def measured(batch: int, *, scale: float = 1.0) -> float:
    """`track` as a decorator keeps the signature."""
    return batch * scale


def call_it() -> None:
    """The decorated function is typed as before."""
    assert_type(measured(3, scale=0.5), float)


def wait_for_a_clean_grid() -> None:
    """Waiting says what it did."""
    assert_type(
        mlflow_carbon.wait_until_clean(threshold_gco2e_per_kwh=300.0, max_wait_s=60.0), mlflow_carbon.Wait
    )


def catch() -> None:
    """One root for all errors; a zone error is a settings error, and that is a ValueError."""
    try:
        mlflow_carbon.autolog(zone="Atlantis")
    except ZoneError as error:
        root: CarbonError = error
        settings: SettingsError = error
        value: ValueError = error
        print(root, settings, value)
