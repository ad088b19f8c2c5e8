"""`mlflow-carbon plan ZONE`: what it prints, for people and for programs, and what it refuses."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlflow_carbon import cli
from mlflow_carbon.cli import advice_text
from mlflow_carbon.core.carbon import IntensitySeries, IntensitySlot
from mlflow_carbon.core.plans import Job
from mlflow_carbon.scheduling.advice import advise
from mlflow_carbon.scheduling.manifests import FORMATS
from mlflow_carbon.scheduling.order import Order
from mlflow_carbon.settings import Settings
from tests.fakes import intensity
from tests.unit.test_advice import NOW, SLOT, World, grid, order


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A state folder of its own, no settings from outside, another time zone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path / "home"))
    for name in ("GRID", "ZONE", "INTENSITY_GCO2E_PER_KWH"):
        monkeypatch.delenv(f"MLFLOW_CARBON_{name}", raising=False)


def shown(wanted: Order, *values: float, has_power: bool = True) -> str:
    """The text of an order on one grid."""
    advice = advise(wanted, World({"GB": grid(*values)}), NOW)
    return advice_text.text(advice, wanted, NOW, has_power=has_power)


def test_start_reason_saving_and_chart():
    """All that somebody needs to decide, on one screen; nothing expected is called measured."""
    text = shown(order(), 300, 300, 200, 100, 120, 400, 90, 400)
    assert "Zone GB, United Kingdom: 2 h at 1000 W, may wait 5 h" in text
    assert f"start   {datetime.fromtimestamp(SLOT + 3 * 3600, UTC):%a %Y-%m-%d %H:%M} UTC" in text
    assert "in 2 h 50 min" in text
    assert "because the cleanest 2 h within the wait" in text
    assert "saves   63% (63% to 63%) of starting now, 380 of 600 gCO2e: 110 instead of 300 gCO2e/kWh" in text
    assert "expected, not measured" in text
    assert "from    forecast of fake, corrected by its present error; average, life cycle" in text
    rows = text.splitlines()
    below = next(i for i, row in enumerate(rows) if row.strip().startswith("0 +"))
    assert rows[below + 1].index("^") - rows[below].index("-") == 3
    assert rows[below + 1].count("^") == 2


def test_without_power_no_grams():
    """A share and intensities need none."""
    text = shown(order(), 300, 300, 200, 100, 120, 400, 90, 400, has_power=False)
    assert "W, may" not in text
    assert "63% (63% to 63%) of starting now: 110 instead of 300 gCO2e/kWh" in text


def test_pieces_are_listed():
    """Two hours in two pieces, and what that asks of the job; the first may have begun with its slot."""
    begun = shown(order(policy="interruptible"), 100, 300, 300, 100, 300, 300, 300, 300)
    assert "start   now\n          in 2 pieces:" in begun
    text = shown(order(policy="interruptible"), 300, 100, 300, 100, 300, 300, 300, 300)
    assert "in 2 pieces:" in text
    assert "it must be able to stop and go on" in text


def test_starting_now_says_why(capsys):
    """An annual figure has no chart, and the reason is the first thing to read after the start."""
    assert cli.main(["plan", "DE", "--hours", "4", "--grid", "annual"]) == 0
    text = capsys.readouterr().out
    assert "start   now" in text
    assert "because an annual or fixed figure does not say when to start" in text
    assert "saves   nothing against now, which is 381 gCO2e/kWh" in text
    assert "+--" not in text


def test_json_for_programs(capsys):
    """Start as ISO, ratios with their range, the forecast and the order with absolute times."""
    assert cli.main(["plan", "GB", "--hours", "4", "--slack", "12", "--grid", "diurnal:3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert datetime.fromisoformat(found["start"]).tzinfo is UTC
    assert found["saving_low_ratio"] <= found["saving_ratio"] <= found["saving_high_ratio"]
    assert found["order"]["latest_start_s"] == pytest.approx(found["asked_s"] + 12 * 3600)
    assert found["basis"].startswith("modelled")
    assert any("MOCK" in note for note in found["notes"])
    assert len(found["forecast"]["values"]) == len(found["forecast"]["sd"])


def test_json_without_power_has_no_grams(capsys):
    """Shares and intensities, which give each other; with the power grams, too."""
    words = ["plan", "GB", "--hours", "4", "--grid", "diurnal:3", "--json"]
    assert cli.main(words) == 0
    bare = json.loads(capsys.readouterr().out)
    assert bare["plan"]["now_gco2e"] is None
    assert bare["order"]["power_w"] is None
    now, target = bare["intensity_now_gco2e_per_kwh"], bare["intensity_target_gco2e_per_kwh"]
    assert bare["saving_ratio"] == pytest.approx(1 - target / now)
    assert cli.main([*words, "--power", "500"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["now_gco2e"] == pytest.approx(2 * now, rel=0.05)


def test_no_manifest_is_made_for_a_deadline_that_cannot_be_met(capsys):
    """Exit 1 as without one, and standard output stays empty."""
    soon = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    words = ["--grid", "annual", "--deadline", soon, "--format", "slurm", "--command", "x"]
    assert cli.main(["plan", "GB", "--hours", "4", *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "no manifest is made" in said.err


def test_regions_with_and_without_transfer(capsys):
    """By annual figures Sweden is cleaner; moving there for 100 kWh is not worth four hours of a kilowatt."""
    assert cli.main(["plan", "GB", "--hours", "4", "--grid", "annual", "--regions", "SE,PL"]) == 0
    assert "start   now in SE" in capsys.readouterr().out
    assert cli.main(["plan", "GB", "--hours", "4", "--grid", "annual", "--regions", "SE:100"]) == 0
    assert "start   now in GB" in capsys.readouterr().out


def test_a_deadline_that_cannot_be_met_is_a_negative_answer(capsys):
    """Exit 1, and what to do about it is to start now."""
    soon = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    assert cli.main(["plan", "GB", "--hours", "4", "--grid", "annual", "--deadline", soon]) == 1
    assert "cannot end in time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ([], "--hours: expected how long"),
        (["--hours", "1,4"], "--hours: expected how long"),
        (["--hours", "0"], "--hours"),
        (["--hours", "500"], "--hours"),
        (["--hours", "nan"], "--hours"),
        (["--hours", "4", "--slack", "-1"], "--slack"),
        (["--hours", "4", "--power", "0"], "--power"),
        (["--hours", "4", "--idle", "2"], "--idle"),
        (["--hours", "4", "--idle-power", "30"], "--idle-power: expected it with --power"),
        (["--hours", "4", "--power", "300", "--idle-power", "400"], "--idle-power"),
        (["--hours", "4", "--policy", "luck"], "--policy: expected one of window"),
        (["--hours", "4", "--policy", "threshold"], "expected --threshold as well"),
        (["--hours", "4", "--policy", "threshold", "--threshold", "nan"], "--threshold: expected 0 to 5000"),
        (["--hours", "4", "--policy", "threshold", "--threshold", "-5"], "--threshold: expected 0 to 5000"),
        (["--simulate", "t.csv"], "zone with --simulate: it would do nothing"),
        (["--hours", "4", "--forecast", "f.csv"], "--forecast without --simulate"),
        (["--hours", "4", "--threshold", "100"], "--threshold without --policy threshold"),
        (["--hours", "4", "--command", "x"], "--command with --format text"),
        (["--hours", "4", "--command", "x", "--format", "slurm", "--json"], "--json with --format slurm"),
        (["--hours", "4", "--policy", "region"], "--regions: expected zones"),
        (["--hours", "4", "--regions", "XQ"], "zone"),
        (["--hours", "4", "--regions", "DE:far"], "expected kWh after the colon"),
        (["--hours", "4", "--grid", "crystal"], "grid"),
        (["--hours", "4", "--min-gain", "2"], "--min-gain"),
    ],
)
def test_wrong_use_is_64_with_what_was_expected(capsys, more, word):
    """Nothing is asked of anybody before."""
    assert cli.main(["plan", "GB", *more]) == 64
    assert word in capsys.readouterr().err


def test_hours_that_are_no_number_are_refused_in_words(capsys):
    """What was expected, not the name of a function."""
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", "GB", "--hours", "four"])
    assert left.value.code == 64
    assert "expected hours like 4 or 1,4,12, got 'four'" in capsys.readouterr().err


def test_a_time_without_its_offset_is_refused(capsys):
    """Nobody knows which time it is; the message shows both ways to say it."""
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", "GB", "--hours", "4", "--deadline", "2026-03-03T08:00"])
    assert left.value.code == 64
    assert "2026-03-03T08:00Z" in capsys.readouterr().err


def test_an_unknown_zone_offers_near_ones(capsys):
    """As everywhere."""
    assert cli.main(["plan", "Germny", "--hours", "4"]) == 64
    assert "did you mean DE" in capsys.readouterr().err


def test_long_waits_fit_on_the_screen():
    """A week of half hours is drawn in at most 72 columns."""
    wanted = Order(
        settings=Settings(zone="GB", zone_source="argument"),
        job=Job(length_s=4 * 3600, max_wait_s=164 * 3600),
        submitted_s=NOW,
    )
    text = shown(wanted, *[200.0 + i % 24 for i in range(170)])
    assert max(len(row) for row in text.splitlines()) < 110


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_plan_can_be_a_manifest(capsys, name):
    """Each format there is can be asked for by its name, with command and name."""
    words = ["--command", "python train.py --lr '1e-3'", "--name", "mnist", "--image", "registry.example/t:1"]
    assert cli.main(["plan", "GB", "--hours", "4", "--grid", "annual", "--format", name, *words]) == 0
    shown_ = capsys.readouterr().out
    assert shown_.startswith("#")
    assert "mnist" in shown_
    assert "1e-3" in shown_


def test_a_manifest_needs_something_to_run(capsys):
    """And words that can be told apart."""
    for wrong in ([], ["--command", ""], ["--command", "python 'train.py"]):
        assert cli.main(["plan", "GB", "--hours", "4", "--grid", "annual", "--format", "slurm", *wrong]) == 64
        assert "--command: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-03-29T00:10", [[], ["02:30 BST"]]), ("2026-10-25T00:10", [["01:30 BST"], []])],
)
def test_clocks_that_change_change_no_plan(monkeypatch, now, hours):
    """On both days every hour in UTC is one hour; beside it stands the time of here where it differs."""
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    try:
        moment_s = datetime.fromisoformat(f"{now}+00:00").timestamp()
        first_s = int(moment_s // 1800) * 1800
        texts = []
        for best in (1, 3):  # the half hours from 00:30 and 01:30 UTC, before and after the change at 01:00
            values = [90.0 if i == best else 300.0 for i in range(8)]
            series = half_hours(first_s, values)
            wanted = Order(
                settings=Settings(zone="GB", zone_source="argument"),
                job=Job(length_s=1800, max_wait_s=3 * 3600),
                submitted_s=moment_s,
            )
            advice = advise(wanted, World({"GB": series}), moment_s)
            assert advice.plan.start_s == first_s + best * 1800
            texts.append(advice_text.text(advice, wanted, moment_s, has_power=False))
        assert [re.findall(r"\((\d\d:\d\d \w+)\)", text) for text in texts] == hours
    finally:
        monkeypatch.undo()
        time.tzset()


def half_hours(first_s: int, values: list[float]) -> IntensitySeries:
    """A source's own half hours from a time on."""
    slots = (
        IntensitySlot(
            start_s=first_s + i * 1800,
            end_s=first_s + (i + 1) * 1800,
            gco2e_per_kwh=value,
            low_gco2e_per_kwh=value,
            high_gco2e_per_kwh=value,
            kind="forecast",
        )
        for i, value in enumerate(values)
    )
    return replace(intensity(300, slots), zone="GB")
