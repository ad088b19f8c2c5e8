"""Several machines that worked on one run at the same time: their sum, and who is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.totals import (
    ADDITIVE,
    count_common_units,
    known_product,
    known_ratio,
    known_sum,
    labels,
)
from mlflow_carbon.core.units import J_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_carbon.core.footprint import RunFootprint

__all__ = ["Part", "Span", "expected", "findings", "has_keys", "missing", "ordered", "together"]

_MS_PER_S = 1000
_KINDS = ("static", "forecast", "estimated", "actual")  # weakest first
_SHOWN = 16  # names in a finding
_MOST = 10**6  # the names of the missing have to fit into memory
_KEYED = 16  # machines with metrics of their own

# Time passes once for all; a node's meter is one where all have one.
_ADDITIVE = tuple(name for name in ADDITIVE if name not in ("duration_s", "energy_node_kwh"))
_LABELS = ("zone", "zone_source", "provider", "pue_source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A measured stretch: UTC start in milliseconds, None where it is not known, and length in seconds."""

    start_ms: int | None
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one machine has measured of a run.

    Attributes:
        node: Its name: the index that the launcher gives it, else a name of the host.
        number: Of how many machines it is one, as its launcher tells.
        footprint: Its figures.
        spans: When it measured.
        host: Its host, as far as privacy allows.
        findings: What is wrong with its figures, in words.
    """

    node: str
    number: int
    footprint: RunFootprint
    spans: tuple[Span, ...] = ()
    host: str = ""
    findings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.node or not 1 <= self.number <= _MOST:
            raise ValueError(
                f"expected a name and a number of 1 to {_MOST} machines, got {self.node!r} and {self.number}"
            )


def ordered(parts: Iterable[Part]) -> list[Part]:
    """By index, then by name; of several with one name the first."""
    found = {part.node: part for part in reversed([*parts])}
    return sorted(found.values(), key=lambda p: (not p.node.isdecimal(), len(p.node), p.node))


def expected(parts: Iterable[Part]) -> int:
    """How many machines there are: the smallest number told, and at least those that are here.

    Raises:
        ValueError: If there is no part.
    """
    here = ordered(parts)
    if not here:
        raise ValueError("expected the figures of at least one machine, got none")
    return max(len(here), min(p.number for p in here))


def missing(parts: Iterable[Part]) -> tuple[int, tuple[str, ...]]:
    """How many machines are missing, and the names of those that have an index."""
    here = ordered(parts)
    number = expected(here) - len(here)
    absent = [str(k) for k in range(expected(here)) if str(k) not in {p.node for p in here}]
    return number, tuple(absent) if len(absent) == number else ()


def has_keys(node: str, number: int) -> bool:
    """Whether a machine has metrics of its own: the first few only, or MLflow's column picker overflows."""
    return int(node) < _KEYED if node.isdecimal() else number <= _KEYED


def findings(parts: Iterable[Part]) -> tuple[str, ...]:
    """What is wrong with the sum: who is missing, then the findings of each machine."""
    here = ordered(parts)
    number, names = missing(here)
    found = [f"node {p.node}: {text}" for p in here for text in p.findings]
    return (_absence(number, names, expected(here)), *found) if number else tuple(found)


def _absence(number: int, names: Sequence[str], of: int) -> str:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    who = f": {'node' if number == 1 else 'nodes'} {shown}" if names else ""
    return (
        f"the figures of {number} of {of} machines are missing{who}; they come when their processes end; "
        "where one was killed, run mlflow-carbon recover there"
    )


def together(parts: Iterable[Part]) -> RunFootprint:
    """The footprint of a run that several machines worked on: the same whatever their order.

    Energies, emissions and CPU times add up, also the ends of their ranges. `duration_s` is the time in
    which at least one machine was measured. Ratios are weighted over the parts that know both terms. The
    verdict is `warn` where a machine's is, or where one is missing.

    Raises:
        ValueError: If there is no part.
    """
    here = ordered(parts)
    number, _ = missing(here)
    prints = [p.footprint for p in here]
    totals: dict[str, Any] = {name: known_sum(*(getattr(p, name) for p in prints)) for name in _ADDITIVE}
    totals |= {name: ", ".join(sorted({getattr(p, name) for p in prints} - {""})) for name in _LABELS}
    node_kwh = [p.energy_node_kwh for p in prints]
    duration_s = _duration_s(here)
    covered = known_ratio([(known_product(p.duration_s, p.coverage_ratio), p.duration_s) for p in prints])
    whole = replace(
        prints[0],
        **totals,
        **labels(prints),
        energy_node_kwh=None if None in node_kwh else known_sum(*node_kwh),
        duration_s=duration_s,
        coverage_ratio=covered,
        power_mean_w=_power_w(totals["energy_kwh"], known_product(duration_s, covered)),
        intensity_gco2e_per_kwh=known_ratio([(p.emissions_gco2e, p.energy_facility_kwh) for p in prints]),
        pue_ratio=_pue(prints),
        overhead_ratio=known_ratio(
            [(known_product(p.overhead_ratio, p.process_cpu_s), p.process_cpu_s) for p in prints]
        ),
        process_cpu_ratio=known_ratio([(p.process_cpu_s, _machine_cpu_s(p)) for p in prints]),
        intensity_kind=next((k for k in _KINDS if any(p.intensity_kind == k for p in prints)), ""),
        verdict="warn" if number or any(p.verdict == "warn" for p in prints) else prints[0].verdict,
    )
    return count_common_units(whole, prints)


def _pue(prints: Sequence[RunFootprint]) -> float | None:
    told = {p.pue_ratio for p in prints}
    return (
        told.pop() if len(told) == 1 else known_ratio([(p.energy_facility_kwh, p.energy_kwh) for p in prints])
    )


def _machine_cpu_s(footprint: RunFootprint) -> float | None:
    """Busy CPU time of a machine, from its process's time and share."""
    if footprint.process_cpu_s is None or not footprint.process_cpu_ratio:
        return None
    return footprint.process_cpu_s / footprint.process_cpu_ratio


def _power_w(energy_kwh: float | None, covered_s: float | None) -> float | None:
    return energy_kwh * J_PER_KWH / covered_s if energy_kwh is not None and covered_s else None


def _duration_s(parts: Sequence[Part]) -> float | None:
    """Length of the union of all spans; one whose start is not known counts beside the others."""
    spans = [span for part in parts for span in part.spans]
    if not spans:
        return max((p.footprint.duration_s or 0.0 for p in parts), default=None)
    dated = [(s.start_ms, s.duration_s) for s in spans if s.start_ms is not None]
    first_ms = min((start_ms for start_ms, _ in dated), default=0)
    lengths, upto_s = [s.duration_s for s in spans if s.start_ms is None], 0.0
    # From the first start, not from 1970: a float of seconds has 16 digits.
    for start_s, length_s in sorted(((ms - first_ms) / _MS_PER_S, length_s) for ms, length_s in dated):
        end_s = start_s + length_s
        if end_s > upto_s:
            lengths.append(end_s - max(start_s, upto_s))
            upto_s = end_s
    return math.fsum(lengths)
