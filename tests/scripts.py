"""Scripts of users in processes of their own, and what they leave in the test's store."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.conftest import ROOT

WORK = """
import os, sys, time, threading
import mlflow, mlflow_carbon

def work(seconds=1.5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
"""


def script(body: str, env: dict[str, str], *, check: bool = True, prelude: str = WORK):
    """Run a script in a process of its own; its standard output is JSON or nothing."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(body)],
        env=env,
        cwd=env["MLFLOW_CARBON_HOME"].rpartition("/")[0],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def runs(env):
    """All runs of the test's store, newest first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=env["MLFLOW_TRACKING_URI"])
    ids = [e.experiment_id for e in client.search_experiments()]
    return client.search_runs(ids, order_by=["attributes.start_time DESC"])


def by_name(env):
    """All runs of the test's store by their name."""
    return {run.info.run_name: run for run in runs(env)}


def started(body, env, *, is_ready=True):
    """Start a script and, if it says so, wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORK) + textwrap.dedent(body)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    if is_ready:
        assert process.stdout.readline().strip() == "ready"
    return process


def command(arguments, env):
    """Run `mlflow-carbon` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mlflow_carbon", *arguments],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def footprint_of(run, env):
    """The document `carbon/footprint.json` of a run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=env["MLFLOW_TRACKING_URI"])
    path = Path(client.download_artifacts(run.info.run_id, "carbon/footprint.json"))
    return json.loads(path.read_text(encoding="utf-8"))
