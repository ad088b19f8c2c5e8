"""What a growing span costs, cell by cell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.bill import Bill
from mlflow_carbon.core.carbon import IntensitySlot, account, spent
from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.series import Component, Sample
from tests.fakes import channel, intensity

S = 10**9
KWH_UJ = 3_600_000_000_000
HOURS = 48


def _slots(value, hours=HOURS):
    return [
        IntensitySlot(
            start_s=1800 * n,
            end_s=1800 * (n + 1),
            gco2e_per_kwh=value + n,
            low_gco2e_per_kwh=value,
            high_gco2e_per_kwh=value + 2 * n,
            kind="actual" if n % 2 else "forecast",
        )
        for n in range(2 * hours)
    ]


class _Asked:
    """An intensity that counts how often it is asked."""

    def __init__(self, series):
        self.series, self.count = series, 0

    def at(self, t_s):
        self.count += 1
        return self.series.at(t_s)


def _moments(readings_j, every_s=150):
    """The series after each reading of two channels, the second of which reports to nobody."""
    ledger = Ledger([channel(), channel(id="wall", component=Component.NODE)], start_ns=0, wall_offset_ns=0)
    total_uj, found = 0, []
    for number, joules in enumerate([0, *readings_j]):
        total_uj += joules * 10**6
        for name in ("fake:cpu", "wall"):
            ledger.add(Sample(channel=name, t_mono_ns=number * every_s * S, energy_uj=total_uj))
        found.append(ledger.series(number * every_s * S))
    return found


def test_a_growing_span_by_hand():
    """1 kWh each half hour at 100, 101 and 102 g/kWh with a PUE of 2: 200, 402 and 606 g so far."""
    moments = _moments([3_600_000] * 3, every_s=1800)
    bill = Bill(intensity(slots=_slots(100)), 2.0)
    assert [bill.of(m).grams for m in moments] == pytest.approx([0, 200, 402, 606])
    assert spent(moments[2], bill) == pytest.approx((2, 402))
    assert spent(moments[0], bill) == (None, None)


def test_a_cell_is_costed_once():
    """A day of readings at 2.5 minutes: each of 576 questions asks for the few open cells and what was closed since."""
    moments = _moments([1000] * 576)
    grid = _Asked(intensity(slots=_slots(100)))
    bill = Bill(grid)  # type: ignore[arg-type]
    most = 0
    for moment in moments:
        before = grid.count
        bill.of(moment)
        most = max(most, grid.count - before)
    assert most <= 6
    assert grid.count <= 5 * len(moments)


@given(st.lists(st.integers(0, 10**9), max_size=60), st.data())
def test_asking_in_between_changes_nothing(readings_j, data):
    """The cost of any moment, in any order of asking, is to the last bit that of one who asks for the first time."""
    moments = _moments(readings_j)
    grid = intensity(slots=_slots(100, hours=1))
    bill = Bill(grid, 1.3)
    for moment in data.draw(st.lists(st.sampled_from(moments), max_size=20)):
        assert bill.of(moment) == Bill(grid, 1.3).of(moment)
        assert account(moment, grid, pue_ratio=1.3, bill=bill) == account(moment, grid, pue_ratio=1.3)


def test_what_is_learnt_of_old_hours_changes_them():
    """Once a live service tells of the past, another bill costs it anew: 1 kWh at 200, then at 300 g/kWh."""
    moment = _moments([3_600_000], every_s=1800)[-1]
    before, after = intensity(200), intensity(200, slots=_slots(300))
    assert Bill(before).of(moment).grams == pytest.approx(200)
    assert Bill(after).of(moment).grams == pytest.approx(300)
    assert Bill(after).of(moment).kinds == {"forecast"}


def test_another_span_is_another_sum():
    """A bill that is asked about a second span forgets the first."""
    first, second = (_moments([joules] * 100)[-1] for joules in (3_600_000, 36_000))
    bill = Bill(intensity(200))
    assert bill.of(first).grams == pytest.approx(100 * 200)
    assert bill.of(second).grams == pytest.approx(200)


def test_a_bill_knows_its_price():
    """Another figure of the same hours is another price, and so is another PUE."""
    grid, same = intensity(200), intensity(200)
    bill = Bill(grid, 1.5)
    assert bill.is_of(grid, 1.5)
    assert not bill.is_of(same, 1.5)
    assert not bill.is_of(grid, 1.0)


def test_two_threads_may_ask_one_bill():
    """One that publishes and one that wants to know now: both hear what one alone would have."""
    moments = _moments([1000 + n % 7 for n in range(2000)])
    grid = intensity(slots=_slots(100, hours=90))
    expected = Bill(grid).of(moments[-1])
    bill = Bill(grid)
    with ThreadPoolExecutor(4) as pool:
        for found in [list(pool.map(bill.of, moments)) for _ in range(2)]:
            assert found[-1] == expected
            assert all(a.grams <= b.grams for a, b in pairwise(found))
