"""Made-up grids for tests of forecasts and plans: a daily wave, weather that lingers, and flat lines."""

from __future__ import annotations

import numpy as np

from mlflow_carbon.core.forecast import Forecast
from mlflow_carbon.core.paths import Track

START_S = 1_609_459_200  # 2021-01-01T00:00Z, a Friday


def wave(days: int, *, seed: int = 0, step_s: int = 3600, weather: float = 30.0) -> Track:
    """A grid with a trough at 03 h and a peak at 15 h UTC, and an autocorrelated anomaly."""
    count = days * 86_400 // step_s
    rng = np.random.default_rng(seed)
    hours = np.arange(count) * step_s / 3600
    keep = 0.97 ** (step_s / 3600)
    anomaly = np.zeros(count)
    for i in range(1, count):
        anomaly[i] = keep * anomaly[i - 1] + rng.normal() * weather * np.sqrt(1 - keep**2)
    values = 250 - 60 * np.cos((hours - 3) * np.pi / 12) + anomaly
    return Track(values=np.clip(values, 5, 1500), start_s=START_S, step_s=step_s)


def forecast(*values: float, sd: float = 0.0, step_s: int = 3600, kind: str = "forecast") -> Forecast:
    """A forecast of these values from START_S on."""
    return Forecast(
        issued_s=START_S,
        start_s=START_S,
        step_s=step_s,
        values=values,
        sd=(sd,) * len(values),
        source="test",
        kind=kind,
    )
