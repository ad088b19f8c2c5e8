"""What stands beside power: summed up by its name, told in the note, a finding where it held a device down."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon import journal
from mlflow_carbon.core.beside import FactBook, FactRow, limited
from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.report import note
from mlflow_carbon.session import final
from mlflow_carbon.session.delivery import File, Note, Tags
from mlflow_carbon.session.replay import replay
from tests.fakes import costing
from tests.spans import Span

S = 10**9


def _book(name, *readings):
    book = FactBook()
    for t_s, value in readings:
        book.add(round(t_s * S), {name: value})
    return book.rows()


def test_a_level_has_its_lowest_its_mean_over_time_and_its_highest():
    """40 to 60 degrees in 5 s, then 60 for 15 s: (50 x 5 + 60 x 15) / 20 = 57.5."""
    (row,) = _book("gpu/temperature_c", (0, 40), (5, 60), (20, 60))
    assert (row.low, row.mean, row.high) == (40, 57.5, 60)
    assert (row.source, row.what, row.readings, row.time_s) == ("gpu", "temperature_c", 3, 20.0)
    assert (row.total, row.limited_s) == (None, None)


def test_a_counter_adds_up_over_a_fresh_start():
    """100 to 400 and, begun again, 50 to 250: 300 + 200; what it counted around the fresh start is lost."""
    (row,) = _book("disk/read_bytes", (0, 100), (5, 400), (10, 50), (15, 250))
    assert row.total == 500
    assert row.mean is None


def test_what_holds_a_device_down_counts_by_time():
    """On at 5 and 10 s of 0, 5, 10, 15 s: 10 s, half of the 5 s before and after among them."""
    (row,) = _book("gpu/limited_by_heat", (0, 0), (5, 1), (10, 1), (15, 0))
    assert (row.limited_s, row.time_s) == (10.0, 15.0)


def test_one_reading_tells_a_level_and_no_increase():
    """The bytes and the limited time of a moment are not known; its temperature is."""
    assert _book("disk/read_bytes", (0, 100)) == ()
    assert _book("gpu/limited_by_heat", (0, 1)) == ()
    (row,) = _book("gpu/temperature_c", (0, 40))
    assert (row.low, row.mean, row.high, row.time_s) == (40, 40, 40, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_left_out(bad):
    """A NaN between two temperatures changes nothing."""
    assert _book("gpu/temperature_c", (0, 40), (5, bad), (10, 60)) == _book(
        "gpu/temperature_c", (0, 40), (10, 60)
    )


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_the_mean_lies_between_the_lowest_and_the_highest(steps):
    """Whatever the readings and the times between them."""
    t_s, readings = 0.0, []
    for pause_s, value in steps:
        t_s += pause_s
        readings.append((t_s, value))
    (row,) = _book("x/y_c", *readings)
    slack = 1e-9 * max(abs(row.low), abs(row.high), 1)
    assert row.low - slack <= row.mean <= row.high + slack


@pytest.mark.parametrize(
    ("limited_s", "readings", "is_found"), [(11.0, 20, True), (9.9, 20, False), (100.0, 2, False)]
)
def test_long_throttling_is_a_finding(limited_s, readings, is_found):
    """More than a tenth of the span, seen three times at least."""
    row = FactRow(name="nvml:0/limited_by_heat", readings=readings, time_s=100.0, limited_s=limited_s)
    assert bool(limited([row])) is is_found
    if is_found:
        assert limited([row]) == ("nvml:0: clocks were held down by heat for 11 s of 100 s",)


def test_the_note_has_a_line_per_device():
    """Levels with their range, totals in a unit that fits; clocks of core groups and fans are left to the file."""
    level: dict[str, Any] = {"readings": 9, "time_s": 60.0, "low": 41.0, "mean": 63.4, "high": 71.0}
    rows = [
        FactRow(name="cpu:policy0/clock_mhz", **level),
        FactRow(name="disk/read_bytes", readings=9, time_s=60.0, total=1.234e9),
        FactRow(name="disk/written_bytes", readings=9, time_s=60.0, total=900.0),
        FactRow(name="fan:hwmon2-fan1/speed_rpm", **level),
        FactRow(name="nvml:0/clock_sm_mhz", **level | {"mean": 1410.0, "high": 1980.0}),
        FactRow(name="nvml:0/limited_by_power", readings=9, time_s=60.0, limited_s=12.0),
        FactRow(name="nvml:0/temperature_c", **level),
        FactRow(name="cpu:0/throttled_count", readings=9, time_s=60.0, total=3.0),
    ]
    shown = note(RunFootprint(), beside=rows)
    assert shown.split("| Device")[1].splitlines() == [
        "&emsp; | Beside power |",
        "| --- | --- |",
        "| disk&emsp; | read 1.23 GB, written 900 B |",
        "| nvml:0&emsp; | clock sm 1410 MHz (41 to 1980), limited by power 12 s of 60 s, temperature 63.4 °C (41 to 71) |",
        "| cpu:0&emsp; | throttled 3 times |",
        "<!-- /mlflow-carbon -->",
    ]
    assert "Beside power" not in note(RunFootprint(), beside=rows[:1])


def test_a_run_stores_them_and_a_recovered_one_the_same(tmp_path):
    """File, note and finding of a throttled minute, alike live and from the journal; the verdict stays ok."""
    span = Span(tmp_path)
    for second in range(60):
        facts = {"nvml:0/temperature_c": 50.0 + second, "nvml:0/limited_by_power": float(second >= 30)}
        span.tick(1.0 if second else 0.0, facts if second % 5 == 0 else None)
    span.stop()
    contents = journal.read(span.kill())
    ending = replay(contents.records).ending(costing(), (), troubles=())
    stored = final.deliveries(ending, contents.records)
    files = {d.name: d.content for d in stored if isinstance(d, File) and isinstance(d.content, bytes)}
    limit, heat = json.loads(files["facts.json"])["facts"]
    assert heat == {
        "name": "nvml:0/temperature_c", "readings": 12, "time_s": 55.0, "low": 50.0, "mean": 77.5, "high": 105.0
    }  # fmt: skip
    assert limit["limited_s"] == 27.5  # on from the seventh of twelve readings 5 s apart
    (text,) = (d.block for d in stored if isinstance(d, Note))
    assert "> nvml:0: clocks were held down by power for 28 s of 55 s" in text
    assert "limited by power 28 s of 55 s, temperature 77.5 °C (50 to 105)" in text
    (tags,) = (d.tags for d in stored if isinstance(d, Tags))
    assert tags["carbon.verdict"] == "ok"
    assert span.session.recording is not None
    assert span.session.recording.facts() == ending.recording.facts()
