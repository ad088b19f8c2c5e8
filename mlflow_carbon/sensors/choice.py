"""What counts of what was found: of each component the measured channels, or else the modelled ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Basis, Component

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_carbon.core.series import Channel
    from mlflow_carbon.sensors.contract import Found, Sensor

__all__ = ["counted", "distinct", "measured"]


def measured(found: Found) -> set[Component]:
    """What needs no model."""
    channels = (channel for sensor in found.sensors for channel in sensor.channels)
    return {c.component for c in channels if c.basis is not Basis.MODELLED} | found.covers


def distinct(sensors: Iterable[Sensor]) -> tuple[Sensor, ...]:
    """The sensors whose channels no earlier one has."""
    taken: set[str] = set()
    found = []
    for sensor in sensors:
        ids = {channel.id for channel in sensor.channels}
        if not ids & taken:
            found.append(sensor)
            taken |= ids
    return tuple(found)


def counted(sensors: Sequence[Sensor], covered: frozenset[Component]) -> tuple[Channel, ...]:
    """The channels that count: of each component the measured ones, or else the modelled ones.

    A sensor that measures one GPU and models another keeps both. CPU and memory exist once, so that only
    the first sensor that has them counts; GPUs add up. What a channel of another component covers already
    counts nowhere else.
    """
    chosen: list[Channel] = []
    for component in (c for c in Component if c not in covered):
        offers = [(s, c) for s in sensors for c in s.channels if c.component is component]
        meters = [s for s, c in offers if c.basis is not Basis.MODELLED]
        offers = [(s, c) for s, c in offers if any(s is meter for meter in meters)] or offers
        once = component in {Component.CPU, Component.DRAM}
        chosen += [c for s, c in offers if not once or s is offers[0][0]]
    return tuple(chosen)
