"""What a source says of a grid, made ready for planning: its past, and the forecast from now on.

The source's own forecast is taken where it gives one, corrected and extended by ours; otherwise ours, from
the source's past; without live figures a static one, on which no policy waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.forecast import forecast, static
from mlflow_carbon.core.history import DAY_S, Archive, History, PublishedForecast
from mlflow_carbon.core.outlook import Given, continued, given

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
    from mlflow_carbon.core.forecast import Forecast

__all__ = ["PAST_S", "Prospects", "forecasted", "prospects"]

PAST_S = 42 * 86_400
"""How much of the past is worth asking for: four weeks for the profile, two to see whether waiting paid."""
_MOST_PAST, _MOST_AHEAD = 6000, 200  # slots; more make the arrays large and the plan no better
_STATIC_STEP_S = 1800
_SD_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospects:
    """A forecast and where it comes from.

    Attributes:
        forecast: From the present slot on.
        history: The past it was made from; None for a static figure.
    """

    forecast: Forecast
    history: History | None = None


def prospects(series: IntensitySeries, *, now_s: float, horizon_s: float) -> Prospects:
    """Past and future of a grid from now on, over a horizon in seconds.

    Args:
        series: From `grid`, over as much of the past as there is, and the horizon.
        now_s: UTC time now.
        horizon_s: The longest wait and the job together; the present slot is added.
    """
    said = _coarse(given(series, now_s), horizon_s)
    present = series.at(now_s)
    # Where the chain has nothing for the present, not even carried on, the live figures have ended.
    if not said.step_s or (present.kind == "static" and not said.ahead):
        return Prospects(
            forecast=_static(series.static, now_s, horizon_s, f"annual figure of {series.static_provider}")
        )
    if not said.past:  # a source that speaks of the future only: its nearest word stands for the present
        nearest = present.gco2e_per_kwh if present.kind != "static" else said.ahead[min(said.ahead)]
        said = replace(said, past={int(now_s // said.step_s) * said.step_s: nearest})
    found = _found(said, series.provider, now_s=now_s, horizon_s=horizon_s)
    return replace(found, forecast=_ranged(found.forecast, series, said))


def forecasted(
    known: Mapping[int, IntensitySlot], wanted: Sequence[int], now_s: float
) -> tuple[IntensitySlot, ...]:
    """What no source has said, an `Outlook`: the plain continuation, and beyond what is known our forecast.

    So `grid` shows what `plan` plans with. Costing keeps the plain one, which needs no numpy.

    Args:
        known: Slots of one length, by start.
        wanted: Starts to fill.
        now_s: UTC time now.
    """
    plain = {slot.start_s: slot for slot in continued(known, wanted, now_s)}
    ahead = [t for t in plain if t > now_s and t > max(known)]
    step_s = known[max(known)].end_s - max(known) if known else 0
    begun = {t: s.gco2e_per_kwh for found in (known, plain) for t, s in found.items() if t <= now_s}
    if not ahead or len(begun) * step_s < DAY_S:  # of less than a day no shape follows
        return tuple(plain.values())
    said = Given(
        step_s=step_s,
        past=begun,
        ahead={t: s.gco2e_per_kwh for t, s in known.items() if t > now_s},
    )
    made = _found(said, "", now_s=now_s, horizon_s=max(ahead) - now_s).forecast
    for t in ahead:
        value, doubt = (part[(t - made.start_s) // step_s] for part in (made.values, made.sd))
        plain[t] = replace(
            plain[t],
            gco2e_per_kwh=value,
            low_gco2e_per_kwh=max(0.0, value - _SD_95 * doubt),
            high_gco2e_per_kwh=value + _SD_95 * doubt,
            source=f"own history: {made.source}",
        )
    return tuple(plain.values())


def _found(said: Given, source: str, *, now_s: float, horizon_s: float) -> Prospects:
    """Our forecast from the present slot on, led by that of the source as far as it reaches."""
    start_s = int(now_s // said.step_s) * said.step_s
    past = {t: v for t, v in said.past.items() if start_s - PAST_S <= t <= start_s}
    first = min(past)
    history = History(
        start_s=first,
        step_s=said.step_s,
        values=tuple(past.get(t) for t in range(first, start_s + 1, said.step_s)),
        source=source,
    )
    archive = _archive(said, history)
    found = forecast(history, horizon_s=math.ceil(horizon_s) + said.step_s, archive=archive)
    return Prospects(forecast=found, history=history)


def _static(slot: IntensitySlot, now_s: float, horizon_s: float, source: str) -> Forecast:
    """The annual figure over the horizon."""
    return static(
        slot.gco2e_per_kwh,
        start_s=int(now_s // _STATIC_STEP_S) * _STATIC_STEP_S,
        step_s=_STATIC_STEP_S,
        slots=int(horizon_s // _STATIC_STEP_S) + 2,
        source=source,
        sd=_sd(slot),
    )


def _sd(slot: IntensitySlot) -> float:
    """One standard deviation out of a 95 % range."""
    return (slot.high_gco2e_per_kwh - slot.low_gco2e_per_kwh) / 2 / _SD_95


def _coarse(said: Given, horizon_s: float) -> Given:
    """The same in longer slots where they are very many; a partly known one has the mean of what is known."""
    span_s = max(said.past, default=0) - min(said.past, default=0)
    least_s = max(horizon_s / _MOST_AHEAD, min(span_s, PAST_S) / _MOST_PAST)
    if not said.step_s or said.step_s >= least_s:
        return said
    lengths = range(said.step_s, DAY_S + 1, said.step_s)
    step_s = next((s for s in lengths if DAY_S % s == 0 and s >= least_s), DAY_S)
    past = _means(said.past, step_s)
    ahead = {t: v for t, v in _means(said.ahead, step_s).items() if t not in past}
    return replace(said, step_s=step_s, past=past, ahead=ahead)


def _means(values: Mapping[int, float], step_s: int) -> dict[int, float]:
    groups: dict[int, list[float]] = {}
    for t, value in values.items():
        groups.setdefault(t // step_s * step_s, []).append(value)
    return {t: sum(group) / len(group) for t, group in groups.items()}


def _archive(said: Given, history: History) -> Archive | None:
    """The source's forecast as if issued at the start of the present slot, which is known by now."""
    if not said.ahead:
        return None
    values = {history.present_s: history.values[-1], **said.ahead}
    raster = range(history.present_s, max(values) + 1, said.step_s)
    return Archive(
        forecasts=(
            PublishedForecast(
                issued_s=history.present_s,
                start_s=history.present_s,
                step_s=said.step_s,
                values=tuple(values.get(t) for t in raster),
                source=history.source,
            ),
        )
    )


def _ranged(found: Forecast, series: IntensitySeries, said: Given) -> Forecast:
    """The forecast with the source's own range where the source forecasts.

    Of past forecasts of the source nothing is kept, so the deviation found is that of ours.
    """
    sd = list(found.sd)
    for i in range(len(sd)):
        start_s = found.start_s + i * found.step_s
        if start_s in said.ahead:
            sd[i] = _sd(series.at(start_s))
    return replace(found, sd=tuple(sd))
