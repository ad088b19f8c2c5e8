"""`mlflow-carbon doctor`: what would be measured here, what would be modelled, and what would help."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon import assembly, autologging, journal, sensors
from mlflow_carbon import settings as setup

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.core.series import Channel
    from mlflow_carbon.sensors import Absence
    from mlflow_carbon.session.publish import Costing

__all__ = ["add", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What doctor found."""

    channels: tuple[Channel, ...]
    absences: tuple[Absence, ...]
    costing: Costing
    state_folder: str
    orphans: tuple[str, ...]
    hooks: bool
    disabled: bool
    problems: tuple[str, ...]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="what is measured here, what is modelled, and why")
    parser.add_argument("--zone", help="grid zone to look up, for example GB")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    found = diagnose(options.zone)
    print(json.dumps(_as_dict(found), indent=2) if options.json else render(found))
    return 0 if found.channels and found.hooks and not found.disabled else 1


def diagnose(zone: str | None) -> Diagnosis:
    """Look at sensors, grid, state folder, MLflow and settings.

    Raises:
        SettingsError: If the zone is unknown.
    """
    settings, problems = setup.resolve({"zone": zone})
    if zone is not None:
        assembly.check_zone(zone)
    discovery = sensors.discover(settings)
    for sensor in discovery.sensors:
        sensor.close()
    folder = assembly.journal_folder()
    return Diagnosis(
        channels=discovery.channels,
        absences=discovery.absences,
        costing=assembly.costing_now(settings),
        state_folder=str(folder.parent),
        orphans=tuple(str(path) for path in journal.orphans(folder, host=assembly.host())),
        hooks=autologging.is_supported(),
        disabled=setup.is_disabled(),
        problems=tuple(problems),
    )


def render(found: Diagnosis) -> str:
    """The diagnosis as text."""
    lines = ["Read on this machine"]
    lines += _channel_lines(found.channels) or ["  nothing: no sensor and no model was found"]
    lines += ["", "Not available"] + [
        f"  {a.sensor}: {a.reason}" + (f"\n    to change that: {a.remedy}" if a.remedy else "")
        for a in found.absences
    ]
    intensity = found.costing.intensity
    slot = intensity.static if not intensity.slots else intensity.slots[0]
    lines += [
        "",
        "Grid",
        f"  zone {intensity.zone} (from {found.costing.zone_source}): {_slot_text(slot)}",
        f"  {slot.kind}, {intensity.signal}, {intensity.scope}",
        f"  {intensity.provider}: {intensity.dataset}",
        *([f"  {intensity.note}"] if intensity.note else []),
        f"  PUE {found.costing.pue_ratio:g} ({found.costing.pue_source})",
        "",
        "MLflow",
        "  hooks for autolog: " + ("present" if found.hooks else "not where expected; use track(run_id=...)"),
        *(["  MLFLOW_CARBON_DISABLE is set: nothing is measured"] if found.disabled else []),
        "",
        f"State in {found.state_folder}",
        *_orphan_lines(found.orphans),
    ]
    if found.problems:
        lines += ["", "Settings", *(f"  {problem}" for problem in found.problems)]
    return "\n".join(lines)


def _slot_text(slot: IntensitySlot) -> str:
    return (
        f"{slot.gco2e_per_kwh:.0f} gCO2e/kWh ({slot.low_gco2e_per_kwh:.0f} to {slot.high_gco2e_per_kwh:.0f})"
    )


def _channel_lines(channels: Iterable[Channel]) -> list[str]:
    return [
        f"  {c.component.value:5} {c.basis.value:9} {c.quality.name}  "
        f"{_range(c):>14}  {c.id}\n{'':8}{c.device}; {c.source}"
        for c in channels
    ]


def _range(channel: Channel) -> str:
    return f"x{channel.low_ratio:g} to x{channel.high_ratio:g}"


def _orphan_lines(orphans: Sequence[str]) -> list[str]:
    if not orphans:
        return ["  no journal waits to be recovered"]
    count = "1 journal waits" if len(orphans) == 1 else f"{len(orphans)} journals wait"
    return [
        f"  {count} for `mlflow-carbon recover`:",
        *(f"    {path}" for path in orphans),
    ]


def _as_dict(found: Diagnosis) -> dict[str, Any]:
    document = asdict(found)
    for channel in document["channels"]:
        channel["quality"] = channel["quality"].name
    return document
