"""Traces in files: what is read, and how a file that is none is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.contract import Window
from mlflow_carbon.grid.recorded import read

NEW_YEAR = 1_609_459_200  # 2021-01-01T00:00Z
HEAD = "slot_start_utc,gco2_per_kwh\n"


@pytest.fixture
def trace(tmp_path):
    """Reads a file of some text."""

    def found(text: str | bytes):
        path = tmp_path / "trace.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path)

    return found


def rows(*values: object, step_min: int = 60) -> str:
    """Rows from new year on."""
    times = (f"2021-01-01T{i * step_min // 60:02d}:{i * step_min % 60:02d}Z" for i in range(len(values)))
    return HEAD + "".join(f"{t},{v}\n" for t, v in zip(times, values, strict=True))


def test_slots_that_have_begun_are_actuals_and_the_future_is_not_told(trace):
    """A trace knows tomorrow, but nobody did at the time."""
    found = trace(rows(100, 200, 300, 400))
    assert (found.name, found.slot_s) == ("recorded:trace.csv", 3600)
    slots = found.slots("GB", Window(start_s=NEW_YEAR, end_s=NEW_YEAR + 86_400), NEW_YEAR + 5000)
    assert [(s.start_s - NEW_YEAR, s.gco2e_per_kwh, s.kind) for s in slots] == [
        (0, 100, "actual"),
        (3600, 200, "actual"),
    ]
    assert (slots[0].low_gco2e_per_kwh, slots[0].high_gco2e_per_kwh) == (90, 110)


def test_the_length_of_a_slot_is_read_off_the_times(trace):
    """Half hours, with a gap and the rows out of order; of a time that comes twice the last row counts."""
    text = rows(1, 2, 3, 4, 5, step_min=30).splitlines(keepends=True)
    found = trace("".join([text[0], text[5], *text[1:3], text[4], "2021-01-01T00:00Z,9\n"]))
    assert found.slot_s == 1800
    assert found.rows == {NEW_YEAR: 9, NEW_YEAR + 1800: 2, NEW_YEAR + 5400: 4, NEW_YEAR + 7200: 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a first line with slot_start_utc and gco2_per_kwh, got nothing"),
        ("time,co2\n1,2\n", r"got \['time', 'co2'\]"),
        (HEAD, "expected at least two slots, got 0"),
        (rows(1), "expected at least two slots, got 1"),
        (rows(1, "x", 3), "got 1 other lines of 3, the first is line 3"),
        (rows(1, -5, 3), "got 1 other lines"),
        (rows(1, 99999, 3), "0 to 2000"),
        (rows(1, "nan", 3), "got 1 other lines"),
        (HEAD + "2021-01-01T00:00,5\n2021-01-01T01:00,5\n", "the first is line 2"),
        (HEAD + "2021-01-01T00:10Z,5\n2021-01-01T01:10Z,5\n", "got one of 3600 s at 2021-01-01T00:10Z"),
        (HEAD + "2021-01-01T00:00Z,5\n2021-01-01T07:00Z,5\n", "that divides a day, got one of 25200 s"),
        (b"\xff\xfe\x00", "expected CSV text in UTF-8"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(trace, text, message):
    """The message names the line and what was expected."""
    with pytest.raises(GridError, match=message):
        trace(text)


def test_a_file_that_is_not_there_is_named():
    """With the system's reason."""
    with pytest.raises(GridError, match=r"recorded:none\.csv: cannot be read: No such file"):
        read(Path("/nowhere/none.csv"))


def test_another_time_than_that_of_the_file_is_no_slot(trace):
    """The message says what the file covers."""
    with pytest.raises(GridError, match="covers 2021-01-01T00:00Z to 2021-01-01T02:00Z"):
        trace(rows(1, 2)).slots("GB", Window(start_s=NEW_YEAR + 86_400, end_s=NEW_YEAR + 90_000), 2e9)


@pytest.mark.skipif(not os.environ.get("MLFLOW_CARBON_DATA"), reason="MLFLOW_CARBON_DATA is not set")
def test_the_traces_of_the_data_folder_are_read():
    """Every trace there, with the length that its name says."""
    folder = Path(os.environ["MLFLOW_CARBON_DATA"]) / "grid"
    traces = list(folder.glob("*min.csv"))
    assert traces
    for path in traces:
        assert read(path).slot_s == 60 * int(path.stem.rpartition("_")[2].removesuffix("min"))
