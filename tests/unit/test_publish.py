"""From a recording to points, tags and documents, by hand."""

from __future__ import annotations

import gzip
import json

import pytest

from mlflow_carbon.core.bill import Bill
from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.session.publish import (
    Segment,
    end_tags,
    snapshot_points,
    start_tags,
    step_points,
    summary_points,
)
from mlflow_carbon.session.samples import packed_samples
from tests.fakes import costing
from tests.spans import Span

KWH_J = 3_600_000
EARLIER = [Segment(id="1", footprint=RunFootprint(energy_kwh=1.0, emissions_gco2e=500.0))]


def _taken(folder, marks=()):
    """Readings at 1 to 12 s of 100 W, steps at the given times after 11 s."""
    span = Span(folder)
    for _ in range(11):
        span.tick()
    for number, after_s in enumerate(marks):
        span.clock.advance(after_s)
        span.session.mark(number)
    span.tick(1 - sum(marks))
    snapshots, steps, _ = span.session.take()
    return span, snapshots, steps


def _values(points, key):
    return [(p.step, p.value) for p in points if p.key == key]


def test_points_of_the_time_axis_by_hand(tmp_path):
    """At 5 s 400 J, at 10 s 900 J; power since the point before: 400 J / 5 s (1 s unread), then 500 J / 5 s."""
    span, snapshots, _ = _taken(tmp_path)
    points = [p for s in snapshots for p in snapshot_points(s, costing(200))]
    assert [(s, v * KWH_J) for s, v in _values(points, "carbon/time/energy_kwh")] == [
        (5, pytest.approx(400)),
        (10, pytest.approx(900)),
    ]
    assert _values(points, "carbon/time/power_w") == [(5, pytest.approx(80)), (10, pytest.approx(100))]
    assert _values(points, "carbon/time/emissions_gco2e")[1][1] == pytest.approx(900 / KWH_J * 200)
    assert _values(points, "carbon/time/intensity_gco2e_per_kwh") == []  # a static figure makes no chart
    assert points[0].t_ms == span.session.began.wall_ns // 10**6 + 5000


def test_points_of_a_resumed_run_hold_its_past(tmp_path):
    """1 kWh and 500 g before, and a time axis that goes on at 100 s; the power is that of now."""
    _, snapshots, _ = _taken(tmp_path)
    points = snapshot_points(snapshots[0], costing(200), EARLIER, offset_s=100)
    assert {p.step for p in points} == {105}
    assert _values(points, "carbon/time/energy_kwh")[0][1] == pytest.approx(1 + 400 / KWH_J)
    assert _values(points, "carbon/time/emissions_gco2e")[0][1] == pytest.approx(500 + 400 / KWH_J * 200)
    assert _values(points, "carbon/time/power_w")[0][1] == pytest.approx(80)


def test_steps_between_two_readings_by_hand(tmp_path):
    """At 11.25 and 11.75 s of 100 W, read since 1 s: 1025 and 1075 J; and 1 kWh more in a resumed run."""
    _, _, steps = _taken(tmp_path, marks=(0.25, 0.5))
    found = _values(step_points(steps, costing(200)), "carbon/step/energy_kwh")
    assert [(s, v * KWH_J) for s, v in found] == [(0, pytest.approx(1025)), (1, pytest.approx(1075))]
    resumed = _values(step_points(steps, costing(200), EARLIER), "carbon/step/energy_kwh")
    assert [v for _, v in resumed] == pytest.approx([1 + v for _, v in found])
    grams = _values(step_points(steps, costing(200)), "carbon/step/emissions_gco2e")
    assert [v for _, v in grams] == pytest.approx([v * 200 for _, v in found])


class _Counting(Bill):
    """A bill that counts how often it is asked."""

    asked = 0

    def of(self, series):
        self.asked += 1
        return super().of(series)


def test_a_thousand_steps_between_two_readings_are_costed_once(tmp_path):
    """Points of each, without the work of each."""
    bill = _Counting(costing().intensity)
    _, _, steps = _taken(tmp_path, marks=(0.0005,) * 1000)
    assert len(step_points(steps, costing(), bill=bill)) == 2000
    assert bill.asked == 2


def test_the_summary_is_one_bar_a_figure():
    """At step 0, the default ones only."""
    points = summary_points(RunFootprint(energy_kwh=1.0, duration_s=9.0), t_ms=7, detail=False)
    assert [(p.key, p.value, p.step, p.t_ms) for p in points] == [("carbon/energy_kwh", 1.0, 0, 7)]
    assert len(summary_points(RunFootprint(energy_kwh=1.0, duration_s=9.0), t_ms=7, detail=True)) == 2


def test_tags_say_what_applies():
    """At the start the grid, at the end basis, quality and verdict; troubles in one tag that MLflow can hold."""
    assert start_tags(costing()) == {
        "carbon.kind": "run",
        "carbon.schema": "1.0",
        "carbon.grid.zone": "XX",
        "carbon.grid.zone_source": "argument",
        "carbon.grid.provider": "fake",
        "carbon.pue.source": "default",
    }
    figures = RunFootprint(basis="mixed", quality="L0", intensity_kind="actual", verdict="ok")
    assert end_tags(figures, (), shared=False) == {
        "carbon.basis": "mixed",
        "carbon.quality": "L0",
        "carbon.grid.kind": "actual",
        "carbon.verdict": "ok",
    }
    tags = end_tags(RunFootprint(functional_unit="image"), ["x" * 400, "y" * 400], shared=True)
    assert tags["carbon.error"] == f"{'x' * 400}; {'y' * 98}"
    assert (tags["carbon.shared"], tags["carbon.functional_unit"]) == ("true", "image")
    assert "carbon.basis" not in tags


def test_the_same_readings_give_the_same_bytes(tmp_path):
    """No time of packing in the artifact, so that it can be compared by its hash."""
    span, _, _ = _taken(tmp_path)
    records = list(span.session.journal.records())
    packed = b"".join(packed_samples(records))
    assert b"".join(packed_samples(records)) == packed
    head, *rows = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert head["run_id"] == "run1"
    assert [row["energy_uj"] for row in rows] == [
        s[3] for r in records if r["kind"] == "tick" for s in r["s"]
    ]
    assert [row["t_wall_ns"] - row["t_mono_ns"] for row in rows] == [span.clock.wall_offset_ns] * 12
