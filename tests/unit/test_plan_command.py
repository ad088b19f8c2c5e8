"""`mlflow-carbon plan --simulate`: output, exit codes, and the numbers that it has to reach."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_carbon import cli
from tests.grids import START_S, wave

if TYPE_CHECKING:
    from pathlib import Path

DATA = os.environ.get("MLFLOW_CARBON_DATA", "")
KEYS = {"policy", "hours", "interruptible", "saving_ratio", "oracle_ratio", "harm_ratio", "wait_mean_h"}


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    """Forty days of a made-up grid."""
    begin = datetime.fromtimestamp(START_S, UTC)
    rows = [f"{begin + timedelta(hours=i):%Y-%m-%dT%H:%MZ},{v:.1f}" for i, v in enumerate(wave(40).values)]
    path = tmp_path / "made_up.csv"
    path.write_text("slot_start_utc,gco2_per_kwh\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_line_a_policy(trace_file, capsys) -> None:
    """Each policy has one line with its lengths."""
    assert cli.main(["plan", "--simulate", str(trace_file), "--hours", "1,4", "--slack", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("made_up.csv: ")
    assert lines[1].startswith("slack 12 h, idle power 0%; modelled")
    assert max(map(len, lines[3:-1])) < 80
    assert [line.split()[0] for line in lines[4:-1]] == [
        "now", "threshold", "percentile", "persistence", "climatology", "profile", "ridge", "window",
        "interruptible", "oracle",
    ]  # fmt: skip


def test_json_has_a_row_for_each_policy_and_length(trace_file, capsys) -> None:
    """The keys of decision 34, and no more policies than asked for."""
    command = [
        "plan",
        "--simulate",
        str(trace_file),
        "--hours",
        "1,24",
        "--policy",
        "window,interruptible",
        "--json",
    ]
    assert cli.main([*command, "--idle", "0.1"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["policy"], r["hours"], r["interruptible"]) for r in rows] == [
        ("window", 1, False), ("interruptible", 1, True), ("window", 24, False), ("interruptible", 24, True),
    ]  # fmt: skip
    assert all(row.keys() >= KEYS for row in rows)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--policy", "luck"], 64),
        (["--hours", "0"], 64),
        (["--hours", "1000"], 64),
        (["--hours", "soon"], 64),
        (["--slack", "-1"], 64),
        (["--idle", "2"], 64),
        (["--min-gain", "1"], 64),
        (["--slack", "nan"], 64),
        (["--threshold", "nan"], 64),
        (["--power", "300"], 64),
        (["--forecast", "not-there.csv"], 2),
    ],
)
def test_wrong_use_and_bad_data_have_their_codes(trace_file, capsys, more, code) -> None:
    """64 for what cannot be asked, 2 for what cannot be read, and a message on stderr."""
    command = ["plan", "--simulate", str(trace_file), *more]
    if more[0] == "--hours" and more[1] == "soon":  # argparse leaves by itself
        with pytest.raises(SystemExit) as left:
            cli.main(command)
        assert left.value.code == code
    else:
        assert cli.main(command) == code
    assert capsys.readouterr().err


def test_a_trace_that_is_not_there_or_too_short_is_bad_data(tmp_path, trace_file, capsys) -> None:
    """Both say what to do."""
    assert cli.main(["plan", "--simulate", str(tmp_path / "none.csv")]) == 2
    short = tmp_path / "short.csv"
    short.write_text("\n".join(trace_file.read_text().splitlines()[:100]) + "\n", encoding="utf-8")
    assert cli.main(["plan", "--simulate", str(short), "--hours", "1"]) == 2
    assert "give a longer trace" in capsys.readouterr().err


def rows_of(capsys, *arguments: str) -> list[dict[str, Any]]:
    """Rows that the command prints."""
    assert cli.main(["plan", "--json", *arguments]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="MLFLOW_CARBON_DATA is not set: no recorded grid to score")
@pytest.mark.parametrize(
    "name", ["GB_2021-2022", "DE_2020-2021", "US-CAL-CISO_2020-2021", "PL_2020-2021", "SE_2021"]
)
def test_on_recorded_grids_the_window_beats_the_simple_policies(capsys, name) -> None:
    """On every trace and length it saves more than threshold, percentile and persistence, and 60 % of the oracle in the mean."""
    started = time.process_time()
    rows = rows_of(capsys, "--simulate", f"{DATA}/grid/{name}_60min.csv")
    assert time.process_time() - started < 60
    saved = {(row["policy"], row["hours"]): row["saving_ratio"] for row in rows}
    for hours in (1, 4, 12, 24):
        for other in ("threshold", "percentile", "persistence"):
            assert saved["window", hours] > saved[other, hours]
        assert saved["interruptible", hours] >= saved["window", hours]
    reached = [row["reached_ratio"] for row in rows if row["policy"] == "window" and row["hours"] < 24]
    assert sum(reached) / 3 >= 0.6
