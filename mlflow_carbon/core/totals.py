"""Footprints together: the units they were used for, and the sum over the segments of a run."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.series import Basis
from mlflow_carbon.core.units import J_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ADDITIVE",
    "combine",
    "count_common_units",
    "count_units",
    "known_product",
    "known_ratio",
    "known_sum",
    "labels",
]

ADDITIVE = tuple(f.name for f in fields(RunFootprint) if f.metadata["unit"] in ("kWh", "gCO2e", "s"))
"""Fields that add up over segments, told by their unit; ratios, powers and intensities do not."""


def count_units(footprint: RunFootprint, unit: str, amount: float) -> RunFootprint:
    """The footprint with its functional unit and SCI = (operational + embodied) / R, ISO/IEC 21031."""
    if not unit or not 0 < amount < math.inf:
        return footprint
    grams = known_sum(footprint.emissions_gco2e, footprint.emissions_embodied_gco2e)
    sci = grams / amount if grams is not None else None
    return replace(footprint, functional_unit=unit, functional_units=amount, sci_gco2e_per_unit=sci)


def combine(parts: Sequence[RunFootprint]) -> RunFootprint:
    """One footprint of a run that was measured in several segments, the latest last.

    Energies, emissions and times add up; ratios are weighted over the parts that know both terms;
    labels of the latest stand, except that a mixture of bases is `mixed` and the lowest quality
    counts. Parts that counted different functional units have no common one, and so no SCI.

    Raises:
        ValueError: If there is no part.
    """
    if not parts:
        raise ValueError("expected at least one footprint, got none")
    if len(parts) == 1:
        return parts[0]
    covered_s = [known_product(p.duration_s, p.coverage_ratio) for p in parts]
    totals: dict[str, Any] = {name: known_sum(*(getattr(p, name) for p in parts)) for name in ADDITIVE}
    power_kw = known_ratio(zip((p.energy_kwh for p in parts), covered_s, strict=True))
    whole = replace(
        parts[-1],
        **totals,
        **labels(parts),
        intensity_gco2e_per_kwh=known_ratio((p.emissions_gco2e, p.energy_facility_kwh) for p in parts),
        power_mean_w=known_product(J_PER_KWH, power_kw),
        coverage_ratio=known_ratio(zip(covered_s, (p.duration_s for p in parts), strict=True)),
        overhead_ratio=None,
        process_cpu_ratio=None,
        verdict="warn" if any(p.verdict == "warn" for p in parts) else parts[-1].verdict,
    )
    return count_common_units(whole, parts)


def labels(parts: Iterable[RunFootprint]) -> dict[str, Any]:
    """Basis and quality of several: a mixture of bases is `mixed`, the lowest quality counts."""
    prints = tuple(parts)
    bases = {p.basis for p in prints if p.basis not in ("", "none")}
    return {
        "basis": bases.pop() if len(bases) == 1 else Basis.MIXED.value if bases else "none",
        "quality": min((p.quality for p in prints if p.quality not in ("", "none")), default="none"),
    }


def count_common_units(whole: RunFootprint, parts: Iterable[RunFootprint]) -> RunFootprint:
    """The sum of several with their functional units and SCI, where they counted the same ones."""
    prints = tuple(parts)
    bare = replace(whole, functional_unit="", functional_units=None, sci_gco2e_per_unit=None)
    units = {p.functional_unit for p in prints if p.functional_unit}
    amount = known_sum(*(p.functional_units for p in prints)) or 0
    return count_units(bare, units.pop(), amount) if len(units) == 1 else bare


def known_sum(*values: float | None) -> float | None:
    """The sum of what is known, the same in any order; None if nothing is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None


def known_product(factor: float | None, other: float | None) -> float | None:
    """The product, where both are known."""
    return factor * other if factor is not None and other is not None else None


def known_ratio(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """Sum over sum of the pairs of which both are known."""
    known = [(part, whole) for part, whole in pairs if part is not None and whole is not None]
    whole = math.fsum(whole for _, whole in known)
    return math.fsum(part for part, _ in known) / whole if whole > 0 else None
