"""`autolog` on real MLflow runs: every way a run can start and end gives one measured run."""

from __future__ import annotations

import pytest

from tests.scripts import WORK, by_name, footprint_of, runs, script

pytestmark = pytest.mark.slow


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
    assert len(footprint_of(found["fluent"], run_env)["segments"]) == 1


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
    assert footprint_of(found["on"], run_env)["total"]["duration_s"] < 3
    assert not [k for k in found["off"].data.metrics if k.startswith("carbon/")]


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
    assert footprint_of(run, run_env)["total"]["functional_units"] == 3
    assert "count of" in run.data.tags["carbon.error"]
    assert run.data.metrics["carbon/step/energy_kwh"] > 0
