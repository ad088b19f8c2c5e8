"""What the trainer tells MLflow and its reader."""

import time

import pytest
from mlflow.entities import Param, Run, RunData, RunInfo
from mlflow.exceptions import MlflowException

from mlflow_carbon import RunFootprint
from projects.mnist import report
from projects.mnist.config import TrackingError
from tests.loopback import loopback


@pytest.fixture
def server():
    """A server that answers 404 to everything."""
    with loopback(lambda *_: (404, {}, b"")) as url:
        yield url


def a_run(**params):
    """A run as MLflow gives it, with parameters that are logged already."""
    info = RunInfo("r1", "7", "someone", "RUNNING", 0, None, "active")
    return Run(info, RunData(params=[Param(key, value) for key, value in params.items()]))


def test_a_server_that_answers_anything_is_reached(server):
    """A 404 comes from a server too; what it means is MLflow's business."""
    report.require_server(server)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "file:/tmp/x", "databricks"])
def test_only_servers_are_asked(uri):
    """Other stores need no network."""
    report.require_server(uri)


def test_an_unreachable_server_is_said_within_seconds():
    """Expected, got and what to do; no password; none of MLflow's minutes of retries."""
    start = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        report.require_server("http://user:secret@127.0.0.1:9/")
    assert time.monotonic() - start < 5
    assert str(caught.value) == (
        "tracking server http://127.0.0.1:9/: expected an answer, got none within 3 s (ConnectionError); "
        "start it with `mlflow server`, or unset MLFLOW_TRACKING_URI to write into ./mlflow.db"
    )


def test_after_the_first_trouble_nothing_more_is_sent(capsys):
    """Each call to a dead server costs seconds; one is enough, and one line says so."""
    log, called = report.Log(a_run()), []

    def fails(*args, **kwargs):
        called.append(args)
        raise MlflowException("no answer")

    log._tell(fails, 1)
    log._tell(fails, 2)
    assert called == [(1,)]
    assert log.trouble == "no answer"
    assert (
        capsys.readouterr().err == "mnist: tracking: no answer; training goes on and its checkpoint is kept\n"
    )


def test_no_password_is_repeated():
    """MLflow's own messages carry the address as it was given."""
    error = MlflowException("API request to https://me:secret@host.example/api failed")
    assert report._short(error) == "API request to https://host.example/api failed"


def test_other_errors_are_not_swallowed():
    """Only trouble with the server is; a mistake of ours still shows."""

    def fails():
        raise ValueError

    with pytest.raises(ValueError):
        report.Log(a_run())._tell(fails)


def test_parameters_that_mlflow_run_logged_are_left_alone():
    """`mlflow run` has logged accum as "4"; the same key in another spelling would be refused."""
    told: list[object] = []

    class Listening(report.Log):
        def _tell(self, call, *args, **kwargs):
            told.extend(args)

    Listening(a_run(accum="4")).params({"accum": "04", "lr": "0.006"})
    assert told == [{"lr": "0.006"}]


def test_the_summary_says_how_each_number_was_got():
    """Range, basis, quality, kind of grid figure and where the zone came from."""
    footprint = RunFootprint(
        energy_kwh=0.0005,
        energy_low_kwh=0.00018,
        energy_high_kwh=0.00096,
        emissions_gco2e=0.19,
        emissions_low_gco2e=0.0664,
        emissions_high_gco2e=0.376,
        basis="modelled",
        quality="L0",
        zone="DE",
        zone_source="argument",
        provider="codecarbon",
        intensity_kind="static",
    )
    assert list(report._summary(footprint, {"test/accuracy": 0.9923}, run_id="r1")) == [
        "",
        "run        r1",
        "accuracy   99.23% of the test images",
        "energy     0.000500 [0.000180 to 0.000960] kWh (modelled, L0)",
        "emissions  0.190 [0.0664 to 0.376] gCO2e (grid: static, codecarbon)",
        "zone       DE (from argument)",
    ]


def test_a_summary_without_a_measurement_says_so():
    """No number is made up."""
    assert (
        list(report._summary(None, {}, run_id="r1"))[-1]
        == "energy     not measured; see `mlflow-carbon doctor`"
    )


@pytest.mark.parametrize(
    ("uri", "first", "base"),
    [
        (
            "sqlite:////d/other.db",
            "look       mlflow ui --backend-store-uri sqlite:////d/other.db",
            "http://127.0.0.1:5000",
        ),
        ("https://me:secret@host.example/sub/", None, "https://host.example/sub"),
    ],
)
def test_the_last_line_leads_to_the_charts(uri, first, base):
    """The page that lines the runs up, without anybody's password; `mlflow ui` first where no server runs."""
    lines = list(report._where_to_look(uri, "7"))
    view = "compareRunsMode=CHART&workflowType=machine_learning"
    assert lines[-1] == f"charts     {base}/#/experiments/7/runs?{view}"
    assert lines[:-1] == ([first] if first else [])


def test_an_epoch_gets_what_was_added_since_the_last_one():
    """Differences of the running totals; nothing before the first look counts as zero."""
    first, second = RunFootprint(energy_kwh=0.002), RunFootprint(energy_kwh=0.005)
    assert report._difference(first, None, "energy_kwh") == 0.002
    assert report._difference(second, first, "energy_kwh") == pytest.approx(0.003)
    assert report._difference(None, first, "energy_kwh") is None
    assert report._difference(second, first, "emissions_gco2e") is None


def test_peak_memory_is_that_of_the_process_without_cuda():
    """In MiB: more than an empty interpreter, less than this machine."""
    assert 20 < report._peak_memory_mib() < 1_000_000
