"""The trainer's wait, budget and sum, and the demonstration's made-up grid."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

import mlflow_carbon
from mlflow_carbon.grid import recorded
from mlflow_carbon.grid.contract import Window
from projects.mnist import carbon, demo
from projects.mnist.config import Config, ConfigError

FOOTPRINT = mlflow_carbon.RunFootprint(
    duration_s=10.0,
    coverage_ratio=1.0,
    pue_ratio=1.0,
    basis="modelled",
    quality="L0",
    zone="GB",
    provider="x",
    intensity_kind="actual",
    energy_kwh=0.001,
    power_mean_w=360.0,
    emissions_gco2e=0.3,
)


def spent(*grams: float | None):
    """Snapshots with these emissions, one a look; the last one stays."""
    values = list(grams)

    def snapshot():
        value = values.pop(0) if len(values) > 1 else values[0]
        return replace(FOOTPRINT, emissions_gco2e=value)

    return snapshot


def test_nothing_asked_for_is_no_wait():
    """Without threshold and policy nobody asks the grid."""
    assert carbon.wait(Config()) is None
    assert carbon.started(None) == ({}, {})
    assert carbon.outcome(None, FOOTPRINT) == ({}, {})


def test_a_wait_is_said_and_logged(monkeypatch, tmp_path, capsys):
    """Germany has an annual figure only: no wait, and the reason is printed and in the tags."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    waited = carbon.wait(Config(zone="DE", carbon_policy="window"))
    assert waited is not None
    metrics, tags = carbon.started(waited)
    assert metrics["carbon/wait_s"] < 1
    assert metrics["carbon/intensity_training_gco2e_per_kwh"] == pytest.approx(380.95)
    assert "carbon/intensity_initial_gco2e_per_kwh" not in metrics
    assert tags["carbon.plan.source"].endswith("(static)")
    reason = "an annual or fixed figure does not say when to start"
    assert tags["carbon.plan.reason"].startswith(reason)
    assert f"(window): {reason}" in capsys.readouterr().out


def test_nothing_is_claimed_where_the_grid_says_nothing(monkeypatch, tmp_path, capsys):
    """On one annual figure there is nothing to compare: no saving, not even of zero, and a tag that says so."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    waited = carbon.wait(Config(zone="DE", carbon_policy="window"))
    assert waited is not None
    metrics, tags = carbon.outcome(replace(waited, started_s=waited.started_s - 10), FOOTPRINT)
    assert metrics == {}
    assert tags == {"carbon.plan.outcome": "not final: weakest intensity is static"}
    assert "does not say when it is cleaner, nothing to compare with" in capsys.readouterr().out


def test_what_the_wait_was_worth_is_printed_as_it_is(monkeypatch, tmp_path, capsys):
    """From 300 to 200 g/kWh saves a third; a trace tells no more than what has begun, so the rest is forecast."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    waited = carbon.wait(Config(zone="DE", carbon_policy="now"))
    assert waited is not None
    hour = waited.started_s // 3600 * 3600 - 3 * 3600
    times = (datetime.fromtimestamp(hour + i * 3600, UTC) for i in range(2))
    rows = (f"{t:%Y-%m-%dT%H:%MZ},{v}" for t, v in zip(times, (300, 200), strict=True))
    (tmp_path / "trace.csv").write_text("\n".join(("slot_start_utc,gco2_per_kwh", *rows)))
    settings = replace(waited.order.settings, grid=f"recorded:{tmp_path / 'trace.csv'}")
    order = replace(waited.order, settings=settings, submitted_s=hour)
    metrics, tags = carbon.outcome(replace(waited, order=order, started_s=hour + 3600), FOOTPRINT)
    assert metrics["carbon/saving_ratio"] > 0
    assert tags == {"carbon.plan.outcome": "not final: weakest intensity is estimated"}
    text = capsys.readouterr().out
    assert "of starting at once" in text
    assert "not final, as some figures are estimated" in text


def test_without_energy_there_is_no_saving(monkeypatch, tmp_path):
    """A run that nobody measured has nothing to compare."""
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    waited = carbon.wait(Config(zone="DE", carbon_policy="now"))
    assert carbon.outcome(waited, None) == ({}, {})
    assert carbon.outcome(waited, replace(FOOTPRINT, energy_kwh=None)) == ({}, {})


def test_a_budget_is_looked_at_once_a_second_and_ends_the_training():
    """0.1 and 0.2 of 0.25 g go on, 0.3 g ends it."""
    clock = [0.0]
    budget = carbon.Budget(0.25, snapshot=spent(0.1, 0.2, 0.3), now_s=lambda: clock[0])
    assert not budget.is_spent()
    assert not budget.is_spent()  # the same second
    assert budget.spent_gco2e == 0.1
    clock[0] = 1.0
    assert not budget.is_spent()
    clock[0] = 2.5
    assert budget.is_spent()
    assert budget.reason(2) == "budget: 0.3 of 0.25 gCO2e (modelled) spent in epoch 2"


def test_without_figures_a_budget_cannot_be_kept_and_says_so(capsys):
    """The training goes on; the warning comes at its end."""
    for snapshot in (lambda: None, spent(None)):
        budget = carbon.Budget(0.25, snapshot=snapshot)
        assert not budget.is_spent()
        budget.complain()
        assert "nothing was measured, so it was not kept" in capsys.readouterr().err


def test_no_budget_looks_at_nothing():
    """No snapshot is taken where none is needed."""

    def never():
        raise AssertionError("asked")

    budget = carbon.Budget(None, snapshot=never)
    assert not budget.is_spent()
    budget.complain()


@pytest.mark.parametrize(
    ("wait_s", "now_s"), [(30, 1_772_452_811.5), (600, 1_772_452_811.5), (600, 1_772_452_800.0)]
)
def test_the_made_up_grid_falls_after_the_wait(tmp_path, wait_s, now_s):
    """High for at least so long; low from then on, for a day; a long wait ends with a bucket of energy."""
    file = tmp_path / "d.csv"
    file.write_text(demo.trace(now_s, wait_s=wait_s))
    rows = recorded.read(file).rows
    fall_s = min(t for t, value in rows.items() if value == demo.AFTER)
    assert now_s + wait_s <= fall_s <= now_s + wait_s + 300
    assert set(rows.values()) == {demo.BEFORE, demo.AFTER}
    assert max(rows) >= fall_s + 86_000
    present = recorded.read(file).slots("GB", Window(start_s=now_s, end_s=now_s + 86_400), now_s)
    assert [s.gco2e_per_kwh for s in present] == [demo.BEFORE]
    if wait_s >= 300:
        assert fall_s % 300 == 0


@pytest.mark.parametrize("raw", ["0", "-10", "7", "soon", "1.5", "70"])
def test_a_wait_that_no_trace_can_play_is_refused(raw, capsys):
    """Slots must divide a day; the message gives two that work."""
    assert demo.main(["--wait_s", raw]) == ConfigError.exit_code
    assert "such as 600 or 30" in capsys.readouterr().err
