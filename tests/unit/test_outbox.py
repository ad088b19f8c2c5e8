"""What waits to be stored: order, refusals, and artifacts that must not hold figures up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.errors import RefusedError, StoreError
from mlflow_carbon.journal import Journal
from mlflow_carbon.session.delivery import End, File, Note, Points, Tags
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


class Picky(MemorySink):
    """A server that will not take some keys, now or later."""

    def write_points(self, points: Iterable[Point]) -> None:
        points = tuple(points)
        if any(p.key == "carbon/odd" for p in points):
            raise RefusedError("could not log metrics: INVALID_PARAMETER_VALUE")
        super().write_points(points)

    def write_note(self, block: str) -> None:
        raise RefusedError("could not set the run note: INVALID_PARAMETER_VALUE")


def test_what_the_store_will_not_take_does_not_hold_up_the_rest(tmp_path, caplog):
    """It is told once, and the journal does not say that it was stored, so that `recover` tries it again."""
    sink = Picky()
    journal = Journal(tmp_path, "run1", host="here")
    outbox = Outbox(sink, journal)
    odd = Point(key="carbon/odd", value=1.0, step=0, t_ms=0)
    outbox.add(Points((POINT,)), SentUpTo(1), Points((odd,)), SentUpTo(2), Points((POINT,)), SentUpTo(3))
    outbox.add(Note("note"), End("KILLED"))
    assert not outbox.send()
    assert sink.points == [POINT, POINT]
    assert sink.status == "KILLED"
    assert [r["t"] for r in journal.records()] == [1]
    assert outbox.refusal == "could not log metrics: INVALID_PARAMETER_VALUE"
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [outbox.refusal]
    assert (outbox.is_stuck, outbox.pause_s(3600)) == (False, 30)
    assert not outbox.send(last=True), "not all of it is stored"


def test_a_store_that_is_out_of_reach_for_days_does_not_fill_the_memory(tmp_path):
    """A step a second for a day is thinned to every 8th or 16th; the time axis and the last figures stay whole."""
    sink = MemorySink()
    sink.down = True
    outbox = _outbox(tmp_path, sink)
    most = 0
    for minute in range(1440):
        steps = tuple(
            Point(key=f"carbon/step/{name}", value=0.0, step=60 * minute + second, t_ms=0)
            for second in range(60)
            for name in ("energy_kwh", "emissions_gco2e")
        )
        time = Point(key="carbon/time/power_w", value=1.0, step=minute, t_ms=0)
        outbox.add(Points((*steps, time)), SentUpTo(minute))
        if minute % 60 == 0:
            assert not outbox.send()
        most = max(most, sum(len(i.points) for i in outbox._items if isinstance(i, Points)))
    outbox.add(Points((POINT,)))
    assert most <= 20_000 + 1440
    sink.down = False
    assert outbox.send()
    kept = [
        [p.step for p in sink.points if p.key == f"carbon/step/{n}"]
        for n in ("energy_kwh", "emissions_gco2e")
    ]
    assert kept[0] == kept[1] == sorted(kept[0])
    assert len(kept[0]) > 4000
    assert [p.step for p in sink.points if p.key == "carbon/time/power_w"] == list(range(1440))
    assert sink.points[-1] == POINT
    assert outbox.send()


def test_a_store_that_answers_gets_every_step(tmp_path, caplog):
    """A quick training takes tens of thousands between two sendings: none is left out, and no outage is told."""
    sink = MemorySink()
    outbox = _outbox(tmp_path, sink)
    steps = tuple(Point(key="carbon/step/energy_kwh", value=1.0, step=n, t_ms=0) for n in range(25_000))
    with caplog.at_level("INFO"):
        outbox.add(Points(steps))
    assert outbox.send()
    assert sink.points == [*steps]
    assert caplog.records == []


def test_a_time_axis_of_weeks_thins_no_steps(tmp_path):
    """It is long, but it ends by itself: the steps beside it are kept as long as they are few."""
    sink = MemorySink()
    sink.down = True
    outbox = _outbox(tmp_path, sink)
    times = [Point(key="carbon/time/power_w", value=1.0, step=n, t_ms=0) for n in range(25_000)]
    steps = [Point(key="carbon/step/energy_kwh", value=1.0, step=n, t_ms=0) for n in range(100)]
    outbox.add(Points((*times, *steps)))
    sink.down = False
    assert outbox.send()
    assert sink.points == [*times, *steps]


def test_a_refusal_after_an_outage_is_told_too(tmp_path, caplog):
    """Both are warnings, each once."""
    sink = Picky()
    outbox = _outbox(tmp_path, sink)
    sink.down = True
    outbox.add(Tags({"carbon.kind": "run"}), Note("note"), Note("note"))
    assert not outbox.send()
    assert not outbox.send()
    sink.down = False
    assert not outbox.send()
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == ["the fake store is down", outbox.refusal]
