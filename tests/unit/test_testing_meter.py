"""What a simulated meter shows of a waveform."""

from __future__ import annotations

import pytest

from mlflow_carbon.testing import Fault, FaultKind, Meter, constant, step


@pytest.mark.parametrize(
    ("meter", "t_s", "shown"),
    [
        (Meter(truth=constant(100.0)), 2.5, 250_000_000),
        (Meter(truth=constant(100.0), first_uj=7), 0.0, 7),
        # It refreshes each 100 ms, so at 0.27 s it still shows 0.2 s.
        (Meter(truth=constant(100.0), refresh_s=0.1), 0.27, 20_000_000),
        (Meter(truth=constant(0.1), quantum_uj=1000), 0.0156, 1000),
        # 250 J into a counter that holds 100 J.
        (Meter(truth=constant(100.0), range_uj=100_000_000), 2.5, 50_000_000),
        (Meter(truth=constant(100.0), faults=(Fault(kind=FaultKind.FROZEN, start_s=1.0),)), 9.0, 100_000_000),
        (
            Meter(truth=constant(100.0), first_uj=5, faults=(Fault(kind=FaultKind.RESET, start_s=2.0),)),
            2.5,
            50_000_000,
        ),
    ],
)
def test_counter_shows(meter, t_s, shown):
    """The counter refreshes, rounds down, wraps, freezes and begins again."""
    assert meter.counter_uj(t_s) == shown


@pytest.mark.parametrize(
    ("meter", "t_s", "shown"),
    [
        (Meter(truth=step(before_w=100.0, after_w=300.0, at_s=1.0)), 1.0, 300_000),
        (Meter(truth=step(before_w=100.0, after_w=300.0, at_s=1.0), refresh_s=0.4), 1.1, 100_000),
        # The last second is a quarter high: 150 W.
        (Meter(truth=step(before_w=100.0, after_w=300.0, at_s=1.0), window_s=1.0), 1.25, 150_000),
    ],
)
def test_power_shows(meter, t_s, shown):
    """The power is instantaneous or a running mean, and refreshes."""
    assert meter.power_mw(t_s) == shown


def test_a_fault_lasts_as_long_as_it_says():
    """A fault is at work from its start until before its end, and the first of a kind wins."""
    early = Fault(kind=FaultKind.ERROR, start_s=1.0, end_s=2.0)
    late = Fault(kind=FaultKind.ERROR, start_s=1.5, end_s=3.0)
    meter = Meter(truth=constant(1.0), faults=(early, late))
    found = [meter.fault(FaultKind.ERROR, t_s) for t_s in (0.9, 1.0, 1.9, 2.0, 3.0)]
    assert found == [None, early, early, late, None]
    assert meter.fault(FaultKind.HANG, 1.5) is None
