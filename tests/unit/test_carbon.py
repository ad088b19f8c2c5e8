"""Emissions by hand, and what must hold for any energy and any grid."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlflow_carbon.core.carbon import IntensitySlot, account, emissions_gco2e
from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.series import BUCKET_S, Basis, Cell, Component, EnergySeries, Quality
from mlflow_carbon.core.totals import combine, count_units
from tests.fakes import channel, intensity

KWH_UJ = 3_600_000_000_000
CPU = channel(id="cpu")
GPU = channel(id="gpu", component=Component.GPU, low_ratio=0.8, high_ratio=1.5)
MODEL = channel(id="model", basis=Basis.MODELLED, quality=Quality.L0, low_ratio=0.6, high_ratio=1.4)
RAM = channel(id="ram", component=Component.DRAM, basis=Basis.MODELLED, quality=Quality.L0)


def _series(energies_uj, channels=(CPU,), *, duration_s=600, covered_s=None):
    """Energy by (channel id, bucket)."""
    covered_s = covered_s or {}
    return EnergySeries(
        channels=channels,
        duration_ns=duration_s * 10**9,
        cells=tuple(
            Cell(channel=c, bucket_s=b, energy_uj=round(e)) for (c, b), e in sorted(energies_uj.items())
        ),
        covered_ns={c.id: round(covered_s.get(c.id, duration_s) * 10**9) for c in channels},
        cases={c.id: {} for c in channels},
    )


def _slot(start_s, value, *, length_s=BUCKET_S, kind="actual", low=0.9, high=1.1):
    return IntensitySlot(
        start_s=start_s,
        end_s=start_s + length_s,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value * low,
        high_gco2e_per_kwh=value * high,
        kind=kind,
    )


def test_emissions_are_energy_times_pue_times_intensity():
    """2 kWh x 1.5 x 200 gCO2e/kWh = 600 gCO2e."""
    assert emissions_gco2e(2, 200, 1.5) == 600
    assert emissions_gco2e(2, 200) == 400


def test_a_run_over_two_slots_by_hand():
    """1 kWh at 100 and 2 kWh at 400 gCO2e/kWh, PUE 1.2: (1 x 100 + 2 x 400) x 1.2 = 1080 gCO2e.

    Facility energy 3 x 1.2 = 3.6 kWh, so the intensity weighted by energy is 1080 / 3.6 = 300.
    Mean power 3 kWh in 600 s = 10.8e6 J / 600 s = 18 000 W.
    """
    grid = intensity(999, [_slot(0, 100), _slot(300, 400)])
    found = account(_series({("cpu", 0): KWH_UJ, ("cpu", 300): 2 * KWH_UJ}), grid, pue_ratio=1.2)
    assert found.energy_kwh == 3
    assert found.energy_facility_kwh == pytest.approx(3.6)
    assert found.emissions_gco2e == pytest.approx(1080)
    assert found.emissions_operational_gco2e == found.emissions_gco2e
    assert found.intensity_gco2e_per_kwh == pytest.approx(300)
    assert found.power_mean_w == pytest.approx(18_000)
    assert found.duration_s == 600
    assert found.coverage_ratio == 1
    assert (found.basis, found.quality, found.intensity_kind) == ("measured", "L3", "actual")
    assert (found.zone, found.provider) == ("XX", "fake")


def test_components_have_their_own_figures_and_absent_ones_have_none():
    """1 kWh of CPU and 3 of GPU; without a memory channel there is no memory figure, not a zero."""
    found = account(_series({("cpu", 0): KWH_UJ, ("gpu", 0): 3 * KWH_UJ}, (CPU, GPU)), intensity())
    assert (found.energy_kwh, found.energy_cpu_kwh, found.energy_gpu_kwh) == (4, 1, 3)
    assert found.energy_dram_kwh is None


def test_the_whole_machine_stands_beside_its_parts_by_its_best_meter():
    """1 kWh of CPU; 3 kWh at the wall (L4), 2 by the firmware (L1): the run has 1, the machine 3, and never 5 or 6."""
    wall = channel(id="wall", component=Component.NODE, quality=Quality.L4)
    firmware = channel(id="acpi", component=Component.NODE, quality=Quality.L1)
    energies = {("cpu", 0): KWH_UJ, ("wall", 0): 3 * KWH_UJ, ("acpi", 0): 2 * KWH_UJ}
    found = account(_series(energies, (CPU, firmware, wall)), intensity())
    assert (found.energy_kwh, found.energy_node_kwh) == (1, 3)
    silent = account(_series(energies, (CPU, firmware, wall), covered_s={"wall": 0}), intensity())
    assert silent.energy_node_kwh == 2
    assert account(_series({("cpu", 0): KWH_UJ}), intensity()).energy_node_kwh is None


def test_what_was_never_read_has_no_energy_and_no_emissions():
    """A gap is not a zero: neither for a run nor for a component of one."""
    nothing = account(_series({}, covered_s={"cpu": 0}), intensity())
    numbers = {name: value for name, value, _ in count_units(nothing, "image", 10).numbers()}
    assert numbers == {"duration_s": 600, "coverage_ratio": 0, "pue_ratio": 1, "functional_units": 10}
    assert (nothing.basis, nothing.quality) == ("none", "none")
    silent_gpu = account(_series({("cpu", 0): KWH_UJ}, (CPU, GPU), covered_s={"gpu": 0}), intensity())
    assert (silent_gpu.energy_cpu_kwh, silent_gpu.energy_gpu_kwh) == (1.0, None)


def test_the_static_figure_stands_in_where_a_slot_is_missing():
    """1 kWh at 100 (slot) and 1 kWh at 250 (static) are 350 gCO2e, and the label says static."""
    series = _series({("cpu", 0): KWH_UJ, ("cpu", 600): KWH_UJ})
    found = account(series, intensity(250, [_slot(0, 100)]))
    assert found.emissions_gco2e == pytest.approx(350)
    assert found.intensity_kind == "static"


def test_a_slot_ends_before_its_end():
    """Slots are half open: second 300 belongs to the next one, and before the first one is the static figure."""
    grid = intensity(5, [_slot(0, 1), _slot(300, 2), _slot(900, 3)])
    assert [grid.at(t).gco2e_per_kwh for t in (-1, 0, 299.9, 300, 599, 600, 899, 900, 1200)] == [
        5, 1, 1, 2, 2, 5, 5, 3, 5,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "weakest"),
    [
        (["actual", "actual"], "actual"),
        (["actual", "estimated"], "estimated"),
        (["estimated", "forecast"], "forecast"),
        (["forecast", "static"], "static"),
    ],
)
def test_the_weakest_kind_of_intensity_is_the_label(kinds, weakest):
    """Static before forecast before estimated before actual."""
    grid = intensity(slots=[_slot(300 * i, 100, kind=kind) for i, kind in enumerate(kinds)])
    series = _series({("cpu", 300 * i): 1 for i in range(len(kinds))})
    assert account(series, grid).intensity_kind == weakest


def test_only_what_was_costed_has_a_kind():
    """A bucket without energy and a whole-machine meter outside the slots do not weaken the label."""
    wall = channel(id="wall", component=Component.NODE)
    series = _series({("cpu", 0): 1, ("cpu", 600): 0, ("wall", 900): 5}, (CPU, wall))
    assert account(series, intensity(slots=[_slot(0, 100)])).intensity_kind == "actual"


def test_ranges_of_channels_add_up_and_join_with_that_of_the_grid():
    """CPU 1 kWh x 0.95..1.05 and GPU 1 kWh x 0.8..1.5: 1.75 to 2.55 kWh around 2, factors 0.875 and 1.275.

    At 200 gCO2e/kWh with 0.8..1.2: 400 g, down by exp(-sqrt(ln(0.875)^2 + ln(0.8)^2)) = exp(-0.260045)
    = 0.77102, up by exp(sqrt(ln(1.275)^2 + ln(1.2)^2)) = exp(0.303750) = 1.35493.
    """
    found = account(_series({("cpu", 0): KWH_UJ, ("gpu", 0): KWH_UJ}, (CPU, GPU)), intensity(200))
    assert found.energy_low_kwh == pytest.approx(1.75)
    assert found.energy_high_kwh == pytest.approx(2.55)
    assert found.emissions_gco2e == pytest.approx(400)
    assert found.emissions_low_gco2e == pytest.approx(400 * 0.77102, rel=1e-5)
    assert found.emissions_high_gco2e == pytest.approx(400 * 1.35493, rel=1e-5)


@pytest.mark.parametrize(
    ("model_uj", "basis", "quality"),
    [(0, "measured", "L3"), (99, "mixed", "L3"), (100, "mixed", "L0"), (1000, "modelled", "L0")],
)
def test_basis_and_quality_of_a_mixed_run(model_uj, basis, quality):
    """The lowest level that holds a tenth of the energy counts: 100 of 1000 uJ do, 99 do not."""
    energies = {("cpu", 0): 1000 - model_uj, ("model", 0): model_uj}
    found = account(_series(energies, (CPU, MODEL)), intensity())
    assert (found.basis, found.quality) == (basis, quality)


def test_shares_of_one_level_are_added_before_they_are_judged():
    """Two modelled channels of 6 % each hold 12 %: the run is L0."""
    energies = {("cpu", 0): 88, ("model", 0): 6, ("ram", 0): 6}
    assert account(_series(energies, (CPU, MODEL, RAM)), intensity()).quality == "L0"


def test_without_energy_every_channel_counts_alike():
    """Nothing used is nothing emitted, with a basis from what was read and no intensity to speak of."""
    found = account(_series({}, (CPU, MODEL)), intensity())
    assert (found.energy_kwh, found.emissions_gco2e, found.power_mean_w) == (0, 0, 0)
    assert found.intensity_gco2e_per_kwh is None
    assert (found.basis, found.quality, found.intensity_kind) == ("mixed", "L0", "static")


def test_without_channels_there_is_no_basis():
    """No sensor, no basis, no power; coverage is 0."""
    found = account(_series({}, ()), intensity())
    assert (found.basis, found.quality, found.power_mean_w, found.coverage_ratio) == ("none", "none", None, 0)


def test_the_worst_channel_is_the_coverage_and_the_best_one_the_time_of_the_power():
    """CPU covers 500 of 600 s and GPU 300 s: coverage 0.5; 3000 J over 500 s are 6 W."""
    energies = {("cpu", 0): 1_000_000_000, ("gpu", 0): 2_000_000_000}
    found = account(_series(energies, (CPU, GPU), covered_s={"cpu": 500, "gpu": 300}), intensity())
    assert found.coverage_ratio == 0.5
    assert found.power_mean_w == pytest.approx(6)


@pytest.mark.parametrize("pue_ratio", [0.99, 0, -1, math.nan, math.inf])
def test_a_pue_below_one_is_refused(pue_ratio):
    """A facility cannot use less than its machines."""
    with pytest.raises(ValueError, match="expected a PUE of at least 1, got"):
        account(_series({}), intensity(), pue_ratio=pue_ratio)


@pytest.mark.parametrize(
    ("low", "value", "high"), [(-1, 5, 9), (6, 5, 9), (1, 5, 4), (1, math.nan, 9), (1, 5, math.inf)]
)
def test_an_intensity_outside_its_range_is_refused(low, value, high):
    """0 <= low <= value <= high, all of them numbers."""
    with pytest.raises(ValueError, match="expected 0 <= low <= value <= high, got"):
        IntensitySlot(
            start_s=0,
            end_s=1,
            gco2e_per_kwh=value,
            low_gco2e_per_kwh=low,
            high_gco2e_per_kwh=high,
            kind="actual",
        )


def test_a_slot_without_length_is_refused():
    """A slot ends after it starts."""
    with pytest.raises(ValueError, match=r"expected end > start, got 5\.\.5"):
        _slot(5, 1, length_s=0)


def test_slots_that_overlap_are_refused():
    """One moment has one intensity."""
    with pytest.raises(ValueError, match="intensity of XX: slots overlap at 299"):
        intensity(slots=[_slot(0, 1), _slot(299, 1)])


# A footprint must hold for any of these.
_ENERGIES = st.dictionaries(
    st.tuples(st.sampled_from(["cpu", "gpu", "model"]), st.integers(0, 5).map(lambda i: i * BUCKET_S)),
    st.integers(0, 10**14),
    max_size=12,
)
_VALUES = st.lists(st.floats(0, 2000, allow_subnormal=False), min_size=0, max_size=6)


def _grid(values, static=200.0, kind="actual"):
    return intensity(static, [_slot(BUCKET_S * i, value, kind=kind) for i, value in enumerate(values)])


@given(_ENERGIES, _VALUES, st.floats(1, 5))
def test_emissions_are_linear_in_the_pue(energies, values, pue_ratio):
    """PUE multiplies grams and facility energy, and leaves energy and intensity as they are."""
    series = _series(energies, (CPU, GPU, MODEL))
    one, many = account(series, _grid(values)), account(series, _grid(values), pue_ratio=pue_ratio)
    assert many.emissions_gco2e == pytest.approx(one.emissions_gco2e * pue_ratio)
    assert many.energy_facility_kwh == pytest.approx(one.energy_kwh * pue_ratio)
    assert many.energy_kwh == one.energy_kwh
    assert many.intensity_gco2e_per_kwh == pytest.approx(one.intensity_gco2e_per_kwh)


@given(_ENERGIES, _VALUES, st.integers(1, 1000))
def test_emissions_are_linear_in_the_energy(energies, values, factor):
    """Twice the energy at the same times is twice the grams, with the same relative range."""
    grid = _grid(values)
    one = account(_series(energies, (CPU, GPU, MODEL)), grid)
    many = account(_series({k: v * factor for k, v in energies.items()}, (CPU, GPU, MODEL)), grid)
    for name in ("energy_kwh", "energy_low_kwh", "energy_high_kwh", "emissions_gco2e", "emissions_low_gco2e"):
        assert getattr(many, name) == pytest.approx(getattr(one, name) * factor, rel=1e-9)


@given(_ENERGIES, st.floats(0, 2000), st.integers(0, 10**6))
def test_on_a_flat_grid_it_does_not_matter_when(energies, value, buckets):
    """Without a better hour, shifting a run in time changes nothing."""
    shifted = {(c, b + buckets * BUCKET_S): e for (c, b), e in energies.items()}
    now, later = (account(_series(e, (CPU, GPU, MODEL)), intensity(value)) for e in (energies, shifted))
    assert later == now


@given(_ENERGIES, _VALUES)
def test_the_value_lies_in_its_range(energies, values):
    """Low <= mid <= high for energy and emissions, and the intensity lies between those used."""
    found = account(_series(energies, (CPU, GPU, MODEL)), _grid(values))
    for figure in ("energy{}_kwh", "emissions{}_gco2e"):
        low, value, high = (getattr(found, figure.format(end)) for end in ("_low", "", "_high"))
        assert low <= value <= high
    if found.intensity_gco2e_per_kwh is not None:
        used = [*values, 200.0]
        assert min(used) * (1 - 1e-9) <= found.intensity_gco2e_per_kwh <= max(used) * (1 + 1e-9)


@given(_ENERGIES, _VALUES, st.sets(st.sampled_from([0, 1, 2, 3, 4, 5])))
def test_two_halves_of_a_run_combine_to_the_whole(energies, values, first):
    """Costing by the bucket: any split of a run into segments has the energy and grams of the whole."""
    grid, channels = _grid(values), (CPU, GPU, MODEL)
    halves = [
        {k: v for k, v in energies.items() if (k[1] // BUCKET_S in first) is which} for which in (True, False)
    ]
    parts = [account(_series(half, channels, duration_s=300), grid, pue_ratio=1.5) for half in halves]
    whole = account(_series(energies, channels), grid, pue_ratio=1.5)
    joined = combine(parts)
    for name in ("energy_kwh", "energy_low_kwh", "energy_gpu_kwh", "energy_facility_kwh", "emissions_gco2e"):
        assert getattr(joined, name) == pytest.approx(getattr(whole, name))
    assert joined.duration_s == whole.duration_s
    assume(sum(energies.values()) > 0)
    assert joined.intensity_gco2e_per_kwh == pytest.approx(whole.intensity_gco2e_per_kwh)
    assert joined.power_mean_w == pytest.approx(whole.power_mean_w)


ONE = RunFootprint(
    energy_kwh=1.0,
    energy_facility_kwh=1.5,
    emissions_gco2e=300.0,
    intensity_gco2e_per_kwh=200.0,
    duration_s=3600.0,
    coverage_ratio=1.0,
    power_mean_w=1000.0,
    process_cpu_ratio=0.5,
    basis="measured",
    quality="L3",
    zone="GB",
    verdict="ok",
)


def test_segments_add_up_by_hand():
    """1 kWh, 300 g in 1 h and 3 kWh, 450 g in 1 h half covered: 4 kWh, 750 g, 750 / 6 = 125 g/kWh of facility.

    Coverage (3600 + 1800) / 7200 = 0.75; mean power 4 x 3.6e6 J / 5400 s = 2666.7 W.
    """
    two = replace(
        ONE,
        energy_kwh=3.0,
        energy_facility_kwh=4.5,
        emissions_gco2e=450.0,
        coverage_ratio=0.5,
        basis="modelled",
        quality="L0",
        zone="FR",
        verdict="warn",
    )
    found = combine([ONE, two])
    assert (found.energy_kwh, found.emissions_gco2e, found.duration_s) == (4, 750, 7200)
    assert found.intensity_gco2e_per_kwh == pytest.approx(125)
    assert found.coverage_ratio == pytest.approx(0.75)
    assert found.power_mean_w == pytest.approx(2666.667, rel=1e-6)
    assert (found.basis, found.quality, found.zone, found.verdict) == ("mixed", "L0", "FR", "warn")
    assert found.process_cpu_ratio is None
    assert found.energy_gpu_kwh is None


def test_a_segment_of_which_little_is_known_does_not_bend_the_ratios():
    """Only energy and grams of the first segment are known (the last logged summary): they add up.

    Intensity, power and coverage are those of the segment that knows both terms, not 600 g / 1.5 kWh.
    """
    found = combine([RunFootprint(energy_kwh=1.0, emissions_gco2e=300.0, verdict="warn"), ONE])
    assert (found.energy_kwh, found.emissions_gco2e) == (2, 600)
    assert (found.intensity_gco2e_per_kwh, found.power_mean_w, found.coverage_ratio) == (200, 1000, 1)
    assert (found.basis, found.quality, found.verdict) == ("measured", "L3", "warn")


def test_nothing_known_combines_to_nothing_known():
    """Ratios of unknown terms are unknown."""
    found = combine([RunFootprint(), RunFootprint()])
    assert found == RunFootprint(basis="none", quality="none")


def test_one_segment_is_itself_and_none_is_refused():
    """There is no footprint of nothing."""
    assert combine([ONE]) is ONE
    with pytest.raises(ValueError, match="expected at least one footprint, got none"):
        combine([])


def test_sci_divides_operational_and_embodied_emissions_by_the_units():
    """(300 g + 100 g) / 8 images = 50 g per image (ISO/IEC 21031)."""
    found = count_units(replace(ONE, emissions_embodied_gco2e=100.0), "image", 8)
    assert (found.functional_unit, found.functional_units, found.sci_gco2e_per_unit) == ("image", 8, 50)


@pytest.mark.parametrize(("unit", "amount"), [("", 5), ("image", 0), ("image", -1), ("image", math.nan), ("image", math.inf)])  # fmt: skip
def test_what_cannot_be_counted_changes_nothing(unit, amount):
    """Without a unit or a finite positive amount there is no SCI."""
    assert count_units(ONE, unit, amount) is ONE


def test_units_of_segments_add_up():
    """4 and 6 images: 600 g / 10 = 60 g per image, though the last segment counted none."""
    parts = [count_units(ONE, "image", 4), count_units(replace(ONE, emissions_gco2e=300.0), "image", 6)]
    found = combine(parts)
    assert (found.functional_unit, found.functional_units, found.sci_gco2e_per_unit) == ("image", 10, 60)
    assert combine([*parts, replace(ONE, emissions_gco2e=0.0)]).sci_gco2e_per_unit == 60


def test_images_and_tokens_are_not_added():
    """Segments that counted different units have no common one."""
    found = combine([count_units(ONE, "image", 4), count_units(ONE, "token", 900)])
    assert (found.functional_unit, found.functional_units, found.sci_gco2e_per_unit) == ("", None, None)
