"""A tracking server that is unreachable or goes away: training goes on, nothing is lost, exit is quick."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.scripts import WORK, command, runs
from tests.servers import free_port, server, stop

pytestmark = pytest.mark.slow


def test_a_server_that_dies_in_mid_run_costs_the_user_nothing(run_env, tracking_uri, tmp_path):
    """The run's own code goes on, our part adds at most ten seconds, and recover stores the rest later."""
    pytest.importorskip("flask", reason="needs the full mlflow (extra `ui`)")
    port = free_port()
    # MLflow's own retries would hold the user's end_run for minutes: they are cut short for the test.
    env = run_env | {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }
    body = """
import time
mlflow_carbon.autolog()
run = mlflow.start_run()
print("ready", flush=True)
work(6)
t = time.monotonic()
try:
    mlflow.end_run()
except Exception as error:
    print("MLflow itself:", type(error).__name__, flush=True)
print("trained", flush=True)
"""
    with server(tracking_uri, tmp_path, port) as process:
        child = subprocess.Popen(
            [sys.executable, "-c", WORK + body],
            env=env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "ready"
        time.sleep(2)
        stop(process)
        trained_at = None
        for line in child.stdout:
            if line.strip() == "trained":
                trained_at = time.monotonic()
        assert child.wait(60) == 0
        assert trained_at is not None
        assert time.monotonic() - trained_at < 25
        assert child.stderr is not None
        assert "mlflow-carbon recover" in child.stderr.read()
    with server(tracking_uri, tmp_path, port):
        done = command(["recover"], env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "stored" in done.stdout
    (run,) = runs(run_env)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["carbon/energy_kwh"] > 0
    assert run.data.tags["carbon.verdict"] == "ok"


def test_recover_says_why_it_cannot_store(run_env, tmp_path):
    """With the server still down, recover fails with a message, keeps the journal and exits 1."""
    env = run_env | {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    }
    code = """
from mlflow_carbon import journal
import os, pathlib
home = pathlib.Path(os.environ["MLFLOW_CARBON_HOME"])
from mlflow_carbon.session.live import RunSpec
from mlflow_carbon.session.meter import Meter
from mlflow_carbon.settings import Settings
from mlflow_carbon.store import portable_uri
from tests.fakes import ConstantPower, surroundings
fast = Settings(period_s=0.05)
meter = Meter(fast, surroundings(home / "journal", [ConstantPower()]))
meter.start(RunSpec(run_id="0" * 32, tracking_uri=os.environ["MLFLOW_TRACKING_URI"]), fast, None)
import time; time.sleep(0.3)
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], env=env, check=False)
    done = command(["recover"], env)
    assert done.returncode == 1
    assert "failed: could not" in done.stdout
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "home" / "journal").iterdir())) == 1
