"""A run from start to stored figures, with a fake sensor and a fake store."""

from __future__ import annotations

import gzip
import json
import threading
import time
from dataclasses import replace

import pytest

from mlflow_carbon import journal
from mlflow_carbon.sampler import SystemClock
from mlflow_carbon.sensors import Discovery
from mlflow_carbon.session import final, recovery
from mlflow_carbon.session.live import RunSpec, Session
from mlflow_carbon.session.meter import Meter
from mlflow_carbon.session.usage import Usage
from mlflow_carbon.settings import Settings
from tests.fakes import ConstantPower, MemorySink, costing, surroundings
from tests.spans import Jobs

FAST = Settings(period_s=0.05)


def _meter(tmp_path, *sensors, **options):
    return Meter(FAST, surroundings(tmp_path, sensors or (ConstantPower(),), **options))


def _busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def _run(meter, sink, seconds=0.4, run_id="run1", **spec):
    session = meter.start(RunSpec(run_id=run_id, **spec), FAST, sink)
    _busy(seconds)
    meter.stop(run_id, "FINISHED")
    assert session is not None
    assert session.finished.wait(10)
    return session


def test_a_run_ends_with_its_energy(tmp_path):
    """100 W for the covered part of the run is that many joules, and each kWh emits 200 g."""
    sink = MemorySink()
    session = _run(_meter(tmp_path), sink)
    figures = json.loads(sink.files["footprint.json"])["total"]
    seconds = (session.end_ns - session.start_ns) / 1e9
    assert figures["duration_s"] == pytest.approx(seconds)
    energy_j = sink.last()["carbon/energy_kwh"] * 3.6e6
    assert energy_j == pytest.approx(100 * seconds * figures["coverage_ratio"], rel=1e-6)
    assert 0 < energy_j <= 100 * seconds
    assert sink.last()["carbon/emissions_gco2e"] == pytest.approx(energy_j / 3.6e6 * 200)


def test_the_first_run_waits_for_the_counters_but_not_for_long(tmp_path):
    """Once they have been read it starts at once; where a driver hangs it starts after 50 ms."""
    hanging = replace(surroundings(tmp_path, (ConstantPower(),)), counters_read=threading.Event())
    meter, spec = Meter(FAST, hanging), RunSpec(run_id="run1")
    before = time.monotonic()
    meter.start(spec, FAST, MemorySink())
    assert 0.05 <= time.monotonic() - before < 10
    hanging.counters_read.set()
    meter.stop_all("FINISHED", 10)


def test_storing_begins_after_the_first_reading(tmp_path):
    """What it imports would compete with the search for sensors, for as long as counters are not read."""
    found, order = threading.Event(), []
    around = surroundings(tmp_path, (ConstantPower(),))

    def discover():
        assert found.wait(10)
        order.append("sensors")
        return around.discover()

    def environment(settings):
        order.append("environment")
        return around.environment(settings)

    meter = Meter(FAST, replace(around, discover=discover, environment=environment))
    session = meter.start(RunSpec(run_id="run1"), FAST, MemorySink())
    found.set()
    meter.stop_all("FINISHED", 10)
    assert session is not None
    assert session.stored
    assert order == ["sensors", "environment"]


def test_a_run_ends_with_tags_and_documents(tmp_path):
    """Basis, quality, verdict, grid and environment are stored; the journal is gone."""
    sink = MemorySink()
    _run(_meter(tmp_path), sink)
    assert sink.tags["carbon.kind"] == "run"
    assert sink.tags["carbon.basis"] == "measured"
    assert sink.tags["carbon.quality"] == "L3"
    assert sink.tags["carbon.verdict"] == "ok"
    assert sink.tags["carbon.grid.zone"] == "XX"
    assert sink.tags["carbon.host.kernel"] == "fake"
    assert set(sink.files) == {"footprint.json", "samples.jsonl.gz", "intensity.json", "environment.json"}
    assert "Energy" in sink.notes[-1]
    assert list(tmp_path.glob("*.jsonl")) == []


def test_at_most_twelve_metrics_and_twenty_tags_by_default(tmp_path):
    """The default run does not flood the UI."""
    sink = MemorySink()
    _run(_meter(tmp_path), sink)
    assert len(sink.last()) <= 12
    assert len(sink.tags) <= 20


def test_the_samples_artifact_holds_every_reading_in_the_schemas_columns(tmp_path):
    """Totals can be recomputed from the stored readings alone."""
    sink = MemorySink()
    session = _run(_meter(tmp_path), sink)
    head, *rows = [json.loads(line) for line in gzip.decompress(sink.files["samples.jsonl.gz"]).splitlines()]
    assert head["schema"] == "1.0"
    assert head["channels"][0]["id"] == "fake:cpu"
    assert set(rows[0]) >= {"seq", "t_mono_ns", "t_wall_ns", "t_read_ns", "channel", "kind", "energy_uj"}
    covered_s = (session.end_ns - rows[0]["t_mono_ns"]) / 1e9  # the counter grows by 100 W all the time
    assert 100 * covered_s / 3.6e6 == pytest.approx(sink.last()["carbon/energy_kwh"], rel=1e-3)


def test_a_parent_includes_its_children(tmp_path):
    """Nested runs share the one meter; each gets the energy of its own span, and neither is shared."""
    meter, outer, inner = _meter(tmp_path), MemorySink(), MemorySink()
    meter.start(RunSpec(run_id="outer"), FAST, outer)
    _busy(0.2)
    _run(meter, inner, 0.2, run_id="inner", parent_run_id="outer")
    meter.stop("outer", "FINISHED")
    assert meter.flush(10)
    assert outer.last()["carbon/energy_kwh"] > inner.last()["carbon/energy_kwh"] > 0
    assert "carbon.shared" not in outer.tags
    assert "carbon.shared" not in inner.tags


def test_unrelated_runs_at_the_same_time_are_shared(tmp_path):
    """Two runs that are not parent and child say that they shared the machine."""
    meter, one, two = _meter(tmp_path), MemorySink(), MemorySink()
    meter.start(RunSpec(run_id="one"), FAST, one)
    _run(meter, two, 0.2, run_id="two")
    meter.stop("one", "FINISHED")
    assert meter.flush(10)
    assert two.tags["carbon.shared"] == "true"


def test_a_raising_sensor_becomes_a_warning(tmp_path):
    """A sensor that raises on every read stops nothing; the verdict and the note say so."""
    sink = MemorySink()
    _run(_meter(tmp_path, ConstantPower(error=OSError("cable pulled"))), sink)
    assert sink.tags["carbon.verdict"] == "warn"
    assert "nothing was measured" in sink.notes[-1]


def test_a_store_that_is_down_leaves_a_journal_that_recovers_the_same_figures(tmp_path):
    """Recovering from the journal gives the figures that the live run would have stored."""
    down, up = MemorySink(), MemorySink()
    down.down = True
    session = _run(_meter(tmp_path), down)
    (path,) = tmp_path.glob("*.jsonl")
    outcome = recovery.recover(
        path, sink=lambda _run_id, _uri: up, costing=lambda _s, _e: costing(), end_run=True
    )
    assert outcome.outcome == "stored", outcome.detail
    seconds = (session.end_ns - session.start_ns) / 1e9
    assert up.last()["carbon/energy_kwh"] * 3.6e6 == pytest.approx(100 * seconds, rel=0.3)
    assert up.status == "FINISHED"
    assert up.tags["carbon.verdict"] == "ok"
    assert not path.exists()


def test_a_hanging_store_blocks_neither_start_nor_stop(tmp_path):
    """Starting and stopping a run costs the caller milliseconds while the store hangs."""
    sink = MemorySink()
    sink.hang.clear()
    meter = _meter(tmp_path)
    before = time.monotonic()
    meter.start(RunSpec(run_id="run1"), FAST, sink)
    _busy(0.1)
    meter.stop("run1", "FINISHED")
    assert time.monotonic() - before < 1
    assert not meter.flush(0.2)
    sink.hang.set()
    assert meter.flush(10)
    assert sink.last()["carbon/energy_kwh"] > 0


def test_a_resumed_run_adds_up(tmp_path):
    """A second segment continues totals and time axis, and keeps its readings beside the first's."""
    sink = MemorySink()
    meter = _meter(tmp_path)
    _run(meter, sink)
    first = sink.last()["carbon/energy_kwh"]
    _run(meter, sink, resumed=True)
    assert sink.last()["carbon/energy_kwh"] > 1.5 * first
    assert {"samples.jsonl.gz", "samples.s2.jsonl.gz"} <= set(sink.files)
    assert len(json.loads(sink.files["footprint.json"])["segments"]) == 2
    times = [p.step for p in sink.points if p.key == "carbon/time/energy_kwh"]
    assert times == sorted(set(times))


def test_a_read_only_home_degrades_with_a_warning(tmp_path):
    """Where no journal can be written the run is measured all the same and says what is missing."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    sink = MemorySink()
    _run(_meter(blocked), sink)
    assert sink.last()["carbon/energy_kwh"] > 0
    assert "journal" in sink.tags["carbon.error"]
    assert str(tmp_path) not in sink.tags["carbon.error"], "a path may name the user"
    assert sink.tags["carbon.verdict"] == "warn"


def test_steps_are_interpolated_between_readings(tmp_path):
    """Energy at a training step lies between that of the steps around it."""
    sink = MemorySink()
    meter = _meter(tmp_path)
    session = meter.start(RunSpec(run_id="run1"), FAST, sink)
    _busy(0.15)
    for step in (1, 2, 3):
        session.mark(step)
        _busy(0.1)
    meter.stop("run1", "FINISHED")
    assert meter.flush(10)
    energies = [p.value for p in sink.points if p.key == "carbon/step/energy_kwh"]
    assert len(energies) == 3
    assert energies == sorted(energies)
    assert 0 <= energies[0] < energies[2] <= sink.last()["carbon/energy_kwh"]


def test_phases_and_other_add_up_to_the_run(tmp_path):
    """The phase table accounts for the whole energy."""
    sink = MemorySink()
    meter = _meter(tmp_path)
    session = meter.start(RunSpec(run_id="run1"), FAST, sink)
    for name in ("forward", "backward"):
        session.phases.enter(name)
        _busy(0.2)
        session.phases.leave()
    _busy(0.1)
    meter.stop("run1", "FINISHED")
    assert meter.flush(10)
    rows = {r["phase"]: r for r in json.loads(sink.files["phases.json"])["phases"]}
    assert set(rows) == {"forward", "backward", "other"}
    total_j = sum(r["energy_j"] for r in rows.values())
    assert total_j == pytest.approx(sink.last()["carbon/energy_kwh"] * 3.6e6, rel=1e-3)
    assert 0 < rows["backward"]["energy_j"] <= 1.01 * 100 * rows["backward"]["time_s"]


def test_a_live_journal_is_not_an_orphan(tmp_path):
    """The journal of a running run cannot be mistaken for that of a dead one."""
    meter = _meter(tmp_path)
    meter.start(RunSpec(run_id="run1"), FAST, MemorySink())
    assert journal.orphans(tmp_path) == []
    assert len(list(journal.live(tmp_path))) == 1
    meter.stop("run1", "FINISHED")
    assert meter.flush(10)


def _recovered(path, sink):
    return recovery.recover(
        path, sink=lambda _run_id, _uri: sink, costing=lambda _s, _e: costing(), end_run=True
    )


def test_a_run_that_dies_before_its_first_reading_is_ended(tmp_path):
    """`recover` leaves no run RUNNING, even where there is nothing to store."""
    session = Session(
        RunSpec(run_id="run1"),
        FAST,
        journal=journal.Journal(tmp_path, "run1", host="here"),
        clock=SystemClock(),
        cpu_times=lambda: Usage(process_s=0, own_s=0, machine_s=0),
    )
    session.start()
    session.journal.close()
    sink = MemorySink()
    (path,) = tmp_path.glob("*.jsonl")
    sink.down = True
    assert _recovered(path, sink).outcome == "failed"
    assert path.exists()
    sink.down = False
    assert _recovered(path, sink).outcome == "empty"
    assert sink.status == "KILLED"
    assert sink.tags["carbon.verdict"] == "warn"
    assert not path.exists()


def test_a_run_killed_before_its_first_reading_is_ended(tmp_path):
    """A run that SIGTERM stops while the sensors are still looked for does not stay RUNNING."""
    found = threading.Event()

    def slow():
        found.wait(30)
        return Discovery(sensors=(), absences=(), channels=())

    meter = Meter(FAST, replace(surroundings(tmp_path), discover=slow))
    sink = MemorySink()
    meter.start(RunSpec(run_id="run1"), FAST, sink)
    meter.stop("run1", "KILLED", end_run=True)
    try:
        assert meter.flush(10)
    finally:
        found.set()
    assert sink.status == "KILLED"
    assert "before the first reading" in sink.tags["carbon.error"]


def test_readings_that_cannot_be_costed_are_kept(tmp_path):
    """Where no costing could be made the journal stays, and `recover` stores the energy later."""

    def broken(_settings, _start_s, _end_s):
        raise OSError("the tables are gone")

    _run(Meter(FAST, replace(surroundings(tmp_path, [ConstantPower()]), costing=broken)), MemorySink())
    (path,) = tmp_path.glob("*.jsonl")
    sink = MemorySink()
    assert _recovered(path, sink).outcome == "stored"
    assert sink.last()["carbon/energy_kwh"] > 0


def test_an_end_that_fails_stops_the_readings(tmp_path):
    """A bug in the last piece costs the figures of the run, which stay in its journal, and nothing after it."""

    def fail(*_):
        raise OSError("nobody expected this")

    meter = Meter(FAST, replace(surroundings(tmp_path, (ConstantPower(),)), costing=fail))
    _run(meter, MemorySink(), 0.2)
    assert meter.worker.drain(10)
    assert meter.sampler._listeners == []
    assert meter.is_idle()
    assert len(journal.orphans(tmp_path)) == 1


def test_the_disk_keeps_the_journal_while_the_store_hangs(tmp_path):
    """For minutes, in which a power cut would have taken everything since the last answer."""
    sink, keeper = MemorySink(), Jobs()
    sink.hang.clear()
    meter = _meter(tmp_path)
    meter.keeper = keeper
    session = meter.start(RunSpec(run_id="run1"), FAST, sink)
    assert session is not None
    assert meter.sampler.wait_for_tick(session.start_ns, 10)
    assert keeper.run() == 0
    assert [keeper.run() for _ in range(3)] == [5.0] * 3
    assert (sink.points, sink.tags) == ([], {})
    sink.hang.set()
    meter.stop("run1", "FINISHED")
    assert session.finished.wait(10)
    assert keeper.run() == 5.0
    assert keeper.waiting == []


def test_figures_do_not_wait_for_a_worker_that_hangs(tmp_path):
    """While the store of another run holds the worker up, a block has its figures at once."""
    hanging = MemorySink()
    hanging.hang.clear()
    meter = _meter(tmp_path)
    meter.start(RunSpec(run_id="run1"), FAST, hanging)
    session = meter.start(RunSpec(run_id="block", stored=False), FAST, None)
    publisher = meter.publisher(session)
    _busy(0.2)
    meter.stop("block", "FINISHED")
    assert session.measured.wait(10)
    figures, _ = final.footprint(publisher.ending())
    hanging.hang.set()
    assert (figures.energy_kwh or 0) > 0
    assert figures.zone == "XX"
    meter.stop("run1", "FINISHED")
    assert meter.flush(10)


def test_a_flush_says_whether_everything_is_stored(tmp_path):
    """A run whose store is down has ended and is given up: that is no success, now or later."""
    meter, sink = _meter(tmp_path), MemorySink()
    sink.down = True
    _run(meter, sink)
    assert not meter.flush(10)
    _run(meter, MemorySink())
    assert not meter.flush(10)
    assert meter.is_idle()


def test_a_machine_that_does_not_tell_its_times_costs_one_figure(tmp_path, monkeypatch):
    """Without a free file descriptor, as at the end of many trainings, a run starts, ends and is stored."""

    def full():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("mlflow_carbon.session.usage.machine_now", full)
    meter, sink = _meter(tmp_path), MemorySink()
    _run(meter, sink)
    total = json.loads(sink.files["footprint.json"])["total"]
    assert total["energy_kwh"] > 0
    assert "process_cpu_ratio" not in total
    assert total["process_cpu_s"] >= 0
    assert meter.is_idle()


def test_the_header_is_written_before_anybody_finds_the_run(tmp_path):
    """A step that another thread logs at the start cannot come before it: such a journal could not be read."""
    found: list[Session | None] = []

    class Asking(SystemClock):
        def wall_ns(self):
            found.append(meter.newest())
            return super().wall_ns()

    around = replace(surroundings(tmp_path, (ConstantPower(),)), clock=Asking())
    meter = Meter(FAST, around)
    session = _run(meter, MemorySink())
    assert found[0] is None
    assert session in found
