"""The MLflow sink: addresses and errors that tell no secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_carbon.errors import StoreError
from mlflow_carbon.store import MlflowStore, Point, portable_uri


@pytest.mark.parametrize(
    ("uri", "portable"),
    [
        ("http://ann:s3cret@host:5000/mlflow", "http://host:5000/mlflow"),
        ("https://host:5000/teams/ann@home", "https://host:5000/teams/ann@home"),
        ("postgresql://ann:pa/ss@db:5432/runs", "postgresql://db:5432/runs"),
        ("mysql+pymysql://ann:pa:s@db/runs", "mysql+pymysql://db/runs"),
        ("postgresql://ann@db/runs", "postgresql://db/runs"),
        (
            "postgresql://db/runs?user=ann&password=s3cret&sslmode=require",
            "postgresql://db/runs?user=&password=&sslmode=require",
        ),
        ("file:///data/a@b/mlruns", "file:///data/a@b/mlruns"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("sqlite:///runs.db", f"sqlite:///{Path('runs.db').resolve()}"),
        ("./mlruns", str(Path("mlruns").resolve())),
    ],
)
def test_a_portable_uri_holds_from_any_folder_and_tells_no_secrets(uri, portable):
    """No user, no password, no relative path; everything else stays."""
    assert portable_uri(uri) == portable


def test_an_error_of_mlflow_tells_no_password(monkeypatch):
    """MLflow's own messages quote the whole address; ours become tags, notes and logs."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    store = MlflowStore("0" * 32, tracking_uri="http://ann:s3cret@127.0.0.1:9/mlflow")
    with pytest.raises(StoreError) as caught:
        store.write_points([Point(key="carbon/energy_kwh", value=1.0, step=0, t_ms=0)])
    assert "127.0.0.1:9" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "ann" not in str(caught.value)
