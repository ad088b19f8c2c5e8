"""`mlflow-carbon grid`: how clean a grid is now and in the next 24 hours, and who says so."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon import assembly, grid
from mlflow_carbon import settings as setup
from mlflow_carbon.cli.chart import bars
from mlflow_carbon.core.prospects import PAST_S, forecasted
from mlflow_carbon.core.times import clock
from mlflow_carbon.sampler import SystemClock

if TYPE_CHECKING:
    import argparse

    from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
    from mlflow_carbon.settings import Settings

__all__ = ["Look", "add", "look", "render"]

_AHEAD_S = 86_400
_COLUMN_S = 1800
_HOUR_S = 3600
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known of a grid.

    Attributes:
        intensity: Figures of the next 24 h, with who says so.
        zone_source: How the zone was found.
        now_s: UTC time of the look, seconds since the epoch.
        problems: What is wrong in variables and file.
    """

    intensity: IntensitySeries
    zone_source: str
    now_s: float
    problems: tuple[str, ...] = ()

    @property
    def now(self) -> IntensitySlot:
        """The figure that counts now."""
        return self.intensity.at(self.now_s)

    @property
    def coming(self) -> tuple[IntensitySlot, ...]:
        """Slots from now on, for 24 h."""
        until_s = self.now_s + _AHEAD_S
        return tuple(s for s in self.intensity.slots if s.end_s > self.now_s and s.start_s < until_s)


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("grid", help="carbon intensity of a grid now and in the next 24 hours")
    parser.add_argument(
        "zone", nargs="?", metavar="ZONE", help="grid zone, for example GB; none: as for runs"
    )
    parser.add_argument("--grid", metavar="SOURCE", help="source of the figures, see the setting `grid`")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    settings, problems = setup.resolve({"zone": options.zone, "grid": options.grid})
    if options.zone is not None:
        assembly.check_zone(options.zone)
    # Whoever asks by hand wants to know what the service says now, also after a failure.
    cache = grid.fetch.Cache(folder=setup.home() / "grid")
    access = grid.Access(cache=cache, insists=True, outlook=forecasted)
    found = look(settings, access=access, now_s=SystemClock().wall_ns() / _NS_PER_S, problems=problems)
    print(json.dumps(_as_dict(found), indent=2) if options.json else render(found))
    return 1 if found.now.kind == "static" else 0


def look(settings: Settings, *, access: grid.Access, now_s: float, problems: list[str] | None = None) -> Look:
    """Ask for the present, the next 24 h, and as much of the past as the source gives at little cost.

    Args:
        settings: Zone and source.
        access: Network and cache.
        now_s: UTC time, seconds since the epoch.
        problems: What to report beside it.

    Raises:
        ZoneError: If nobody knows the zone.
    """
    zone = grid.zones.resolve(settings, env=os.environ, region=assembly.region(settings))
    provider, _ = grid.provider_of(settings, zone, access)
    past_s = provider.history_s if provider is not None else PAST_S
    window = grid.Window(start_s=now_s - past_s, end_s=now_s + _AHEAD_S)
    return Look(
        intensity=grid.intensity(settings, zone, window=window, access=access, now_s=now_s),
        zone_source=zone.source,
        now_s=now_s,
        problems=tuple(problems or ()),
    )


def render(found: Look) -> str:
    """The look as text; times are UTC."""
    series, now = found.intensity, found.now
    facts = grid.zones.facts(series.zone)
    who = now.source or (series.static_provider if now.kind == "static" else series.provider)
    name = f", {facts.name}" if facts else ""
    lines = [
        f"Zone {series.zone}{name} (from {found.zone_source})",
        f"  now {_value(now)}: {now.kind}, {series.signal}, scope {series.scope}",
        f"  {who}{_age(now, found.now_s)}",
        *_next(found),
        *([f"  {series.note}"] if series.note else []),
    ]
    if now.kind == "static":
        lines.append("  An annual or fixed figure says how much, never when.")
    return "\n".join([*lines, *(f"  {problem}" for problem in found.problems)])


def _next(found: Look) -> list[str]:
    coming = found.coming
    if not coming:
        return []
    best, worst = (choose(coming, key=lambda s: s.gco2e_per_kwh) for choose in (min, max))
    first_s = int(found.now_s) // _COLUMN_S * _COLUMN_S
    columns = [first_s + i * _COLUMN_S for i in range(_AHEAD_S // _COLUMN_S)]
    values = [slot.gco2e_per_kwh if (slot := _at(found, t)) else None for t in columns]
    chart = bars(values, marks=[best.start_s <= t < best.end_s for t in columns])
    indent = chart[0].index("|") + 1 if chart else 0
    hours = "".join(f"{clock(t):6}" for t in columns[::6])
    kinds = ", ".join(sorted({s.kind for s in coming}))
    sources = ", ".join(dict.fromkeys(s.source or found.intensity.provider for s in coming))
    return [
        "",
        f"  next 24 h ({kinds}; {sources})",
        f"  lowest {_value(best)} at {clock(best.start_s)} UTC",
        f"  highest {_value(worst)} at {clock(worst.start_s)} UTC",
        "",
        *(f"  {row}" for row in chart),
        f"  {' ' * indent}{hours}".rstrip(),
        "",
    ]


def _at(found: Look, t_s: int) -> IntensitySlot | None:
    slot = found.intensity.at(t_s + _COLUMN_S / 2)
    return None if slot.kind == "static" else slot


def _value(slot: IntensitySlot) -> str:
    return (
        f"{slot.gco2e_per_kwh:.0f} gCO2e/kWh ({slot.low_gco2e_per_kwh:.0f} to {slot.high_gco2e_per_kwh:.0f})"
    )


def _age(slot: IntensitySlot, now_s: float) -> str:
    """Which time the figure is of, and how old it is."""
    if slot.kind == "static":
        return ""
    said = f", of {clock(slot.start_s)} to {clock(slot.end_s)} UTC"
    for word, t_s in (("issued", slot.issued_s), ("fetched", slot.fetched_s)):
        if t_s is not None:
            said += f", {word} {_minutes(now_s - t_s)}"
    return said


def _minutes(age_s: float) -> str:
    if age_s < _HOUR_S:
        return f"{max(0.0, age_s) / 60:.0f} min ago"
    return f"{age_s / _HOUR_S:.1f} h ago"


def _as_dict(found: Look) -> dict[str, Any]:
    series = found.intensity
    return {
        "zone": series.zone,
        "zone_source": found.zone_source,
        "provider": series.provider,
        "dataset": series.dataset,
        "signal": series.signal,
        "scope": series.scope,
        "note": series.note,
        "asked_s": found.now_s,
        "now": asdict(found.now),
        "next": [asdict(slot) for slot in found.coming],
        "static": asdict(series.static),
        "problems": list(found.problems),
    }
