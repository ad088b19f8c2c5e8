"""The truth that meters are judged by must itself be right."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from mlflow_carbon.testing import Piece, Waveform, constant, ramp, sine, square, step, training

WAVES = {
    "constant": constant(250.0),
    "step": step(before_w=100.0, after_w=300.0, at_s=4.0),
    "ramp": ramp(start_w=50.0, end_w=350.0, duration_s=8.0),
    "sine": sine(mean_w=200.0, amplitude_w=150.0, period_s=1.7, phase_ratio=0.3),
    "square": square(low_w=100.0, high_w=300.0, period_s=1.3, duty_ratio=0.7, phase_ratio=0.45),
    "training": training(idle_s=1.0, steps=4),
}
TIMES = st.floats(min_value=-5.0, max_value=50.0)


@pytest.mark.parametrize(
    ("wave", "start_s", "end_s", "joules"),
    [
        (constant(250.0), 1.0, 3.5, 625.0),
        (step(before_w=100.0, after_w=300.0, at_s=4.0), 3.0, 6.0, 100.0 + 600.0),
        # From 50 W to 350 W in 8 s: a mean of 200 W, then 350 W stay.
        (ramp(start_w=50.0, end_w=350.0, duration_s=8.0), 0.0, 10.0, 1600.0 + 700.0),
        # Half a period of a sine holds amplitude x period / pi more than its mean.
        (sine(mean_w=200.0, amplitude_w=150.0, period_s=2.0), 0.0, 1.0, 200.0 + 300.0 / math.pi),
        (square(low_w=100.0, high_w=300.0, period_s=2.0, duty_ratio=0.25), 0.0, 20.0, 10 * (150.0 + 150.0)),
        (square(low_w=100.0, high_w=300.0, period_s=2.0, phase_ratio=0.25), 0.0, 1.0, 150.0 + 50.0),
        # 2 s at 60 W, then 10 steps of 0.7 s at 300 W and 0.3 s at 180 W.
        (training(step_s=1.0, steps=10), 0.0, 12.0, 120.0 + 10 * (210.0 + 54.0)),
    ],
)
def test_energy_is_that_worked_out_by_hand(wave, start_s, end_s, joules):
    """Each waveform has the energy that its definition gives on paper."""
    assert wave.energy_j(start_s, end_s) == pytest.approx(joules)


@pytest.mark.parametrize("wave", WAVES.values(), ids=WAVES)
def test_energy_is_the_integral_of_power(wave):
    """The closed form agrees with numerical integration between every two corners."""
    edges, t_s = [0.0], 0.0
    while t_s < 11.0:
        t_s += wave.pieces[(len(edges) - 1) % len(wave.pieces)].duration_s if wave.repeats else 1.0
        edges.append(t_s)
    for start_s, end_s in pairwise(edges):
        inside = (start_s + 1e-12, end_s - 1e-12)
        assert wave.energy_j(start_s, end_s) == pytest.approx(quad(wave.power_w, *inside)[0], rel=1e-6)


@pytest.mark.parametrize("wave", WAVES.values(), ids=WAVES)
@given(times=st.tuples(TIMES, TIMES, TIMES).map(sorted))
def test_energy_adds_up_and_lies_below_the_highest_power(wave, times):
    """Two spans have the energy of both together, and none has more than the highest power gives."""
    start_s, middle_s, end_s = times
    whole_j = wave.energy_j(start_s, end_s)
    assert wave.energy_j(start_s, middle_s) + wave.energy_j(middle_s, end_s) == pytest.approx(
        whole_j, abs=1e-6
    )
    assert -1e-6 <= whole_j <= wave.power_max_w * (end_s - start_s) + 1e-6
    assert -1e-9 <= wave.power_w(start_s) <= wave.power_max_w + 1e-9


def test_a_phase_moves_a_square_wave():
    """A wave with a phase is the wave without it, so much later."""
    plain = square(low_w=100.0, high_w=300.0, period_s=2.0, duty_ratio=0.3)
    moved = square(low_w=100.0, high_w=300.0, period_s=2.0, duty_ratio=0.3, phase_ratio=0.6)
    for k in range(80):
        t_s = 0.05 * k + 0.01
        assert moved.power_w(t_s) == plain.power_w(t_s + 1.2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Piece(duration_s=0.0, start_w=1.0, end_w=1.0),
        lambda: Piece(duration_s=1.0, start_w=-1.0, end_w=1.0),
        lambda: Waveform(pieces=()),
        lambda: sine(mean_w=100.0, amplitude_w=101.0, period_s=1.0),
        lambda: sine(mean_w=100.0, amplitude_w=1.0, period_s=0.0),
        lambda: square(low_w=0.0, high_w=1.0, period_s=1.0, duty_ratio=1.0),
        lambda: square(low_w=0.0, high_w=1.0, period_s=1.0, phase_ratio=1.0),
    ],
)
def test_what_is_no_power_is_refused(make):
    """Lengths of nothing, negative power and empty waveforms are no waveforms."""
    with pytest.raises(ValueError, match="expected"):
        make()
