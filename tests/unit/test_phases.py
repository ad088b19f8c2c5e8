"""Energy of phases: read alone, shared out by power or by time, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.phases import OTHER, PhaseBook
from mlflow_carbon.core.series import Case, Component, Interval, Kind
from mlflow_carbon.testing import fake_channel

S = 10**9
COUNTER = fake_channel()
ONLY = {name: [(name, 200_000, 0)] for name in ("forward", "backward", "load")}


class Life:
    """A book that is told one reading after the other."""

    def __init__(self, *channels):
        self.book = PhaseBook(channels or [COUNTER])
        self.now_ns = 0
        self.book.add([], {}, duration_ns=0, tail=[])

    def reading(self, energy_j, phases_s, tail=None, *, duration_s=1.0, channel=COUNTER):
        """A reading after so many seconds, with the seconds of each phase in it and the phases just before it."""
        before_ns, self.now_ns = self.now_ns, self.now_ns + round(duration_s * S)
        part = Interval(
            channel=channel.id,
            start_ns=before_ns,
            end_ns=self.now_ns,
            energy_uj=None if energy_j is None else round(1e6 * energy_j),
            case=Case.GAP if energy_j is None else Case.NORMAL,
        )
        phases_ns = {name: round(s * S) for name, s in phases_s.items()}
        self.book.add([part], phases_ns, duration_ns=round(duration_s * S), tail=tail)

    def rows(self):
        """The table by name."""
        return {row.phase: row for row in self.book.table().rows}


def test_a_reading_inside_one_phase_counts_as_it_is():
    """Readings of 1 s: forward alone for 3 of them, 300 J, and a moment of 0.5 s in one that 40 J share by time.

    The first reading has no phase before it, so it is shared: 100 J, all of the time forward's.
    """
    life = Life()
    life.reading(100, {"forward": 1.0}, ONLY["forward"])
    for _ in range(3):
        life.reading(100, {"forward": 1.0}, ONLY["forward"])
    life.reading(40, {"forward": 0.5}, [])
    rows = life.rows()
    assert rows["forward"].energy_j == 420
    assert rows["forward"].confidence == "exact"
    assert rows["forward"].energy_error_j == pytest.approx(120 / 3**0.5, abs=1e-6)  # nothing to twice as much
    assert (rows[OTHER].energy_j, rows[OTHER].time_s, rows[OTHER].confidence) == (20, 0.5, "low")


def test_what_was_on_before_a_reading_may_still_be_in_it():
    """A meter lags: a second of forward after a moment of loading is not forward's alone."""
    life = Life()
    life.reading(100, {"load": 1.0}, ONLY["load"])
    life.reading(100, {"forward": 1.0}, ONLY["forward"])
    assert life.rows()["forward"].confidence == "low"


def test_two_powers_are_found_from_mixtures():
    """Seconds of 20, 30, 40 ... % forward at 300 W, the rest backward at 100 W: no reading has one alone."""
    life = Life()
    before = 0.5
    for number in range(60):
        part = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)[number % 7]
        life.reading(300 * part + 100 * (1 - part), {"forward": part, "backward": 1 - part}, ONLY["forward"])
        before += part
    rows = life.rows()
    forward_s = before - 0.5
    assert rows["forward"].energy_j == pytest.approx(300 * forward_s, rel=1e-6)
    assert rows["backward"].energy_j == pytest.approx(100 * (60 - forward_s), rel=1e-6)
    assert {rows[name].confidence for name in ("forward", "backward")} == {"fitted"}
    assert rows["forward"].energy_ratio == pytest.approx(
        300 * forward_s / (300 * forward_s + 100 * (60 - forward_s))
    )


def test_phases_that_never_come_apart_are_shared_by_time():
    """Every second 0.6 s of one and 0.4 s of the other: no power can be told, so 6000 J are 3600 and 2400, low."""
    life = Life()
    for _ in range(60):
        life.reading(100, {"forward": 0.6, "backward": 0.4}, ONLY["backward"])
    rows = life.rows()
    assert (rows["forward"].energy_j, rows["backward"].energy_j) == (3600, 2400)
    assert {row.confidence for row in rows.values()} == {"low"}


def test_a_power_read_at_moments_is_not_fitted():
    """The trapezoid of two powers knows nothing of the time between them, however many there are."""
    gauge = replace(COUNTER, kind=Kind.GAUGE)
    life = Life(gauge)
    for number in range(60):
        part = 0.2 + 0.1 * (number % 7)
        life.reading(300 * part + 100 * (1 - part), {"forward": part, "backward": 1 - part}, ONLY["forward"])
    assert {row.confidence for row in life.rows().values()} == {"low"}


def test_without_phases_there_is_no_table():
    """A run that marks nothing gets no row `other` either."""
    life = Life()
    life.reading(5, {}, [])
    assert life.book.table().rows == ()


def test_few_readings_are_shared_out_by_time():
    """10 s at 100 J: forward 6 s = 60 J, backward 3 s = 30 J, and 1 s = 10 J of neither; dearest first."""
    life = Life()
    life.reading(100, {"backward": 3.0, "forward": 6.0}, duration_s=10.0)
    assert [
        (r.phase, r.time_s, r.energy_j, r.energy_ratio, r.confidence) for r in life.book.table().rows
    ] == [
        ("forward", 6, 60, 0.6, "low"),
        ("backward", 3, 30, 0.3, "low"),
        (OTHER, 1, 10, 0.1, "low"),
    ]


def test_phases_of_several_threads_share_the_energy():
    """Two threads that both loaded for the whole second: 2 s of phases in 1 s get 1 J between them, none is left."""
    life = Life()
    life.reading(1, {"load": 1.0, "train": 1.0})
    rows = life.rows()
    assert rows["load"].energy_j == rows["train"].energy_j == 0.5
    assert (rows[OTHER].energy_j, rows[OTHER].time_s) == (0, 0)


def test_a_phase_named_other_is_part_of_the_rest():
    """There is one row of a name, and it holds both."""
    life = Life()
    life.reading(10, {"other": 2.0, "forward": 5.0}, duration_s=10.0)
    assert [(r.phase, r.time_s, r.energy_j) for r in life.book.table().rows] == [
        ("forward", 5, 5),
        (OTHER, 5, 5),
    ]


def test_a_phase_without_energy_has_a_share_of_nothing():
    """Time was spent, energy was not read: 0 J and a ratio of 0, not a division by zero."""
    life = Life()
    life.reading(0, {"forward": 1.0})
    assert life.rows()["forward"].as_dict() == {
        "phase": "forward",
        "time_s": 1.0,
        "energy_j": 0.0,
        "energy_error_j": 0.0,
        "energy_error_ratio": None,
        "energy_ratio": 0.0,
        "entries": 0,
        "confidence": "low",
    }


def test_phases_without_number_share_what_is_left():
    """A name for each step: the first twelve have powers of their own, the others share the rest by time."""
    life = Life()
    for number in range(40):
        life.reading(10, {f"step {number}": 1.0}, [(f"step {number}", 200_000, 0)])
    rows = life.book.table().rows
    assert len(rows) == 41
    assert sum(row.energy_j for row in rows) == pytest.approx(400)
    assert {row.energy_j for row in rows if row.phase in ("step 12", "step 39")} == {10}
    assert {row.confidence for row in rows if row.phase in ("step 12", "step 39")} == {"low"}


def test_a_counter_that_has_not_moved_is_waited_for():
    """A slow counter tells every second time; its energy belongs to the phases of both readings."""
    life = Life()
    for number in range(1, 41):
        names = ("forward", "backward") if number % 4 < 2 else ("backward", "backward")
        life.book.add([], {names[0]: S}, duration_ns=S, tail=[])
        energy_uj = 10**6 * sum(300 if name == "forward" else 100 for name in names)
        part = Interval(
            channel=COUNTER.id, start_ns=life.now_ns, end_ns=life.now_ns + 2 * S, energy_uj=energy_uj, case=Case.NORMAL
        )  # fmt: skip
        life.now_ns += 2 * S
        life.book.add([part], {names[1]: S}, duration_ns=S, tail=[])
    rows = life.rows()
    assert rows["forward"].time_s == 20
    assert rows["forward"].energy_j == pytest.approx(6000, rel=0.03)
    assert rows["forward"].confidence == "fitted"


def test_a_dead_channel_does_not_hold_up_the_others():
    """Two GPUs, one falls silent for good: after a while the other's readings count as they come."""
    second = fake_channel("1")
    life = Life(COUNTER, second)
    for _ in range(40):
        life.reading(100, {"forward": 1.0}, ONLY["forward"])
    row = life.rows()["forward"]
    assert row.confidence == "exact"
    assert row.energy_j == 4000


def test_the_last_reading_of_one_channel_counts_though_another_has_not_told():
    """Two GPUs told twice, then only the first: its 50 J belong to the run's table, too."""
    second = fake_channel("1")
    life = Life(COUNTER, second)
    for channels in ((COUNTER, second), (COUNTER, second), (COUNTER,)):
        start_ns, life.now_ns = life.now_ns, life.now_ns + S
        parts = [
            Interval(
                channel=c.id, start_ns=start_ns, end_ns=life.now_ns, energy_uj=50_000_000, case=Case.NORMAL
            )
            for c in channels
        ]
        life.book.add(parts, {"forward": S}, duration_ns=S, tail=ONLY["forward"])
    assert life.rows()["forward"].energy_j == 250
    assert life.rows()["forward"].energy_j == 250  # asking changes nothing


def test_a_gap_is_no_energy():
    """An interval without energy ends what went before and adds nothing."""
    life = Life()
    for energy_j in (100, None, 100):
        life.reading(energy_j, {"forward": 1.0}, ONLY["forward"])
    assert life.rows()["forward"].energy_j == 200


def test_each_kind_of_meter_has_a_lag_of_its_own():
    """Two sensors whose readings are alike are fitted apart, and the rows hold the sum of both."""
    cpu = replace(COUNTER, id="cpu", sensor="rapl", component=Component.CPU)
    life = Life(COUNTER, cpu)
    for number in range(60):
        part = 0.2 + 0.1 * (number % 7)
        start_ns, life.now_ns = life.now_ns, life.now_ns + S
        parts = [
            Interval(
                channel=c.id, start_ns=start_ns, end_ns=life.now_ns, energy_uj=round(uj), case=Case.NORMAL
            )
            for c, uj in ((COUNTER, 1e6 * (100 + 200 * part)), (cpu, 1e6 * (80 - 60 * part)))
        ]
        phases_ns = {"forward": round(part * S), "backward": round((1 - part) * S)}
        life.book.add(parts, phases_ns, duration_ns=S, tail=ONLY["forward"])
    table = life.book.table()
    assert set(table.lags_s) == {"fake", "rapl"}
    power_w = {r.phase: r.energy_j / r.time_s for r in table.rows if r.time_s}
    assert power_w == pytest.approx({"forward": 320, "backward": 180}, rel=1e-6)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["a", "b", "c", "other"]), st.floats(0, 5), max_size=4),
            st.none() | st.integers(0, 10**4),
            st.floats(0.001, 5),
            st.none()
            | st.lists(
                st.tuples(st.sampled_from("ab"), st.integers(100, 200_000), st.integers(0, 100)), max_size=3
            ),
        ),
        max_size=40,
    )
)
def test_phases_and_other_add_up_to_the_run(readings):
    """However the marks fall, the rows hold the energy of the run to the microjoule, and none is negative."""
    life = Life()
    for phases_s, energy_j, duration_s, tail in readings:
        life.reading(energy_j, phases_s, tail, duration_s=duration_s)
    rows = life.book.table().rows
    if rows:
        total_j = sum(energy_j or 0 for _, energy_j, _, _ in readings)
        assert sum(round(r.energy_j * 1e6) for r in rows) == total_j * 10**6
        assert all(r.energy_j >= 0 and r.time_s >= 0 and r.energy_error_j >= 0 for r in rows)
        assert len({r.phase for r in rows}) == len(rows)
        assert sum(r.energy_ratio for r in rows) == pytest.approx(1 if total_j else 0)
        assert {r.confidence for r in rows} <= {"exact", "fitted", "low"}
