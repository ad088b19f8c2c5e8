"""From a zone and a window to intensities: each step down has a label, and grid trouble never raises.

given figure -> the source that was named -> what it has answered before -> the zone's own past carried
on -> the annual figure. A static figure says how much, never when.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_carbon.core.carbon import IntensitySeries
from mlflow_carbon.core.outlook import Outlook, continued
from mlflow_carbon.core.settle import newest
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import annual, diurnal, fetch, recorded
from mlflow_carbon.grid.answers import minute
from mlflow_carbon.grid.contract import Window
from mlflow_carbon.grid.ledger import Ledger
from mlflow_carbon.grid.providers import AUTO, PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.cache import Cache
    from mlflow_carbon.grid.contract import GridProvider, LocalSource, Request, Source
    from mlflow_carbon.grid.zones import Zone
    from mlflow_carbon.settings import Settings

__all__ = ["Access", "intensity", "provider_of"]

_DAY_S = 86_400
_REVISED_S = _DAY_S  # live figures are revised for about a day after their slot; later ones are final
_PAST_S = 7 * _DAY_S  # how much of the cache is read to carry on
_OLD_FORECAST_S, _STALE_FORECAST_S = 6 * 3600, _DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the outside is reached.

    Attributes:
        cache: Slots that were fetched before.
        providers: Live providers by the name that `settings.grid` takes.
        fetch: Body of an answer; raises `GridError`.
        env: Where tokens are.
        tables: CodeCarbon's data files.
        outlook: Fills what no source has given.
        insists: Ask also a service that has just failed.
    """

    cache: Cache
    providers: Mapping[str, GridProvider] = field(default_factory=lambda: PROVIDERS)
    fetch: Callable[[Request], bytes] = fetch.get
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    tables: annual.Tables | None = field(default_factory=annual.installed)
    outlook: Outlook = continued
    insists: bool = False


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
    live = _Live(provider=found, place=place, access=access, now_s=now_s)
    past = live.past(window)
    slots, notes = live.slots(window, past)
    filled = _filled(slots, past, found, window=window, access=access, now_s=now_s)
    if not filled:
        return _noted(static, f"{_joined(*notes) or f'{found.name}: no data'}; annual figure used instead")
    return _series(static, found, filled, (*notes, *_ages(filled, now_s)))


def provider_of(settings: Settings, zone: Zone, access: Access) -> tuple[GridProvider | None, str]:
    """The live provider to ask; otherwise why none is, where the user asked for one by name."""
    name = settings.grid.partition(":")[0]
    asked = name != "auto"
    wanted = [access.providers[n] for n in ([name] if asked else AUTO) if n in access.providers]
    wanted = [p for p in wanted if asked or not p.variable or access.env.get(p.variable)]
    found = next((p for p in wanted if p.knows(zone.id)), None)
    if found is None:
        return None, f"grid={name} does not know {zone.id}" if asked else ""
    if not zone.is_named:
        # A guess, and with it the place of the machine, is not sent to anybody (decision 8).
        return None, f"{found.name} is asked only if you name the zone, for example zone={zone.id}"
    if found.variable and not access.env.get(found.variable):
        return None, f"grid={name} needs a token in {found.variable}; annual figure used instead"
    return found, ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """One provider, asked about one place at one time."""

    provider: GridProvider
    place: str
    access: Access
    now_s: float

    def past(self, window: Window) -> dict[int, IntensitySlot]:
        """What the cache holds of the time before and in the window."""
        name, slot_s = self.provider.name, self.provider.slot_s
        start_s = min(window.start_s, self.now_s) - _PAST_S
        found = self.access.cache.load(name, self.place, start_s, window.end_s)
        return {t: s for t, s in found.items() if t % slot_s == 0 and s.end_s - t == slot_s}

    def slots(
        self, window: Window, past: Mapping[int, IntensitySlot]
    ) -> tuple[dict[int, IntensitySlot], tuple[str, ...]]:
        """Slots of the window and what is to be said: from the cache, else fetched, else older ones."""
        slot_s = self.provider.slot_s
        cached = {t: s for t, s in past.items() if t > window.start_s - slot_s}
        wanted = _starts(window, slot_s)
        open_ = [t for t in wanted if t not in cached or not self._is_fresh(cached[t])]
        if not open_:
            return {t: cached[t] for t in wanted}, ()
        # Only what is not final yet: a run of weeks does not ask for all its weeks again.
        missing = Window(start_s=max(window.start_s, open_[0]), end_s=max(window.end_s, open_[0] + 1))
        fetched, notes, failed = self._ask(missing)
        if failed and any(t in cached and t not in fetched for t in open_):
            notes = (*notes, "earlier answers used")
        return newest(cached.values(), fetched.values()), notes

    def _is_fresh(self, slot: IntensitySlot) -> bool:
        """Whether the figure is final, or was fetched in the slot that is running now."""
        fetched_s, slot_s = slot.fetched_s or 0.0, self.provider.slot_s
        is_final = slot.kind == "actual" and fetched_s >= slot.end_s + _REVISED_S
        return is_final or fetched_s // slot_s == self.now_s // slot_s

    def _ask(self, window: Window) -> tuple[dict[int, IntensitySlot], tuple[str, ...], bool]:
        """Slots that the service gives, what it says, and whether it failed. Stops at the first fault."""
        ledger = Ledger(
            folder=self.access.cache.folder, source=self.provider.name, insists=self.access.insists
        )
        fetched: dict[int, IntensitySlot] = {}
        notes: list[str] = []
        failed = False
        try:
            requests = self.provider.request(self.place, window, self.now_s)
        except GridError as error:
            return {}, (str(error),), True
        for request in requests:
            if ledger.is_answered(request, self.provider.slot_s, self.now_s):
                continue
            if why := ledger.why_not(request, self.now_s):
                notes, failed = [*notes, f"{self.provider.name}: {why}"], True
                continue
            try:
                answer = self.provider.parse(self.access.fetch(request), request)
            except GridError as error:
                ledger.failed(request, error, self.now_s)
                notes, failed = [*notes, str(error)], True
                if not error.is_refusal:
                    break
                continue
            ledger.succeeded(request, self.now_s)
            fetched = newest(fetched.values(), map(self._stamped, answer.slots))
            notes += [answer.note] if answer.note else []
        self.access.cache.save(self.provider.name, self.place, fetched.values())
        return fetched, tuple(notes), failed

    def _stamped(self, slot: IntensitySlot) -> IntensitySlot:
        """With who said it and when; what does not tell when it was issued was the newest at the time."""
        issued_s = slot.issued_s if slot.issued_s is not None else self.now_s
        return replace(slot, source=self.provider.name, issued_s=issued_s, fetched_s=self.now_s)


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
        past = Window(start_s=min(window.start_s, now_s) - _PAST_S, end_s=window.end_s)
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
    wanted = [t for t in _starts(window, source.slot_s) if t not in given]
    added = access.outlook(known, wanted, now_s) if wanted else ()
    found = {t: s for t, s in known.items() if window.start_s - source.slot_s < t}
    return tuple(
        (found | {s.start_s: s for s in added})[t] for t in sorted({*found, *(s.start_s for s in added)})
    )


def _is_stale(slot: IntensitySlot, now_s: float) -> bool:
    """Whether it is a forecast of what is still to come that is more than a day old."""
    return (
        slot.kind == "forecast"
        and slot.start_s > now_s
        and (slot.issued_s or now_s) < now_s - _STALE_FORECAST_S
    )


def _starts(window: Window, slot_s: int) -> range:
    first = int(window.start_s // slot_s) * slot_s
    return range(first, max(first + 1, int(window.end_s)), slot_s)


def _series(
    static: IntensitySeries, source: Source, slots: tuple[IntensitySlot, ...], notes: Iterable[str]
) -> IntensitySeries:
    """The series of a source, with the annual figure behind it and who said what in its note."""
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
