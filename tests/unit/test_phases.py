"""Energy of phases: shared out by time, with nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.phases import OTHER, PhaseBook
from mlflow_carbon.core.units import uj_to_j

S = 10**9


def _rows(book, period_s=1.0):
    return {row.phase: row for row in book.rows(period_s)}


def test_energy_is_shared_out_by_time():
    """10 s at 100 J: forward 6 s = 60 J, backward 3 s = 30 J, and 1 s = 10 J of neither; dearest first."""
    book = PhaseBook()
    book.add({"backward": 3 * S, "forward": 6 * S}, energy_uj=100_000_000, duration_ns=10 * S)
    rows = book.rows(1.0)
    assert [(r.phase, r.time_s, r.energy_j, r.energy_ratio) for r in rows] == [
        ("forward", 6, 60, 0.6),
        ("backward", 3, 30, 0.3),
        (OTHER, 1, 10, 0.1),
    ]


def test_without_phases_there_is_no_table():
    """A run that marks nothing gets no row `other` either."""
    book = PhaseBook()
    book.add({}, energy_uj=5, duration_ns=5)
    assert book.rows(1.0) == ()


def test_phases_of_several_threads_share_the_energy():
    """Two threads that both loaded for the whole second: 2 s of phases in 1 s get 1 J between them, none is left."""
    book = PhaseBook()
    book.add({"load": S, "train": S}, energy_uj=1_000_000, duration_ns=S)
    rows = _rows(book)
    assert rows["load"].energy_j == rows["train"].energy_j == 0.5
    assert (rows[OTHER].energy_j, rows[OTHER].time_s) == (0, 0)


def test_nested_phases_come_as_own_times():
    """An epoch of 4 s with 3 s of evaluation inside is 1 s and 3 s: of 8 J, 2 J and 6 J."""
    book = PhaseBook()
    book.add({"epoch": 1 * S, "evaluate": 3 * S}, energy_uj=8_000_000, duration_ns=4 * S)
    rows = _rows(book)
    assert (rows["epoch"].energy_j, rows["evaluate"].energy_j, rows[OTHER].energy_j) == (2, 6, 0)


@pytest.mark.parametrize(
    ("entries", "confidence"), [(1, "fair"), (2, "fair"), (3, "low"), (0, "low")]
)  # 6 s in 1, 2 or 3 stays against 3 readings of 1 s
def test_short_stays_have_low_confidence(entries, confidence):
    """A stay of less than three reading intervals is shared out, but only a guess."""
    book = PhaseBook()
    book.add({"forward": 6 * S}, energy_uj=1, duration_ns=10 * S)
    book.count({"forward": entries})
    assert _rows(book)["forward"].confidence == confidence
    assert _rows(book)["forward"].entries == entries
    assert _rows(book)[OTHER].confidence == "low"


def test_a_phase_named_other_is_part_of_the_rest():
    """There is one row of a name, and it holds both."""
    book = PhaseBook()
    book.add({"other": 2 * S, "forward": 5 * S}, energy_uj=10_000_000, duration_ns=10 * S)
    assert [(r.phase, r.time_s, r.energy_j) for r in book.rows(1.0)] == [("forward", 5, 5), (OTHER, 5, 5)]


def test_a_phase_without_energy_has_a_share_of_nothing():
    """Time was spent, energy was not read: 0 J and a ratio of 0, not a division by zero."""
    book = PhaseBook()
    book.add({"forward": S}, energy_uj=0, duration_ns=S)
    row = _rows(book)["forward"]
    assert row.as_dict() == {
        "phase": "forward",
        "time_s": 1.0,
        "energy_j": 0.0,
        "energy_ratio": 0.0,
        "entries": 0,
        "confidence": "low",
    }


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["a", "b", "c", "other"]), st.integers(0, 5 * S), max_size=4),
            st.integers(0, 10**10),
            st.integers(0, 5 * S),
        ),
        max_size=15,
    )
)
def test_phases_and_other_add_up_to_the_run(intervals):
    """However the marks fall, the rows hold the energy of the run, and none is negative."""
    book = PhaseBook()
    for phases_ns, energy_uj, duration_ns in intervals:
        book.add(phases_ns, energy_uj=energy_uj, duration_ns=duration_ns)
    rows = book.rows(1.0)
    if rows:
        assert sum(round(r.energy_j * 1e6) for r in rows) == sum(e for _, e, _ in intervals)
        assert all(r.energy_j >= 0 and r.time_s >= 0 for r in rows)
        assert len({r.phase for r in rows}) == len(rows)
        total_j = uj_to_j(sum(e for _, e, _ in intervals))
        assert sum(r.energy_ratio for r in rows) == pytest.approx(1 if total_j else 0)
