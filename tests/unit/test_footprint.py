"""The one table of numbers: units in names, few defaults, nothing for what does not apply."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.report import summary_metrics

_SUFFIX = {
    "kWh": "_kwh",
    "gCO2e": "_gco2e",
    "gCO2e/kWh": "_gco2e_per_kwh",
    "gCO2e/unit": "_gco2e_per_unit",
    "W": "_w",
    "s": "_s",
    "ratio": "_ratio",
    "unit": "_units",
}
_TIME_SERIES = 3  # carbon/time/{power_w,energy_kwh,emissions_gco2e}
_NUMBERS = [f for f in fields(RunFootprint) if f.metadata["unit"]]


@pytest.mark.parametrize("spec", _NUMBERS, ids=lambda f: f.name)
def test_every_number_ends_in_its_unit(spec):
    """The name says what the metadata says, and no longer suffix would fit better."""
    fitting = [unit for unit, suffix in _SUFFIX.items() if spec.name.endswith(suffix)]
    assert max(fitting, key=lambda unit: len(_SUFFIX[unit])) == spec.metadata["unit"]


@pytest.mark.parametrize("spec", fields(RunFootprint), ids=lambda f: f.name)
def test_every_field_explains_itself(spec):
    """Help for the reference page; a field without a unit is a label, and no metric."""
    assert spec.metadata["help"]
    if not spec.metadata["unit"]:
        assert spec.default == ""
        assert not spec.metadata["metric"]
    else:
        assert spec.default is None


def test_at_most_twelve_metrics_by_default():
    """Those of the summary and the three of the time axis (decision 22)."""
    values: dict[str, Any] = {f.name: 1.0 for f in _NUMBERS}
    full = RunFootprint(**values)
    assert len(summary_metrics(full)) + _TIME_SERIES <= 12
    assert set(summary_metrics(full)) < set(summary_metrics(full, detail=True))
    assert len(summary_metrics(full, detail=True)) == len(_NUMBERS)


def test_what_does_not_apply_is_neither_a_metric_nor_in_the_document():
    """No GPU is no figure; a GPU that used nothing is a zero."""
    footprint = RunFootprint(energy_kwh=0.5, energy_gpu_kwh=0.0, basis="measured")
    assert summary_metrics(footprint) == {"carbon/energy_kwh": 0.5, "carbon/energy_gpu_kwh": 0.0}
    assert footprint.as_dict() == {"energy_kwh": 0.5, "energy_gpu_kwh": 0.0, "basis": "measured"}


def test_numbers_come_with_their_unit():
    """Whole numbers too, as floats."""
    found = list(RunFootprint(duration_s=3).numbers())
    assert [(name, value, spec["unit"]) for name, value, spec in found] == [("duration_s", 3.0, "s")]
    assert isinstance(found[0][1], float)
