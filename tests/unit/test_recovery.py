"""What a dead process has left is stored, once, whole, and with a word about what happened."""

from __future__ import annotations

import gzip
import json
import shutil
import tracemalloc

import pytest

from mlflow_carbon import journal
from mlflow_carbon.errors import RefusedError, StoreError
from mlflow_carbon.journal.record import encode
from mlflow_carbon.session.live import RunSpec
from mlflow_carbon.session.records import costing_record
from mlflow_carbon.session.recovery import recover
from tests.fakes import MemorySink, VirtualClock, costing
from tests.spans import Span

KWH_J = 3_600_000


def _recover(path, sink, *, end_run=True, calls=None):
    def open_sink(run_id, uri):
        if calls is not None:
            calls.append((run_id, uri))
        return sink

    return recover(path, sink=open_sink, costing=lambda _start_s, _end_s: costing(200), end_run=end_run)


def _killed(folder, seconds=12, **options):
    """A run of 100 W that was killed after this many readings, as its span and its journal."""
    span = Span(folder, **options)
    for _ in range(seconds + 1):
        span.tick()
    return span, span.kill()


def _energy_j(sink):
    return sink.last()["carbon/energy_kwh"] * KWH_J


def test_a_killed_run_is_stored_up_to_its_last_reading(tmp_path):
    """12 s between first and last reading at 100 W: 1200 J, 1/3 Wh x 200 g/kWh = 66.7 mg; run KILLED; journal gone."""
    calls: list[tuple[str, str]] = []
    sink = MemorySink()
    _, path = _killed(tmp_path)
    found = _recover(path, sink, calls=calls)
    assert (found.outcome, found.run_id, found.path) == ("stored", "run1", path)
    assert found.detail == "0.000333 kWh in 13.0 s (measured)"
    assert calls == [("run1", "fake://store")]
    assert _energy_j(sink) == pytest.approx(1200)
    assert sink.last()["carbon/emissions_gco2e"] == pytest.approx(1200 / KWH_J * 200)
    assert sink.status == "KILLED"
    assert sink.tags["carbon.verdict"] == "warn"
    assert sink.tags["carbon.error"].startswith("the process was killed; recovered from its journal")
    assert sink.tags["carbon.grid.zone"] == "XX"
    assert set(sink.files) == {"footprint.json", "samples.jsonl.gz", "intensity.json"}
    assert "the process was killed" in sink.notes[0]
    assert not path.exists()
    assert [p.step for p in sink.points if p.key == "carbon/time/energy_kwh"] == [5, 10, 13]


def test_a_run_that_ended_but_was_not_stored_keeps_its_status(tmp_path):
    """The store was down at the end: status and verdict are the run's own, and nothing was killed."""
    span = Span(tmp_path)
    for _ in range(4):
        span.tick()
    span.stop("FAILED")
    sink = MemorySink()
    assert _recover(span.kill(), sink).outcome == "stored"
    assert sink.status == "FAILED"
    assert "carbon.error" not in sink.tags


def test_the_run_is_not_ended_before_it_is_resumed(tmp_path):
    """Who resumes it will end it."""
    sink = MemorySink()
    assert _recover(_killed(tmp_path)[1], sink, end_run=False).outcome == "stored"
    assert sink.status is None


def test_every_cut_of_a_journal_recovers(tmp_path):
    """Killed between any two records: figures of the prefix, or the word that there were none."""
    span, path = _killed(tmp_path / "whole", seconds=7)
    lines = path.read_bytes().splitlines(keepends=True)
    assert span.session.recording is not None
    for count in range(1, len(lines) + 1):
        cut = tmp_path / f"cut{count}.jsonl"
        cut.write_bytes(b"".join(lines[:count]))
        sink = MemorySink()
        found = _recover(cut, sink)
        assert not cut.exists()
        if count == 1:
            assert (found.outcome, found.detail, sink.points) == ("empty", "no readings to store", [])
        else:
            assert found.outcome == "stored"
            if count <= 3:  # header, channels, first reading
                assert "carbon/energy_kwh" not in sink.last()
            else:
                assert _energy_j(sink) == pytest.approx(100 * (count - 3))


def test_recovering_twice_changes_nothing(tmp_path):
    """The same journal again, as from a backup: same documents, tags, figures and points."""
    _, path = _killed(tmp_path)
    again = tmp_path / "again"
    shutil.copy(path, again)
    sink = MemorySink()
    assert _recover(path, sink).outcome == "stored"
    files, tags, last, points = dict(sink.files), dict(sink.tags), sink.last(), set(sink.points)
    assert _recover(again, sink).outcome == "stored"
    assert (sink.files, sink.tags, sink.last(), set(sink.points)) == (files, tags, last, points)


def test_a_journal_that_is_gone_is_no_disaster(tmp_path):
    """Somebody else has recovered it."""
    _, path = _killed(tmp_path)
    assert _recover(path, MemorySink()).outcome == "stored"
    found = _recover(path, MemorySink())
    assert found.outcome == "failed"
    assert "No such file" in found.detail


def test_a_store_that_is_down_keeps_the_journal(tmp_path):
    """Nothing is lost; the next try stores it."""
    sink = MemorySink()
    sink.down = True
    _, path = _killed(tmp_path)
    found = _recover(path, sink)
    assert (found.outcome, found.run_id, found.detail) == ("failed", "run1", "the fake store is down")
    assert path.exists()
    sink.down = False
    assert _recover(path, sink).outcome == "stored"


class Dying(MemorySink):
    """A store that goes away after so many calls."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def _ask(self):
        self.calls -= 1
        if self.calls < 0:
            raise StoreError("the fake store has died")


def test_a_store_that_dies_in_between_loses_nothing(tmp_path):
    """Wherever it dies, the journal stays, and storing again gives what one go would have given."""
    _, path = _killed(tmp_path)
    kept = path.read_bytes()
    whole = MemorySink()
    _recover(path, whole)
    for calls in range(20):
        path.write_bytes(kept)
        sink = Dying(calls)
        first = _recover(path, sink)
        if first.outcome == "stored":
            break
        assert path.read_bytes() == kept
        sink.calls = 1000
        assert _recover(path, sink).outcome == "stored"
        assert (sink.files, sink.last(), sink.status) == (whole.files, whole.last(), whole.status)
    else:
        raise AssertionError("it never got through")


class Picky(MemorySink):
    """A store that will not take points of some keys."""

    def __init__(self, refused):
        super().__init__()
        self.refused = refused

    def write_points(self, points):
        points = tuple(points)
        if any(p.key.startswith(self.refused) for p in points):
            raise RefusedError("INVALID_PARAMETER_VALUE")
        super().write_points(points)


def test_points_that_the_store_refuses_do_not_keep_a_run_from_being_recovered(tmp_path):
    """A step it will not take leaves a hole in the charts; figures and readings are stored, and the verdict says so."""
    span = Span(tmp_path)
    for second in range(13):
        span.session.mark(second)
        span.tick()
    sink = Picky("carbon/step/")
    assert _recover(span.kill(), sink).outcome == "stored"
    assert _energy_j(sink) == pytest.approx(1200)
    assert sink.tags["carbon.error"].endswith("; refused by the store: INVALID_PARAMETER_VALUE")


def test_figures_that_the_store_refuses_keep_the_journal(tmp_path):
    """The rest is stored all the same, and the run is ended."""
    _, path = _killed(tmp_path)
    sink = Picky("carbon/energy_kwh")
    found = _recover(path, sink)
    assert (found.outcome, found.detail) == ("failed", "refused by the store: INVALID_PARAMETER_VALUE")
    assert path.exists()
    assert "footprint.json" in sink.files
    assert sink.status == "KILLED"


@pytest.mark.parametrize(
    ("line", "outcome"), [(5, "stored"), (0, "failed"), (1, "failed")], ids=["reading", "header", "channels"]
)
def test_damage_is_told_and_never_taken_for_an_empty_run(tmp_path, line, outcome):
    """A reading costs itself; without header or channels nothing can be said, and the journal is kept."""
    _, path = _killed(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"', b"'", 1)
    path.write_bytes(b"".join(lines))
    sink = MemorySink()
    found = _recover(path, sink)
    assert found.outcome == outcome
    assert path.exists() is (outcome == "failed")
    if outcome == "stored":
        assert "1 damaged journal record(s), first in line 6" in sink.tags["carbon.error"]
        assert _energy_j(sink) == pytest.approx(1200)
    else:
        assert found.detail.startswith("expected a ")
        assert sink.points == []


def test_damage_in_a_finished_run_is_told_too(tmp_path):
    """It was not killed, but a record is broken."""
    span = Span(tmp_path)
    for _ in range(4):
        span.tick()
    span.stop()
    path = span.kill()
    path.write_bytes(path.read_bytes().replace(b'"q":2', b'"q":3'))
    sink = MemorySink()
    _recover(path, sink)
    assert sink.tags["carbon.error"] == "1 damaged journal record(s), first in line 5"
    assert sink.tags["carbon.verdict"] == "warn"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": "2.0"}, "expected a journal that starts with a header of schema 1.0, got header 2.0"),
        ({"kind": "diary"}, "expected a journal that starts with a header of schema 1.0, got diary 1.0"),
        ({"start_mono_ns": "soon"}, "a record cannot be read: TypeError"),
    ],
)
def test_a_foreign_or_newer_journal_is_refused_and_kept(tmp_path, change, complaint):
    """With a message, and without touching the store."""
    _, path = _killed(tmp_path)
    records = list(journal.read(path).records())
    path.write_bytes(b"".join(map(encode, [records[0] | change, *records[1:]])))
    sink = MemorySink()
    found = _recover(path, sink)
    assert found.outcome == "failed"
    assert found.detail.startswith(complaint)
    assert path.exists()
    assert (sink.points, sink.tags) == ([], {})


def test_a_file_that_is_no_journal_is_kept(tmp_path):
    """Whatever somebody names on the command line by mistake."""
    path = tmp_path / "thesis.txt"
    path.write_text("three years of work")
    found = _recover(path, MemorySink())
    assert (found.outcome, path.read_text()) == ("failed", "three years of work")


def test_a_journal_in_which_nothing_was_ever_written_is_removed(tmp_path):
    """Killed, or out of disk, before the first record."""
    path = tmp_path / "run1.here.1.jsonl"
    path.touch()
    found = _recover(path, MemorySink())
    assert (found.outcome, found.detail, path.exists()) == ("empty", "nothing was written", False)


def test_a_block_that_was_stored_nowhere_leaves_nothing_to_store(tmp_path):
    """`track()` without a run: its figures died with its process."""
    calls: list[tuple[str, str]] = []
    _, path = _killed(tmp_path, spec=RunSpec(run_id="block-1", stored=False))
    found = _recover(path, MemorySink(), calls=calls)
    assert (found.outcome, calls, path.exists()) == ("empty", [], False)


def test_what_was_sent_is_not_sent_again_and_the_recorded_costing_stands(tmp_path):
    """Points up to 6 s were stored; the grid figure of the run is 400, not the 200 of today."""
    span = Span(tmp_path)
    span.session.journal.append("costing", costing=costing_record(costing(400)))
    for _ in range(7):
        span.tick()
    span.session.journal.append("sent", t=span.clock.monotonic_ns())
    for _ in range(6):
        span.tick()
    sink = MemorySink()
    _recover(span.kill(), sink)
    assert [p.step for p in sink.points if p.key == "carbon/time/energy_kwh"] == [10, 13]
    assert sink.last()["carbon/emissions_gco2e"] == pytest.approx(1200 / KWH_J * 400)


def test_the_last_logged_summary_of_the_killed_run_is_not_counted_twice(tmp_path):
    """Before it died it had logged 10 s of itself: recovered, it is 12 s, not 22."""
    span, path = _killed(tmp_path)
    sink = MemorySink()
    span.publisher(sink).flush()
    assert 0 < _energy_j(sink) <= 1200
    assert "footprint.json" not in sink.files
    _recover(path, sink)
    assert _energy_j(sink) == pytest.approx(1200)


def _segments(sink):
    return [
        (s.get("samples", ""), s["energy_kwh"] * KWH_J)
        for s in json.loads(sink.files["footprint.json"])["segments"]
    ]


def _first_channel_time(sink, name):
    return json.loads(gzip.decompress(sink.files[name]).splitlines()[1])["t_mono_ns"]


def test_a_segment_recovered_late_takes_its_place_before_the_one_that_followed(tmp_path):
    """Killed after 12 s, resumed elsewhere for 4 s, then recovered: 1600 J, two sets of readings, first things first."""
    clock = VirtualClock()
    first, path = _killed(tmp_path / "a", clock=clock)
    clock.advance(100)
    second = Span(tmp_path / "b", clock=clock, spec=RunSpec(run_id="run1", resumed=True))
    for _ in range(5):
        second.tick()
    second.session.stop("FINISHED")
    second.tick(0)
    sink = MemorySink()
    second.publisher(sink).finish()
    assert _segments(sink) == [("samples.jsonl.gz", pytest.approx(400))]

    for _ in range(2):  # and once more, as from a backup
        shutil.copy(path, tmp_path / "copy.jsonl")
        assert _recover(tmp_path / "copy.jsonl", sink).outcome == "stored"
        assert _segments(sink) == [
            ("samples.s2.jsonl.gz", pytest.approx(1200)),
            ("samples.jsonl.gz", pytest.approx(400)),
        ]
        starts = [_first_channel_time(sink, n) for n in ("samples.s2.jsonl.gz", "samples.jsonl.gz")]
        assert starts[0] - first.session.start_ns == starts[1] - second.session.start_ns == 10**9
        assert json.loads(sink.files["footprint.json"])["total"]["energy_kwh"] * KWH_J == pytest.approx(1600)
        # What MLflow shows is the value of the latest time: the recovered total must not be the older one.
        shown = max((p for p in sink.points if p.key == "carbon/energy_kwh"), key=lambda p: p.t_ms)
        assert shown.value * KWH_J == pytest.approx(1600)
        own = [p.value * KWH_J for p in sink.points if p.key == "carbon/time/energy_kwh"]
        assert max(own[1:]) == pytest.approx(1200)  # the chart of the first segment does not hold the second


def test_a_damaged_document_does_not_make_a_run_unrecoverable(tmp_path):
    """Somebody has overwritten footprint.json: it counts as lost."""
    _, path = _killed(tmp_path)
    sink = MemorySink()
    sink.files["footprint.json"] = b"{"
    assert _recover(path, sink).outcome == "stored"
    assert _segments(sink) == [("samples.jsonl.gz", pytest.approx(1200))]


def _killed_elsewhere(clock, sink, folder):
    """A first segment of 1200 J whose journal is on another machine; what it logged is all that is known."""
    first = Span(folder, clock=clock)
    publisher = first.publisher(sink)
    for _ in range(13):
        first.tick()
    publisher.flush()
    clock.advance(100)
    return first.kill()


def _resumed(clock, sink, folder, *, readings=8):
    """A second segment of 700 J, and a publisher that has stored what it could."""
    second = Span(folder, clock=clock, spec=RunSpec(run_id="run1", resumed=True))
    publisher = second.publisher(sink)
    for _ in range(readings):
        second.tick()
    return second, publisher


def test_a_killed_run_keeps_the_segment_before_it_whose_journal_is_elsewhere(tmp_path):
    """1200 J that were only logged, and 700 J of a resumed run that was killed too: 1900 J, whatever the order."""
    clock, sink = VirtualClock(), MemorySink()
    first = _killed_elsewhere(clock, sink, tmp_path / "a")
    second, publisher = _resumed(clock, sink, tmp_path / "b")
    publisher.flush()
    assert _energy_j(sink) == pytest.approx(1900)
    path = second.kill()
    for number in range(2):
        shutil.copy(path, tmp_path / f"copy{number}.jsonl")
        assert _recover(tmp_path / f"copy{number}.jsonl", sink).outcome == "stored"
        assert _energy_j(sink) == pytest.approx(1900)
    assert max(p.step for p in sink.points if p.key == "carbon/time/energy_kwh") == 10 + 1 + 8

    assert _recover(first, sink).outcome == "stored"  # once the other machine is there again
    assert _segments(sink) == [
        ("samples.s2.jsonl.gz", pytest.approx(1200)),
        ("samples.jsonl.gz", pytest.approx(700)),
    ]
    assert _recover(path, sink).outcome == "stored"
    assert sorted(_segments(sink)) == [
        ("samples.jsonl.gz", pytest.approx(700)),
        ("samples.s2.jsonl.gz", pytest.approx(1200)),
    ]


def test_the_first_journal_may_come_back_before_the_second_is_recovered(tmp_path):
    """Its own figures stand in place of what was logged of it: 1900 J, not 3100 J."""
    clock, sink = VirtualClock(), MemorySink()
    first = _killed_elsewhere(clock, sink, tmp_path / "a")
    second, publisher = _resumed(clock, sink, tmp_path / "b")
    publisher.flush()
    assert _recover(first, sink).outcome == "stored"
    assert _recover(second.kill(), sink).outcome == "stored"
    assert [j for _, j in _segments(sink)] == [pytest.approx(1200), pytest.approx(700)]


def test_killed_before_it_had_read_the_past_it_keeps_it_too(tmp_path):
    """It has logged nothing of itself, so what is logged is the segment before; wherever the store dies meanwhile."""
    for calls in range(30):
        clock, sink = VirtualClock(), Dying(1000)
        _killed_elsewhere(clock, sink, tmp_path / f"a{calls}")
        path = _resumed(clock, sink, tmp_path / f"b{calls}")[0].kill()
        path.write_bytes(path.read_bytes() + b'cafe {"half')
        sink.calls = calls
        first = _recover(path, sink)
        sink.calls = 1000
        if first.outcome == "failed":
            assert _recover(path, sink).outcome == "stored"
        assert _energy_j(sink) == pytest.approx(1900)
        assert [p.step for p in sink.points if p.key == "carbon/time/energy_kwh"][-1] == 10 + 1 + 8
        assert "damaged" not in sink.tags["carbon.error"]
        if first.outcome == "stored":
            break
    else:
        raise AssertionError("it never got through")


def test_a_third_segment_that_is_killed_keeps_the_first_two(tmp_path):
    """1200 J logged, 700 J finished, 300 J killed: 2200 J."""
    clock, sink = VirtualClock(), MemorySink()
    _killed_elsewhere(clock, sink, tmp_path / "a")
    second, publisher = _resumed(clock, sink, tmp_path / "b")
    second.session.stop("FINISHED")
    second.tick(0)
    publisher.finish()
    clock.advance(100)
    third, publisher = _resumed(clock, sink, tmp_path / "c", readings=4)
    publisher.flush()
    assert _recover(third.kill(), sink).outcome == "stored"
    assert [j for _, j in _segments(sink)] == pytest.approx([1200, 700, 300])


class Counter(MemorySink):
    """A store that counts what it gets and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.most = self.bytes = 0

    def write_points(self, points):
        count = len(tuple(points))
        self.count, self.most = self.count + count, max(self.most, count)

    def write_file(self, name, content):
        self.bytes += sum(map(len, (content,) if isinstance(content, bytes) else content))


def _peak(folder, seconds):
    """Bytes of a journal with a step a second, the most memory that its recovery takes, and its store."""
    span = Span(folder)
    for second in range(seconds):
        span.tick()
        span.session.mark(second)
    path, sink = span.kill(), Counter()
    size = path.stat().st_size
    del span
    tracemalloc.start()
    try:
        assert _recover(path, sink).outcome == "stored"
        return size, tracemalloc.get_traced_memory()[1], sink
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_recovery_does_not_grow_with_the_run(tmp_path):
    """A thousand readings and steps more took 6 MB when all were held; now it is a portion of them.

    Points go out by the portion, all of them, and the readings are packed on their way.
    """
    _peak(tmp_path / "warm", 50)  # imports
    _, less, _ = _peak(tmp_path / "small", 500)
    size, more, sink = _peak(tmp_path / "large", 1500)
    assert size > 300_000
    assert more - less < 1_000_000
    assert sink.count > 2 * 1499
    assert sink.most <= 1600
    assert sink.bytes > 10_000
