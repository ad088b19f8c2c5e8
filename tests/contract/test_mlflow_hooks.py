"""What we take of MLflow holds in the version at hand: the two private places that `autolog` wraps (decision 0008)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A process of its own: the hooks of the test stay out of the others, and MLflow's own warnings count for nothing.
HOOKS = """
import mlflow
from mlflow.tracking._tracking_service.client import TrackingServiceClient
from mlflow.tracking.fluent import ActiveRun

begin, end = ActiveRun.__init__, TrackingServiceClient.set_terminated

def begin_seen(self, *args, **kwargs):
    begin(self, *args, **kwargs)
    print("SEEN begin", self.info.run_name)

def end_seen(self, run_id, status=None, end_time=None):
    run = self.get_run(run_id)
    print("SEEN end", run.info.run_name, run.info.status, status)
    return end(self, run_id, status, end_time)

ActiveRun.__init__, TrackingServiceClient.set_terminated = begin_seen, end_seen
with mlflow.start_run(run_name="parent"):
    with mlflow.start_run(run_name="child", nested=True):
        pass
try:
    with mlflow.start_run(run_name="broken"):
        raise ValueError
except ValueError:
    pass
mlflow.start_run(run_name="left open")
"""

EXPECTED = """
begin parent
begin child
end child RUNNING FINISHED
end parent RUNNING FINISHED
begin broken
end broken RUNNING FAILED
begin left open
end left open RUNNING FINISHED
"""


AUTOLOG = """
import mlflow
import mlflow_carbon

mlflow_carbon.autolog(zone="GB", grid="annual")
with mlflow.start_run() as run:
    sum(range(3_000_000))
assert mlflow_carbon.flush(30), "the figures were not stored in time"
stored = mlflow.MlflowClient().get_run(run.info.run_id)
print("SEEN", stored.info.status, stored.data.metrics["carbon/energy_kwh"] > 0, stored.data.tags["carbon.grid.zone"])
"""


ELSEWHERE = """
from pathlib import Path
from mlflow import MlflowClient

client = MlflowClient(tracking_uri="sqlite:///elsewhere.db")
run_id = client.create_run("0").info.run_id
Path("x.json").write_text("1")
client.log_artifact(run_id, "x.json", "carbon")
print("SEEN", Path(client.download_artifacts(run_id, "carbon/x.json")).read_text())
"""


def seen(script: str, folder: Path) -> list[str]:
    """What a script says it has seen, run with a new MLflow store of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={
            "MLFLOW_TRACKING_URI": "sqlite:///runs.db",
            "MLFLOW_CARBON_HOME": str(folder / "home"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.removeprefix("SEEN ") for line in done.stdout.splitlines() if line.startswith("SEEN ")]


@pytest.mark.slow
def test_each_run_begins_and_ends_once_while_it_is_running(tmp_path: Path) -> None:
    """MLflow builds an `ActiveRun` at each start and calls `set_terminated` before a run counts as ended."""
    assert seen(HOOKS, tmp_path) == EXPECTED.strip().splitlines()


@pytest.mark.slow
def test_autolog_measures_a_run(tmp_path: Path) -> None:
    """A run gets its energy and its zone with this version of MLflow."""
    assert seen(AUTOLOG, tmp_path) == ["FINISHED True GB"]


@pytest.mark.slow
def test_a_client_keeps_to_its_own_store(tmp_path: Path) -> None:
    """Files go where the client was told, not where MLflow points now: MLflow before 3.1.3 mixed them up."""
    assert seen(ELSEWHERE, tmp_path) == ["1"]
