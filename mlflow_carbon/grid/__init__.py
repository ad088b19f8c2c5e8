"""Grid carbon intensity: zones, providers and the chain that falls back with a label.

A provider is one file with `request` and `parse` and one entry in `PROVIDERS`; the network and the
cache are in `fetch`. `intensity` never raises for grid trouble: it falls back to the annual figure
and says so in the note, the provider and the kind of the slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from mlflow_carbon.core.carbon import IntensitySeries
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import annual, fetch, gb, zones

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.zones import Zone
    from mlflow_carbon.settings import Settings

__all__ = ["PROVIDERS", "Access", "GridProvider", "Window", "annual", "fetch", "gb", "intensity", "zones"]

_REVISED_S = 86_400
"""Live figures are revised for about a day after their slot; later ones are final."""


class GridProvider(Protocol):
    """A live source of intensity. It builds requests and reads answers; it never opens a connection."""

    @property
    def name(self) -> str:
        """Who says so, for labels and for the cache."""

    @property
    def zones(self) -> frozenset[str]:
        """The zones it knows."""

    @property
    def slot_s(self) -> int:
        """Native slot length in seconds."""

    @property
    def scope(self) -> str:
        """`direct`, `life cycle` or `not stated`."""

    @property
    def signal(self) -> str:
        """`average` or `marginal`."""

    def request(self, zone_id: str, start_s: float, end_s: float) -> list[str]:
        """Addresses that together cover [start, end) in seconds since the epoch."""

    def parse(self, body: bytes) -> tuple[IntensitySlot, ...]:
        """Slots of one answer, sorted, without overlap; raises `GridError` if there are none."""


PROVIDERS: Mapping[str, GridProvider] = {"gb": gb.CarbonIntensityGB()}
"""Live providers by the name that `settings.grid` takes; `auto` takes the first that knows the zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A half-open span of UTC time, in seconds since the epoch."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the outside is reached.

    Attributes:
        cache: Slots that were fetched before.
        fetch: Body of an address; raises `GridError`.
        providers: Live providers by name.
        tables: CodeCarbon's data files.
    """

    cache: fetch.Cache
    fetch: Callable[[str], bytes] = fetch.get
    providers: Mapping[str, GridProvider] = field(default_factory=lambda: PROVIDERS)
    tables: annual.Tables | None = field(default_factory=annual.installed)


def intensity(
    settings: Settings, zone: Zone, *, window: Window, access: Access, now_s: float
) -> IntensitySeries:
    """Intensity of a zone over a window: the fixed figure, else live, else annual.

    Args:
        settings: `intensity_gco2e_per_kwh` and `grid` decide.
        zone: From `zones.resolve`; a live service is asked only about a zone that the user named.
        window: Time to cover; it may reach into the future as far as the provider forecasts.
        access: Network, cache and tables.
        now_s: UTC time, seconds since the epoch: decides what in the cache is still fresh.
    """
    if settings.intensity_gco2e_per_kwh is not None:
        return _fixed(settings.intensity_gco2e_per_kwh, zone)
    static = annual.series(zone, tables=access.tables)
    if settings.grid == "annual":
        return static
    found, why_not = _provider(settings, zone, access)
    if found is None:
        return _noted(static, why_not)
    slots, trouble = _slots(found, zone.id, window, access, now_s)
    if not slots:
        return _noted(static, f"{trouble or f'{found.name}: no data'}; annual figure used instead")
    return replace(
        static,
        provider=found.name,
        signal=found.signal,
        scope=found.scope,
        dataset=f"{found.name}, {found.slot_s // 60} min slots",
        slots=slots,
        note=_joined(
            trouble,
            f"where a slot is missing: {static.dataset}, {static.scope}",
            static.note,
        ),
    )


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


def _provider(settings: Settings, zone: Zone, access: Access) -> tuple[GridProvider | None, str]:
    """The live provider to ask; otherwise why none is, where the user asked for one by name."""
    asked = settings.grid != "auto"
    wanted = [access.providers[settings.grid]] if settings.grid in access.providers else []
    found = next((p for p in (wanted if asked else access.providers.values()) if zone.id in p.zones), None)
    if found is None:
        return None, f"grid={settings.grid} does not know {zone.id}" if asked else ""
    if not zone.is_named:
        # A guess, and with it the place of the machine, is not sent to anybody (decision 8).
        return None, f"{found.name} is asked only if you name the zone, for example zone={zone.id}"
    return found, ""


def _slots(
    provider: GridProvider, zone_id: str, window: Window, access: Access, now_s: float
) -> tuple[tuple[IntensitySlot, ...], str]:
    """Slots over the window and what went wrong: fresh from the cache, else fetched, else stale."""
    first_s = window.start_s // provider.slot_s * provider.slot_s
    cached = access.cache.load(provider.name, zone_id, first_s, window.end_s)
    entries = {t: e for t, e in cached.items() if _fits(e.slot, provider.slot_s)}
    wanted = range(int(first_s), max(int(first_s) + 1, int(window.end_s)), provider.slot_s)
    if all(t in entries and _is_fresh(entries[t], provider.slot_s, now_s) for t in wanted):
        return tuple(entries[t].slot for t in wanted), ""
    trouble = ""
    fetched: dict[int, IntensitySlot] = {}
    for url in provider.request(zone_id, window.start_s, window.end_s):
        try:
            fetched |= {s.start_s: s for s in provider.parse(access.fetch(url))}
        except GridError as error:
            trouble = str(error)
            break
    access.cache.save(provider.name, zone_id, fetched.values(), now_s)
    if trouble and any(t in entries and t not in fetched for t in wanted):
        trouble += "; earlier answers used"
    slots = {t: e.slot for t, e in entries.items()} | fetched
    return tuple(slots[t] for t in sorted(slots)), trouble


def _fits(slot: IntensitySlot, slot_s: int) -> bool:
    """Whether a cached slot is one of the provider's own; a damaged file must not make slots overlap."""
    return slot.start_s % slot_s == 0 and slot.end_s - slot.start_s == slot_s


def _is_fresh(entry: fetch.CachedSlot, slot_s: int, now_s: float) -> bool:
    """Whether the figure is final, or was fetched in the slot that is running now."""
    is_final = entry.slot.kind == "actual" and entry.fetched_s >= entry.slot.end_s + _REVISED_S
    return is_final or entry.fetched_s // slot_s == now_s // slot_s


def _noted(series: IntensitySeries, note: str) -> IntensitySeries:
    return replace(series, note=_joined(note, series.note))


def _joined(*notes: str) -> str:
    return "; ".join(n for n in notes if n)
