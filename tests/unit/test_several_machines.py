"""A run on several machines: each stores its own, whoever finishes adds up, and nothing counts twice."""

from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING

import pytest

from mlflow_carbon import assembly, journal
from mlflow_carbon.errors import StoreError
from mlflow_carbon.journal import Journal
from mlflow_carbon.session import merging
from mlflow_carbon.session.live import RunSpec
from mlflow_carbon.session.machines import Node
from mlflow_carbon.session.node_sink import NodeSink
from mlflow_carbon.session.peers import LOOK_S, Peers
from mlflow_carbon.session.recovery import recover
from mlflow_carbon.settings import Settings
from tests.fakes import ConstantPower, MemorySink, VirtualClock, costing
from tests.spans import Jobs, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KWH_J = 3_600_000


def _node(k: int, number: int = 3) -> Node:
    return Node(name=str(k), number=number, is_first=k == 0, host=f"hash-of-{k}")


def _span(folder, k: int, *, number: int = 3, power_w: float | None = None, clock=None) -> Span:
    """A span on machine k, which draws 100 W more than the one before it unless told."""
    spec = RunSpec(run_id="run1", tracking_uri="fake://store", resumed=True, node=_node(k, number))
    sensor = ConstantPower(power_w=power_w or 100.0 * (k + 1))
    return Span(folder / f"home{k}", sensor, spec=spec, clock=clock)


def _finish(span: Span, sink: MemorySink, *, seconds: int = 10) -> NodeSink:
    """Measure so many seconds, end, and store as a process does."""
    node = span.session.spec.node
    assert node is not None
    view = NodeSink(sink, "run1", node, detail=span.session.settings.detail)
    publisher = span.publisher(view)
    publisher.begin()
    span.tick(0)
    for _ in range(seconds):
        span.tick()
    publisher.flush()
    span.session.stop("FINISHED")
    span.tick(0)
    publisher.finish()
    assert span.session.stored
    return view


def _energy_j(sink: MemorySink) -> float:
    return sink.last()["carbon/energy_kwh"] * KWH_J


def _document(sink: MemorySink, name: str):
    return json.loads(sink.files[name])


def test_three_machines_add_up(tmp_path):
    """100, 200 and 300 W for the same 10 s: 6000 J in 10 s at 600 W, and each beside it."""
    sink = MemorySink()
    for k in range(3):
        _finish(_span(tmp_path, k), sink)
    last = sink.last()
    assert _energy_j(sink) == pytest.approx(6000)
    for k in range(3):
        assert last[f"carbon/node_{k}/energy_kwh"] * KWH_J == pytest.approx(1000 * (k + 1))
        assert last[f"carbon/node_{k}/emissions_gco2e"] == pytest.approx(1000 * (k + 1) / KWH_J * 200)
    assert last["carbon/emissions_gco2e"] == pytest.approx(6000 / KWH_J * 200)
    assert sink.tags["carbon.nodes"] == "3 of 3"
    assert sink.tags["carbon.verdict"] == "ok"
    total = _document(sink, "footprint.json")["total"]
    assert total["duration_s"] == pytest.approx(10)
    assert total["power_mean_w"] == pytest.approx(600)
    nodes = _document(sink, "nodes.json")
    assert [n["energy_kwh"] * KWH_J for n in nodes["nodes"]] == pytest.approx([1000, 2000, 3000])
    assert (nodes["here"], nodes["number"], nodes["missing_names"]) == (3, 3, [])
    assert nodes["nodes"][1]["host"] == "hash-of-1"
    assert {f"nodes/{k}/samples.jsonl.gz" for k in range(3)} < set(sink.files)
    assert "| 2&emsp; | 10.0 s&emsp; | 833 mWh&emsp; | 167 mgCO2e&emsp; | ok |" in sink.notes[-1]


def test_only_the_first_machine_publishes_the_series(tmp_path):
    """Those of the others would interleave with them under the same keys; the tags of its machine are the run's."""
    sink = MemorySink()
    _finish(_span(tmp_path, 1), sink)
    assert not [p for p in sink.points if p.key.startswith("carbon/time/")]
    assert "carbon.host.kernel" not in sink.tags
    _finish(_span(tmp_path, 0), sink)
    powers = [p.value for p in sink.points if p.key == "carbon/time/power_w"]
    assert powers == pytest.approx([100.0, 100.0])
    assert sink.tags["carbon.host.kernel"] == "fake"


def test_no_total_is_told_before_a_machine_has_finished(tmp_path):
    """In mid-run there are the figures of each machine under its own key."""
    sink = MemorySink()
    span = _span(tmp_path, 1)
    publisher = span.publisher(NodeSink(sink, "run1", _node(1), detail=False))
    for _ in range(12):
        span.tick()
    publisher.flush()
    assert {p.key for p in sink.points} == {"carbon/node_1/energy_kwh", "carbon/node_1/emissions_gco2e"}
    span.kill()


def test_a_missing_machine_is_named_until_it_comes(tmp_path):
    """The verdict, the tag and the note say so; all three are right again with the last one."""
    sink = MemorySink()
    for k in (0, 2):
        _finish(_span(tmp_path, k), sink)
    assert (sink.tags["carbon.nodes"], sink.tags["carbon.verdict"]) == ("2 of 3", "warn")
    assert "1 of 3 machines are missing: node 1;" in sink.notes[-1]
    assert _document(sink, "footprint.json")["findings"][0].startswith("the figures of 1 of 3 machines")
    assert _energy_j(sink) == pytest.approx(4000)
    _finish(_span(tmp_path, 1), sink)
    assert (sink.tags["carbon.nodes"], sink.tags["carbon.verdict"]) == ("3 of 3", "ok")
    assert "missing" not in sink.notes[-1]
    assert _document(sink, "footprint.json")["findings"] == []
    assert "carbon.error" not in sink.tags
    assert _energy_j(sink) == pytest.approx(6000)


def test_the_sum_is_the_same_whoever_finishes_last(tmp_path):
    """Any order of three machines leaves the same documents, figures and tags."""
    found = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        sink = MemorySink()
        for k in order:
            _finish(_span(tmp_path / str(order), k), sink)
        found.append((sink.files["footprint.json"], sink.files["nodes.json"], sink.notes[-1], sink.last()))
    assert found[0] == found[1] == found[2]


def test_adding_up_again_changes_nothing(tmp_path):
    """Nor does it by a machine that has never measured."""
    sink = MemorySink()
    for k in range(2):
        _finish(_span(tmp_path, k), sink)
    before = (dict(sink.files), dict(sink.tags), sink.last(), set(sink.points), sink.notes[-1])
    assert merging.merge(sink, "run1").is_complete is False
    assert (dict(sink.files), dict(sink.tags), sink.last(), set(sink.points), sink.notes[-1]) == before


class Overtaken(MemorySink):
    """While one machine writes its sum, another one stores its document and its sum."""

    other: Callable[[], object] | None = None

    def write_file(self, name: str, content: bytes | Iterable[bytes]) -> None:
        other, self.other = (self.other, None) if name == "nodes.json" else (None, self.other)
        if other is not None:
            other()
        super().write_file(name, content)


def test_of_two_that_finish_at_once_the_last_sum_holds_both(tmp_path):
    """The slower one would have put its own sum over that of both; it looks again and mends it."""
    sink = Overtaken()
    sink.other = lambda: _finish(_span(tmp_path, 1, number=2), sink)
    _finish(_span(tmp_path, 0, number=2), sink)
    assert _energy_j(sink) == pytest.approx(3000)
    assert _document(sink, "footprint.json")["total"]["energy_kwh"] * KWH_J == pytest.approx(3000)
    assert _document(sink, "nodes.json")["here"] == 2
    assert (sink.tags["carbon.nodes"], sink.tags["carbon.verdict"]) == ("2 of 2", "ok")


def test_a_killed_machine_is_recovered_and_then_added(tmp_path):
    """From its own journal, with its own word about the kill; the run is not ended by it."""
    sink = MemorySink()
    _finish(_span(tmp_path, 0, number=2), sink)
    span = _span(tmp_path, 1, number=2)
    span.tick(0)
    for _ in range(10):
        span.tick()
    path = span.kill()
    again = tmp_path / "again"
    shutil.copy(path, again)
    for left in (path, again):
        found = recover(left, sink=lambda _r, _u: sink, costing=lambda _s, _e: costing(200), end_run=True)
        assert found.outcome == "stored"
        assert _energy_j(sink) == pytest.approx(3000)
    assert sink.status is None
    assert sink.tags["carbon.nodes"] == "2 of 2"
    assert sink.tags["carbon.error"].startswith("node 1: the process was killed")
    assert "node 1: the process was killed" in sink.notes[-1]
    assert sink.tags["carbon.verdict"] == "warn"


def test_of_eight_one_is_killed_and_one_cut_off(tmp_path):
    """100 to 800 W for 10 s: 26 kJ from six, both others named; 36 kJ once they are recovered, and again."""
    sink, journals = MemorySink(), []
    for k in range(8):
        span = _span(tmp_path, k, number=8)
        publisher = span.publisher(NodeSink(sink, "run1", _node(k, 8), detail=False))
        publisher.begin()
        span.tick(0)
        for _ in range(10):
            span.tick()
        if k == 3:
            journals.append(span.kill())
            continue
        sink.down = k == 5
        span.session.stop("FINISHED")
        span.tick(0)
        publisher.finish()
        sink.down = False
        if k == 5:
            journals.append(span.kill())
    assert sink.tags["carbon.nodes"] == "6 of 8"
    assert "2 of 8 machines are missing: nodes 3, 5;" in sink.notes[-1]
    assert _energy_j(sink) == pytest.approx(26_000)
    copies = [tmp_path / f"copy{k}" for k in range(2)]
    for path, copy in zip(journals, copies, strict=True):
        shutil.copy(path, copy)
    for path in (*journals, *copies):
        recover(path, sink=lambda _r, _u: sink, costing=lambda _s, _e: costing(200), end_run=True)
    assert (sink.tags["carbon.nodes"], sink.tags["carbon.verdict"]) == ("8 of 8", "warn")
    assert sink.tags["carbon.error"].startswith("node 3: the process was killed")
    assert "node 5" not in sink.tags["carbon.error"]
    assert _energy_j(sink) == pytest.approx(36_000)
    own = [n["energy_kwh"] for n in _document(sink, "nodes.json")["nodes"]]
    assert sink.last()["carbon/energy_kwh"] == pytest.approx(sum(own), rel=1e-12)


def test_a_resumed_run_counts_each_segment_once(tmp_path):
    """Two machines, twice: 2 x (1000 + 2000) J in 2 x 10 s; the pause between is no time of the run."""
    sink = MemorySink()
    clocks = [VirtualClock(), VirtualClock()]
    for _ in range(2):
        for k, clock in enumerate(clocks):
            _finish(_span(tmp_path, k, number=2, clock=clock), sink)
            clock.advance(1000)
    assert _energy_j(sink) == pytest.approx(6000)
    total = _document(sink, "footprint.json")["total"]
    assert total["duration_s"] == pytest.approx(20)
    assert total["power_mean_w"] == pytest.approx(300)
    assert [len(n["segments"]) for n in _document(sink, "nodes.json")["nodes"]] == [2, 2]
    assert "nodes/1/samples.s2.jsonl.gz" in sink.files


def test_what_one_machine_measured_alone_stands_beside_the_sum(tmp_path):
    """One machine, then two, then one again: 1000 + 3000 + 1000 J in 30 s, and no file is written over."""
    sink, clock = MemorySink(), VirtualClock()

    def alone() -> None:
        spec = RunSpec(run_id="run1", tracking_uri="fake://store", resumed=True)
        span = Span(tmp_path / "alone", spec=spec, clock=clock)
        publisher = span.publisher(sink)
        span.tick(0)
        for _ in range(10):
            span.tick()
        span.session.stop("FINISHED")
        span.tick(0)
        publisher.finish()
        clock.advance(1000)

    alone()
    for k in range(2):
        _finish(_span(tmp_path, k, number=2, clock=VirtualClock(now_ns=clock.now_ns)), sink)
    assert _energy_j(sink) == pytest.approx(4000)
    clock.advance(2000)
    alone()
    assert _energy_j(sink) == pytest.approx(5000)
    merging.merge(sink, "run1")
    document = _document(sink, "footprint.json")
    assert [s["energy_kwh"] * KWH_J for s in document["segments"]] == pytest.approx([1000, 3000, 1000])
    assert document["total"]["duration_s"] == pytest.approx(30)
    assert {"samples.jsonl.gz", "samples.s2.jsonl.gz", "nodes/0/samples.jsonl.gz"} < set(sink.files)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"number": 2}',
        b'{"segments": [{"id": "1-2"}]}',
        b'{"number": "two", "segments": [{"id": "1-2"}]}',
        b'{"number": 1000000000000, "segments": [{"id": "1-2"}]}',
        b'{"number": 2, "segments": [{"id": "1-2", "energy_kwh": "much"}]}',
        b'{"number": 2, "segments": [{"id": "1-2", "energy_kwh": NaN}]}',
        b'{"number": 2, "segments": [{"id": "1-2", "zone": ["DE"]}]}',
        b'{"number": Infinity, "segments": [{"id": "1-2"}]}',
        b'{"number": 2, "segments": [{"id": "1-2", "duration_s": NaN}]}',
        b'{"number": 2, "segments": [{"id": "1-2", "duration_s": 1e308}]}',
        b'{"number": 2, "segments": [{"id": "1-2", "quality": 5}]}',
        b'{"number": 2, "segments": [{"id": "1-2", "verdict": null}]}',
        b'{"number": 2, "findings": 7, "segments": [{"id": "1-2"}]}',
    ],
)
def test_half_a_document_is_as_good_as_none(tmp_path, content):
    """A machine whose document is being written, or is damaged, counts as missing; the others' sum stands."""
    sink = MemorySink()
    sink.files |= {"nodes/1.json": content, "nodes/notes of mine.json": b'{"number": 2, "segments": [{}]}'}
    _finish(_span(tmp_path, 0, number=2), sink)
    assert sink.tags["carbon.nodes"] == "1 of 2"
    assert _energy_j(sink) == pytest.approx(1000)


def test_many_machines_make_no_flood_of_keys(tmp_path):
    """Of 40 machines 16 have metrics of their own and 32 a line in the note; all are in the document."""
    sink = MemorySink()
    for k in range(40):
        _finish(_span(tmp_path, k, number=40, power_w=100), sink, seconds=2)
    assert len({p.key for p in sink.points if p.key.startswith("carbon/node_")}) == 2 * 16
    assert "\n8 more are in `carbon/nodes.json`." in sink.notes[-1]
    assert len(sink.notes[-1]) < 8000
    assert len(_document(sink, "nodes.json")["nodes"]) == 40
    assert _energy_j(sink) == pytest.approx(40 * 200)


def test_a_store_that_is_down_keeps_the_journal_until_the_sum_is_stored(tmp_path):
    """Its own document may be there already: `recover` does the rest."""
    sink = MemorySink()
    span = _span(tmp_path, 0, number=2)

    class Dying(NodeSink):
        def add_up(self) -> bool:
            raise StoreError("the fake store is down")

    publisher = span.publisher(Dying(sink, "run1", _node(0, 2), detail=False))
    span.tick(0)
    span.tick()
    span.stop()
    publisher.finish()
    assert not span.session.stored
    path = span.kill()
    assert "nodes/0.json" in sink.files
    assert "carbon/energy_kwh" not in sink.last()
    recover(path, sink=lambda _r, _u: sink, costing=lambda _s, _e: costing(200), end_run=False)
    assert _energy_j(sink) == pytest.approx(100)


def _watched(tmp_path, sink, *, k: int = 0):
    """Peers of machine k, whose session has been stored."""
    jobs = Jobs()
    peers = Peers(jobs)
    span = _span(tmp_path, k, number=2)
    view = peers.view(span.session, sink)
    publisher = span.publisher(view)
    span.tick(0)
    span.tick()
    span.stop()
    publisher.finish()
    return peers, jobs, span.session


def test_the_first_machine_looks_again_for_one_that_is_late(tmp_path):
    """A document that came without a sum, as of a process that was cut off there, is added."""
    sink, spare = MemorySink(), MemorySink()
    peers, jobs, session = _watched(tmp_path, sink)
    assert not peers.wait(0)
    peers.watch(session)
    assert jobs.run() == LOOK_S[0]
    _finish(_span(tmp_path, 1, number=2), spare, seconds=1)
    sink.files["nodes/1.json"] = spare.files["nodes/1.json"]
    assert jobs.run() == LOOK_S[1]
    assert sink.tags["carbon.nodes"] == "2 of 2"
    assert jobs.waiting == []
    assert peers.wait(0)


def test_it_gives_up_with_a_word_before_an_exit_has_to_end(tmp_path, caplog):
    """Also where the store fails meanwhile; the pauses are within the ten seconds of an exit."""
    sink = MemorySink()
    peers, jobs, session = _watched(tmp_path, sink)
    peers.watch(session)
    sink.down = True
    with caplog.at_level(logging.WARNING):
        assert tuple(jobs.run() for _ in LOOK_S) == LOOK_S
    assert jobs.waiting == []
    assert peers.wait(0)
    assert "figures of other machines have not come" in caplog.text
    assert sum(LOOK_S) < 10


def test_the_other_machines_wait_for_nobody(tmp_path):
    """Only the first one looks on; whoever comes later adds up itself."""
    peers, jobs, session = _watched(tmp_path, MemorySink(), k=1)
    peers.watch(session)
    assert jobs.waiting == []
    assert peers.wait(0)


@pytest.mark.parametrize("privacy", ["hashed", "full", "off"])
def test_the_host_is_named_as_privacy_allows(tmp_path, monkeypatch, privacy):
    """As a keyed hash, in full or not at all; the name in keys and files is a hash in any case."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    for name, value in {"SIZE": "4", "LOCAL_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    found = assembly.node(Settings(privacy=privacy), "run1")
    assert found is not None
    assert found.name.startswith("host-")
    assert assembly.host() not in found.name
    assert found.host.startswith({"hashed": "hmac-sha256:", "full": assembly.host(), "off": ""}[privacy])
    assert (found.host == "") == (privacy == "off")
    assert assembly.node(Settings(privacy=privacy), "run2") == found


def test_machines_that_share_a_home_do_not_wait_for_each_other(tmp_path, monkeypatch):
    """Starting beside another one's recovery is no trouble; only a journal of one's own has to wait for its turn."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    folder = assembly.journal_folder()
    Journal(folder, "run1", host="another").close()
    with journal.recovering(folder) as is_mine:
        assert is_mine
        assembly._recover_run("run1")
        Journal(folder, "run1", host=assembly.host()).close()
        with pytest.raises(StoreError, match="being recovered by another process"):
            assembly._recover_run("run1")


def test_a_single_machine_is_no_node(monkeypatch):
    """Without a launcher, or with one that has one machine."""
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    monkeypatch.setenv("GROUP_RANK", "0")
    assert assembly.node(Settings(), "run1") is None


def test_on_one_machine_nothing_is_different(tmp_path):
    """The sink is the sink, and nobody is waited for."""
    sink, jobs = MemorySink(), Jobs()
    peers, span = Peers(jobs), Span(tmp_path)
    assert peers.view(span.session, sink) is sink
    peers.watch(span.session)
    assert jobs.waiting == []
    assert peers.wait(0)
    span.kill()
