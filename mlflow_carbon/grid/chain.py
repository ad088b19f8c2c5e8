"""From a zone and a window to intensities: each step down has a label, and grid trouble never raises.

given figure -> the source that was named -> what it has answered before -> the zone's own past carried
on -> the annual figure. A static figure says how much, never when. A series is average or marginal
throughout; emissions are counted by an average one (decision 21).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_carbon.core.carbon import IntensitySeries
from mlflow_carbon.core.settle import newest
from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import annual, diurnal, recorded
from mlflow_carbon.grid.contract import Window
from mlflow_carbon.grid.live import PAST_S, Live, starts
from mlflow_carbon.grid.providers import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.access import Access
    from mlflow_carbon.grid.contract import GridProvider, LocalSource, Source
    from mlflow_carbon.grid.zones import Zone
    from mlflow_carbon.settings import Settings

__all__ = ["average_intensity", "intensity", "provider_of"]

_OLD_FORECAST_S, _STALE_FORECAST_S = 6 * 3600, 86_400


def intensity(
    settings: Settings, zone: Zone, *, window: Window, access: Access, now_s: float
) -> IntensitySeries:
    """Intensity of a zone over a window: the fixed figure, else that of the source, carried on, else annual.

    Args:
        settings: `intensity_gco2e_per_kwh` and `grid` decide.
        zone: From `zones.resolve`; a live service is asked only about a zone that the user named.
        window: Time to cover; it may reach into the future.
        access: Network, cache and tables.
        now_s: UTC time, seconds since the epoch: decides what in the cache is still fresh.
    """
    if settings.intensity_gco2e_per_kwh is not None:
        return _fixed(settings.intensity_gco2e_per_kwh, zone)
    static = annual.series(zone, tables=access.tables)
    name, _, argument = settings.grid.partition(":")
    if name == "annual":
        return static
    if name in {"recorded", "diurnal"}:
        return _local(name, argument, static, window=window, access=access, now_s=now_s)
    found, why_not = provider_of(settings, zone, access)
    if found is None:
        return _noted(static, why_not)
    place = f"{zone.id}:{argument}" if argument else zone.id
    live = Live(provider=found, place=place, access=access, now_s=now_s)
    past = live.past(window)
    slots, notes = live.slots(window, past)
    filled = _filled(slots, past, found, window=window, access=access, now_s=now_s)
    if not filled:
        return _noted(static, f"{_joined(*notes) or f'{found.name}: no data'}; annual figure used instead")
    return _series(static, found, filled, (*notes, *_ages(filled, now_s)))


def average_intensity(
    settings: Settings, zone: Zone, *, window: Window, access: Access, now_s: float
) -> IntensitySeries:
    """Intensity to count emissions with: as `intensity`, but the annual average where `grid` is marginal."""
    provider = access.providers.get(settings.grid.partition(":")[0])
    if settings.intensity_gco2e_per_kwh is not None or provider is None or provider.signal == "average":
        return intensity(settings, zone, window=window, access=access, now_s=now_s)
    return _noted(
        annual.series(zone, tables=access.tables),
        f"grid={settings.grid} is marginal: it may choose when to run, but emissions are counted by the "
        "average; annual figure used instead",
    )


def provider_of(settings: Settings, zone: Zone, access: Access) -> tuple[GridProvider | None, str]:
    """The live provider to ask; otherwise why none is, where the user asked for one by name."""
    name = settings.grid.partition(":")[0]
    asked = name != "auto"
    wanted = [access.providers[n] for n in ([name] if asked else AUTO) if n in access.providers]
    wanted = [p for p in wanted if asked or not p.variable or access.env.get(p.variable)]
    found = next((p for p in wanted if p.knows(zone.id)), None)
    if found is None:
        return None, _unknown(name, zone.id, access) if asked else ""
    if not zone.is_named:
        # A guess, and with it the place of the machine, is not sent to anybody (decision 8).
        return None, f"{found.name} is asked only if you name the zone, for example zone={zone.id}"
    if found.variable and not access.env.get(found.variable):
        return None, f"grid={name} needs a token in {found.variable}; annual figure used instead"
    return found, ""


def _unknown(name: str, zone_id: str, access: Access) -> str:
    named = access.providers.get(name)
    known = {other: p for other, p in access.providers.items() if p.knows(zone_id)}
    others = [other for other, p in known.items() if named is None or p.signal == named.signal]
    hint = f"; {' and '.join(others)} may" if others else "; no live source does"
    return f"grid={name} does not know {zone_id}{hint}"


def _local(
    name: str, argument: str, static: IntensitySeries, *, window: Window, access: Access, now_s: float
) -> IntensitySeries:
    """The series of a source that asks nobody."""
    try:
        source: LocalSource = (
            recorded.read(Path(argument).expanduser())
            if name == "recorded"
            else diurnal.Diurnal(seed=int(argument or 0))
        )
        past = Window(start_s=min(window.start_s, now_s) - PAST_S, end_s=window.end_s)
        found = source.slots(static.zone, past, now_s)
        slots = {s.start_s: replace(s, source=source.name, issued_s=now_s, fetched_s=now_s) for s in found}
        filled = _filled(slots, {}, source, window=window, access=access, now_s=now_s)
    except GridError as error:
        return _noted(static, f"{error}; annual figure used instead")
    if not filled:
        return _noted(static, f"{source.name}: nothing of this time; annual figure used instead")
    note = "MOCK: invented figures, for demonstrations only" if name == "diurnal" else ""
    return _series(static, source, filled, (note,))


def _filled(
    slots: Mapping[int, IntensitySlot],
    past: Mapping[int, IntensitySlot],
    source: Source,
    *,
    window: Window,
    access: Access,
    now_s: float,
) -> tuple[IntensitySlot, ...]:
    """The slots, without forecasts that are too old, and what the outlook adds where none is."""
    given = {t: s for t, s in slots.items() if not _is_stale(s, now_s)}
    known = newest((s for s in past.values() if not _is_stale(s, now_s)), given.values())
    wanted = [t for t in starts(window, source.slot_s) if t not in given]
    added = access.outlook(known, wanted, now_s) if wanted else ()
    found = {t: s for t, s in known.items() if window.start_s - source.slot_s < t}
    found |= {s.start_s: s for s in added}
    return tuple(found[t] for t in sorted(found))


def _is_stale(slot: IntensitySlot, now_s: float) -> bool:
    """Whether it is a forecast of what is still to come that is more than a day old."""
    return (
        slot.kind == "forecast"
        and slot.start_s > now_s
        and (slot.issued_s or now_s) < now_s - _STALE_FORECAST_S
    )


def _series(
    static: IntensitySeries, source: Source, slots: tuple[IntensitySlot, ...], notes: Iterable[str]
) -> IntensitySeries:
    """The series of a source, with what stands behind it and who said what in its note."""
    static = static if source.signal == static.signal else _own_mean(static, source, slots)
    own = Counter(s.source for s in slots if s.source != source.name)
    return replace(
        static,
        provider=source.name,
        signal=source.signal,
        scope=source.scope,
        dataset=f"{source.dataset}, {source.slot_s // 60} min slots",
        slots=slots,
        note=_joined(
            *notes,
            *(f"{count} of {len(slots)} slots: {name}" for name, count in own.items()),
            f"where a slot is missing: {static.dataset}, {static.scope}",
            static.note,
        ),
    )


def _own_mean(static: IntensitySeries, source: Source, slots: tuple[IntensitySlot, ...]) -> IntensitySeries:
    """The mean of the slots in place of the annual average, which is of another signal than they are."""
    mean = sum(s.gco2e_per_kwh for s in slots) / len(slots)
    low, high = min(s.low_gco2e_per_kwh for s in slots), max(s.high_gco2e_per_kwh for s in slots)
    return replace(
        static,
        static=annual.fixed_slot(mean, low=min(low, mean), high=max(high, mean)),
        static_provider=source.name,
        scope=source.scope,
        dataset=f"mean of these {len(slots)} slots ({source.signal})",
        note="",
    )


def _ages(slots: Iterable[IntensitySlot], now_s: float) -> tuple[str, ...]:
    """A word on forecasts that are getting old."""
    issued = [
        s.issued_s for s in slots if s.kind == "forecast" and s.start_s > now_s and s.issued_s is not None
    ]
    if not issued or min(issued) >= now_s - _OLD_FORECAST_S:
        return ()
    return (f"forecast issued {minute(min(issued))}, {(now_s - min(issued)) / 3600:.0f} h ago",)


def _fixed(value: float, zone: Zone) -> IntensitySeries:
    return IntensitySeries(
        zone=zone.id,
        provider="fixed",
        static=annual.fixed_slot(value, low=value, high=value),
        static_provider="fixed",
        scope="as given",
        dataset="intensity_gco2e_per_kwh in the settings",
        note="given by the user, taken as exact",
    )


def _noted(series: IntensitySeries, note: str) -> IntensitySeries:
    return replace(series, note=_joined(note, series.note))


def _joined(*notes: str) -> str:
    return "; ".join(dict.fromkeys(n for n in notes if n))
