"""Energy by channel and bucket as it grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.cells import Cell, CellBook, Cells
from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.series import Sample
from tests.fakes import channel

S = 10**9
BOOKED = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 40).map(lambda n: n * 300), st.integers(0, 10**12))
)


def _sums(booked):
    sums: dict[tuple[str, int], int] = {}
    for name, at_s, uj in booked:
        sums[name, at_s] = sums.get((name, at_s), 0) + uj
    return sums


@given(BOOKED, st.integers(0, 100))
def test_what_was_held_stays_what_it_was(booked, cut):
    """Whatever comes later, and in whatever order of time, a moment holds what was booked before it."""
    book = CellBook()
    for entry in booked[:cut]:
        book.add(*entry)
    moment = book.cells()
    for entry in booked[cut:]:
        book.add(*entry)
    for cells, entries in ((moment, booked[:cut]), (book.cells(), booked)):
        assert {(c.channel, c.bucket_s): c.energy_uj for c in cells} == _sums(entries)
        assert list(cells) == sorted(cells, key=lambda c: (c.channel, c.bucket_s))
        assert sum(cells.totals_uj.values()) == sum(uj for *_, uj in entries)
        assert sum(c.energy_uj for c in (*cells.closed(), *cells.open)) == sum(uj for *_, uj in entries)


def test_cells_at_hand_are_cells_too():
    """A cell given twice is their sum."""
    one, two = (Cell(channel="a", bucket_s=300 * n, energy_uj=n) for n in (1, 2))
    cells = Cells.of([two, one, two])
    assert list(cells) == [one, Cell(channel="a", bucket_s=600, energy_uj=4)]
    assert (len(cells), one in cells, two in cells) == (2, True, False)
    assert cells.totals_uj == {"a": 5}


def test_a_moment_of_a_long_run_holds_a_few_cells():
    """After two days of 10 channels at most three open cells a channel are copied; the rest is shared."""
    names = [f"c{n}" for n in range(10)]
    ledger = Ledger([channel(id=name) for name in names], start_ns=0, wall_offset_ns=0)
    most, logs = 0, set[int]()
    for t_s in range(0, 2 * 86_400, 60):
        for name in names:
            ledger.add(Sample(channel=name, t_mono_ns=t_s * S, energy_uj=t_s * 10**6))
        cells = ledger.series(t_s * S).book()
        most, logs = max(most, len(cells.open)), logs | {id(cells.log)}
    assert most <= 30
    assert len(logs) == 1
    assert len(cells) == 10 * 2 * 288
    assert cells.count <= 2 * len(cells)
