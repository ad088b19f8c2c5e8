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

__all__ = ["combine", "count_units", "known_sum"]


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
    covered_s = [_times(p.duration_s, p.coverage_ratio) for p in parts]
    bases = {p.basis for p in parts if p.basis not in ("", "none")}
    qualities = sorted(p.quality for p in parts if p.quality not in ("", "none"))
    units = {p.functional_unit for p in parts if p.functional_unit}
    totals: dict[str, Any] = {name: _sum(parts, name) for name in _ADDITIVE}
    whole = replace(
        parts[-1],
        **totals,
        intensity_gco2e_per_kwh=_over((p.emissions_gco2e, p.energy_facility_kwh) for p in parts),
        power_mean_w=_times(J_PER_KWH, _over(zip((p.energy_kwh for p in parts), covered_s, strict=True))),
        coverage_ratio=_over(zip(covered_s, (p.duration_s for p in parts), strict=True)),
        overhead_ratio=None,
        process_cpu_ratio=None,
        sci_gco2e_per_unit=None,
        functional_unit="",
        functional_units=None,
        basis=bases.pop() if len(bases) == 1 else Basis.MIXED.value if bases else "none",
        quality=qualities[0] if qualities else "none",
        verdict="warn" if any(p.verdict == "warn" for p in parts) else parts[-1].verdict,
    )
    return count_units(whole, units.pop(), _sum(parts, "functional_units") or 0) if len(units) == 1 else whole


# What adds up can be told by its unit; ratios, powers and intensities do not.
_ADDITIVE = tuple(f.name for f in fields(RunFootprint) if f.metadata["unit"] in ("kWh", "gCO2e", "s"))


def _sum(parts: Sequence[RunFootprint], name: str) -> float | None:
    return known_sum(*(getattr(p, name) for p in parts))


def known_sum(*values: float | None) -> float | None:
    """The sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _times(factor: float | None, other: float | None) -> float | None:
    return factor * other if factor is not None and other is not None else None


def _over(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """Sum over sum of the pairs of which both are known."""
    known = [(part, whole) for part, whole in pairs if part is not None and whole is not None]
    whole = sum(whole for _, whole in known)
    return sum(part for part, _ in known) / whole if whole > 0 else None
