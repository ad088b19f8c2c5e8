"""Power over time whose energy is known exactly: what a meter is judged by.

A waveform is straight pieces, repeated or not, with a sine on top if wanted. Power and energy are
closed forms, so that the truth has no integration error of its own. Knows no clock and no sensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Piece", "Sine", "Truth", "Waveform", "constant", "ramp", "sine", "square", "step", "training"]


class Truth(Protocol):
    """Power whose energy is known. `Waveform` is one; a recorded trace with its integral would be another."""

    def power_w(self, t_s: float) -> float:
        """Power in watts at a time in seconds."""

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy in joules between two times in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Power that goes in a straight line from `start_w` to `end_w` in `duration_s`."""

    duration_s: float
    start_w: float
    end_w: float

    def __post_init__(self) -> None:
        if not 0 < self.duration_s < math.inf:
            raise ValueError(f"piece of a waveform: expected a duration above 0 s, got {self.duration_s}")
        if not (0 <= self.start_w < math.inf and 0 <= self.end_w < math.inf):
            raise ValueError(f"piece of a waveform: expected power >= 0 W, got {self.start_w}, {self.end_w}")

    def power_w(self, t_s: float) -> float:
        """Power `t_s` after the start of the piece."""
        return self.start_w + (self.end_w - self.start_w) * t_s / self.duration_s

    def energy_j(self, t_s: float) -> float:
        """Energy of the first `t_s` of the piece: a trapezoid."""
        return (self.start_w + self.power_w(t_s)) / 2 * t_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Sine:
    """A swing of `amplitude_w` around the pieces: amplitude x sin(2 pi (t / period + phase))."""

    amplitude_w: float
    period_s: float
    phase_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not (self.amplitude_w >= 0 and self.period_s > 0):
            raise ValueError(f"sine: expected amplitude >= 0 W, period > 0 s, got {self}")

    def power_w(self, t_s: float) -> float:
        """Power at a time, which may be negative: the pieces below carry it."""
        return self.amplitude_w * math.sin(self._angle(t_s))

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy between two times: the integral of the sine."""
        scale = self.amplitude_w * self.period_s / (2 * math.pi)
        return scale * (math.cos(self._angle(start_s)) - math.cos(self._angle(end_s)))

    def _angle(self, t_s: float) -> float:
        return 2 * math.pi * (t_s / self.period_s + self.phase_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveform:
    """Pieces one after the other from t = 0 s.

    Attributes:
        pieces: At least one. Before t = 0 s a waveform that does not repeat has its first power.
        repeats: Whether the pieces start again after the last; else its last power stays for ever.
        swing: A sine on top.
    """

    pieces: tuple[Piece, ...]
    repeats: bool = True
    swing: Sine | None = None

    def __post_init__(self) -> None:
        if not self.pieces:
            raise ValueError("waveform: expected at least one piece, got none")
        lowest_w = min(min(p.start_w, p.end_w) for p in self.pieces)
        if self.swing is not None and self.swing.amplitude_w > lowest_w:
            raise ValueError(
                f"waveform: expected power >= 0 W; a swing of {self.swing.amplitude_w} W around {lowest_w} W"
                " goes below"
            )

    @property
    def length_s(self) -> float:
        """Length of all pieces together: the period of a waveform that repeats."""
        return math.fsum(p.duration_s for p in self.pieces)

    @property
    def power_max_w(self) -> float:
        """No moment has more power than this."""
        swing_w = self.swing.amplitude_w if self.swing else 0.0
        return max(max(p.start_w, p.end_w) for p in self.pieces) + swing_w

    def power_w(self, t_s: float) -> float:
        """Power in watts; at a jump, the power after it."""
        piece, into_s = self._place(t_s)
        return piece.power_w(into_s) + (self.swing.power_w(t_s) if self.swing else 0.0)

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy in joules between two times; negative where `end_s` is before `start_s`."""
        energy = self._pieces_j(end_s) - self._pieces_j(start_s)
        return energy + (self.swing.energy_j(start_s, end_s) if self.swing else 0.0)

    def _place(self, t_s: float) -> tuple[Piece, float]:
        into_s = t_s % self.length_s if self.repeats else t_s
        if into_s < 0:
            return self.pieces[0], 0.0
        for piece in self.pieces:
            if into_s < piece.duration_s:
                return piece, into_s
            into_s -= piece.duration_s
        return self.pieces[-1], self.pieces[-1].duration_s

    def _pieces_j(self, t_s: float) -> float:
        """Energy of the pieces from t = 0 s."""
        laps = math.floor(t_s / self.length_s) if self.repeats else 0
        rest_s = t_s - laps * self.length_s
        if rest_s < 0:  # before the beginning; by rounding also just before a new lap, which is as right
            return laps * self._lap_j() + self.pieces[0].start_w * rest_s
        energy = laps * self._lap_j()
        for piece in self.pieces:
            if rest_s <= piece.duration_s:
                return energy + piece.energy_j(rest_s)
            energy += piece.energy_j(piece.duration_s)
            rest_s -= piece.duration_s
        return energy + self.pieces[-1].end_w * rest_s

    def _lap_j(self) -> float:
        return math.fsum(p.energy_j(p.duration_s) for p in self.pieces)


def constant(power_w: float) -> Waveform:
    """The same power for ever."""
    return Waveform(pieces=(Piece(duration_s=1.0, start_w=power_w, end_w=power_w),))


def step(*, before_w: float, after_w: float, at_s: float) -> Waveform:
    """One power until `at_s`, another from then on."""
    return Waveform(
        pieces=(
            Piece(duration_s=at_s, start_w=before_w, end_w=before_w),
            Piece(duration_s=1.0, start_w=after_w, end_w=after_w),
        ),
        repeats=False,
    )


def ramp(*, start_w: float, end_w: float, duration_s: float) -> Waveform:
    """A straight line from one power to another, where it stays."""
    return Waveform(pieces=(Piece(duration_s=duration_s, start_w=start_w, end_w=end_w),), repeats=False)


def sine(*, mean_w: float, amplitude_w: float, period_s: float, phase_ratio: float = 0.0) -> Waveform:
    """A sine around a mean power."""
    swing = Sine(amplitude_w=amplitude_w, period_s=period_s, phase_ratio=phase_ratio)
    return Waveform(pieces=constant(mean_w).pieces, swing=swing)


def square(
    *, low_w: float, high_w: float, period_s: float, duty_ratio: float = 0.5, phase_ratio: float = 0.0
) -> Waveform:
    """High power for `duty_ratio` of each period, then low; at t = 0 s `phase_ratio` of one has passed."""
    if not (0 < duty_ratio < 1 and 0 <= phase_ratio < 1):
        raise ValueError(f"square: expected 0 < duty < 1 and 0 <= phase < 1, got {duty_ratio}, {phase_ratio}")
    turns = ((duty_ratio, high_w), (1.0, low_w), (1.0 + duty_ratio, high_w), (2.0, low_w))
    pieces, now = [], phase_ratio
    for end, power_w in turns:
        until = min(end, 1.0 + phase_ratio)
        if until > now:
            pieces.append(Piece(duration_s=(until - now) * period_s, start_w=power_w, end_w=power_w))
            now = until
    return Waveform(pieces=tuple(pieces))


def training(
    *,
    idle_w: float = 60.0,
    busy_w: float = 300.0,
    idle_s: float = 2.0,
    step_s: float = 0.35,
    steps: int = 40,
) -> Waveform:
    """Epochs of a training: a pause, then steps of 70 % forward and backward and 30 % waiting for data.

    Args:
        idle_w: Power of the pause between epochs.
        busy_w: Power while computing. Waiting within a step has the mean of both.
        idle_s: Length of the pause.
        step_s: Length of a step.
        steps: Steps in an epoch.
    """
    waiting_w = (idle_w + busy_w) / 2
    one_step = (
        Piece(duration_s=0.7 * step_s, start_w=busy_w, end_w=busy_w),
        Piece(duration_s=0.3 * step_s, start_w=waiting_w, end_w=waiting_w),
    )
    return Waveform(pieces=(Piece(duration_s=idle_s, start_w=idle_w, end_w=idle_w), *(one_step * steps)))
