"""`mlflow-carbon doctor`: what would be measured here, what would be modelled, and what would help."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon import assembly, autologging, grid, journal, sensors
from mlflow_carbon import settings as setup
from mlflow_carbon.core.series import Basis, Component
from mlflow_carbon.errors import SettingsError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.core.series import Channel
    from mlflow_carbon.grid.cloud import CloudSite
    from mlflow_carbon.sensors import Absence
    from mlflow_carbon.session.publish import Costing

__all__ = ["add", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What doctor found.

    Attributes:
        simulated: What of this is no real machine, a sentence each.
        channels: What counts.
        absences: What is missing.
        untried: Sensors among those that read here which their makers have never run on hardware.
        observed: Names of what is recorded beside power.
        costing: Grid and PUE.
        state_folder: Where journals and caches are.
        orphans: Journals that wait to be recovered.
        hooks: Whether MLflow has the functions that autolog needs.
        disabled: Whether measuring is switched off.
        problems: What is wrong in variables and file.
        asked_cloud: Whether the metadata services of the clouds were asked.
    """

    simulated: tuple[str, ...]
    channels: tuple[Channel, ...]
    absences: tuple[Absence, ...]
    untried: tuple[str, ...]
    observed: tuple[str, ...]
    costing: Costing
    state_folder: str
    orphans: tuple[str, ...]
    hooks: bool
    disabled: bool
    problems: tuple[str, ...]
    asked_cloud: bool = False


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="what is measured here, what is modelled, and why")
    parser.add_argument("--zone", help="grid zone to look up, for example GB")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="look at the files of a simulated machine under DIR, not at /",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    found = diagnose(options.zone, options.root)
    print(json.dumps(_as_dict(found), indent=2) if options.json else render(found))
    return 0 if found.channels and found.hooks and not found.disabled else 1


def diagnose(zone: str | None, root: Path | None = None) -> Diagnosis:
    """Look at sensors, grid, state folder, MLflow and settings.

    Args:
        zone: Grid zone to look up; None: that of the settings.
        root: Root of a simulated machine; None: this one.

    Raises:
        SettingsError: If the zone is unknown, or the root is no directory.
    """
    if root is not None and not root.is_dir():
        raise SettingsError(f"--root: expected a directory, got {root}")
    settings, problems = setup.resolve({"zone": zone})
    if zone is not None:
        assembly.check_zone(zone)
    discovery = sensors.discover(settings, root=root or Path("/"))
    observed = tuple(sorted(sensors.observe(discovery.observers)))
    for sensor in discovery.sensors:
        sensor.close()
    for observer in discovery.observers:
        observer.close()
    folder = assembly.journal_folder()
    return Diagnosis(
        simulated=tuple(_simulated(root)),
        channels=discovery.channels,
        absences=discovery.absences,
        untried=tuple(sorted({c.sensor for c in discovery.channels} & sensors.UNTRIED)),
        observed=observed,
        costing=assembly.costing_now(settings),
        state_folder=str(folder.parent),
        orphans=tuple(str(path) for path in journal.orphans(folder, host=assembly.host())),
        hooks=autologging.is_supported(),
        disabled=setup.is_disabled(),
        problems=tuple(problems),
        asked_cloud=settings.cloud_metadata,
    )


def _simulated(root: Path | None) -> Iterator[str]:
    if root is not None:
        yield f"files are read under {root}, not of this machine; GPU drivers and plugins are its own"
    if _STUB in os.environ:
        yield f"GPUs come from {_STUB}, not from a driver"


_STUB = "NVML_STUB_STATE"  # of mlflow_carbon.testing, which nothing here imports


def render(found: Diagnosis) -> str:
    """The diagnosis as text."""
    parts = [c for c in found.channels if c.component is not Component.NODE]
    nodes = [c for c in found.channels if c.component is Component.NODE]
    lines = [*(f"SIMULATED: {line}" for line in found.simulated), *([""] if found.simulated else [])]
    lines += ["Read on the simulated machine" if found.simulated else "Read on this machine"]
    told: set[Absence] = set()
    for channel in parts:
        lines += [*_channel_lines(channel), *_better(channel, found.absences, told)]
    lines += [] if parts else ["  nothing: no sensor and no model was found"]
    lines += ["", "The whole machine, beside its parts and never added to them"]
    lines += [line for channel in nodes for line in _channel_lines(channel)] or [f"  {_NO_NODE}"]
    lines += ["", "Recorded beside power"]
    lines += [f"  {line}" for line in _observed_lines(found.observed)] or ["  nothing"]
    if found.untried:
        lines += ["", "Never run on hardware", f"  {', '.join(found.untried)}: {_NEVER}"]
    lines += ["", "Not available"] + [
        f"  {a.sensor}: {a.reason}" + (f"\n    to change that: {a.remedy}" if a.remedy else "")
        for a in found.absences
    ]
    lines += [
        "",
        *_grid_lines(found.costing),
        *([f"  {_NO_CLOUD}"] if found.asked_cloud and not found.costing.site else []),
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


def _grid_lines(costing: Costing) -> list[str]:
    intensity = costing.intensity
    slot = intensity.static if not intensity.slots else intensity.slots[0]
    services = {provider.name for provider in grid.PROVIDERS.values()}
    untried = intensity.slots and intensity.provider in services - grid.SEEN_LIVE
    return [
        "Grid",
        f"  zone {intensity.zone} (from {costing.zone_source}): {_slot_text(slot)}",
        f"  {slot.kind}, {intensity.signal}, scope {intensity.scope}",
        f"  {intensity.provider}: {intensity.dataset}",
        *([f"  {_UNSEEN}"] if untried else []),
        *([f"  {intensity.note}"] if intensity.note else []),
        f"  PUE {costing.pue_ratio:g} ({costing.pue_source})",
        *(_cloud_lines(costing.site, costing.pue_source) if costing.site else ()),
    ]


def _cloud_lines(site: CloudSite, pue_source: str) -> Iterator[str]:
    """The region with what its provider publishes, and which of it counts."""
    yield f"  cloud {site.provider} {site.region} (from {site.origin}{'' if site.is_proven else _MAY_BE})"
    if site.pue is not None:
        use = "used" if pue_source == site.pue_label else "not used"
        yield f"    PUE {site.pue:g} of {site.pue_year}, {site.pue_scope}, {use}: {site.pue_source}"
    if site.carbon_free_ratio is not None:
        yield f"    carbon-free energy {site.carbon_free_ratio:.0%} of {site.cfe_year}: {site.cfe_source}"
        yield "      for information: it counts the contracts of the provider, so it multiplies no emissions"


_NO_CLOUD = "no cloud: no metadata service answered in half a second (in a container it may be out of reach)"
_MAY_BE = ", which may be a default of a command line: it names the zone only"
_UNSEEN = "this service was never seen live by those who made this; look at `mlflow-carbon grid`"


def _slot_text(slot: IntensitySlot) -> str:
    return (
        f"{slot.gco2e_per_kwh:.0f} gCO2e/kWh ({slot.low_gco2e_per_kwh:.0f} to {slot.high_gco2e_per_kwh:.0f})"
    )


_NO_NODE = "no meter: set wall_meter to a CSV file or HTTP address of one (docs/how-to/wall-meter.md)"
_NEVER = "driven through simulated devices only by those who made them; compare before you rely on them"
_METERS = {Component.CPU: ("rapl", "hwmon:grace"), Component.DRAM: ("rapl",), Component.GPU: ("nvml", "amd")}


def _channel_lines(channel: Channel) -> list[str]:
    c = channel
    return [
        f"  {c.component.value:5} {c.basis.value:9} {c.quality.name}  {_range(c):>14}  {c.id}",
        f"        {c.device}; {c.source}",
    ]


def _better(channel: Channel, absences: Iterable[Absence], told: set[Absence]) -> list[str]:
    """Why a part is modelled, and what would measure it; each reason once."""
    if channel.basis is not Basis.MODELLED:
        return []
    meters = _METERS.get(channel.component, ())
    missing = [a for a in absences if a.sensor.startswith(meters)]
    new = [a for a in missing if a not in told]
    told.update(new)
    lines = [f"        modelled because {a.reason}; what would help: {a.remedy}" for a in new]
    if missing and not new:
        lines.append("        modelled for the same reason")
    if channel.component is Component.DRAM:
        lines.append("        a better model: export MLFLOW_CARBON_RAM_POWER_W=<watts of all memory>")
    return lines


def _observed_lines(names: Iterable[str]) -> list[str]:
    """One line per source, with what it tells."""
    by_source: dict[str, list[str]] = {}
    for name in names:
        source, _, what = name.partition("/")
        by_source.setdefault(source, []).append(what)
    return [f"{source}: {', '.join(told)}" for source, told in by_source.items()]


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
