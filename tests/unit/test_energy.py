"""From readings to energy, by hand and for any readings."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.intervals import GAUGE_GAP_NS, clip, integrate, interval
from mlflow_carbon.core.series import BUCKET_S, Case, Component, Interval, Kind, Sample
from tests.fakes import channel

S = 10**9
RAPL_RANGE_UJ = 262_143_328_850  # what `max_energy_range_uj` of a package says


def _counter(t_s, energy_uj):
    return Sample(channel="fake:cpu", t_mono_ns=round(t_s * S), energy_uj=energy_uj)


def _power(t_s, power_mw):
    return Sample(channel="fake:cpu", t_mono_ns=round(t_s * S), power_mw=power_mw)


def _failed(t_s):
    return Sample(channel="fake:cpu", t_mono_ns=round(t_s * S), error="no answer")


def _summary(intervals):
    return [(i.case, i.start_ns / S, i.end_ns / S, i.energy_uj) for i in intervals]


def test_a_counter_counts_by_difference():
    """From 1 000 000 to 3 500 000 uJ are 2 500 000 uJ."""
    found = interval(channel(), _counter(1, 1_000_000), _counter(2, 3_500_000))
    assert _summary([found]) == [(Case.NORMAL, 1, 2, 2_500_000)]


def test_what_lies_between_two_powers_is_uncertain_by_their_difference():
    """100 and 300 W, 0.1 s apart: 20 J, give or take 200 W x 0.1 s / sqrt(2) = 14.14 J; half of it in half."""
    found = interval(channel(kind=Kind.GAUGE), _power(0, 100_000), _power(0.1, 300_000))
    assert found.energy_uj == 20_000_000
    assert found.spread_uj == pytest.approx(14.142e6, rel=1e-4)
    half = clip(found, 0, S // 20)
    assert half is not None
    assert half.spread_uj == pytest.approx(7.071e6, rel=1e-4)


def test_a_counter_is_uncertain_at_the_ends_of_a_span_only():
    """At 100 W for 60 s what it says may be 0.1 s old: 10 J at each end, however often it is read."""
    for step in (1, 20):
        ledger = Ledger([channel()], start_ns=0, wall_offset_ns=0)
        for t in range(0, 61, step):
            ledger.add(_counter(t, 100_000_000 * t))
        assert ledger.series(60 * S).sampling_uj["fake:cpu"] == pytest.approx(20e6)


@pytest.mark.parametrize(("period_s", "tolerance"), [(0.35, 0.08), (1.0, 0.08), (10.0, 0.06)])
def test_the_range_of_rare_powers_holds_the_truth(period_s, tolerance):
    """A wave of 100 and 300 W read once in each second of five minutes, at random: the range holds the truth 95 of 100 times.

    Of 60 seeded waves at least 53 do with a chance of 99 %, where 95 % is true.
    """
    draw = Random(20_261_122).random
    held, widths = 0, []
    for _ in range(60):
        phase, ledger = draw(), Ledger([channel(kind=Kind.GAUGE)], start_ns=0, wall_offset_ns=0)
        moments = [second + 0.5 + draw() - 0.5 for second in range(301)]
        for t in moments:
            ledger.add(_power(t, 300_000 if (t / period_s + phase) % 1 < 0.5 else 100_000))
        series = ledger.series(round(moments[-1] * S))
        high_s = _time_high(moments[-1], period_s, phase) - _time_high(moments[0], period_s, phase)
        true_uj = 1e8 * (moments[-1] - moments[0]) + 2e8 * high_s
        held += abs(series.energy_uj() - true_uj) <= series.sampling_uj["fake:cpu"]
        widths.append(series.sampling_uj["fake:cpu"] / true_uj)
    assert held >= 53
    assert sorted(widths)[30] < tolerance


def _time_high(t_s, period_s, phase):
    """Seconds until t that a square wave with a duty of one half is high, in closed form."""
    whole, part = divmod(t_s / period_s + phase, 1)
    return (whole * 0.5 + min(part, 0.5)) * period_s


def test_a_power_beyond_the_ceiling_is_no_reading():
    """2400 W where 1050 W is the most: however short its trapezoid, it is a glitch; the neighbours bridge it."""
    board = channel(kind=Kind.GAUGE, power_max_w=1050.0)
    readings = [_power(0, 100_000), _power(1, 2_400_000), _power(2, 100_000), _power(2.1, 6_000_000)]
    found = list(integrate(board, readings))
    assert _summary(found) == [
        (Case.IMPLAUSIBLE, 0, 1, None),
        (Case.NORMAL, 0, 2, 200_000_000),
        (Case.IMPLAUSIBLE, 2, 2.1, None),
    ]


def test_a_counter_that_was_reset_has_passed_its_old_value_soon():
    """100 J, 0, 300 J within 2 s: the second is not a slip, since the counter goes on from it; 300 J are sure."""
    meter = channel(power_max_w=1000.0)
    found = list(integrate(meter, [_counter(0, 100_000_000), _counter(1, 0), _counter(2, 300_000_000)]))
    assert _summary(found) == [(Case.RESET, 0, 1, None), (Case.NORMAL, 1, 2, 300_000_000)]


def test_a_slip_of_a_counter_costs_nothing():
    """1 MJ, 0, 1 MJ + 200 J: nobody uses a megajoule in a second, so the zero was the slip."""
    meter = channel(power_max_w=1000.0)
    readings = [_counter(0, 10**12), _counter(1, 0), _counter(2, 10**12 + 200_000_000)]
    assert _summary(list(integrate(meter, readings))) == [
        (Case.RESET, 0, 1, None),
        (Case.NORMAL, 0, 2, 200_000_000),
    ]


def test_a_counter_that_wraps_is_undone():
    """262 143 000 000 to its range of 262 143 328 850 are 328 850 uJ, and 50 000 000 more after the wrap.

    50 328 850 uJ in 1 s are 50.3 W, which a package with a ceiling of 1000 W can have used.
    """
    package = channel(range_uj=RAPL_RANGE_UJ, power_max_w=1000.0)
    found = interval(package, _counter(0, 262_143_000_000), _counter(1, 50_000_000))
    assert _summary([found]) == [(Case.WRAPPED, 0, 1, 50_328_850)]


def test_a_counter_that_was_reset_is_no_wrap():
    """From 100 to 1 J, a wrap would be 262 044 J in a second: the counter started anew, the time is lost."""
    package = channel(range_uj=RAPL_RANGE_UJ, power_max_w=1000.0)
    found = interval(package, _counter(0, 100_000_000), _counter(1, 1_000_000))
    assert _summary([found]) == [(Case.RESET, 0, 1, None)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"range_uj": RAPL_RANGE_UJ},
        {"power_max_w": 1000.0},
        {"range_uj": 200_000_000, "power_max_w": 100.0},
    ],
)
def test_a_fall_is_a_reset_where_a_wrap_cannot_be_shown(changes):
    """Without range, without ceiling, or with a fall beyond the range, nothing is invented."""
    found = interval(channel(**changes), _counter(0, 262_143_000_000), _counter(1, 50_000_000))
    assert found.case is Case.RESET
    assert found.energy_uj is None


def test_a_jump_that_no_device_can_make_is_not_believed():
    """With a ceiling of 100 W, 1 s and the 0.2 s of refresh allow 120 J: 120 J pass, 121 J do not."""
    device = channel(power_max_w=100.0)
    assert interval(device, _counter(0, 0), _counter(1, 120_000_000)).case is Case.NORMAL
    found = interval(device, _counter(0, 0), _counter(1, 121_000_000))
    assert _summary([found]) == [(Case.IMPLAUSIBLE, 0, 1, None)]


def test_instantaneous_power_is_a_trapezoid():
    """From 100 W to 50 W in 2 s are 75 W x 2 s = 150 J."""
    found = interval(channel(kind=Kind.GAUGE), _power(0, 100_000), _power(2, 50_000))
    assert _summary([found]) == [(Case.NORMAL, 0, 2, 150_000_000)]


def test_instantaneous_power_says_nothing_about_a_long_silence():
    """5 s apart is still integrated; a nanosecond more is a gap."""
    gauge = channel(kind=Kind.GAUGE)
    last = Sample(channel="fake:cpu", t_mono_ns=GAUGE_GAP_NS + 1, power_mw=1000)
    assert interval(gauge, _power(0, 1000), _power(5, 1000)).energy_uj == 5_000_000
    assert _summary([interval(gauge, _power(0, 1000), last)]) == [(Case.GAP, 0, 5.000000001, None)]


def test_mean_power_is_a_rectangle_over_the_time_before_it():
    """30 W on average since the reading 4 s ago are 120 J, whatever the reading before said."""
    found = interval(channel(kind=Kind.MEAN), _power(0, 999_000), _power(4, 30_000))
    assert _summary([found]) == [(Case.NORMAL, 0, 4, 120_000_000)]


def test_the_first_reading_of_a_model_has_no_power_and_the_second_counts():
    """A mean needs a baseline: the first reading has no value, the rectangle starts there all the same."""
    readings = [Sample(channel="fake:cpu", t_mono_ns=0), _power(1, 7_000)]
    assert _summary(integrate(channel(kind=Kind.MEAN), readings)) == [(Case.NORMAL, 0, 1, 7_000_000)]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_reading_without_a_value_is_a_gap(kind):
    """No value and no error is not a zero either."""
    empty = Sample(channel="fake:cpu", t_mono_ns=S)
    assert interval(channel(kind=kind), _counter(0, 5), empty).case is Case.GAP


def test_a_counter_goes_on_over_failed_reads():
    """The device counted on: 10 J from the good reading before to the good one after, in one interval."""
    readings = [
        _failed(0),
        _counter(1, 5_000_000),
        _failed(2),
        _failed(3),
        _counter(4, 15_000_000),
        _failed(5),
    ]
    assert _summary(integrate(channel(), readings)) == [(Case.NORMAL, 1, 4, 10_000_000)]


def test_a_gauge_that_fails_for_long_leaves_a_gap():
    """Good at 0 and 1 s, failed until 7 s, good at 7 and 8 s: 6 s are missing, and nothing fills them."""
    readings = [
        _power(0, 2000),
        _power(1, 2000),
        *map(_failed, range(2, 7)),
        _power(7, 2000),
        _power(8, 2000),
    ]
    assert _summary(integrate(channel(kind=Kind.GAUGE), readings)) == [
        (Case.NORMAL, 0, 1, 2_000_000),
        (Case.GAP, 1, 7, None),
        (Case.NORMAL, 7, 8, 2_000_000),
    ]


def test_readings_out_of_order_count_no_time_twice():
    """A reading of 5 s that comes after that of 10 s, and a second one of 10 s, are left out."""
    readings = [_counter(0, 0), _counter(10, 100), _counter(5, 50), _counter(10, 130), _counter(15, 150)]
    assert _summary(integrate(channel(), readings)) == [(Case.NORMAL, 0, 10, 100), (Case.NORMAL, 10, 15, 50)]


def test_clip_takes_energy_in_proportion_to_time():
    """Of 100 uJ over 10 ns, the 3 ns in the middle hold 30 uJ."""
    whole = Interval(channel="a", start_ns=0, end_ns=10, energy_uj=100, case=Case.NORMAL)
    assert clip(whole, 4, 7) == Interval(channel="a", start_ns=4, end_ns=7, energy_uj=30, case=Case.NORMAL)
    assert clip(whole, -5, 50) == whole
    assert clip(whole, 10, 20) is None
    assert clip(whole, 7, 7) is None


def test_clip_keeps_a_gap_a_gap():
    """Part of no energy is no energy, not zero."""
    gap = Interval(channel="a", start_ns=0, end_ns=10, energy_uj=None, case=Case.GAP)
    assert clip(gap, 2, 4) == Interval(channel="a", start_ns=2, end_ns=4, energy_uj=None, case=Case.GAP)


@given(
    energy_uj=st.integers(0, 10**12),
    length_ns=st.integers(1, 10**12),
    cuts=st.lists(st.integers(-(10**11), 2 * 10**12), max_size=12),
)
def test_cutting_an_interval_keeps_its_energy_to_the_microjoule(energy_uj, length_ns, cuts):
    """The pieces of an interval add up to it exactly, wherever it is cut."""
    whole = Interval(channel="a", start_ns=0, end_ns=length_ns, energy_uj=energy_uj, case=Case.NORMAL)
    edges = sorted({0, length_ns, *cuts})
    pieces = [clip(whole, lo, hi) for lo, hi in itertools.pairwise(edges)]
    assert sum(p.energy_uj or 0 for p in pieces if p is not None) == energy_uj
    assert sum(p.duration_ns for p in pieces if p is not None) == length_ns


@st.composite
def _readings(draw):
    """Readings of one channel of any kind: steps in time, wraps, resets, failures and late comers."""
    kind = draw(st.sampled_from(list(Kind)))
    t_ns, found = draw(st.integers(0, 10 * S)), []
    for _ in range(draw(st.integers(0, 25))):
        t_ns += draw(st.integers(-S, 9 * S) | st.integers(0, 200 * S))
        value = draw(st.none() | st.integers(0, RAPL_RANGE_UJ))
        power = None if value is None else value % 400_000
        found.append(
            Sample(
                channel="fake:cpu",
                t_mono_ns=t_ns,
                energy_uj=value if kind is Kind.COUNTER else None,
                power_mw=power if kind is not Kind.COUNTER else None,
                error=draw(st.sampled_from([None, None, None, "no answer"])) if value else "no answer",
            )
        )
    return channel(kind=kind, range_uj=RAPL_RANGE_UJ, power_max_w=1500.0), found


@given(
    _readings(),
    st.integers(0, 300 * S),
    st.integers(0, 3000 * S),
    st.sets(st.integers(0, 25)),
    st.integers(0, 10**18),
)
def test_the_ledger_equals_integrating_everything_at_once(
    given_readings, start_ns, length_ns, flushes, offset_ns
):
    """Running totals are those of `integrate` and `clip`, however often they are looked at in between."""
    device, readings = given_readings
    end_ns = start_ns + length_ns
    ledger = Ledger([device], start_ns=start_ns, wall_offset_ns=offset_ns)
    for number, sample in enumerate(readings):
        ledger.add(sample, end_ns=end_ns)
        if number in flushes:
            ledger.series(sample.t_mono_ns)
    series = ledger.series(end_ns)

    parts = [clip(i, start_ns, end_ns) for i in integrate(device, readings)]
    expected = [p for p in parts if p is not None]
    assert series.energy_uj() == sum(p.energy_uj or 0 for p in expected)
    assert series.covered_ns["fake:cpu"] == sum(p.duration_ns for p in expected if p.energy_uj is not None)
    assert series.cases["fake:cpu"] == {
        case: n for case in Case if (n := sum(p.case is case for p in expected))
    }
    assert series.duration_ns == length_ns


@given(_readings(), st.integers(0, 10**18))
def test_splitting_into_buckets_keeps_the_total(given_readings, offset_ns):
    """Buckets of five UTC minutes are sorted, aligned, and add up to the unsplit energy."""
    device, readings = given_readings
    ledger = Ledger([device], start_ns=0, wall_offset_ns=offset_ns)
    booked = [ledger.add(sample) for sample in readings]
    series = ledger.series(10**12)
    assert sum(c.energy_uj for c in series.cells) == sum(p.energy_uj or 0 for p in booked if p is not None)
    assert [c.bucket_s for c in series.cells] == sorted({c.bucket_s for c in series.cells})
    assert all(c.bucket_s % BUCKET_S == 0 for c in series.cells)


def test_energy_lands_in_the_bucket_of_its_time():
    """600 J over the 600 s from 12:00:50: 250 s to 12:05, 300 s to 12:10 and 50 s after it."""
    ledger = Ledger([channel()], start_ns=0, wall_offset_ns=50 * S)
    ledger.add(_counter(0, 0))
    ledger.add(_counter(600, 600_000_000))
    cells = [(c.bucket_s, c.energy_uj) for c in ledger.series(600 * S).cells]
    assert cells == [(0, 250_000_000), (300, 300_000_000), (600, 50_000_000)]


def test_the_ledger_counts_only_its_span():
    """Of 10 J/s read from 0 to 10 s, a span from 2 to 7 s holds 50 J; unknown channels hold nothing."""
    ledger = Ledger([channel()], start_ns=2 * S, wall_offset_ns=0)
    for t_s in range(11):
        ledger.add(_counter(t_s, t_s * 10_000_000), end_ns=7 * S)
        assert ledger.add(Sample(channel="other", t_mono_ns=t_s * S, energy_uj=t_s)) is None
    series = ledger.series(7 * S)
    assert series.energy_uj() == 50_000_000
    assert series.covered_ns == {"fake:cpu": 5 * S}


def test_a_span_without_readings_is_empty():
    """Its channels are known, its energy is nothing, and a span that would end before it starts has no length."""
    ledger = Ledger([channel(), channel(id="b", component=Component.GPU)], start_ns=5, wall_offset_ns=0)
    series = ledger.series(3)
    assert [c.id for c in ledger.channels] == ["fake:cpu", "b"]
    assert list(series.cells) == []
    assert series.duration_ns == 0
    assert series.covered_ns == {"fake:cpu": 0, "b": 0}
