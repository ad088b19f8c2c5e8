"""Settling: which times of a run are open, and what it costs when the actuals have come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.carbon import IntensitySlot, account
from mlflow_carbon.core.series import Cell, EnergySeries
from mlflow_carbon.core.settle import newest, open_spans, settle, with_newer
from tests.fakes import channel, intensity

KWH_UJ = 3_600_000_000_000


def energy(kwh_by_bucket: dict[int, float]) -> EnergySeries:
    """Energy of one channel by bucket of 300 s."""
    return EnergySeries(
        channels=(channel(id="cpu"),),
        duration_ns=3600 * 10**9,
        cells=tuple(
            Cell(channel="cpu", bucket_s=b, energy_uj=round(e * KWH_UJ)) for b, e in kwh_by_bucket.items()
        ),
        covered_ns={"cpu": 3600 * 10**9},
        cases={"cpu": {}},
    )


def slot(
    start_s: int, value: float, kind: str, *, end_s: int = 0, issued_s: float | None = None
) -> IntensitySlot:
    """A slot of 1800 s."""
    return IntensitySlot(
        start_s=start_s,
        end_s=end_s or start_s + 1800,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value,
        high_gco2e_per_kwh=value,
        kind=kind,
        issued_s=issued_s,
    )


RUN = energy({0: 1.0, 300: 1.0, 1800: 2.0, 3600: 1.0})


def test_a_run_is_costed_again_when_actuals_arrive():
    """(1 + 1) x 100 + 2 x 300 + 1 x 200 (annual) = 1000 g; the forecast of 300 comes in at 250: 900 g, PUE 1.5: 1350 g."""
    before = intensity(200, [slot(0, 100, "actual"), slot(1800, 300, "forecast")])
    assert account(RUN, before).emissions_gco2e == pytest.approx(1000)
    assert open_spans(RUN, before) == ((1800, 2100), (3600, 3900))
    found = settle(RUN, before, [slot(1800, 250, "actual")], pue_ratio=1.5)
    assert found.footprint.emissions_gco2e == pytest.approx(1350)
    assert found.footprint.energy_kwh == pytest.approx(5)
    assert (found.replaced, found.open_spans) == (1, ((3600, 3900),))


def test_neighbouring_times_are_one_span():
    """Two buckets of the same slot, and one behind it."""
    assert open_spans(RUN, intensity(200)) == ((0, 600), (1800, 2100), (3600, 3900))


def test_a_settled_run_has_nothing_open():
    """The kind of its footprint is `actual` then."""
    actuals = [slot(t, 100, "actual") for t in (0, 1800, 3600)]
    found = settle(RUN, intensity(200, [slot(0, 90, "estimated")]), actuals)
    assert (found.open_spans, found.replaced) == ((), 3)
    assert found.footprint.intensity_kind == "actual"


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("forecast", "estimated", "new"),
        ("estimated", "actual", "new"),
        ("actual", "actual", "new"),
        ("actual", "estimated", "old"),
        ("actual", "forecast", "old"),
        ("estimated", "forecast", "old"),
        ("forecast", "static", "old"),
    ],
)
def test_certainty_never_falls(old, new, kept):
    """A slot is replaced only by one that is as certain or more."""
    found = with_newer(intensity(1, [slot(0, 10, old)]), [slot(0, 20, new)])
    assert found.slots[0].gco2e_per_kwh == (20 if kept == "new" else 10)


def test_of_two_forecasts_the_one_issued_last_counts():
    """In whatever order they come."""
    early, late = slot(0, 1, "forecast", issued_s=10), slot(0, 2, "forecast", issued_s=20)
    assert newest([late], [early])[0] == newest([early], [late])[0] == late


def test_a_slot_that_overlaps_another_is_left_out():
    """Slots of another length do not break the series."""
    before = intensity(1, [slot(0, 10, "actual"), slot(1800, 20, "forecast")])
    found = with_newer(before, [slot(900, 99, "actual", end_s=2700)])
    assert [s.start_s for s in found.slots] == [0, 1800]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(1, 900), st.sampled_from(["forecast", "estimated", "actual"])),
        max_size=12,
    ),
    st.lists(st.tuples(st.integers(0, 5), st.floats(1, 900)), max_size=12),
)
def test_settling_twice_changes_nothing(first, later):
    """The same actuals again give the same figures, and open times only shrink."""
    slots = newest([], [slot(1800 * i, v, kind) for i, v, kind in first])
    before = intensity(200, [slots[t] for t in sorted(slots)])
    actuals = [slot(1800 * i, v, "actual") for i, v in dict(later).items()]
    once = settle(RUN, before, actuals)
    twice = settle(RUN, once.intensity, actuals)
    assert twice.footprint == once.footprint
    assert twice.replaced == 0
    assert len(once.open_spans) <= len(open_spans(RUN, before))
