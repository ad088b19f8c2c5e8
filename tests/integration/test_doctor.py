"""`mlflow-carbon doctor` on simulated machines, made and looked at by the commands as they are documented."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None or sys.platform != "linux", reason="needs Linux and a C compiler cc"
)


@pytest.fixture
def run(tmp_path):
    """Runs a command line in an empty folder, with the package on the path, and gives what it printed: its answer, or why not."""
    state = {"MLFLOW_CARBON_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_CARBON", "CUDA_VISIBLE"))}

    def run(line, code=0):
        words = shlex.split(line)
        variables = dict(word.split("=", 1) for word in words if "=" in word.partition(" ")[0])
        command = [word for word in words if word.partition("=")[0] not in variables]
        program = {"python": [], "mlflow-carbon": ["-m", "mlflow_carbon"]}[command[0]]
        done = subprocess.run(
            [sys.executable, *program, *command[1:]],
            cwd=tmp_path,
            env=outside | state | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return (done.stderr if code else done.stdout).strip()

    return run


def test_a_machine_with_nothing(run, tmp_path):
    """All of it is modelled; it says why, what would measure it, and what would make the model better."""
    (tmp_path / "bare").mkdir()
    told = run("mlflow-carbon doctor --root bare")
    assert told.startswith("SIMULATED: files are read under bare, not of this machine")
    assert "cpu   modelled  L0" in told
    assert "dram  modelled  L0" in told
    assert "measured  L" not in told
    assert "modelled because the CPU is no x86 one as far as /proc/cpuinfo says" in told
    assert "what would help: set MLFLOW_CARBON_CPU_POWER_W to the design power of the CPU" in told
    assert "a better model: export MLFLOW_CARBON_RAM_POWER_W=<watts of all memory>" in told
    assert "Recorded beside power\n  nothing\n" in told


def test_the_simulated_powercap_tree(run):
    """Package and memory are measured by counter, from the files there, by a reader that met no hardware."""
    told = run(run("python -m mlflow_carbon.testing powercap tree"))
    assert told.startswith("SIMULATED: files are read under tree,")
    assert "cpu   measured  L3  x0.95 to x1.05  rapl:package-0\n" in told
    assert "dram  measured  L3  x0.95 to x1.05  rapl:package-0-dram\n" in told
    assert "modelled because" not in told
    assert "Never run on hardware\n  rapl: driven through simulated devices only" in told


def test_a_counter_that_cannot_be_read_names_the_command(run):
    """The package is modelled for that reason, with the command; its memory is still measured."""
    told = run(run("python -m mlflow_carbon.testing powercap --closed 'my tree'"))
    assert "cpu   modelled  L0" in told
    assert "dram  measured  L3" in told
    why = next(line for line in told.splitlines() if "modelled because" in line)
    if os.geteuid() == 0:
        assert "IsADirectoryError" in why
        assert "check that `cat my tree/sys/class/powercap/intel-rapl:0/energy_uj` prints a number" in why
    else:
        assert "PermissionError" in why
        assert "what would help: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in why


@needs_cc
def test_the_simulated_gpu(run):
    """Its counter is measured; what stands beside power is listed; no GPU of this machine is meant."""
    told = run(run("python -m mlflow_carbon.testing nvml gpu"))
    assert told.startswith("SIMULATED: GPUs come from NVML_STUB_STATE, not from a driver")
    assert "gpu   measured  L3  x0.95 to x1.05  nvml:0\n        Simulated A100; NVML nvmlDevice" in told
    assert "nvml:0: clock_memory_mhz, clock_sm_mhz, fan_percent, limited_by_heat, limited_by" in told
    assert "Never run on hardware\n  nvml: driven through simulated devices only" in told


@needs_cc
def test_a_simulated_gpu_without_a_counter(run):
    """It is measured by power, at a lower level, and says that the counter is what it lacks."""
    told = run(run("python -m mlflow_carbon.testing nvml --no-counter gpu"))
    assert "gpu   measured  L1" in told
    assert "mean of 1 s; no energy counter" in told


def test_what_cannot_be_made_or_found_is_said(run, tmp_path):
    """A folder that holds a tree already, and a root that is none: a code that is not 0, and the reason."""
    run("python -m mlflow_carbon.testing powercap tree")
    refused = run("python -m mlflow_carbon.testing powercap tree", code=1)
    assert refused.startswith("mlflow_carbon.testing: ")
    assert "exists" in refused
    assert "nowhere" in run("mlflow-carbon doctor --root nowhere", code=64)


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path):
    """`doctor | head -1` ends without a traceback, whoever closes the pipe first."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_carbon", "doctor", "--root", str(tmp_path)],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_usage_has_the_same_code_everywhere(run):
    """64, as `mlflow-carbon` has it."""
    assert "DIR" in run("python -m mlflow_carbon.testing powercap", code=64)
    assert "--sideways" in run("mlflow-carbon doctor --sideways", code=64)
