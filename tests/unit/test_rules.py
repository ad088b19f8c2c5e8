"""The verdict: from coverage, lost intervals, failed reads and troubles."""

from __future__ import annotations

import pytest

from mlflow_carbon.core.rules import judge
from mlflow_carbon.core.series import Case, Component, EnergySeries
from tests.fakes import channel

S = 10**9


def _series(duration_s=100.0, covered_s=100.0, cases=None, channels=None):
    channels = (channel(),) if channels is None else channels
    return EnergySeries(
        channels=channels,
        duration_ns=round(duration_s * S),
        cells=(),
        covered_ns={c.id: round(covered_s * S) for c in channels},
        cases={"fake:cpu": cases or {}},
    )


def test_a_complete_run_is_ok():
    """Nothing missing, nothing found."""
    assert judge(_series(cases={Case.NORMAL: 99, Case.WRAPPED: 1}), {}, 100) == ("ok", ())


@pytest.mark.parametrize(
    ("duration_s", "covered_s", "verdict"),
    [
        (100, 99.0, "ok"),  # 1 % missing is at the limit
        (100, 98.9, "warn"),
        (10, 9.5, "ok"),  # 5 %, but half a second: the time before the first reading
        (10, 9.4, "warn"),
        (0.4, 0.1, "ok"),
    ],
)
def test_a_channel_with_missing_time_is_a_finding(duration_s, covered_s, verdict):
    """More than half a second and more than 1 % of the run must be missing."""
    found, findings = judge(_series(duration_s, covered_s), {}, 100)
    assert found == verdict
    missing = f"fake:cpu: no data for {duration_s - covered_s:.1f} s of {duration_s:.1f} s"
    assert findings == (() if verdict == "ok" else (missing,))


def test_nothing_measured_is_said_so():
    """Without a channel, and without an interval of any channel."""
    assert judge(_series(channels=()), {}, 1) == (
        "warn",
        ("nothing was measured: no sensor and no model was found",),
    )
    assert judge(_series(covered_s=0), {}, 1) == (
        "warn",
        ("nothing was measured: the run ended before its second reading",),
    )


def test_a_meter_of_the_whole_machine_alone_is_no_measurement_of_its_parts():
    """Only parts add up to the total."""
    wall = channel(component=Component.NODE)
    assert judge(_series(channels=(wall,)), {}, 1)[0] == "warn"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case.RESET, "2 interval(s) lost (reset)"),
        (Case.IMPLAUSIBLE, "2 reading(s) beyond belief left out (implausible)"),
    ],
)
def test_lost_intervals_are_findings(case, words):
    """A counter that was reset or jumped."""
    verdict, findings = judge(_series(cases={Case.NORMAL: 9, case: 2}), {}, 100)
    assert verdict == "warn"
    assert findings == (f"fake:cpu: {words}",)


@pytest.mark.parametrize(("errors", "verdict"), [(5, "ok"), (6, "warn")])
def test_failed_reads_are_findings_above_half_a_percent(errors, verdict):
    """5 of 1000 are at the limit."""
    found, findings = judge(_series(), {"fake:cpu": errors}, 1000)
    assert found == verdict
    assert findings == (() if verdict == "ok" else ("fake:cpu: 6 of 1000 reads failed",))


def test_troubles_are_findings():
    """What went wrong elsewhere stands in the verdict in its own words."""
    assert judge(_series(), {}, 100, ["the disk is full"]) == ("warn", ("the disk is full",))
