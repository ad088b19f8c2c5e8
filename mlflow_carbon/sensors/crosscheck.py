"""Whether what a device tells agrees with what else it tells: counter with power, power with load.

Counters have been found frozen, in wrong units, or of another part of the board than the power. The
checks ride on the readings, so that nothing waits for them.
"""

from __future__ import annotations

from mlflow_carbon.core.units import NS_PER_S

__all__ = ["AGREE", "CrossCheck", "StillCheck"]

AGREE = (0.5, 2.0)
"""Counter over power: outside of this one of the two is wrong. Sampling alone stays within."""

_SPAN_NS = 5 * NS_PER_S
_READINGS = 5
_SWING_PPM = 200_000  # of the load; a power that is the same to the milliwatt meanwhile is no reading


class CrossCheck:
    """Compares a counter with the trapezoid of power until 5 s and 5 readings are there."""

    def __init__(self, channel: str) -> None:
        self.finding = ""
        """What is wrong, in a sentence; empty: nothing so far."""
        self.is_done = False
        self._channel = channel
        self._first: tuple[int, int] | None = None
        self._last = (0, 0)
        self._power_uj = 0.0
        self._readings = 0

    def add(self, t_ns: int, energy_uj: int, power_mw: int) -> None:
        """One reading of both.

        Args:
            t_ns: Monotonic time.
            energy_uj: Counter in microjoules.
            power_mw: Power in milliwatts.
        """
        if self._first is None:
            self._first = (t_ns, energy_uj)
        else:
            before_ns, before_mw = self._last
            self._power_uj += (before_mw + power_mw) / 2 * (t_ns - before_ns) / 1e6
        self._last = (t_ns, power_mw)
        self._readings += 1
        if t_ns - self._first[0] >= _SPAN_NS and self._readings >= _READINGS:
            self.is_done = True
            self._judge(energy_uj - self._first[1])

    def _judge(self, counted_uj: int) -> None:
        if self._power_uj <= 0 or counted_uj < 0:
            return
        ratio = counted_uj / self._power_uj
        if not AGREE[0] <= ratio <= AGREE[1]:
            self.finding = (
                f"{self._channel}: the energy counter is {ratio:.2g} times the sampled power over the first "
                f"{self._readings} readings (expected {AGREE[0]:g} to {AGREE[1]:g}): one of the two is wrong"
            )


class StillCheck:
    """Finds a power that is the same to the milliwatt for 5 s and 5 readings while the load changes."""

    def __init__(self, channel: str) -> None:
        self.finding = ""
        """What is wrong, in a sentence; empty: nothing so far."""
        self._channel = channel
        self._power_mw = -1
        self._since_ns = 0
        self._loads_ppm: tuple[int, int] = (0, 0)
        self._readings = 0
        self._longest_s = 0.0

    def add(self, t_ns: int, power_mw: int, load_ppm: int) -> None:
        """One reading of both.

        Args:
            t_ns: Monotonic time.
            power_mw: Power in milliwatts.
            load_ppm: Utilisation in parts per million.
        """
        if power_mw != self._power_mw:
            self._power_mw, self._since_ns, self._readings = power_mw, t_ns, 1
            self._loads_ppm = (load_ppm, load_ppm)
            return
        low, high = self._loads_ppm
        self._loads_ppm = (min(low, load_ppm), max(high, load_ppm))
        self._readings += 1
        still_ns, swing_ppm = t_ns - self._since_ns, self._loads_ppm[1] - self._loads_ppm[0]
        if still_ns < _SPAN_NS or self._readings < _READINGS or swing_ppm < _SWING_PPM:
            return
        self._longest_s = max(self._longest_s, still_ns / NS_PER_S)
        self.finding = (
            f"{self._channel}: the power stood still for {self._longest_s:.0f} s while the load changed by "
            f"{swing_ppm / 10_000:.0f} points: it was not read anew, and the energy of that time is a guess"
        )
