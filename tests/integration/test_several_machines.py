"""Processes that pose as machines of one training, each with a home of its own, around a real MLflow store."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.scripts import command, footprint_of, runs, script, started
from tests.servers import free_port, server

pytestmark = pytest.mark.slow

KWH_J = 3_600_000

JOIN = """
mlflow_carbon.autolog()
while time.monotonic() < float(os.environ.get("GO", "0")):
    time.sleep(0.001)
with mlflow.start_run(run_id=os.environ["RUN"]):
    print("ready", flush=True)
    work(float(os.environ["SECONDS"]))
"""
TRACK = """
with mlflow_carbon.track(run_id=os.environ["RUN"]):
    print("ready", flush=True)
    work(float(os.environ["SECONDS"]))
"""


@pytest.fixture
def new_run(run_env):
    """Makes a run that several machines can join; its id."""

    def made(env=run_env) -> str:
        return str(script("print(mlflow.MlflowClient().create_run('0').info.run_id)", env).stdout).strip()

    return made


def _machine(env, tmp_path, k: int, *, run_id: str, number: int, seconds: float = 2, **more: str):
    """The environment of machine k: variables of torchrun, a home of its own, 100 W more than the one before."""
    return (
        env
        | {
            "MLFLOW_CARBON_HOME": str(tmp_path / f"home{k}"),
            "MLFLOW_CARBON_CPU_POWER_W": str(100 * (k + 1)),
            "GROUP_RANK": str(k),
            "GROUP_WORLD_SIZE": str(number),
            "RUN": run_id,
            "SECONDS": str(seconds),
        }
        | more
    )


def _run(env, run_id: str):
    (run,) = [run for run in runs(env) if run.info.run_id == run_id]
    return run


def _nodes(env, run_id: str):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=env["MLFLOW_TRACKING_URI"])
    return json.loads(Path(client.download_artifacts(run_id, "carbon/nodes.json")).read_text("utf-8"))


def _assert_sum(env, run_id: str, number: int) -> None:
    """All machines are in; the run is their sum to 1e-12, as a metric and in the document."""
    run, document = _run(env, run_id), _nodes(env, run_id)
    assert run.data.tags["carbon.nodes"] == f"{number} of {number}"
    assert [n["node"] for n in document["nodes"]] == [str(k) for k in range(number)]
    for name in ("energy_kwh", "emissions_gco2e"):
        own = [n[name] for n in document["nodes"]]
        assert min(own) > 0
        assert own == [run.data.metrics[f"carbon/node_{k}/{name}"] for k in range(number)]
        assert run.data.metrics[f"carbon/{name}"] == pytest.approx(sum(own), rel=1e-12)
        assert footprint_of(run, env)["total"][name] == run.data.metrics[f"carbon/{name}"]
    assert document["missing"] == 0
    assert "missing" not in run.data.tags["mlflow.note.content"]


def _ended(process) -> float:
    """Seconds until a process has ended well."""
    began = time.monotonic()
    process.communicate(timeout=180)  # a machine that hangs for a while is no failure
    assert process.returncode == 0
    return time.monotonic() - began


def test_two_machines_that_finish_at_once_add_up(run_env, new_run, tmp_path):
    """Over HTTP to a real server, which holds the artifacts too: one run, the energy of both."""
    port = free_port()
    with server(run_env["MLFLOW_TRACKING_URI"], tmp_path, port):
        env = run_env | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        run_id = new_run(env)
        go = str(time.monotonic() + 20)
        machines = [
            started(JOIN, _machine(env, tmp_path, k, run_id=run_id, number=2, GO=go), is_ready=False)
            for k in range(2)
        ]
        for machine in machines:
            _ended(machine)
        _assert_sum(env, run_id, 2)
        run = _run(env, run_id)
        assert run.data.tags["carbon.verdict"] == "ok", run.data.tags
        assert run.info.status == "FINISHED"
        nodes = _nodes(env, run_id)["nodes"]
        for node in nodes:
            assert node["energy_cpu_kwh"] > 0
            assert node["host"].startswith("hmac-sha256:")
        assert footprint_of(run, env)["total"]["duration_s"] < sum(n["duration_s"] for n in nodes)


def test_one_that_never_comes_is_named_and_one_that_is_late_is_added(run_env, new_run, tmp_path):
    """The first machine waits in the background, no longer than an exit may take; the last one mends the run."""
    run_id = new_run()
    env = _machine(run_env, tmp_path, 0, run_id=run_id, number=3)
    both = [
        started(body, _machine(run_env, tmp_path, k, run_id=run_id, number=3, seconds=2))
        for k, body in ((0, JOIN), (1, TRACK))
    ]
    assert max([_ended(process) for process in both]) < 2 + 10 + 15
    run = _run(env, run_id)
    assert (run.data.tags["carbon.nodes"], run.data.tags["carbon.verdict"]) == ("2 of 3", "warn")
    assert "1 of 3 machines are missing: node 2;" in run.data.tags["mlflow.note.content"]
    assert [n["node"] for n in _nodes(env, run_id)["nodes"]] == ["0", "1"]
    before = run.data.metrics["carbon/energy_kwh"]

    _ended(started(TRACK, _machine(run_env, tmp_path, 2, run_id=run_id, number=3, seconds=2)))
    _assert_sum(env, run_id, 3)
    run = _run(env, run_id)
    assert run.data.tags["carbon.verdict"] == "ok", run.data.tags
    assert run.data.metrics["carbon/energy_kwh"] > before


def test_a_killed_machine_is_recovered_there_and_added(run_env, new_run, tmp_path):
    """`kill -9` on one of two: the other says who is missing, `recover` on that machine adds it."""
    run_id = new_run()
    env = _machine(run_env, tmp_path, 0, run_id=run_id, number=2, seconds=5)
    killed = _machine(run_env, tmp_path, 1, run_id=run_id, number=2, seconds=60)
    first, other = started(JOIN, env), started(TRACK, killed)
    time.sleep(4)
    other.kill()
    other.communicate()
    _ended(first)
    run = _run(env, run_id)
    assert (run.data.tags["carbon.nodes"], run.data.tags["carbon.verdict"]) == ("1 of 2", "warn")
    assert "missing: node 1;" in run.data.tags["mlflow.note.content"]

    elsewhere = command(["recover"], env)
    assert "nothing to recover" in elsewhere.stdout
    done = command(["recover"], killed)
    assert done.returncode == 0, done.stdout + done.stderr
    _assert_sum(env, run_id, 2)
    run = _run(env, run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["carbon.error"].startswith("node 1: the process was killed")
    assert "nothing to recover" in command(["recover"], killed).stdout
    _assert_sum(env, run_id, 2)


def test_a_launcher_without_indices_names_machines_by_their_host(run_env, new_run, tmp_path):
    """Open MPI: the name is a hash, the same each time, and the document says that it is of the host."""
    run_id = new_run()
    env = _machine(run_env, tmp_path, 0, run_id=run_id, number=1, seconds=1) | {
        "GROUP_WORLD_SIZE": "",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
        "OMPI_COMM_WORLD_RANK": "1",
    }
    for _ in range(2):
        _ended(started(TRACK, env))
    run, document = _run(env, run_id), _nodes(env, run_id)
    assert run.data.tags["carbon.nodes"] == "1 of 2"
    (node,) = document["nodes"]
    assert node["node"].startswith("host-")
    assert (node["named_by"], len(node["segments"])) == ("host", 2)


def test_the_example_of_the_documentation_works_under_torchrun(run_env, tmp_path):
    """Two agents of two ranks each: torchrun tells each machine its index, and each is counted once."""
    pytest.importorskip("torch")
    page = (ROOT / "docs/how-to/several-machines.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    file = tmp_path / "train.py"
    file.write_text("def train():\n    import time\n    time.sleep(3)\n\n" + example, encoding="utf-8")
    port = free_port()
    agents = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={k}"),
                *("--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={port}", str(file)),
            ],
            env=run_env | {"MLFLOW_CARBON_HOME": str(tmp_path / f"home{k}"), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
        )
        for k in range(2)
    ]
    try:
        assert [agent.wait(180) for agent in agents] == [0, 0]
    finally:
        for agent in agents:
            agent.kill()
    (run,) = runs(run_env)
    _assert_sum(run_env, run.info.run_id, 2)
    assert [len(n["segments"]) for n in _nodes(run_env, run.info.run_id)["nodes"]] == [1, 1]
