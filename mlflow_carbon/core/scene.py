"""One length of job on one trace, as arrays: who submits when, what was forecast then, and what came."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mlflow_carbon.core.forecasters import FORECASTERS
from mlflow_carbon.core.history import DAY_S, HOUR_S
from mlflow_carbon.core.plans import Terms
from mlflow_carbon.core.windows import start_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mlflow_carbon.core.paths import Track

__all__ = ["DEFAULT_THRESHOLD", "Scenario", "Scene", "scene_of"]

SCORED_H = 8760
WARM_UP_DAYS = 28
DEFAULT_THRESHOLD = 300.0
"""gCO2e/kWh: the threshold of the documents' example, to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated.

    Attributes:
        hours: Lengths of the job.
        slack_h: Longest delay of its start; of its end where it may pause.
        idle_ratio: Idle power of the machine that is held while waiting, over the job's power; 0: given back.
        terms: Minimum gain, tolerance, threshold and percentile. Nothing is asked for by default: whether a
            small gain is worth a wait is for the user to say, and a minimum of 3 % hides gains of flat grids.
    """

    hours: Sequence[float] = (1, 4, 12, 24)
    slack_h: float = 24
    idle_ratio: float = 0.0
    terms: Terms = field(
        default_factory=lambda: Terms(min_gain_ratio=0.0, threshold_gco2e_per_kwh=DEFAULT_THRESHOLD)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One length of job on one trace, as arrays; rows are slots from `first` on.

    Attributes:
        track: The whole trace.
        scenario: What is simulated.
        first: The first slot at which a job is submitted.
        starts: How many jobs are submitted, one per slot.
        length: Slots of the job.
        slack: Slots of the longest delay.
        horizon: Slots that every forecast covers.
        forecasts: Forecasts made so far by forecaster, for this and other lengths.
    """

    track: Track
    scenario: Scenario
    first: int
    starts: int
    length: int
    slack: int
    horizon: int
    forecasts: dict[str, NDArray[np.float64]]

    @property
    def values(self) -> NDArray[np.float64]:
        """What came, from the first submission on."""
        return self.track.values[self.first :]

    def earlier(self, days: int) -> tuple[Scene, int]:
        """The scene with submissions of up to so many days before, and how many these are."""
        first = max(
            min(self.first, WARM_UP_DAYS * self.track.per_day), self.first - days * self.track.per_day
        )
        more = self.first - first
        return replace(self, first=first, starts=self.starts + more), more

    def came(self) -> NDArray[np.float64]:
        """For each submission the slots in which it can run."""
        wide = np.lib.stride_tricks.sliding_window_view(self.values, self.slack + self.length)
        return wide[: self.starts]

    def paths(self, forecaster: str) -> NDArray[np.float64]:
        """Forecasts made from the first submission on."""
        if forecaster not in self.forecasts:
            self.forecasts[forecaster] = FORECASTERS[forecaster](self.track, self.horizon)
        return self.forecasts[forecaster][self.first :]

    def costs(self, paths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cost of each start within the slack, one row per slot."""
        idle = self.scenario.idle_ratio
        return start_costs(paths, length=self.length, starts=self.slack + 1, idle_ratio=idle)


def scene_of(
    track: Track, scenario: Scenario, hours: float, forecasts: dict[str, NDArray[np.float64]]
) -> Scene:
    """Submissions in the last year, or after four weeks; those whose window leaves the trace are dropped.

    Raises:
        ValueError: If the trace is too short.
    """
    count, length, slack = (
        len(track.values),
        track.slots(hours),
        round(scenario.slack_h * HOUR_S / track.step_s),
    )
    first = max(count - SCORED_H * HOUR_S // track.step_s, WARM_UP_DAYS * track.per_day)
    end = count - slack - length + 1
    if track.archive is not None and track.archive.forecasts:
        issued = [(f.issued_s - track.start_s) // track.step_s for f in track.archive.forecasts]
        first, end = max(first, issued[0]), min(end, issued[-1] + track.per_day)
    if end <= first:
        raise ValueError(
            f"trace: expected more than {WARM_UP_DAYS} days and {slack + length} slots, with forecasts, "
            f"got {count * track.step_s / DAY_S:.1f} days; give a longer trace"
        )
    return Scene(
        track=track,
        scenario=scenario,
        first=first,
        starts=end - first,
        length=length,
        slack=slack,
        horizon=slack + max(track.slots(h) for h in scenario.hours),
        forecasts=forecasts,
    )
