"""The model of CPU and memory power: worked examples, properties, and CodeCarbon's own functions."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.power_model import cpu_power_w, estimate_dimms, ram_power_w

SIZES_GB = (
    *(0.5, 1, 2, 2.01, 3.8, 4, 7.7, 8, 15.6, 16, 16.1, 31.3, 32, 32.5, 62.8, 64, 64.1, 125.7, 128),
    *(
        128.5,
        130,
        160,
        192,
        251.6,
        255.9,
        256,
        377,
        384,
        503.7,
        512,
        755,
        768,
        1007,
        1024,
        1500,
        2048,
        4096,
        6144,
        24576,
    ),
)


@pytest.mark.parametrize(
    ("tdp_w", "load_ratio", "power_w"),
    [(100, 0.0, 10.0), (100, 0.5, 21.25), (100, 1.0, 100.0), (280, 0.9, 211.708), (0, 1.0, 0.0)],
)
def test_cpu_power_worked_examples(tdp_w, load_ratio, power_w):
    """A tenth of the design power when idle, all of it when busy, and the cube of the load between."""
    assert cpu_power_w(tdp_w, load_ratio) == pytest.approx(power_w, rel=1e-12)


@pytest.mark.parametrize(
    ("memory_gb", "dimms", "power_w"),
    [
        (1, 1, 10.0),  # one module, but never less than two are charged
        (16, 2, 10.0),
        (24, 4, 20.0),
        (64, 4, 20.0),
        (128, 8, 38.0),  # 5 x (4 + 4 x 0.9)
        (384, 12, 54.0),  # 5 x (4 + 4 x 0.9 + 4 x 0.8)
        (1024, 8, 38.0),
        (2048, 16, 70.0),  # 5 x (4 + 4 x 0.9 + 8 x 0.8)
        (4096, 32, 126.0),  # 5 x (4 + 4 x 0.9 + 8 x 0.8 + 16 x 0.7)
    ],
)
def test_ram_power_worked_examples(memory_gb, dimms, power_w):
    """Modules are guessed from the size, and the later ones are charged less."""
    assert estimate_dimms(memory_gb) == dimms
    assert ram_power_w(memory_gb) == pytest.approx(power_w, rel=1e-12)


def test_ram_power_beside_an_arm_cpu():
    """Memory beside an ARM CPU is charged 1.5 W a module: 4 x 1.5 = 6 W, and never less than 3 W."""
    assert ram_power_w(24, arm=True) == 6.0
    assert ram_power_w(1, arm=True) == 3.0


@given(tdp_w=st.floats(0, 1e4), loads=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_cpu_power_stays_between_idle_and_design_power(tdp_w, loads):
    """More load never takes less power, and the design power is the most."""
    low, high = sorted(loads)
    assert tdp_w * 0.0999 <= cpu_power_w(tdp_w, low) <= cpu_power_w(tdp_w, high) <= tdp_w * (1 + 1e-12)


@given(memory_gb=st.floats(0, 1e5), arm=st.booleans())
def test_ram_power_has_a_floor_and_a_roof(memory_gb, arm):
    """Two modules are the least and thirty-two the most that are charged."""
    share = 1.5 / 5 if arm else 1.0
    assert 10 * share - 1e-9 <= ram_power_w(memory_gb, arm=arm) <= 126 * share + 1e-9


@pytest.mark.parametrize("load_ratio", [-0.01, 1.01, math.nan])
def test_cpu_power_refuses_a_load_that_is_no_ratio(load_ratio):
    """A load outside 0 to 1 names what was expected."""
    with pytest.raises(ValueError, match="expected a load_ratio from 0 to 1"):
        cpu_power_w(100, load_ratio)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_sizes_that_cannot_be_are_refused(bad):
    """Negative and endless design powers and memories are refused."""
    with pytest.raises(ValueError, match="expected tdp_w >= 0"):
        cpu_power_w(bad, 0.5)
    with pytest.raises(ValueError, match="expected memory_gb >= 0"):
        ram_power_w(bad)


@pytest.mark.parametrize("arm", [False, True])
def test_ram_power_equals_codecarbon(arm):
    """The memory formula gives CodeCarbon's figure over a grid of sizes."""
    from codecarbon.external.ram import RAM

    ram = RAM(tracking_mode="machine")
    ram.is_arm_cpu = arm
    for memory_gb in SIZES_GB:
        assert estimate_dimms(memory_gb) == ram._estimate_dimm_count(memory_gb), memory_gb
        assert ram_power_w(memory_gb, arm=arm) == pytest.approx(
            ram._calculate_ram_power(memory_gb), rel=1e-12
        )


def test_cpu_power_equals_codecarbon():
    """The CPU formula gives CodeCarbon's figure over a grid of design powers and loads."""
    from codecarbon.external.hardware import CPU, MODE_CPU_LOAD

    for tdp_w in (8, 65, 100, 280, 1000):
        cpu: Any = CPU.from_utils("", MODE_CPU_LOAD, "a CPU", tdp_w)
        for percent in (0, 0.1, 3, 10, 25, 50, 61.8, 99.9, 100):
            cpu._cpu_load_meter = SimpleNamespace(percent=lambda value=percent: value)
            theirs = cpu._get_power_from_cpu_load().W
            assert cpu_power_w(tdp_w, percent / 100) == pytest.approx(theirs, rel=1e-9)
