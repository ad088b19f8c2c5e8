"""Several machines add up to one run: by hand, in any order, to the bit; and the missing are named."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.nodes import Part, Span, expected, findings, has_keys, missing, ordered, together

START_MS = 1_700_000_000_000

ONE = RunFootprint(
    energy_kwh=1.0,
    energy_low_kwh=0.9,
    energy_high_kwh=1.2,
    energy_cpu_kwh=0.4,
    energy_gpu_kwh=0.6,
    energy_node_kwh=1.5,
    energy_facility_kwh=1.2,
    emissions_gco2e=120.0,
    emissions_low_gco2e=80.0,
    emissions_high_gco2e=150.0,
    emissions_embodied_gco2e=6.0,
    intensity_gco2e_per_kwh=100.0,
    duration_s=3600.0,
    coverage_ratio=1.0,
    overhead_ratio=0.01,
    process_cpu_s=100.0,
    process_cpu_ratio=0.5,
    pue_ratio=1.2,
    basis="measured",
    quality="L3",
    zone="DE",
    provider="table",
    intensity_kind="actual",
    verdict="ok",
)
TWO = replace(
    ONE,
    energy_kwh=2.0,
    energy_low_kwh=1.0,
    energy_high_kwh=4.0,
    energy_cpu_kwh=2.0,
    energy_gpu_kwh=None,
    energy_node_kwh=None,
    energy_facility_kwh=2.0,
    emissions_gco2e=800.0,
    emissions_embodied_gco2e=None,
    duration_s=1800.0,
    coverage_ratio=0.5,
    overhead_ratio=0.04,
    process_cpu_s=300.0,
    process_cpu_ratio=1.0,
    pue_ratio=1.0,
    basis="modelled",
    quality="L0",
    zone="FR",
    intensity_kind="static",
)


def _part(node: str, footprint: RunFootprint, *, start_s: float = 0, number: int = 2, **changes) -> Part:
    span = Span(start_ms=START_MS + round(1000 * start_s), duration_s=footprint.duration_s or 0.0)
    return Part(node=node, number=number, footprint=footprint, spans=(span,), **changes)


def test_two_machines_by_hand():
    """1 kWh from 0 to 3600 s and 2 kWh from 2700 to 4500 s, half covered: 3 kWh in 4500 s, 3750 s of them covered."""
    whole = together([_part("0", ONE), _part("1", TWO, start_s=2700)])
    assert whole.energy_kwh == 3.0
    assert (whole.energy_low_kwh, whole.energy_high_kwh) == (1.9, 5.2)
    assert (whole.energy_cpu_kwh, whole.energy_gpu_kwh) == (2.4, 0.6)
    assert whole.energy_facility_kwh == 3.2
    assert whole.emissions_gco2e == 920.0
    assert (whole.emissions_low_gco2e, whole.emissions_high_gco2e) == (160.0, 300.0)
    assert whole.emissions_embodied_gco2e == 6.0
    assert whole.intensity_gco2e_per_kwh == pytest.approx(920 / 3.2, rel=1e-14)
    assert whole.duration_s == 4500.0
    assert whole.coverage_ratio == pytest.approx((3600 + 900) / 5400, rel=1e-14)
    assert whole.power_mean_w == pytest.approx(3 * 3.6e6 / 3750, rel=1e-14)
    assert whole.pue_ratio == pytest.approx(3.2 / 3, rel=1e-14)
    assert whole.process_cpu_s == 400.0
    assert whole.overhead_ratio == pytest.approx((1 + 12) / 400, rel=1e-14)
    assert whole.process_cpu_ratio == pytest.approx(400 / (200 + 300), rel=1e-14)
    assert (whole.basis, whole.quality, whole.intensity_kind) == ("mixed", "L0", "static")
    assert (whole.zone, whole.provider, whole.verdict) == ("DE, FR", "table", "ok")


def test_machines_side_by_side_add_their_power():
    """Two of 100 W for 10 s draw 200 W in 10 s, not 100 W in 20 s."""
    own = RunFootprint(energy_kwh=1000 / 3.6e6, duration_s=10.0, coverage_ratio=1.0)
    whole = together([_part("0", own), _part("1", own)])
    assert whole.duration_s == 10.0
    assert whole.power_mean_w == pytest.approx(200.0, rel=1e-14)


def test_the_meter_of_the_whole_machine_counts_where_all_have_one():
    """A sum that lacks machines would look like less than the parts."""
    assert together([_part("0", ONE), _part("1", TWO)]).energy_node_kwh is None
    assert together([_part("0", ONE), _part("1", ONE)]).energy_node_kwh == 3.0


def test_the_pause_before_a_resumed_part_is_no_time_of_the_run():
    """0 to 10 and 100 to 110 on one machine, 5 to 12 on the other: 12 + 10 s."""
    first = Part(
        node="0",
        number=2,
        footprint=replace(ONE, duration_s=20.0),
        spans=(Span(start_ms=START_MS, duration_s=10.0), Span(start_ms=START_MS + 100_000, duration_s=10.0)),
    )
    other = _part("1", replace(TWO, duration_s=7.0), start_s=5)
    assert together([first, other]).duration_s == 22.0


def test_a_span_without_a_start_counts_beside_the_others():
    """Of a part that was only logged nobody knows when it was."""
    first = Part(node="0", number=1, footprint=ONE, spans=(Span(start_ms=None, duration_s=3.0),))
    assert together([first, _part("1", replace(TWO, duration_s=4.0))]).duration_s == 7.0
    assert together([Part(node="0", number=1, footprint=ONE)]).duration_s == 3600.0


def test_functional_units_add_and_share_one_sci():
    """100 and 300 images, 920 g operational and 6 g embodied: 926 / 400 g each."""
    parts = [
        _part("0", replace(ONE, functional_unit="image", functional_units=100.0)),
        _part("1", replace(TWO, functional_unit="image", functional_units=300.0)),
    ]
    whole = together(parts)
    assert (whole.functional_unit, whole.functional_units) == ("image", 400.0)
    assert whole.sci_gco2e_per_unit == pytest.approx(926 / 400, rel=1e-14)


def test_different_functional_units_have_no_common_one():
    """Images and tokens are not added."""
    parts = [
        _part("0", replace(ONE, functional_unit="image", functional_units=100.0)),
        _part("1", replace(TWO, functional_unit="token", functional_units=300.0)),
    ]
    whole = together(parts)
    assert (whole.functional_unit, whole.functional_units, whole.sci_gco2e_per_unit) == ("", None, None)


def test_the_missing_are_named_and_the_verdict_says_so():
    """Two of four: the first word of the findings, and gone with the last machine."""
    parts = [_part("2", TWO, number=4, findings=("a fan stood still",)), _part("0", ONE, number=4)]
    assert missing(parts) == (2, ("1", "3"))
    first, second = findings(parts)
    assert first.startswith("the figures of 2 of 4 machines are missing: nodes 1, 3; ")
    assert second == "node 2: a fan stood still"
    assert together(parts).verdict == "warn"
    parts += [_part("1", ONE, number=4), _part("3", ONE, number=4)]
    assert missing(parts) == (0, ())
    assert findings(parts) == ("node 2: a fan stood still",)
    assert together(parts).verdict == "ok"


def test_machines_without_an_index_are_counted_not_named():
    """Nobody knows the name of a host that never came."""
    parts = [_part("host-a", ONE, number=3), _part("host-b", TWO, number=5)]
    assert expected(parts) == 3  # ranks that are spread unevenly look like more machines from a small one
    assert missing(parts) == (1, ())
    assert findings(parts)[0].startswith("the figures of 1 of 3 machines are missing; ")


def test_many_missing_machines_make_a_short_finding():
    """A thousand names are no help."""
    text = findings([_part("0", ONE, number=1000)])[0]
    assert "nodes 1, 2, 3, " in text
    assert " and 983 more" in text
    assert len(text) < 300


def test_more_machines_than_told_are_all_here():
    """An elastic training that went on with fewer still used the others."""
    parts = [_part(str(k), ONE, number=2) for k in range(3)]
    assert (expected(parts), missing(parts)) == (3, (0, ()))


def test_a_verdict_of_one_is_that_of_all():
    """Whatever is wrong with one machine is wrong with the sum."""
    assert together([_part("0", ONE), _part("1", replace(TWO, verdict="warn"))]).verdict == "warn"


def test_machines_are_in_the_order_of_their_index():
    """10 comes after 9, names after numbers, and each once."""
    parts = [_part(name, ONE) for name in ("host-b", "10", "9", "host-a", "9")]
    assert [p.node for p in ordered(parts)] == ["9", "10", "host-a", "host-b"]


def test_only_the_first_machines_have_metrics_of_their_own():
    """Sixteen of them, or all where there are no more."""
    assert [has_keys(str(k), 100) for k in (0, 15, 16)] == [True, True, False]
    assert (has_keys("host-a", 16), has_keys("host-a", 17)) == (True, False)


@pytest.mark.parametrize(
    "values", [{"node": "", "number": 1}, {"node": "0", "number": 0}, {"node": "0", "number": 10**9}]
)
def test_a_part_says_who_it_is(values):
    """A name and a number are needed, and the message says what was got."""
    with pytest.raises(ValueError, match="expected a name and a number"):
        Part(footprint=ONE, **values)
    with pytest.raises(ValueError, match="got none"):
        together([])


# Clocks and meters count in millionths at the least: below that a float has no digits to divide by.
amounts = st.one_of(st.none(), st.just(0.0), st.floats(min_value=1e-9, max_value=1e6))


@st.composite
def _parts(draw):
    names = draw(st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True))
    return [
        _part(
            str(name),
            RunFootprint(
                energy_kwh=draw(amounts),
                energy_facility_kwh=draw(amounts),
                emissions_gco2e=draw(amounts),
                emissions_embodied_gco2e=draw(amounts),
                process_cpu_s=draw(amounts),
                process_cpu_ratio=draw(st.one_of(st.none(), st.floats(0.01, 1))),
                duration_s=draw(st.floats(0, 1e5)),
                coverage_ratio=draw(st.one_of(st.none(), st.floats(0, 1))),
                pue_ratio=draw(st.sampled_from([1.0, 1.5])),
                basis=draw(st.sampled_from(["measured", "modelled", "mixed", "none"])),
                quality=draw(st.sampled_from(["L0", "L3", "none"])),
                zone=draw(st.sampled_from(["DE", "FR"])),
                verdict=draw(st.sampled_from(["ok", "warn"])),
                functional_unit=draw(st.sampled_from(["", "image", "token"])),
                functional_units=draw(amounts),
            ),
            start_s=draw(st.integers(0, 10**5)),
            number=draw(st.integers(1, 50)),
        )
        for name in names
    ]


@given(_parts(), st.randoms())
def test_the_order_of_machines_does_not_matter(parts, random):
    """The same figures, findings and missing, to the bit; a machine that is told twice counts once."""
    other = [*parts, parts[0]]
    random.shuffle(other)
    assert together(other) == together(parts)
    assert (findings(other), missing(other)) == (findings(parts), missing(parts))


@given(_parts())
def test_the_sum_of_the_machines_is_the_run(parts):
    """To 1e-12: energies, emissions and CPU time; and its time lies between the longest and the sum of all."""
    whole = together(parts)
    for name in ("energy_kwh", "energy_facility_kwh", "emissions_gco2e", "process_cpu_s"):
        known = [v for p in parts if (v := getattr(p.footprint, name)) is not None]
        assert (getattr(whole, name) is None) == (not known)
        assert math.isclose(getattr(whole, name) or 0.0, sum(known), rel_tol=1e-12)
    lengths = [p.footprint.duration_s or 0.0 for p in parts]
    assert max(lengths) - 1e-6 <= (whole.duration_s or 0.0) <= sum(lengths) + 1e-6


@given(_parts())
def test_ratios_lie_between_those_of_the_machines(parts):
    """A weighted mean is no more than the largest and no less than the smallest."""
    whole = together(parts)
    for name in ("coverage_ratio", "process_cpu_ratio"):
        value = getattr(whole, name)
        if value is not None:
            known = [v for p in parts if (v := getattr(p.footprint, name)) is not None]
            assert min(known) - 1e-9 <= value <= max(known) + 1e-9


@given(_parts())
def test_one_machine_alone_is_what_it_was(parts):
    """Adding up one changes neither its energy nor its time."""
    own = replace(parts[0], number=1)
    whole = together([own])
    assert whole.energy_kwh == own.footprint.energy_kwh
    assert whole.duration_s == own.footprint.duration_s
    assert (whole.zone, whole.verdict) == (own.footprint.zone, own.footprint.verdict)
