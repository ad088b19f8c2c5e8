"""A sensor that does the worst in the middle of a training changes nothing of it, and the run says so."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

TRAINING = """
import hashlib, json, math, os, time
import numpy as np, mlflow, mlflow_carbon
from mlflow_carbon import sensors
from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample

KIND = os.environ["FAULT"]

class Faulty:
    channels = (Channel(
        id="faulty:cpu", sensor="faulty", device="a broken meter", component=Component.CPU, kind=Kind.COUNTER,
        basis=Basis.MEASURED, quality=Quality.L3, low_ratio=0.95, high_ratio=1.05, power_max_w=500.0,
    ),)
    reads = 0

    def read(self, clock):
        self.reads += 1
        now_ns = clock.monotonic_ns()
        energy_uj = now_ns // 10  # 100 W
        if self.reads > 5:
            if KIND == "raises":
                raise RuntimeError("the bus is gone")
            if KIND == "exits":
                raise SystemExit(70)
            if KIND == "hangs":
                time.sleep(5)
            energy_uj = {
                "is no number": math.nan, "is negative": -1, "is a word": "many", "is absurd": 10**24,
                "stands still": 123,
            }.get(KIND, energy_uj)
        if KIND == "is nothing" and self.reads > 5:
            return None
        return (Sample(channel="faulty:cpu", t_mono_ns=now_ns, energy_uj=energy_uj),)

    def close(self):
        raise RuntimeError("close fails too")

def train(pause_s=0.0):
    draw = np.random.default_rng(7)
    x, y = draw.normal(size=(512, 32)), draw.normal(size=512)
    w = np.zeros(32)
    for step in range(3000):
        batch = draw.integers(0, 512, 64)
        with mlflow_carbon.phase("forward"):
            error = x[batch] @ w - y[batch]
        with mlflow_carbon.phase("backward"):
            w -= 0.01 * x[batch].T @ error / 64
        mlflow_carbon.count("sample", 64)
        if step % 300 == 0:
            mlflow_carbon.log_step(step)
            time.sleep(pause_s)
    return hashlib.sha256(w.tobytes()).hexdigest()

plain = train()
if KIND == "probe raises":
    def probe(site):
        raise RuntimeError("no such bus")
else:
    def probe(site):
        return sensors.Found(sensors=(Faulty(),))
sensors.COUNTERS, sensors.METERS, sensors.MODELS = (probe,), (), {}
mlflow_carbon.autolog(period_s=0.05)
with mlflow.start_run():
    began = time.monotonic()
    measured = train(pause_s=0.2)  # time for many readings
    took_s = time.monotonic() - began
mlflow_carbon.flush(20)
print(json.dumps({"plain": plain, "measured": measured, "took_s": took_s}))
"""


@pytest.mark.parametrize(
    "fault",
    [
        "raises",
        "exits",
        "hangs",
        "is no number",
        "is negative",
        "is a word",
        "is absurd",
        "stands still",
        "is nothing",
        "probe raises",
    ],
)
def test_no_fault_of_a_sensor_reaches_the_training(run_env, fault):
    """The weights are the same to the bit, the run is finished, and its verdict says that something is missing."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TRAINING)],
        env=run_env | {"FAULT": fault, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["measured"] == told["plain"]
    assert told["took_s"] < 30
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=run_env["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["carbon.verdict"] == "warn"
