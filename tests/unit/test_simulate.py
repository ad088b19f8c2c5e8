"""Scores of policies on traces: by hand, against a plain loop, and without a look at the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.core.history import Archive, PublishedForecast
from mlflow_carbon.core.paths import Track
from mlflow_carbon.core.plans import Job, Terms
from mlflow_carbon.core.scene import scene_of
from mlflow_carbon.core.simulate import SCORED, Scenario, _has_paid, delays, has_waiting_paid, simulate
from mlflow_carbon.core.windows import is_due, pausing_costs, runs_now, start_costs
from tests.grids import START_S, wave

H = 3600


def test_costs_of_starts_by_hand() -> None:
    """Two hours of 3, 2, 1, 4 at 10 % idling: 5, 0.3 + 3, 0.5 + 5."""
    found = start_costs(np.array([[3.0, 2.0, 1.0, 4.0]]), length=2, starts=3, idle_ratio=0.1)
    assert found[0] == pytest.approx([5, 3.3, 5.5])


def test_it_is_due_when_no_later_start_is_cheaper() -> None:
    """Costs 2, 3, 1: due with one slot of patience, not with two; a tolerance of 100 % makes it due."""
    costs = np.array([[2.0, 3.0, 1.0]])
    assert is_due(costs).tolist() == [[True, True, False]]
    assert is_due(costs, 1.0).tolist() == [[True, True, True]]


def test_pausing_by_hand() -> None:
    """Two of 3, 1, 2: running now costs 3 + 1, waiting 1 + 2; with 100 % idling waiting costs 3 + 1 + 2."""
    runs, waits = pausing_costs(np.array([[3.0, 1.0, 2.0]]), length=2)
    assert (runs[0, 2], waits[0, 2]) == (4, 3)
    _, held = pausing_costs(np.array([[3.0, 1.0, 2.0]]), length=2, idle_ratio=1.0)
    assert held[0, 2] == 6


@given(st.lists(st.integers(1, 99), min_size=2, max_size=12, unique=True), st.data())
def test_without_idling_a_slot_runs_if_it_is_among_the_best(values, data) -> None:
    """With k slots to run, the present one runs exactly if it is one of the k cheapest."""
    k = data.draw(st.integers(1, len(values)))
    found = runs_now(np.array([values], dtype=float), length=k)[0, k]
    assert found == (sorted(values).index(values[0]) < k)


def test_delays_are_the_first_slot_that_is_due() -> None:
    """With two slots of patience: due at once, after one, at the end."""
    due = np.zeros((5, 3), dtype=bool)
    due[:, 0] = True
    due[0, 2] = due[2, 1] = True
    assert delays(due, 3).tolist() == [0, 1, 2]


def test_perfect_foresight_reaches_itself_and_now_saves_nothing() -> None:
    """The two ends of the scale."""
    scores = {s.policy: s for s in simulate(wave(60), Scenario(hours=(4,)), ["now", "oracle"])}
    assert scores["oracle"].reached_ratio == pytest.approx(1)
    assert (scores["now"].saving_ratio, scores["now"].wait_mean_h) == (0, 0)


def test_a_grid_that_repeats_is_planned_perfectly() -> None:
    """Without weather every forecaster that has seen a day reaches all there is."""
    scores = simulate(
        wave(60, weather=0), Scenario(hours=(1, 4)), ["persistence", "profile", "window", "interruptible"]
    )
    assert [s.reached_ratio for s in scores] == pytest.approx([1] * 8, abs=0.01)


def test_a_flat_grid_saves_nothing() -> None:
    """Nothing to gain is no error, and nothing is waited for."""
    track = Track(values=np.full(60 * 24, 40.0), start_s=START_S, step_s=H)
    for score in simulate(track, Scenario(hours=(1, 24))):
        assert score.saving_ratio == pytest.approx(0, abs=1e-9)
        assert score.harm_ratio == 0


def test_the_vectors_agree_with_a_loop_over_submissions() -> None:
    """Each submission planned by itself, slot after slot, gives the same delay and the same emissions."""
    scene = scene_of(wave(50, weather=60), Scenario(hours=(3,), slack_h=12), 3, {})
    emitted, delay = SCORED["window"](scene)
    paths = scene.paths("blend")
    for start in range(0, scene.starts, 37):
        waited = 0
        while waited < 12:
            row = paths[start + waited]
            options = [sum(row[j : j + 3]) for j in range(12 - waited + 1)]
            if options[0] <= min(options[1:]):
                break
            waited += 1
        assert waited == delay[start]
        assert emitted[start] == pytest.approx(scene.values[start + waited : start + waited + 3].sum())


@pytest.mark.parametrize("name", sorted(set(SCORED) - {"oracle"}))
@given(late=st.integers(1, 200), seed=st.integers(0, 99), idle=st.sampled_from([0.0, 0.01]))
@settings(max_examples=5)
def test_no_decision_sees_the_future(name, late, seed, idle) -> None:
    """Other values after a slot change no decision that was taken up to it."""
    track, scenario = wave(50), Scenario(hours=(2,), slack_h=8, idle_ratio=idle)
    cut = len(track.values) - late
    values = track.values.copy()
    values[cut:] = np.random.default_rng(seed).uniform(0, 900, late)
    found = []
    for version in (track, replace(track, values=values)):
        scene = scene_of(version, scenario, 2, {})
        found.append((scene, *SCORED[name](scene)))
    decided = max(0, cut - scene.first - 10)  # submissions whose last possible decision lies before the cut
    (_, emitted, delay), (_, emitted_too, delay_too) = found
    assert delay[:decided].tolist() == delay_too[:decided].tolist()
    np.testing.assert_allclose(emitted[:decided], emitted_too[:decided], rtol=1e-9)


def test_idling_is_never_worth_more_than_it_costs() -> None:
    """With 10 % of idle power the aware plan still saves in sum, and with 100 % it starts at once."""
    track = wave(90)
    for idle in (0.1, 1.0):
        scores = simulate(track, Scenario(hours=(1, 4), idle_ratio=idle), ["window", "interruptible"])
        assert all(score.saving_ratio > -0.001 for score in scores)
    assert scores[0].wait_mean_h == pytest.approx(0, abs=0.1)


def test_a_machine_is_held_only_where_waiting_has_paid() -> None:
    """A grid that repeats pays for a wait of a few hours; until two weeks have shown it every job starts at once."""
    track = wave(90, weather=0)
    scene = scene_of(track, Scenario(hours=(4,), idle_ratio=0.01), 4, {})
    _, delay = SCORED["window"](scene)
    unknown = 14 * 24 + scene.slack + scene.length - 1
    assert (delay[:unknown] == 0).all()
    assert delay[unknown:].max() > 6


@given(st.lists(st.floats(-2, 4), min_size=15, max_size=120), st.integers(0, 3))
def test_waiting_has_paid_where_the_mean_of_the_days_is_above_three_of_its_errors(days, more) -> None:
    """Two submissions a day, the newest 90 days, and an unfinished one: against the textbook formula."""
    gain = np.concatenate([np.zeros(more), np.repeat(days, 2) / 2])
    last = np.array(days[-90:])
    error = last.std(ddof=1) / np.sqrt(len(last))
    if abs(last.mean() - 3 * error) < 1e-6 or (more and len(days) < 90):
        return
    assert _has_paid(gain, 2)[-1] == (last.mean() > 3 * error)


def test_two_weeks_must_be_known_before_waiting_has_paid() -> None:
    """A gain that never fails counts from the end of the fourteenth day on; none at all never does."""
    assert _has_paid(np.ones(15 * 24), 24).tolist() == [n >= 14 * 24 for n in range(15 * 24 + 1)]
    assert not _has_paid(np.zeros(15 * 24), 24).any()


def test_one_good_day_is_no_evidence() -> None:
    """A sum that one day has made is not beyond doubt, however large."""
    days = np.full(90, -0.1)
    days[40] = 1000.0
    assert not _has_paid(np.repeat(days, 24), 24)[-1]


def test_the_rule_for_one_job_is_that_of_the_simulation() -> None:
    """On the same past `has_waiting_paid` says what the next submission of the simulation goes by."""
    for idle, weather, expected in ((0.01, 0.0, True), (0.5, 60.0, False)):
        longer, now = wave(62, weather=weather), 60 * 24 + 16  # in the dear hours of the afternoon
        track = replace(longer, values=longer.values[:now])
        job = Job(length_s=4 * H, max_wait_s=8 * H, power_w=100.0, idle_w=100.0 * idle)
        scenario = Scenario(hours=(4,), slack_h=8, idle_ratio=idle)
        whole = replace(longer, values=longer.values[: now + 12])  # the next job can end by then
        scene = replace(scene_of(whole, scenario, 4, {}), first=7 * 24, starts=now - 7 * 24 + 1)
        _, delay = SCORED["window"](scene)
        paid = has_waiting_paid(track, job, terms=scenario.terms)
        assert paid is expected
        assert (delay[-1] > 0) == expected


def test_a_machine_is_not_held_for_less_than_two_per_cent() -> None:
    """A grid that swings by a quarter of a per cent is waited for where the machine is given back, and not where it is held."""
    flat = replace(wave(60, weather=0), values=250 + wave(60, weather=0).values / 100)
    for idle, waits in ((0.0, True), (1e-6, False)):
        scene = scene_of(flat, Scenario(hours=(4,), idle_ratio=idle), 4, {})
        assert (SCORED["window"](scene)[1].max() > 0) == waits


def test_a_minimum_gain_starts_flat_days_at_once() -> None:
    """Asking for 90 % means never waiting."""
    terms = Terms(min_gain_ratio=0.9)
    scores = simulate(wave(60), Scenario(hours=(2,), terms=terms), ["window", "interruptible"])
    assert [s.wait_mean_h for s in scores] == [0, 0]


def test_a_published_forecast_is_used_while_it_is_issued() -> None:
    """A perfect one reaches nearly everything, and only submissions within its issues count."""
    track = wave(90, weather=60)
    issues = [
        PublishedForecast(
            issued_s=START_S + i * H,
            start_s=START_S + i * H,
            step_s=H,
            values=tuple(track.values[i : i + 60]),
        )
        for i in range(40 * 24, 80 * 24, 24)
    ]
    given_track = replace(track, archive=Archive(forecasts=tuple(issues)))
    own, published = (simulate(t, Scenario(hours=(4,)), ["window"])[0] for t in (track, given_track))
    assert own.reached_ratio is not None
    assert published.reached_ratio is not None
    assert published.starts == 40 * 24
    assert published.reached_ratio > 0.97 > own.reached_ratio


def test_slots_of_half_an_hour_are_scored() -> None:
    """Hours are hours at any slot length."""
    score = simulate(wave(40, step_s=1800, weather=0), Scenario(hours=(1,), slack_h=6), ["oracle"])[0]
    assert 0 < score.wait_mean_h < 6


def test_what_cannot_be_simulated_is_refused() -> None:
    """Short traces and unknown policies say what was expected."""
    with pytest.raises(ValueError, match="give a longer trace"):
        simulate(wave(28), Scenario(), ["now"])
    with pytest.raises(ValueError, match="expected some of now"):
        simulate(wave(60), Scenario(), ["luck"])
