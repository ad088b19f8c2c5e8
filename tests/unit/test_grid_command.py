"""`mlflow-carbon grid`: what it shows, and its chart."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mlflow_carbon.cli import main
from mlflow_carbon.cli.chart import bars
from mlflow_carbon.cli.grid import look, render
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import Access, annual
from mlflow_carbon.grid.fetch import Cache
from mlflow_carbon.settings import Settings
from tests.grid_payloads import body

NOW = datetime(2026, 3, 2, 13, 10, tzinfo=UTC).timestamp()


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A state folder of its own, no settings from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_CARBON_GRID", raising=False)


def access(answer: bytes | None) -> Access:
    """A service with one answer for everything, or none."""

    def fetch(request):
        if answer is None:
            raise GridError("nobody there")
        return answer

    return Access(cache=Cache(folder=None), fetch=fetch, tables=annual.installed())


GB = Settings(zone="GB", zone_source="argument")


def test_the_present_the_future_and_who_says_so():
    """Kind, age and range of the running slot; lowest and highest of the coming ones; the note."""
    shown = render(look(GB, access=access(body("gb_day")), now_s=NOW))
    assert "Zone GB, United Kingdom (from argument)" in shown
    assert "now 140 gCO2e/kWh (81 to 199): forecast, average, scope direct" in shown
    assert "carbonintensity.org.uk, of 13:00 to 13:30 UTC, issued 0 min ago, fetched 0 min ago" in shown
    assert "at 14:00 UTC" in shown
    assert "|" in shown
    assert "█" in shown
    assert "^" in shown


def test_without_a_service_the_annual_figure_stands_and_says_what_it_cannot():
    """It says how much, never when."""
    shown = render(look(GB, access=access(None), now_s=NOW))
    assert "now 238 gCO2e/kWh" in shown
    assert "nobody there" in shown
    assert "how much, never when" in shown
    assert "next 24 h" not in shown


def test_the_mock_draws_a_day(alone, capsys):
    """48 columns, a row of hours, and the word MOCK; exit code 0."""
    assert main(["grid", "GB", "--grid", "diurnal:3"]) == 0
    shown = capsys.readouterr().out
    assert "MOCK" in shown
    assert "mock:diurnal" in shown
    (axis,) = [line for line in shown.splitlines() if "+---" in line]
    assert axis.count("-") == 48


def test_json_has_every_slot_with_its_source(alone, capsys):
    """48 half hours and the running one; each with kind, source and times."""
    assert main(["grid", "GB", "--grid", "diurnal", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["zone"], found["provider"], found["signal"]) == ("GB", "mock:diurnal", "average")
    assert len(found["next"]) in {48, 49}
    assert {s["source"] for s in found["next"]} == {"mock:diurnal"}
    assert found["now"]["kind"] in {"estimated", "forecast"}


def test_a_static_figure_is_a_negative_answer(alone, capsys):
    """Exit code 1: nothing is known of when."""
    assert main(["grid", "DE", "--grid", "annual"]) == 1
    assert "381 gCO2e/kWh" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Germny"], "did you mean DE"),
        (["GB-LODNON"], "did you mean GB-LONDON"),
        (["GB", "--grid", "electricitymaps"], "did you mean electricity_maps"),
        (["GB", "--grid", "recorded"], "expected a CSV file, as in recorded:trace.csv"),
        (["GB", "--grid", "gb:SW7 2AZ"], "expected the outward part of a postcode"),
    ],
)
def test_wrong_words_are_usage_errors_with_an_offer(alone, capsys, arguments, message):
    """Exit code 64, near names, and nobody is asked."""
    assert main(["grid", *arguments]) == 64
    assert message in capsys.readouterr().err


def test_a_chart_by_hand():
    """0, 4 and 8 of 8 in two rows; a missing value is an empty column, a mark points at one."""
    assert bars([0, 4, 8, None], height=2, marks=[False, False, True, False]) == [
        "8 |  █",
        "4 | ██",
        "0 +----",
        "     ^",
    ]


@pytest.mark.parametrize("values", [[], [None, None], [0.0]])
def test_nothing_is_no_chart(values):
    """No axis without a value."""
    assert bars(values) == []
