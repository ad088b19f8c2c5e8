"""What tests of more than one module share: a ready tracking store and a quiet, private state folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# Properties may take their time: a slow machine is no failure.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A migrated sqlite store without runs, made once."""
    folder: Path = tmp_path_factory.mktemp("store")
    code = "import mlflow; mlflow.search_experiments()"
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=folder, check=True, capture_output=True)
    return folder / "mlflow.db"


@pytest.fixture
def tracking_uri(empty_store, tmp_path) -> str:
    """A fresh sqlite tracking store of this test."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def run_env(tracking_uri, tmp_path) -> dict[str, str]:
    """Environment for scripts of this test: own store, own state, the checkout importable."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_CARBON_", "MLFLOW_RUN"))}
    return kept | {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_CARBON_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
        "TZ": "UTC",
    }


@pytest.fixture(scope="session")
def installed_plugin() -> None:
    """Skips, saying so, where the package is not installed and so has no entry points."""
    from importlib.metadata import entry_points

    names = [e.value for e in entry_points(group="mlflow.run_context_provider")]
    if not any(value.startswith("mlflow_carbon.") for value in names):
        pytest.skip("the package is not installed: its entry points are what this test is about")
