"""What stands beside power over a span: heat, fans, clocks, what held them down, bytes moved. No energy.

A fact is named `<source>/<what>_<unit>`, and its name tells how it is summed up: `_bytes` and `_count` are
counters, whose increases add up; `limited_by_<what>` is 0 or 1, and time at 1 counts; all else is a level,
with its lowest, mean and highest. Facts are read every few seconds: peaks between two readings are not seen.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["LIMITED_RATIO", "FactBook", "FactRow", "limited"]

LIMITED_RATIO = 0.1
"""A device whose clocks were held down for more of the span than this is a finding."""
_LIMITED_READINGS = 3  # fewer tell a moment, not a share

_COUNTERS = ("_bytes", "_count")
_LIMIT = "limited_by_"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactRow:
    """One fact over a span; what does not apply to its kind is None.

    Attributes:
        name: `<source>/<what>_<unit>`.
        readings: How often it was read.
        time_s: From the first reading to the last.
        low: Lowest level.
        mean: Mean level over time.
        high: Highest level.
        total: Increase of a counter, without what it lost where it began again.
        limited_s: Seconds at 1 of what holds clocks down.
    """

    name: str
    readings: int
    time_s: float
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    total: float | None = None
    limited_s: float | None = None

    @property
    def source(self) -> str:
        """The device: what stands before the slash."""
        return self.name.partition("/")[0]

    @property
    def what(self) -> str:
        """What was read of it."""
        return self.name.partition("/")[2]

    def as_dict(self) -> dict[str, Any]:
        """For `facts.json`: what applies."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class FactBook:
    """Sums up facts as they come. Memory is bounded by their names, not by readings."""

    def __init__(self) -> None:
        self._facts: dict[str, _Fact] = {}

    def add(self, t_ns: int, facts: Mapping[str, float] | None) -> None:
        """Take what was read at a monotonic time; a value that is no finite number is left out."""
        for name, value in (facts or {}).items():
            if math.isfinite(value):
                self._facts.setdefault(name, _Fact(t_ns, value)).add(t_ns, value)

    def rows(self) -> tuple[FactRow, ...]:
        """Every fact so far, by name. What only a time between two readings tells needs two."""
        found = (fact.row(name) for name, fact in sorted(self._facts.items()))
        return tuple(row for row in found if row.mean is not None or row.readings > 1)


class _Fact:
    __slots__ = ("area", "first_ns", "high", "last", "last_ns", "low", "readings", "total")

    def __init__(self, t_ns: int, value: float) -> None:
        self.first_ns = self.last_ns = t_ns
        self.last = self.low = self.high = value
        self.area = self.total = 0.0
        self.readings = 0

    def add(self, t_ns: int, value: float) -> None:
        if t_ns < self.last_ns:
            return
        self.area += (self.last + value) / 2 * (t_ns - self.last_ns)
        self.total += max(0.0, value - self.last)  # a counter that fell has begun again
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.last, self.last_ns = value, t_ns
        self.readings += 1

    def row(self, name: str) -> FactRow:
        time_ns = self.last_ns - self.first_ns
        what = name.partition("/")[2]
        figures: dict[str, float] = {}
        if what.endswith(_COUNTERS):
            figures["total"] = self.total
        elif what.startswith(_LIMIT):
            figures["limited_s"] = self.area / NS_PER_S
        else:
            mean = self.area / time_ns if time_ns else self.last
            figures |= {"low": self.low, "mean": mean, "high": self.high}
        return FactRow(name=name, readings=self.readings, time_s=time_ns / NS_PER_S, **figures)


def limited(rows: Iterable[FactRow]) -> tuple[str, ...]:
    """Devices that were held down for long, a sentence each. Their energy is right; they were slower."""
    return tuple(
        f"{row.source}: clocks were held down by {row.what.removeprefix(_LIMIT)} for {row.limited_s:.0f} s "
        f"of {row.time_s:.0f} s"
        for row in rows
        if row.limited_s is not None
        and row.readings >= _LIMITED_READINGS
        and row.limited_s > LIMITED_RATIO * row.time_s
    )
