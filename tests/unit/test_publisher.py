"""Storing in the background: in order, again after a failure, and never a figure that lacks its past."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace

import pytest

from mlflow_carbon import journal
from mlflow_carbon.errors import RefusedError, StoreError
from mlflow_carbon.grid import cloud
from mlflow_carbon.grid.regions import Region
from mlflow_carbon.journal import Journal
from mlflow_carbon.session.delivery import Tags
from mlflow_carbon.session.live import RunSpec
from mlflow_carbon.session.outbox import Outbox, SentUpTo
from mlflow_carbon.session.publish import PROVISIONAL, Segment, parse_segments
from mlflow_carbon.session.sharing import is_shared
from tests.fakes import MemorySink, costing, intensity, static
from tests.spans import Jobs, Span

KWH_J = 3_600_000
RESUMED = RunSpec(run_id="run1", tracking_uri="fake://store", resumed=True)


def _ticks(span, count):
    for _ in range(count):
        span.tick()


def _end(span):
    span.session.stop("FINISHED")
    span.tick(0)


def _kinds(span):
    return [r["kind"] for r in span.session.journal.records()]


def _first_segment(sink, folder):
    """A run with one finished segment of 400 J in 5 s; the clock a while later."""
    span = Span(folder)
    _ticks(span, 5)
    _end(span)
    span.publisher(sink).finish()
    span.clock.advance(1000)
    return span.clock


def test_a_run_is_stored_from_beginning_to_end(tmp_path):
    """Tags and environment first, points as they come, the rest at the end; then the journal is gone."""
    span, sink, jobs = Span(tmp_path), MemorySink(), Jobs()
    publisher = span.publisher(sink, jobs)
    publisher.begin()
    assert publisher.costing is not None
    assert sink.tags["carbon.kind"] == "run"
    assert set(sink.files) == {"environment.json"}
    _ticks(span, 12)
    assert jobs.run() == 5.0
    assert sink.last()["carbon/time/energy_kwh"] * KWH_J == pytest.approx(900)  # at 10 s, read since 1 s
    assert _kinds(span)[-1] == "sent"
    assert sink.tags["carbon.basis"] == "measured"
    _end(span)
    publisher.finish()
    assert sink.last()["carbon/energy_kwh"] * KWH_J == pytest.approx(1100)
    assert span.session.finished.is_set()
    assert list(tmp_path.iterdir()) == []
    jobs.run()  # the flush that was still waiting finds nothing to do
    assert jobs.waiting == []


def test_what_a_cloud_publishes_is_stored_beside_the_figures(tmp_path):
    """The region with its PUE and share of carbon-free energy, their sources and years, and no other tag than before."""
    site = cloud.site(Region(provider="gcp", name="europe-west1", origin="metadata", is_proven=True))
    told = replace(costing(), pue_ratio=1.08, pue_source=site.pue_label, site=site)
    span, sink = Span(tmp_path), MemorySink()
    publisher = span.publisher(sink, costing=lambda _settings, _start_s, _end_s: told)
    publisher.begin()
    _ticks(span, 3)
    _end(span)
    publisher.finish()
    document = json.loads(sink.files["footprint.json"])
    assert document["cloud"] == asdict(site)
    assert document["total"]["pue_ratio"] == 1.08
    assert sink.tags["carbon.pue.source"] == "gcp 2025, europe-west1"
    assert not [tag for tag in sink.tags if "cloud" in tag or "cfe" in tag]
    energy, grams = document["total"]["energy_kwh"], document["total"]["emissions_gco2e"]
    assert grams == pytest.approx(energy * 1.08 * 200)  # nothing of the carbon-free share in it


def test_figures_in_mid_run_never_ask_a_metadata_service(tmp_path):
    """`snapshot` may come before the first costing, in the user's thread, which waits for nobody."""
    asked = []

    def record(settings, _start_s, _end_s):
        asked.append((settings.grid, settings.cloud_metadata))
        return costing()

    span = Span(tmp_path)
    span.session.settings = replace(span.session.settings, cloud_metadata=True)
    publisher = span.publisher(MemorySink(), costing=record)
    _ticks(span, 2)
    publisher.ending()
    publisher.begin()
    assert asked[:2] == [("annual", False), ("annual", True)]


def test_a_block_without_a_store_has_figures_and_leaves_nothing(tmp_path):
    """`track()` without MLflow."""
    span = Span(tmp_path, spec=RunSpec(run_id="block-1", stored=False))
    publisher = span.publisher(None)
    with pytest.raises(RuntimeError, match="expected a session with a first reading"):
        publisher.ending()
    publisher.begin()
    _ticks(span, 3)
    _end(span)
    publisher.finish()
    assert publisher.ending().recording.series().energy_uj() == 200_000_000
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ended_before_its_first_reading_says_so(tmp_path):
    """No figures, not zeros."""
    span, sink = Span(tmp_path), MemorySink()
    span.session.stop("FINISHED")
    span.session.measured.set()  # the wait for a last reading is over
    span.publisher(sink).finish()
    assert sink.points == []
    assert sink.tags == {
        "carbon.error": "the run ended before the first reading",
        "carbon.verdict": "warn",
    }


def test_a_store_that_is_down_gets_everything_later_in_order(tmp_path):
    """Each try waits longer; what was measured meanwhile is not noted as sent before it is."""
    span, sink, jobs = Span(tmp_path), MemorySink(), Jobs()
    sink.down = True
    publisher = span.publisher(sink, jobs)
    publisher.begin()
    pauses = []
    for _ in range(5):
        _ticks(span, 6)
        pauses.append(jobs.run())
    assert pauses == [5.0, 15.0, 30.0, 60.0, 60.0]
    assert "sent" not in _kinds(span)
    sink.down = False
    jobs.run()
    assert _kinds(span).count("sent") == 5
    times = [p.step for p in sink.points if p.key == "carbon/time/energy_kwh"]
    assert times == [5, 10, 15, 20, 25, 30]
    assert jobs.run() == 30.0  # as long as the run has lasted


def test_summaries_do_not_pile_up_while_the_store_is_down(tmp_path):
    """Only the latest summary matters: a store that is down for an hour gets each point, but not each summary."""
    span, sink = Span(tmp_path), MemorySink()
    publisher = span.publisher(sink)
    publisher.begin()
    sink.down = True
    for _ in range(60):
        for _ in range(60):
            span.tick()
        publisher.flush()
    sink.down = False
    publisher.flush()
    publisher.flush()
    assert len([p for p in sink.points if p.key == "carbon/energy_kwh"]) <= 3
    assert max(p.step for p in sink.points if p.key == "carbon/time/energy_kwh") == 3600
    span.kill()


def test_a_store_that_is_down_at_the_end_leaves_the_journal(tmp_path, caplog):
    """With one warning that names it and says what to do."""
    span, sink = Span(tmp_path), MemorySink()
    sink.down = True
    _ticks(span, 3)
    _end(span)
    with caplog.at_level(logging.WARNING):
        span.publisher(sink).finish()
    (path,) = tmp_path.iterdir()
    assert str(path) in caplog.text
    assert "run `mlflow-carbon recover`" in caplog.text
    assert not journal.is_live(path)
    assert span.session.finished.is_set()


class Picky(MemorySink):
    """A store that will not take points of training steps."""

    def write_points(self, points):
        points = tuple(points)
        if any(p.key.startswith("carbon/step/") for p in points):
            raise RefusedError("INVALID_PARAMETER_VALUE: no steps here")
        super().write_points(points)


def test_what_the_store_refuses_costs_no_total(tmp_path):
    """The final figures are stored with a verdict that says so; what was refused stays in the journal."""
    sink, span = Picky(), Span(tmp_path)
    publisher = span.publisher(sink)
    _ticks(span, 6)
    span.session.mark(7)
    _ticks(span, 3)
    publisher.flush()
    _ticks(span, 5)
    _end(span)
    publisher.finish()
    assert sink.last()["carbon/energy_kwh"] * KWH_J == pytest.approx(1300)
    assert sink.tags["carbon.error"] == "refused by the store: INVALID_PARAMETER_VALUE: no steps here"
    assert sink.tags["carbon.verdict"] == "warn"
    assert len(sink.notes) == 1
    assert not span.session.stored
    assert len(list(tmp_path.iterdir())) == 1


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    """400 J before and 200 J now; the time axis continues after second 5."""
    sink = MemorySink()
    span = Span(tmp_path, spec=RESUMED, clock=_first_segment(sink, tmp_path))
    publisher = span.publisher(sink)
    _ticks(span, 3)
    _end(span)
    publisher.finish()
    assert sink.last()["carbon/energy_kwh"] * KWH_J == pytest.approx(600)
    assert [p.step for p in sink.points if p.key == "carbon/time/energy_kwh"] == [5, 5, 9]


def test_a_resumed_run_sends_no_figure_before_it_knows_its_past(tmp_path):
    """Down at first: what is measured waits, and then has the earlier 400 J and the continued time axis."""
    sink, jobs = MemorySink(), Jobs()
    clock = _first_segment(sink, tmp_path)
    known = len(sink.points)
    sink.down = True
    span = Span(tmp_path, spec=RESUMED, clock=clock)
    publisher = span.publisher(sink, jobs)
    publisher.begin()
    _ticks(span, 6)
    jobs.run()
    sink.down = False
    jobs.run()
    fresh = [(p.step, p.value * KWH_J) for p in sink.points[known:] if p.key == "carbon/time/energy_kwh"]
    assert [step for step, _ in fresh] == [11]
    assert fresh[0][1] == pytest.approx(800)  # at 5 s, read since 1 s
    _end(span)
    publisher.finish()
    assert sink.last()["carbon/energy_kwh"] * KWH_J == pytest.approx(900)
    assert sink.tags["carbon.error"] == "earlier figures of the resumed run could not be read at first"


class Forgetful(MemorySink):
    """A store that can be written but not read."""

    def read_file(self, name):
        raise StoreError("artifacts cannot be read")


def test_a_resumed_run_never_overwrites_a_past_it_could_not_read(tmp_path):
    """Its journal is left to `recover`; the document of the earlier segments stays as it was."""
    sink = Forgetful()
    clock = _first_segment(sink, tmp_path)
    kept = dict(sink.files), list(sink.points)
    span = Span(tmp_path, spec=RESUMED, clock=clock)
    _ticks(span, 3)
    _end(span)
    span.publisher(sink).finish()
    assert (sink.files, sink.points) == kept
    assert len(list(tmp_path.iterdir())) == 1


def test_a_piece_that_fails_does_not_end_the_storing(tmp_path):
    """Grid, environment or recovery raise, against their promise: a minute later it is tried again."""

    def fail(*_):
        raise OSError("nobody expected this")

    answers = [fail, fail, lambda *_: costing()]

    def ask(*arguments):
        return answers.pop(0)(*arguments)

    span, sink, jobs = Span(tmp_path), MemorySink(), Jobs()
    publisher = span.publisher(sink, jobs, costing=ask)
    with pytest.raises(OSError, match="nobody expected this"):
        publisher.begin()
    _ticks(span, 6)
    assert jobs.run() == 60.0
    assert [p.step for p in sink.points if p.key == "carbon/time/energy_kwh"] == [5]
    assert len(jobs.waiting) == 1


def test_a_run_whose_costing_never_came_is_left_to_recover(tmp_path):
    """The grid fails against its promise to the end: the readings are kept, not thrown away as an empty run."""

    def fail(*_):
        raise OSError("nobody expected this")

    span, sink = Span(tmp_path), MemorySink()
    _ticks(span, 3)
    _end(span)
    publisher = span.publisher(sink, costing=fail)
    with pytest.raises(OSError, match="nobody expected this"):
        publisher.finish()
    assert span.session.finished.is_set()
    assert sink.points == []
    (path,) = tmp_path.iterdir()
    assert journal.orphans(tmp_path) == [path]


def _live(*values):
    """A costing with one slot per value from the start of time on, of five minutes each."""
    slots = [
        replace(static(value), start_s=300 * i, end_s=300 * (i + 1), kind="actual")
        for i, value in enumerate(values)
    ]
    return replace(costing(), intensity=intensity(200, slots))


def test_the_network_is_asked_last_and_again_every_half_hour(tmp_path):
    """Offline figures first; then the live ones, for as long as the run lasts."""
    asked = []

    def ask(settings, start_s, end_s):
        asked.append((settings.grid, end_s - start_s))
        return costing() if settings.grid == "annual" else _live(100)

    span, sink, jobs = Span(tmp_path, grid="gb"), MemorySink(), Jobs()
    publisher = span.publisher(sink, jobs, costing=ask)
    publisher.begin()
    assert asked == [("annual", 1800)]
    _ticks(span, 3)
    assert [jobs.run(), jobs.run()] == [5.0, 0.0]
    assert asked[1:] == [("gb", 1803)]
    assert [delay_s for _, delay_s in jobs.waiting] == [5.0, 1800]
    assert [r["costing"]["intensity"]["slots"] != [] for r in span.session.journal.records() if r["kind"] == "costing"] == [False, True]  # fmt: skip
    _end(span)
    publisher.finish()
    jobs.run()
    jobs.run()
    assert jobs.waiting == []
    assert len(asked) == 2


def test_figures_so_far_are_costed_by_the_bill_that_knows_the_run(tmp_path):
    """Not from the first reading on, each time somebody asks; and never by that of an older price."""
    span = Span(tmp_path)
    publisher = span.publisher(MemorySink())
    _ticks(span, 3)
    assert publisher.ending().bill is None
    publisher.flush()
    ending = publisher.ending()
    assert ending.bill is not None
    publisher.costing = costing(400)
    assert publisher.ending().bill is None
    assert publisher.ending().costing == costing(400)


def test_a_service_that_falls_silent_takes_back_nothing(tmp_path):
    """The slots of the last answer stay; the annual figure stands in only after them."""
    answers = [costing(), _live(100, 120), costing(), _live(100, 120, 140)]
    span, jobs = Span(tmp_path, grid="gb"), Jobs()
    publisher = span.publisher(MemorySink(), jobs, costing=lambda *_: answers.pop(0))
    publisher.begin()
    seen = []
    for _ in range(3):
        publisher._go_live()
        assert publisher.costing is not None
        seen.append(len(publisher.costing.intensity.slots))
    assert seen == [2, 2, 3]


def test_what_is_wrong_with_the_journal_is_told(tmp_path):
    """A home that is no folder: measured all the same, with a warning in the tags."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    span, sink = Span(blocked), MemorySink()
    publisher = span.publisher(sink)
    _ticks(span, 3)
    publisher.flush()
    _end(span)
    publisher.finish()
    assert sink.tags["carbon.error"].startswith("the journal cannot be written: ")


def test_the_outbox_notes_what_is_stored_after_it_is_stored(tmp_path):
    """The mark follows its points, and nothing overtakes what the sink refused."""
    sink, writer = MemorySink(), Journal(tmp_path, "run1", host="here")
    outbox = Outbox(sink, writer)
    sink.down = True
    outbox.add(Tags({"a": "1"}), SentUpTo(5))
    outbox.add(Tags({"a": "2"}))
    assert not outbox.send()
    assert not outbox.send()
    assert (list(writer.records()), outbox.pause_s(0)) == ([], 15.0)
    sink.down = False
    assert outbox.send()
    assert sink.tags == {"a": "2"}
    assert [(r["kind"], r["t"]) for r in writer.records()] == [("sent", 5)]
    assert outbox.pause_s(0) == 5.0
    writer.delete()


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b"null", b'{"segments": [1]}', b'{"segments": 5}', b"\xff\xfe"]
)
def test_a_damaged_document_falls_back_to_the_last_summary(document):
    """With a verdict that says so, and under a name that tells it from a real segment."""
    (found,) = parse_segments(document, {"carbon/energy_kwh": 0.5, "carbon/time/energy_kwh": 9, "loss": 1.0})
    assert found.id == PROVISIONAL
    assert found.footprint.energy_kwh == 0.5
    assert found.footprint.verdict == "warn"
    assert parse_segments(document, {}) == []


def test_segments_survive_the_document(tmp_path):
    """Figures, names and order; what a later version adds is let alone."""
    sink = MemorySink()
    _first_segment(sink, tmp_path)
    document = json.loads(sink.files["footprint.json"])
    document["segments"][0]["colour"] = "green"
    (found,) = parse_segments(json.dumps(document).encode(), {})
    assert found.footprint.energy_kwh == sink.last()["carbon/energy_kwh"]
    assert found.samples == "samples.jsonl.gz"
    document["segments"][0].pop("colour")
    assert found.as_dict() == document["segments"][0]


def test_a_segment_knows_when_it_ended():
    """From its name and its length; a provisional one does not."""
    footprint = parse_segments(None, {"carbon/energy_kwh": 1, "carbon/duration_s": 2.5})[0].footprint
    assert Segment(id="1700000000000-42", footprint=footprint).end_ms == 1700000002501
    assert Segment(id=PROVISIONAL, footprint=footprint).end_ms == 0


@pytest.fixture
def live_run(tmp_path):
    """Makes the journal of a run that is being measured."""
    writers = []

    def start(run_id, parent=None, *, stored=True):
        writer = Journal(tmp_path, run_id, host="here")
        writer.append("header", run_id=run_id, parent_run_id=parent, stored=stored)
        writers.append(writer)
        return RunSpec(run_id=run_id, parent_run_id=parent), writer.path

    yield start
    for writer in writers:
        writer.close()


def test_a_run_alone_is_not_shared(live_run, tmp_path):
    """Nor by a dead one, nor by a journal that has nothing in it yet."""
    mine = live_run("mine")
    dead = Journal(tmp_path, "dead", host="here")
    dead.append("header", run_id="dead", parent_run_id=None)
    dead.close()
    empty = Journal(tmp_path, "empty", host="here")
    assert not is_shared(*mine)
    empty.close()


def test_unrelated_runs_share_and_siblings_too(live_run):
    """Two trainings under one parent at the same time disturb each other; the parent holds both."""
    parent = live_run("parent")
    one = live_run("one", "parent")
    assert not is_shared(*one)
    two = live_run("two", "parent")
    assert is_shared(*one)
    assert is_shared(*two)
    assert not is_shared(*parent)
    other = live_run("other")
    assert is_shared(*parent)
    assert is_shared(*other)


def test_runs_one_after_the_other_do_not_share(tmp_path):
    """The first is still being stored, so its journal is alive, but it ended before the second began."""
    specs = [RunSpec(run_id=name) for name in ("first", "second", "third")]
    writers = [Journal(tmp_path, spec.run_id, host="here") for spec in specs]
    for writer, spec, start_ns in zip(writers, specs, (10, 20, 15), strict=True):
        writer.append("header", run_id=spec.run_id, parent_run_id=None, start_mono_ns=start_ns)
    writers[0].append("end", end_mono_ns=14)
    writers[0].append("sent", t=14)
    paths = [writer.path for writer in writers if writer.path is not None]
    assert [is_shared(spec, path) for spec, path in zip(specs, paths, strict=True)] == [False, True, True]
    for writer in writers:
        writer.close()


def test_a_run_holds_its_grandchildren(live_run):
    """Three deep, nobody is a stranger to anybody."""
    line = [live_run("a"), live_run("b", "a"), live_run("c", "b")]
    assert [is_shared(*run) for run in line] == [False, False, False]


def test_a_block_about_a_run_is_no_stranger_to_what_the_run_holds(live_run):
    """The launcher measures around a run, which has a run of its own inside; a block about another run counts."""
    run, inner = live_run("run"), live_run("inner", "run")
    live_run("block", "run", stored=False)
    assert [is_shared(*each) for each in (run, inner)] == [False, False]
    live_run("block-2", "elsewhere", stored=False)
    assert [is_shared(*each) for each in (run, inner)] == [True, True]


def test_two_processes_of_one_run_do_not_share_it(live_run):
    """The ranks of a training each have a journal."""
    first, second = live_run("mine"), live_run("mine")
    assert not is_shared(*first)
    assert not is_shared(*second)


def test_runs_that_name_each_other_as_parents_end_the_search(live_run):
    """A circle is nonsense, and no reason to hang."""
    line = [live_run("a", "b"), live_run("b", "a"), live_run("c")]
    assert [is_shared(*run) for run in line] == [True, True, True]
