"""Values to journal records and back. A record is a flat dict that JSON can hold.

What only reading needs is imported there: writing starts with a run, in the caller's thread.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_carbon.core.series import Channel, Tick
    from mlflow_carbon.session.publish import Costing

__all__ = ["channel_from", "channel_record", "costing_from", "costing_record", "tick_from", "tick_record"]


def channel_record(channel: Channel) -> dict[str, Any]:
    """A channel as a dict."""
    return asdict(channel) | {"quality": channel.quality.name}


def channel_from(record: Mapping[str, Any]) -> Channel:
    """The channel of a dict."""
    from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality

    return Channel(
        **(
            dict(record)
            | {
                "component": Component(record["component"]),
                "kind": Kind(record["kind"]),
                "basis": Basis(record["basis"]),
                "quality": Quality[record["quality"]],
            }
        )
    )


def tick_record(tick: Tick) -> dict[str, Any]:
    """A tick as a dict: number `q`, monotonic `t` and UTC `w` nanoseconds, samples `s`, facts `f`."""
    record = {
        "q": tick.seq,
        "t": tick.t_mono_ns,
        "w": tick.t_wall_ns,
        "s": [
            [s.channel, s.t_mono_ns, s.read_ns, s.energy_uj, s.power_mw, s.util_ppm, s.error]
            for s in tick.samples
        ],
    }
    return record | {"f": dict(tick.facts)} if tick.facts else record


def tick_from(record: Mapping[str, Any]) -> Tick:
    """The tick of a dict."""
    from mlflow_carbon.core.series import Sample, Tick

    return Tick(
        seq=record["q"],
        t_mono_ns=record["t"],
        t_wall_ns=record["w"],
        samples=tuple(
            Sample(
                channel=channel,
                t_mono_ns=t_ns,
                read_ns=read_ns,
                energy_uj=energy_uj,
                power_mw=power_mw,
                util_ppm=util_ppm,
                error=error,
            )
            for channel, t_ns, read_ns, energy_uj, power_mw, util_ppm, error in record["s"]
        ),
        facts=record.get("f"),
    )


def costing_record(costing: Costing) -> dict[str, Any]:
    """A costing as a dict."""
    return asdict(costing)


def costing_from(record: Mapping[str, Any]) -> Costing:
    """The costing of a dict."""
    from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
    from mlflow_carbon.grid.cloud import CloudSite
    from mlflow_carbon.session.publish import Costing

    series = dict(record["intensity"])
    series["static"] = IntensitySlot(**series["static"])
    series["slots"] = tuple(IntensitySlot(**slot) for slot in series["slots"])
    return Costing(
        intensity=IntensitySeries(**series),
        pue_ratio=record["pue_ratio"],
        pue_source=record["pue_source"],
        zone_source=record["zone_source"],
        site=CloudSite(**record["site"]) if record.get("site") else None,
    )
