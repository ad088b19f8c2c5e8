"""`autolog` on real MLflow runs: every way a run can start and end gives one measured run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

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


def test_every_way_to_run_is_measured_once(run_env):
    """With-blocks, aliases, nested, failing, resumed, implicit and threaded runs all get their figures."""
    script(
        """
        from mlflow import start_run
        mlflow_carbon.autolog()
        with start_run(run_name="alias"):
            work()
        with mlflow.start_run(run_name="outer"):
            work()
            with mlflow.start_run(run_name="inner", nested=True):
                work()
        try:
            with mlflow.start_run(run_name="failing"):
                work()
                raise ValueError("user error")
        except ValueError:
            pass
        with mlflow.start_run(run_name="resumed") as run:
            work()
        assert mlflow_carbon.flush()
        with mlflow.start_run(run_id=run.info.run_id):
            work()
        def threaded():
            with mlflow.start_run(run_name="thread"):
                work()
        thread = threading.Thread(target=threaded)
        thread.start(); thread.join()
        mlflow.log_metric("x", 1)   # starts a run by itself
        mlflow.set_tag("mlflow.runName", "implicit")
        work()
        mlflow.end_run()
        mlflow_carbon.autolog(disable=True)
        with mlflow.start_run(run_name="after"):
            work(0.1)
        """,
        run_env,
    )
    found = by_name(run_env)
    after = found.pop("after")
    assert not [k for k in after.data.metrics if k.startswith("carbon/")]
    assert set(found) == {"alias", "outer", "inner", "failing", "resumed", "thread", "implicit"}
    for name, run in found.items():
        assert run.data.metrics["carbon/energy_kwh"] > 0, name
        assert run.data.tags["carbon.verdict"] == "ok", name
        assert run.data.tags["carbon.basis"] == "modelled", name
        assert len([k for k in run.data.metrics if k.startswith("carbon/")]) <= 12
        assert len([k for k in run.data.tags if k.startswith("carbon.")]) <= 20
    assert found["failing"].info.status == "FAILED"
    energy = {name: run.data.metrics["carbon/energy_kwh"] for name, run in found.items()}
    assert energy["outer"] > energy["inner"]
    assert energy["resumed"] > 1.5 * energy["alias"]


def test_a_run_left_open_is_finished_at_exit(run_env):
    """A script that never ends its run still gets the figures."""
    script(
        """
        mlflow_carbon.autolog()
        mlflow.start_run(run_name="open")
        work()
        """,
        run_env,
    )
    (run,) = runs(run_env)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["carbon/energy_kwh"] > 0
    assert run.data.tags["carbon.verdict"] == "ok"


def test_framework_autologging_is_measured(run_env):
    """A run that scikit-learn autologging makes by itself is measured from start to end."""
    pytest.importorskip("sklearn", reason="needs scikit-learn (extra `train`)")
    script(
        """
        mlflow_carbon.autolog()
        mlflow.sklearn.autolog(log_models=False)
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        import warnings; warnings.simplefilter("ignore")
        LogisticRegression(max_iter=50).fit(*load_digits(return_X_y=True))
        """,
        run_env,
    )
    (run,) = runs(run_env)
    assert run.data.metrics["carbon/energy_kwh"] > 0
    assert "training_score" in run.data.metrics


def test_sigterm_keeps_the_figures_and_the_default_action(run_env):
    """SIGTERM stores the figures, marks the run KILLED and still ends the process by the signal."""
    process = _started(
        """
        mlflow_carbon.autolog()
        with mlflow.start_run():
            print("ready", flush=True)
            work(60)
        """,
        run_env,
    )
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    (run,) = runs(run_env)
    assert run.info.status == "KILLED"
    assert run.data.metrics["carbon/energy_kwh"] > 0


def test_kill_and_recover_completes_the_run(run_env, tmp_path):
    """After kill -9 `mlflow-carbon recover` completes the run up to one sampling period, once."""
    process = _started(
        """
        mlflow_carbon.autolog()
        with mlflow.start_run():
            print("ready", flush=True)
            work(60)
        """,
        run_env,
    )
    time.sleep(7)
    process.kill()
    process.wait()
    lived_s = (time.time_ns() - runs(run_env)[0].info.start_time * 10**6) / 1e9
    first = _command(["recover"], run_env)
    assert first.returncode == 0, first.stdout + first.stderr
    (run,) = runs(run_env)
    assert run.info.status == "KILLED"
    footprint = _footprint(run, run_env)
    assert lived_s - 1.6 <= footprint["total"]["duration_s"] <= lived_s
    assert "killed" in run.data.tags["carbon.error"]
    again = _command(["recover"], run_env)
    assert "nothing to recover" in again.stdout
    assert _footprint(runs(run_env)[0], run_env) == footprint
    assert list((tmp_path / "home" / "journal").iterdir()) == []


def test_a_forked_child_leaves_the_parents_run_alone(run_env):
    """Children of fork neither measure nor end the parent's run, and their own runs are measured."""
    script(
        """
        mlflow_carbon.autolog()
        with mlflow.start_run(run_name="parent"):
            work()
            pid = os.fork()
            if pid == 0:
                with mlflow_carbon.phase("child"):
                    mlflow_carbon.count("image", 1)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            work()
        """,
        run_env,
    )
    (run,) = runs(run_env)
    assert run.data.metrics["carbon/energy_kwh"] > 0
    assert run.data.tags["carbon.verdict"] == "ok"
    assert "carbon.functional_unit" not in run.data.tags


def test_a_child_process_does_not_measure_its_parents_run_again(run_env):
    """A subprocess that adopts the same run adds nothing: the owner measures it."""
    script(
        """
        import subprocess
        mlflow_carbon.autolog()
        with mlflow.start_run() as run:
            code = "; ".join([
                "import mlflow, mlflow_carbon",
                "mlflow_carbon.autolog()",
                f"run = mlflow.start_run(run_id={run.info.run_id!r})",
                "assert mlflow_carbon.snapshot() is None",
            ])
            work(1)
            subprocess.run([sys.executable, "-c", code], check=True)
            work(0.5)
        """,
        run_env,
    )
    (run,) = runs(run_env)
    assert len(_footprint(run, run_env)["segments"]) == 1


def test_the_kill_switch_measures_nothing(run_env):
    """With MLFLOW_CARBON_DISABLE=1 a script runs exactly as without us."""
    script(
        """
        mlflow_carbon.autolog()
        with mlflow.start_run():
            work(0.2)
            assert mlflow_carbon.snapshot() is None
        """,
        run_env | {"MLFLOW_CARBON_DISABLE": "1"},
    )
    (run,) = runs(run_env)
    assert not [k for k in run.data.metrics if k.startswith("carbon/")]


def test_wrong_arguments_raise_at_the_call_and_wrong_variables_only_warn(run_env):
    """A typo in the call is an error there and then; one in the environment must not stop a training."""
    script(
        """
        for wrong in ({"zone": "ATLANTIS"}, {"pue": 0.5}, {"period_s": 0}, {"grid": "magic"}):
            try:
                mlflow_carbon.autolog(**wrong)
            except mlflow_carbon.SettingsError as error:
                assert "expected" in str(error), error
            else:
                raise AssertionError(wrong)
        mlflow_carbon.autolog()
        with mlflow.start_run():
            work()
        """,
        run_env
        | {"MLFLOW_CARBON_PUE": "lots", "MLFLOW_CARBON_ZONE": "ATLANTIS", "MLFLOW_CARBON_ZONNE": "GB"},
    )
    (run,) = runs(run_env)
    assert run.data.metrics["carbon/energy_kwh"] > 0


def test_a_home_that_cannot_be_found_stops_nothing(run_env):
    """A state folder that makes no sense costs the figures, with a warning, and never the run."""
    done = script(
        """
        os.environ["MLFLOW_CARBON_HOME"] = "~nobody-of-this-name/state"
        mlflow_carbon.autolog()
        with mlflow.start_run():
            work(0.1)
        """,
        run_env,
    )
    assert "measuring failed" in done.stderr
    (run,) = runs(run_env)
    assert run.info.status == "FINISHED"


def test_track_measures_without_mlflow(run_env):
    """`track` returns figures for a block and for each call of a function, with no run anywhere."""
    script(
        """
        import mlflow_carbon
        with mlflow_carbon.track(zone="FR") as block:
            with mlflow_carbon.phase("forward"):
                work()
            mlflow_carbon.count("image", 10)
        assert block.footprint.energy_kwh > 0, block.footprint
        assert block.footprint.zone == "FR"
        assert block.footprint.functional_unit == "image"
        assert block.footprint.sci_gco2e_per_unit > 0

        timed = mlflow_carbon.track(zone="FR")
        @timed
        def double(x):
            work()
            return 2 * x
        assert double(21) == 42
        assert timed.footprint.energy_kwh > 0
        """,
        run_env,
    )
    assert runs(run_env) == []


def test_track_measures_a_named_run_and_joins_autolog(run_env):
    """`track(run_id)` measures a run that a client made; inside an autologged run it adds no second meter."""
    script(
        """
        from mlflow import MlflowClient
        client = MlflowClient()
        made = client.create_run("0", run_name="client")
        with mlflow_carbon.track(made.info.run_id) as block:
            work()
        assert block.footprint.energy_kwh > 0
        client.set_terminated(made.info.run_id)
        mlflow_carbon.autolog()
        with mlflow.start_run(run_name="fluent") as run:
            with mlflow_carbon.track(run.info.run_id) as inner:
                work()
            assert inner.footprint.energy_kwh > 0
            work()
        """,
        run_env,
    )
    found = by_name(run_env)
    assert found["client"].data.metrics["carbon/energy_kwh"] > 0
    assert len(_footprint(found["fluent"], run_env)["segments"]) == 1


def test_the_environment_variable_alone_measures(run_env, installed_plugin):
    """Where the plugin is installed, MLFLOW_CARBON_AUTOLOG=1 measures a script that never heard of us."""
    script(
        """
        with mlflow.start_run():
            work()
        """,
        run_env | {"MLFLOW_CARBON_AUTOLOG": "1"},
        prelude=WORK.replace(", mlflow_carbon", ""),
    )
    (run,) = runs(run_env)
    assert run.data.metrics["carbon/energy_kwh"] > 0


def test_a_moved_mlflow_gives_one_warning(run_env):
    """Where MLflow no longer has what we hook into, one warning names the way out and runs go on."""
    done = script(
        """
        from mlflow.tracking._tracking_service.client import TrackingServiceClient
        original = TrackingServiceClient.set_terminated
        del TrackingServiceClient.set_terminated
        mlflow_carbon.autolog()
        TrackingServiceClient.set_terminated = original
        with mlflow.start_run():
            work(0.1)
        """,
        run_env,
    )
    assert done.stderr.count("mlflow_carbon.track(run_id=") == 1
    (run,) = runs(run_env)
    assert run.info.status == "FINISHED"


def _started(body, env, *, is_ready=True):
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


def _command(arguments, env):
    return subprocess.run(
        [sys.executable, "-m", "mlflow_carbon", *arguments],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _footprint(run, env):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=env["MLFLOW_TRACKING_URI"])
    path = Path(client.download_artifacts(run.info.run_id, "carbon/footprint.json"))
    return json.loads(path.read_text(encoding="utf-8"))


def test_changing_settings_leaves_no_threads_behind(run_env):
    """Blocks with other zones share one meter; other sensor settings replace it and its threads end."""
    script(
        """
        def count_ours():
            return sum(t.name.startswith("mlflow-carbon") for t in threading.enumerate())

        for zone in ("FR", "DE", "FR", "DE"):
            with mlflow_carbon.track(zone=zone) as block:
                work(0.1)
            assert block.footprint.zone == zone
        assert count_ours() == 2, count_ours()
        for power_w in (50, 60, 50, 60):
            with mlflow_carbon.track(cpu_power_w=power_w, ram_power_w=0) as block:
                work(0.3)
            assert mlflow_carbon.flush()
            assert block.footprint.energy_kwh * 3.6e6 <= power_w * block.footprint.duration_s, power_w
        end = time.monotonic() + 10
        while count_ours() > 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert count_ours() == 2, count_ours()
        """,
        run_env,
    )


def test_a_child_process_knows_every_run_around_it(run_env):
    """A subprocess that adopts the outer of two nested runs does not measure it again either."""
    script(
        """
        import subprocess
        mlflow_carbon.autolog()
        with mlflow.start_run(run_name="outer") as outer, mlflow.start_run(nested=True):
            code = "; ".join([
                "import mlflow, mlflow_carbon",
                "mlflow_carbon.autolog()",
                f"run = mlflow.start_run(run_id={outer.info.run_id!r})",
                "assert mlflow_carbon.snapshot() is None",
            ])
            work(0.5)
            subprocess.run([sys.executable, "-c", code], check=True)
            work(0.5)
        """,
        run_env,
    )
    assert len(_footprint(by_name(run_env)["outer"], run_env)["segments"]) == 1


def test_a_run_that_is_measured_ends_though_measuring_was_switched_off(run_env):
    """What is switched off is the measuring of new runs: the end of this one is still seen."""
    script(
        """
        mlflow_carbon.autolog()
        with mlflow.start_run(run_name="on"):
            work()
            mlflow_carbon.autolog(disable=True)
        time.sleep(2)
        with mlflow.start_run(run_name="off"):
            work(0.1)
        """,
        run_env,
    )
    found = by_name(run_env)
    assert _footprint(found["on"], run_env)["total"]["duration_s"] < 3
    assert not [k for k in found["off"].data.metrics if k.startswith("carbon/")]


def test_figures_of_a_thread_that_trains_past_the_end_of_main_are_stored(run_env):
    """The time that the exit may take begins when the last thread is done, not with the end of the script."""
    script(
        """
        mlflow_carbon.autolog()
        def train():
            with mlflow.start_run(run_name="thread"):
                work(12)
        threading.Thread(target=train).start()
        """,
        run_env,
    )
    (run,) = runs(run_env)
    assert run.data.metrics["carbon/energy_kwh"] > 0
    assert run.data.tags["carbon.verdict"] == "ok"


def test_an_interrupt_belongs_to_the_user(run_env):
    """Ctrl-C, or a notebook's stop button: the run fails or goes on as without us, and keeps its figures."""
    script(
        """
        import signal
        def interrupt():
            time.sleep(1.5)
            os.kill(os.getpid(), signal.SIGINT)
        mlflow_carbon.autolog()
        threading.Thread(target=interrupt).start()
        try:
            with mlflow.start_run(run_name="stopped"), mlflow_carbon.phase("forward"):
                work(60)
        except KeyboardInterrupt:
            pass
        mlflow.start_run(run_name="cells")
        threading.Thread(target=interrupt).start()
        try:
            work(60)
        except KeyboardInterrupt:
            pass
        work(1)
        mlflow.end_run()
        """,
        run_env,
    )
    found = by_name(run_env)
    assert {name: run.info.status for name, run in found.items()} == {
        "stopped": "FAILED",
        "cells": "FINISHED",
    }
    for run in found.values():
        assert run.data.metrics["carbon/energy_kwh"] > 0
        assert run.data.tags["carbon.verdict"] == "ok"
    assert _footprint(found["cells"], run_env)["total"]["duration_s"] > 2.4


def test_ranks_of_one_node_are_counted_once(run_env):
    """Four processes that join one run at the same moment measure it once: the machine has one energy."""
    rank = """
        mlflow_carbon.autolog()
        while time.monotonic() < float(os.environ["GO"]):
            time.sleep(0.001)
        with mlflow.start_run(run_id=os.environ["RUN"]):
            work(3)
            print(mlflow_carbon.snapshot() is not None, flush=True)
            time.sleep(2)
            """
    made = script(
        """
        client = mlflow.MlflowClient()
        print(client.create_run("0").info.run_id)
        """,
        run_env,
    )
    run_id = made.stdout.strip()
    joined = run_env | {"RUN": run_id, "GO": str(time.monotonic() + 15)}
    ranks = [_started(rank, joined, is_ready=False) for _ in range(4)]
    told = sorted(process.communicate(timeout=120)[0].strip() for process in ranks)
    assert told == ["False", "False", "False", "True"]
    (run,) = [run for run in runs(run_env) if run.info.run_id == run_id]
    (segment,) = _footprint(run, run_env)["segments"]
    assert 4.5 < segment["duration_s"] < 15
    assert "carbon.shared" not in run.data.tags


def test_a_forked_child_ends_at_sigterm_as_ever(run_env):
    """Our handler is for the process that measures; a child of fork has the default action again."""
    script(
        """
        import signal
        mlflow_carbon.autolog()
        with mlflow.start_run():
            work(0.3)
            assert callable(signal.getsignal(signal.SIGTERM))
            pid = os.fork()
            if pid == 0:
                os._exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
            assert os.waitpid(pid, 0)[1] == 0
        """,
        run_env,
    )


def test_blocks_and_the_runs_around_them_do_not_share_the_machine(run_env):
    """A block in a run and a run in a block are one workload; three nested runs are one, too."""
    script(
        """
        mlflow_carbon.autolog()
        with mlflow.start_run(run_name="holds a block"):
            with mlflow_carbon.track():
                work()
        with mlflow_carbon.track():
            with mlflow.start_run(run_name="in a block"):
                work()
        with mlflow.start_run(run_name="a"), mlflow.start_run(run_name="b", nested=True):
            with mlflow.start_run(run_name="c", nested=True):
                work()
        """,
        run_env,
    )
    shared = {name for name, run in by_name(run_env).items() if "carbon.shared" in run.data.tags}
    assert shared == set()


def test_no_verb_raises_or_floods_whatever_it_is_given(run_env):
    """Wrong counts and steps are left out and said; a step for each batch does not make a reading each."""
    script(
        """
        import numpy as np
        from mlflow_carbon.session import meter
        mlflow_carbon.autolog()
        with mlflow.start_run():
            work(1)
            for wrong in (None, "many", float("nan"), [1, 2], 10**400):
                mlflow_carbon.count("image", wrong)
                mlflow_carbon.log_step(wrong)
            mlflow_carbon.count("image", np.float32(3))
            before = meter.current().sampler._seq
            end = time.monotonic() + 2
            step = 0
            while time.monotonic() < end:
                mlflow_carbon.log_step(step)
                step += 1
                time.sleep(0.01)
            assert meter.current().sampler._seq - before <= 8
        """,
        run_env,
    )
    (run,) = runs(run_env)
    assert _footprint(run, run_env)["total"]["functional_units"] == 3
    assert "count of" in run.data.tags["carbon.error"]
    assert run.data.metrics["carbon/step/energy_kwh"] > 0
