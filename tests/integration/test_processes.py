"""Measuring in the life of real processes: exits, signals, forks, children, ranks and threads."""

from __future__ import annotations

import signal
import time

import pytest

from tests.scripts import by_name, command, footprint_of, runs, script, started

pytestmark = pytest.mark.slow

RUNNING = """
mlflow_carbon.autolog()
with mlflow.start_run():
    print("ready", flush=True)
    work(60)
"""


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


def test_sigterm_keeps_the_figures_and_the_default_action(run_env):
    """SIGTERM stores the figures, marks the run KILLED and still ends the process by the signal."""
    process = started(RUNNING, run_env)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    (run,) = runs(run_env)
    assert run.info.status == "KILLED"
    assert run.data.metrics["carbon/energy_kwh"] > 0


def test_kill_and_recover_completes_the_run(run_env, tmp_path):
    """After kill -9 `mlflow-carbon recover` completes the run up to one sampling period, once."""
    process = started(RUNNING, run_env)
    time.sleep(7)
    process.kill()
    process.wait()
    lived_s = (time.time_ns() - runs(run_env)[0].info.start_time * 10**6) / 1e9
    first = command(["recover"], run_env)
    assert first.returncode == 0, first.stdout + first.stderr
    (run,) = runs(run_env)
    assert run.info.status == "KILLED"
    footprint = footprint_of(run, run_env)
    assert lived_s - 1.6 <= footprint["total"]["duration_s"] <= lived_s
    assert "killed" in run.data.tags["carbon.error"]
    again = command(["recover"], run_env)
    assert "nothing to recover" in again.stdout
    assert footprint_of(runs(run_env)[0], run_env) == footprint
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
    assert len(footprint_of(run, run_env)["segments"]) == 1


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
    assert len(footprint_of(by_name(run_env)["outer"], run_env)["segments"]) == 1


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
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        def interrupt():
            time.sleep(1.5)
            os.kill(os.getpid(), signal.SIGINT)
        mlflow_carbon.autolog()
        try:
            with mlflow.start_run(run_name="stopped"), mlflow_carbon.phase("forward"):
                threading.Thread(target=interrupt).start()
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
    assert footprint_of(found["cells"], run_env)["total"]["duration_s"] > 2.4


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
    ranks = [started(rank, joined, is_ready=False) for _ in range(4)]
    told = sorted(process.communicate(timeout=120)[0].strip() for process in ranks)
    assert told == ["False", "False", "False", "True"]
    (run,) = [run for run in runs(run_env) if run.info.run_id == run_id]
    (segment,) = footprint_of(run, run_env)["segments"]
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


def test_changing_settings_leaves_no_threads_behind(run_env):
    """Blocks with other zones share one meter; other sensor settings replace it and its threads end."""
    script(
        """
        def count_ours():
            names = {"mlflow-carbon-sampler", "mlflow-carbon-worker", "mlflow-carbon-keeper"}
            return sum(t.name in names for t in threading.enumerate())

        for zone in ("FR", "DE", "FR", "DE"):
            with mlflow_carbon.track(zone=zone) as block:
                work(0.1)
            assert block.footprint.zone == zone
        assert count_ours() == 3, count_ours()
        for power_w in (50, 60, 50, 60):
            with mlflow_carbon.track(cpu_power_w=power_w, ram_power_w=0) as block:
                work(0.3)
            assert mlflow_carbon.flush()
            most_j = power_w * block.footprint.duration_s * 1.001  # a busy machine is at its design power
            assert block.footprint.energy_kwh * 3.6e6 <= most_j, power_w
        end = time.monotonic() + 10
        while count_ours() > 3 and time.monotonic() < end:
            time.sleep(0.05)
        assert count_ours() == 3, count_ours()
        """,
        run_env,
    )
