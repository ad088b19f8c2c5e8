"""Power of each phase by least squares, for phases that are shorter than readings are apart.

The energy of a reading is the sum over its phases of power x time (low-rate samples are folded in this
way by Lang and Ruenger, Euro-Par 2013). But a meter lags: what it says at t is the energy up to t - lag, and
where it refreshes now and then the lag differs from reading to reading. So each reading has the times that
its phases had on average over the lags of a `Delay`:

    time of phase j = x[j] + sum over slices i of beyond[i] x (start[j, i] - end[j, i])

x is the time between the two readings by the marks; start and end are its time in slice i of the 200 ms
before each; beyond[i] is how likely the lag reaches beyond slice i. This is linear, so sums of products of x
and (start - end) are all that is kept, whatever the delay turns out to be: no series.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["EDGES_US", "SLICES", "STRIDE", "Delay", "Fit", "PowerFit", "delays"]

EDGES_US = (
    *range(0, 20_000, 2_500),
    *range(20_000, 40_000, 5_000),
    *range(40_000, 100_000, 10_000),
    *range(100_000, 200_001, 25_000),
)
"""Slices of the 200 ms before a reading: RAPL refreshes every 1 ms, NVML every 20 to 100 ms."""

SLICES = len(EDGES_US) - 1
STRIDE = 1 + SLICES
"""Features of a phase: its time, then the difference of each slice."""

_EVEN_MS = (5.0, 20.0, 50.0, 100.0)
_DECAY_MS = (5.0, 15.0, 40.0)
_PLACES = 4
_BLOCK = 8  # readings in a row that go to one half
_LEAST = 3  # readings per unknown below which nothing is fitted
_RIDGE = 1e-10
_UNRESOLVED = 0.1  # of a power comes from the ridge, not from the readings
_ANYTHING_W = 1e9
_NEIGHBOURS = 1.5  # what one reading misses at its edge the next one has: 1 + 2 x 1/2 x 1/2, time and energy
_UNLIKELY = 1e-3  # delays less likely than this beside the best are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """How far a meter may be behind, and how that differs from reading to reading.

    Attributes:
        mean_s: Mean lag.
        blur_s: Width of the slice it falls into: it is not known better.
        weights: Of the features of a phase: 1 for its time, then how likely the lag is beyond each slice.
    """

    mean_s: float
    blur_s: float
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What the readings of one meter say.

    Attributes:
        powers_w: Power of each phase.
        errors_w: Its standard error.
        lag_s: How far the meter is behind the marks, on average.
        blur_s: How well that can be told at best.
        readings: How many were used.
    """

    powers_w: tuple[float, ...]
    errors_w: tuple[float, ...]
    lag_s: float
    blur_s: float
    readings: int


@cache
def delays() -> tuple[Delay, ...]:
    """Every delay that is tried: from a few places in each slice on, no spread, an even one or a decay."""
    ends_ms = [us / 1000 for us in EDGES_US]
    return tuple(
        _delay(a + (b - a) * part / _PLACES, spread, shape)
        for spread, shape in (
            (0.0, _even),
            *((s, _even) for s in _EVEN_MS),
            *((s, _decay) for s in _DECAY_MS),
        )
        for a, b in pairwise(ends_ms)
        for part in range(_PLACES)
        if a + spread < ends_ms[-1]
    )


def _delay(least_ms: float, spread_ms: float, shape: Callable[[float, float], float]) -> Delay:
    """A lag of at least so much, and beyond that as the shape says."""

    def integral(t_us: float) -> float:  # of the likelihood that the lag is longer, from 0
        over_ms = t_us / 1000 - least_ms
        return 1000 * (min(over_ms, 0.0) + least_ms + shape(max(over_ms, 0.0), spread_ms))

    beyond = [(integral(b) - integral(a)) / (b - a) for a, b in pairwise(EDGES_US)]
    widths = [b - a for a, b in pairwise(EDGES_US)]
    mean_us = math.fsum(x * width for x, width in zip(beyond, widths, strict=True))
    at = min(bisect_right(EDGES_US, mean_us) - 1, SLICES - 1)
    return Delay(mean_s=mean_us / 1e6, blur_s=widths[at] / 1e6, weights=(1.0, *beyond))


def _even(over_ms: float, spread_ms: float) -> float:
    """Mean of what is left beyond the least lag, up to `over_ms`, where it is spread evenly."""
    within = min(over_ms, spread_ms)
    return within - within * within / (2 * spread_ms) if spread_ms else 0.0


def _decay(over_ms: float, spread_ms: float) -> float:
    """The same of a decay, such as a filter's or that of a thread that wakes late."""
    return spread_ms * (1 - math.exp(-over_ms / spread_ms))


class _Sums:
    """Sums of products of features, packed below the diagonal, and of each with the energy."""

    __slots__ = ("cross", "energy", "gram", "number")

    def __init__(self) -> None:
        self.gram = array("d")
        self.cross = array("d")
        self.energy = 0.0
        self.number = 0

    def add(self, features: Sequence[tuple[int, float]], energy_j: float) -> None:
        """Take one reading."""
        if features and features[-1][0] >= len(self.cross):
            self._grow((features[-1][0] // STRIDE + 1) * STRIDE)
        gram, cross = self.gram, self.cross
        for at, (row, value) in enumerate(features, 1):
            start = row * (row + 1) // 2
            for column, other in features[:at]:
                gram[start + column] += value * other
            cross[row] += value * energy_j
        self.energy += energy_j * energy_j
        self.number += 1

    def _grow(self, size: int) -> None:
        self.cross.extend([0.0] * (size - len(self.cross)))
        self.gram.extend([0.0] * (size * (size + 1) // 2 - len(self.gram)))


class PowerFit:
    """Least squares of a meter's energy on phase times, in memory that does not grow with time."""

    def __init__(self) -> None:
        self._halves = (_Sums(), _Sums())
        self._taken = 0

    def add(self, features: Sequence[tuple[int, float]], energy_j: float) -> None:
        """Take one reading.

        Args:
            features: Index and value in seconds, sorted by index, zeros left out; phase j has the indices
                from j x `STRIDE`.
            energy_j: Energy of the reading in joules.
        """
        self._halves[self._taken // _BLOCK % 2].add(features, energy_j)
        self._taken += 1

    def solve(self, phases: int) -> Fit | None:
        """Powers of the first `phases` phases; None where there are too few readings.

        Every delay gives powers and standard errors; they count by how likely the delay is beside the best
        (a normal likelihood), so an unknown delay widens the error. Then both halves are solved apart; where
        they disagree by more than the errors say, these are widened.
        """
        if self._taken < _LEAST * (phases + 2):
            return None
        import numpy as np

        whole = _Problem(self._halves, phases)
        misfit = whole.misfit()
        best = int(misfit.argmin())
        variance = _NEIGHBOURS * float(misfit[best]) / max(1, self._taken - phases - 2)
        likely = np.exp(-(misfit - misfit[best]) / (2 * variance)) if variance else 1.0 * (misfit == 0)
        chosen = [int(delay) for delay in np.flatnonzero(likely > _UNLIKELY)]
        shares = likely[chosen] / likely[chosen].sum()
        each = np.array([whole.powers(delay) for delay in chosen])
        powers = shares @ each
        spread = whole.variances(variance)[chosen] + (each - powers) ** 2
        halves = [_Problem((half,), phases).powers(best) for half in self._halves]
        tried = [delays()[delay] for delay in chosen]
        return Fit(
            powers_w=tuple(map(float, powers)),
            errors_w=tuple(map(float, _widened(np.sqrt(shares @ spread), abs(halves[0] - halves[1]) / 2))),
            lag_s=float(shares @ [delay.mean_s for delay in tried]),
            blur_s=float(shares @ [delay.blur_s for delay in tried]),
            readings=self._taken,
        )


def _widened(errors: Floats, apart: Floats) -> Floats:
    """Standard errors, not smaller than the halves say: each for itself, and in the mean of all phases."""
    import numpy as np

    known = errors > 0
    doubt = float(np.sqrt(np.mean((apart[known] / errors[known]) ** 2))) if known.any() else 1.0
    return np.maximum(errors * max(1.0, doubt), apart)


class _Problem:
    """The normal equations of each delay: `gram[d] @ powers = cross[d]`."""

    def __init__(self, parts: Sequence[_Sums], phases: int) -> None:
        import numpy as np

        size = phases * STRIDE
        packed, cross = np.zeros(size * (size + 1) // 2), np.zeros(size)
        for part in parts:
            packed[: len(part.gram)] += part.gram
            cross[: len(part.cross)] += part.cross
        full = np.zeros((size, size))
        full[np.tril_indices(size)] = packed
        full += np.tril(full, -1).T
        weights = np.array([delay.weights for delay in delays()])
        half = full.reshape(phases, STRIDE, phases, STRIDE) @ weights.T
        self.gram = np.einsum("aibn,ni->nab", half, weights)
        self.cross = weights @ cross.reshape(phases, STRIDE).T
        self._energy = sum(part.energy for part in parts)
        self._ridge = max(_RIDGE * float(np.einsum("naa->n", self.gram).mean()) / phases, 1e-15)
        self._inverse = np.linalg.inv(self.gram + self._ridge * np.eye(phases))

    def misfit(self) -> Floats:
        """The sum of squares that each delay leaves."""
        import numpy as np

        powers = np.einsum("nab,nb->na", self._inverse, self.cross)
        left: Floats = self._energy - 2 * (powers * self.cross).sum(axis=1)
        left += np.einsum("na,nab,nb->n", powers, self.gram, powers)
        return np.maximum(left, 1e-12 * self._energy)

    def variances(self, variance: float) -> Floats:
        """Squared standard errors for each delay; of phases that never came apart as good as infinite."""
        import numpy as np

        diagonal = np.diagonal(self._inverse, axis1=1, axis2=2)
        return np.where(self._ridge * diagonal > _UNRESOLVED, _ANYTHING_W**2, variance * diagonal)

    def powers(self, delay: int) -> Floats:
        """Powers of at least 0 W that fit best for a delay."""
        return _non_negative(self.gram[delay], self.cross[delay])


def _non_negative(gram: Floats, cross: Floats) -> Floats:
    """Non-negative least squares from the normal equations: Lawson and Hanson 1974, Bro and de Jong 1997."""
    import numpy as np

    values, free = np.zeros(len(cross)), np.zeros(len(cross), dtype=bool)
    least = 1e-12 * np.abs(cross).max(initial=0.0)
    for _ in range(3 * len(cross)):
        pull = np.where(free, -np.inf, cross - gram @ values)
        if pull.max() <= least:
            break
        free[pull.argmax()] = True
        trial = _solved(gram, cross, free)
        while (trial[free] <= 0).any():
            falling = free & (trial <= 0)
            step = (values[falling] / (values[falling] - trial[falling])).min()
            values = values + step * (trial - values)
            free &= values > 1e-12 * values.max()
            values[~free] = 0.0
            trial = _solved(gram, cross, free)
        values = trial
    return values


def _solved(gram: Floats, cross: Floats, free: NDArray[np.bool_]) -> Floats:
    """Least squares of the free values; the others are 0."""
    import numpy as np

    values = np.zeros(len(cross))
    if free.any():
        values[free] = np.linalg.lstsq(gram[np.ix_(free, free)], cross[free], rcond=None)[0]
    return values
