"""What a later start has saved, by the intensities that came: the same energy used at other times.

An attribution at average intensity, not an effect on the grid, and of one run: it says what its plan was
worth this once. A negative saving is reported as it is.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.core.units import j_to_kwh

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySeries

__all__ = ["Integral", "Saving", "Stay", "saving"]

_CERTAINTY = ("static", "forecast", "estimated", "actual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """When a run could have started and when it did, UTC seconds since the epoch.

    Attributes:
        submitted_s: When it could have started first.
        started_s: When it started.
        ended_s: When it ended.
        latest_start_s: The last time at which it could have started.
        idle_w: Power of the machine that was held while waiting; 0 if none was.
    """

    submitted_s: float
    started_s: float
    ended_s: float
    latest_start_s: float
    idle_w: float = 0.0

    def __post_init__(self) -> None:
        if not self.submitted_s <= self.started_s < self.ended_s:
            raise ValueError(
                "stay: expected submission <= start < end, got "
                f"{self.submitted_s}, {self.started_s}, {self.ended_s}"
            )

    @property
    def length_s(self) -> float:
        """How long it ran."""
        return self.ended_s - self.started_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """Emissions of a run against the same run started at once, and at the best time there was.

    Attributes:
        now_gco2e: Had it started when it was submitted.
        spent_gco2e: As it ran, with what the machine idled while it was held.
        oracle_gco2e: Had it started at the best time within its wait, idling included.
        intensity_initial_gco2e_per_kwh: Mean intensity of the first of these three runs, without idling.
        intensity_training_gco2e_per_kwh: Of the second.
        intensity_oracle_gco2e_per_kwh: Of the third.
        kind: The weakest kind of intensity among those used; only `actual` is final.
        signal: `average` or `marginal`.
        provider: Who says so.
    """

    now_gco2e: float
    spent_gco2e: float
    oracle_gco2e: float
    intensity_initial_gco2e_per_kwh: float
    intensity_training_gco2e_per_kwh: float
    intensity_oracle_gco2e_per_kwh: float
    kind: str
    signal: str
    provider: str

    @property
    def saving_gco2e(self) -> float:
        """Saved against starting at once; negative where waiting did harm."""
        return self.now_gco2e - self.spent_gco2e

    @property
    def saving_ratio(self) -> float:
        """The same over what starting at once would have emitted."""
        return self.saving_gco2e / self.now_gco2e if self.now_gco2e > 0 else 0.0

    @property
    def saving_oracle_ratio(self) -> float:
        """What perfect foresight would have saved."""
        return 1 - self.oracle_gco2e / self.now_gco2e if self.now_gco2e > 0 else 0.0


def saving(series: IntensitySeries, stay: Stay, *, energy_kwh: float) -> Saving:
    """Compare a run with itself at other times, its energy spread evenly over its duration.

    Between the edges of slots the mean over a sliding window is linear in its start, so the best start is one
    at which the run begins or ends at an edge, or the first or the last that its wait allows.

    Args:
        series: Intensities from the submission to the latest start plus the duration.
        stay: When it ran and when it could have run.
        energy_kwh: What the run used.
    """
    if not 0 <= energy_kwh < math.inf:
        raise ValueError(f"saving: expected energy of at least 0 kWh, got {energy_kwh}")
    length_s, first_s = stay.length_s, stay.submitted_s
    edges = {t for s in series.slots for e in (s.start_s, s.end_s) for t in (e, e - length_s)}
    latest_s = max(stay.latest_start_s, stay.started_s)
    starts = {t for t in (*edges, latest_s) if first_s <= t <= latest_s} | {first_s, stay.started_s}
    end_s = latest_s + length_s
    total = Integral(series, first_s, end_s)
    runs = {t: total.mean(t, t + length_s) for t in starts}

    def emitted(t: float) -> float:
        idle_kwh = j_to_kwh(stay.idle_w * (t - first_s))
        return energy_kwh * runs[t] + (idle_kwh * total.mean(first_s, t) if t > first_s else 0.0)

    best_s = min(sorted(starts), key=emitted)
    return Saving(
        now_gco2e=emitted(first_s),
        spent_gco2e=emitted(stay.started_s),
        oracle_gco2e=emitted(best_s),
        intensity_initial_gco2e_per_kwh=runs[first_s],
        intensity_training_gco2e_per_kwh=runs[stay.started_s],
        intensity_oracle_gco2e_per_kwh=runs[best_s],
        kind=next(kind for kind in _CERTAINTY if kind in total.kinds),
        signal=series.signal,
        provider=series.provider if total.kinds != {"static"} else series.static_provider,
    )


class Integral:
    """Intensity over a span, summed up once: means of any part of it cost two look-ups.

    Args:
        series: Intensities; where a slot is missing the static figure stands in.
        first_s: Start of the span.
        end_s: Its end.
    """

    def __init__(self, series: IntensitySeries, first_s: float, end_s: float) -> None:
        self._times, self._sums, self._values = [first_s], [0.0], list[float]()
        kinds, t = set(), first_s
        while t < end_s:
            slot = series.at(t)
            upto = slot.end_s if slot is not series.static else _next_start(series, t)
            self._values.append(slot.gco2e_per_kwh)
            self._sums.append(self._sums[-1] + slot.gco2e_per_kwh * (min(upto, end_s) - t))
            self._times.append(min(upto, end_s))
            kinds.add(slot.kind)
            t = upto
        self.kinds = frozenset(kinds)

    def mean(self, start_s: float, end_s: float) -> float:
        """Mean over a part of the span, weighted by time."""
        return (self._upto(end_s) - self._upto(start_s)) / (end_s - start_s)

    def _upto(self, t: float) -> float:
        at = min(bisect_right(self._times, t), len(self._values)) - 1
        return self._sums[at] + self._values[at] * (t - self._times[at])


def _next_start(series: IntensitySeries, t: float) -> float:
    """Where the static figure stops standing in: the next slot, if there is one."""
    at = bisect_right(series.slots, t, key=lambda slot: slot.start_s)
    return series.slots[at].start_s if at < len(series.slots) else math.inf
