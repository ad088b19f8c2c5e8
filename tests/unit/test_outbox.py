"""What waits to be stored: order, refusals, and artifacts that must not hold figures up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.errors import StoreError
from mlflow_carbon.journal import Journal
from mlflow_carbon.session.delivery import End, File, Points, Tags
from mlflow_carbon.session.outbox import Outbox, SentUpTo
from mlflow_carbon.store import Point
from tests.fakes import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterable

POINT = Point(key="carbon/energy_kwh", value=1.0, step=0, t_ms=0)


class NoArtifacts(MemorySink):
    """A server that takes figures while its artifact store refuses everything."""

    def __init__(self) -> None:
        super().__init__()
        self.tried: list[str] = []
        self.closed = True

    def write_file(self, name: str, content: bytes | Iterable[bytes]) -> None:
        self.tried.append(name)
        if self.closed:
            raise StoreError("no credentials for the bucket")
        super().write_file(name, content)


def _outbox(tmp_path, sink):
    return Outbox(sink, Journal(tmp_path, "run1", host="here"))


def test_a_refused_artifact_lets_figures_pass(tmp_path):
    """A server without a working artifact store still gets points and tags, and the run its end."""
    sink = NoArtifacts()
    outbox = _outbox(tmp_path, sink)
    outbox.add(File("environment.json", b"{}"), Points((POINT,)), SentUpTo(1), Tags({"carbon.kind": "run"}))
    assert not outbox.send()
    assert sink.points == [POINT]
    assert sink.tags == {"carbon.kind": "run"}
    outbox.add(File("footprint.json", b"{}"), End("KILLED"))
    assert not outbox.send(last=True)
    assert sink.status == "KILLED"


def test_a_refused_artifact_is_tried_again_at_the_end(tmp_path):
    """What the artifact store refused at first is stored once it works, and then everything is out."""
    sink = NoArtifacts()
    outbox = _outbox(tmp_path, sink)
    outbox.add(File("environment.json", b"{}"))
    assert not outbox.send()
    sink.closed = False
    assert not outbox.send(), "while a run lasts, one refusal is enough"
    assert outbox.send(last=True)
    assert set(sink.files) == {"environment.json"}


def test_one_refused_artifact_is_enough(tmp_path):
    """Each try may take minutes, so the artifacts behind a refused one are not tried."""
    sink = NoArtifacts()
    outbox = _outbox(tmp_path, sink)
    outbox.add(File("a", b""), File("b", b""), File("c", b""))
    assert not outbox.send(last=True)
    assert sink.tried == ["a"]


def test_refused_figures_keep_their_order(tmp_path):
    """Points wait in front of what came later, and nothing is marked as sent before it is."""
    sink = MemorySink()
    journal = Journal(tmp_path, "run1", host="here")
    outbox = Outbox(sink, journal)
    outbox.add(Points((POINT,)), SentUpTo(7))
    sink.down = True
    assert not outbox.send()
    assert list(journal.records()) == []
    sink.down = False
    assert outbox.send()
    assert sink.points == [POINT]
    assert [r["t"] for r in journal.records()] == [7]


def test_sending_becomes_rare_as_a_run_goes_on(tmp_path):
    """From 5 to 30 s: a run is seen to come alive, and a long one costs the store little."""
    outbox = _outbox(tmp_path, MemorySink())
    assert [outbox.pause_s(elapsed_s) for elapsed_s in (0, 5, 20, 30, 3600)] == [5, 5, 20, 30, 30]


def test_a_store_that_is_down_is_asked_less_and_less_often(tmp_path):
    """The pauses after refusals grow to a minute, and are forgotten with the first success."""
    sink = MemorySink()
    sink.down = True
    outbox = _outbox(tmp_path, sink)
    outbox.add(Tags({"carbon.kind": "run"}))
    pauses = []
    for _ in range(5):
        assert not outbox.send()
        pauses.append(outbox.pause_s(3600))
    assert pauses == [5, 15, 30, 60, 60]
    sink.down = False
    assert outbox.send()
    assert outbox.pause_s(3600) == 30
