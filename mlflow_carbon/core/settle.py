"""Settling a run: which of its intensities were not final, and what it costs with those that came later.

Nothing here asks anybody; `refresh` fetches the slots and calls this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.carbon import account
from mlflow_carbon.core.cells import BUCKET_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.core.series import EnergySeries

__all__ = ["RANK", "Settlement", "newest", "open_spans", "settle", "with_newer"]

RANK = {"static": 0, "forecast": 1, "estimated": 2, "actual": 3}
"""How certain a kind of intensity is: a slot is replaced only by one that is as certain or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A run costed again.

    Attributes:
        intensity: What it was costed with.
        footprint: Its figures.
        replaced: How many slots changed.
        open_spans: Times, as (start, end) in seconds since the epoch, whose intensity is still not actual.
    """

    intensity: IntensitySeries
    footprint: RunFootprint
    replaced: int
    open_spans: tuple[tuple[int, int], ...]


def newest(before: Iterable[IntensitySlot], after: Iterable[IntensitySlot]) -> dict[int, IntensitySlot]:
    """Slots by start: the more certain kind counts, among equals what was issued, then what comes last."""
    found: dict[int, IntensitySlot] = {}
    for slot in (*before, *after):
        known = found.get(slot.start_s)
        if known is None or _weight(slot) >= _weight(known):
            found[slot.start_s] = slot
    return found


def _weight(slot: IntensitySlot) -> tuple[int, float]:
    return RANK.get(slot.kind, 0), slot.issued_s or slot.fetched_s or 0.0


def open_spans(energy: EnergySeries, intensity: IntensitySeries) -> tuple[tuple[int, int], ...]:
    """Times at which energy was used and whose intensity is not an actual one, joined where they touch."""
    parts = {c.id for c in energy.parts()}
    spans: list[tuple[int, int]] = []
    for bucket_s in sorted({c.bucket_s for c in energy.book() if c.energy_uj > 0 and c.channel in parts}):
        if intensity.at(bucket_s + BUCKET_S / 2).kind == "actual":
            continue
        if spans and spans[-1][1] == bucket_s:
            spans[-1] = spans[-1][0], bucket_s + BUCKET_S
        else:
            spans.append((bucket_s, bucket_s + BUCKET_S))
    return tuple(spans)


def with_newer(intensity: IntensitySeries, newer: Iterable[IntensitySlot]) -> IntensitySeries:
    """The series with newer slots that are as certain as its own, or more; one that overlaps is left out."""
    found = newest(intensity.slots, newer)
    kept: list[IntensitySlot] = []
    for start_s in sorted(found):
        if not kept or kept[-1].end_s <= start_s:
            kept.append(found[start_s])
    return replace(intensity, slots=tuple(kept))


def settle(
    energy: EnergySeries,
    intensity: IntensitySeries,
    newer: Iterable[IntensitySlot],
    *,
    pue_ratio: float = 1.0,
) -> Settlement:
    """Cost a run again with the slots that came later.

    Args:
        energy: What was measured; it does not change.
        intensity: What it was costed with before.
        newer: Slots of the same source, signal and scope.
        pue_ratio: As before.
    """
    settled = with_newer(intensity, newer)
    before = {s.start_s: s.gco2e_per_kwh for s in intensity.slots}
    return Settlement(
        intensity=settled,
        footprint=account(energy, settled, pue_ratio=pue_ratio),
        replaced=sum(before.get(s.start_s) != s.gco2e_per_kwh for s in settled.slots),
        open_spans=open_spans(energy, settled),
    )
