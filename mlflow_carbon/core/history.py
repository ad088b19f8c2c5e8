"""What is known of a zone's carbon intensity: the past as regular slots, and forecasts as published.

Everything is UTC in whole seconds since the epoch, gCO2e/kWh, half-open slots of one length.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ABSURD_GCO2E_PER_KWH", "DAY_S", "HOUR_S", "Archive", "History", "PublishedForecast"]

DAY_S = 86_400
HOUR_S = 3600
ABSURD_GCO2E_PER_KWH = 2000.0
"""No grid is above this: a mix of nothing but old lignite plants emits about 1300."""
_LINEAR_S = 2 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Intensity of the past in slots of one length, the newest last; the last slot is the present one.

    Attributes:
        start_s: Start of the first slot.
        step_s: Length of a slot; it divides a day.
        values: One value per slot, in gCO2e/kWh; None where it is missing.
        source: Who says so.
    """

    start_s: int
    step_s: int
    values: tuple[float | None, ...]
    source: str = ""

    def __post_init__(self) -> None:
        _check_slots(self.start_s, self.step_s, self.values)

    @property
    def end_s(self) -> int:
        """End of the last slot, exclusive."""
        return self.start_s + self.step_s * len(self.values)

    @property
    def present_s(self) -> int:
        """Start of the last slot: the time of the decision that this history serves."""
        return self.end_s - self.step_s

    @classmethod
    def of(cls, values: Mapping[int, float], *, step_s: int, source: str = "") -> History:
        """History of slots by their start, in any order; slots between the first and the last may be missing.

        Raises:
            ValueError: If there is none, or a start is not on the raster of the step.
        """
        if not values:
            raise ValueError("history: expected at least one slot, got none")
        first = min(values)
        starts = range(first, max(values) + 1, step_s)
        strange = next((t for t in values if t not in starts), None)
        if strange is not None:
            raise ValueError(f"history: expected slots every {step_s} s from {first}, got one at {strange}")
        return cls(start_s=first, step_s=step_s, values=tuple(map(values.get, starts)), source=source)

    def filled(self) -> tuple[History, int]:
        """The history without gaps, and how many slots were filled.

        Gaps of up to 2 h are bridged linearly; longer ones take the mean of the same time of the days before,
        or the last value where there is none. At the very start the first value is taken.

        Raises:
            ValueError: If every value is missing.
        """
        known = [i for i, value in enumerate(self.values) if value is not None]
        if not known:
            raise ValueError("history: every value is missing; fetch it again or name another source")
        values = [
            self.values[known[0]] if v is None and i < known[0] else v for i, v in enumerate(self.values)
        ]
        full: list[float] = []
        for i, value in enumerate(values):
            full.append(value if value is not None else self._bridge(i, known, full))
        kept = History(start_s=self.start_s, step_s=self.step_s, values=tuple(full), source=self.source)
        return kept, len(values) - len(known)

    def _bridge(self, i: int, known: list[int], full: list[float]) -> float:
        """A value for slot i from its neighbours, or from the same time of earlier days."""
        at = bisect_right(known, i)
        before, after = known[at - 1], known[at] if at < len(known) else None
        first, last = self.values[before], self.values[after] if after is not None else None
        is_short = after is not None and (after - before - 1) * self.step_s <= _LINEAR_S
        if is_short and first is not None and last is not None and after is not None:
            return first + (last - first) * (i - before) / (after - before)
        a_day = DAY_S // self.step_s
        same = full[i - a_day :: -a_day][:7] if i >= a_day else []
        return sum(same) / len(same) if same else full[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedForecast:
    """A provider's forecast as it was issued.

    Attributes:
        issued_s: When it became known.
        start_s: Start of its first slot.
        step_s: Length of a slot.
        values: One value per slot; None where it is missing.
        source: Who says so.
    """

    issued_s: int
    start_s: int
    step_s: int
    values: tuple[float | None, ...]
    source: str = ""

    def __post_init__(self) -> None:
        _check_slots(self.start_s, self.step_s, self.values)

    @property
    def end_s(self) -> int:
        """End of the last slot, exclusive."""
        return self.start_s + self.step_s * len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Forecasts of one zone in the order of their issue, none older than the one before."""

    forecasts: tuple[PublishedForecast, ...]

    def __post_init__(self) -> None:
        for before, after in pairwise(self.forecasts):
            if after.issued_s <= before.issued_s or after.step_s != before.step_s:
                raise ValueError(
                    "archive: expected forecasts of one slot length in order of issue, got "
                    f"{before.issued_s} (step {before.step_s}) before {after.issued_s} (step {after.step_s})"
                )

    def known_at(self, t_s: float) -> PublishedForecast | None:
        """The newest forecast that was issued by then."""
        index = bisect_right(self.forecasts, t_s, key=lambda forecast: forecast.issued_s)
        return self.forecasts[index - 1] if index else None


def _check_slots(start_s: int, step_s: int, values: Iterable[float | None]) -> None:
    if step_s <= 0 or DAY_S % step_s:
        raise ValueError(f"slots: expected a length that divides a day, got {step_s} s")
    if start_s % step_s:
        raise ValueError(f"slots: expected a start on the raster of {step_s} s, got {start_s}")
    for index, value in enumerate(values):
        if value is not None and not 0 <= value <= ABSURD_GCO2E_PER_KWH:
            raise ValueError(
                f"slots: expected 0 to {ABSURD_GCO2E_PER_KWH:g} gCO2e/kWh, got {value} in slot {index}; "
                "leave it out or correct its unit"
            )
