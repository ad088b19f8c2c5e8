"""What a real meter makes of a waveform: it refreshes now and then, rounds, wraps, averages and fails.

`Meter` is the one description; the fake sensor, the powercap tree and the NVML stub all follow it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from mlflow_carbon.core.units import UJ_PER_J

if TYPE_CHECKING:
    from mlflow_carbon.testing.waveform import Truth

__all__ = ["Fault", "FaultKind", "Meter", "Shown"]


class FaultKind(IntEnum):
    """What goes wrong. The numbers are those of the NVML stub."""

    ERROR = 1
    """the read fails"""
    HANG = 2
    """the read takes `value` seconds, then answers"""
    VALUE = 3
    """the read answers `value`, in the unit of the interface"""
    FROZEN = 4
    """the read answers what it did when the fault began"""
    RESET = 5
    """the counter began again at zero when the fault began"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong from `start_s` until `end_s` of the waveform's time.

    Attributes:
        kind: What.
        start_s: From then on.
        end_s: Until then, exclusive.
        value: Seconds of a hang, the answer of a `VALUE`, the NVML error code of an `ERROR`.
        call: The call of the NVML stub, for example `nvmlDeviceGetPowerUsage`; empty: every one. The other
            simulations ignore it.
    """

    kind: FaultKind
    start_s: float = -math.inf
    end_s: float = math.inf
    value: float = 0.0
    call: str = ""

    def is_on(self, t_s: float) -> bool:
        """Whether it is at work."""
        return self.start_s <= t_s < self.end_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A simulated meter.

    Attributes:
        truth: The power it measures.
        refresh_s: It shows a new value so often; 0: always.
        window_s: Its power is the mean of so long; 0: instantaneous.
        quantum_uj: Its energy counter counts in steps of so many microjoules (NVML: 1000).
        range_uj: Where its counter starts again at zero; None: never.
        first_uj: Its counter at t = 0 s.
        faults: What goes wrong, in order of precedence.
    """

    truth: Truth
    refresh_s: float = 0.0
    window_s: float = 0.0
    quantum_uj: int = 1
    range_uj: int | None = None
    first_uj: int = 0
    faults: tuple[Fault, ...] = ()

    def fault(self, kind: FaultKind, t_s: float) -> Fault | None:
        """The first fault of a kind that is at work."""
        return next((f for f in self.faults if f.kind is kind and f.is_on(t_s)), None)

    def counter_uj(self, t_s: float) -> int:
        """What the energy counter shows."""
        shown_s = self._shown_s(t_s)
        reset = self.fault(FaultKind.RESET, shown_s)
        begin_s, first_uj = (reset.start_s, 0) if reset else (0.0, self.first_uj)
        energy_uj = first_uj + math.floor(self.truth.energy_j(begin_s, shown_s) * UJ_PER_J)
        energy_uj -= energy_uj % self.quantum_uj
        return energy_uj % self.range_uj if self.range_uj else energy_uj

    def power_mw(self, t_s: float) -> int:
        """What the power reading shows."""
        shown_s = self._shown_s(t_s)
        if not self.window_s:
            return round(1000 * self.truth.power_w(shown_s))
        return round(1000 * self.truth.energy_j(shown_s - self.window_s, shown_s) / self.window_s)

    def _shown_s(self, t_s: float) -> float:
        """The time of the value that is shown now."""
        frozen = self.fault(FaultKind.FROZEN, t_s)
        at_s = frozen.start_s if frozen else t_s
        return math.floor(at_s / self.refresh_s) * self.refresh_s if self.refresh_s else at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a meter's power reading shows, as a truth of its own: a staircase of one value per refresh.

    A meter that looks at a quarter of the time is wrong about fast waves, and no reader can mend it. Judged
    by this the reader's own error remains.

    Attributes:
        meter: With a refresh time above 0 s.
    """

    meter: Meter

    def __post_init__(self) -> None:
        if not self.meter.refresh_s > 0:
            raise ValueError("what a meter shows: expected a refresh time above 0 s; judge it by its truth")

    def power_w(self, t_s: float) -> float:
        """The power that is shown."""
        return self.meter.power_mw(t_s) / 1000

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Sum of the stairs, the first and the last in part."""
        refresh_s = self.meter.refresh_s
        first, last = math.floor(start_s / refresh_s), math.floor(end_s / refresh_s)
        # In the middle of a stair no rounding can name its neighbour.
        stairs = [self.power_w((k + 0.5) * refresh_s) * refresh_s for k in range(first, last + 1)]
        before_s, after_s = start_s - first * refresh_s, (last + 1) * refresh_s - end_s
        return math.fsum(stairs) - (stairs[0] * before_s + stairs[-1] * after_s) / refresh_s
