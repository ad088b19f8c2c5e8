"""`mlflow-carbon cloud import` on a real tracking store: what is printed, what is counted, exit codes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_carbon.cli import main

DATA = Path(__file__).parents[1] / "data/cloud"
APRIL = int(datetime(2025, 4, 10, tzinfo=UTC).timestamp() * 1000)
DAY = 86_400_000

pytestmark = pytest.mark.slow  # makes a database


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A tracking store with an experiment of measured and other runs; its runs by name."""
    folder = tmp_path_factory.mktemp("store")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("training", artifact_location=str(folder / "artifacts"))
    runs: dict[str, str] = {}

    def add(name, zone="GB", *, kwh=1.0, grams=100.0, start=APRIL, hours=1.0, parent="", **tags):
        found = {"carbon.kind": "run", "carbon.grid.zone": zone} | {
            f"carbon.{key}": value for key, value in tags.items()
        }
        if parent:
            found["mlflow.parentRunId"] = runs[parent]
        run_id = client.create_run(experiment, start_time=start, tags=found, run_name=name).info.run_id
        if kwh is not None:
            client.log_metric(run_id, "carbon/energy_kwh", kwh / 2)
            client.log_metric(run_id, "carbon/energy_kwh", kwh)  # the last value counts
            client.log_metric(run_id, "carbon/emissions_gco2e", grams)
        client.set_terminated(run_id, end_time=start + int(hours * 3_600_000))
        runs[name] = run_id

    add("search", kwh=10.0, grams=2000.0)
    add("trial", kwh=4.0, grams=800.0, parent="search")
    add("trial of a trial", kwh=1.0, grams=200.0, parent="trial")
    add("sweep", kwh=None, kind="run")
    add("measured child", kwh=2.0, grams=400.0, parent="sweep")
    add("launcher", kwh=10.0, grams=2000.0, kind="resume-launcher")
    add("estimate", kwh=5.0, grams=1.0, kind="estimate")
    add("virginia", "US-VA", kwh=3.0, grams=900.0, shared="true")
    add("long", kwh=1.0, grams=100.0, start=APRIL + 20 * DAY - 3_600_000, hours=48)
    add("june", kwh=7.0, grams=700.0, start=APRIL + 60 * DAY)
    add("deleted", kwh=50.0, grams=5000.0)
    client.delete_run(runs["deleted"])
    return folder, runs


@pytest.fixture
def here(store, tmp_path, monkeypatch):
    """That store as the current one, with a state folder of its own."""
    folder, runs = store
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return runs


def test_each_run_counts_once_in_its_month_and_zone(here, capsys):
    """Nested, resumed, estimated, deleted and later runs are not in the sums of April."""
    command = ["cloud", "import", str(DATA / "aws_v3.csv"), "--experiment", "training", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(row["month"], row["zone"]): row for row in found["beside"]}
    british = rows["2025-04", "GB"]
    assert (british["runs"], british["energy_kwh"]) == (3, 10 + 2 + 1)
    assert british["emissions_kg"] == pytest.approx(2.5)
    assert british["location_kg"] == pytest.approx(14)
    assert british["scope2_location_kg"] == pytest.approx(8.8)
    assert rows["2025-04", "US-VA"]["emissions_kg"] == pytest.approx(0.9)
    assert rows["2025-05", "GB"]["runs"] == 0
    assert found["notes"] == [
        "2 nested run(s) left out: the run around them holds their energy",
        "1 run(s) shared their machine with others: their sum counts it more than once",
        "1 run(s) went on into another month: all of them counts in that of its start",
        "1 run(s) of months that the export does not have are left out",
    ]
    assert {line["account"][:12] for line in found["lines"]} == {"hmac-sha256:"}


def test_the_text_says_why_they_differ_and_speaks_of_no_saving(here, capsys):
    """Both columns, their units and the reasons; nothing is subtracted."""
    assert main(["cloud", "import", str(DATA / "aws_v3.csv"), "--experiment", "training"]) == 0
    shown = capsys.readouterr().out
    line = next(x for x in shown.splitlines() if x.startswith("2025-04  GB"))
    assert line.split() == ["2025-04", "GB", "14", "5.4", "8.8", "3", "13", "2.5", "eu-west-2"]
    assert "The two are not expected to agree" in shown
    assert "market-based figures count contracts" in shown
    assert "saving" not in shown
    assert "444455556666" not in shown


def test_one_run_is_compared_by_its_id(here, capsys):
    """Also a nested one; a run that was not measured is refused."""
    command = ["cloud", "import", str(DATA / "aws_v3.csv"), "--json", "--run"]
    assert main([*command, here["trial"]]) == 0
    rows = json.loads(capsys.readouterr().out)["beside"]
    assert sum(row["runs"] for row in rows) == 1
    assert main([*command, here["estimate"]]) == 2
    assert "expected carbon.kind=run" in capsys.readouterr().err
    assert main([*command, "nonesuch"]) == 2
    assert "run nonesuch: cannot be read" in capsys.readouterr().err


def test_nothing_to_compare_is_a_negative_answer(here, capsys):
    """Exit code 1 without runs in the months of the export, 2 without the experiment."""
    old = str(DATA / "aws_v2.csv")
    assert main(["cloud", "import", old, "--experiment", "training"]) == 1
    assert main(["cloud", "import", old, "--experiment", "nonesuch"]) == 2
    assert "there is none at" in capsys.readouterr().err


def test_the_export_alone_needs_no_store(tmp_path, monkeypatch, capsys):
    """Without runs only the provider's figures are shown."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_CARBON_PRIVACY", "full")
    assert main(["cloud", "import", str(DATA / "gcp_dotted.csv")]) == 0
    shown = capsys.readouterr().out
    assert "Google Cloud Carbon Footprint, BigQuery export: 18 figures, 2 account(s)" in shown
    assert "runs" not in shown
    assert main(["cloud", "import", str(DATA / "gcp_dotted.csv"), "--json"]) == 0
    accounts = {line["account"] for line in json.loads(capsys.readouterr().out)["lines"]}
    assert accounts == {"my-project", "007GD7-15C0E6-BDE6B3"}


def test_bad_files_end_with_two_and_wrong_usage_with_64(tmp_path, capsys):
    """The message names the file and the row."""
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("usage_month,location_region,carbon_footprint_kgco2e_scope1\n2025-04,x,ten\n")
    assert main(["cloud", "import", str(wrong)]) == 2
    assert "wrong.csv: row 2: carbon_footprint_kgco2e_scope1: expected a number" in capsys.readouterr().err
    for words in (
        ["cloud"],
        ["cloud", "import"],
        ["cloud", "import", "x", "--run", "a", "--experiment", "b"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 64
