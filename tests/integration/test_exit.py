"""The end of a process: what has been measured is stored in time, in children of multiprocessing too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

# The sink uploads as S3's client does: through a pool of threads, which refuses work once the main thread
# has ended.
SCRIPT = """
import multiprocessing, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mlflow_carbon.errors import StoreError
from mlflow_carbon.session.live import RunSpec
from mlflow_carbon.session.meter import Meter, install
from mlflow_carbon.settings import Settings
from tests.fakes import ConstantPower, MemorySink, surroundings

FAST = Settings(period_s=0.05)

class Pooled(MemorySink):
    def write_file(self, name, content):
        time.sleep(0.1)
        try:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(len, content if isinstance(content, bytes) else b"".join(content)).result()
        except RuntimeError as error:
            raise StoreError(str(error)) from error

def train(folder, is_ended):
    meter = install(Meter(FAST, surroundings(Path(folder), [ConstantPower()])))
    meter.start(RunSpec(run_id="run1"), FAST, Pooled())
    time.sleep(0.3)
    if is_ended:
        meter.stop("run1", "FINISHED")

folder, where, is_ended = sys.argv[1], sys.argv[2], sys.argv[3] == "ended"
if where == "main":
    train(folder, is_ended)
else:
    child = multiprocessing.get_context("fork").Process(target=train, args=(folder, is_ended))
    child.start()
    child.join()
"""


@pytest.mark.parametrize("where", ["main", "child"])
@pytest.mark.parametrize("state", ["ended", "open"])
def test_a_run_at_the_very_end_of_a_process_is_stored(tmp_path, where, state):
    """No journal is left, although nobody waits for the storing and pools close with the main thread."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), where, state],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [], done.stderr
