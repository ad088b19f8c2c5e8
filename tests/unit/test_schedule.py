"""The decision to start, by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.core.schedule import decide

amounts = st.floats(0, 1000)


def slot(value: float, kind: str) -> IntensitySlot:
    """Half an hour at one intensity."""
    return IntensitySlot(
        start_s=0,
        end_s=1800,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value,
        high_gco2e_per_kwh=value,
        kind=kind,
    )


@pytest.mark.parametrize(
    ("value", "kind", "waited_s", "start", "word"),
    [
        (300.0, "actual", 0, True, "within the threshold of 300"),
        (300.1, "forecast", 0, False, "above the threshold of 300"),
        (450.0, "actual", 599, False, "above"),
        (450.0, "actual", 600, True, "longest wait of 600 s is over"),
        (450.0, "static", 0, True, "does not say when"),
        (100.0, "static", 0, True, "does not say when"),
    ],
)
def test_worked_cases(value, kind, waited_s, start, word):
    """At most 300 g and at most 600 s; equal to the threshold is clean enough."""
    decision = decide(slot(value, kind), threshold_gco2e_per_kwh=300, waited_s=waited_s, max_wait_s=600)
    assert decision.start is start
    assert word in decision.reason
    assert f"({kind})" in decision.reason


@given(amounts, amounts, amounts, amounts)
def test_waiting_needs_all_three_conditions(value, threshold, waited_s, max_wait_s):
    """Only a live figure above the threshold with patience left makes anybody wait."""
    args = {"threshold_gco2e_per_kwh": threshold, "waited_s": waited_s, "max_wait_s": max_wait_s}
    assert decide(slot(value, "actual"), **args).start is not (value > threshold and waited_s < max_wait_s)
    assert decide(slot(value, "static"), **args).start


@given(amounts, amounts, amounts, amounts, amounts)
def test_a_higher_threshold_never_waits_longer(value, low, more, waited_s, max_wait_s):
    """What starts under a strict threshold starts under a loose one."""
    strict, loose = (
        decide(slot(value, "forecast"), threshold_gco2e_per_kwh=t, waited_s=waited_s, max_wait_s=max_wait_s)
        for t in (low, low + more)
    )
    assert loose.start or not strict.start
