"""Whether an energy counter agrees with the power that the same device tells.

Counters have been found frozen, in wrong units, or of another part of the board than the power. The
check rides on the first readings, so that nothing waits for it.
"""

from __future__ import annotations

from mlflow_carbon.core.units import NS_PER_S

__all__ = ["AGREE", "CrossCheck"]

AGREE = (0.5, 2.0)
"""Counter over power: outside of this one of the two is wrong. Sampling alone stays within."""

_SPAN_NS = 5 * NS_PER_S
_READINGS = 5


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
