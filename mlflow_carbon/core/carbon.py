"""From energy to emissions, with their ranges and labels.

`account` costs each UTC bucket of energy with the intensity of its time:
emissions = sum over buckets of energy x PUE x intensity, in gCO2e (location-based, operational).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.bill import Bill, emissions_gco2e
from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.series import Basis, Component, EnergySeries, Quality
from mlflow_carbon.core.units import NS_PER_S, mean_power_w, uj_to_kwh

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MIXED_SHARE",
    "IntensitySeries",
    "IntensitySlot",
    "account",
    "emissions_gco2e",
    "spent",
]

MIXED_SHARE = 0.1
"""A basis or quality level counts for a run when it holds at least this share of the energy (decision 6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensitySlot:
    """Carbon intensity of one zone in one half-open slot of UTC time.

    Attributes:
        start_s: Start, seconds since the epoch, UTC.
        end_s: End, exclusive.
        gco2e_per_kwh: The value.
        low_gco2e_per_kwh: Lower end of the 95 % range.
        high_gco2e_per_kwh: Upper end of the 95 % range.
        kind: `actual`, `forecast`, `estimated` or `static`.
        source: Who says so, where it differs from the series: another service, or our own forecast.
        issued_s: When it was said, seconds since the epoch; None where the source does not tell.
        fetched_s: When it was fetched or computed.
    """

    start_s: int
    end_s: int
    gco2e_per_kwh: float
    low_gco2e_per_kwh: float
    high_gco2e_per_kwh: float
    kind: str
    source: str = ""
    issued_s: float | None = None
    fetched_s: float | None = None

    def __post_init__(self) -> None:
        if self.end_s <= self.start_s:
            raise ValueError(f"intensity slot: expected end > start, got {self.start_s}..{self.end_s}")
        if not 0 <= self.low_gco2e_per_kwh <= self.gco2e_per_kwh <= self.high_gco2e_per_kwh < math.inf:
            raise ValueError(
                "intensity slot: expected 0 <= low <= value <= high, got "
                f"{self.low_gco2e_per_kwh} <= {self.gco2e_per_kwh} <= {self.high_gco2e_per_kwh}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensitySeries:
    """Intensity of one zone over time, with the static figure that stands in where a slot is missing.

    Attributes:
        zone: Grid zone id, for example `GB`.
        provider: Who says so, for example `carbonintensity.org.uk`.
        static: The figure for times without a slot (an annual average).
        static_provider: Who says that.
        signal: `average` or `marginal`; the two are never mixed in one sum.
        scope: `direct`, `life cycle` or `not stated`.
        dataset: Data set, version and year.
        slots: Sorted, not overlapping.
        note: What a reader must know, for example why a fallback was used.
    """

    zone: str
    provider: str
    static: IntensitySlot
    static_provider: str
    signal: str = "average"
    scope: str = "life cycle"
    dataset: str = ""
    slots: tuple[IntensitySlot, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for before, after in zip(self.slots, self.slots[1:], strict=False):
            if after.start_s < before.end_s:
                raise ValueError(f"intensity of {self.zone}: slots overlap at {after.start_s}")

    def at(self, t_s: float) -> IntensitySlot:
        """The slot that holds a time, or the static figure."""
        index = bisect_right(self.slots, t_s, key=lambda slot: slot.start_s) - 1
        if index >= 0 and t_s < self.slots[index].end_s:
            return self.slots[index]
        return self.static


def spent(series: EnergySeries, bill: Bill) -> tuple[float | None, float | None]:
    """Energy in kWh and emissions in gCO2e of a span, without ranges; None without believable data."""
    if not any(series.covered_ns.get(c.id) for c in series.parts()):
        return None, None
    return uj_to_kwh(series.energy_uj()), bill.of(series).grams


def account(
    series: EnergySeries, intensity: IntensitySeries, *, pue_ratio: float = 1.0, bill: Bill | None = None
) -> RunFootprint:
    """Footprint of a span: energy by component, emissions by the bucket, ranges, basis and quality.

    A span without believable data has no energy and no emissions, not zero; so has a component without any.
    Ranges of channels add up linearly (their errors are taken as fully correlated, the cautious
    choice); the range of the emissions joins energy and intensity as independent factors.

    Args:
        series: Energy of the span.
        intensity: Grid intensity that covers it (its static figure covers everything else).
        pue_ratio: Facility energy over IT energy, at least 1.
        bill: One of this intensity and PUE that has costed the span before.

    Raises:
        ValueError: If the PUE is below 1 or not finite.
    """
    if not 1 <= pue_ratio < math.inf:
        raise ValueError(f"expected a PUE of at least 1, got {pue_ratio}; use 1.0 if it is unknown")
    covered_ns = [series.covered_ns.get(c.id, 0) for c in series.parts()]
    cost = (bill or Bill(intensity, pue_ratio)).of(series)
    labels = _labels(series, intensity, pue_ratio, cost.kinds)
    if not any(covered_ns):
        return labels
    total_uj, grams = series.energy_uj(), cost.grams
    low_uj, high_uj = _energy_range_uj(series)
    total_kwh = uj_to_kwh(total_uj)
    lows = _ratio(low_uj, total_uj), _ratio(cost.low, grams)
    below, above = _joined(lows, (_ratio(high_uj, total_uj), _ratio(cost.high, grams)))
    return replace(
        labels,
        energy_kwh=total_kwh,
        energy_low_kwh=uj_to_kwh(low_uj),
        energy_high_kwh=uj_to_kwh(high_uj),
        energy_cpu_kwh=_component_kwh(series, Component.CPU),
        energy_gpu_kwh=_component_kwh(series, Component.GPU),
        energy_dram_kwh=_component_kwh(series, Component.DRAM),
        energy_node_kwh=_node_kwh(series),
        energy_facility_kwh=total_kwh * pue_ratio,
        emissions_gco2e=grams,
        emissions_low_gco2e=grams * below,
        emissions_high_gco2e=grams * above,
        emissions_operational_gco2e=grams,
        intensity_gco2e_per_kwh=grams / (total_kwh * pue_ratio) if total_kwh > 0 else None,
        power_mean_w=mean_power_w(total_uj, max(covered_ns)),
        coverage_ratio=min(1.0, min(covered_ns) / series.duration_ns) if series.duration_ns > 0 else 0.0,
        basis=_basis(series, total_uj),
        quality=_quality(series, total_uj),
    )


def _labels(
    series: EnergySeries, intensity: IntensitySeries, pue_ratio: float, kinds: frozenset[str]
) -> RunFootprint:
    """What is known of a span without any reading."""
    return RunFootprint(
        duration_s=series.duration_ns / NS_PER_S,
        coverage_ratio=0.0,
        pue_ratio=pue_ratio,
        basis="none",
        quality="none",
        zone=intensity.zone,
        provider=intensity.provider,
        intensity_kind=_weakest(kinds, intensity),
    )


def _energy_by_channel(series: EnergySeries) -> Mapping[str, int]:
    return series.book().totals_uj


def _energy_range_uj(series: EnergySeries) -> tuple[float, float]:
    totals = _energy_by_channel(series)
    sampling = sum(series.sampling_uj.get(c.id, 0.0) for c in series.parts())
    low = sum(totals.get(c.id, 0) * c.low_ratio for c in series.parts())
    high = sum(totals.get(c.id, 0) * c.high_ratio for c in series.parts())
    return max(0.0, low - sampling), high + sampling


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0


def _joined(lows: Iterable[float], highs: Iterable[float]) -> tuple[float, float]:
    """Factors below and above a product whose own factors err independently (root sum of squared logs)."""
    below = math.sqrt(sum(math.log(max(x, 1e-9)) ** 2 for x in lows))
    above = math.sqrt(sum(math.log(max(x, 1.0)) ** 2 for x in highs))
    return math.exp(-below), math.exp(above)


def _component_kwh(series: EnergySeries, component: Component) -> float | None:
    if not any(c.component is component and series.covered_ns.get(c.id) for c in series.channels):
        return None
    return uj_to_kwh(series.energy_uj(component))


def _node_kwh(series: EnergySeries) -> float | None:
    """The whole machine by its best meter: several meters of one machine are no sum."""
    nodes = [c for c in series.channels if c.component is Component.NODE and series.covered_ns.get(c.id)]
    if not nodes:
        return None
    best = max(nodes, key=lambda c: (c.quality, series.covered_ns[c.id]))
    return uj_to_kwh(_energy_by_channel(series).get(best.id, 0))


def _shares(series: EnergySeries, total_uj: int) -> list[tuple[Basis, Quality, float]]:
    totals = _energy_by_channel(series)
    parts = series.parts()
    if total_uj <= 0:  # nothing was used: every channel counts alike
        return [(c.basis, c.quality, 1.0) for c in parts]
    return [(c.basis, c.quality, totals.get(c.id, 0) / total_uj) for c in parts]


def _basis(series: EnergySeries, total_uj: int) -> str:
    found = {basis for basis, _, share in _shares(series, total_uj) if share > 0}
    if not found:
        return "none"
    return found.pop().value if len(found) == 1 else Basis.MIXED.value


def _quality(series: EnergySeries, total_uj: int) -> str:
    by_level: dict[Quality, float] = {}
    for _, level, share in _shares(series, total_uj):
        by_level[level] = by_level.get(level, 0.0) + share
    levels = [level for level, share in by_level.items() if share >= MIXED_SHARE]
    return min(levels).name if levels else "none"


def _weakest(kinds: frozenset[str], intensity: IntensitySeries) -> str:
    """The weakest kind that costed any energy: static before forecast before estimated before actual."""
    order = ("static", "forecast", "estimated", "actual")
    return next((kind for kind in order if kind in kinds), intensity.static.kind)
