"""When to start: pure decisions about intensity and patience. Nothing here sleeps or asks anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySlot

__all__ = ["Decision", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to start now, and why."""

    start: bool
    reason: str


def decide(
    slot: IntensitySlot, *, threshold_gco2e_per_kwh: float, waited_s: float, max_wait_s: float
) -> Decision:
    """Start now or wait on, by a fixed threshold.

    Args:
        slot: Intensity of the present. A static one says how much but never when, so nothing is to be
            gained by waiting for it to change.
        threshold_gco2e_per_kwh: Start at this intensity or below.
        waited_s: How long the caller has waited, in seconds.
        max_wait_s: How long it may wait in all, in seconds.
    """
    now = f"{slot.gco2e_per_kwh:g} gCO2e/kWh ({slot.kind})"
    if slot.kind == "static":
        return Decision(
            start=True, reason=f"{now}: an annual or fixed figure does not say when to start, so no wait"
        )
    if slot.gco2e_per_kwh <= threshold_gco2e_per_kwh:
        return Decision(start=True, reason=f"{now} is within the threshold of {threshold_gco2e_per_kwh:g}")
    if waited_s >= max_wait_s:
        return Decision(
            start=True,
            reason=f"{now} is above the threshold of {threshold_gco2e_per_kwh:g}, "
            f"but the longest wait of {max_wait_s:g} s is over",
        )
    return Decision(start=False, reason=f"{now} is above the threshold of {threshold_gco2e_per_kwh:g}")
