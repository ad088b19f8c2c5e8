"""`RunFootprint`: the energy and carbon of one span, and the one table of its numbers.

The fields' metadata (unit, help, default metric or not) is what metric keys, CLI columns,
reports and the reference page are made from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RunFootprint"]


def _number(unit: str, text: str, *, metric: bool = False) -> Any:
    return field(default=None, metadata={"unit": unit, "help": text, "metric": metric})


def _label(text: str) -> Any:
    return field(default="", metadata={"unit": "", "help": text, "metric": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFootprint:
    """Energy, emissions and how they were got, for one measured span.

    A number that does not apply is None, never zero. Low and high are the ends of the 95 % range.
    """

    energy_kwh: float | None = _number("kWh", "IT energy of all parts", metric=True)
    energy_low_kwh: float | None = _number("kWh", "lower end of the 95 % range", metric=True)
    energy_high_kwh: float | None = _number("kWh", "upper end of the 95 % range", metric=True)
    energy_cpu_kwh: float | None = _number("kWh", "CPU packages", metric=True)
    energy_gpu_kwh: float | None = _number("kWh", "visible GPUs", metric=True)
    energy_dram_kwh: float | None = _number("kWh", "memory", metric=True)
    energy_node_kwh: float | None = _number("kWh", "whole machine by its best meter, beside the parts")
    energy_facility_kwh: float | None = _number("kWh", "IT energy x PUE")
    emissions_gco2e: float | None = _number("gCO2e", "operational: energy x PUE x intensity", metric=True)
    emissions_low_gco2e: float | None = _number("gCO2e", "lower end of the 95 % range", metric=True)
    emissions_high_gco2e: float | None = _number("gCO2e", "upper end of the 95 % range", metric=True)
    emissions_operational_gco2e: float | None = _number("gCO2e", "the same, named in full")
    emissions_embodied_gco2e: float | None = _number("gCO2e", "share of making the hardware, if given")
    intensity_gco2e_per_kwh: float | None = _number("gCO2e/kWh", "energy-weighted grid intensity")
    power_mean_w: float | None = _number("W", "energy over covered time")
    duration_s: float | None = _number("s", "length of the span")
    coverage_ratio: float | None = _number("ratio", "share of the span with data, worst channel")
    overhead_ratio: float | None = _number("ratio", "CPU time of the meter's own threads over the process's")
    process_cpu_s: float | None = _number("s", "CPU time of the process and its waited-for children")
    process_cpu_ratio: float | None = _number("ratio", "share of the machine's busy CPU time that was ours")
    pue_ratio: float | None = _number("ratio", "power usage effectiveness used")
    sci_gco2e_per_unit: float | None = _number("gCO2e/unit", "software carbon intensity, ISO/IEC 21031")
    functional_units: float | None = _number("unit", "how many functional units were counted")
    functional_unit: str = _label("what was counted: image, token, sample ...")
    basis: str = _label("measured, modelled or mixed")
    quality: str = _label("lowest quality level that holds at least 10 % of the energy, L0 to L4")
    zone: str = _label("grid zone")
    zone_source: str = _label("how the zone was found")
    provider: str = _label("where the intensity comes from")
    intensity_kind: str = _label("actual, forecast, estimated or static")
    pue_source: str = _label("where the PUE comes from")
    verdict: str = _label("ok or warn, from coverage and sensor errors")

    def numbers(self) -> Iterator[tuple[str, float, Mapping[str, Any]]]:
        """Name, value and metadata (`unit`, `help`, `metric`) of each number that applies."""
        for spec in fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, int | float):
                yield spec.name, float(value), spec.metadata

    def as_dict(self) -> dict[str, Any]:
        """All fields that apply, for JSON."""
        return {k: v for k, v in asdict(self).items() if v is not None and v != ""}
