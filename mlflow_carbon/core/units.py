"""The only place that knows how units convert: int microjoules and nanoseconds inside, kWh and s outside."""

from __future__ import annotations

__all__ = [
    "J_PER_KWH",
    "NS_PER_S",
    "UJ_PER_J",
    "UJ_PER_KWH",
    "energy_uj",
    "j_to_kwh",
    "mean_power_w",
    "uj_to_j",
    "uj_to_kwh",
]

J_PER_KWH = 3_600_000
UJ_PER_J = 1_000_000
UJ_PER_KWH = J_PER_KWH * UJ_PER_J
NS_PER_S = 1_000_000_000
_MW_NS_PER_UJ = 1_000_000  # 1 mW for 1 ns is 1e-12 J, i.e. 1e-6 uJ


def uj_to_kwh(energy_uj: float) -> float:
    """Microjoules to kilowatt-hours."""
    return energy_uj / UJ_PER_KWH


def uj_to_j(energy_uj: float) -> float:
    """Microjoules to joules."""
    return energy_uj / UJ_PER_J


def j_to_kwh(energy_j: float) -> float:
    """Joules to kilowatt-hours."""
    return energy_j / J_PER_KWH


def energy_uj(power_mw: float, duration_ns: int) -> int:
    """Energy in whole microjoules of a mean power in milliwatts over a duration in nanoseconds."""
    return round(power_mw * duration_ns / _MW_NS_PER_UJ)


def mean_power_w(energy_uj: float, duration_ns: int) -> float:
    """Mean power in watts of an energy in microjoules over a duration in nanoseconds (0 for no duration)."""
    return energy_uj * 1000 / duration_ns if duration_ns > 0 else 0.0
