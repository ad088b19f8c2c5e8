"""The MLflow sink against a real store on disk, and addresses that hold no secrets."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.report import NOTE_END, NOTE_START
from mlflow_carbon.errors import RefusedError, StoreError
from mlflow_carbon.store import MlflowStore, Point, _without_secrets, portable_uri

HERE = Path.cwd()


@pytest.mark.parametrize(
    ("uri", "portable"),
    [
        ("http://server:5000", "http://server:5000"),
        ("https://ann:s3cret@server/mlflow", "https://server/mlflow"),
        ("https://token@server:5000/", "https://server:5000/"),
        ("http://server/a@b/path", "http://server/a@b/path"),
        ("mysql+pymysql://ann:p@ss@db:3306/mlflow", "mysql+pymysql://db:3306/mlflow"),
        ("postgresql://ann:p/w@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://db/mlflow?user=ann&password=x&sslmode=require", "postgresql://db/mlflow?user=&password=&sslmode=require"),
        ("postgresql://db/mlflow?PASSWORD=x", "postgresql://db/mlflow?PASSWORD="),
        ("sqlite:////data/ann@home/mlflow.db", "sqlite:////data/ann@home/mlflow.db"),
        ("sqlite:///mlflow.db", f"sqlite:///{HERE}/mlflow.db"),
        ("sqlite:///../x.db?timeout=5", f"sqlite:///{HERE.parent}/x.db?timeout=5"),
        ("sqlite+pysqlite:///mlflow.db", f"sqlite+pysqlite:///{HERE}/mlflow.db"),
        ("file:///data/mlruns", "file:///data/mlruns"),
        ("file:./mlruns", f"{HERE}/mlruns"),
        ("file:/data/mlruns", "/data/mlruns"),
        ("./mlruns", f"{HERE}/mlruns"),
        ("mlruns", f"{HERE}/mlruns"),
        ("/data/mlruns", "/data/mlruns"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("uc", "uc"),
    ],
)  # fmt: skip
def test_an_address_holds_from_anywhere_and_holds_no_secret(uri, portable):
    """Relative paths become absolute; user, password and the values of secret parameters are left out; twice is once."""
    assert portable_uri(uri) == portable
    assert portable_uri(portable) == portable


_WORD = st.text("abcXYZ019._~-", min_size=6, max_size=12)


@given(
    _WORD, st.text("abc019/:!$", min_size=6, max_size=12), st.sampled_from(["mysql", "postgresql+psycopg2"])
)
def test_no_password_of_a_database_gets_through(user, password, scheme):
    """Slashes and colons included."""
    secret = f"{password}Q"  # a letter of its own, so that it is in no other part
    uri = f"{scheme}://{user}:{secret}@db.example:3306/mlflow"
    assert portable_uri(uri) == f"{scheme}://db.example:3306/mlflow"
    assert secret not in _without_secrets(f"cannot reach {uri}/x, see {uri}")


def test_a_message_about_another_address_is_cleaned_too():
    """A proxy's, for example."""
    text = "API request to http://ann:s3cret@server/api failed, proxy http://bob:pw@proxy:80 refused"
    assert _without_secrets(text) == (
        "API request to http://server/api failed, proxy http://proxy:80 refused"
    )


@pytest.mark.slow
def test_nobody_at_home_is_a_store_error_without_password(monkeypatch):
    """Which run, where, what was tried and why; `exists` is simply false."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = MlflowStore("abc123", tracking_uri="http://ann:s3cret@127.0.0.1:1")
    with pytest.raises(StoreError) as caught:
        store.write_tags({"a": "1"})
    assert not isinstance(caught.value, RefusedError), "it may be back later"
    message = str(caught.value)
    assert message.startswith("could not set tags of run abc123 at http://127.0.0.1:1: MlflowException: ")
    assert "s3cret" not in message
    assert "ann" not in message
    assert len(message) < 500
    assert not store.exists()


@pytest.fixture
def run(tracking_uri, tmp_path):
    """A running run in a fresh store, as its client and its id."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.create_experiment("measured", artifact_location=str(tmp_path / "artifacts"))
    return client, client.create_run(experiment).info.run_id


@pytest.fixture
def store(run, tracking_uri):
    """Our side of that run."""
    return MlflowStore(run[1], tracking_uri=tracking_uri)


@pytest.mark.slow
def test_points_are_stored_with_step_and_time(store, run):
    """2000 of them in one go, which is more than MLflow takes in one call."""
    client, run_id = run
    points = [Point(key="carbon/time/energy_kwh", value=i / 7, step=i, t_ms=1000 + i) for i in range(2000)]
    store.write_points([*points, Point(key="carbon/energy_kwh", value=0.5, step=0, t_ms=5)])
    history = client.get_metric_history(run_id, "carbon/time/energy_kwh")
    assert [(m.value, m.step, m.timestamp) for m in history] == [(p.value, p.step, p.t_ms) for p in points]
    assert store.read_metrics() == {"carbon/time/energy_kwh": 1999 / 7, "carbon/energy_kwh": 0.5}
    assert store.read_last_step("carbon/time/energy_kwh") == 1999
    assert store.read_last_step("carbon/none") == -1


@pytest.mark.slow
def test_points_stored_twice_count_once(store, run):
    """`recover` may store again what was stored before the process died."""
    client, run_id = run
    for _ in range(2):
        store.write_points([Point(key="carbon/energy_kwh", value=0.5, step=0, t_ms=5)])
    assert len(client.get_metric_history(run_id, "carbon/energy_kwh")) == 1


@pytest.mark.slow
def test_the_value_of_the_latest_time_is_the_one_that_is_read(store):
    """At one step the later summary wins, even if it is stored first."""
    for value, t_ms in ((0.9, 20), (0.4, 10)):
        store.write_points([Point(key="carbon/energy_kwh", value=value, step=0, t_ms=t_ms)])
    assert store.read_metrics() == {"carbon/energy_kwh": 0.9}


@pytest.mark.slow
def test_only_our_own_metrics_are_read(store, run):
    """The user's loss is not ours."""
    client, run_id = run
    client.log_metric(run_id, "loss", 0.1)
    assert store.read_metrics() == {}


@pytest.mark.slow
def test_tags_are_stored_and_cut(store, run):
    """More than a call takes, and one longer than we want to show."""
    client, run_id = run
    tags = {f"carbon.t{i}": str(i) for i in range(150)} | {"carbon.error": "x" * 900}
    store.write_tags(tags)
    stored = client.get_run(run_id).data.tags
    assert {k: v for k, v in stored.items() if k.startswith("carbon.")} == tags | {"carbon.error": "x" * 500}


@pytest.mark.slow
def test_files_are_stored_under_carbon_and_replaced(store, run):
    """To the byte; one that is not there is None, not an error."""
    client, run_id = run
    assert store.read_file("footprint.json") is None
    store.write_file("footprint.json", b"{}\n")
    store.write_file("samples.jsonl.gz", bytes(range(256)))
    assert store.read_file("footprint.json") == b"{}\n"
    assert store.read_file("samples.jsonl.gz") == bytes(range(256))
    store.write_file("footprint.json", b"[]")
    assert store.read_file("footprint.json") == b"[]"
    assert sorted(store.list_files()) == ["footprint.json", "samples.jsonl.gz"]
    assert sorted(a.path for a in client.list_artifacts(run_id, "carbon")) == [
        "carbon/footprint.json",
        "carbon/samples.jsonl.gz",
    ]


@pytest.mark.slow
def test_the_note_keeps_the_users_words(store, run):
    """Ours is put after theirs, and replaced in place when it is stored again."""
    client, run_id = run
    client.set_tag(run_id, "mlflow.note.content", "# My run\n\nIt was raining.")
    for figure in ("1 Wh", "2 Wh"):
        store.write_note(f"{NOTE_START}\n{figure}\n{NOTE_END}")
    assert client.get_run(run_id).data.tags["mlflow.note.content"] == (
        f"# My run\n\nIt was raining.\n\n{NOTE_START}\n2 Wh\n{NOTE_END}"
    )


@pytest.mark.slow
def test_a_note_beyond_what_mlflow_holds_keeps_the_users_words(store, run):
    """MLflow cuts notes at 8000 characters: ours comes last, so what is cut is ours."""
    client, run_id = run
    words = "word " * 1590
    client.set_tag(run_id, "mlflow.note.content", words)
    for _ in range(2):
        store.write_note(f"{NOTE_START}\n{'figure ' * 30}\n{NOTE_END}")
    assert client.get_run(run_id).data.tags["mlflow.note.content"].startswith(words)


@pytest.mark.slow
def test_a_run_is_ended_only_while_it_runs(store, run):
    """One that somebody has ended keeps its status."""
    client, run_id = run
    assert store.exists()
    store.end("KILLED")
    assert client.get_run(run_id).info.status == "KILLED"
    store.end("FINISHED")
    assert client.get_run(run_id).info.status == "KILLED"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("log metrics", lambda s: s.write_points([Point(key="carbon/x", value=1, step=0, t_ms=0)])),
        ("set tags", lambda s: s.write_tags({"a": "1"})),
        ("store carbon/x", lambda s: s.write_file("x", b"")),
        ("set the run note", lambda s: s.write_note("note")),
        ("read metrics", lambda s: s.read_metrics()),
        ("list artifacts", lambda s: s.read_file("x")),
        ("end the run", lambda s: s.end("KILLED")),
    ],
)
def test_a_run_that_is_not_there_is_a_store_error(tracking_uri, what, call):
    """Each call says what it wanted, of which run, where, and what MLflow said."""
    with pytest.raises(StoreError) as caught:
        call(MlflowStore("0" * 32, tracking_uri=tracking_uri))
    message = str(caught.value)
    assert message.startswith(f"could not {what} of run {'0' * 32} at {tracking_uri}: ")
    assert "not found" in message
    assert caught.value.__cause__ is not None
    assert not MlflowStore("0" * 32, tracking_uri=tracking_uri).exists()


@pytest.mark.slow
def test_a_deleted_run_is_a_store_error(store, run):
    """Nothing is written into the bin, and it is no use to try again."""
    client, run_id = run
    client.delete_run(run_id)
    with pytest.raises(RefusedError, match="could not set tags of run"):
        store.write_tags({"a": "1"})


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_that_are_no_numbers_do_not_stop_the_others(store, value):
    """MLflow has its own way with them; the call does not fail."""
    store.write_points(
        [
            Point(key="carbon/odd", value=value, step=0, t_ms=0),
            Point(key="carbon/x", value=1.0, step=0, t_ms=0),
        ]
    )
    assert store.read_metrics()["carbon/x"] == 1.0


@pytest.mark.slow
def test_the_address_is_taken_when_the_store_is_made(tracking_uri, monkeypatch):
    """A script that changes MLflow's address later does not send the figures elsewhere."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    assert mlflow.get_tracking_uri() == tracking_uri
    store = MlflowStore("abc")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert store.tracking_uri == tracking_uri
    assert "elsewhere" in os.environ["MLFLOW_TRACKING_URI"]
