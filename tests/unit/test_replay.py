"""A span is rebuilt from its journal as it was, from any part of it, and never from a foreign one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_carbon import journal
from mlflow_carbon.core.series import Component, Kind
from mlflow_carbon.errors import JournalError
from mlflow_carbon.grid import cloud
from mlflow_carbon.grid.regions import Region
from mlflow_carbon.session.records import (
    channel_from,
    channel_record,
    costing_from,
    costing_record,
    tick_from,
    tick_record,
)
from mlflow_carbon.session.replay import replay
from tests.fakes import ConstantPower, channel, costing
from tests.spans import Span

S = 10**9


def _lived(folder):
    """Half a minute with phases, steps, units and a failed read, then a regular end."""
    wall = channel(id="fake:wall", component=Component.NODE, range_uj=10**9, power_max_w=900.0)
    sensor = ConstantPower(channels=(channel(), wall))
    span = Span(folder, sensor)
    session = span.session
    session.mark(0)
    span.tick(0)
    for second in range(30):
        session.phases.enter("forward")
        session.count("image", 4)
        span.clock.advance(0.3)
        session.phases.leave()
        session.mark(second)
        sensor.error = OSError("cable pulled") if second == 11 else None
        span.tick(0.7, {"gpu:0/temperature_c": 40.0 + second, "disk/read_bytes": 1e9 * second})
    span.clock.advance(0.25)
    span.stop()
    return span


def _everything(recording, end_ns):
    return (
        recording.close(end_ns),
        recording.phases().rows,
        recording.facts(),
        recording.errors,
        recording.ticks,
        recording.last_ns,
    )


def test_a_replayed_span_is_the_one_that_lived(tmp_path):
    """Snapshots, steps, phases, units, errors and totals are the same, to the microjoule."""
    span = _lived(tmp_path)
    state = replay(journal.read(span.kill()).records)
    snapshots, marks, _ = span.session.take()
    assert state.snapshots == snapshots
    assert len(snapshots) == 6
    assert state.marks == marks
    assert [m.step for m in marks] == [0, *range(30)]
    assert state.units == span.session.units == {"image": 120.0}
    assert state.end_ns == span.session.end_ns
    assert state.recording is not None
    assert state.recording.errors == {"fake:cpu": 1, "fake:wall": 1}
    assert _everything(state.recording, state.end_ns) == _everything(
        span.session.recording, span.session.end_ns
    )


def test_the_energy_of_a_replayed_span_by_hand(tmp_path):
    """100 W from the first reading at 0 s to the end at 30.25 s are 3025 J; the wall meter adds nothing."""
    state = replay(journal.read(_lived(tmp_path).kill()).records)
    assert state.recording is not None
    assert state.recording.series(state.end_ns).energy_uj() == 3_025_000_000


def test_a_journal_cut_between_any_two_records_replays(tmp_path):
    """Its energy is 100 W from the first to the last reading in it; without one there is none, and no error."""
    path = _lived(tmp_path).kill()
    records = list(journal.read(path).records())
    kinds = [r["kind"] for r in records]
    (failed,) = [r["t"] for r in records if r["kind"] == "tick" and r["s"][0][-1] is not None]
    assert kinds[0] == "header"
    assert set(kinds) == {"header", "channels", "tick", "step", "end"}
    for count in range(1, len(records) + 1):
        state = replay(partial(iter, records[:count]))
        ticks = [r["t"] for r in records[:count] if r["kind"] == "tick"]
        assert (state.recording is None) is ("channels" not in kinds[:count])
        if state.recording is None:
            assert state.end_ns == records[0]["start_mono_ns"]
            continue
        good = [t for t in ticks if t != failed]
        end_ns = records[-1]["end_mono_ns"] if count == len(records) else (good or [0])[-1]
        expected = (min(end_ns, good[-1]) - good[0]) // 10 if good else 0  # 100 W are 1 uJ in 10 ns
        assert state.recording.series().energy_uj() == expected


def test_what_has_been_sent_is_not_to_be_sent_again(tmp_path):
    """Snapshots and steps up to the reading that was stored are gone; those after it are kept."""
    span = Span(tmp_path)
    for second in range(12):
        span.tick()
        span.session.mark(second)
    _, _, upto_ns = span.session.take()
    span.session.journal.append("sent", t=upto_ns)
    for _ in range(5):
        span.tick()
    state = replay(journal.read(span.kill()).records)
    snapshots, marks, _ = span.session.take()
    assert state.snapshots == snapshots
    assert [s.elapsed_s for s in snapshots] == [15]
    assert state.marks == marks
    assert [m.step for m in marks] == [11]


def test_facts_of_the_publisher_are_found(tmp_path):
    """Costing, environment, offset and absences; of two costings the later one."""
    span = Span(tmp_path)
    write = span.session.journal.append
    write("environment", tags={"a": "b"}, document={"kernel": "fake"})
    write("costing", costing=costing_record(costing(100)))
    write("offset", s=17)
    span.tick()
    write("costing", costing=costing_record(costing(300)))
    write("something-new", of="a later version")
    state = replay(journal.read(span.kill()).records)
    assert state.costing == costing(300)
    assert state.offset_s == 17
    assert state.environment is not None
    assert state.environment["document"] == {"kernel": "fake"}
    assert state.end is None
    assert (state.run_id, state.absences) == ("run1", [])


def test_a_span_without_readings_has_no_figures(tmp_path):
    """Asking for them says so."""
    state = replay(journal.read(Span(tmp_path).kill()).records)
    with pytest.raises(JournalError, match="expected readings in the journal of run run1, got none"):
        state.ending(costing(), (), troubles=())


@pytest.mark.parametrize(
    ("records", "got"),
    [
        ([], "got nothing"),
        ([{"kind": "tick"}], "got tick"),
        ([{"kind": "header"}], "got header"),
        ([{"kind": "header", "schema": "2.0"}], "got header 2.0"),
        ([{"schema": "1.0"}], "got nothing 1.0"),
    ],
)
def test_a_foreign_or_newer_journal_is_refused(records, got):
    """With the schema that was expected and the one that was found."""
    message = f"expected a journal that starts with a header of schema 1.0, {got}"
    with pytest.raises(JournalError, match=f"{re.escape(message)}$"):
        replay(lambda: records)


def test_readings_of_unknown_channels_are_refused(tmp_path):
    """Where the channels record is damaged the readings mean nothing: that is an error, not an empty run."""
    span = Span(tmp_path)
    span.tick()
    records = [r for r in list(journal.read(span.kill()).records()) if r["kind"] != "channels"]
    with pytest.raises(JournalError, match="expected a channels record before the first reading of run run1"):
        replay(lambda: records)


def test_a_damaged_reading_costs_only_itself(tmp_path):
    """The counter counted on: the energy is the same without one reading in the middle."""
    span = _lived(tmp_path)
    records = list(journal.read(span.kill()).records())
    ticks = [i for i, r in enumerate(records) if r["kind"] == "tick"]
    state = replay(lambda: [r for i, r in enumerate(records) if i != ticks[9]])
    assert state.recording is not None
    assert state.recording.series(state.end_ns).energy_uj() == 3_025_000_000
    assert state.recording.ticks == len(ticks) - 1


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["tick", "mark", "enter", "leave", "count", "wait"]), st.floats(0.001, 20)),
        max_size=40,
    ),
    st.booleans(),
)
def test_any_life_replays_as_it_was(tmp_path, script, regular_end):
    """Whatever happened in which order, live and replayed figures are the same."""
    span = Span(tmp_path, ConstantPower(channels=(channel(kind=Kind.COUNTER),)))
    session = span.session
    for number, (what, seconds) in enumerate(script):
        match what:
            case "tick":
                span.tick(seconds)
            case "mark":
                session.mark(number)
            case "enter":
                session.phases.enter("ab"[number % 2])
            case "leave":
                session.phases.leave()
            case "count":
                session.count("image", number)
            case "wait":
                span.clock.advance(seconds)
    if regular_end:
        span.stop()
    snapshots, marks, _ = session.take()
    path = span.kill()
    state = replay(journal.read(path).records)
    path.unlink()
    assert (state.snapshots, state.marks) == (snapshots, marks)
    assert (state.recording is None) == (session.recording is None)
    if state.recording is not None and session.recording is not None:
        assert state.recording.series(state.end_ns) == session.recording.series(state.end_ns)
        if regular_end:
            assert _everything(state.recording, state.end_ns) == _everything(session.recording, state.end_ns)
            assert dict(state.units) == session.units


def test_values_survive_the_way_through_records(tmp_path):
    """Channel, tick and costing, as they stand in the journal."""
    for changed in ({}, {"component": Component.GPU, "kind": Kind.MEAN, "range_uj": 5, "power_max_w": 7.5}):
        assert channel_from(channel_record(channel(**changed))) == channel(**changed)
    assert costing_from(costing_record(costing(123.4))) == costing(123.4)
    at = Region(provider="gcp", name="europe-west9", origin="metadata", is_proven=True)
    in_cloud = replace(costing(), site=cloud.site(at))
    assert costing_from(json.loads(json.dumps(costing_record(in_cloud)))) == in_cloud
    older = {key: value for key, value in costing_record(costing()).items() if key != "site"}
    assert costing_from(older) == costing()
    span = Span(tmp_path)
    span.tick()
    (record,) = [r for r in list(journal.read(span.kill()).records()) if r["kind"] == "tick"]
    tick = tick_from(record)
    assert tick_record(tick) == {key: record[key] for key in ("q", "t", "w", "s")}
    assert tick.samples == ConstantPower().read(span.clock)
