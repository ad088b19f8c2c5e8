"""The desk of a session: one publisher, and a journal that the disk keeps."""

from __future__ import annotations

from functools import partial

from mlflow_carbon.session.desk import Desk
from tests.fakes import MemorySink, surroundings
from tests.spans import Jobs, Span


def _given(sink):
    return sink


def test_there_is_one_publisher(tmp_path):
    """Whoever asks gets the same one."""
    span = Span(tmp_path)
    desk = Desk(span.session, MemorySink, surroundings=surroundings(tmp_path), worker=Jobs())
    assert desk.publisher() is desk.publisher()


def test_where_a_run_is_stored_is_asked_with_the_given_job(tmp_path):
    """The view of one of several machines imports what adds them up: 45 ms that the caller does not pay."""
    span, asked = Span(tmp_path), []
    desk = Desk(
        span.session, lambda: asked.append("sink"), surroundings=surroundings(tmp_path), worker=Jobs()
    )
    assert asked == []
    desk.begin()
    assert asked == ["sink"]


def test_the_journal_is_kept_every_five_seconds_until_the_end(tmp_path):
    """However rarely points are sent, a power cut takes at most five seconds of readings."""
    span, keeper = Span(tmp_path), Jobs()
    desk = Desk(span.session, MemorySink, surroundings=surroundings(tmp_path), worker=Jobs())
    desk.keep(keeper)
    for _ in range(3):
        span.tick()
        assert keeper.run() == 5.0
    span.stop()
    keeper.run()
    assert keeper.waiting == []


def test_the_last_job_ends_the_run_only_where_it_is_told_to(tmp_path):
    """MLflow's own end is the rule; a status is given where nobody else will end the run."""
    for number, status in enumerate(("", "KILLED")):
        span, sink = Span(tmp_path / str(number)), MemorySink()
        span.tick()
        span.tick()
        span.stop(status)
        desk = Desk(span.session, partial(_given, sink), surroundings=surroundings(tmp_path), worker=Jobs())
        desk.finish(status)
        assert sink.status == (status or None)
