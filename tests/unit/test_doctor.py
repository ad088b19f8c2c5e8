"""`mlflow-carbon doctor` on this machine, with a state folder of its own."""

from __future__ import annotations

import json

import pytest

from mlflow_carbon import assembly
from mlflow_carbon.cli import main
from mlflow_carbon.journal import Journal


@pytest.fixture
def journals(tmp_path, monkeypatch):
    """A state folder without journals; no settings from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_CARBON_DISABLE", raising=False)
    return tmp_path / "home" / "journal"


def test_it_says_what_is_read_and_which_grid_figure_counts(journals, capsys):
    """Exit code 0; each channel with its basis; the annual figure of Germany, life cycle."""
    assert main(["doctor", "--zone", "DE"]) == 0
    shown = capsys.readouterr().out
    assert "modelled  L0" in shown or "measured  L" in shown
    assert "zone DE (from argument): 381 gCO2e/kWh (305 to 457)" in shown
    assert "static, average, life cycle" in shown
    assert "no journal waits to be recovered" in shown


def test_it_counts_the_journals_that_wait(journals, capsys):
    """A journal whose writer is gone waits; one that is still written does not."""
    writers = [Journal(journals, name, host=assembly.host()) for name in ("a", "b", "c")]
    writers[0].close()
    main(["doctor"])
    assert "  1 journal waits for `mlflow-carbon recover`:\n" in capsys.readouterr().out
    writers[1].close()
    main(["doctor"])
    assert "  2 journals wait for `mlflow-carbon recover`:\n" in capsys.readouterr().out
    main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)["orphans"] == [str(w.path) for w in writers[:2]]
    writers[2].close()


def test_where_nothing_would_be_measured_the_answer_is_no(journals, monkeypatch, capsys):
    """Exit code 1 and the reason."""
    monkeypatch.setenv("MLFLOW_CARBON_DISABLE", "1")
    assert main(["doctor"]) == 1
    assert "MLFLOW_CARBON_DISABLE is set: nothing is measured" in capsys.readouterr().out


def test_an_unknown_zone_is_wrong_usage(journals, capsys):
    """Exit code 64, one line."""
    assert main(["doctor", "--zone", "Germny"]) == 64
    assert "did you mean DE" in capsys.readouterr().err
