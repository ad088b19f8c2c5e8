"""The intensity to come: one forecast from a history and, where there is one, a provider's own forecast.

`forecast` picks the best forecaster that the history allows and says which one. Which are there, and how
they are scored: `core.forecasters` and `core.simulate`. numpy is loaded on the first call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.core.history import DAY_S, HOUR_S

if TYPE_CHECKING:
    from mlflow_carbon.core.history import Archive, History

__all__ = ["Forecast", "forecast", "static"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Intensity from the present slot on.

    Attributes:
        issued_s: When it was made, UTC seconds since the epoch.
        start_s: Start of the present slot, the first of `values`.
        step_s: Length of a slot.
        values: gCO2e/kWh; the first one is the present.
        sd: One standard deviation of the error of each value, gCO2e/kWh.
        source: Forecaster and, where given, who the figures come from.
        kind: `forecast`, or `static` for a figure that does not say when to start.
        note: What was filled in or fell short; empty if nothing.
    """

    issued_s: int
    start_s: int
    step_s: int
    values: tuple[float, ...]
    sd: tuple[float, ...]
    source: str
    kind: str = "forecast"
    note: str = ""

    def __post_init__(self) -> None:
        if not self.values or len(self.values) != len(self.sd):
            raise ValueError(
                f"forecast: expected as many deviations as values, got {len(self.sd)} for {len(self.values)}"
            )

    @property
    def end_s(self) -> int:
        """End of the last slot, exclusive."""
        return self.start_s + self.step_s * len(self.values)


def static(value: float, *, start_s: int, step_s: int, slots: int, source: str, sd: float = 0.0) -> Forecast:
    """An annual or fixed figure, repeated: it costs a run, and no policy waits on it."""
    return Forecast(
        issued_s=start_s,
        start_s=start_s,
        step_s=step_s,
        values=(value,) * slots,
        sd=(sd,) * slots,
        source=source,
        kind="static",
    )


def forecast(
    history: History, *, horizon_s: int, archive: Archive | None = None, name: str | None = None
) -> Forecast:
    """Forecast from the last slot of the history, its present, over a horizon.

    Args:
        history: Past values up to the present slot; gaps are filled and the note says how many.
        horizon_s: How far to look, in seconds: the longest wait and the job together.
        archive: Forecasts of a provider; one is enough, earlier ones teach how far to trust it.
        name: One of `FORECASTERS`; None takes the best that history and archive allow.

    Raises:
        ValueError: If the name is unknown, every value is missing, or the archive has other slots.
    """
    from mlflow_carbon.core.forecasters import FORECASTERS
    from mlflow_carbon.core.paths import Track, deviation

    track = Track.of(history, archive)
    name = name or _best(history, archive)
    if name not in FORECASTERS:
        raise ValueError(f"forecaster: expected one of {', '.join(FORECASTERS)}, got {name!r}")
    horizon = max(1, math.ceil(horizon_s / history.step_s))
    paths = FORECASTERS[name](track, horizon)
    _, filled = history.filled()
    notes = [f"{filled} missing slots of the history were filled in"] if filled else []
    return Forecast(
        issued_s=history.present_s,
        start_s=history.present_s,
        step_s=history.step_s,
        values=tuple(paths[-1].tolist()),
        sd=tuple(deviation(track, paths)[-1].tolist()),
        source=_said(name, history.source),
        note="; ".join(notes + _coverage(history, archive, horizon, name)),
    )


def _said(name: str, source: str) -> str:
    """Who forecasts, from whose figures."""
    if name == "provider":
        return f"forecast of {source}, corrected by its present error" if source else name
    return f"our forecast ({name}) from the past of {source}" if source else name


def _best(history: History, archive: Archive | None) -> str:
    from mlflow_carbon.core.forecasters import MIN_DAYS

    known = archive.known_at(history.present_s) if archive is not None else None
    if known is not None and known.end_s > history.present_s:
        return "provider"
    days = history.step_s * len(history.values) / DAY_S
    return next(name for name, least in MIN_DAYS.items() if days >= least)


def _coverage(history: History, archive: Archive | None, horizon: int, name: str) -> list[str]:
    """Where a published forecast ends before the horizon does; nothing is planned past its end in silence."""
    known = archive.known_at(history.present_s) if archive is not None else None
    if name != "provider" or known is None:
        return []
    left = (history.present_s + horizon * history.step_s - known.end_s) / HOUR_S
    return (
        [f"the published forecast ends {left:g} h before the horizon; our own goes on from there"]
        if left > 0
        else []
    )
