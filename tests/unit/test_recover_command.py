"""The command `mlflow-carbon recover`, as far as it needs no store."""

from __future__ import annotations

import pytest

from mlflow_carbon import assembly, journal
from mlflow_carbon.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The journal folder of a home of its own."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    found = tmp_path / "journal"
    found.mkdir()
    return found


def _orphan(folder, run_id):
    writer = journal.Journal(folder, run_id, host=assembly.host())
    writer.append("header", run_id=run_id)
    writer.close()
    assert writer.path is not None
    return writer.path


def test_two_do_not_recover_at_the_same_time(folder, capsys):
    """Two segments of a run change the same figures: who comes second waits, and loses nothing."""
    path = _orphan(folder, "run1")
    with journal.recovering(folder) as is_mine:
        assert is_mine
        assert main(["recover"]) == 1
    assert "another `recover` is at work" in capsys.readouterr().out
    assert path.exists()
    with journal.recovering(folder) as is_mine:
        assert is_mine


def test_a_run_is_chosen_among_named_files_too(folder, capsys):
    """`--run` holds for journals that are named, as it does for all."""
    one, two = _orphan(folder, "run1"), _orphan(folder, "run2")
    assert main(["recover", "--run", "run2", "--dry-run", str(one), str(two)]) == 0
    assert capsys.readouterr().out == f"[1/1] {two}\n"
    assert main(["recover", "--run", "run3", str(one), str(two)]) == 1
    assert "nothing to recover of run run3" in capsys.readouterr().out


def test_what_is_alive_is_left_alone(folder, capsys):
    """A journal whose writer lives is not touched, even by name."""
    writer = journal.Journal(folder, "run1", host=assembly.host())
    assert writer.path is not None
    assert main(["recover", str(writer.path)]) == 0
    assert "still being written" in capsys.readouterr().out
    writer.close()
