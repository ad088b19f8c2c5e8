"""One span as a fold over its ticks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.core.recording import Recording, point_period_s
from mlflow_carbon.core.series import Component, Sample, Tick
from tests.fakes import channel

S = 10**9
WEEK_S = 7 * 24 * 3600


def _tick(t_s, energy_j=None, *, seq=0, error=None, name="fake:cpu", wall_s=1000):
    t_ns = round(t_s * S)
    energy_uj = None if energy_j is None else round(energy_j * 1e6)
    sample = Sample(channel=name, t_mono_ns=t_ns, energy_uj=energy_uj, error=error)
    return Tick(seq=seq, t_mono_ns=t_ns, t_wall_ns=t_ns + wall_s * S, samples=(sample,))


def _recording(start_s=0.0, *channels):
    return Recording(channels or (channel(),), start_ns=round(start_s * S), wall_offset_ns=1000 * S)


def test_points_are_due_every_five_then_every_ten_seconds():
    """5 s for ten minutes, then 10 s, read at 1 Hz."""
    recording = _recording()
    due = [s.elapsed_s for t in range(640) if (s := recording.add(_tick(t, 100 * t))[0])]
    assert due == [*range(5, 600, 5), *range(600, 640, 10)]


def test_energy_after_a_suspend_is_booked_when_it_was_used():
    """The machine sleeps for an hour between the readings at 1 and 2 s: the monotonic clock stands, UTC goes on.

    100 J before it lie in the bucket of 900 s, the 100 J of the interval with the sleep and 100 J more in that of 4500 s.
    """
    recording = _recording()
    for t_s, wall_s in ((0, 1000), (1, 1000), (2, 4600), (3, 4600)):
        recording.add(_tick(t_s, 100 * t_s, wall_s=wall_s))
    cells = {cell.bucket_s: cell.energy_uj / 1e6 for cell in recording.series().cells}
    assert cells == {900: 100, 4500: 200}
    assert recording.last_wall_ns == 4603 * S


def test_points_that_come_late_do_not_shift_the_next_ones():
    """A tick at 7.3 s gives the point of 5 s; the next is due at 10 s again."""
    recording = _recording()
    due = [s.elapsed_s for t in (4.9, 7.3, 9.9, 10.1, 14.9, 22.0, 24.9, 25.0) if (s := recording.add(_tick(t, t))[0])]  # fmt: skip
    assert due == [7, 10, 22, 25]


@pytest.mark.parametrize(
    ("elapsed_s", "period_s"),
    [(0, 5), (599.9, 5), (600, 10), (19_399, 10), (19_400, 20), (38_799, 20), (38_800, 40), (77_600, 80)],
)
def test_the_period_doubles_beyond_two_thousand_points(elapsed_s, period_s):
    """120 points in 600 s and 1880 more to 19 400 s; from there on each doubling of time doubles the period."""
    assert point_period_s(elapsed_s) == period_s


def test_a_week_makes_a_few_thousand_points():
    """2000 points to 19 400 s, then 970 for each doubling: 2000 + 970 x 4 and 925 of the fifth are 6805."""
    recording = Recording((), start_ns=0, wall_offset_ns=0)
    points = sum(recording.add(_tick(t))[0] is not None for t in range(0, WEEK_S, 5))
    assert points == pytest.approx(6805, abs=10)


def test_a_snapshot_knows_time_energy_and_the_one_before():
    """From 2 s at 50 W: 250 J up to 7 s with the first reading at 2 s, 500 J up to 12 s."""
    recording = _recording(2)
    found = [s for t in range(2, 13) if (s := recording.add(_tick(t, 50 * t))[0])]
    assert [(s.elapsed_s, s.t_ns / S, s.t_wall_ns / S) for s in found] == [(5, 7, 1007), (10, 12, 1012)]
    assert [s.series.energy_uj() for s in found] == [250_000_000, 500_000_000]
    assert found[0].before is None
    assert found[1].before == found[0].series
    last = recording.close(round(12.5 * S))
    assert (last.elapsed_s, last.before) == (10, found[1].series)
    assert last.series.duration_ns == round(10.5 * S)


def test_steps_lie_between_the_readings_around_them():
    """Marks at 1.25 and 1.5 s between readings at 1 and 2 s lie at a quarter and a half of the way."""
    recording = _recording()
    recording.add(_tick(0, 0))
    recording.add(_tick(1, 100))
    recording.mark(round(1.25 * S), 7)
    recording.mark(round(1.5 * S), 8)
    _, marks = recording.add(_tick(2, 200))
    assert [(m.step, m.ratio, m.t_wall_ns / S) for m in marks] == [(7, 0.25, 1001.25), (8, 0.5, 1001.5)]
    assert [(m.before.energy_uj(), m.after.energy_uj()) for m in marks] == [(100_000_000, 200_000_000)] * 2
    assert recording.add(_tick(3, 300))[1] == []


def test_a_mark_outside_its_interval_stays_at_its_edge():
    """A mark that reaches the fold a moment late or early is not extrapolated."""
    recording = _recording()
    recording.add(_tick(1, 0))
    recording.mark(round(0.9 * S), 1)
    recording.mark(round(2.1 * S), 2)
    _, marks = recording.add(_tick(2, 100))
    assert [m.ratio for m in marks] == [0.0, 1.0]


def test_a_mark_before_the_first_reading_is_kept():
    """It is resolved by the first reading, with no energy yet."""
    recording = _recording()
    recording.mark(round(0.5 * S), 0)
    (mark,) = recording.add(_tick(1, 0))[1]
    assert (mark.step, mark.ratio, mark.before.energy_uj()) == (0, 0.5, 0)


def test_the_last_tick_counts_up_to_the_end_only():
    """A run that ends at 1.5 s with readings at 1 and 2 s of 10 W holds 5 J of the second interval."""
    recording = _recording()
    for t in (0, 1):
        recording.add(_tick(t, 10 * t))
    recording.mark(round(1.75 * S), 3)
    _, (mark,) = recording.add(_tick(2, 20), {"forward": S // 2}, end_ns=round(1.5 * S))
    assert recording.series(round(1.5 * S)).energy_uj() == 15_000_000
    assert recording.last_ns == round(1.5 * S)
    assert mark.ratio == 1.0
    assert [(r.phase, r.time_s, r.energy_j) for r in recording.phases().rows] == [
        ("forward", 0.5, 5.0),
        ("other", 1.0, 10.0),
    ]


def test_failed_reads_are_counted_for_the_channels_that_count():
    """A channel that a sensor reads besides is neither energy nor a finding."""
    recording = _recording()
    recording.add(_tick(0, error="no answer"))
    recording.add(_tick(1, error="no answer"))
    recording.add(_tick(2, error="no answer", name="spare"))
    recording.add(_tick(3, 5, name="spare"))
    assert recording.errors == {"fake:cpu": 2}
    assert recording.ticks == 4
    assert recording.series().energy_uj() == 0


def test_a_meter_of_the_whole_machine_adds_nothing_to_phases():
    """Phases share out the energy of the parts."""
    recording = _recording(0, channel(component=Component.NODE))
    for t in range(3):
        recording.add(_tick(t, 100 * t), {"forward": S})
    assert sum(r.energy_j for r in recording.phases().rows) == 0


def test_phases_know_how_often_they_were_entered():
    """The count of the clock, not one per reading."""
    recording = _recording()
    alone = [("forward", 200_000, 0)]
    recording.add(_tick(0, 0), tail=alone)
    recording.add(_tick(8, 80), {"forward": 8 * S}, tail=alone)
    recording.count_entries({"forward": 2})
    row = recording.phases().rows[0]
    assert (row.entries, row.confidence, row.energy_j) == (2, "exact", 80)


@st.composite
def _script(draw):
    """Ticks, marks and phases of a short run in any order of length."""
    t_ns, energy_uj, script = 0, 0, []
    for seq in range(draw(st.integers(1, 30))):
        t_ns += draw(st.integers(1, 4 * S))
        energy_uj += draw(st.integers(0, 10**9))
        if draw(st.booleans()):
            script.append(("mark", t_ns - draw(st.integers(0, S)), seq))
        sample = Sample(channel="fake:cpu", t_mono_ns=t_ns, energy_uj=energy_uj)
        phases = draw(st.dictionaries(st.sampled_from("ab"), st.integers(1, 4 * S), max_size=2))
        script.append(("tick", Tick(seq=seq, t_mono_ns=t_ns, t_wall_ns=t_ns, samples=(sample,)), phases))
    return script


def _fold(script):
    recording, snapshots, marks = _recording(), [], []
    for kind, first, second in script:
        if kind == "mark":
            recording.mark(first, second)
        else:
            snapshot, resolved = recording.add(first, second)
            snapshots.append(snapshot)
            marks += resolved
    return snapshots, marks, recording.phases().rows, recording.close(recording.last_ns)


@settings(max_examples=50)
@given(_script(), st.integers(0, 60))
def test_the_same_ticks_give_the_same_figures(script, cut):
    """A span that was cut off has the snapshots and steps of the whole up to the cut."""
    snapshots, marks, *_ = _fold(script)
    cut_snapshots, cut_marks, *_ = _fold(script[:cut])
    assert cut_snapshots == snapshots[: len(cut_snapshots)]
    assert cut_marks == marks[: len(cut_marks)]
    assert len(cut_snapshots) == sum(kind == "tick" for kind, *_ in script[:cut])


@settings(max_examples=50)
@given(_script())
def test_phases_hold_the_energy_of_the_run(script):
    """With `other`, the phase table accounts for every microjoule of the recording."""
    _, _, rows, last = _fold(script)
    if rows:
        assert sum(round(r.energy_j * 1e6) for r in rows) == last.series.energy_uj()
