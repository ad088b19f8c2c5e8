"""The two private places of MLflow that `autolog` hooks (decision 0008) still mean what we take them to mean."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# A process of its own: the hooks of the test stay out of the others, and MLflow's warnings are its own business.
SCRIPT = """
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
SEEN begin parent
SEEN begin child
SEEN end child RUNNING FINISHED
SEEN end parent RUNNING FINISHED
SEEN begin broken
SEEN end broken RUNNING FAILED
SEEN begin left open
SEEN end left open RUNNING FINISHED
"""


@pytest.mark.slow
def test_each_run_begins_and_ends_once_while_it_is_running(tmp_path: Path) -> None:
    """MLflow builds an `ActiveRun` at each start and calls `set_terminated` before a run counts as ended."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={
            "MLFLOW_TRACKING_URI": "sqlite:///runs.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    seen = [line for line in done.stdout.splitlines() if line.startswith("SEEN")]
    assert seen == EXPECTED.split("\n")[1:-1], done.stderr[-2000:]
