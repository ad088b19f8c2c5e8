"""The outbox: order, refusals and pauses."""

from __future__ import annotations

import logging

import pytest

from mlflow_carbon import journal
from mlflow_carbon.session.delivery import Tags
from mlflow_carbon.session.outbox import Outbox, SentUpTo
from tests.fakes import MemorySink


@pytest.fixture
def log(tmp_path):
    """A journal to note in what has been stored."""
    opened = journal.Journal(tmp_path, "run1", host="testhost")
    yield opened
    opened.close()


def test_the_pauses_are_short_at_first_and_longer_later(log):
    """In the first minute a run is seen to come alive; after that calls to the store are kept few."""
    outbox = Outbox(MemorySink(), log)
    assert [outbox.pause_s(elapsed_s) for elapsed_s in (0, 59.9, 60, 3600)] == [5, 5, 15, 15]


def test_a_refused_delivery_stays_and_is_tried_less_and_less_often(log, caplog):
    """Nothing is lost or overtaken while the store is down, and the pauses grow to a minute."""
    caplog.set_level(logging.CRITICAL)
    sink = MemorySink()
    outbox = Outbox(sink, log)
    outbox.add(Tags({"a": "1"}), SentUpTo(7), Tags({"a": "2"}))
    sink.down = True
    pauses = []
    for _ in range(6):
        assert not outbox.send()
        pauses.append(outbox.pause_s(3600))
    assert pauses == [5, 15, 30, 60, 60, 60]
    assert [r["kind"] for r in log.contents().records] == []
    sink.down = False
    assert outbox.send()
    assert sink.tags == {"a": "2"}
    assert [r["t"] for r in log.contents().records] == [7]
    assert outbox.pause_s(0) == 5
