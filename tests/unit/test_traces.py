"""Reading recorded traces and archives: what is accepted, and every way to be wrong."""

from __future__ import annotations

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import traces

HEAD = "slot_start_utc,gco2_per_kwh\n"
GOOD = "2021-01-01T00:00Z,100.5\n2021-01-01T01:00Z,90\n2021-01-01T02:00Z,0\n"


def test_a_trace_is_a_history() -> None:
    """Start, slot length and values are as written; a byte order mark and a missing last newline do no harm."""
    made = traces.trace("\ufeff" + HEAD + GOOD.rstrip(), name="t.csv")
    assert (made.start_s, made.step_s, made.values) == (1_609_459_200, 3600, (100.5, 90, 0))
    assert made.source == "t.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the header slot_start_utc,gco2_per_kwh, got an empty file"),
        ("time,value\n" + GOOD, "got time,value"),
        (HEAD, "at least two slots, got 0"),
        (HEAD + "2021-01-01T00:00Z,1\n", "at least two slots, got 1"),
        (HEAD + "2021-01-01T00:00Z\n", "line 2: expected 2 columns, got 1"),
        (HEAD + GOOD + "2021-01-01T03:00Z,\n", "line 5: expected 0 to 2000 gCO2e/kWh, got ''"),
        (HEAD + GOOD + "2021-01-01T03:00Z,-1\n", "line 5: expected 0 to 2000"),
        (HEAD + GOOD + "2021-01-01T03:00Z,2000.1\n", "line 5: expected 0 to 2000"),
        (HEAD + GOOD + "2021-01-01T03:00Z,nan\n", "line 5: expected 0 to 2000"),
        (HEAD + GOOD + "2021-01-01T03:00Z,many\n", "line 5: expected 0 to 2000"),
        (HEAD + GOOD + "2021-01-01T04:00Z,1\n", "line 5: .*1 slots are missing"),
        (HEAD + GOOD + "2021-01-01T02:00Z,1\n", "line 5: .*there twice"),
        (HEAD + GOOD + "2021-01-01T01:00Z,1\n", "line 5: .*not in order"),
        (HEAD + GOOD + "2021-01-01T02:30Z,1\n", "line 5: .*not 3600 s throughout"),
        (HEAD + "2021-01-01T00:00Z,1\n2021-01-01T07:00Z,1\n", "divides a day"),
        (HEAD + "2021-01-01T01:00Z,1\n2021-01-01T00:00Z,1\n", "in order"),
        (HEAD + "2021-01-01T00:10Z,1\n2021-01-01T01:10Z,1\n", "on its raster"),
        (HEAD + "2021-03-28T03:00,1\n" + GOOD, "line 2: expected a UTC time like .*local times"),
        (HEAD + "28.03.2021 03:00,1\n" + GOOD, "line 2: expected a UTC time"),
    ],
)
def test_a_wrong_trace_says_where_and_what(text, message) -> None:
    """The line, what was expected and what was got."""
    with pytest.raises(GridError, match=message):
        traces.trace(text, name="t.csv")


ARCHIVE = "issued_utc,slot_start_utc,forecast_gco2_per_kwh\n"


def test_the_row_that_was_written_last_counts() -> None:
    """An issue that is there twice is one forecast."""
    again = issue(1).replace(",100\n", ",7\n")
    assert [f.values for f in traces.archive(ARCHIVE + issue(1) + again, name="f.csv").forecasts] == [
        (7, 101, 102)
    ]


def issue(day: int) -> str:
    """Three rows of one issue."""
    return "".join(
        f"2021-01-{day:02d}T00:00Z,2021-01-{day:02d}T{h:02d}:00Z,{day * 100 + h}\n" for h in range(3)
    )


def test_an_archive_is_split_by_issue() -> None:
    """Two issues of three hours each, in any order."""
    made = traces.archive(ARCHIVE + issue(2) + issue(1), name="f.csv")
    assert [f.values for f in made.forecasts] == [(100, 101, 102), (200, 201, 202)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + GOOD, "expected the header issued_utc"),
        (ARCHIVE + issue(1) + issue(2).replace(":00Z,2", ":30Z,2"), "on its raster"),
        (ARCHIVE + issue(1).replace("T02", "T05"), "line 4: .*3 slots are missing"),
        (ARCHIVE + "yesterday" + issue(1)[17:], "line 2: expected a UTC time"),
    ],
)
def test_a_wrong_archive_says_where_and_what(text, message) -> None:
    """As for a trace."""
    with pytest.raises(GridError, match=message):
        traces.archive(text, name="f.csv")
