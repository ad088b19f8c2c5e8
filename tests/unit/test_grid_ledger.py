"""The circuit breaker: how long a source is left in peace, and what opens it again."""

from __future__ import annotations

import json

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.contract import Request
from mlflow_carbon.grid.ledger import Ledger

NOW = 1_772_450_000.0
ASKED = Request(url="https://example.invalid/forecast", what="forecast", place="DE")
OTHER = Request(url="https://example.invalid/history", what="history", place="DE")


@pytest.fixture
def ledger(tmp_path):
    """A ledger of one source."""
    return Ledger(folder=tmp_path, source="example")


def pause_s(ledger: Ledger, request: Request, since_s: float = NOW) -> int:
    """How long from a time on a question is not asked, to the minute."""
    return next(m for m in range(3000) if not ledger.why_not(request, since_s + 60 * m)) * 60


def test_faults_pause_the_whole_source_for_longer_each_time(ledger):
    """One minute, two, four, up to an hour; every question of the source waits."""
    for number, expected in enumerate((60, 120, 240, 480, 960, 1920, 3600, 3600)):
        ledger.failed(ASKED, GridError(f"HTTP 500, {number}", status=500), NOW)
        assert pause_s(ledger, ASKED) == pause_s(ledger, OTHER) == expected
    assert "HTTP 500, 7" in ledger.why_not(OTHER, NOW)


def test_a_refusal_pauses_that_question_only(ledger):
    """Ten minutes, twenty, up to a day; other questions go on."""
    for expected in (600, 1200, 2400):
        ledger.failed(ASKED, GridError("HTTP 403", status=403), NOW)
        assert pause_s(ledger, ASKED) == expected
    assert ledger.why_not(OTHER, NOW) == ""


@pytest.mark.parametrize(("asked_s", "waited_s"), [(30, 60), (7200, 7200), (10**9, 86_400)])
def test_the_wish_of_the_service_counts(ledger, asked_s, waited_s):
    """Where it is longer than ours, but no longer than a day."""
    ledger.failed(ASKED, GridError("HTTP 429", status=429, retry_after_s=asked_s), NOW)
    assert pause_s(ledger, ASKED) == waited_s


def test_an_answer_ends_the_pause(ledger):
    """And the next failure begins with the shortest one."""
    for _ in range(3):
        ledger.failed(ASKED, GridError("HTTP 500", status=500), NOW)
    ledger.succeeded(ASKED, NOW)
    assert ledger.why_not(ASKED, NOW) == ""
    ledger.failed(ASKED, GridError("HTTP 500", status=500), NOW)
    assert pause_s(ledger, ASKED) == 60


def test_the_same_question_is_answered_for_the_rest_of_the_slot(ledger):
    """By its address; in the next slot it is asked anew."""
    ledger.succeeded(ASKED, 1800.0 * 1000)
    assert ledger.is_answered(ASKED, 1800, 1800 * 1000 + 1799)
    assert not ledger.is_answered(ASKED, 1800, 1800 * 1001)
    assert not ledger.is_answered(OTHER, 1800, 1800 * 1000)


def test_a_clock_that_was_set_back_does_not_lock_out_for_years(ledger):
    """A pause that ends more than a day from now is none."""
    ledger.failed(ASKED, GridError("HTTP 500", status=500), NOW + 10 * 86_400)
    assert ledger.why_not(ASKED, NOW) == ""


def test_who_insists_asks_and_still_keeps_count(tmp_path):
    """The command line asks at once; runs beside it stay patient."""
    eager, patient = Ledger(folder=tmp_path, source="s", insists=True), Ledger(folder=tmp_path, source="s")
    eager.failed(ASKED, GridError("HTTP 500", status=500), NOW)
    assert eager.why_not(ASKED, NOW) == ""
    assert "HTTP 500" in patient.why_not(ASKED, NOW)


def test_old_questions_are_forgotten(ledger, tmp_path):
    """The file does not grow for ever."""
    for day in range(5):
        ledger.succeeded(
            Request(url=f"https://example.invalid/{day}", what="now", place="DE"), NOW + day * 86_400
        )
    assert len(json.loads((tmp_path / "example" / "ledger.json").read_text())["asked"]) <= 2


def test_without_a_folder_nothing_is_remembered():
    """Every question is asked."""
    ledger = Ledger(folder=None, source="example")
    ledger.failed(ASKED, GridError("HTTP 500", status=500), NOW)
    ledger.succeeded(OTHER, NOW)
    assert ledger.why_not(ASKED, NOW) == ""
    assert not ledger.is_answered(OTHER, 1800, NOW)
