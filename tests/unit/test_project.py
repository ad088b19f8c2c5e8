"""The project as MLflow has it: its run, its commit, its environment, its processes, its figures from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import ExecutionException
from mlflow.projects.submitted_run import SubmittedRun

from mlflow_carbon.backend import CarbonBackend
from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.project import MlflowProject
from mlflow_carbon.scheduling.config import Target
from mlflow_carbon.session.meter import OWNER_VARIABLE
from mlflow_carbon.store import MlflowStore
from tests.submissions import Clock, Grids

OPTIONS = {
    "ENV_MANAGER": "local",
    "SYNCHRONOUS": False,
    "DOCKER_ARGS": {},
    "STORAGE_DIR": None,
    "build_image": False,
    "docker_auth": None,
}
pytestmark = pytest.mark.slow  # real projects in processes of their own

COMMAND = f'"{sys.executable} write.py {{x}}"'
WRITE = """
import json, os, sys
kept = {k: v for k, v in os.environ.items() if k.startswith("MLFLOW")}
open(os.environ["OUT"], "w").write(json.dumps({"x": sys.argv[1], "env": kept, "content": "first"}))
"""


@pytest.fixture
def folder(tmp_path, tracking_uri, monkeypatch):
    """A project that writes down what it was given; its runs go to the test's own store."""
    place = tmp_path / "project"
    place.mkdir()
    (place / "MLproject").write_text(
        "name: p\nentry_points:\n  main:\n    parameters:\n      x: {type: string, default: one}\n"
        f"    command: {COMMAND}\n"
    )
    (place / "write.py").write_text(WRITE)
    monkeypatch.setenv("OUT", str(tmp_path / "out.json"))
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path / "home"))
    # Not by set_tracking_uri: what it sets cannot be unset, and later tests would meet it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    return place


def project(uri: str | Path, *, version: str | None = None, **params: str) -> MlflowProject:
    """As the backend makes it."""
    return MlflowProject(str(uri), "main", params, version, OPTIONS, "0")


def written() -> dict[str, Any]:
    """What the project has written down."""
    return dict(json.loads(Path(os.environ["OUT"]).read_text()))


def test_the_run_is_as_mlflow_makes_it_and_the_child_is_not_told_that_it_is_measured(folder, monkeypatch):
    """Params and source are there; the child has run id, zone and grid, and no owner; ours are put back."""
    monkeypatch.setenv(OWNER_VARIABLE, f"{os.getpid()}:block-1")
    monkeypatch.setenv("MLFLOW_CARBON_ZONE", "FR")
    made = project(folder, x="two")
    run_id = made.create()
    child = made.launch(run_id, Target(), {"zone": "DE", "grid": "auto"})
    assert child.wait()
    assert (child.run_id, written()["x"]) == (run_id, "two")
    env = written()["env"]
    assert (env["MLFLOW_RUN_ID"], env["MLFLOW_CARBON_ZONE"], env["MLFLOW_CARBON_GRID"]) == (
        run_id,
        "DE",
        "auto",
    )
    assert OWNER_VARIABLE not in env
    assert (os.environ[OWNER_VARIABLE], os.environ["MLFLOW_CARBON_ZONE"]) == (f"{os.getpid()}:block-1", "FR")
    run = mlflow.MlflowClient().get_run(run_id)
    assert run.data.params == {"x": "two"}
    assert run.data.tags["mlflow.project.backend"] == "carbon"
    assert run.data.tags["mlflow.source.type"] == "PROJECT"
    assert made.version == ""


def git(folder: Path, *arguments: str) -> None:
    """Git as somebody."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.invalid")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_commit_of_the_submission_runs_whatever_the_branch_holds_by_then(folder, monkeypatch):
    """A project from git is fetched once; after a restart the same commit is fetched again."""
    git(folder, "init", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    address = "https://example.invalid/project"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{folder}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", address)
    made = project(address)
    run_id = made.create()
    assert len(made.version) == 40
    (folder / "write.py").write_text(WRITE.replace("first", "second"))
    git(folder, "commit", "-am", "second")
    assert made.launch(run_id, Target(), {}).wait()
    assert written()["content"] == "first"

    again = project(address)
    again.pin(made.version)
    assert again.source == made.source
    assert again.launch(run_id, Target(), {}).wait()
    assert written()["content"] == "first"


def test_processes_of_a_run_are_found_and_ended(folder, tmp_path):
    """What a shell has left behind carries the run's id; nothing else does."""
    (folder / "MLproject").write_text(
        'name: p\nentry_points:\n  main:\n    command: "sleep 60 & echo > $OUT; sleep 61; true"\n'
    )
    made = project(folder)
    run_id = made.create()
    assert made.trainers(run_id) == []
    child = made.launch(run_id, Target(), {})
    while not Path(os.environ["OUT"]).exists():
        pass
    assert len(made.trainers(run_id)) >= 2
    child.cancel()
    for pid in made.trainers(run_id):  # those that have had their signal and are not gone yet
        subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=10)
    assert made.trainers(run_id) == []


def test_no_run_has_no_processes(folder):
    """A backend may name no run: what has an empty variable is left alone."""
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "MLFLOW_RUN_ID": ""}) as bystander:
        found = project(folder).trainers("")
        bystander.kill()
    assert found == []


def test_the_machine_is_measured_around_the_child_only_where_it_runs_here(folder):
    """A block about the run, which the run's own process does not take for its own measuring."""
    made = project(folder)
    run_id = made.create()
    with made.measure(run_id, Target(), {"zone": "GB", "grid": "annual"}) as around:
        assert run_id not in os.environ.get(OWNER_VARIABLE, "")
        sum(range(10**6))
    found = around.footprint
    assert found is not None
    assert found.zone == "GB"
    with made.measure(run_id, Target(backend="kubernetes"), {}) as around:
        pass
    assert around.footprint is None


def test_figures_that_are_lost_do_not_fail_the_run(folder, monkeypatch):
    """A fault in measuring comes out as no figures, not as an error of the training."""

    def broken(*_: object) -> None:
        raise RuntimeError("no figures")

    monkeypatch.setattr("mlflow_carbon.project.end_block", broken)
    made = project(folder)
    with made.measure(made.create(), Target(), {"zone": "GB", "grid": "annual"}) as around:
        pass
    assert around.footprint is None


def test_figures_from_outside_are_stored_with_their_finding(folder):
    """Summary, labels and document, and who measured."""
    made = project(folder)
    run_id = made.create()
    made.publish(run_id, RunFootprint(energy_kwh=0.5, emissions_gco2e=100.0, basis="modelled", zone="GB"))
    run = mlflow.MlflowClient().get_run(run_id)
    assert run.data.metrics["carbon/energy_kwh"] == 0.5
    assert (run.data.tags["carbon.basis"], run.data.tags["carbon.grid.zone"]) == ("modelled", "GB")
    document = json.loads(MlflowStore(run_id).read_file("footprint.json") or b"{}")
    assert "by the backend" in document["findings"][0]


def test_the_store_knows_how_a_run_stands(folder):
    """Status and end; none for a run that never was, or was deleted."""
    made = project(folder)
    store = MlflowStore(made.create())
    store.set_status("SCHEDULED")
    assert store.standing() == ("SCHEDULED", None)
    store.end("KILLED", t_ms=1_772_452_800_000)
    assert store.standing() == ("KILLED", 1_772_452_800.0)
    store.set_status("SCHEDULED")
    assert (store.standing() or ("", 0.0))[0] == "SCHEDULED"
    mlflow.MlflowClient().delete_run(store.run_id)
    assert store.standing() is None
    assert MlflowStore("0" * 32).standing() is None


def test_the_backend_from_python_gives_a_finished_run_or_an_error(folder):
    """`mlflow.projects` gets a run that went well; a failing project and a wrong configuration raise its error."""
    clock = Clock()
    backend = CarbonBackend(clock=clock, look=Grids(clock))
    config = {"zone": "GB", "max_wait_h": 1, **OPTIONS}
    found = backend.run(str(folder), "main", {}, None, dict(config), mlflow.get_tracking_uri(), "0")
    assert isinstance(found, SubmittedRun)
    assert (found.wait(), found.get_status()) == (True, "FINISHED")
    assert mlflow.MlflowClient().get_run(found.run_id).info.status == "FINISHED"
    (folder / "write.py").write_text("raise SystemExit(3)")
    with pytest.raises(ExecutionException, match="failed: the project ended with an error"):
        backend.run(str(folder), "main", {}, None, dict(config), mlflow.get_tracking_uri(), "0")
    with pytest.raises(ExecutionException, match="did you mean duration_h"):
        backend.run(str(folder), "main", {}, None, {"duration": 1, **OPTIONS}, mlflow.get_tracking_uri(), "0")
    assert {r.info.status for r in mlflow.MlflowClient().search_runs(["0"])} == {"FINISHED", "FAILED"}
