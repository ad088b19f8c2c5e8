"""What starting a run costs the caller's thread: little is loaded, and nothing is waited for in vain."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT

LATER = ("core.recording", "grid", "sensors", "session.final", "session.publish", "session.publisher")


def test_the_hooks_load_nothing_that_only_the_background_needs():
    """Importing `autologging` leaves arithmetic, grid, sensors and storing to the threads that use them."""
    code = "import json, sys, mlflow_carbon.autologging; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(json.loads(done.stdout))
    assert "mlflow_carbon.session.meter" in loaded
    assert {name for name in LATER if f"mlflow_carbon.{name}" in loaded} == set()
    assert not loaded & {"mlflow", "numpy", "pandas", "scipy", "torch"}


def test_a_known_zone_costs_the_caller_next_to_nothing():
    """Naming a zone loads no table, no grid and no search for near names, and takes less than 2 ms of CPU."""
    code = (
        "import json, sys, time; from mlflow_carbon.tracking import resolved; resolved({});"
        "before, start = set(sys.modules), time.thread_time(); resolved({'zone': 'us_cal_ciso'});"
        "print(json.dumps([time.thread_time() - start, sorted(set(sys.modules) - before)]))"
    )
    times_s = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        time_s, loaded = json.loads(done.stdout)
        assert loaded == []
        times_s.append(time_s)
    assert min(times_s) < 0.002


def test_a_child_forked_while_a_run_starts_may_start_its_own():
    """A worker process of a data loader has the locks of all threads, but not who would release them."""
    code = """
import os
import signal
from mlflow_carbon import assembly
from mlflow_carbon.settings import Settings
with assembly._lock():
    if (child := os.fork()) == 0:
        signal.alarm(10)
        assembly.meter_for(Settings())
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "0\n"
