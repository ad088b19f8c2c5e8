"""A session while it lasts: what is counted, what is kept, and what must never raise."""

from __future__ import annotations

import math
import os
import threading
from fractions import Fraction

import pytest

from mlflow_carbon import journal
from mlflow_carbon.core.series import Sample, Tick
from tests.fakes import ConstantPower
from tests.spans import Span


def _records(span, kind):
    return [r for r in span.session.journal.records() if r["kind"] == kind]


def test_the_header_says_what_recovery_needs(tmp_path):
    """Run, store, clocks, process, period and schema; the segment is named after start and process."""
    span = Span(tmp_path, detail=True)
    (head,) = _records(span, "header")
    assert (head["run_id"], head["tracking_uri"], head["schema"]) == ("run1", "fake://store", "1.0")
    assert head["start_mono_ns"] == span.clock.monotonic_ns()
    assert head["start_wall_ns"] == span.clock.wall_ns()
    assert (head["period_s"], head["detail"], head["stored"]) == (1.0, True, True)
    assert head["segment_id"] == span.session.segment_id == f"{span.clock.wall_ns() // 10**6}-{head['pid']}"
    assert span.session.wall_start_s == span.clock.wall_ns() // 10**9


def test_energy_counts_from_the_first_reading_to_the_end(tmp_path):
    """100 W, first reading 1 s after the start, end 2.5 s after that: 250 J of 3.5 s."""
    span = Span(tmp_path)
    for _ in range(3):
        span.tick()
    assert span.series().energy_uj() == 200_000_000
    span.clock.advance(0.5)
    span.stop()
    series = span.series()
    assert series.energy_uj() == 250_000_000
    assert series.duration_ns == 3_500_000_000
    assert span.session.measured.is_set()


def test_before_the_first_reading_there_is_no_energy(tmp_path):
    """Not a zero."""
    span = Span(tmp_path)
    assert span.session.series() is None
    assert span.session.take() == ([], [], span.session.start_ns)


def test_the_end_holds_status_and_cpu_time(tmp_path):
    """Half of the machine's 4 s were ours; stopping again changes nothing, and later ticks are not written."""
    span = Span(tmp_path)
    span.tick(4)
    span.stop("FAILED")
    ended = span.session.ended
    assert ended is not None
    span.session.stop("FINISHED")
    assert span.session.ended is ended
    (end,) = _records(span, "end")
    assert (end["status"], end["end_mono_ns"]) == ("FAILED", ended.mono_ns)
    assert (end["usage"]["process_s"], end["usage"]["machine_s"]) == pytest.approx((2, 4))
    count = len(_records(span, "tick"))
    span.tick()
    assert len(_records(span, "tick")) == count


def test_a_tick_from_before_the_end_does_not_close_the_span(tmp_path):
    """Only a reading at or after the end covers the last moment."""
    span = Span(tmp_path)
    span.tick()
    tick = span.sampler._tick(span.sensors)
    span.clock.advance(0.001)
    span.session.stop("FINISHED")
    span.session.on_tick(tick, span.discovery)
    assert not span.session.measured.is_set()
    span.tick(0)
    assert span.session.measured.is_set()


def test_a_tick_from_before_the_start_counts_nothing(tmp_path):
    """The sampler may have been in mid-pass when the span began."""
    span = Span(tmp_path)
    old_ns = span.session.start_ns - 500_000_000
    sample = Sample(channel="fake:cpu", t_mono_ns=old_ns, energy_uj=round(100 * old_ns / 1000))
    span.session.on_tick(Tick(seq=0, t_mono_ns=old_ns, t_wall_ns=0, samples=(sample,)), span.discovery)
    assert span.series().energy_uj() == 0
    span.tick()
    assert span.series().energy_uj() == 100_000_000  # from the start, not from before it


def test_steps_before_the_first_reading_are_kept(tmp_path):
    """While the sensors are still looked for, a training may have begun."""
    span = Span(tmp_path)
    span.session.mark(0)
    span.tick()
    span.session.mark(1)
    span.tick()
    _, marks, _ = span.session.take()
    assert [(m.step, m.before.energy_uj(), m.after.energy_uj()) for m in marks] == [
        (0, 0, 0),
        (1, 0, 100_000_000),
    ]


def test_quick_readings_are_recorded_together(tmp_path):
    """At 10 Hz the journal gets a handful of readings at once: the first, then those of each half second."""
    span, written = Span(tmp_path), []
    for _ in range(12):
        span.tick(0.1)
        written.append(len(_records(span, "tick")))
    assert written == [1, 1, 1, 1, 1, 6, 6, 6, 6, 6, 11, 11]
    span.stop()
    assert len(_records(span, "tick")) == 13
    assert span.series().energy_uj() == 110_000_000


def test_whoever_asks_gets_what_was_read_last(tmp_path):
    """Readings and marks that wait for the journal are recorded before anybody looks at the energy."""
    span = Span(tmp_path)
    for step in range(3):
        span.tick(0.1)
        span.session.mark(step)
    span.tick(0.1)
    assert span.series().energy_uj() == pytest.approx(30e6, rel=1e-6)
    assert [r["kind"] for r in span.session.journal.records()][2:] == ["tick", "step", "tick", "step", "tick", "step", "tick"]  # fmt: skip
    with span.session.still():
        assert span.session.recording is not None
        assert span.session.recording.ticks == 4
    assert len(span.session.take()[1]) == 3


def test_a_mark_waits_for_nobody(tmp_path):
    """The training marks a step while the journal and the recording are held by another thread."""
    span = Span(tmp_path)
    span.tick()
    with span.session.still():
        marking = threading.Thread(target=span.session.mark, args=[7])
        marking.start()
        marking.join(10)
        assert not marking.is_alive()
    span.tick()
    assert [mark.step for mark in span.session.take()[1]] == [7]


def test_what_was_taken_is_not_taken_again(tmp_path):
    """And the reading up to which it is all is named."""
    span = Span(tmp_path)
    for _ in range(6):
        span.tick()
    snapshots, _, upto_ns = span.session.take()
    assert [s.elapsed_s for s in snapshots] == [5]
    assert upto_ns == span.clock.monotonic_ns()
    assert span.session.take()[0] == []


@pytest.mark.parametrize("amount", [3, 3.0, Fraction(6, 2), "3"])
def test_amounts_of_any_kind_of_number_are_counted(tmp_path, amount):
    """As floats, which the journal can hold: numpy's and torch's numbers it cannot."""
    span = Span(tmp_path)
    span.session.count("image", amount)
    span.session.count("image", amount)
    span.tick()
    assert span.session.units == {"image": 6.0}
    assert type(span.session.units["image"]) is float
    assert _records(span, "tick")[0]["u"] == {"image": 6.0}


def test_numpy_and_torch_numbers_are_counted(tmp_path):
    """A float32 in the units once made every following record unwritable, and the sampler gave up."""
    numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    span = Span(tmp_path)
    span.session.count("image", numpy.float32(2))
    span.session.count("image", numpy.int64(3))
    span.session.count("image", torch.tensor(4))
    span.tick()
    assert _records(span, "tick")[0]["u"] == {"image": 9.0}
    span.session.count("image", torch.tensor([1, 2]))
    assert "expected a finite number of at least 0" in span.session.troubles[0]


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (-1, "-1"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        ("my data", "a str"),
        (None, "a NoneType"),
        ([1], "a list"),
    ],
)
def test_what_is_no_amount_is_a_trouble_and_changes_nothing(tmp_path, amount, told):
    """It shows in `carbon.error`, once, without the user's data."""
    span = Span(tmp_path)
    for _ in range(2):
        span.session.count("image", amount)
    assert span.session.units == {}
    assert span.session.troubles == [f"count of 'image': expected a finite number of at least 0, got {told}"]


def test_the_first_unit_is_the_one_that_counts(tmp_path):
    """A second one is said to be ignored, once."""
    span = Span(tmp_path)
    for _ in range(2):
        span.session.count("image", 1)
        span.session.count("token", 500)
    assert span.session.units == {"image": 2.0}
    assert span.session.troubles == ["functional unit 'token' ignored: this run already counts 'image'"]


def test_no_count_of_several_threads_is_lost(tmp_path):
    """4 x 5000 images."""
    span = Span(tmp_path)

    def load():
        for _ in range(5000):
            span.session.count("image", 1)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert span.session.units == {"image": 20_000.0}


@pytest.mark.parametrize("name", [7, None, ("a", 1), ["list"], "pipe|line\n"])
def test_a_phase_may_be_called_anything(tmp_path, name):
    """What is no text becomes text: it breaks neither the sampler's thread nor the journal."""
    span = Span(tmp_path)
    span.tick()
    span.session.phases.enter(name)
    span.clock.advance(1)
    span.session.phases.leave()
    span.session.phases.enter("forward")
    span.tick()
    span.session.phases.leave()
    span.session.count(name, 2)
    span.stop()
    assert span.session.journal.trouble is None
    assert _records(span, "tick")[1]["ph"] == {str(name): 10**9, "forward": 10**9}
    assert span.session.recording is not None
    assert [r.phase for r in span.session.recording.phases().rows] == [
        *sorted([str(name), "forward"]),
        "other",
    ]


def test_a_journal_that_refuses_does_not_end_the_measurement(tmp_path):
    """With the descriptor gone, the figures are the same and the records are in memory."""
    span = Span(tmp_path)
    span.tick()
    assert span.session.journal._fd is not None
    os.close(span.session.journal._fd)
    for _ in range(5):
        span.tick()
    span.session.journal._fd = None
    assert span.series().energy_uj() == 500_000_000
    assert len(_records(span, "tick")) == 6
    assert span.session.journal.trouble == "the journal cannot be written: Bad file descriptor"


def test_only_the_first_troubles_are_kept(tmp_path):
    """A mistake in a loop of millions costs no memory, and does not swell the tag or the journal."""
    span = Span(tmp_path)
    for number in range(100):
        span.session.trouble(f"number {number} " * 100)
    assert len(span.session.troubles) == 20
    assert max(map(len, span.session.troubles)) == 300


def test_troubles_stand_in_the_journal_once_each(tmp_path):
    """For `recover`, which tells them too."""
    span = Span(tmp_path, ConstantPower())
    span.session.trouble("the grid is silent")
    span.session.trouble("the grid is silent")
    span.tick()
    span.stop()
    path = span.kill()
    assert list(journal.read(path).records())[-1]["troubles"] == ["the grid is silent"]


def test_steps_that_nobody_takes_do_not_fill_the_memory(tmp_path):
    """Where earlier figures cannot be read for days, every second step goes; the first and last stay in order."""
    span = Span(tmp_path)
    span.tick(0)
    for step in range(5000):
        span.session.mark(step)
        span.tick()
    _, marks, _ = span.session.take()
    steps = [mark.step for mark in marks]
    assert 1000 <= len(steps) <= 2000
    assert steps == sorted(steps)
    assert steps[-1] >= 4990
    assert span.session.take()[1] == []
