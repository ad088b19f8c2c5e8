"""`mlflow run -b carbon` as a user types it, in processes of its own, against a played grid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.loopback import loopback
from tests.quick_backend import CLOCK, SERVICE, QuickClock
from tests.scripts import runs

pytestmark = pytest.mark.slow

SUBMITTED_S = 1_772_452_800 + 60  # a minute after a half hour
CLEAN_S = SUBMITTED_S - 60 + 3600
CLEAN_FOR_S = 11 * 3600  # so that a restart on a slow machine still finds it
SPEED = 400.0
CONFIG = {"zone": "GB", "duration_h": 0.5, "max_wait_h": 12, "power_w": 100}
PATIENCE_S = 90

# A test runner in the background of a shell has SIGINT ignored, and what it starts inherits that.
MLFLOW = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from mlflow.cli import cli
cli()
"""

TRAINING = """
import os, sys, time
from pathlib import Path
Path(os.environ["TEST_TRAINED"]).open("a").write(f"{time.time()}\\n")
if float(sys.argv[1]) < 0:
    time.sleep(60)
if float(sys.argv[1]) == 9:
    import mlflow, mlflow_carbon
    mlflow_carbon.autolog()
    with mlflow.start_run():
        time.sleep(2)
sys.exit(3 if float(sys.argv[1]) == 3 else 0)
"""


class GreatBritain:
    """The service: dirty until CLEAN_S, then clean for long, dirty again; actuals for what is over."""

    def __init__(self, anchor: Path) -> None:
        self.anchor = anchor
        self.fault = ""
        self.url = ""
        self.asked = 0

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked += 1
        if self.fault == "hang":
            time.sleep(30)
        if self.fault == "html":
            return 200, b"<html>Sorry</html>"
        if self.fault:
            return 500, b"oops"
        first, last = (
            datetime.strptime(t, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC) for t in path.split("/")[2:4]
        )
        now_s = QuickClock(self.anchor, SUBMITTED_S, SPEED).wall_s()  # whoever asks has begun already
        begin = int(first.timestamp()) // 1800 * 1800
        return 200, json.dumps(
            {"data": [self._row(t, now_s) for t in range(begin, int(last.timestamp()), 1800)]}
        ).encode()

    def _row(self, t: int, now_s: float) -> dict[str, object]:
        value = 80 if CLEAN_S <= t < CLEAN_S + CLEAN_FOR_S else 300
        over = t + 1800 <= now_s
        told = {"forecast": value, "actual": value if over else None, "index": "moderate"}
        return {"from": _minute(t), "to": _minute(t + 1800), "intensity": told}


def _minute(t: int) -> str:
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%MZ")


@pytest.fixture
def service(tmp_path):
    """Great Britain on the loopback."""
    played = GreatBritain(tmp_path / "begun")

    def reply(path, _headers):
        status, content = played.answer(path)
        return status, {}, content

    with loopback(reply) as url:
        played.url = url
        yield played


@pytest.fixture
def project(tmp_path, run_env, service):
    """A small project, and the environment of a shell in which the plugin is installed."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAINING)
    (folder / "MLproject").write_text(
        "name: small\nentry_points:\n  main:\n    parameters:\n      code: {type: float, default: 0}\n"
        '    command: "python train.py {code}"\n'
    )
    (folder / "carbon.json").write_text(json.dumps(CONFIG))
    metadata = tmp_path / "site" / "mlflow_carbon-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mlflow-carbon\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        "[mlflow.project_backend]\ncarbon = tests.quick_backend:QuickBackend\n"
    )
    bin_folder = Path(sys.executable).parent
    return run_env | {
        "PYTHONPATH": os.pathsep.join((str(metadata.parent), str(ROOT))),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "TEST_TRAINED": str(tmp_path / "trained"),
        "PROJECT": str(folder),
        SERVICE: service.url,
        CLOCK: f"{service.anchor},{SUBMITTED_S},{SPEED}",
    }


def submitted(env, code: int = 0, config: str = "carbon.json"):
    """`mlflow run`, started."""
    arguments = (
        "run",
        env["PROJECT"],
        "-b",
        "carbon",
        "-c",
        config,
        "--env-manager",
        "local",
        "-P",
        f"code={code}",
    )
    return subprocess.Popen(
        [sys.executable, "-c", MLFLOW, *arguments],
        env=env,
        cwd=env["PROJECT"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def ended(process) -> str:
    """What it said."""
    return str(process.communicate(timeout=PATIENCE_S)[1])


def statuses_until(env, process) -> list[str]:
    """The statuses of the only run while the process lives, each once."""
    seen: list[str] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline_s:
        seen += [r.info.status for r in runs(env) if r.info.status not in seen[-1:]]
        time.sleep(0.05)
    return seen + [r.info.status for r in runs(env) if r.info.status not in seen[-1:]]


def waits(env) -> None:
    """Until a plan is on disk that waits."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if any(state.get("start_s") for state in states(env)):
            return
        time.sleep(0.02)
    pytest.fail("nothing waits")


def states(env) -> list[dict[str, Any]]:
    """The state files."""
    return [json.loads(p.read_text()) for p in (Path(env["MLFLOW_CARBON_HOME"]) / "plans").glob("*.json")]


def plan_of(env, run) -> dict[str, Any]:
    """The document `carbon/plan.json` of a run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=env["MLFLOW_TRACKING_URI"])
    return dict(json.loads(Path(client.download_artifacts(run.info.run_id, "carbon/plan.json")).read_text()))


def test_it_waits_for_the_clean_slot_and_says_what_it_saved(project):
    """SCHEDULED, RUNNING, FINISHED in one run, trained in the clean slot, with saving and oracle logged."""
    process = submitted(project)
    seen = statuses_until(project, process)
    said = ended(process)
    assert process.returncode == 0, said
    assert [s for s in seen if s != "RUNNING" or "SCHEDULED" in seen][-3:] == [
        "SCHEDULED",
        "RUNNING",
        "FINISHED",
    ]
    (run,) = runs(project)
    assert run.data.params == {"code": "0"}
    tags = {k: v for k, v in run.data.tags.items() if k.startswith("carbon.plan.")}
    assert tags["carbon.plan.policy"] == "window"
    assert tags["carbon.plan.zone"] == "GB"
    metrics = run.data.metrics
    document = plan_of(project, run)
    started_s = datetime.fromisoformat(document["submitted_utc"]).timestamp() + metrics["carbon/wait_s"]
    assert CLEAN_S <= started_s < CLEAN_S + CLEAN_FOR_S
    assert metrics["carbon/intensity_initial_gco2e_per_kwh"] == 300
    assert metrics["carbon/intensity_training_gco2e_per_kwh"] == 80
    assert metrics["carbon/intensity_oracle_gco2e_per_kwh"] == 80
    assert metrics["carbon/saving_ratio"] == pytest.approx(1 - 80 / 300)
    assert metrics["carbon/saving_oracle_ratio"] == pytest.approx(1 - 80 / 300)
    assert metrics["carbon/energy_kwh"] > 0
    assert document["outcome"]["energy_from"].startswith("this machine around the run")
    assert document["plans"][0]["start_utc"] == "2026-03-02T13:00:00Z"
    assert "planned start 2026-03-02T13:00:00Z" in said
    assert "saved 73.3%" in said
    assert states(project) == []


def test_killed_while_waiting_it_goes_on_with_the_same_run_and_deadline(project):
    """SIGKILL, then the same command once more: one run, one training, and the deadline of the first submission."""
    first = submitted(project)
    waits(project)
    (before,) = states(project)
    first.kill()
    ended(first)
    (run,) = runs(project)
    assert run.info.status == "SCHEDULED"

    second = submitted(project)
    said = ended(second)
    assert second.returncode == 0, said
    assert f"going on with run {before['run_id']}" in said
    (run,) = runs(project)
    assert (run.info.run_id, run.info.status) == (before["run_id"], "FINISHED")
    document = plan_of(project, run)
    submitted_s = datetime.fromisoformat(document["submitted_utc"]).timestamp()
    assert submitted_s == pytest.approx(before["submitted_s"], abs=1)
    latest_s = datetime.fromisoformat(document["latest_start_utc"]).timestamp()
    assert latest_s == pytest.approx(before["submitted_s"] + 12 * 3600, abs=1)
    assert CLEAN_S <= submitted_s + run.data.metrics["carbon/wait_s"] < CLEAN_S + CLEAN_FOR_S
    assert len(Path(project["TEST_TRAINED"]).read_text().splitlines()) == 1


def test_ctrl_c_while_waiting_leaves_a_killed_run_and_no_state(project):
    """The exit code of an interrupt, the reason in a tag, nothing on disk, nothing trained."""
    process = submitted(project)
    waits(project)
    process.send_signal(signal.SIGINT)
    said = ended(process)
    assert process.returncode == 130, said
    (run,) = runs(project)
    assert run.info.status == "KILLED"
    assert run.data.tags["carbon.plan.outcome"] == "interrupted while waiting"
    assert states(project) == []
    assert not Path(project["TEST_TRAINED"]).exists()


def test_sigterm_while_waiting_leaves_a_state_to_go_on_with(project):
    """A machine that is taken away comes again: the run is killed, and the same command revives it."""
    first = submitted(project)
    waits(project)
    first.terminate()
    ended(first)
    assert first.returncode == -signal.SIGTERM
    (run,) = runs(project)
    assert run.info.status == "KILLED"

    second = submitted(project)
    said = ended(second)
    assert second.returncode == 0, said
    (again,) = runs(project)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert states(project) == []


@pytest.mark.parametrize("fault", ["error", "html", "hang"])
def test_a_grid_that_does_not_answer_starts_at_once_and_a_failing_child_fails(project, service, fault):
    """No live figures, no wait, and the reason in the run; the child's failure is exit 1 and FAILED."""
    service.fault = fault
    process = submitted(project, code=3)
    said = ended(process)
    assert process.returncode == 1, said
    (run,) = runs(project)
    assert run.info.status == "FAILED"
    assert "does not say when" in run.data.tags["carbon.plan.reason"]
    assert "carbon/saving_ratio" not in run.data.metrics
    notes = " ".join(plan_of(project, run)["plans"][0]["notes"])
    assert "annual figure used instead" in notes
    assert states(project) == []


def test_a_child_that_measures_itself_keeps_its_figures(project, service):
    """The child's own energy stands, with its samples; the backend adds what the plan was worth."""
    service.fault = "error"
    process = submitted(project, code=9)
    said = ended(process)
    assert process.returncode == 0, said
    (run,) = runs(project)
    assert plan_of(project, run)["outcome"]["energy_from"] == "the run's own figure"
    assert plan_of(project, run)["outcome"]["energy_kwh"] == run.data.metrics["carbon/energy_kwh"]
    assert "carbon.shared" not in run.data.tags
    assert "carbon/time/energy_kwh" in run.data.metrics


def test_a_launcher_killed_while_training_does_not_train_twice(project, service):
    """While the child of a dead launcher lives, the same command is refused and makes no run."""
    service.fault = "error"
    first = submitted(project, code=-1)
    deadline_s = time.monotonic() + PATIENCE_S
    while not Path(project["TEST_TRAINED"]).exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    first.kill()
    first.wait()

    second = submitted(project, code=-1)
    said = ended(second)
    assert second.returncode == 1
    assert "is still training here (processes " in said
    assert len(runs(project)) == 1
    for pid in said.partition("(processes ")[2].partition(")")[0].split(", "):
        os.kill(int(pid), signal.SIGKILL)


def test_wrong_configurations_make_no_run(project):
    """Whatever is wrong is said, exit 1, before any run is created."""
    for config, words in (
        ('{"zone": "GBX", "max_wait_h": 1}', "did you mean GB"),
        ('{"zone": "GB"}', "expected max_wait_h (hours) or deadline"),
        ('{"zone": "GB", "max_wait_h": 1, "backend": "nowhere"}', "backend: expected one of"),
    ):
        process = submitted(project, config=config)
        assert words in ended(process)
        assert process.returncode == 1
    assert runs(project) == []
